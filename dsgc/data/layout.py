"""Which layout a folder has: told by what lies in it, under the names that the disk has listed, not by the name of one folder.

Where a disk does not tell capitals, `annotations` is there wherever VOC's `Annotations` is. Of the layouts with one JSON file, those
are read that say which images are in a split: COCO's and CVAT's, Roboflow's, and FiftyOne's and labelme2coco's with a folder a split.
"""

import os
import re
from pathlib import Path
from typing import NamedTuple

from dsgc.data.images import ENDINGS
from dsgc.errors import UserError

VOC = {"JPEGImages", "ImageSets"}
OTHERS = ("captions_", "person_keypoints_", "image_info_", "stuff_", "panoptic_")  # files of COCO that hold no instances
BESIDE = {"_annotations.coco.json": "", "labels.json": "data", "annotations.json": "JPEGImages"}  # in a split's folder; its images
SINGLE = (*BESIDE, "result.json", "instances_default.json")  # one file for all images
MARKS = {"JPEGImages", "Annotations", "ImageSets", "annotations"}  # folders of a layout

EXPORTS = {  # of VOC's layout, folders as another program names them, and what to do about it
    ("data", "labels"): "FiftyOne's layout: rename data to JPEGImages and labels to Annotations, and list ids in ImageSets/Segmentation",
}
XML_BESIDE = "XML beside the pictures, as Roboflow writes it: move them to JPEGImages and Annotations, and list ids in ImageSets"


class Place(NamedTuple):
    """Where a split in COCO's layout lies."""

    instances: Path  # the JSON file
    pictures: Path  # the folder to which its file names belong


def is_coco(root: Path, split: str) -> bool:
    """Whether a split is to be read in COCO's layout; else it is in VOC's.

    Raises:
        UserError: the folder has neither layout, one file for all its images, or the split in both layouts.
    """
    names, found = listed(root), instances_files(root)
    lists = root / "ImageSets/Segmentation" / f"{split}.txt"
    if names >= VOC and split in found and lists.is_file():
        raise UserError(f"{root}: holds {split} twice, as {lists} and as {found[split]}; move the one that is not meant elsewhere")
    if found:
        return split in found or not names >= VOC
    if names >= VOC:
        return False
    _refuse_undivided(root, names)
    if "annotations" not in names and "JPEGImages" not in names:
        _refuse_unknown(root, names)
    return "JPEGImages" not in names


def place_of(root: Path, split: str) -> Place:
    """The files of a split in COCO's layout. Raises `UserError` where there are none, naming the splits that there are."""
    found = instances_files(root)
    path = found.get(split, root / "annotations" / f"instances_{split}.json")
    if split not in found:
        there = sorted(found)
        raise UserError(f"{path}: no such split; splits found there: {', '.join(there[:9]) or 'none'}{' ...' if len(there) > 9 else ''}")
    if path.name in BESIDE:
        inside = path.parent / BESIDE[path.name]
        return Place(path, inside if path.name == "labels.json" else path.parent)
    own = root / split
    shared = () if re.search(r"\d{4}$", split) else (root / "images", root / "JPEGImages", root / "data")  # a year: COCO's own
    folder = next((folder for folder in (own, root / "images" / split, *shared) if folder.is_dir()), None)
    if folder is None:
        raise UserError(f"{own}: missing; the images of {path.name} belong there")
    return Place(path, folder)


def instances_files(root: Path) -> dict[str, Path]:
    """The files with instances, by split: annotations/instances_SPLIT.json or annotations/SPLIT.json, or one in the split's folder."""
    found = {}
    for folder in sorted(path for path in root.glob("*") if path.is_dir()):
        for name, beside in BESIDE.items():
            if (folder / name).is_file() and (folder / beside).is_dir():
                found.setdefault(folder.name, folder / name)
    for path in sorted(root.glob("annotations/*.json"), key=lambda path: path.name.startswith("instances_")):
        if not path.name.startswith(OTHERS):
            found[path.stem.removeprefix("instances_")] = path
    return found


def listed(folder: Path) -> set[str]:
    """The names in a folder as the disk has them; none where it cannot be read."""
    try:
        return {*os.listdir(folder)}
    except OSError:
        return set()


def _refuse_undivided(root: Path, names: set[str]) -> None:
    """A file that stands for all images is no split; which images to learn from has to be said."""
    single = next((name for name in SINGLE if name in names), None)
    if single:
        raise UserError(
            f"{root / single}: instances of all images, in no split; divide the images into folders, as train and val, each with a file "
            "_annotations.coco.json of its own beside them, and name these as --train-split and --val-split"
        )


def _refuse_unknown(root: Path, names: set[str]) -> None:
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; give a data set in the VOC layout or in COCO's, {instead(root)}")
    shown = (", ".join(sorted(names)[:8]) + (" ..." if len(names) > 8 else "")) or "nothing"
    raise UserError(
        f"{root}: neither VOC's layout (JPEGImages, Annotations, ImageSets) nor COCO's (annotations/instances_SPLIT.json and "
        f"images in SPLIT, or SPLIT/_annotations.coco.json); found there: {shown}; {instead(root)}"
    )


def has_marks(root: Path) -> bool:
    """Whether a folder has, or may be meant to have, a layout that is known, so that it is not just a folder of pictures."""
    names = listed(root)
    single = any(name in names for name in SINGLE)
    return bool(names & MARKS) or single or bool(instances_files(root)) or bool(_other(root))


def instead(root: Path) -> str:
    """What a folder of no layout may be, and the remedy."""
    return _other(root) or "pictures alone need --tags FILE; `python -m dsgc data shapes OUT` writes a data set"


def _other(root: Path) -> str:
    """What a folder is that has a layout inside, or that of another program; empty if it is neither."""
    nested = [path.parent for depth in ("*", "*/*") for path in sorted(root.glob(f"{depth}/JPEGImages"))]
    nested += [path.parent.parent for path in sorted(root.glob("*/annotations/instances_*.json"))]
    nested += [path.parent.parent for path in sorted(root.glob("*/*/_annotations.coco.json"))]
    if nested:
        return f"did you mean {nested[0]}?"
    for folders, words in EXPORTS.items():
        if all((root / name).is_dir() for name in folders):
            return words
    annotations = (path for pattern in ("*.xml", "*/*.xml") for path in root.glob(pattern))
    beside = next((path for path in annotations if any(p.suffix.lower() in ENDINGS for p in path.parent.glob(f"{path.stem}.*"))), None)
    if beside:
        return f"{beside.parent} has {XML_BESIDE}"
    return ""
