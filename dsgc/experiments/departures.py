"""What the departures from print do, measured on `dev` (`make departures`).

Those that matter after the warm-up alone are compared on branches: runs that go on from one checkpoint with other numbers, so
that they share all that came before. What rules the warm-up gets warm-ups of its own. What a departure does to labels and to the
decoder that learns them stands in the noise ladder (`ladder`).
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch

from dsgc.data.loading import EvalImages
from dsgc.data.split import open_split
from dsgc.experiments import grids, ladder, ladders, verdicts
from dsgc.experiments.forks import ended, fork, stopped
from dsgc.experiments.provenance import provenance
from dsgc.methods import preset
from dsgc.runs.record import read_config, say, write_json
from dsgc.runs.restore import load_networks
from dsgc.scoring.evaluate import evaluate

FILE = grids.RESULTS / "departures.json"
SEEDS = tuple(range(8))


class Departure(NamedTuple):
    """A row of the grid `choices`, and where it parts from the preset."""

    row: str
    scored: tuple[str, str]  # network and score
    warms: bool  # it rules the warm-up, after which it is scored; else the run goes on to its end


DEPARTURES = {
    "ptc_classes": Departure("Eq. 3 with two labels (as printed)", ("teacher", "cam"), True),
    "temperatures and centre": Departure("Eq. 10 with neither (as printed)", ("teacher", "seg"), False),
}


def branch(run: Path, steps: int, out: Path, changes: Mapping[str, Any]) -> Path:
    """Go on from a run's checkpoint with other numbers, in a folder of its own; a branch that was stopped goes on."""
    config = read_config(run).changed(out=str(out), **changes)
    if not (out / "config.json").is_file():
        fork(run, steps, config)
    return ended(config)


def score(run: Path, data: str, which: tuple[str, str], step: int | None = None) -> float:
    """One score on `dev`, in per cent, of a run's newest checkpoint or that of a step."""
    networks, saved = load_networks(run if step is None else stopped(run, step))
    network, name = which
    dataset = EvalImages(open_split(data, "dev"))
    return 100 * evaluate({network: networks[network]}, dataset, saved.config, "cpu")[network][name]["miou"]


def measure(name: str, seed: int, folder: Path, data: str) -> dict[str, float]:
    """A departure's score and that of the printed value, under one seed; `folder` has the warm-ups of the ladder."""
    row, which, warms = DEPARTURES[name]
    base, printed = preset("shapes"), grids.CHANGES["choices"][row]
    warm = folder / f"seed{seed}"
    if warms:
        other = folder / f"{name}, seed{seed}"
        ladder.reach(base.method.warmup_steps, ladders.DRAWN.warm_up(seed, data, str(other)).changed(**printed))
        return {kind: score(run, data, which, base.method.warmup_steps) for kind, run in (("here", warm), ("printed", other))}
    ends = {}
    for kind, changes in (("here", {}), ("printed", printed)):
        run = branch(warm, base.method.warmup_steps, folder / f"{name}, {kind}, seed{seed}", changes)
        ends[kind] = score(run, data, which)
    return ends


FIXED = {  # in the ladder
    "subtract_minimum": "Eq. 1 without minimum (as printed)",
    "segmentation_average": "Eq. 22 as a sum (as printed)",
}


def effects(bench: pd.DataFrame, file: Path = FILE) -> pd.DataFrame:
    """What the printed value changes on `dev`, points, by departure, as a family of comparisons: `verdicts.compared`.

    bench: the ladder, as `ladder.read` gives it. What the file has not, or where there is none, those on fixed maps are all there is;
    `make departures` measures the others.
    """
    found = json.loads(file.read_text(encoding="utf-8"))["found"] if file.is_file() else {}
    changes = {}
    for name, by_seed in found.items():
        where = "CAM" if DEPARTURES[name].warms else "whole run"
        changes[f"{name} ({where})"] = [pair["printed"] - pair["here"] for pair in by_seed.values()]
    by_row = bench.pivot(index="row", columns="seed", values="gain_dev")
    for name, row in FIXED.items():
        changes[f"{name} (fixed maps)"] = list(by_row.loc[row] - by_row.loc["preset"])
    return verdicts.compared(pd.DataFrame({name: pd.Series(values) for name, values in changes.items()}).T)


def main(folder: Path, data: str) -> None:
    """Measure what the file lacks; it is written after every pair."""
    torch.set_num_threads(1)
    found = json.loads(FILE.read_text(encoding="utf-8"))["found"] if FILE.is_file() else {}
    for seed in SEEDS:
        for name in DEPARTURES:
            if str(seed) not in found.setdefault(name, {}):
                found[name][str(seed)] = measure(name, seed, folder, data)
                write_json(FILE, {"about": provenance(preset("shapes"), 0), "found": found})
                say(f"{name}, seed {seed}: {found[name][str(seed)]}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
