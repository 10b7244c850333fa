"""Any folder in the PASCAL VOC layout: images, tags from the annotation XML, masks for evaluation alone."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from dsgc.data import layout
from dsgc.data.annotation import object_names
from dsgc.data.classes import read_classes
from dsgc.data.faults import Faults
from dsgc.data.images import ENDINGS, by_stem, read_rgb
from dsgc.data.labels import Masks, find_masks
from dsgc.data.lists import split_ids
from dsgc.errors import UserError

IMAGES, ANNOTATIONS = "JPEGImages", "Annotations"


class Folder(NamedTuple):
    """A data set: where it is, its foreground classes, the ids of a split, where these ids come from, and the files of each."""

    root: Path
    classes: tuple[str, ...]
    ids: tuple[str, ...]
    origin: str
    pictures: Mapping[str, str] = {}  # a file's name in JPEGImages, by id
    annotations: Mapping[str, str] = {}  # the same in Annotations
    masks: Masks = Masks(Path("SegmentationClass"), {}, "")
    class_list: str = "classes.txt"
    notes: tuple[str, ...] = ()  # lines on what was understood, though it is not as it should be

    @property
    def truth(self) -> str:
        """Where the masks come from."""
        return str(self.masks.folder)

    def tags(self) -> np.ndarray:
        """The tags of every image of the split, (N, C) float32; read once, so that a mistake shows before the first step.

        Raises:
            UserError: an annotation that is not understood, a class that is not listed, or not one object in all of them.
        """
        tags = np.stack([read_tags(self, image_id) for image_id in self.ids])
        if not tags.any():
            raise UserError(
                f"{self.origin}: the annotations of its {len(self.ids)} images name no object at all; "
                f"{self.root / ANNOTATIONS} must hold the <object> of each"
            )
        return tags

    def file(self, image_id: str) -> Path:
        """Where a picture lies."""
        return self.root / IMAGES / self.pictures[image_id]

    def image(self, image_id: str) -> Image.Image:
        """The picture in RGB."""
        return read_rgb(self.file(image_id))

    def mask(self, image_id: str, size: Sequence[int]) -> Image.Image:
        """The true labels 0..C and 255; `size` is the image's (width, height)."""
        return self.masks.label(image_id, self.ids, self.file(image_id), size, len(self.classes))


def open_split(root: str | Path, split: str) -> Folder:
    """Find a data set and the ids of one of its splits, and check that every file of the split that training needs is there.

    The classes stand in `classes.txt`, one a line; without it they are VOC's 20. `split` is the name of a list in
    ImageSets/Segmentation, or else in ImageSets/Main; `largest` stands for the largest training list there is (see
    `lists.training_ids`).

    Raises:
        UserError: no such folder, no such list, a list without ids, an id with no image or no annotation, or with two.
    """
    return _opened(root, split, annotated=True)


def open_ids(root: str | Path, ids: Sequence[str], origin: str) -> Folder:
    """The pictures of ids that another place than the folder lists, which `origin` names. Raises `UserError` as `open_split` does."""
    root = _root_of(root)
    return _of_ids(root, by_stem(root / IMAGES, ENDINGS), ids, origin, annotated=True)


def open_images(root: str | Path, split: str) -> Folder:
    """A split of which only the images are needed, as that of a test set. Raises `UserError` as `open_split` does."""
    return _opened(root, split, annotated=False)


def look(root: Path, split: str, faults: Faults) -> Folder:
    """A split without the ids whose files are not there, which go to the faults. Raises `UserError` if there is no such split."""
    root = _root_of(root)
    pictures, annotations = by_stem(root / IMAGES, ENDINGS), by_stem(root / ANNOTATIONS, (".xml",))
    ids, origin = split_ids(root, split, pictures)
    sound = []
    for image_id in ids:
        with faults.kept("images of the list that lack a file, or have two"):
            _one_each(root / IMAGES, pictures, [image_id], ".jpg", origin)
            _one_each(root / ANNOTATIONS, annotations, [image_id], ".xml", origin)
            sound.append(image_id)
    return _of_ids(root, pictures, sound, origin, annotated=True)


def _opened(root: str | Path, split: str, *, annotated: bool) -> Folder:
    root = _root_of(root)
    pictures = by_stem(root / IMAGES, ENDINGS)
    ids, origin = split_ids(root, split, pictures)
    if not ids:
        raise UserError(f"{origin}: the split has no images; list one id a line")
    return _of_ids(root, pictures, ids, origin, annotated=annotated)


def _root_of(root: str | Path) -> Path:
    """The folder, if it is one of the VOC layout."""
    root = Path(root)
    if not (root / IMAGES).is_dir():
        raise UserError(f"{root}: no data set in the VOC layout here (no folder {IMAGES}); {layout.instead(root)}")
    return root


def _of_ids(root: Path, pictures: Mapping[str, list[str]], ids: Sequence[str], origin: str, *, annotated: bool) -> Folder:
    classes = read_classes(root)
    return Folder(
        root,
        classes.names,
        tuple(ids),
        origin,
        _one_each(root / IMAGES, pictures, ids, ".jpg", origin),
        _one_each(root / ANNOTATIONS, by_stem(root / ANNOTATIONS, (".xml",)), ids, ".xml", origin) if annotated else {},
        find_masks(root, ids) if annotated else Masks(root / "SegmentationClass", {}, ""),
        classes.origin,
        classes.notes,
    )


def _one_each(folder: Path, files: Mapping[str, list[str]], ids: Sequence[str], ending: str, origin: str) -> dict[str, str]:
    """The file of each id, which must be one."""
    for image_id in ids:
        names = sorted(files.get(image_id, ()))
        if not names:
            name = image_id if image_id.lower().endswith((*ENDINGS, ".xml")) else f"{image_id}{ending}"
            near = next((other[0] for stem, other in files.items() if stem.casefold() == image_id.casefold()), None)
            hint = f"did you mean {near}, in other capitals?" if near else "add the file or take the id off the list"
            raise UserError(f"{folder / name}: missing, though {origin} lists {image_id}; {hint}")
        if len(names) > 1:
            raise UserError(f"{folder / names[0]}: {names[1]} beside it has the same id, which {origin} lists; rename or remove one")
    return {image_id: files[image_id][0] for image_id in ids}


def read_tags(folder: Folder, image_id: str) -> np.ndarray:
    """Which classes the annotation of an image names: (C,) float32 of 0 and 1. Every object counts, difficult ones too.

    Raises:
        UserError: an annotation that is not understood, or a class that is not listed.
    """
    path = folder.root / ANNOTATIONS / folder.annotations[image_id]
    tags = np.zeros(len(folder.classes), np.float32)
    for name in object_names(path):
        if name not in folder.classes:
            raise UserError(f"{path}: class {name!r} is not one of {', '.join(folder.classes)}; see {Path(folder.class_list).name}")
        tags[folder.classes.index(name)] = 1
    return tags
