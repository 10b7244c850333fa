"""An instances file as strangers write it: what can be read in one way only is read, anything else refused in one line.

Exporters differ in what they leave out (`info`, `area`, `iscrowd`), in how they write a number (1.0, "640"), and in categories that
stand for no class. What is used afterwards has one form: whole numbers, and 0 or 1 for `iscrowd`.
"""

import math
import re
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from dsgc.data.entries import Entries, rows
from dsgc.data.images import is_plain
from dsgc.errors import UserError

LONGEST = 65_535  # pixels of a side, as in JPEG
REMEDY = "correct the file or download it again"
BACKGROUND = ("background", "_background_", "__background__", "__ignore__")  # categories of exporters that are no class
YEARS = ("2014", "2015", "2017")  # of COCO's sets; another one is when somebody exported a file
FIELDS = {  # what an entry must have; of ids only that they are alike
    "images": ("id", "file_name", "width", "height"),
    "annotations": ("id", "image_id", "category_id"),
    "categories": ("id", "name"),
}


def images(path: Path, split: str, entries: Entries) -> list[dict]:
    """The images of an instances file: the fields that are used there, of their types.

    Raises:
        UserError: one lacks something or contradicts another, or the file is of another year of COCO.
    """
    found = [_entry(path, "images", row) for row in rows(path, entries, "images")]
    _check_unique(path, "images", [row["id"] for row in found])
    _check_year(path, split, entries.info)
    _check_images(path, split, found)
    return found


def categories(path: Path, entries: Entries) -> list[dict]:
    """The categories of an instances file; `classes` tells which of them are such. Raises `UserError` as `images` does."""
    found = [_entry(path, "categories", row) for row in rows(path, entries, "categories")]
    _check_unique(path, "categories", [row["id"] for row in found])
    return found


def annotations(path: Path, entries: Entries, image_ids: Collection[int | str], category_ids: Collection[int | str]) -> Iterator[dict]:
    """The instances of a file one after another; they may name these images and categories.

    Raises:
        UserError: one lacks something or names what is not there; at the end, two have one id.
    """
    known = {"image_id": image_ids, "category_id": category_ids}
    kinds = {name: {type(value) for value in there} for name, there in known.items()}
    for name, part in (("image_id", "images"), ("category_id", "categories")):
        if len(kinds[name]) > 1:
            raise UserError(f"{path}: ids of {part!r} are numbers and words; {REMEDY}")
    numbered = any(isinstance(row, dict) and row.get("id") is not None for row in rows(path, entries, "annotations"))
    ids = []
    for place, row in enumerate(rows(path, entries, "annotations"), 1):
        found = annotation(path, row, None if numbered else place)
        for name, there in known.items():
            if kinds[name] and type(found[name]) not in kinds[name]:
                raise _wrong(path, "annotations", name, row)
            if found[name] not in there:
                raise UserError(f"{path}: instance {found['id']} has {name} {found[name]}, which the file does not list; {REMEDY}")
        ids.append(found["id"])
        yield found
    _check_unique(path, "annotations", ids)


def annotation(path: Path, row: Any, place: int | None) -> dict:
    """An instance with the fields that are used, each in its one form. Raises `UserError` where it lacks one.

    place: its id if it has none; an id names an instance in messages and nothing else.
    """
    if place is not None and isinstance(row, dict) and row.get("id") is None:
        row["id"] = place
    found = _entry(path, "annotations", row)
    found |= {"segmentation": row.get("segmentation"), "bbox": row.get("bbox"), "iscrowd": _crowd(path, row)}
    if not isinstance(found["segmentation"], list | dict | None):
        raise _wrong(path, "annotations", "segmentation", row)
    _check_area(path, row)
    return found


def number(value: Any) -> Any:
    """A whole number written as 1.0 as what it is; anything else as it was."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def inside(name: str) -> bool:
    """Whether a file's name, with folders in front or without, leads to no other place."""
    return all(map(is_plain, name.split("/")))


def _entry(path: Path, part: str, row: Any) -> dict:
    """An entry's fields that it must have, each in its one form."""
    given = row if isinstance(row, dict) else {}
    found = {name: number(given.get(name)) for name in FIELDS[part]}
    if part == "images":
        found["file_name"] = _file_name(given)
        found |= {side: int(found[side]) for side in ("width", "height") if isinstance(found[side], str) and found[side].isdecimal()}
    for name, value in found.items():
        kinds = str if name in ("file_name", "name") else int if name in ("width", "height") else int | str
        if not isinstance(value, kinds) or isinstance(value, bool):
            raise _wrong(path, part, name, row)
    if part == "categories":
        found["supercategory"] = given.get("supercategory")
    return found


def _wrong(path: Path, part: str, name: str, row: Any) -> UserError:
    return UserError(f"{path}: an entry of {part!r} lacks {name!r} or has it of another type: {str(row)[:80]!r}; {REMEDY}")


def _check_unique(path: Path, part: str, ids: list) -> None:
    if len({*ids}) == len(ids):
        return
    twice = [value for value, count in Counter(ids).items() if count > 1]
    raise UserError(f"{path}: {len(twice)} ids of {part!r} are not unique, the first is {twice[0]}; download the file again")


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


def classes(path: Path, rows: list[dict], used: Collection[int | str]) -> list[dict]:
    """The categories that are classes: not background, and not the one over all others that Roboflow adds and never uses.

    `used` are the ids that instances name. Raises `UserError` where instances are of the background, and for no class or too many.
    """
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
