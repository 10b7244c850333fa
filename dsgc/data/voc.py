"""Any folder in the PASCAL VOC layout: images, tags from the annotation XML, masks for evaluation alone."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np
from PIL import Image

from dsgc.data.images import FORMATS, UNREADABLE, check_upright, is_plain, read_lines, read_rgb
from dsgc.errors import UserError, first_line

CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog", "horse",
    "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
LISTS = "ImageSets/Segmentation"


class Folder(NamedTuple):
    """A data set: where it is, its foreground classes, the ids of a split and where these ids come from."""

    root: Path
    classes: tuple[str, ...]
    ids: tuple[str, ...]
    origin: str

    def tags(self) -> np.ndarray:
        """The tags of every image of the split, (N, C) float32; read once, so that a mistake shows before the first step."""
        return np.stack([read_tags(self, image_id) for image_id in self.ids])

    def file(self, image_id: str) -> Path:
        """Where a picture lies."""
        return self.root / "JPEGImages" / f"{image_id}.jpg"

    def image(self, image_id: str) -> Image.Image:
        """The picture in RGB."""
        return read_rgb(self.file(image_id))

    def mask(self, image_id: str, size: Sequence[int]) -> Image.Image:
        """The true labels 0..C and 255; `size` is the image's (width, height)."""
        return read_mask(self, image_id, size)


def open_split(root: str | Path, split: str) -> Folder:
    """Find a data set and the ids of one of its splits, and check that every file of the split that training needs is there.

    The classes stand in `classes.txt`, one a line; without it they are VOC's 20. `split` is the name of a list in
    ImageSets/Segmentation; `train` stands for the largest training list there is (see `training_ids`).

    Raises:
        UserError: no such folder, no such list, a list without ids, an id with no image or no annotation.
    """
    root = _root(root)
    ids, origin = training_ids(root) if split == "train" else read_list(root, split)
    return _complete(root, ids, origin, {"JPEGImages": ".jpg", "Annotations": ".xml"})


def open_images(root: str | Path, split: str) -> Folder:
    """A split of which only the images are needed, as that of a test set. Raises `UserError` as `open_split` does."""
    root = _root(root)
    return _complete(root, *read_list(root, split), {"JPEGImages": ".jpg"})


def _root(root: str | Path) -> Path:
    root = Path(root)
    if not (root / "JPEGImages").is_dir():
        nested = sorted(path for depth in ("*", "*/*") for path in root.glob(f"{depth}/JPEGImages"))[:1]
        hint = f"; did you mean {nested[0].parent}?" if nested else "; `python -m dsgc data shapes OUT` writes one"
        raise UserError(f"{root}: no data set in the VOC layout here (no folder JPEGImages){hint}")
    return root


def _complete(root: Path, ids: Sequence[str], origin: str, needed: Mapping[str, str]) -> Folder:
    """The split of these ids. `needed`: folders that must hold a file for each id, with its ending."""
    if not ids:
        raise UserError(f"{origin}: the split has no images; list one id a line")
    for image_id in ids:
        for folder, suffix in needed.items():
            if not (root / folder / f"{image_id}{suffix}").is_file():
                raise UserError(
                    f"{root / folder / image_id}{suffix}: missing, though {origin} lists {image_id}; "
                    "add the file or take the id off the list"
                )
    return Folder(root, read_classes(root), tuple(ids), origin)


def read_classes(root: Path) -> tuple[str, ...]:
    """The foreground classes, from `classes.txt` or VOC's own."""
    path = root / "classes.txt"
    if not path.exists():
        return CLASSES
    names = tuple(line.strip() for line in read_lines(path))
    if not 1 <= len(names) <= 254 or len(set(names)) < len(names):
        raise UserError(f"{path}: must list 1 to 254 different class names, one a line, background left out")
    return names


def read_list(root: Path, split: str, folder: str = LISTS) -> tuple[list[str], str]:
    """The ids of a list and its path. Ids are plain file names."""
    if not is_plain(split):
        raise UserError(f"split {split!r}: not the name of a list in {root / folder}; leave out where it is and its ending")
    path = root / folder / f"{split}.txt"
    if not path.is_file():
        there = ", ".join(sorted(p.stem for p in path.parent.glob("*.txt"))) or "none"
        raise UserError(f"{path}: no such split; lists found there: {there}")
    ids = list(dict.fromkeys(line.split()[0] for line in read_lines(path)))  # an id named twice counts once
    for image_id in ids:
        if not is_plain(image_id):
            raise UserError(f"{path}: {image_id[:80]!r} is not an image id; give file names without folder or ending")
    return ids, str(path)


