"""MS COCO as published: images in `train2014/`, `val2014/`; instances in `annotations/instances_*.json`.

A split's instances file is half a gigabyte and takes a minute or two to read. What is needed of it (tags, and each
instance's mask in run-length code) is kept in a cache outside the data set, and read from there the next time.
"""

import contextlib
import hashlib
import io
import json
import math
import os
import re
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from dsgc.data.images import check_upright, is_plain, read_rgb
from dsgc.errors import UserError, first_line

VERSION = 2  # of the cache; another one is not read
IGNORE = 255
LONGEST = 65_535  # pixels of a side, as in JPEG
REMEDY = "correct the file or download it again"


class Index(NamedTuple):
    """What is kept of an instances file; images are those with at least one instance, by id."""

    classes: np.ndarray  # (C,) names, in the order of COCO's category ids, whose numbers have gaps
    files: np.ndarray  # (N,) names of the image files
    sizes: np.ndarray  # (N, 2) width, height
    first: np.ndarray  # (N + 1,) where the instances of each image begin, in the order in which they are painted
    labels: np.ndarray  # (M,) uint8 1..C; 255 for a crowd region
    categories: np.ndarray  # (M,) uint8 1..C, of crowd regions too
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
    place: dict[str, int]  # row of an id in the index

    def tags(self) -> np.ndarray:
        """Which classes the instances of each image name, (N, C) float32; a crowd region names its class too."""
        tags = np.zeros((len(self.ids), len(self.classes)), np.float32)
        images = np.repeat(np.arange(len(self.ids)), np.diff(self.index.first))
        tags[images, self.index.categories.astype(int) - 1] = 1
        return tags

    def image(self, image_id: str) -> Image.Image:
        """The picture in RGB; some of COCO's are grey."""
        return read_rgb(self.folder / str(self.index.files[self.place[image_id]]))

    def mask(self, image_id: str, size: Sequence[int]) -> Image.Image:
        """Labels painted from the instances: 255 for crowd regions, then the others, the larger ones first."""
        from pycocotools import mask as codec

        row = self.place[image_id]
        check_upright(self.folder / str(self.index.files[row]))
        width, height = map(int, self.index.sizes[row])
        if (width, height) != tuple(size):
            raise UserError(
                f"{self.origin}: says that {self.index.files[row]} is {width} x {height}, the image is {size[0]} x {size[1]}; "
                "take images and instances of one year"
            )
        labels = np.zeros((height, width), np.uint8)
        for instance in range(self.index.first[row], self.index.first[row + 1]):
            code = self.index.codes[self.index.starts[instance] : self.index.starts[instance + 1]].tobytes()
            try:
                if code and _pixels(code) != height * width:  # the C code below goes as far as the runs do
                    raise ValueError(f"its runs cover {_pixels(code)} pixels of {width} x {height}")
            except ValueError as error:  # `build` makes no such code: the cache is not what it wrote
                raise UserError(
                    f"{cache_folder()}: a mask of {self.index.files[row]} is damaged there ({first_line(error)}); delete the folder"
                ) from error
            if code:
                labels[codec.decode({"size": [height, width], "counts": code}) > 0] = self.index.labels[instance]
        return Image.fromarray(labels)


