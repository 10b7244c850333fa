"""Noise ladders: what each reading of the correction does to labels that reach less and less, or more and more, over the outline
(`make ladder`).

Warm-ups end, and their class activation maps are kept as they are. Every reading labels the same maps, and a fresh decoder learns
each of these labels from the same frozen tokens (`frozen`). What a reading is worth is its decoder's mIoU less that of the decoder that
learnt labels without correction. Which readings and which maps, `ladders` says.
"""

import json
import sys
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from dsgc.config import Config
from dsgc.data.loading import EvalImages
from dsgc.data.split import open_split
from dsgc.errors import UserError, one_line
from dsgc.experiments import frozen, ladders
from dsgc.experiments.forks import stopped
from dsgc.experiments.provenance import provenance
from dsgc.runs.record import say, write_json
from dsgc.runs.restore import load_networks

SEEDS = tuple(range(10))  # of warm-ups
LOST = 20.0  # IoU, per cent
SAME = 0.5  # points of a class: a warm-up made on another machine that takes sums in another order may be another one
DECODERS = (0,)  # seeds
IMAGES = 400  # of the training split


def reach(steps: int, config: Config) -> None:
    """Train until there is a checkpoint of so many steps."""
    from dsgc.training.loop import train_until

    if not stopped(Path(config.out), steps).is_dir():
        train_until(config, steps)


def climb(ladder: ladders.Ladder, run: Path, seed: int, data: str, steps: int, found: list[dict]) -> None:
    """Add what is missing of a warm-up's rows to `found`, and write it to the ladder's file row by row, so that it can be stopped.

    Raises:
        UserError: the rows that are there are of another warm-up: it has another CAM.
    """
    here = next((one for one in found if one["seed"] == seed), None)
    if here is None:
        here = {"seed": seed, "rows": {}}
        found.append(here)
    missing = [row for row in ladder.rows if row not in here["rows"]]
    if not missing and "cam" in here:
        return
    splits = {name: EvalImages(open_split(data, there)) for name, there in ladder.splits.items()}
    network = load_networks(stopped(run, steps))[0]["teacher"]
    learnt = frozen.freeze(network, splits["train"], IMAGES, ladder.side)
    scored = {name: frozen.freeze(network, splits[name], side=ladder.side) for name in ("dev", "val")}
    its_cam = frozen.cam_iou(ladder.config(), network, scored["dev"])
    moved = np.abs(np.array(its_cam, float) - np.array(here.get("cam", its_cam), float))
    if (apart := moved[np.isfinite(moved)].max(initial=0)) > SAME:  # a class that does not occur has no IoU
        raise UserError(
            f"{run}: its CAM is {apart:.1f} points from that of the warm-up whose rows {ladder.file} has, so rows of both cannot be "
            "compared; move that file away, and all are made"
        )
    here["cam"] = its_cam
    write_json(ladder.file, {"about": provenance(ladder.config(), 0), "warm_ups": found})
    for row in missing:
        config = ladder.config(row)
        here["rows"] |= frozen.compared({row: config}, network, learnt, scored, DECODERS)
        write_json(ladder.file, {"about": provenance(config, 0), "warm_ups": found})
        say(f"seed {seed}: {row}")


def read(file: Path = ladders.DRAWN.file) -> pd.DataFrame:
    """What there is, a line for each warm-up and row: the label's quality, the decoder's mIoU and area by split, and its gain.

    Columns: seed, lost (how many classes the warm-up has lost: their CAM's IoU is below `LOST` on dev), row, coverage, precision,
    recall, background_precision, background_recall of the label, and of either split (`gain_val`, `gain_dev`, ...) the decoder's mIoU, area
    (of the foreground it predicts, per cent of the true), and gain over no correction.
    Raises:
        UserError: no such file.
    """
    if not file.is_file():
        raise UserError(f"{file}: no such file; `make ladder` makes it")
    lines = []
    for one in json.loads(file.read_text(encoding="utf-8"))["warm_ups"]:
        plain = one["rows"].get(ladders.PLAIN)
        for row, values in one["rows"].items() if plain else ():
            line = {"seed": one["seed"], "lost": sum(iou < LOST for iou in one["cam"]), "row": row}
            line |= {name: value for name, value in values.items() if not isinstance(value, dict)}
            for split in ("dev", "val"):
                for name in ("miou", "area"):
                    line[f"{name}_{split}"] = sum(values[split][name]) / len(values[split][name])
                line[f"gain_{split}"] = line[f"miou_{split}"] - sum(plain[split]["miou"]) / len(plain[split]["miou"])
            lines.append(line)
    return pd.DataFrame(lines)


def gains(table: pd.DataFrame, split: str, rows: Sequence[str] = ladders.ROWS) -> pd.DataFrame:
    """Gain over no correction of each other row (index) under each seed (columns)."""
    return table[table.row.isin(rows) & (table.row != ladders.PLAIN)].pivot(index="row", columns="seed", values=f"gain_{split}")


def differences(table: pd.DataFrame, split: str, pairs: Mapping[Hashable, tuple[str, str]]) -> pd.DataFrame:
    """What the first row of each pair has more than the second, points of mIoU: by the pair's name (index) and seed (columns).

    Pairs of which a row is not there are left out.
    """
    by_row = table.pivot(index="row", columns="seed", values=f"miou_{split}")
    there = {name: rows for name, rows in pairs.items() if {*rows} <= {*by_row.index}}
    return pd.DataFrame({name: by_row.loc[one] - by_row.loc[other] for name, (one, other) in there.items()}).T


def switched(table: pd.DataFrame, split: str, rungs: Mapping[str, tuple[str, str]] = ladders.RUNGS) -> pd.DataFrame:
    """What the correction changes on each rung, a line for each rung and seed.

    Columns: thresholds, seed, precision and recall (of the initial label's foreground), area (that the decoder predicts without
    correction, per cent of the true), corrected_area (with it), gain (points of mIoU).
    """
    by_row = {row: part.set_index("seed") for row, part in table.groupby("row")}
    lines = []
    for thresholds, (on, off) in rungs.items():
        with_it, without = by_row[on], by_row[off]
        lines += [
            {
                "thresholds": thresholds,
                "seed": seed,
                "precision": without.precision[seed],
                "recall": without.recall[seed],
                "area": without[f"area_{split}"][seed],
                "corrected_area": with_it[f"area_{split}"][seed],
                "gain": with_it[f"miou_{split}"][seed] - without[f"miou_{split}"][seed],
            }
            for seed in with_it.index.intersection(without.index)
        ]
    return pd.DataFrame(lines)


def main(folder: Path, data: str, name: str = "drawn") -> None:
    """Train the warm-ups of a ladder that the folder lacks, and climb all of them. Raises `UserError` for a name of none."""
    if name not in ladders.LADDERS:
        raise UserError(f"{name}: no ladder; there are {', '.join(ladders.LADDERS)}")
    ladder = ladders.LADDERS[name]
    ladder.file.parent.mkdir(exist_ok=True)
    found = json.loads(ladder.file.read_text(encoding="utf-8"))["warm_ups"] if ladder.file.is_file() else []
    steps = ladder.config().method.warmup_steps
    for seed in SEEDS:
        run = folder / f"seed{seed}"
        reach(steps, ladder.warm_up(seed, data, str(run)))
        climb(ladder, run, seed, data, steps, found)


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), *sys.argv[2:])
    except UserError as error:
        sys.exit(one_line(error))
