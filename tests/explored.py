"""Explorers as the tests see them: their maths in a browser, and a page from a file with what a chapter's cell gives."""

import contextlib
from pathlib import Path

import explorers
import pages
import pydata_sphinx_theme
import sphinx_book_theme

MATHS = ("em.js", "rules.js", "thresholds.js", "ptc.js")
PYDATA = Path(pydata_sphinx_theme.__file__).parent / "theme/pydata_sphinx_theme/static/styles"
STYLES = [
    PYDATA / "theme.css",
    PYDATA / "pydata-sphinx-theme.css",
    Path(sphinx_book_theme.__file__).parent / "theme/sphinx_book_theme/static/styles/sphinx-book-theme.css",
    explorers.FOLDER.parent / "book.css",
    explorers.FOLDER / "explore.css",
]
COLUMN = "main { display: block !important; max-width: 46rem; box-sizing: border-box; margin: auto; padding: 0 1rem }"  # as in the book


@contextlib.contextmanager
def chromium():
    """A browser, or a test skipped or failed as where the book's pages need one."""
    executable = pages.browser()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=executable, args=pages.QUIET)


def written(folder: Path, containers: list[str], mode: str) -> str:
    """A page with containers, the book's style and the explorers' scripts; its address, of a file."""
    styles = "".join(f'<link rel="stylesheet" href="{path.as_uri()}">' for path in STYLES)
    scripts = "".join(f'<script defer src="{path.as_uri()}"></script>' for path in sorted(explorers.FOLDER.glob("*.js")))
    cells = "".join(f'<div class="cell_output"><div class="output text_html">{container}</div></div>' for container in containers)
    page = f"""<!doctype html><html lang="en" data-theme="{mode}" data-mode="{mode}"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width"><title>Explorers</title>{styles}<style>{COLUMN}</style>{scripts}</head>
<body><main class="bd-content"><article class="bd-article"><h1>Explorers</h1>{cells}</article></main></body></html>"""
    path = folder / f"{mode}.html"
    path.write_text(page, encoding="utf-8")
    return path.as_uri()
