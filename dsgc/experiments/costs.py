"""What a step of a method costs: passes of the encoder, memory kept for the gradient, and time beside another method's (`make costs`).

"Better" is to be read beside "dearer". Passes and memory are counted, and come out the same everywhere; times are of this machine.
"""

import contextlib
import json
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import median
from typing import NamedTuple

import pandas as pd
import torch
from torch import Tensor

from dsgc.config import Config
from dsgc.data import shapes
from dsgc.data.loading import train_batches
from dsgc.errors import UserError
from dsgc.experiments import grids
from dsgc.experiments.provenance import provenance
from dsgc.methods.contract import Networks, Part
from dsgc.runs.parallel import accelerator_of
from dsgc.runs.record import write_json
from dsgc.training.learner import begin, parts_of
from dsgc.training.splits import open_data
from dsgc.training.step import backward

FILE = grids.RESULTS / "costs.json"
ROUNDS = 15  # that times are medians of


class Passes(NamedTuple):
    """What the encoders of all networks see in a step, in images of the size of a crop, divided by the batch."""

    learning: float  # with a graph
    looking: float  # without


def stages(config: Config) -> dict[str, int]:
    """The first step of each stage of a run, by the stage's name."""
    found: dict[str, int] = {}
    for step in range(config.steps):
        found.setdefault(config.method.stage(step, config.steps).name, step)
    return found


@contextlib.contextmanager
def counting(networks: Networks, part: Part) -> Iterator[list[float]]:
    """While it lasts, the pixels that each network's encoder sees, as two numbers: with a graph, and without; in parts of `part`."""
    seen, whole = [0.0, 0.0], part.images.numel()

    def note(_: torch.nn.Module, images: tuple[Tensor]) -> None:
        seen[not torch.is_grad_enabled()] += images[0].numel() / whole

    hooks = [network.encoder.patch_embed.register_forward_pre_hook(note) for network in networks.values()]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


@contextlib.contextmanager
def keeping(networks: Networks) -> Iterator[dict[int, int]]:
    """While it lasts, the bytes that are kept for the backward pass, by where they lie; without weights, which are there anyway."""
    kept: dict[int, int] = {}
    weights = {value.untyped_storage().data_ptr() for network in networks.values() for value in network.parameters()}

    def pack(value: Tensor) -> Tensor:
        storage = value.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return value

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
        yield kept


class Steps:
    """A method at the first step of each of its stages, ready to be measured on one batch of the run's own data."""

    def __init__(self, config: Config):
        self.config, self.stages = config, stages(config)
        data = open_data(config)
        torch.manual_seed(config.seed)
        self.learner, _ = begin(config, len(data.folder.classes), torch.device("cpu"))
        batch = next(train_batches(data.train, batch=config.batch_size, seed=config.seed, start=0, stop=1, workers=0))
        (self.part,) = parts_of(batch, config.batch_size, torch.device("cpu"))
        self.accelerator = accelerator_of(config)

    def take(self, stage: str) -> None:
        """The gradients of one step; no weight is changed."""
        networks, _, memory = self.learner
        method = self.config.method
        backward(method, networks, [self.part], method.stage(self.stages[stage], self.config.steps), memory, self.accelerator)
        for network in networks.values():
            network.zero_grad(set_to_none=True)

    def passes(self, stage: str) -> Passes:
        """What a step of a stage passes."""
        with counting(self.learner.networks, self.part) as seen:
            self.take(stage)
        return Passes(*seen)

    def kept(self, stage: str) -> float:
        """What a step of a stage keeps for the gradient, MB."""
        with keeping(self.learner.networks) as kept:
            self.take(stage)
        return sum(kept.values()) / 2**20

    def seconds(self, stage: str) -> float:
        """What a step of a stage takes, once."""
        begun = time.perf_counter()
        self.take(stage)
        return time.perf_counter() - begun


def table(configs: Mapping[str, Config], reference: str, *, rounds: int) -> pd.DataFrame:
    """Costs of methods by name: of the first and the last stage, and time as a multiple of what a row's last stage takes.

    Methods take turns, so that what else the machine does falls on all of them; a ratio is the median over the rounds.
    """
    every = {name: Steps(config) for name, config in configs.items()}
    first, last = ({name: list(steps.stages)[at] for name, steps in every.items()} for at in (0, -1))
    times: dict[str, list[float]] = {name: [] for name in every}
    for _ in range(rounds):
        base = every[reference].seconds(last[reference])
        for name, steps in every.items():
            times[name].append(steps.seconds(last[name]) / base)
    lines = {}
    for name, steps in every.items():
        warm_up, then = steps.passes(first[name]), steps.passes(last[name])
        lines[name] = {
            "passes with a graph, warm-up": warm_up.learning,
            "without": warm_up.looking,
            "with a graph, last stage": then.learning,
            "without, last stage": then.looking,
            "kept for the gradient, MB": steps.kept(last[name]),
            "time of a step": median(times[name]),
        }
    return pd.DataFrame.from_dict(lines, orient="index").rename_axis("method")


def read(file: Path = FILE) -> tuple[pd.DataFrame, dict]:
    """The table that `main` wrote, and where it was made. Raises `UserError` if there is none."""
    if not file.is_file():
        raise UserError(f"{file}: no such file; `make costs` makes it")
    found = json.loads(file.read_text(encoding="utf-8"))
    return pd.DataFrame.from_dict(found["costs"], orient="index").rename_axis("method"), found["about"]


def main(data: str, file: Path = FILE) -> None:
    """Measure the baseline, the paper's method and every peer on the embedded data, on one thread."""
    torch.set_num_threads(1)
    shapes.ensure(data)
    rows = {row: changes for row, changes in grids.GRIDS["peers"].items() if row not in grids.OWN_THRESHOLDS}
    configs = {row: grids.config_of("shapes", changes, grids.FIRST, data).changed(device="cpu") for row, changes in rows.items()}
    found = table(configs, "baseline", rounds=ROUNDS)
    write_json(file, {"about": provenance(configs["baseline"], 0), "costs": found.to_dict(orient="index")})


if __name__ == "__main__":
    main(sys.argv[1])
