"""What nbval cannot see: a notebook that was never run, one that is out of step with its text, a path of the author's machine."""

from pathlib import Path

import jupytext
import nbformat
import pytest
from jupytext.compare import compare_notebooks

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def path(request):
    return request.param


def test_there_is_a_notebook():
    assert NOTEBOOKS


def test_every_code_cell_was_executed_in_order_and_none_failed(path):
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert not [output for cell in cells for output in cell.outputs if output.output_type == "error"]


def test_the_notebook_and_its_text_are_in_step(path):
    compare_notebooks(jupytext.read(path.with_suffix(".py")), jupytext.read(path), fmt="py:percent")


def test_outputs_name_no_folder_of_the_machine_that_made_them(path):
    notebook = nbformat.read(path, as_version=4)
    text = "".join(str(output) for cell in notebook.cells for output in cell.get("outputs", []) if "image/png" not in str(output))
    assert str(Path.home()) + "/" not in text and str(NOTEBOOKS[0].parents[1]) not in text


def test_a_cell_whose_output_is_not_compared_is_followed_by_one_that_asserts(path):
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    ignored = [i for i, cell in enumerate(cells) if "nbval-ignore-output" in cell.metadata.get("tags", [])]
    ignored = [i for i in ignored if not cells[i].source.startswith('glue("seconds"')]  # a duration is no result
    assert not ignored or any("assert " in cell.source for cell in cells[max(ignored) :])


def test_parameters_are_in_a_tagged_cell(path):
    tags = [cell.metadata.get("tags", []) for cell in nbformat.read(path, as_version=4).cells]
    assert sum("parameters" in tag for tag in tags) == 1
