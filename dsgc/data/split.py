"""A split of a data set, whatever its layout: ids, classes, and an image, its tags and its mask for each id."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from dsgc.data import coco, voc


class Split(Protocol):
    """What training and evaluation ask of a data set. `voc.Folder` and `coco.Instances` are such."""

    root: Path
    classes: tuple[str, ...]  # of the foreground
    ids: tuple[str, ...]
    origin: str  # where the ids come from

    def tags(self) -> np.ndarray:
        """Which classes are in each image, (N, C) float32 of 0 and 1; no mask is opened for it."""

    def image(self, image_id: str) -> Image.Image:
        """The picture in RGB."""

    def mask(self, image_id: str, size: Sequence[int]) -> Image.Image:
        """The true labels 0..C and 255; `size` is the image's (width, height)."""


def open_split(root: str | Path, split: str) -> Split:
    """A split of the data set in a folder: COCO's layout where it has a folder `annotations`, else VOC's.

    Raises:
        UserError: the folder or the split is not there, or what training needs of it is missing or damaged.
    """
    return (coco if (Path(root) / "annotations").is_dir() else voc).open_split(root, split)
