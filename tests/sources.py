"""What the sources of the book's pages say in MyST: their text, and the directives in it."""

import re
from collections.abc import Iterator
from pathlib import Path

import jupytext
import nbformat

ROOT = Path(__file__).resolve().parents[1]
CHAPTERS = {path.stem: jupytext.read(path) for path in sorted((ROOT / "notebooks").glob("*.py"))}
SOURCES = {path.stem: path.read_text(encoding="utf-8") for path in sorted(ROOT.glob("book/*.md"))}
SOURCES |= {
    name: "\n\n".join(cell.source for cell in chapter.cells if cell.cell_type == "markdown") for name, chapter in CHAPTERS.items()
}
FENCE = re.compile(r"^(`{3,})\{([\w-]+)\} ?([^\n]*)\n(.*?)^\1$", re.MULTILINE | re.DOTALL)
FENCED_TEXT = re.compile(r"^(`{3,})(?:markdown|python|bash)\n.*?^\1$", re.MULTILINE | re.DOTALL)


def directives(text: str, *names: str) -> Iterator[tuple[str, str, str]]:
    """(name, argument, body) of every directive of these names; the nested ones are in the bodies."""
    for _, name, argument, body in FENCE.findall(FENCED_TEXT.sub("", text)):
        if name in names:
            yield name, argument, body


def glued(name: str) -> set[str]:
    """The numbers that a chapter's stored run has left for its own text and that of other pages."""
    cells = nbformat.read(ROOT / f"notebooks/{name}.ipynb", as_version=4).cells
    marks = [output.get("metadata", {}).get("scrapbook") for cell in cells for output in cell.get("outputs", [])]
    return {mark["name"] for mark in marks if mark}
