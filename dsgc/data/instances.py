"""An instances file as strangers write it: what can be read in one way only is read, anything else refused in one line.

Exporters differ in what they leave out (`info`, `area`, `iscrowd`), in how they write a number (1.0, "640"), and in categories that
stand for no class. What is used afterwards has one form: whole numbers, and 0 or 1 for `iscrowd`.
"""

import json
import math
import re
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from dsgc.data.images import is_plain
from dsgc.errors import UserError, first_line

LONGEST = 65_535  # pixels of a side, as in JPEG
REMEDY = "correct the file or download it again"
BACKGROUND = ("background", "_background_", "__background__", "__ignore__")  # categories of exporters that are no class
YEARS = ("2014", "2015", "2017")  # of COCO's sets; another one is when somebody exported a file
PARTS = {  # what an entry must have; of ids only that they are alike
    "images": ("id", "file_name", "width", "height"),
    "annotations": ("id", "image_id", "category_id"),
    "categories": ("id", "name"),
}


def read(path: Path, split: str) -> dict[str, list[dict]]:
    """The content of an instances file: every field that is used there and of its type, every reference with one target.

    Raises:
        UserError: it cannot be read, lacks something or contradicts itself, or is of another year of COCO.
    """
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:  # the last: brackets in brackets in brackets
        raise UserError(f"{path}: not a readable instances file ({first_line(error)}); download it again") from error
    for part in PARTS:
        if not isinstance(content, dict) or not isinstance(content.get(part), list):
            raise UserError(f"{path}: has no list {part!r}; an instances file of COCO is needed, not captions or keypoints")
    _number_instances(content["annotations"])
    for part in PARTS:
        content[part] = [_entry(path, part, row) for row in content[part]]
    for part in PARTS:
        twice = [value for value, count in Counter(row["id"] for row in content[part]).items() if count > 1]
        if twice:
            raise UserError(f"{path}: {len(twice)} ids of {part!r} are not unique, the first is {twice[0]}; download the file again")
    _check_year(path, split, content.get("info"))
    _check_images(path, split, content["images"])
    _check_references(path, content)
    content["categories"] = _classes(path, content)
    return {part: content[part] for part in PARTS}


def number(value: Any) -> Any:
    """A whole number written as 1.0 as what it is; anything else as it was."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def inside(name: str) -> bool:
    """Whether a file's name, with folders in front or without, leads to no other place."""
    return all(map(is_plain, name.split("/")))


def _number_instances(rows: list) -> None:
    """Ids of instances name them in messages and nothing else: where no entry has one, they get their places."""
    if not any(isinstance(row, dict) and row.get("id") is not None for row in rows):
        for place, row in enumerate(rows, 1):
            if isinstance(row, dict):
                row["id"] = place


def _entry(path: Path, part: str, row: Any) -> dict:
    """An entry with the fields that are used, each in its one form."""
    given = row if isinstance(row, dict) else {}
    found = {name: number(given.get(name)) for name in PARTS[part]}
    if part == "images":
        found["file_name"] = _file_name(given)
        found |= {side: int(found[side]) for side in ("width", "height") if isinstance(found[side], str) and found[side].isdecimal()}
    for name, value in found.items():
        kinds = str if name in ("file_name", "name") else int if name in ("width", "height") else int | str
        if not isinstance(value, kinds) or isinstance(value, bool):
            raise UserError(f"{path}: an entry of {part!r} lacks {name!r} or has it of another type: {str(row)[:80]!r}; {REMEDY}")
    if part == "annotations":
        found |= {"segmentation": given.get("segmentation"), "bbox": given.get("bbox"), "iscrowd": _crowd(path, given)}
        if not isinstance(found["segmentation"], list | dict | None):
            raise UserError(f"{path}: an entry of {part!r} lacks 'segmentation' or has it of another type: {str(row)[:80]!r}; {REMEDY}")
        _check_area(path, given)
    if part == "categories":
        found["supercategory"] = given.get("supercategory")
    return found


