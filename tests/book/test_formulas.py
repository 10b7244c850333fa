"""A numbered formula of several lines leaves `split`, in which it could have no number; every other one stays as it is."""

import formulas
import pytest
from docutils import nodes
from docutils.utils import new_document


def treated(text, nowrap=False):
    document = new_document("page")
    document += nodes.math_block("", text, nowrap=nowrap)
    formulas.number(None, document)
    return document[0].astext(), document[0]["nowrap"]


def test_a_numbered_formula_of_several_lines_gets_an_environment_of_its_own():
    text = "y = \\begin{cases} 1 \\\\ 0 \\end{cases} \\tag{3}"
    assert treated(text) == (f"\\begin{{equation}}{text}\\end{{equation}}", True)


@pytest.mark.parametrize("text", [r"x \tag{1}", r"a \\ b"])
def test_a_formula_with_a_number_or_several_lines_alone_stays(text):
    assert treated(text) == (text, False)


def test_a_formula_that_has_its_environment_stays():
    text = r"\begin{align} a \\ b \tag{1} \end{align}"
    assert treated(text, nowrap=True) == (text, True)
