"""Labels as other programs read them: palette PNGs and a list in VOC's form, COCO's JSON with run-length codes, or PNGs alone."""

import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from PIL import Image

from dsgc.data.lists import LARGEST, LISTS
from dsgc.data.palette import voc_palette

IGNORE = 255
Format = Literal["voc", "coco", "plain"]
FOLDERS: dict[str, str] = {"voc": "SegmentationClass", "coco": "labels", "plain": "labels"}  # of the PNGs, whatever else there is


class Labelled(NamedTuple):
    """A picture and its label."""

    image_id: str
    file: str  # the picture's name
    labels: np.ndarray  # (H, W) uint8: 0, 1..C, 255


def write_png(path: Path, labels: np.ndarray) -> None:
    """Labels (H, W) uint8 as a PNG in VOC's palette, whatever the ending of `path`."""
    image = Image.fromarray(labels)
    image.putpalette(voc_palette().ravel().tolist())
    image.save(path, "PNG")


def list_of(split: str) -> str:
    """The file, within a folder of VOC's form, that lists the ids of a split; `largest` is no name of a list."""
    return f"{LISTS}/{'train' if split == LARGEST else split}.txt"


def write_lines(path: Path, lines: Sequence[str]) -> None:
    """A text file, a line for each of `lines`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


class CocoFile:
    """A COCO instances file that is written as pictures come, so that memory does not grow with their number.

    Each class of a picture is one annotation, in COCO's compressed run-length code. COCO has no place for pixels without a
    label: what is 255 stands as such a code under `unlabelled` with its picture, where readers that do not know it pass it over.
    """

    def __init__(self, path: Path, classes: Sequence[str]):
        self.path, self.images, self.annotations = path, 0, 0
        self.categories = [{"id": number, "name": name, "supercategory": ""} for number, name in enumerate(classes, 1)]

    def __enter__(self) -> "CocoFile":
        self.rows = tempfile.TemporaryFile("w+", encoding="utf-8", dir=self.path.parent)  # annotations, which come behind all images
        self.file = self.path.open("w", encoding="utf-8")
        self.file.write('{"info": {"description": "pseudo labels; `unlabelled` of an image is what has no label"},\n"images": [')
        return self

    def add(self, item: Labelled) -> None:
        """Write a picture and what its label shows."""
        self.images += 1
        (height, width), there = item.labels.shape, np.flatnonzero(np.bincount(item.labels.ravel(), minlength=IGNORE + 1))
        image: dict[str, Any] = {"id": self.images, "file_name": item.file, "width": width, "height": height}
        for label in (int(label) for label in there if label):
            code, area, box = encoded(item.labels == label)
            if label == IGNORE:
                image["unlabelled"] = code
                continue
            self.annotations += 1
            row = {"id": self.annotations, "image_id": self.images, "category_id": label, "iscrowd": 0, "area": area, "bbox": box}
            self.rows.write(("," if self.annotations > 1 else "") + "\n" + json.dumps(row | {"segmentation": code}))
        self.file.write(("," if self.images > 1 else "") + "\n" + json.dumps(image))

    def __exit__(self, kind: type | None, *_: object) -> None:
        with self.file, self.rows:
            if kind is not None:
                return
            self.file.write('],\n"annotations": [')
            self.rows.seek(0)
            shutil.copyfileobj(self.rows, self.file)
            self.file.write(f'],\n"categories": {json.dumps(self.categories)}}}\n')


def encoded(mask: np.ndarray) -> tuple[dict[str, Any], int, list[float]]:
    """COCO's compressed run-length code of a mask (H, W) bool, its area in pixels, and its box: left, top, width, height."""
    from pycocotools import mask as codec

    code = codec.encode(np.asfortranarray(mask, np.uint8))
    area, box = int(codec.area(code)), codec.toBbox(code).tolist()
    return {"size": list(mask.shape), "counts": code["counts"].decode("ascii")}, area, box
