"""The entries of a COCO file one at a time: half a gigabyte of JSON takes six times as much as objects of Python.

The text is cut between the entries, without a look at what is in them, and each is decoded when its turn comes. So memory is that of
the text, and an entry that is needed later is found again by its place there.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from dsgc.errors import UserError, first_line

PARTS = ("images", "annotations", "categories")
BROKEN = (ValueError, RecursionError)  # what text that is no JSON raises; the last: brackets in brackets in brackets
MARK = "utf-8-sig"  # UTF-8 with a byte order mark, which is three bytes long


class Entries(NamedTuple):
    """A file that has been cut."""

    text: bytes  # UTF-8, in which the entries lie
    own: bool  # whether the text is the file's content, byte for byte
    parts: dict[str, Sequence]  # of each of `PARTS` the pieces of text, in order
    info: Any


def entries_of(path: Path) -> Entries:
    """The entries of an instances file, whatever its encoding.

    Raises:
        UserError: it cannot be read, is no JSON, or lacks one of the three lists.
    """
    try:
        text = path.read_bytes()
        encoding = json.detect_encoding(text)
        own = encoding in ("utf-8", MARK)
        text = text if own else text.decode(encoding).encode()
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    try:
        whole = msgspec.json.decode(memoryview(text)[3 * (encoding == MARK) :], type=dict[str, msgspec.Raw])
        parts = {part: msgspec.json.decode(whole[part], type=list[msgspec.Raw]) for part in PARTS}
        return Entries(text, own, parts, decoded(whole["info"]) if "info" in whole else None)
    except (*BROKEN, KeyError):  # damaged, without a list, or no JSON for anybody but Python, as with NaN
        return _read_whole(path, text)


def decoded(entry: bytes | msgspec.Raw) -> Any:
    """What an entry holds, also where it holds a NaN. Raises `BROKEN` where it is no JSON."""
    try:
        return msgspec.json.decode(entry)
    except BROKEN:
        return json.loads(bytes(entry))


def rows(path: Path, entries: Entries, part: str) -> Any:
    """What the entries of a part hold, one after another. Raises `UserError` where one is no JSON."""
    for entry in entries.parts[part]:
        try:
            yield decoded(entry)
        except BROKEN as error:
            raise _unreadable(path, error) from error


def _read_whole(path: Path, text: bytes) -> Entries:
    """The entries of a file that cannot be cut: written again one by one, or said what is wrong with it."""
    try:
        content = json.loads(text)
    except BROKEN as error:
        raise _unreadable(path, error) from error
    for part in PARTS:
        if not isinstance(content, dict) or not isinstance(content.get(part), list):
            raise UserError(f"{path}: has no list {part!r}; an instances file of COCO is needed, not captions or keypoints")
    parts = {part: [json.dumps(row).encode() for row in content[part]] for part in PARTS}
    return Entries(b"\n".join(parts["annotations"]), False, parts, content.get("info"))


def _unreadable(path: Path, error: Exception) -> UserError:
    return UserError(f"{path}: not a readable instances file ({first_line(error)}); download it again")
