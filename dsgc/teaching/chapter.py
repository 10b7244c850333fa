"""What the book's chapters share: parameters checked before any work, the package's own source shown, the data in place."""

import inspect
import math
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from dsgc.config import PRESETS, Config
from dsgc.data import shapes
from dsgc.data.loading import EvalImages, EvalItem
from dsgc.data.own import Own
from dsgc.data.split import Split, open_split
from dsgc.errors import UserError
from dsgc.experiments import grids
from dsgc.methods import preset


def number_in(name: str, value: Any, low: float, high: float, *, whole: bool = False) -> None:
    """Refuse a notebook parameter that is no number from `low` to `high`. Raises `UserError`, which says what is allowed."""
    kinds = int if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not math.isfinite(value) or not low <= value <= high:
        raise UserError(f"parameter {name} = {value!r}: must be a {'whole ' * whole}number from {low} to {high}")


def ordered(low_name: str, low: float, high_name: str, high: float) -> None:
    """Refuse two thresholds that are not in order. Raises `UserError`."""
    if not low < high:
        raise UserError(f"parameters {low_name} = {low!r}, {high_name} = {high!r}: {low_name} must be less than {high_name}")


def among(name: str, value: Any, allowed: Collection) -> None:
    """Refuse a notebook parameter that is none of the values allowed. Raises `UserError`, which lists them."""
    if value not in allowed:
        raise UserError(f"parameter {name} = {value!r}: must be one of {', '.join(map(str, allowed))}")


def results_of(scale: str, seeds: Sequence[int], live: Sequence[str], results: str = "") -> Path:
    """The folder of results that a page reads, the repository's for ""; refuses a wrong parameter of such a page.

    Raises:
        UserError: no such preset, no such row of Table 1, or seeds that are not whole numbers, each once, the pictures' first; none is
            named for those of each grid.
    """
    among("scale", scale, PRESETS)
    listed = isinstance(seeds, Sequence) and all(type(seed) is int for seed in seeds)  # a bool is none
    if not listed or len(set(seeds)) < len(seeds):
        raise UserError(f"parameter seeds = {seeds!r}: name whole numbers, each once, or [] for those of each grid")
    if seeds and seeds[0] != grids.FIRST:
        raise UserError(f"parameter seeds = {seeds!r}: must begin with {grids.FIRST}, the seed whose runs keep pictures")
    for row in live:
        among("live", row, grids.GRIDS["modules"])
    return Path(results) if results else grids.RESULTS


class Listing(str):
    """Python source that a notebook shows highlighted."""

    def _repr_markdown_(self) -> str:
        return f"```python\n{self}\n```"


class Table:
    """A data frame as a page shows it: the index is a column like the others, and every column has a head.

    head: that of the index, where the frame does not name it.
    """

    def __init__(self, frame: pd.DataFrame, head: str = ""):
        self.frame = frame.rename_axis(head) if head else frame

    def __repr__(self) -> str:
        return self.frame.to_string()

    def _repr_html_(self) -> str:
        return self.frame.reset_index().rename_axis(columns=None).to_html(index=False, border=0, justify="left")


def source(*functions: Callable) -> Listing:
    """The source of functions as it stands in the package, as the value of a notebook's cell."""
    return Listing("\n\n".join(inspect.getsource(function).rstrip() for function in functions))


def on_processes(function: Callable, *arguments: Any, processes: int = 1) -> None:
    """Call a function here, or in several processes of accelerate's notebook launcher, a GPU each.

    Raises:
        UserError: more processes than there are GPUs, or less than one.
    """
    number_in("processes", processes, 1, max(1, torch.cuda.device_count()), whole=True)
    if processes == 1:
        function(*arguments)
    else:
        from accelerate import notebook_launcher

        notebook_launcher(function, arguments, num_processes=processes)


def all_masked(split: Split) -> bool:
    """Whether every picture of a split has a mask, as learning from masks needs it; of one's own pictures some or all may have none."""
    return bool(split.truth) and not (isinstance(split, Own) and split.masks and len(split.masks.files) < len(split.ids))


def embedded_data() -> Config:
    """The `shapes` preset, its data set written to disk if it is not there yet."""
    config = preset("shapes")
    shapes.ensure(config.data)
    return config


def pictured(config: Config) -> tuple[list[EvalItem], tuple[str, ...]]:
    """The validation images of which results keep maps, and the names of the classes; embedded data is written if not there."""
    if config.data == PRESETS["shapes"]["data"]:
        embedded_data()
    split = open_split(config.data, config.val_split)
    images = EvalImages(split)
    return [images[index] for index in range(min(grids.PICTURES, len(images)))], split.classes
