"""A split with the labels of a folder in place of its true masks: what a second network learns from.

`python -m dsgc labels` writes such a folder, and describes it in its `labels.json` once all labels are there.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from dsgc.data.images import by_stem, is_plain, shown_size
from dsgc.data.labels import IGNORE, Masks, read_labels
from dsgc.data.split import Split
from dsgc.errors import UserError, first_line

DESCRIPTION = "labels.json"
AGAIN = "write them again with `python -m dsgc labels RUN OUT`"


class Taught(NamedTuple):
    """A split whose masks are labels; all else is the split's own."""

    split: Split
    labels: Masks
    root: Path
    classes: tuple[str, ...]
    ids: tuple[str, ...]
    origin: str
    notes: tuple[str, ...]

    @property
    def truth(self) -> str:
        """The folder of the labels."""
        return str(self.labels.folder)

    def tags(self) -> np.ndarray:
        """Which classes are in each image, (N, C) float32 of 0 and 1."""
        return self.split.tags()

    def file(self, image_id: str) -> Path:
        """Where a picture lies."""
        return self.split.file(image_id)

    def image(self, image_id: str) -> Image.Image:
        """The picture in RGB."""
        return self.split.image(image_id)

    def mask(self, image_id: str, size: Sequence[int]) -> Image.Image:
        """The labels 0..C and 255 of a picture of `size` (width, height). Raises `UserError` if they are of another, or cannot be read."""
        path = self.labels.path(image_id, self.ids)
        label = read_labels(path, len(self.classes))
        if label.size != tuple(size):
            raise UserError(
                f"{path}: label is {label.size[0]} x {label.size[1]}, its picture {self.file(image_id)} {size[0]} x {size[1]}; "
                f"labels must be of these pictures: {AGAIN}"
            )
        return label


def relabelled(split: Split, folder: str | Path) -> Taught:
    """A split with the labels of a folder. Every label is read, so that a fault shows now and not after a night of training.

    Raises:
        UserError: no such folder, labels that are not finished, of other classes, damaged, of another size than their picture, or
            missing for one; or labels that show no class at all.
    """
    folder = Path(folder)
    about = _description(folder / DESCRIPTION)
    if about["classes"] != list(split.classes):
        raise UserError(
            f"{folder / DESCRIPTION}: its labels are of the classes {_few(about['classes'])}, those of {split.origin} are "
            f"{_few(split.classes)}; take labels of the same classes in the same order"
        )
    found = by_stem(folder / about["labels"], (".png",))
    lacking = [image_id for image_id in split.ids if image_id not in found]
    if lacking:
        raise UserError(
            f"{folder / about['labels'] / lacking[0]}.png: missing, as are {len(lacking) - 1} more of the {len(split.ids)} that "
            f"{split.origin} lists; labels must be of the split that is trained on: give their --split as --train-split, or {AGAIN}"
        )
    labels = Masks(folder / about["labels"], {image_id: found[image_id] for image_id in split.ids}, "")
    taught = Taught(split, labels, split.root, split.classes, split.ids, split.origin, split.notes)
    shows = [_shows_a_class(taught.mask(image_id, shown_size(split.file(image_id)))) for image_id in split.ids]
    if not any(shows):
        raise UserError(
            f"{taught.truth}: no label shows a class, all are background or 255, so that background alone would be learnt; "
            "take a run that is trained for longer, or other thresholds"
        )
    return taught


def _description(path: Path) -> dict[str, Any]:
    """What stands in `labels.json`: "classes", a list of names, and "labels", the name of the folder with the PNGs, among others."""
    if not path.parent.is_dir():
        raise UserError(f"{path.parent}: no such folder; `python -m dsgc labels RUN OUT` writes labels")
    if not path.is_file():
        raise UserError(f"{path}: missing, so that {path.parent} holds no labels, or not all yet; the command that writes them goes on")
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        classes, place = about["classes"], about["labels"]
        if not (isinstance(classes, list) and all(isinstance(name, str) for name in classes)):
            raise ValueError("its classes are no list of names")
        if not (isinstance(place, str) and is_plain(place)):
            raise ValueError("its labels are in no folder beside it")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{path}: not a description of labels ({first_line(error)}); {AGAIN}") from error
    return about


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:6]) + (f" ... ({len(names)})" if len(names) > 6 else "")


def _shows_a_class(label: Image.Image) -> bool:
    return bool(np.bincount(np.asarray(label).ravel(), minlength=IGNORE + 1)[1:IGNORE].any())
