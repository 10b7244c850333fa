"""The page on choices and departures agrees with the code: every one of them is on it, with its mark and the values of the presets."""

import ast
import dataclasses
import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from dsgc import methods
from dsgc.config import PRESETS, Config
from dsgc.experiments import grids, ladders

BOOK = Path(__file__).resolve().parents[2] / "book"
PAGE = (BOOK / "choices.md").read_text(encoding="utf-8")
METHODS = {name: methods.find(name) for name in methods.MODULES if name not in methods.PEERS}  # whose numbers have pages of their own
OWNERS = {"every run": Config.names()} | {name: method.names() for name, method in METHODS.items()}  # the fields of each
FIELDS = list(dict.fromkeys(name for names in OWNERS.values() for name in names if name != "method"))
METADATA = {field.name: field.metadata for owner in (Config, METHODS["dsgc"]) for field in dataclasses.fields(owner)}
COLUMNS = ("field", "mark", *PRESETS, "reason")
DEPARTURES = ("field", "printed", "here", "measured as", "why")


def having(field):
    """Whose field it is: names of `OWNERS`."""
    return {owner for owner, names in OWNERS.items() if field in names}


def configs(owners):
    """Each preset for each method whose fields are among some owners', by the preset's name and the method's."""
    theirs = list(METHODS) if "every run" in owners else [name for name in METHODS if name in owners]
    return {(preset, name): methods.preset(preset, name) for preset in PRESETS for name in theirs}


def sources(field, owners):
    """The marks that a field's value has in a preset, by preset."""
    found = {preset: set() for preset in PRESETS}
    for (preset, _), config in configs(owners).items():
        found[preset].add(config.source_of(field))
    return found


def marked(field, mark):
    """The presets in which a field has a mark, with some method."""
    return {preset for preset, found in sources(field, having(field)).items() if mark in found}


def tables():
    """The tables of the page, each as the line above it, its header and its rows of cells."""
    found, above, inside = [], "", False
    for line in PAGE.splitlines():
        cells = tuple(cell.strip() for cell in line.strip().strip("|").split("|")) if line.startswith("|") else ()
        if not cells:
            inside, above = False, line or above
        elif not inside:
            inside = True
            found.append((above, cells, []))
        elif not set(line) <= set("|-: "):
            found[-1][2].append(cells)
    return found


def literals(cell):
    """What stands in backticks, read as Python writes it."""
    return tuple(ast.literal_eval(text) for text in re.findall(r"`([^`]+)`", cell))


class Row(NamedTuple):
    field: str
    mark: str
    values: dict[str, Any]  # by preset
    reason: str
    owners: set[str]  # whose field the line above its table says it is


def rows() -> list[Row]:
    """The rows of every table but that of the departures."""
    found = []
    for above, header, lines in tables():
        if header == DEPARTURES:
            continue
        assert header == COLUMNS, f"columns of a table: {header}"
        assert re.fullmatch(r"Fields of (every run|the methods? (`\w+`(, | and )?)+):", above), f"above a table: {above}"
        owners = set(re.findall(r"`(\w+)`", above)) or {"every run"}
        for name, mark, *cells, reason in lines:
            assert all(re.fullmatch(r"`.+`", cell) for cell in (name, *cells)), f"not in backticks: {name}"
            values = [literals(cell)[0] for cell in cells]
            found.append(Row(name.strip("`"), mark, dict(zip(PRESETS, values, strict=True)), reason, owners))
    return found


class Departure(NamedTuple):
    field: str | None  # None: the code has no setting for it
    printed: tuple  # every value that is stated
    where: str
    here: dict[str, Any]  # by preset, of those that depart
    measured: str


def departures() -> list[Departure]:
    """The rows of the one table of departures."""
    ((_, _, lines),) = [table for table in tables() if table[1] == DEPARTURES]
    found = []
    for name, printed, here, measured, why in lines:
        assert why, f"no reason is given: {name}"
        where, _, printed = printed.partition(": ")
        field = name.strip("`") if name.startswith("`") else None
        named = {preset: literals(value)[0] for preset, value in re.findall(r"(\w+) (`[^`]+`)", here)}
        value = (*literals(here), None)[0] if field else here
        found.append(Departure(field, literals(printed), where, named or dict.fromkeys(PRESETS, value), measured))
    return found


