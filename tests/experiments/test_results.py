"""The results that the repository holds: whole, of runs that the grids still name, and enough for the notebooks."""

import json
import re
from pathlib import Path

import jupytext
import pytest

from dsgc.config import PRESETS
from dsgc.correction import RULES
from dsgc.errors import UserError
from dsgc.experiments import grids, stored, tables
from dsgc.scoring.pictures import decoded

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted(grids.RESULTS.glob("*/*.json"))
SCALES = grids.scales(grids.RESULTS)


def parameters(notebook):
    """What the cell tagged `parameters` of a notebook sets."""
    cells = jupytext.read(ROOT / "notebooks" / f"{notebook}.py").cells
    values = {}
    exec(next(cell.source for cell in cells if "parameters" in cell.metadata.get("tags", [])), values)
    return values


def test_there_are_results_and_every_folder_is_a_scale():
    assert SCALES and {*SCALES} == {path.parent.name for path in FILES} - {*grids.OF_SCALE.values()} <= {*PRESETS}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_result_is_whole_and_belongs_to_a_run_that_the_grids_name(path):
    """A preset or a grid that has changed leaves results that nothing asks for: delete them, then `make ablations`."""
    seed = json.loads(path.read_text(encoding="utf-8"))["config"]["seed"]
    runs = grids.runs([name for name in grids.of(path.parent.name) if seed in grids.SEEDS[name]], path.parent.name, (seed,))
    config = {stored.path_of(config, path.parent).name: config for config in runs.values()}[path.name]
    state, result = stored.look_up(config, path.parent)
    assert state in ("done", "other code")
    assert result.scores.keys() == {*config.method.networks, *["pointing"] * bool(config.method.blocks), "images", "list", "masks"}
    for network in config.method.networks:
        assert tuple(result.scores[network]) == config.method.scores
        for score in config.method.scores:
            per_class = [value for value in result.scores[network][score]["per_class"].values() if value is not None]
            assert result.scores[network][score]["miou"] == pytest.approx(sum(per_class) / len(per_class), rel=1e-6)
    assert not result.about["commit"].endswith("dirty") and result.about["seconds"] > 0 and result.about["versions"]["torch"]
    assert len(result.counts["rules"]) == len(RULES) if config.method.corrects else result.counts == {}
    for maps in result.samples.values():
        assert {name: decoded(png).dtype.name for name, png in maps.items()} == dict.fromkeys(
            ("cam", "pseudo", "prediction"), "uint8"
        )
    assert len(result.samples) == config.pictures


def test_notebook_07_finds_what_it_reads():
    given = parameters("07_ablations")
    assert given["seeds"] == []  # those of each grid
    found = tables.read(grids.RESULTS, given["scale"], {"modules": grids.SEEDS["modules"]})  # the others it shows as far as they are there
    assert set(given["live"]) <= {row for row, _ in found["modules"]}


def test_notebook_08_finds_what_it_reads():
    given = parameters("08_comparison")
    assert given["seeds"] == [] and tables.read(grids.RESULTS, given["scale"], {"modules": grids.SEEDS["modules"]})


@pytest.mark.parametrize("notebook", ["07_ablations", "08_comparison"])
@pytest.mark.parametrize(("parameter", "value", "said"), [("scale", "mars", "shapes"), ("live", ["+ XY"], r"\+ DSKD")])
def test_a_wrong_parameter_is_refused_in_the_first_cell_with_what_is_allowed(notebook, parameter, value, said):
    cells = [cell for cell in jupytext.read(ROOT / "notebooks" / f"{notebook}.py").cells if cell.cell_type == "code"]
    assert "parameters" in cells[0].metadata["tags"]
    with pytest.raises(UserError, match=f"parameter {parameter} = .*must be one of .*{said}"):
        exec(cells[1].source, parameters(notebook) | {parameter: value})


def test_the_page_on_choices_names_rows_that_exist():
    page = (ROOT / "book/choices.md").read_text(encoding="utf-8")
    paragraphs = [text.replace("\n", " ") for text in page.split("\n\n") if text.startswith("Measured:")]
    named = {name for text in paragraphs for name in re.findall(r"\*([^*]+)\*", text)}
    assert named and named <= {*grids.CHANGES["choices"], *grids.CHANGES["readings"]}


@pytest.mark.parametrize("grid", ["choices", "readings"])
def test_every_row_of_the_choices_stands_on_the_page_on_choices(grid):
    page = " ".join((ROOT / "book/choices.md").read_text(encoding="utf-8").split())
    assert [row for row in grids.CHANGES[grid] if row != "preset" and f"*{row}*" not in page] == []
