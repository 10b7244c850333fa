"""What the book's chapters share: parameters checked before any work, the package's own source shown, the data in place."""

import inspect
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dsgc import method
from dsgc.config import PRESETS, Config
from dsgc.data import shapes
from dsgc.data.loading import EvalImages
from dsgc.errors import UserError
from dsgc.evaluate import collate
from dsgc.network import Network, Output


def number_in(name: str, value: Any, low: float, high: float, *, whole: bool = False) -> None:
    """Refuse a notebook parameter that is no number from `low` to `high`. Raises `UserError`, which says what is allowed."""
    kinds = int if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not math.isfinite(value) or not low <= value <= high:
        raise UserError(f"parameter {name} = {value!r}: must be a {'whole ' * whole}number from {low} to {high}")


def ordered(low_name: str, low: float, high_name: str, high: float) -> None:
    """Refuse two thresholds that are not in order. Raises `UserError`."""
    if not low < high:
        raise UserError(f"parameters {low_name} = {low!r}, {high_name} = {high!r}: {low_name} must be less than {high_name}")



class Listing(str):
    """Python source that a notebook shows highlighted."""

    def _repr_markdown_(self) -> str:
        return f"```python\n{self}\n```"


def source(*functions: Callable) -> Listing:
    """The source of functions as it stands in the package, as the value of a notebook's cell."""
    return Listing("\n\n".join(inspect.getsource(function).rstrip() for function in functions))


def embedded_data() -> Config:
    """The `shapes` preset, its data set written to disk if it is not there yet."""
    config = PRESETS["shapes"]
    if not Path(config.data).exists():
        shapes.write(config.data)
    return config


class Labelled(NamedTuple):
    """The images of a split, what a network makes of them, and the truth on the pseudo label's grid."""

    images: Tensor  # (B, 3, H, W) in [0, 1]
    tags: Tensor  # (B, C)
    masks: Tensor  # (B, H, W)
    output: Output
    made: method.PseudoLabels
    truth: Tensor  # (B, H', W') int64


@torch.no_grad()
def label(network: Network, dataset: EvalImages, config: Config) -> Labelled:
    """Pseudo labels of all images of a split at once; the images are of one size."""
    images, tags, masks = collate([dataset[i] for i in range(len(dataset))], "cpu")
    output = network(images)
    made = method.pseudo_labels(images, method.network_cam(network, output, config), tags, output.tokens, config)
    return Labelled(images, tags, masks, output, made, method.nearest(masks, made.initial.shape[-2:]))