def training_ids(root: Path) -> tuple[list[str], str]:
    """The largest training list there is: train_aug / trainaug (10,582 ids), SBD's lists, or trainval; never a validation id.

    Order: ImageSets/Segmentation/train_aug.txt or trainaug.txt; train.txt united with SBD's train and val lists (files
    sbd_train.txt, sbd_val.txt beside it); train.txt where there is no ImageSets/Main; ImageSets/Main/trainval.txt. Ids of
    the segmentation val.txt are taken out of the last three.
    """
    for name in ("train_aug", "trainaug"):
        if (root / LISTS / f"{name}.txt").is_file():
            return read_list(root, name)
    held_out = set(read_list(root, "val")[0]) if (root / LISTS / "val.txt").is_file() else set()
    sbd = [name for name in ("sbd_train", "sbd_val") if (root / LISTS / f"{name}.txt").is_file()]
    if sbd:
        lists = [read_list(root, name)[0] for name in ("train", *sbd)]
        union = dict.fromkeys(image_id for ids in lists for image_id in ids if image_id not in held_out)
        return list(union), f"{root / LISTS}: train + {' + '.join(sbd)} - val"
    main = (root / "ImageSets/Main/trainval.txt").is_file()
    ids, origin = read_list(root, "trainval", "ImageSets/Main") if main else read_list(root, "train")
    left = [image_id for image_id in ids if image_id not in held_out]
    return left, origin if len(left) == len(ids) else f"{origin} - val"


def read_tags(folder: Folder, image_id: str) -> np.ndarray:
    """Which classes the annotation of an image names: (C,) float32 of 0 and 1. Every object counts, difficult ones too."""
    path = folder.root / "Annotations" / f"{image_id}.xml"
    tags = np.zeros(len(folder.classes), np.float32)
    try:
        text = path.read_bytes()
        if b"<!DOCTYPE" in text.replace(b"\0", b""):  # zeros: in UTF-16 they stand between the letters
            raise ValueError("it declares a document type, and entities are not expanded")
        names = [item.text or "" for item in ElementTree.fromstring(text).iterfind("object/name")]
    except (ElementTree.ParseError, OSError, ValueError, LookupError) as error:  # LookupError: an encoding that nobody knows
        raise UserError(f"{path}: not a readable annotation ({first_line(error)}); replace the file") from error
    for name in names:
        if name.strip() not in folder.classes:
            raise UserError(f"{path}: class {name.strip()!r} is not one of {', '.join(folder.classes)}; see classes.txt")
        tags[folder.classes.index(name.strip())] = 1
    return tags


def read_mask(folder: Folder, image_id: str, size: Sequence[int]) -> Image.Image:
    """The true mask, labels 0..C and 255; `size` is the image's (width, height). SegmentationClassAug is preferred."""
    candidates = [folder.root / name / f"{image_id}.png" for name in ("SegmentationClassAug", "SegmentationClass")]
    path = next((p for p in candidates if p.is_file()), None)
    if path is None:
        raise UserError(f"{candidates[-1]}: missing; evaluation needs the mask of every image of its split")
    check_upright(folder.root / "JPEGImages" / f"{image_id}.jpg")
    try:
        with Image.open(path, formats=FORMATS) as mask:
            mask.load()
    except UNREADABLE as error:
        raise UserError(f"{path}: not a readable mask ({first_line(error)}); replace the file") from error
    if mask.mode not in ("P", "L"):
        raise UserError(f"{path}: a mask must hold labels (palette or grey PNG), this one is {mask.mode}; save label numbers")
    if mask.size != tuple(size):
        raise UserError(f"{path}: mask is {mask.size[0]} x {mask.size[1]}, its image {size[0]} x {size[1]}; they must agree")
    labels = np.asarray(mask)
    if ((labels > len(folder.classes)) & (labels != 255)).any():
        worst = int(labels[labels != 255].max())
        raise UserError(f"{path}: label {worst}, but there are {len(folder.classes)} classes; allowed are 0..{len(folder.classes)} and 255")
    return mask
