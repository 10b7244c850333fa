"""The noise ladder: what each reading of the correction does to labels that reach less and less, or more and more, over the outline
(`make ladder`).

Warm-ups end, and their class activation maps are kept as they are. Every reading labels the same maps, and a fresh decoder learns
each of these labels from the same frozen tokens (`frozen`). What a reading is worth is its decoder's mIoU less that of the decoder that
learnt labels without correction. The rungs of the ladder are pairs of thresholds: the lower they are, the further an initial label
reaches, and the more of what it calls foreground is not. On each rung the correction is switched on and nothing else is changed.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from dsgc.config import Config
from dsgc.data.loading import EvalImages
from dsgc.data.split import open_split
from dsgc.errors import UserError
from dsgc.experiments import frozen, grids
from dsgc.experiments.forks import stopped
from dsgc.experiments.provenance import provenance
from dsgc.methods import preset
from dsgc.runs.record import say, write_json
from dsgc.runs.restore import load_networks

FILE = grids.RESULTS / "ladder.json"
PLAIN = "no correction"
RUNGS = {  # thresholds of the initial label: the row with the correction, and that without
    "0.25 and 0.5": ("preset", PLAIN),
    "0.1 and 0.2": ("thresholds 0.1 and 0.2", "thresholds 0.1 and 0.2, no correction"),
    "0.05 and 0.1": ("thresholds 0.05 and 0.1", "thresholds 0.05 and 0.1, no correction"),
    "0.02 and 0.04": ("thresholds 0.02 and 0.04", "thresholds 0.02 and 0.04, no correction"),
}
ROWS = (  # the rungs, and readings and choices that labels and decoder alone depend on
    *(row for pair in RUNGS.values() for row in pair),
    "upper threshold 0.6, no correction",
    "labelled foreground on the pixel grid",
    "labelled foreground, a mixture for each class",
    "means 3 standard deviations apart",
    "tau 0.97",
    "Eq. 1 without minimum (as printed)",
    "Eq. 22 as a sum (as printed)",
    "Eq. 22 as a mean over all pixels",
    "Eq. 22 as a mean over all pixels, no correction",
)
CHANGES = grids.CHANGES["choices"] | grids.CHANGES["readings"]
SEEDS = tuple(range(10))  # of warm-ups
LOST = 20.0  # IoU, per cent
DECODERS = (0,)  # seeds
IMAGES = 400  # of the training split


def warm_up(seed: int, data: str, out: str) -> Config:
    """A run of the scale `shapes` of which the warm-up alone is wanted."""
    return preset("shapes").changed(data=data, out=out, seed=seed, eval_every=0, pictures=0)


def reach(steps: int, config: Config) -> None:
    """Train until there is a checkpoint of so many steps."""
    from dsgc.training.loop import train_until

    if not stopped(Path(config.out), steps).is_dir():
        train_until(config, steps)


def climb(run: Path, seed: int, data: str, rows: Sequence[str], steps: int, found: list[dict], file: Path) -> None:
    """Add what is missing of a warm-up's rows to `found`, and write it to the file row by row, so that it can be stopped."""
    here = next((one for one in found if one["seed"] == seed), None)
    if here is None:
        here = {"seed": seed, "rows": {}}
        found.append(here)
    missing = [row for row in rows if row not in here["rows"]]
    if not missing and "cam" in here:
        return
    splits = {name: EvalImages(open_split(data, name)) for name in ("train", "dev", "val")}
    network = load_networks(stopped(run, steps))[0]["teacher"]
    learnt = frozen.freeze(network, splits["train"], IMAGES)
    scored = {name: frozen.freeze(network, splits[name]) for name in ("dev", "val")}
    here["cam"] = frozen.cam_iou(preset("shapes"), network, scored["dev"])
    write_json(file, {"about": provenance(preset("shapes"), 0), "warm_ups": found})
    for row in missing:
        config = preset("shapes").changed(**CHANGES[row])
        here["rows"] |= frozen.compared({row: config}, network, learnt, scored, DECODERS)
        write_json(file, {"about": provenance(config, 0), "warm_ups": found})
        say(f"seed {seed}: {row}")


def read(file: Path = FILE) -> pd.DataFrame:
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
        plain = one["rows"].get(PLAIN)
        for row, values in one["rows"].items() if plain else ():
            line = {"seed": one["seed"], "lost": sum(iou < LOST for iou in one["cam"]), "row": row}
            line |= {name: value for name, value in values.items() if not isinstance(value, dict)}
            for split in ("dev", "val"):
                for name in ("miou", "area"):
                    line[f"{name}_{split}"] = sum(values[split][name]) / len(values[split][name])
                line[f"gain_{split}"] = line[f"miou_{split}"] - sum(plain[split]["miou"]) / len(plain[split]["miou"])
            lines.append(line)
    return pd.DataFrame(lines)


def gains(table: pd.DataFrame, split: str) -> pd.DataFrame:
    """Gain over no correction of each other row (index) under each seed (columns)."""
    return table[table.row != PLAIN].pivot(index="row", columns="seed", values=f"gain_{split}")


def switched(table: pd.DataFrame, split: str) -> pd.DataFrame:
    """What the correction changes on each rung, a line for each rung and seed.

    Columns: thresholds, seed, precision and recall (of the initial label's foreground), area (that the decoder predicts without
    correction, per cent of the true), corrected_area (with it), gain (points of mIoU).
    """
    by_row = {row: part.set_index("seed") for row, part in table.groupby("row")}
    lines = []
    for thresholds, (on, off) in RUNGS.items():
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


def main(folder: Path, data: str) -> None:
    """Train the warm-ups that the folder lacks, and climb all of them."""
    FILE.parent.mkdir(exist_ok=True)
    found = json.loads(FILE.read_text(encoding="utf-8"))["warm_ups"] if FILE.is_file() else []
    steps = preset("shapes").method.warmup_steps
    for seed in SEEDS:
        run = folder / f"seed{seed}"
        reach(steps, warm_up(seed, data, str(run)))
        climb(run, seed, data, ROWS, steps, found, FILE)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
