"""The noise ladder: what each reading of the correction does to labels of growing quality (`make ladder`).

A warm-up is stopped after some steps, and then after more: its class activation map grows better, and so do the labels made of
it. At every rung each reading's labels are scored, and a decoder learns them from frozen tokens (`frozen`). What a reading is
worth is its decoder's mIoU less that of the decoder that learnt labels without correction, on the same rung.
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
ROWS = (  # of the readings, and of the choices those that labels and decoder alone depend on
    PLAIN,
    "preset",
    "thresholds 0.1 and 0.2, no correction",
    "thresholds 0.1 and 0.2",
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
RUNGS = (60, 20)  # steps after which each is stopped: the preset's warm-up, and a third of it
LOST = 20.0  # IoU, per cent
DECODERS = (0,)  # seeds
IMAGES = 400  # of the training split


def warm_up(seed: int, data: str, out: str) -> Config:
    """A run of the scale `shapes` that goes on warming up, and keeps a checkpoint at every rung."""
    base = preset("shapes")
    return base.changed(
        data=data, out=out, seed=seed, warmup_steps=base.steps, checkpoint_every=20, keep_checkpoints=base.steps, eval_every=0, pictures=0
    )


def reach(steps: int, config: Config) -> None:
    """Train until there is a checkpoint of so many steps."""
    from dsgc.training.loop import train_until

    if not stopped(Path(config.out), steps).is_dir():
        train_until(config, steps)


def climb(run: Path, seed: int, data: str, rows: Sequence[str], rungs: Sequence[int], found: list[dict], file: Path) -> None:
    """Add what is missing of a warm-up's rungs to `found`, and write it to the file row by row, so that it can be stopped."""
    splits = {name: EvalImages(open_split(data, name)) for name in ("train", "dev", "val")}
    for steps in rungs:
        here = next((rung for rung in found if (rung["seed"], rung["steps"]) == (seed, steps)), None)
        if here is None:
            here = {"seed": seed, "steps": steps, "rows": {}}
            found.append(here)
        missing = [row for row in rows if row not in here["rows"]]
        if not missing and "cam" in here:
            continue
        network = load_networks(stopped(run, steps))[0]["teacher"]
        learnt = frozen.freeze(network, splits["train"], IMAGES)
        scored = {name: frozen.freeze(network, splits[name]) for name in ("dev", "val")}
        here["cam"] = frozen.cam_iou(preset("shapes"), network, scored["dev"])
        write_json(file, {"about": provenance(preset("shapes"), 0), "rungs": found})
        for row in missing:
            config = preset("shapes").changed(**CHANGES[row])
            here["rows"] |= frozen.compared({row: config}, network, learnt, scored, DECODERS)
            write_json(file, {"about": provenance(config, 0), "rungs": found})
            say(f"seed {seed}, {steps} steps: {row}")


def read(file: Path = FILE) -> pd.DataFrame:
    """The ladder, a line for each warm-up, rung and reading: labels' quality, decoder's mIoU and area by split, and the gain.

    Columns: seed, steps, lost (how many classes the warm-up had lost on its last rung: their CAM's IoU is below `LOST` on dev), row,
    coverage, precision, recall, background_precision, background_recall, `labels` (precision without correction on that rung:
    how good the labels are), and of either split (`gain_val`, `gain_dev`, ...) the decoder's mIoU, area, and gain over no correction.
    Raises:
        UserError: no such file.
    """
    if not file.is_file():
        raise UserError(f"{file}: no such file; `make ladder` makes it")
    lines, rungs = [], json.loads(file.read_text(encoding="utf-8"))["rungs"]
    last = {rung["seed"]: rung["cam"] for rung in sorted(rungs, key=lambda rung: rung["steps"])}
    for rung in rungs:
        plain = rung["rows"].get(PLAIN)
        for row, values in rung["rows"].items() if plain else ():
            lost = sum(iou < LOST for iou in last[rung["seed"]])
            line = {"seed": rung["seed"], "steps": rung["steps"], "lost": lost, "row": row, "labels": plain["precision"]}
            line |= {name: value for name, value in values.items() if not isinstance(value, dict)}
            for split in ("dev", "val"):
                for name in ("miou", "area"):
                    line[f"{name}_{split}"] = sum(values[split][name]) / len(values[split][name])
                line[f"gain_{split}"] = line[f"miou_{split}"] - sum(plain[split]["miou"]) / len(plain[split]["miou"])
            lines.append(line)
    return pd.DataFrame(lines)


def gains(table: pd.DataFrame, split: str) -> pd.DataFrame:
    """Mean gain of each reading: over all rungs, with its standard error over warm-ups, and over those of two kinds of warm-ups.

    Columns: gain, error, found (warm-ups that lost no class), lost (those that lost one or more).
    """
    by_seed = table.groupby(["row", "seed"], sort=False)[f"gain_{split}"].mean().unstack()
    lost = table.groupby("seed").lost.first().reindex(by_seed.columns) > 0
    kinds = {"found": by_seed.loc[:, ~lost].mean(axis=1), "lost": by_seed.loc[:, lost].mean(axis=1)}
    return pd.DataFrame({"gain": by_seed.mean(axis=1), "error": by_seed.sem(axis=1)} | kinds)


def main(folder: Path, data: str) -> None:
    """Train the warm-ups that the folder lacks, and climb all of them."""
    FILE.parent.mkdir(exist_ok=True)
    found = json.loads(FILE.read_text(encoding="utf-8"))["rungs"] if FILE.is_file() else []
    for steps in RUNGS:  # the first one under every seed before the next
        for seed in SEEDS:
            run = folder / f"seed{seed}"
            reach(max(RUNGS), warm_up(seed, data, str(run)))
            climb(run, seed, data, ROWS, (steps,), found, FILE)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