def test_the_page_has_rows_and_names_no_field_of_an_owner_twice():
    for names in ([(row.field, owner) for row in rows() for owner in row.owners], [row.field for row in departures()]):
        assert names and len(set(names)) == len(names)


@pytest.mark.parametrize("name", [name for name in FIELDS if marked(name, "choice")])
def test_every_choice_of_a_preset_is_on_the_page(name):
    assert name in {row.field for row in rows()}


def test_every_departure_of_a_preset_is_in_the_table_and_nothing_else_is():
    assert {row.field for row in departures()} - {None} == {name for name in FIELDS if marked(name, "departs")}


@pytest.mark.parametrize("row", rows(), ids=lambda row: f"{row.field} of {min(row.owners)}")
def test_a_row_agrees_with_the_presets(row):
    assert row.reason, "no reason is given"
    assert having(row.field) == set().union(*(other.owners for other in rows() if other.field == row.field)), "another's field"
    assert set().union(*sources(row.field, row.owners).values()) == {row.mark}, "another mark, or one that differs between presets"
    for (preset, method), config in configs(row.owners).items():
        value, actual = row.values[preset], config.flat()[row.field]
        assert value == actual and isinstance(value, type(actual)), f"{preset}, {method}: the page says {value!r}, the code {actual!r}"


@pytest.mark.parametrize("row", [row for row in departures() if row.field], ids=lambda row: row.field)
def test_a_departure_agrees_with_the_code(row):
    """What is printed and where, our value, and in which presets."""
    metadata = METADATA[row.field]
    assert row.printed == metadata["stated"] and row.where == metadata.get("where", "settings")
    assert row.here.keys() == marked(row.field, "departs")
    for (preset, _), config in configs(having(row.field)).items():
        if preset in row.here:
            value, actual = row.here[preset], config.flat()[row.field]
            assert value == actual and isinstance(value, type(actual))


@pytest.mark.parametrize("row", departures(), ids=lambda row: row.field or row.where)
def test_every_departure_says_what_it_does(row):
    assert row.measured and not row.measured.startswith("<!--"), "still to be measured"


def equations():
    """The equations that are departed from."""
    return {row.where for row in departures()} - {"settings"}


@pytest.mark.parametrize("path", ["book/choices.md", "README.md", "book/intro.md"])
def test_the_equations_that_are_departed_from_are_named_in_one_sentence(path):
    text = " ".join((BOOK.parent / path).read_text(encoding="utf-8").split())
    (numbers,) = re.findall(r"By default the code departs from the print in Eq\. ((?:\d+(?:, | and )?)+)", text)
    assert {f"Eq. {number}" for number in re.findall(r"\d+", numbers)} == equations()


def test_the_notation_marks_the_symbols_of_these_equations():
    lines = (BOOK / "notation.md").read_text(encoding="utf-8").splitlines()
    numbers = [number for line in lines if line.startswith("|") and "*departs*" in line for number in re.findall(r"<eq-(\d+)>", line)]
    assert {f"Eq. {number}" for number in numbers} == equations()


def test_options_named_in_the_text_are_fields():
    for name in re.findall(r"`--([a-z-]+)", PAGE):
        assert name.replace("-", "_") in {*FIELDS, "method", "help"}


def test_every_section_on_an_open_point_says_what_paper_and_sources_do():
    sections = re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]
    for section in sections:
        title = section.splitlines()[0]
        if "**The paper:**" in section or "Measured:" in section:
            for part in ("**The paper:**", "**Sources:**", "Measured:"):
                assert part in section, f"{title}: no {part}"


def test_rows_are_called_measured_where_they_are_and_not_run_where_they_are_not():
    rows = {*grids.CHANGES["choices"], *grids.CHANGES["readings"]} - {"preset"}
    made = {*ladders.EVERY}.union(*(grids.GRIDS[name] for name in grids.of("shapes")))
    paragraphs = [" ".join(part.split()) for part in PAGE.split("\n\n") if part.startswith("Measured:")]
    named = [paragraph.partition("Not run:") for paragraph in paragraphs]
    measured, missing = ({row for part in named for row in re.findall(r"\*(.+?)\*", part[at])} & rows for at in (0, 2))
    assert measured == rows & made and missing == rows - made
