"""The chapters: parameters checked before any work, every equation in one place, tables that name what exists."""

import ast
import importlib
import inspect
import re
from pathlib import Path

import accelerate
import jupytext
import matplotlib
import pytest
import torch

import dsgc
from dsgc.data import shapes
from dsgc.errors import UserError
from dsgc.experiments import grids
from dsgc.teaching import chapter

ROOT = Path(__file__).resolve().parents[2]
CHAPTERS = {path.stem: jupytext.read(path) for path in sorted((ROOT / "notebooks").glob("0[1-4]_*.py"))}
EQUATIONS = {"01_ptc": range(1, 6), "02_dskd": range(6, 11), "03_gmm_em": range(11, 18), "04_gc_rules": range(18, 22)}
WRONG = {
    "01_ptc": {"steps": 5, "seed": -1, "lambda1": float("nan"), "ptc_low": 0.9, "ptc_high": 1.5, "image": 200},
    "02_dskd": {"steps": 10.5, "warmup": 79, "seed": 2**32, "image": -1, "roi_low": 0.7, "roi_high": "0.7"},
    "03_gmm_em": {"steps": 5000, "seed": 0.5, "image": True, "iterations": 1},
    "04_gc_rules": {"steps": 0, "seed": None, "image": 1e9, "theta_high": 0.2, "theta_low": -0.1, "tau": 1.1},
}


def code(name):
    return [cell for cell in CHAPTERS[name].cells if cell.cell_type == "code"]


def prose(name):
    return "\n".join(cell.source for cell in CHAPTERS[name].cells if cell.cell_type == "markdown")


def parameters(name):
    (cell,) = [cell for cell in code(name) if "parameters" in cell.metadata.get("tags", [])]
    return cell


def run_checks(name, **changed):
    """The parameters cell, the values that papermill would set, and the one cell after it."""
    matplotlib.use("agg")
    first, second = code(name)[:2]
    assert first == parameters(name)
    values: dict = {}
    exec(first.source, values)
    exec(second.source, values | changed)


def test_all_four_chapters_are_there():
    assert set(CHAPTERS) == set(EQUATIONS) == set(WRONG)


@pytest.mark.parametrize(("parameter", "value"), {"steps": 5, "seed": -1, "image": 200, "scale": "mars"}.items())
def test_the_page_of_the_peers_refuses_its_parameters_before_any_work(parameter, value):
    matplotlib.use("agg")
    first, second = [cell.source for cell in jupytext.read(ROOT / "notebooks/09_peers.py").cells if cell.cell_type == "code"][:2]
    values: dict = {}
    exec(first, values)
    exec(second, values)
    with pytest.raises(UserError, match=rf"parameter {parameter} = {value!r}: must be"):
        exec(second, values | {parameter: value})


@pytest.mark.parametrize("name", CHAPTERS)
def test_parameters_as_shipped_pass_the_check(name):
    run_checks(name)


@pytest.mark.parametrize(("name", "parameter"), [(name, parameter) for name in WRONG for parameter in WRONG[name]])
def test_parameter_out_of_range_is_refused_before_any_work(name, parameter):
    with pytest.raises(UserError, match=rf"parameters? .*{parameter} = .*must be") as refusal:
        run_checks(name, **{parameter: WRONG[name][parameter]})
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("name", CHAPTERS)
def test_every_parameter_has_a_wrong_value_above(name):
    assert set(re.findall(r"^(\w+) =", parameters(name).source, flags=re.MULTILINE)) == set(WRONG[name])


@pytest.mark.parametrize("name", CHAPTERS)
def test_the_cell_of_the_checks_does_no_work(name):
    assert not re.search(r"\b(train|open_data|embedded_data|load_networks)\(", code(name)[1].source)


@pytest.mark.parametrize("name", CHAPTERS)
def test_each_equation_of_a_chapter_is_a_target_and_carries_the_paper_s_number(name):
    text = prose(name)
    assert [int(k) for k in re.findall(r"^\(eq-(\d+)\)=$", text, flags=re.MULTILINE)] == list(EQUATIONS[name])
    assert [int(k) for k in re.findall(r"\\tag\{(\d+)\}", text)] == list(EQUATIONS[name])


def rows_of_links(name):
    """(equations, function, test) of each row of the chapter's last table."""
    for line in prose(name).splitlines():
        function, test = re.search(r"\{py:func\}`~(dsgc\.[\w.]+)`", line), re.search(r"\{py:func\}`[\w ]+ <(test_\w+)\.(\w+)>`", line)
        if line.startswith("|") and function and test:
            yield [int(k) for k in re.findall(r"<eq-(\d+)>", line)], function[1], test.groups()


@pytest.mark.parametrize("name", CHAPTERS)
def test_table_leads_from_each_equation_to_its_function(name):
    seen = set()
    for equations, function, _ in rows_of_links(name):
        module, _, attribute = function.rpartition(".")
        text = inspect.getdoc(getattr(importlib.import_module(module), attribute))
        for number in equations:
            assert f"Eq. ({number})" in text, f"{function} does not hold Eq. {number}"
        seen |= set(equations)
    assert seen == set(EQUATIONS[name])


