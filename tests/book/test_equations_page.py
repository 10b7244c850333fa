"""The page of all equations, as it is written: each of the 24 with its line, and what its chapter says of function and test exists."""

import ast
import importlib
import inspect
import re
from pathlib import Path

import pytest
import yaml
from test_choices import departures, equations

ROOT = Path(__file__).resolve().parents[2]
PAGES = {path.stem: path.read_text(encoding="utf-8") for path in [*ROOT.glob("book/*.md"), *ROOT.glob("notebooks/*.py")]}
ROWS = dict(re.findall(r"^```\{equation\} (\d+)\n(.*?)^```$", PAGES["equations"], flags=re.MULTILINE | re.DOTALL))
LABEL = re.compile(r"^(?:# )?\(eq-(\d+)\)=$", re.MULTILINE)
DEPARTS = "*[Departs](choices.md#where-we-depart-from-print)*: "


def held(number):
    """(function, test) of an equation, out of the row that begins with it on the page that derives it."""
    (text,) = [text for text in PAGES.values() if number in LABEL.findall(text)]
    tables = [line.lstrip("# ").strip("|").split(" | ") for line in text.splitlines() if line.count(" | ") >= 2]
    (row,) = [cells for cells in tables if len(cells) == 3 and f"{{ref}}`Eq. {number} <eq-{number}>`" in cells[0]]
    ((function,), (test,)) = (re.findall(r"\{py:\w+\}`(?:[\w ]+<)?~?([\w.]+)>?`", cell) for cell in row[1:])
    return function, test


def test_all_are_there_in_their_order_and_derived_in_one_place_each():
    assert list(ROWS) == [str(number) for number in range(1, 25)]
    derived = [number for text in PAGES.values() for number in LABEL.findall(text)]
    assert sorted(derived, key=int) == list(ROWS)


def test_no_formula_stands_there_by_hand():
    assert "$$" not in PAGES["equations"] and r"\tag" not in PAGES["equations"]


@pytest.mark.parametrize("number", ROWS)
def test_an_equation_has_its_meaning_in_a_line_a_function_that_names_it_and_a_test_of_that_room(number):
    meaning = " ".join(ROWS[number].split("\n\n")[0].split())
    assert 30 < len(meaning) < 150 and meaning.endswith(".") and meaning.count(". ") == 0
    function, test = held(number)
    module, _, name = function.rpartition(".")
    assert f"Eq. ({number})" in re.sub(r"\s+", " ", inspect.getdoc(getattr(importlib.import_module(module), name)))
    file, _, name = test.partition(".")
    (path,) = (ROOT / "tests").rglob(f"{file}.py")
    assert name in {node.name for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, ast.FunctionDef)}
    assert function.split(".")[1] == file.removeprefix("test_")


def test_departures_are_marked_with_their_settings_and_nothing_else_is():
    assert {f"Eq. {number}" for number, text in ROWS.items() if DEPARTS in text} == equations()
    for number, text in ROWS.items():
        fields = {row.field for row in departures() if row.where == f"Eq. {number}"} - {None}
        assert set(re.findall(r"\{py:attr\}`(\w+) <dsgc\.methods\.\w+\.\w+\.\1>`", text)) == fields
        for value in re.findall(r"/(0\.\d+)", text):
            assert float(value) in {value for row in departures() if row.field in fields for value in row.here.values()}


def test_the_page_stands_beside_the_notation_and_is_found_from_where_one_begins():
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    files = [chapter["file"] for part in toc["parts"] for chapter in part["chapters"]]
    assert files.index("book/equations") == files.index("book/notation") + 1
    assert [name for name in ("intro", "notation", "framework") if "{doc}`equations`" not in PAGES[name]] == []
