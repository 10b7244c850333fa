"""A picture that a caller hands over: the path of a file, a picture of Pillow's, or an array of pixels; in RGB, or refused."""

import os
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from dsgc.data.images import UNREADABLE, read_rgb
from dsgc.errors import UserError, first_line

Given = str | os.PathLike | Image.Image | np.ndarray
TAKEN = "give a path, a picture of Pillow's, or an array (H, W, 3), (H, W, 4) or (H, W) of uint8"


def as_rgb(picture: Given) -> Image.Image:
    """The picture in RGB, as a file of it would be read: turned as its EXIF says, grey and palettes as their colours, an alpha
    channel dropped (what lies under it counts). What the caller holds is not changed.

    Raises:
        UserError: no picture, one that cannot be read, an empty one, or one of more than 8 bits a channel.
    """
    if isinstance(picture, str | os.PathLike):
        if not Path(picture).exists():
            raise UserError(f"{picture}: no such picture, seen from {Path.cwd()}; {TAKEN}")
        return read_rgb(Path(picture))
    if isinstance(picture, np.ndarray):
        return Image.fromarray(_pixels(picture))
    if not isinstance(picture, Image.Image):
        raise UserError(f"a picture of type {type(picture).__name__}: not understood; {TAKEN}")
    if picture.mode[0] in "IF":  # Pillow would make white of all that is above 255
        raise UserError(f"{named(picture)} of mode {picture.mode}: more than 8 bits a channel; bring its values to 0..255 first")
    if not all(picture.size):
        raise UserError(f"{named(picture)} of size {picture.size}: is empty; {TAKEN}")
    try:
        return ImageOps.exif_transpose(picture).convert("RGB")
    except UNREADABLE as error:  # Pillow reads a file's pixels only now
        raise UserError(f"{named(picture)}: not readable ({first_line(error)}); {TAKEN}") from error


def named(picture: Given) -> str:
    """What to call a picture in a line for the user."""
    if isinstance(picture, str | os.PathLike):
        return str(picture)
    return str(getattr(picture, "filename", "") or f"a picture of type {type(picture).__name__}")


def _pixels(array: np.ndarray) -> np.ndarray:
    """An array's pixels (H, W, 3) uint8, in memory of their own."""
    shape, kind = array.shape, array.dtype
    if kind != np.uint8:
        raise UserError(f"an array of {kind} {_range(array)}: pixels are uint8, 0 to 255; {_remedy(array)}")
    if array.ndim == 3 and shape[2] == 1:
        array = array[:, :, 0]
    if array.size == 0 or array.ndim not in (2, 3) or (array.ndim == 3 and shape[2] not in (3, 4)):
        first = array.ndim == 3 and shape[0] in (1, 3, 4)
        remedy = "its channels come first: give array.transpose(1, 2, 0)" if first and array.size else TAKEN
        raise UserError(f"an array of shape {shape}: no picture (H, W, 3); {remedy}")
    return np.repeat(array[:, :, None], 3, 2) if array.ndim == 2 else np.ascontiguousarray(array[:, :, :3])


def _range(array: np.ndarray) -> str:
    """An array's values in a few words."""
    if array.size == 0 or array.dtype.kind not in "fiu":
        return f"of shape {array.shape}"
    if not np.isfinite(array).all():
        return "with values that are not finite"
    return f"from {array.min():g} to {array.max():g}"


def _remedy(array: np.ndarray) -> str:
    """How to make pixels of an array of another type; no guess is made, since what is 1 may be white or nearly black."""
    if array.size and array.dtype.kind == "f" and np.isfinite(array).all() and array.min() >= 0:
        if array.max() <= 1:
            return "if 1 is white, give (array * 255).round().astype(numpy.uint8)"
        if array.max() <= 255:
            return "give array.round().astype(numpy.uint8)"
    if array.dtype == np.bool_:
        return "give array.astype(numpy.uint8) * 255"
    return "bring its values to 0..255 and give array.astype(numpy.uint8)"