def open_split(root: str | Path, split: str) -> Instances:
    """Find a split: `annotations/instances_SPLIT.json` and the images in `SPLIT/`; images without an instance are left out.

    Raises:
        UserError: no such split, a file of another year, damaged or ambiguous instances, missing images.
    """
    root = Path(root)
    if not is_plain(split):
        raise UserError(f"split {split!r}: not the name of a split in {root}; give a folder's name, as train2014")
    path, folder = root / "annotations" / f"instances_{split}.json", root / split
    if not path.is_file():
        there = ", ".join(sorted(p.stem.removeprefix("instances_") for p in path.parent.glob("instances_*.json"))) or "none"
        raise UserError(f"{path}: no such split; splits found there: {there}")
    if not folder.is_dir():
        raise UserError(f"{folder}: missing; the images of {path.name} belong there")
    index = _cached(path, split)
    if not len(index.files):
        raise UserError(f"{path}: no image has an instance; nothing can be learned from it")
    there = {entry.name for entry in os.scandir(folder)}
    missing = [name for name in index.files.tolist() if name not in there]
    if missing:
        raise UserError(
            f"{folder / missing[0]}: missing, as are {len(missing) - 1} more of the {len(index.files)} images that {path.name} "
            "lists; complete the folder"
        )
    ids = tuple(Path(name).stem for name in index.files.tolist())
    return Instances(root, tuple(index.classes.tolist()), ids, str(path), folder, index, {name: i for i, name in enumerate(ids)})


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
    images, instances = len(index.files), len(index.labels)
    one = [(len(index.classes),), (images,), (images, 2), (images + 1,), (instances,), (instances,), (instances + 1,)]
    shapes = [*one, (len(index.codes),)]
    return (
        [(part.shape, part.dtype.kind) for part in index] == list(zip(shapes, "UUiiuuiu", strict=True))
        and all(map(is_plain, index.files.tolist()))
        and bool(((index.sizes >= 1) & (index.sizes <= LONGEST)).all())
        and all(ends[0] == 0 and (np.diff(ends) >= 0).all() for ends in (index.first, index.starts))
        and (index.first[-1], index.starts[-1]) == (instances, len(index.codes))
        and bool(((index.categories >= 1) & (index.categories <= len(index.classes))).all())
        and bool(((index.labels == index.categories) | (index.labels == IGNORE)).all())
    )


def build(path: Path, split: str) -> Index:
    """Read an instances file. Raises `UserError` for what is damaged, contradicts itself, or is of another year."""
    try:
        from pycocotools.coco import COCO
    except ImportError as error:
        raise UserError("pycocotools: not installed, and COCO's instances are read with it; `pip install pycocotools`") from error
    content = _checked(path, split)
    coco = COCO()
    coco.dataset = content
    with contextlib.redirect_stdout(io.StringIO()):  # it prints what it does
        coco.createIndex()
    number = {category: i + 1 for i, category in enumerate(sorted(coco.cats))}
    images = [coco.imgs[i] for i in sorted(coco.imgs) if coco.imgToAnns.get(i)]
    first, starts, labels, categories, codes = [0], [0], [], [], []
    for image in images:
        instances = coco.imgToAnns[image["id"]]
        # Crowd regions first, so that an instance that lies in one keeps its label; then the larger ones, so that what lies
        # in front of them, which is mostly smaller, is not painted over.
        for instance in sorted(instances, key=lambda item: (not item.get("iscrowd"), -item.get("area", 0))):
            label = number[instance["category_id"]]
            categories.append(label)
            labels.append(IGNORE if instance.get("iscrowd") else label)
            codes.append(_code(coco, path, image, instance))
            starts.append(starts[-1] + len(codes[-1]))
        first.append(len(labels))
    return Index(
        classes=np.array([coco.cats[i]["name"] for i in sorted(coco.cats)], str),
        files=np.array([image["file_name"] for image in images], str),
        sizes=np.array([(image["width"], image["height"]) for image in images], np.int32).reshape(-1, 2),
        first=np.array(first, np.int64),
        labels=np.array(labels, np.uint8),
        categories=np.array(categories, np.uint8),
        starts=np.array(starts, np.int64),
        codes=np.frombuffer(b"".join(codes), np.uint8),
    )


def _code(coco: Any, path: Path, image: dict, instance: dict) -> bytes:
    """The compressed run-length code of an instance's mask; empty where it has no area."""
    shape = instance["segmentation"]
    try:
        if isinstance(shape, list):
            shape = [polygon for polygon in shape if len(polygon) >= 6]  # two points span no area, and would be taken for a box
            if not shape:
                return b""
            far = 2 * max(image["width"], image["height"])
            for polygon in shape:  # the C code below dies of a NaN, and walks along an edge however long it is
                if not (-far <= min(polygon) and max(polygon) <= far and math.isfinite(sum(polygon))):
                    raise ValueError("a polygon leads far out of the image")
        code = coco.annToRLE(instance | {"segmentation": shape})
        size, counts = tuple(code["size"]), code["counts"]
        counts = counts if isinstance(counts, bytes) else counts.encode()
        if isinstance(shape, dict) and _pixels(counts) != size[0] * size[1]:  # the C code leaves the others as memory has them
            raise ValueError(f"its runs cover {_pixels(counts)} pixels of {size[1]} x {size[0]}")
    except Exception as error:  # C code underneath: it raises whatever it comes across
        raise UserError(f"{path}: instance {instance['id']} has no readable segmentation ({first_line(error)}); {REMEDY}") from error
    if size != (image["height"], image["width"]):
        raise UserError(
            f"{path}: instance {instance['id']} has a mask of {size[1]} x {size[0]}, its image another size; {REMEDY}"
        )
    return counts


