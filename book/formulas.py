r"""Sphinx extension of the book: a displayed formula of several lines may carry the paper's number.

Sphinx puts a formula with a line break into a `split` environment, in which MathJax allows no \tag. One that has both, a
function defined by cases say, is put into an `equation` instead, as it would be in LaTeX.
"""

from docutils import nodes
from sphinx.application import Sphinx


def number(app: Sphinx, doctree: nodes.document) -> None:
    for formula in doctree.findall(nodes.math_block):
        text = formula.astext()
        if r"\tag{" in text and r"\\" in text and not formula["nowrap"]:
            formula["nowrap"] = True  # its environment is its own
            formula[:] = [nodes.Text(rf"\begin{{equation}}{text}\end{{equation}}")]


def setup(app: Sphinx) -> dict:
    app.connect("doctree-read", number)
    return {"parallel_read_safe": True}
