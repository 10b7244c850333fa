"""The classes of a data set in VOC's layout, from a list: which line is which label."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from dsgc.data.images import read_lines
from dsgc.errors import UserError

VOC = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog", "horse",
    "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
FILES = ("classes.txt", "class_names.txt", "labelmap.txt")  # the second is labelme2voc's, the third CVAT's
NUMBERED = re.compile(r"(\d+)(?:(\s*[:.,;)=]\s*)|\s+)(.*\S)")  # the second group: what parts number and name, if no blank
COLOURED = re.compile(r"([^:]*[^:\s])\s*:\s*(\d+\s*,\s*\d+\s*,\s*\d+)?\s*:[^:]*:[^:]*")  # CVAT's: name:red,green,blue:parts:actions


class Classes(NamedTuple):
    """The foreground classes, labels 1, 2, ... in this order; the file that they come from, and what was made of its lines."""

    names: tuple[str, ...]
    origin: str
    notes: tuple[str, ...] = ()


def read_classes(root: Path) -> Classes:
    """The foreground classes: of `classes.txt`, one a line, else of the lists that labelme and CVAT write, else VOC's 20.

    The number of a line is the label. What stands at the top without being a class is understood: `__ignore__` (255), a name
    of the background (0), comments; so are lines with numbers that say the same, and CVAT's with colours.

    Raises:
        UserError: a list that leaves open which label a class has, that names one twice, or that has none.
    """
    path = next((root / name for name in FILES if (root / name).exists()), None)
    if path is None:
        return Classes(VOC, "VOC's own, as there is no classes.txt")
    lines = [line.strip() for line in read_lines(path)]
    kept = [line for line in lines if not line.startswith("#")]
    notes = ["comments are left out"] if len(kept) < len(lines) else []
    kept, form = _without_form(path, kept)
    notes += form
    if kept and _is_ignored(kept[0]) and len(kept) > 1 and is_background(kept[1]):
        notes.append(f"{kept[0]!r} is label 255")
        kept = kept[1:]
    if kept and is_background(kept[0]):
        notes.append(f"{kept[0]!r} is label 0")
        kept = kept[1:]
    for name in kept:
        if is_background(name) or _is_ignored(name) or name.endswith(":"):
            raise UserError(
                f"{path}: {name!r} is no class, so that it is not clear which labels the lines after it have; take it off the list"
            )
    if not 1 <= len(kept) <= 254 or len(set(kept)) < len(kept):
        raise UserError(f"{path}: must list 1 to 254 different class names, one a line, background left out")
    said = f"{path}: {', '.join(notes)}; {kept[0]!r} is label 1" if notes else ""
    return Classes(tuple(kept), str(path), (said,) if said else ())


def is_background(name: str) -> bool:
    """Whether a list's entry names the background: `background`, `_background_`, `__Background__`, `bg`."""
    return name.strip(" _-<>[]").casefold() in ("background", "bg")


def _is_ignored(name: str) -> bool:
    return name.strip(" _-<>[]").casefold() in ("ignore", "ignored", "void")


def _without_form(path: Path, lines: Sequence[str]) -> tuple[list[str], list[str]]:
    """The names of lines that hold more, if all do: CVAT's colours, or numbers; and a note on it."""
    coloured = [COLOURED.fullmatch(line) for line in lines]
    if lines and all(coloured):
        _check_colours(path, [match[1] for match in coloured], [match[2] for match in coloured])
        return [match[1] for match in coloured], ["colours are left out"]
    numbered = [NUMBERED.fullmatch(line) for line in lines]
    names = [match[3] for match in numbered if match]
    if lines and len(set(names)) == len(lines):  # "1 cent", "1 euro" are names
        first, numbers = int(numbered[0][1]), [int(match[1]) for match in numbered]
        counted = numbers == list(range(first, first + len(numbers)))
        if counted and first == (0 if is_background(names[0]) else 1):
            return names, ["numbers are left out"]
        if (counted and first < 2) or all(match[2] for match in numbered):  # else they are parts of names, as in "2 doors"
            raise UserError(
                f"{path}: its numbers are not those of labels, 1, 2, ... in this order and 0 for the background alone; "
                "list names in the order of their labels"
            )
    return list(lines), []


def _check_colours(path: Path, names: Sequence[str], colours: Sequence[str | None]) -> None:
    """Refuse a list whose colours are those of VOC's palette in another order: its lines and its masks would disagree."""
    from dsgc.data.palette import voc_palette

    label_of = {tuple(colour): label for label, colour in enumerate(voc_palette()[: len(names) + 1].tolist())}
    first = 0 if names and is_background(names[0]) else 1
    for place, (name, colour) in enumerate(zip(names, colours, strict=True), first):
        label = label_of.get(tuple(map(int, colour.split(",")))) if colour else None
        if label not in (None, place) and not is_background(name):
            raise UserError(
                f"{path}: {name!r} is number {place} of the classes, but has VOC's colour of label {label}; sort the lines by label"
            )
