"""The page on open choices agrees with `dsgc.config`: every choice is on it, with the values that the presets have."""

import ast
import dataclasses
import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from dsgc.config import PRESETS, Config, source

PAGE = (Path(__file__).resolve().parents[1] / "book/choices.md").read_text(encoding="utf-8")
FIELDS = [field.name for field in dataclasses.fields(Config)]


class Row(NamedTuple):
    field: str
    values: dict[str, Any]  # by preset
    reason: str


def rows() -> list[Row]:
    """The rows of every table on the page, whose columns are field, one for each preset, and reason."""
    columns = tuple(PRESETS)
    found, inside = [], False
    for line in PAGE.splitlines():
        cells = tuple(cell.strip() for cell in line.strip().strip("|").split("|")) if line.startswith("|") else ()
        if not cells or set(line) <= set("|-: "):
            inside = inside and bool(cells)
        elif not inside:
            assert cells == ("field", *columns, "reason"), f"columns of a table: {cells}"
            inside = True
        else:
            name, *values, reason = cells
            assert all(re.fullmatch(r"`.+`", cell) for cell in (name, *values)), f"not in backticks: {line}"
            values = [ast.literal_eval(value.strip("`")) for value in values]
            found.append(Row(name.strip("`"), dict(zip(columns, values, strict=True)), reason))
    return found


def test_the_page_has_rows_and_names_no_field_twice():
    names = [row.field for row in rows()]
    assert names and len(set(names)) == len(names)


@pytest.mark.parametrize("name", [n for n in FIELDS if any(source(config, n) == "choice" for config in PRESETS.values())])
def test_every_choice_of_a_preset_is_on_the_page(name):
    assert name in {row.field for row in rows()}


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.field)
def test_a_row_agrees_with_the_presets(row):
    assert row.field in FIELDS, "no such field in dsgc.config.Config"
    assert row.reason, "no reason is given"
    for name, value in row.values.items():
        actual = getattr(PRESETS[name], row.field)
        assert value == actual and isinstance(value, type(actual)), f"{name}: the page says {value!r}, the preset {actual!r}"


def test_values_of_the_paper_stand_under_where_shapes_departs():
    paper = {field.name for field in dataclasses.fields(Config) if field.metadata["source"] == "paper"}
    changed = {name for name in paper if any(source(config, name) == "choice" for config in PRESETS.values())}
    assert {row.field for row in rows()} & paper == changed


def test_options_named_in_the_text_are_fields():
    for name in re.findall(r"`--([a-z-]+)", PAGE):
        assert name.replace("-", "_") in FIELDS


def test_every_section_on_an_open_point_says_what_paper_and_sources_do():
    sections = re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]
    for section in sections:
        title = section.splitlines()[0]
        if "**The paper:**" in section or "Measured:" in section:
            for part in ("**The paper:**", "**Sources:**", "Measured:"):
                assert part in section, f"{title}: no {part}"
