"""A split of a data set, whatever its layout: ids, classes, and an image, its tags and its mask for each id."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from dsgc.data import coco, layout, own, parts, voc, voc6
from dsgc.data.images import Pictures, is_plain, open_pictures
from dsgc.errors import UserError


class Split(Protocol):
    """What training and evaluation ask of a data set. `voc.Folder`, `voc6.Six`, `coco.Instances`, `own.Own` are such."""

    root: Path
    classes: tuple[str, ...]  # of the foreground
    ids: tuple[str, ...]
    origin: str  # where the ids come from
    truth: str  # where the masks come from; empty where there are none, and then `mask` is 255 everywhere
    notes: tuple[str, ...]  # lines on what was understood, though it is not as it should be

    def tags(self) -> np.ndarray:
        """Which classes are in each image, (N, C) float32 of 0 and 1; no mask is opened for it."""

    def file(self, image_id: str) -> Path:
        """Where a picture lies."""

    def image(self, image_id: str) -> Image.Image:
        """The picture in RGB."""

    def mask(self, image_id: str, size: Sequence[int]) -> Image.Image:
        """The true labels 0..C and 255; `size` is the image's (width, height)."""


def open_split(root: str | Path, split: str, source: own.Source = own.NONE) -> Split:
    """A split of the data set in a folder, in COCO's layout or VOC's as `layout.is_coco` tells; by a name of `voc6.SPLITS`, of that.

    Of pictures without a layout, where `source` names a tag file, or where they lie in a folder for each class.

    Raises:
        UserError: the folder or the split is not there, or what training needs of it is missing or damaged.
    """
    root = Path(root)
    if split in voc6.SPLITS:
        _refuse_source(f"split {split}", source, ", or name splits of these with --train-split and --val-split")
        return voc6.open_split(root, split)
    if source.tags or own.is_own(root):
        return own.open_split(root, split, source)
    _refuse_source(f"{root}", source)
    return (coco if layout.is_coco(Path(root), split) else voc).open_split(root, split)


def _refuse_source(what: str, source: own.Source, remedy: str = "") -> None:
    if source.tags or source.masks:
        option = "--tags" if source.tags else "--masks"
        raise UserError(f"{what}: has tags and masks in its layout; leave out {option}, which belongs to pictures without a layout{remedy}")


def named(split: Split) -> dict[str, str]:
    """What a score is of, within the data set: the list of the images, and the folder, or file, that their masks come from."""
    root = f"{split.root}{os.sep}"
    return {"list": split.origin.removeprefix(root), "masks": split.truth.removeprefix(root)}


def open_images(root: str | Path, split: str, source: own.Source = own.NONE) -> voc.Folder | voc6.Six | own.Own | Pictures:
    """Images alone, as those of a test set: a list of the VOC layout, the images of a split in COCO's or the pictures in
    `root/split`, or those in `root`, in folders there too; by `source` a part of one's own pictures.

    Raises:
        UserError: there are none, or one that a list names is not there.
    """
    root = Path(root)
    if split != "test" and (source.tags or (split in (*parts.LEARNT, *parts.HELD) and not (root / split).is_dir() and own.is_own(root))):
        return own.open_split(root, split, source)
    if not is_plain(split):
        raise UserError(f"split {split!r}: not the name of a list or of a folder in {root}; leave out where it is and its ending")
    if split in voc6.SPLITS:
        return voc6.open_split(root, split)
    names, instances = layout.listed(root), layout.instances_files(root)
    if names >= layout.VOC:
        return voc.open_images(root, split)
    if split in instances:
        return coco.open_images(root, split)
    folder = root / split if (root / split).is_dir() else root
    if not folder.is_dir():
        raise UserError(f"{root}: no such folder; give a data set in the layout of VOC or COCO, or a folder of pictures")
    if folder == root and instances:
        layout.place_of(root, split)  # says which splits there are
    if folder == root and "JPEGImages" in names:
        raise UserError(f"{root}: no lists of images in ImageSets/Segmentation; give {root / 'JPEGImages'} for all that lie there")
    return own.open_pictures(folder) if own.is_own(folder) else open_pictures(folder)