@pytest.mark.parametrize("name", CHAPTERS)
def test_table_leads_to_a_test_that_uses_the_function_s_room(name):
    for _, function, (file, test) in rows_of_links(name):
        (path,) = (ROOT / "tests").rglob(f"{file}.py")
        tree = ast.parse(path.read_text(encoding="utf-8"))
        assert test in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert function.split(".")[1] == file.removeprefix("test_")


@pytest.mark.parametrize("name", CHAPTERS)
def test_chapter_has_its_parts(name):
    text = prose(name)
    for heading in ("## The paper, the code, our choice", "## Exercises", "## What was seen"):
        assert heading in text
    kinds = re.findall(r"^```\{exercise\} (By hand|In code|What breaks|Open-ended): \w", text, flags=re.MULTILINE)
    assert kinds == ["By hand", "In code", "What breaks", "Open-ended"]


@pytest.mark.parametrize("name", CHAPTERS)
def test_chapter_shows_the_source_of_every_function_in_its_table(name):
    shown = " ".join(re.findall(r"chapter\.source\(([^)]*)\)", "\n".join(cell.source for cell in code(name))))
    for _, function, _ in rows_of_links(name):
        assert re.search(rf"\b{function.rpartition('.')[2]}\b", shown), f"{function} is not shown"


@pytest.mark.parametrize("name", CHAPTERS)
def test_chapter_asserts_what_it_says(name):
    assert sum("assert " in cell.source for cell in code(name)) >= 5


def test_notebooks_define_nothing_that_the_package_has():
    public = set()
    for path in Path(dsgc.__file__).parent.rglob("*.py"):
        public |= {node.name for node in ast.parse(path.read_text()).body if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    for name in CHAPTERS:
        for cell in code(name):
            own = {node.name for node in ast.walk(ast.parse(cell.source)) if isinstance(node, ast.FunctionDef)}
            assert not own & public


# what they share


@pytest.mark.parametrize("value", [True, "3", None, float("inf"), 2.9, 10.1, [3]])
def test_number_outside_is_refused_with_the_range(value):
    with pytest.raises(UserError, match=r"parameter n = .*: must be a number from 3 to 10"):
        chapter.number_in("n", value, 3, 10)


def test_number_at_either_end_passes_and_a_whole_one_is_whole():
    chapter.number_in("n", 3, 3, 10)
    chapter.number_in("n", 10.0, 3, 10)
    with pytest.raises(UserError, match="whole number from 3 to 10"):
        chapter.number_in("n", 4.0, 3, 10, whole=True)


def test_thresholds_must_be_in_order():
    chapter.ordered("low", 0.2, "high", 0.3)
    with pytest.raises(UserError, match=r"low = 0.3, high = 0.3: low must be less than high"):
        chapter.ordered("low", 0.3, "high", 0.3)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"scale": "mars"}, "parameter scale = 'mars': must be one of voc, coco, voc6, shapes"),
        ({"seeds": [0, 1, 0]}, "each once"),
        ({"seeds": [0.5]}, "whole numbers"),
        ({"seeds": [False]}, "whole numbers"),
        ({"seeds": 3}, "parameter seeds = 3: name whole numbers"),
        ({"seeds": "012"}, "parameter seeds = '012': name whole numbers"),
        ({"seeds": [1, 0]}, "must begin with 0, the seed whose runs keep pictures"),
        ({"live": ["PTC"]}, "parameter live = 'PTC': must be one of baseline"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_page_of_results_refuses_its_parameters_before_it_reads_anything(given, named):
    with pytest.raises(UserError, match=named):
        chapter.results_of(**{"scale": "shapes", "seeds": [0, 1, 2], "live": []} | given)


@pytest.mark.parametrize(("processes", "gpus"), [(0, 0), (2, 0), (2, 1), (9, 8), (1.0, 1)])
def test_more_processes_than_gpus_are_refused(monkeypatch, processes, gpus):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    with pytest.raises(UserError, match=f"parameter processes = {processes}: must be a whole number from 1 to {max(gpus, 1)}"):
        chapter.on_processes(print, "never", processes=processes)


def test_one_process_is_this_one_and_several_are_accelerate_s(monkeypatch):
    calls = []
    chapter.on_processes(calls.append, 1)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(accelerate, "notebook_launcher", lambda *given, **options: calls.append((*given, options)))
    chapter.on_processes(print, "text", processes=2)
    assert calls == [1, (print, ("text",), {"num_processes": 2})]


def test_a_page_of_results_reads_the_repository_s_unless_told_otherwise():
    assert chapter.results_of("shapes", [0, 5], ["baseline"]) == ROOT / "results"
    assert chapter.results_of("shapes", [], [], "elsewhere") == Path("elsewhere")  # under the seeds of each grid


def test_pictured_are_the_first_images_of_the_validation_split(tiny):
    items, classes = chapter.pictured(tiny())
    assert [item.image_id for item in items] == [f"val_{index:05d}" for index in range(len(items))]
    assert 1 < len(items) <= grids.PICTURES and tuple(classes) == tuple(kind.name for kind in shapes.KINDS)


def test_listing_is_the_source_as_it_stands():
    listing = chapter.source(chapter.ordered, chapter.number_in)
    assert inspect.getsource(chapter.ordered).rstrip() in listing and inspect.getsource(chapter.number_in).rstrip() in listing
    assert listing._repr_markdown_().startswith("```python\ndef ordered(") and listing._repr_markdown_().endswith("\n```")
