"""Which tags belong to which picture, as a file of one's own says it: CSV with a list of tags or a column per class, or JSON.

Nothing here looks at a picture. `known` tells whether a name is one of a picture that is there: that decides what a sniffer could
only guess, the delimiter and whether the first row is a header. Of two readings none is taken at random: what stays open is refused.
"""

import csv
import io
import json
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dsgc.data.classes import is_background
from dsgc.data.faults import Faults
from dsgc.errors import UserError, first_line

NAMES = ("filename", "imagename", "filepath", "imagepath", "file", "image", "picture", "img", "path", "imageid", "name", "id")
TAGS = ("tags", "labels", "classes", "categories", "tag", "label", "class", "category", "classname")
DELIMITERS = ",;\t"
SEPARATORS = "|;,"  # between the tags of a list, the first that any list has; blanks where there is none of them
YES, NO = ("1", "1.0", "true"), ("0", "0.0", "false")
LARGEST = 2**26  # bytes of a tag file
LONGEST = 100  # letters of a tag
MANY = 254  # classes: labels are bytes, 0 is the background and 255 no label


class Row(NamedTuple):
    place: str  # in the file, in words
    name: str  # of the picture, as it stands there
    tags: tuple[str, ...]


class Tags(NamedTuple):
    """What a tag file says."""

    classes: tuple[str, ...]  # of a column each in that order, else by the alphabet
    rows: tuple[Row, ...]
    notes: tuple[str, ...]


def read(path: Path, known: Callable[[str], bool], faults: Faults) -> Tags:
    """The tags of a file that ends in .json, .jsonl, .csv, .tsv or .txt. What single rows have wrong goes to the faults.

    Raises:
        UserError: it cannot be read, or not as a whole in one way.
    """
    text, ending = _text(path), path.suffix.lower()
    if ending not in (".json", ".jsonl", ".csv", ".tsv", ".txt"):
        raise UserError(f"{path}: a tag file must end in .csv, .tsv, .txt, .json or .jsonl; rename it, or save it as one of these")
    if ending in (".json", ".jsonl"):
        return _checked(path, (), *_of_json(path, text, faults, lines=ending == ".jsonl"), faults)
    return _checked(path, *_of_table(path, text, known, faults), faults)


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > LARGEST:
            raise ValueError(f"more than {LARGEST >> 20} MiB")
        if path.is_dir() or not path.is_file():  # a pipe would be waited for
            raise ValueError("no file")
        text = path.read_bytes().decode("utf-8-sig")
        if "\0" in text:
            raise ValueError("it holds zeros")
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such tag file; give --tags its path") from error
    except UnicodeDecodeError as error:
        place = error.object.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}: not a readable tag file (line {place} is not UTF-8); save it as text in UTF-8") from error
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else first_line(error)
        raise UserError(f"{path}: not a readable tag file ({why}); give a text file in UTF-8") from error
    if not text.strip():
        raise UserError(f"{path}: is empty; a tag file has a row for each picture, its name and its tags")
    return text


# tables


class _Table(NamedTuple):
    header: list[str]  # empty if it has none
    rows: list[tuple[str, list[str]]]  # place in words, cells
    name: int  # the column of the pictures' names


def _of_table(path: Path, text: str, known: Callable[[str], bool], faults: Faults) -> tuple:
    """Classes, where a column each says them, rows and notes."""
    table, notes = _table(path, text, known)
    listing = [i for i, title in enumerate(table.header) if _word(title) in TAGS and i != table.name]
    others = [i for i in range(len(table.header or table.rows[0][1])) if i != table.name and (not table.header or table.header[i])]
    if len(listing) == 1 or (len(others) == 1 and not _are_marks(table, others)):
        return (), *_lists(path, table, (listing or others)[0], notes, faults)
    if table.header and not all(_word(table.header[i]).rstrip("0123456789") in TAGS for i in others):
        return _marks(path, table, others, notes, faults)
    if not others or _are_marks(table, others):
        remedy = "name the columns in a first row: the pictures' file, and tags or the classes"
        raise UserError(f"{path}: which tags its columns stand for is not said; {remedy}")
    rows = [Row(place, cells[table.name], tuple(cells[i] for i in range(len(cells)) if i != table.name)) for place, cells in table.rows]
    return (), rows, [*notes, "a tag in each cell behind the name"]


