"""A book of a few pages as the tests see it: two equations, three terms, and pages that name them, built in a second or two."""

import importlib
import io
from pathlib import Path

import sheet
from sphinx.application import Sphinx

MATHJAX = Path(importlib.import_module("sphinx-mathjax-offline").__path__[0]) / "static/mathjax"
CHAPTER = r"""# A chapter

(eq-1)=
$$
a_n = \sum_{k=1}^{K} b_{nk}
\tag{1}
$$

(eq-2)=
$$
L = \begin{cases} c_1 + c_2 + c_3 + c_4 + c_5 + c_6 + c_7 + c_8 + c_9 & x > 0 \\ 0 & \text{otherwise} \end{cases}
\tag{2}
$$

A cat map is drawn from [Eq. 2](#eq-2).

| equation | function | a test that holds it |
|---|---|---|
| {ref}`Eq. 1 <eq-1>` | {py:func}`room.first` | {py:func}`first equals the loop <test_room.test_first>` |
| {ref}`Eq. 2 <eq-2>` | {py:func}`room.second` | {py:func}`second is the formula <test_room.test_second>` |
"""
PAGES = {
    "index": "# Start\n\nHere.\n\n```{toctree}\nnotebooks/one\nbook/equations\nbook/glossary\nbook/reference\nbook/prose\nbook/plain\n```",
    "notebooks/one": CHAPTER,
    "book/equations": "# All\n\n```{equation} 1\nThe sum, see {doc}`prose`.\n\n*Departs*: a mean.\n```\n\n```{equation} 2\nThe cases.\n```\n",
    "book/reference": "# Code\n\n" + "\n".join(f"```{{py:function}} {name}()\n```\n" for name in (
        "room.first", "room.second", "test_room.test_first", "test_room.test_second")),
    "book/glossary": "# Terms\n\n:::{glossary}\ncat map\nCM\n  A map of cats, $c_n$ ({ref}`Eq. 1 <eq-1>`).\n\ntags\n  What is in it.\n\n"
    "method\n  A way.\n\npurr\n  A sound, unlike a {term}`tags`.\n:::\n",
    "book/prose": "# A cat map\n\nMany `cat maps` and a [cat map](prose); *Cat\nmaps* have no tag, a CM and a cat map neither, and no method. A sub-tag.\n\n"
    "| cat |\n|---|\n| purr |\n\nPurrs, purr, {term}`method`: {ref}`Eq. 1 <eq-1>`.\n",
    "book/plain": "# Nothing\n\nIt leads nowhere.\n",
}  # fmt: skip
CONFIG = {
    "extensions": ["myst_parser", "sphinx.ext.mathjax", "formulas", "sheet", "mentions", "previews"],
    "html_theme": "basic",
    "html_static_path": [str(Path(sheet.__file__).parent / "static")],
    "html_css_files": ["book.css"],
    "mathjax_path": "mathjax/tex-chtml.js",
    "myst_enable_extensions": ["colon_fence", "deflist", "dollarmath"],
}


def build(folder: Path, **changed: str) -> tuple[Path, str]:
    """The HTML of the small book, with some pages changed, and what Sphinx warned of."""
    for page, text in (PAGES | changed).items():
        path = folder / f"{page}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    warned = io.StringIO()
    html = folder / "_html"
    Sphinx(folder, None, html, folder / "_trees", "html", CONFIG, status=None, warning=warned, freshenv=True).build(force_all=True)
    (html / "_static/mathjax").symlink_to(MATHJAX)
    return html, warned.getvalue()