def _pixels(code: bytes) -> int:
    """How many pixels the runs of a compressed code cover: numbers of 5 bits a letter, from the fourth on as differences."""
    runs, value, shift = [], 0, 0
    for letter in code:
        part = letter - 48
        value, shift = value | (part & 31) << shift, shift + 5
        if not part & 32:  # the last letter of a number; its highest bit is the sign
            value -= (part & 16) << (shift - 4)
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value, shift = 0, 0
        if not 0 <= part < 64 or (runs and runs[-1] < 0):
            raise ValueError("its run-length code is damaged")
    return sum(runs)


def _checked(path: Path, split: str) -> dict:
    """The content of an instances file, every field that is used there and of its type, every reference with one target."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:  # the last: brackets in brackets in brackets
        raise UserError(f"{path}: not a readable instances file ({first_line(error)}); download it again") from error
    fields = {
        "images": {"id": int, "file_name": str, "width": int, "height": int},
        "annotations": {"id": int, "image_id": int, "category_id": int, "segmentation": (list, dict)},
        "categories": {"id": int, "name": str},
    }
    for part, needed in fields.items():
        rows = content.get(part) if isinstance(content, dict) else None
        if not isinstance(rows, list):
            raise UserError(f"{path}: has no list {part!r}; an instances file of COCO is needed, not captions or keypoints")
        for row in rows:
            for name, kind in needed.items():
                if not isinstance(row, dict) or not isinstance(row.get(name), kind):
                    raise UserError(f"{path}: an entry of {part!r} lacks {name!r} or has it of another type: {str(row)[:80]!r}; {REMEDY}")
        twice = [value for value, count in Counter(row["id"] for row in rows).items() if count > 1]
        if twice:
            raise UserError(f"{path}: {len(twice)} ids of {part!r} are not unique, the first is {twice[0]}; download the file again")
    info, wanted = content.get("info"), re.search(r"\d{4}$", split)
    year = str(info.get("year", "")) if isinstance(info, dict) else ""
    if year and wanted and year != wanted[0]:
        raise UserError(f"{path}: is of {year}, the split of {wanted[0]}; take the file that belongs to {split}")
    names = Counter(image["file_name"] for image in content["images"])
    for name, count in names.items():
        if count > 1:
            raise UserError(f"{path}: {count} images have the file name {name}; download the file again")
        if not is_plain(name):
            raise UserError(f"{path}: {name[:80]!r} is not a plain file name; the images lie in {split}, without folders below it")
    for row in content["images"]:
        if not (1 <= row["width"] <= LONGEST and 1 <= row["height"] <= LONGEST):
            raise UserError(f"{path}: image {row['file_name']} is said to be {row['width']} x {row['height']}; {REMEDY}")
    if not 1 <= len(content["categories"]) <= 254:
        raise UserError(f"{path}: {len(content['categories'])} categories; it must be 1 to 254")
    if len({row["name"] for row in content["categories"]}) < len(content["categories"]):
        raise UserError(f"{path}: two categories have the same name; {REMEDY}")
    images, categories = ({row["id"] for row in content[part]} for part in ("images", "categories"))
    for row in content["annotations"]:
        for name, known in (("image_id", images), ("category_id", categories)):
            if row[name] not in known:
                raise UserError(f"{path}: instance {row['id']} has {name} {row[name]}, which the file does not list; {REMEDY}")
        if not isinstance(row.get("area", 0), int | float) or not 0 <= row.get("area", 0) <= LONGEST**2:
            raise UserError(f"{path}: instance {row['id']} has the area {str(row['area'])[:40]!r}, which is none; {REMEDY}")
    return content
