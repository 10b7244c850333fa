"""MS COCO as published: images in `train2014/`, `val2014/`; instances in `annotations/instances_*.json`; and what others export.

A split's instances file is half a gigabyte and takes a minute or two to read. What is needed of it (tags, and each
instance's mask in run-length code) is kept in a cache outside the data set, and read from there the next time.
"""

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from dsgc.data import codes, instances, layout
from dsgc.data.images import Pictures, check_upright, is_plain, open_pictures, read_rgb
from dsgc.data.names import distinct_ids, find_files, folded
from dsgc.errors import UserError, first_line

VERSION = 3  # of the cache; another one is not read
IGNORE = 255


class Index(NamedTuple):
    """What is kept of an instances file; images are those with at least one instance, by id."""

    classes: np.ndarray  # (C,) names, in the order of COCO's category ids, whose numbers have gaps
    files: np.ndarray  # (N,) names of the image files, with folders in front where the file has them
    sizes: np.ndarray  # (N, 2) width, height
    first: np.ndarray  # (N + 1,) where the instances of each image begin, in the order in which they are painted
    labels: np.ndarray  # (M,) uint8 1..C; 255 for a crowd region, and for the box of an instance without a pixel
    categories: np.ndarray  # (M,) uint8 1..C, of those too
    starts: np.ndarray  # (M + 1,) where the code of each instance begins
    codes: np.ndarray  # uint8, the compressed run-length codes one after another


class Instances(NamedTuple):
    """A split in COCO's layout."""

    root: Path
    classes: tuple[str, ...]
    ids: tuple[str, ...]
    origin: str
    folder: Path
    index: Index
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
        """Labels painted from the instances: 255 for crowd regions and boxes without a mask, then the others, larger ones first."""
        from pycocotools import mask as codec

        if (self.index.labels == IGNORE).all():
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
        labels = np.zeros((height, width), np.uint8)
        for instance in range(self.index.first[row], self.index.first[row + 1]):
            code = self.index.codes[self.index.starts[instance] : self.index.starts[instance + 1]].tobytes()
            try:
                if code and codes.pixels(code) != height * width:  # the C code below goes as far as the runs do
                    raise ValueError(f"its runs cover {codes.pixels(code)} pixels of {width} x {height}")
            except ValueError as error:  # `build` makes no such code: the cache is not what it wrote
                raise UserError(
                    f"{cache_folder()}: a mask of {self.index.files[row]} is damaged there ({first_line(error)}); delete the folder"
                ) from error
            if code:
                labels[codec.decode({"size": [height, width], "counts": code}) > 0] = self.index.labels[instance]
        return Image.fromarray(labels)


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
    index = _cached(path, split)
    if not len(index.files):
        raise UserError(f"{path}: no image has an instance; nothing can be learned from it")
    found = find_files(folder, index.files.tolist(), path)
    ids = distinct_ids(found)
    files = {image_id: folder / name for image_id, name in zip(ids, found, strict=True)}
    return Instances(
        root, tuple(index.classes.tolist()), ids, str(path), folder, index, files, {name: i for i, name in enumerate(ids)}
    )


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
    found = find_files(folder, [row["file_name"] for row in instances.read(path, split)["images"]], path)
    if not found:
        raise UserError(f"{path}: lists no images; name a split that has some")
    ids = distinct_ids(found)
    return Pictures(ids, {image_id: folder / name for image_id, name in zip(ids, found, strict=True)})


