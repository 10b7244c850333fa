"""COCO's run-length codes: made of the shapes that an instances file has, which are checked before C code is given them."""

import math
from typing import Any

FURTHEST = 2  # times an image's longer side that a corner may lie off; C code walks along an edge however long it is


def code_of(shape: Any, height: int, width: int) -> bytes:
    """The compressed code of a segmentation in a mask of that size; empty where there is none, or no polygon with an area.

    Raises as `sound` does.
    """
    from pycocotools import mask as codec

    shape = sound(shape, height, width)
    if not isinstance(shape, list):
        return shape
    painted = codec.frPyObjects(shape, height, width)
    return (painted[0] if len(painted) == 1 else codec.merge(painted))["counts"]


def sound(shape: Any, height: int, width: int) -> list | bytes:
    """A segmentation as it can be given to C code: its polygons that have an area, or its compressed code; empty where there is none.

    Raises whatever C code comes across, and `ValueError` for what it would not survive.
    """
    from pycocotools import mask as codec

    if not shape:
        return b""
    if isinstance(shape, list):
        polygons = [polygon for polygon in shape if len(polygon) >= 6]  # two points span no area, and would be taken for a box
        nested = any(list in map(type, polygon) for polygon in shape)
        if nested or len(shape) > 2 and all(len(polygon) == 2 for polygon in shape):
            raise ValueError("its corners stand in brackets of their own, not one after another as x, y, x, y")
        if not polygons or all(0 <= value <= 1 for polygon in polygons for value in polygon):  # shares of the image's sides
            return b""
        for polygon in polygons:  # the C code below dies of a NaN
            _check_near(polygon, height, width)
        return polygons
    code = codec.frPyObjects(shape, height, width) if isinstance(shape["counts"], list) else shape
    size, counts = tuple(code["size"]), code["counts"]
    counts = counts if isinstance(counts, bytes) else counts.encode()
    if pixels(counts) != size[0] * size[1]:  # the C code leaves the others as memory has them
        raise ValueError(f"its runs cover {pixels(counts)} pixels of {size[1]} x {size[0]}")
    if size != (height, width):
        raise SizeError(f"has a mask of {size[1]} x {size[0]}, its image another size")
    return counts


class SizeError(ValueError):
    """A mask that is not of its image's size."""


def box_code(box: Any, height: int, width: int) -> bytes:
    """The code of a box (left, top, width, height); empty where it is none."""
    from pycocotools import mask as codec

    numbers = isinstance(box, list) and len(box) == 4 and all(isinstance(value, int | float) for value in box)
    if not numbers or not all(map(math.isfinite, box)) or min(box[2:]) <= 0:
        return b""
    left, right = (min(max(value, 0), width) for value in (box[0], box[0] + box[2]))
    top, bottom = (min(max(value, 0), height) for value in (box[1], box[1] + box[3]))
    return codec.frPyObjects([[left, top, right, top, right, bottom, left, bottom]], height, width)[0]["counts"]


def area(code: bytes, height: int, width: int) -> int:
    """How many pixels the mask of a sound code has."""
    from pycocotools import mask as codec

    return int(codec.area({"size": [height, width], "counts": code})) if code else 0


def pixels(code: bytes) -> int:
    """How many pixels the runs of a compressed code cover: numbers of 5 bits a letter, from the fourth on as differences.

    Raises `ValueError` for what is no such code.
    """
    found, value, shift = [], 0, 0
    for letter in code:
        part = letter - 48
        value, shift = value | (part & 31) << shift, shift + 5
        if not part & 32:  # the last letter of a number; its highest bit is the sign
            value -= (part & 16) << (shift - 4)
            found.append(value + (found[-2] if len(found) > 2 else 0))
            value, shift = 0, 0
        if not 0 <= part < 64 or (found and found[-1] < 0):
            raise ValueError("its run-length code is damaged")
    return sum(found)


def _check_near(polygon: list, height: int, width: int) -> None:
    far = FURTHEST * max(height, width)
    if not (-far <= min(polygon) and max(polygon) <= far and math.isfinite(sum(polygon))):
        raise ValueError("a polygon leads far out of the image")
