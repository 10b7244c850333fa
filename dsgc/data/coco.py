"""MS COCO as published: images in `train2014/`, `val2014/`; instances in `annotations/instances_*.json`; and what others export.

A split's instances file is half a gigabyte. Each instance is looked at once, and what is kept of it is its category and its place
in the file: masks are painted from there when they are asked for, so that training from tags paints none. What is kept also lies in
a cache outside the data set, and is read from there the next time.
"""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from dsgc.data import codes, index, instances, layout
from dsgc.data.entries import BROKEN, decoded, entries_of
from dsgc.data.images import Pictures, check_upright, is_plain, open_pictures, read_rgb
from dsgc.data.index import Index
from dsgc.data.names import distinct_ids, find_files, folded
from dsgc.errors import UserError, first_line

IGNORE = 255


class Instances(NamedTuple):
    """A split in COCO's layout."""

    root: Path
    classes: tuple[str, ...]
    ids: tuple[str, ...]
    origin: str
    folder: Path
    index: Index
    stamp: tuple[int, int]  # of the instances file, to see that it is still the one that was opened
    files: dict[str, Path]  # by id
    place: dict[str, int]  # row of an id in the index
    notes: tuple[str, ...] = ()

    @property
    def truth(self) -> str:
        """Where the masks come from."""
        return self.origin

    def tags(self) -> np.ndarray:
        """Which classes the instances of each image name, (N, C) float32; a crowd region or a box alone names its class too."""
        tags = np.zeros((len(self.ids), len(self.classes)), np.float32)
        images = np.repeat(np.arange(len(self.ids)), np.diff(self.index.first))
        tags[images, self.index.categories.astype(int) - 1] = 1
        return tags

    def file(self, image_id: str) -> Path:
        """Where a picture lies."""
        return self.files[image_id]

    def image(self, image_id: str) -> Image.Image:
        """The picture in RGB; some of COCO's are grey."""
        return read_rgb(self.files[image_id])

    def mask(self, image_id: str, size: Sequence[int]) -> Image.Image:
        """Labels painted from the instances: 255 for crowd regions and boxes without a mask, then the others, larger ones first.

        Raises:
            UserError: no instance of the split has a mask, or the picture is of another size than its file says.
        """
        if not self.index.masks:
            raise UserError(
                f"{self.origin}: no instance has a mask: all are boxes alone, shapes without a pixel, or crowd regions (iscrowd 1); "
                "tags can be learnt from it, but nothing scored: export outlines, with iscrowd 0"
            )
        row, path = self.place[image_id], self.files[image_id]
        width, height = map(int, self.index.sizes[row])
        check_upright(path, (width, height), self.origin)
        if (width, height) != tuple(size):
            raise UserError(
                f"{self.origin}: says that {self.index.files[row]} is {width} x {height}, the image is {size[0]} x {size[1]}; "
                "take images and instances of one year"
            )
        return Image.fromarray(self.painted(row))

    def painted(self, row: int) -> np.ndarray:
        """Labels (H, W) uint8 of a row of the index, whatever its picture is.

        Crowd regions come first, so that an instance that lies in one keeps its label; then the larger ones, so that what lies in
        front of them, which is mostly smaller, is not painted over.
        """
        from pycocotools import mask as codec

        width, height = self.index.sizes[row].tolist()
        labels = np.zeros((height, width), np.uint8)
        for shape in sorted(self._shapes(row), key=lambda shape: (shape.label != IGNORE, -shape.area)):
            if shape.code:
                labels[codec.decode({"size": [height, width], "counts": shape.code}) > 0] = shape.label
        return labels

    def _shapes(self, row: int) -> Iterator["_Shape"]:
        """What is painted for each instance of an image, read where the index says that it stands."""
        source, of_image = Path(self.origin), slice(self.index.first[row], self.index.first[row + 1])
        size, categories = self.index.sizes[row].tolist(), self.index.categories[of_image].tolist()
        for text, category in zip(index.texts(source, self.stamp, self.index, of_image), categories, strict=True):
            try:
                yield _painted(source, size, instances.annotation(source, decoded(text), 0), category)
            except BROKEN as error:  # nothing that `build` has let pass: the cache is not what was written, or not of this file
                raise UserError(
                    f"{index.folder()}: what is kept there of {source} does not fit it ({first_line(error)}); delete the folder"
                ) from error


