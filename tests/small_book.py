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
EQUATIONS = """# All

```{equation} 1
The sum, see {doc}`prose`.

*Departs*: a mean.
```

```{equation} 2
The cases.
```
"""
GLOSSARY = """# Terms

:::{glossary}
cat map
CM
  A map of cats, $c_n$ ({ref}`Eq. 1 <eq-1>`).

method
  A way.

purr
  A sound, unlike a {term}`tags`.

tags
  What is in it.
:::
"""
PROSE = """# A cat map

Many `cat maps` and a [cat map](prose); *Cat
maps* have no tag, a CM and a cat map neither, and no method. A sub-tag.

> A purr, he said.

| cat |
|---|
| purr |

Purrs, purr, {term}`method`: {ref}`Eq. 1 <eq-1>`.
"""
NAMES = ("room.first", "room.second", "test_room.test_first", "test_room.test_second")
CONTENTS = ("notebooks/one", "book/equations", "book/glossary", "book/reference", "book/prose", "book/plain")
PAGES = {
    "index": "# Start\n\nHere.\n\n```{toctree}\n" + "\n".join(CONTENTS) + "\n```\n",
    "notebooks/one": CHAPTER,
    "book/equations": EQUATIONS,
    "book/reference": "# Code\n\n" + "\n".join(f"```{{py:function}} {name}()\n```\n" for name in NAMES),
    "book/glossary": GLOSSARY,
    "book/prose": PROSE,
    "book/plain": "# Nothing\n\nIt leads nowhere.\n",
}
CONFIG = {
    "extensions": ["myst_parser", "sphinx.ext.mathjax", "formulas", "sheet", "mentions", "previews"],
    "source_suffix": {".md": "markdown"},  # Sphinx's default is one dictionary for all books of a process, to which extensions add
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
