"""The page on open choices agrees with the code: every choice of a run or of a method is on it, with the values of the presets."""

import ast
import dataclasses
import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from dsgc import methods
from dsgc.config import PRESETS, Config

PAGE = (Path(__file__).resolve().parents[2] / "book/choices.md").read_text(encoding="utf-8")
METHODS = {name: methods.find(name) for name in methods.MODULES}
OWNERS = {"every run": Config.names()} | {name: method.names() for name, method in METHODS.items()}  # the fields of each
FIELDS = list(dict.fromkeys(name for names in OWNERS.values() for name in names if name != "method"))


def configs(field):
    """Each preset for each method that has a field, by the preset's name and the method's."""
    theirs = [name for name in METHODS if field in {*OWNERS["every run"], *OWNERS[name]}]
    return {(preset, name): methods.preset(preset, name) for preset in PRESETS for name in theirs}


def sources(field):
    return {config.source_of(field) for config in configs(field).values()}


class Row(NamedTuple):
    field: str
    values: dict[str, Any]  # by preset
    reason: str
    owners: set[str]  # whose field the line above its table says it is


def rows() -> list[Row]:
    """The rows of every table on the page, whose columns are field, one for each preset, and reason."""
    columns = tuple(PRESETS)
    found, inside, above = [], False, ""
    for line in PAGE.splitlines():
        cells = tuple(cell.strip() for cell in line.strip().strip("|").split("|")) if line.startswith("|") else ()
        if not cells or set(line) <= set("|-: "):
            inside = inside and bool(cells)
        elif not inside:
            assert cells == ("field", *columns, "reason"), f"columns of a table: {cells}"
            inside, owners = True, set(re.findall(r"`(\w+)`", above)) or {"every run"}
            assert re.fullmatch(r"Fields of (every run|the methods? (`\w+`(, | and )?)+):", above), f"above a table: {above}"
        else:
            name, *values, reason = cells
            assert all(re.fullmatch(r"`.+`", cell) for cell in (name, *values)), f"not in backticks: {line}"
            values = [ast.literal_eval(value.strip("`")) for value in values]
            found.append(Row(name.strip("`"), dict(zip(columns, values, strict=True)), reason, owners))
        above = line or above
    return found


def test_the_page_has_rows_and_names_no_field_twice():
    names = [row.field for row in rows()]
    assert names and len(set(names)) == len(names)


@pytest.mark.parametrize("name", [name for name in FIELDS if "choice" in sources(name)])
def test_every_choice_of_a_preset_is_on_the_page(name):
    assert name in {row.field for row in rows()}


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.field)
def test_a_row_agrees_with_the_presets(row):
    assert row.owners == {owner for owner, names in OWNERS.items() if row.field in names}, "another's field"
    assert row.reason, "no reason is given"
    for (preset, method), config in configs(row.field).items():
        value, actual = row.values[preset], config.flat()[row.field]
        assert value == actual and isinstance(value, type(actual)), f"{preset}, {method}: the page says {value!r}, the code {actual!r}"


def test_values_of_the_paper_stand_under_where_shapes_departs():
    fields = [field for owner in (Config, *METHODS.values()) for field in dataclasses.fields(owner)]
    paper = {field.name for field in fields if field.metadata.get("source") == "paper"}
    changed = {name for name in paper if "choice" in sources(name)}
    assert {row.field for row in rows()} & paper == changed


def test_options_named_in_the_text_are_fields():
    for name in re.findall(r"`--([a-z-]+)", PAGE):
        assert name.replace("-", "_") in {*FIELDS, "method"}


def test_every_section_on_an_open_point_says_what_paper_and_sources_do():
    sections = re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]
    for section in sections:
        title = section.splitlines()[0]
        if "**The paper:**" in section or "Measured:" in section:
            for part in ("**The paper:**", "**Sources:**", "Measured:"):
                assert part in section, f"{title}: no {part}"