def cache_folder() -> Path | None:
    """Where indices are kept: `dsgc` in the user's cache folder; nowhere for a user without a home, as in a container."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dsgc"
    except RuntimeError:
        return None


def _cached(path: Path, split: str) -> Index:
    """The index of an instances file; made anew if the file is not the one it was made from, or if it is damaged itself."""
    folder = cache_folder()
    if folder is None:
        return build(path, split)
    stat = path.stat()
    key = f"{path.resolve()} {stat.st_size} {stat.st_mtime_ns} {VERSION}"
    kept = folder / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.npz"
    with contextlib.suppress(Exception), np.load(kept, allow_pickle=False) as arrays:  # damaged bytes make it raise almost anything
        index = Index(**{name: arrays[name] for name in Index._fields})
        if _sound(index):
            return index
    index = build(path, split)
    with contextlib.suppress(OSError):  # a cache that cannot be written costs the same time again
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=kept.parent, suffix=".partial", delete=False) as partial:
            try:
                np.savez(partial, **index._asdict())
                partial.close()
                os.replace(partial.name, kept)
            except OSError:
                os.unlink(partial.name)
                raise
    return index


def _sound(index: Index) -> bool:
    """Whether the parts of an index fit each other; the cache is a file, and `build` need not have written it."""
    images, painted = len(index.files), len(index.labels)
    one = [(len(index.classes),), (images,), (images, 2), (images + 1,), (painted,), (painted,), (painted + 1,)]
    shapes = [*one, (len(index.codes),)]
    return (
        [(part.shape, part.dtype.kind) for part in index] == list(zip(shapes, "UUiiuuiu", strict=True))
        and all(map(instances.inside, index.files.tolist()))
        and bool(((index.sizes >= 1) & (index.sizes <= instances.LONGEST)).all())
        and all(ends[0] == 0 and (np.diff(ends) >= 0).all() for ends in (index.first, index.starts))
        and (index.first[-1], index.starts[-1]) == (painted, len(index.codes))
        and bool(((index.categories >= 1) & (index.categories <= len(index.classes))).all())
        and bool(((index.labels == index.categories) | (index.labels == IGNORE)).all())
    )


def build(path: Path, split: str) -> Index:
    """Read an instances file. Raises `UserError` for what is damaged, contradicts itself, or is of another year."""
    try:
        import pycocotools.mask  # noqa: F401
    except ImportError as error:
        raise UserError("pycocotools: not installed, and COCO's instances are read with it; `pip install pycocotools`") from error
    content = instances.read(path, split)
    categories = sorted(content["categories"], key=_by_number)
    number = {category["id"]: i + 1 for i, category in enumerate(categories)}
    of_image: dict[int | str, list[dict]] = {}
    for instance in content["annotations"]:
        of_image.setdefault(instance["image_id"], []).append(instance)
    images = sorted((image for image in content["images"] if image["id"] in of_image), key=_by_number)
    first, starts, labels, named, found = [0], [0], [], [], []
    for image in images:
        shapes = [_painted(path, image, instance, number[instance["category_id"]]) for instance in of_image[image["id"]]]
        # Crowd regions first, so that an instance that lies in one keeps its label; then the larger ones, so that what lies
        # in front of them, which is mostly smaller, is not painted over.
        for shape in sorted(shapes, key=lambda shape: (shape.label != IGNORE, -shape.area)):
            named.append(shape.category)
            labels.append(shape.label)
            found.append(shape.code)
            starts.append(starts[-1] + len(shape.code))
        first.append(len(labels))
    return Index(
        classes=np.array([category["name"] for category in categories], str),
        files=np.array([image["file_name"] for image in images], str),
        sizes=np.array([(image["width"], image["height"]) for image in images], np.int32).reshape(-1, 2),
        first=np.array(first, np.int64),
        labels=np.array(labels, np.uint8),
        categories=np.array(named, np.uint8),
        starts=np.array(starts, np.int64),
        codes=np.frombuffer(b"".join(found), np.uint8),
    )


class _Shape(NamedTuple):
    category: int
    label: int
    area: int  # pixels, counted: the file's own `area` may be missing or wrong
    code: bytes


def _painted(path: Path, image: dict, instance: dict, category: int) -> _Shape:
    """What is painted for an instance: its mask; for one without a pixel its box as 255, since it is in there somewhere."""
    size = (image["height"], image["width"])
    try:
        code = codes.code_of(instance["segmentation"], *size)
        area = codes.area(code, *size)
    except codes.SizeError as error:
        raise UserError(f"{path}: instance {instance['id']} {error}; {instances.REMEDY}") from error
    except Exception as error:  # C code underneath: it raises whatever it comes across
        words = f"{path}: instance {instance['id']} has no readable segmentation ({first_line(error)}); {instances.REMEDY}"
        raise UserError(words) from error
    if not area:
        return _Shape(category, IGNORE, 0, codes.box_code(instance["bbox"], *size))
    return _Shape(category, IGNORE if instance["iscrowd"] else category, area, code)


def _by_number(row: dict) -> tuple[int, str] | int:
    """Ids in the order of their numbers, also where they are words: "2" before "10"."""
    return (len(row["id"]), row["id"]) if isinstance(row["id"], str) else row["id"]