def _table(path: Path, text: str, known: Callable[[str], bool]) -> tuple[_Table, list[str]]:
    rows = _parted(path, text, known)
    cells = [row for _, row in rows]
    first = [_word(cell) for cell in cells[0]]
    titled = any(word in (*NAMES, *TAGS) for word in first)
    width = min(map(len, cells))
    hits = [sum(known(row[column]) for row in cells) for column in range(width)]
    header = titled or not any(known(cell) or Path(cell).suffix for cell in cells[0])
    if header and len(rows) == 1:
        raise UserError(f"{path}: its only row is a header; a tag file has a row for each picture, its name and its tags")
    by_title = next((first.index(word) for word in NAMES if word in first), None) if header else None
    column = by_title if by_title is not None and by_title < width else hits.index(max(hits))
    notes = [] if titled or not header else [f"the first row is taken for a header: {', '.join(cells[0])[:80]}"]
    table = _Table(cells[0] if header else [], rows[1:] if header else rows, column)
    lengths = {len(row) for _, row in table.rows}
    wide = len(cells[0]) == 2 and table.name == 0 and min(lengths) >= 1  # "a.jpg,cat,dog" below "file,tags": the list has no quotes
    if len(lengths | {len(cells[0])}) > 1 and not (wide or not header):
        place, row = next((place, row) for place, row in table.rows if len(row) != len(cells[0]))
        raise UserError(
            f"{path}: {place} has {len(row)} columns, the first row {len(cells[0])}; put a list of tags into quotes, or part them by |"
        )
    if wide and header and max(lengths) > 2:
        joined = [(place, [row[0], ",".join(row[1:])]) for place, row in table.rows]
        return _Table(table.header, joined, 0), notes
    if not header and len(lengths) > 1:
        return _Table([], [(place, [row[column], ",".join(row[:column] + row[column + 1 :])]) for place, row in rows], 0), notes
    return table, notes


def _parted(path: Path, text: str, known: Callable[[str], bool]) -> list[tuple[str, list[str]]]:
    """The rows, by the delimiter that lets most of them name a picture; of several, one by which all rows are of one length."""
    found, wrong = [], None
    for delimiter in DELIMITERS:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)
        try:
            rows = [(f"line {reader.line_num}", [cell.strip() for cell in row]) for row in reader if any(map(str.strip, row))]
        except csv.Error as error:
            wrong = wrong or f"line {reader.line_num}: {first_line(error)}"
            continue
        if max(len(row) for _, row in rows) > 1:
            hits = sum(any(map(known, row)) for _, row in rows)
            found.append((hits, len({len(row) for _, row in rows}) == 1, -DELIMITERS.index(delimiter), rows))
    if not found:
        raise UserError(f"{path}: {wrong or 'has one column'}; a tag file has the pictures' names and their tags, parted by , ; or tab")
    return max(found, key=lambda way: way[:3])[3]


def _word(title: str) -> str:
    """A column's title as it is compared: small letters and nothing else."""
    return "".join(letter for letter in title.casefold() if letter.isalnum())


def _are_marks(table: _Table, columns: Sequence[int]) -> bool:
    cells = [row[i].casefold() for _, row in table.rows for i in columns if i < len(row)]
    return bool(cells) and all(cell in (*YES, *NO) for cell in cells)


def _marks(path: Path, table: _Table, columns: Sequence[int], notes: list[str], faults: Faults) -> tuple:
    """A column per class."""
    rows = []
    for place, cells in table.rows:
        for i in columns:
            if cells[i].casefold() not in (*YES, *NO):
                item = f"{cells[i][:40]!r} in {place}, column {table.header[i]!r}"
                faults.add(str(path), "cells of class columns are not 0 or 1", item, "correct them, or put tags into one column named tags")
        tags = tuple(table.header[i] for i in columns if cells[i].casefold() in YES)
        rows.append(Row(place, cells[table.name], tags))
    if len({table.header[i] for i in columns}) < len(columns):
        raise UserError(f"{path}: two columns have one title; a class has one column: rename or remove one")
    return tuple(unicodedata.normalize("NFC", table.header[i]) for i in columns), rows, notes


def _lists(path: Path, table: _Table, column: int, notes: list[str], faults: Faults) -> tuple[list[Row], list[str]]:
    """A list of tags in one column."""
    if _are_marks(table, [column]):
        title = table.header[column] if table.header else ""
        raise UserError(f"{path}: the column {title!r} holds 0 and 1 alone; title it with the name of its class")
    cells = [(place, row[table.name], row[column].strip("[]") if row[column][:1] == "[" else row[column]) for place, row in table.rows]
    separator = next((sign for sign in SEPARATORS if any(sign in cell for _, _, cell in cells)), None)
    rows = []
    for place, name, cell in cells:
        tags = tuple(part.strip().strip("'\"") for part in cell.split(separator))
        mixed = next((sign for sign in SEPARATORS if any(sign in tag for tag in tags)), None)
        if mixed:
            faults.add(str(path), f"lists are parted by {mixed!r} and others by {separator!r}", place, "part all lists by one sign")
        rows.append(Row(place, name, tags))
    passed = [title for i, title in enumerate(table.header) if i not in (column, table.name) and title]
    if passed:
        notes = [*notes, f"columns passed over: {', '.join(passed[:5])}{', ...' * (len(passed) > 5)}"]
    return rows, notes + ([_never_apart(rows)] if separator is None and _never_apart(rows) else [])


