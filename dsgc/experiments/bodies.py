"""How much of heads and bodies the baseline finds, seed by seed: where the spread of its scores comes from (`make bodies`).

The runs of the grid `stability` keep scores and no masks. Here they are made once more, the same but for rounding, and what
their networks say is counted against the masks of the things' parts.
"""

import json
import sys
from pathlib import Path

import pandas as pd
import torch

from dsgc.config import Config
from dsgc.data import shapes
from dsgc.data.loading import EvalImages
from dsgc.data.split import open_split
from dsgc.experiments import grids
from dsgc.experiments.forks import ended
from dsgc.experiments.provenance import provenance
from dsgc.runs.record import say, write_json
from dsgc.scoring.evaluate import views
from dsgc.scoring.looks import opened
from dsgc.scoring.parts import Pictures, found, held_out, of_class

FILE = grids.RESULTS / "bodies.json"
SCALE, ROW = "shapes", "baseline"
SEEDS = (*range(6), 14, 18)  # the first six, among which a class is ahead under 5, and the two others of twenty where one is
SCORES, PARTS = ("cam", "seg"), ("head", "body")


def config_of(seed: int, folder: Path, data: str) -> Config:
    """The configuration of a seed's run: that of the grid, in a folder of its own."""
    return grids.config_of(SCALE, grids.GRIDS["stability"][ROW], seed, data).changed(out=str(folder / f"seed{seed}"))


def measure(run: Path, pictures: Pictures, classes: tuple[str, ...]) -> dict[str, dict[str, dict[str, float]]]:
    """Of the network that is reported: by score, class and part the share of the part's pixels that get the class, in [0, 1]."""
    network, saved = opened(run)[1:]
    labels = views(network.eval(), pictures.images, pictures.tags, saved.config).scored
    by_class = {name: of_class(pictures, number) for number, name in enumerate(classes)}
    return {
        score: {name: {part: found(labels[score], alone)[part] for part in PARTS} for name, alone in by_class.items()} for score in SCORES
    }


def scored(run: Path) -> dict[str, float]:
    """The mIoU in [0, 1] that a run of one network ended with, by score: whether it is the grid's run can be told by them."""
    of_network = json.loads((run / "metrics.json").read_text(encoding="utf-8"))["network"]
    return {score: of_network[score]["miou"] for score in SCORES}


def read(file: Path = FILE) -> pd.DataFrame:
    """What there is, per cent: a line for each seed, score and class, with the columns `head` and `body`; none if the file is not there."""
    found = json.loads(file.read_text(encoding="utf-8"))["seeds"] if file.is_file() else {}
    lines = [
        {"seed": int(seed), "score": score, "class": name} | {part: 100 * share for part, share in parts.items()}
        for seed, of_seed in found.items()
        for score, by_class in of_seed["parts"].items()
        for name, parts in by_class.items()
    ]
    return pd.DataFrame(lines, columns=["seed", "score", "class", *PARTS])


def main(folder: Path, data: str, file: Path = FILE) -> None:
    """Make what the file lacks; it is written after every run."""
    torch.set_num_threads(1)
    shapes.ensure(data)
    found = json.loads(file.read_text(encoding="utf-8"))["seeds"] if file.is_file() else {}
    dataset = EvalImages(open_split(data, "val"))
    pictures = held_out(dataset)
    for seed in SEEDS:
        if str(seed) not in found:
            config = config_of(seed, folder, data)
            run = ended(config)
            found[str(seed)] = {"miou": scored(run), "parts": measure(run, pictures, dataset.folder.classes)}
            write_json(file, {"about": provenance(config, 0), "seeds": found})
            say(f"seed {seed}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
