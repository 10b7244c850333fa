"""Six classes of PASCAL VOC 2012, in pictures that a fixed list names and that are made small: the scale `voc6`.

The lists are part of the package; the pictures are not. `root` is VOC's own folder, VOCdevkit/VOC2012, or a copy of the part that
is listed: one in which the pictures are small already, or the labels numbered for the six classes by a `classes.txt`, gives the
same labels. Pixels are the same where the files are; a copy saved as JPEG again differs by its compression.

Objects of other classes than the six have no tag, and their pixels are 255, which nothing is scored on or learns from.
`dev` holds those pictures of the training list that VOC itself has segmented, with a border of 255 around objects as in `val`.
"""

from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from dsgc.data import voc
from dsgc.data.labels import IGNORE
from dsgc.errors import UserError

CLASSES = ("cat", "cow", "dog", "horse", "person", "sheep")
LONGEST = 320  # pixels of a picture's longer side, at most
SPLITS = ("voc6_train", "voc6_dev", "voc6_val")


class Six(NamedTuple):
    """A split, as `dsgc.data.split.Split` asks for it."""

    ids: tuple[str, ...]
    folder: voc.Folder  # of the classes and sizes on disk

    @property
    def root(self) -> Path:
        return self.folder.root

    @property
    def classes(self) -> tuple[str, ...]:
        return CLASSES

    @property
    def origin(self) -> str:
        return self.folder.origin

    @property
    def truth(self) -> str:
        return self.folder.truth

    @property
    def notes(self) -> tuple[str, ...]:
        return self.folder.notes

    def tags(self) -> np.ndarray:
        """The tags of every image of the split, (N, 6) float32. Raises `UserError` as `voc.Folder.tags` does."""
        return self.folder.tags()[:, [self.folder.classes.index(name) for name in CLASSES]]

    def file(self, image_id: str) -> Path:
        """Where a picture lies."""
        return self.folder.file(image_id)

    def image(self, image_id: str) -> Image.Image:
        """The picture in RGB, its longer side at most `LONGEST`."""
        image = self.folder.image(image_id)
        size = shrunk(image.size)
        return image if size == image.size else image.resize(size, Image.Resampling.BICUBIC)

    def mask(self, image_id: str, size: Sequence[int]) -> Image.Image:
        """The true labels 0..6 and 255; `size` is the image's (width, height)."""
        mask = self.folder.mask(image_id, self.folder.image(image_id).size)
        labels = Image.fromarray(_renumbering(self.folder.classes)[np.asarray(mask)])
        return labels if labels.size == tuple(size) else labels.resize(tuple(size), Image.Resampling.NEAREST)


def open_split(root: str | Path, split: str) -> Six:
    """A split of `SPLITS`, of the pictures in a folder.

    Raises:
        UserError: no such folder, classes among which one of the six is missing, or a picture or an annotation that is.
    """
    ids = tuple(listed(split))
    folder = voc.open_ids(root, ids, f"the list {split}")
    missing = [name for name in CLASSES if name not in folder.classes]
    if missing:
        raise UserError(f"{folder.class_list}: has no class {missing[0]}, one of the six of voc6; give VOC's own classes, or these six")
    return Six(ids, folder)


def listed(split: str) -> list[str]:
    """The ids of a list that comes with the package."""
    return (resources.files("dsgc") / "data" / "voc6_lists" / f"{split}.txt").read_text(encoding="ascii").split()


def shrunk(size: tuple[int, int]) -> tuple[int, int]:
    """A picture's (width, height) with the longer side at most `LONGEST`."""
    scale = min(1.0, LONGEST / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _renumbering(classes: Sequence[str]) -> np.ndarray:
    """(256,) uint8: the new label of each label on disk."""
    table = np.full(256, IGNORE, np.uint8)
    table[0] = 0
    for number, name in enumerate(CLASSES, 1):
        table[classes.index(name) + 1] = number
    return table