def _never_apart(rows: Sequence[Row]) -> str:
    """Two words parted by a blank that always come together may be one tag; words on that, empty if there are none."""
    found = {row.tags for row in rows}
    alone = {tag: {tags for tags in found if tag in tags} for tag in {tag for tags in found for tag in tags}}
    pairs = sorted({pair for tags in found for pair in zip(tags, tags[1:], strict=False)})
    one, other = next(((a, b) for a, b in pairs if a != b and alone[a] == alone[b]), ("", ""))
    return f"{one!r} and {other!r} always come together: if they are one tag, part tags by | and not by blanks" if one else ""


# JSON


class _TwiceError(ValueError):
    """A name that one object of a JSON file has twice."""


def _unique(pairs: list[tuple[str, Any]]) -> dict:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise _TwiceError(f"{next(name for name in names if names.count(name) > 1)[:80]!r} stands there twice")
    return found


def _of_json(path: Path, text: str, faults: Faults, *, lines: bool) -> tuple[list[Row], list[str]]:
    """{name: tags}, or a list of objects that have a name and tags; an object a line in .jsonl."""
    try:
        if lines:
            content = [json.loads(line, object_pairs_hook=_unique) for line in text.splitlines() if line.strip()]
        else:
            content = json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not a readable tag file ({first_line(error)}); correct the JSON") from error
    form = 'give {"x.jpg": ["cat", "dog"], ...} or [{"file": "x.jpg", "tags": ["cat", "dog"]}, ...]'
    if isinstance(content, dict) and content.keys() >= {"images", "annotations"}:
        raise UserError(f"{path}: is an instances file of COCO, which has a layout of its own; lay it out so, without --tags, or {form}")
    if not isinstance(content, dict | list) or not content:
        raise UserError(f"{path}: holds no pictures and tags; {form}")
    entries = content.items() if isinstance(content, dict) else ((_field(row, NAMES), _field(row, TAGS)) for row in content)
    rows = []
    for number, (name, tags) in enumerate(entries, 1):
        tags = [tags] if isinstance(tags, str) else tags
        if not isinstance(name, str) or not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
            faults.add(str(path), "entries have no name, or no list of words as tags", f"entry {number}", form)
            continue
        rows.append(Row(f"entry {number}", name.strip(), tuple(tag.strip() for tag in tags)))
    return rows, []


def _field(row: Any, titles: Sequence[str]) -> Any:
    """The value of an object's field of one of these titles, the first that it has."""
    found = {_word(key): value for key, value in row.items()} if isinstance(row, dict) else {}
    return next((found[title] for title in titles if title in found), None)


# both


def _checked(path: Path, classes: Sequence[str], rows: Sequence[Row], notes: Sequence[str], faults: Faults) -> Tags:
    """Tags in one form, and what no class can be called."""
    rows = [row._replace(tags=tuple(dict.fromkeys(unicodedata.normalize("NFC", tag) for tag in row.tags if tag))) for row in rows]
    where = {tag: row.place for row in reversed(rows) for tag in row.tags}
    names = tuple(classes) or tuple(sorted(where))
    said = {name.casefold(): name for name in names}
    for name in names:
        item = f"{name!r} ({where.get(name, 'the first row')})"
        if is_background(name):
            faults.add(str(path), "tags name the background", item, "leave it out: what no class covers is background")
        elif not name.isprintable() or len(name) > LONGEST:
            faults.add(str(path), "tags are longer than a name, or hold what cannot be printed", item, "part tags by one sign: , ; or |")
        elif said[name.casefold()] != name:
            other = f"{item} and {said[name.casefold()]!r}"
            faults.add(str(path), "tags differ in capitals only", other, "write each class in one way")
    if not where and not faults:
        raise UserError(f"{path}: its {len(rows)} rows name no tag at all; a row has the name of a picture and its tags")
    if len(names) > MANY:
        raise UserError(f"{path}: {len(names)} different tags, as {', '.join(names[:3])}; there must be at most {MANY}")
    note = [f"{path}: {'; '.join(notes)}"] if notes else []
    return Tags(names, tuple(rows), tuple(note))