def _file_name(row: dict) -> Any:
    """The name of an image's file; folders in front are kept, with slashes. Without one, what COCO's address of it ends in."""
    name = row.get("file_name")
    if name is None and isinstance(row.get("coco_url"), str):
        name = urlparse(row["coco_url"]).path.lstrip("/")
    return name.replace("\\", "/").removeprefix("./") if isinstance(name, str) and not name.startswith("\\") else name


def _crowd(path: Path, row: dict) -> int:
    value = row.get("iscrowd")
    if value not in (None, 0, 1, "0", "1"):
        raise UserError(f"{path}: instance {row['id']} has iscrowd {str(value)[:40]!r}; it must be 0 or 1")
    return int(value or 0)


def _check_area(path: Path, row: dict) -> None:
    """The area is not used, since exporters leave it out or get it wrong; one that is no number at all is damage."""
    try:
        sound = row.get("area") is None or math.isfinite(float(row["area"]))
    except (TypeError, ValueError, OverflowError):
        sound = False
    if not sound:
        raise UserError(f"{path}: instance {row['id']} has the area {str(row['area'])[:40]!r}, which is none; {REMEDY}")


def _check_year(path: Path, split: str, info: Any) -> None:
    """The year of a file is evidence only where it is that of one of COCO's sets and the split is another's."""
    wanted = re.search(r"\d{4}$", split)
    year = str(number(info.get("year"))) if isinstance(info, dict) else ""
    if wanted and year in YEARS and wanted[0] in YEARS and year != wanted[0]:
        raise UserError(f"{path}: is of {year}, the split of {wanted[0]}; take the file that belongs to {split}")


def _check_images(path: Path, split: str, rows: list[dict]) -> None:
    for name, count in Counter(row["file_name"] for row in rows).items():
        if count > 1:
            raise UserError(f"{path}: {count} images have the file name {name}; download the file again")
        if not inside(name):
            raise UserError(f"{path}: {name[:80]!r} is not a plain file name; give it as it lies below {split}, no way to other folders")
    for row in rows:
        if not (1 <= row["width"] <= LONGEST and 1 <= row["height"] <= LONGEST):
            raise UserError(f"{path}: image {row['file_name']} is said to be {row['width']} x {row['height']}; {REMEDY}")


def _check_references(path: Path, content: dict) -> None:
    for name, part in (("image_id", "images"), ("category_id", "categories")):
        known = {row["id"] for row in content[part]}
        kinds = {type(value) for value in known}
        if len(kinds) > 1:
            raise UserError(f"{path}: ids of {part!r} are numbers and words; {REMEDY}")
        for row in content["annotations"]:
            if kinds and type(row[name]) not in kinds:
                raise UserError(f"{path}: an entry of 'annotations' lacks {name!r} or has it of another type: {str(row)[:80]!r}; {REMEDY}")
            if row[name] not in known:
                raise UserError(f"{path}: instance {row['id']} has {name} {row[name]}, which the file does not list; {REMEDY}")


def _classes(path: Path, content: dict) -> list[dict]:
    """The categories that are classes: not background, and not the one over all others that Roboflow adds and never uses."""
    rows, used = content["categories"], {row["category_id"] for row in content["annotations"]}
    found = []
    for row in rows:
        background, others = row["name"].strip().lower() in BACKGROUND, [other for other in rows if other is not row]
        if background and row["id"] in used:
            raise UserError(
                f"{path}: instances are of the category {row['name']!r}, which is no class; background is what no instance covers: "
                "take them out"
            )
        over_all = row["id"] == 0 and others and all(other["supercategory"] == row["name"] for other in others)
        if not background and (row["id"] in used or not over_all):
            found.append(row)
    if not 1 <= len(found) <= 254:
        raise UserError(f"{path}: {len(found)} categories; it must be 1 to 254")
    if len({row["name"] for row in found}) < len(found):
        raise UserError(f"{path}: two categories have the same name; {REMEDY}")
    return found