def open_split(root: str | Path, split: str) -> Instances:
    """Find a split, as `annotations/instances_SPLIT.json` and the images in `SPLIT/`; images without an instance are left out.

    An id is a file's name without its ending, or as much more of it as tells it from others.

    Raises:
        UserError: no such split, a file of another year, damaged or ambiguous instances, missing images.
    """
    root = Path(root)
    if not is_plain(split):
        raise UserError(f"split {split!r}: not the name of a split in {root}; give a folder's name, as train2014")
    path, folder = layout.place_of(root, split)
    stamp = index.stamp_of(path)
    found = index.kept(path, stamp, lambda: build(path, split))
    if not len(found.files):
        raise UserError(f"{path}: no image has an instance; nothing can be learned from it")
    names = find_files(folder, found.files.tolist(), path)
    ids = distinct_ids(names)
    files = {image_id: folder / name for image_id, name in zip(ids, names, strict=True)}
    place = {name: i for i, name in enumerate(ids)}
    return Instances(root, tuple(found.classes.tolist()), ids, str(path), folder, found, stamp, files, place)


def open_images(root: Path, split: str) -> Pictures:
    """The images of a split, those without an instance too: all in the folder of its name, or those that its file lists where
    that folder has others below it or two files of one name.

    Raises `UserError` as `open_split` does.
    """
    path, folder = layout.place_of(root, split)
    if folder == root / split:
        names = layout.listed(folder)
        flat = not any((folder / name).is_dir() for name in names)
        if flat and len({folded(Path(name).stem) for name in names}) == len(names):
            return open_pictures(folder)
    listed = instances.images(path, split, entries_of(path))
    found = find_files(folder, [row["file_name"] for row in listed], path)
    if not found:
        raise UserError(f"{path}: lists no images; name a split that has some")
    ids = distinct_ids(found)
    return Pictures(ids, {image_id: folder / name for image_id, name in zip(ids, found, strict=True)})


def build(path: Path, split: str) -> Index:
    """Read an instances file. Raises `UserError` for what is damaged, contradicts itself, or is of another year."""
    try:
        import pycocotools.mask  # noqa: F401
    except ImportError as error:
        raise UserError("pycocotools: not installed, and COCO's instances are read with it; `pip install pycocotools`") from error
    entries = entries_of(path)
    images = sorted(instances.images(path, split, entries), key=_by_number)
    categories = sorted(instances.categories(path, entries), key=_by_number)
    place = {image["id"]: i for i, image in enumerate(images)}
    sizes = np.array([(image["width"], image["height"]) for image in images], np.int32).reshape(-1, 2)
    of_image, named, masks = [], [], False
    for instance in instances.annotations(path, entries, place, {category["id"] for category in categories}):
        row = place[instance["image_id"]]
        of_image.append(row)
        named.append(instance["category_id"])
        size = sizes[row].tolist()
        masks = masks or _painted(path, size, instance, 0).label != IGNORE  # painted until one has a mask, then looked at only
        with _readable(path, instance):
            codes.sound(instance["segmentation"], size[1], size[0])
    classes = instances.classes(path, categories, {*named})
    number = {category["id"]: i + 1 for i, category in enumerate(classes)}
    order = np.argsort(of_image, kind="stable").astype(np.int64)
    shown, counts = np.unique(np.array(of_image, np.int64), return_counts=True)
    return Index(
        classes=np.array([category["name"] for category in classes], str),
        files=np.array([images[row]["file_name"] for row in shown], str),
        sizes=sizes[shown],
        first=np.r_[0, counts.cumsum()],
        categories=np.array([number[category] for category in named], np.uint8)[order],
        spans=index.spans(entries.text, entries.parts["annotations"])[order],
        masks=np.array(masks),
        text=np.frombuffer(b"" if entries.own else entries.text, np.uint8),
    )


class _Shape(NamedTuple):
    label: int
    area: int  # pixels, counted: the file's own `area` may be missing or wrong
    code: bytes


def _painted(path: Path, size: Sequence[int], instance: dict, category: int) -> _Shape:
    """What is painted for an instance: its mask; for one without a pixel its box as 255, since it is in there somewhere."""
    width, height = size
    with _readable(path, instance):
        code = codes.code_of(instance["segmentation"], height, width)
        area = codes.area(code, height, width)
    if not area:
        return _Shape(IGNORE, 0, codes.box_code(instance["bbox"], height, width))
    return _Shape(IGNORE if instance["iscrowd"] else category, area, code)


@contextlib.contextmanager
def _readable(path: Path, instance: dict) -> Iterator[None]:
    """What goes wrong with an instance's segmentation in here becomes a `UserError`."""
    try:
        yield
    except codes.SizeError as error:
        raise UserError(f"{path}: instance {instance['id']} {error}; {instances.REMEDY}") from error
    except Exception as error:  # C code underneath: it raises whatever it comes across
        words = f"{path}: instance {instance['id']} has no readable segmentation ({first_line(error)}); {instances.REMEDY}"
        raise UserError(words) from error


def _by_number(row: dict) -> tuple[int, str] | int:
    """Ids in the order of their numbers, also where they are words: "2" before "10"."""
    return (len(row["id"]), row["id"]) if isinstance(row["id"], str) else row["id"]
