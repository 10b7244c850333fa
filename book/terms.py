"""Sphinx extension of the book: the words of the Chinese edition as a table, and the file that they are read from.

    ```{terms}
    ```

stands for `book/terms.csv` without what only translators need. A parenthesis after an English term says which of its meanings is
meant.
"""

import csv
from pathlib import Path
from typing import NamedTuple

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from words import _

FILE = Path(__file__).with_name("terms.csv")
CHINESE = "language-zh-CN"  # docutils makes lang="zh-CN" of such a class


class Term(NamedTuple):
    english: str
    chinese: str
    forbidden: tuple[str, ...]  # words that must not stand for it
    source: str  # paper: the paper's own word; field: it has none
    note: str

    @property
    def name(self) -> str:
        """The English term without the parenthesis that tells its meaning."""
        return self.english.split(" (")[0]

    @property
    def has_one_meaning(self) -> bool:
        return self.name == self.english


def read(path: Path = FILE) -> tuple[Term, ...]:
    """The table, in the order of its file."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file, strict=True)
        return tuple(Term(row["english"], row["chinese"], split(row["not"]), row["source"], row["note"]) for row in rows)


def split(words: str) -> tuple[str, ...]:
    return tuple(filter(None, words.split(";")))


def cell(text: str, *classes: str) -> nodes.entry:
    """A cell that is the same in every language."""
    inline = nodes.inline("", text, classes=list(classes))
    return nodes.entry("", nodes.paragraph("", "", inline, translatable=False))


def said(source: str) -> str:
    return _("yes") if source == "paper" else "–"


class Terms(SphinxDirective):
    """The table: English, Chinese, and whether the paper has this very word."""

    def run(self) -> list[nodes.Node]:
        self.env.note_dependency(str(FILE))
        mark = nodes.paragraph("in the paper", "in the paper")
        mark.source, mark.line = self.get_source_info()  # what has a source is translated
        head = nodes.row("", cell("English"), cell("中文", CHINESE), nodes.entry("", mark))
        rows = [nodes.row("", cell(term.english), cell(term.chinese, CHINESE), cell(said(term.source))) for term in read()]
        columns = [nodes.colspec(colwidth=width) for width in (50, 30, 20)]
        group = nodes.tgroup("", *columns, nodes.thead("", head), nodes.tbody("", *rows), cols=len(columns))
        return [nodes.table("", group, classes=["terms"])]


def setup(app: Sphinx) -> dict:
    app.add_directive("terms", Terms)
    return {"parallel_read_safe": True}
