"""What the book's chapters share: parameters checked before any work, the package's own source shown, the data in place."""

import inspect
import math
from collections.abc import Callable, Collection
from typing import Any

from dsgc.config import PRESETS, Config
from dsgc.data import shapes
from dsgc.errors import UserError


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
    shapes.ensure(config.data)
    return config
