"""The measurements of the choices belong to the code beside them: the page is made of them, their configs are today's."""

import dataclasses
import importlib.util
import math
import re
from pathlib import Path

import pytest

from dsgc.config import preset
from dsgc.runner import described

ROOT = Path(__file__).resolve().parents[1]
SPEC = importlib.util.spec_from_file_location("choices", ROOT / "benchmarks/choices.py")
choices = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(choices)


def test_the_page_is_what_the_results_give():
    assert choices.PAGE.read_text(encoding="utf-8") == choices.table()


def test_the_preset_itself_was_measured():
    assert "preset" in choices.read()


@pytest.mark.parametrize("name", choices.read())
def test_a_result_was_measured_with_the_preset_as_it_is(name):
    """A preset that has changed since makes its measurements stale: run benchmarks/choices.py again."""
    entry = choices.read()[name]
    today = dataclasses.replace(preset("shapes"), val_split=choices.SPLIT, seed=choices.SEED, eval_every=0, pictures=0)
    assert entry["config"] == described(dataclasses.replace(today, **choices.VARIANTS[name]))


@pytest.mark.parametrize("name", choices.read())
def test_a_result_says_where_it_comes_from_and_holds_scores(name):
    entry = choices.read()[name]
    assert entry["split"] == "dev" and entry["versions"]["torch"] and entry["date"] and entry["machine"]
    for score in ("seg", "cam", "pseudo_initial", "pseudo"):
        miou = entry["scores"]["teacher"][score]["miou"]
        per_class = [value for value in entry["scores"]["teacher"][score]["per_class"].values() if value is not None]
        assert 0 < miou < 1 and math.isclose(miou, sum(per_class) / len(per_class), rel_tol=1e-6)


@pytest.mark.parametrize("name", choices.VARIANTS)
def test_a_variant_changes_fields_of_the_config(name):
    dataclasses.replace(preset("shapes"), **choices.VARIANTS[name])


def test_the_page_on_choices_names_variants_that_exist():
    page = (ROOT / "book/choices.md").read_text(encoding="utf-8")
    named = [name for line in page.splitlines() if line.startswith("Measured:") for name in re.findall(r"\*([^*]+)\*", line)]
    assert named and set(named) <= set(choices.VARIANTS)
