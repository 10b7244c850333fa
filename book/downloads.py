"""Sphinx extension of the book: the files that pages offer can be saved from a page on disk as well, and a button says what it does.

A page that was opened from disk may not read other files, and a browser shows what such a page links to instead of saving it. A script
it may load, so each file of `_sources` has one beside it that hands over the text; `download.js` asks for it.
"""

import json
from pathlib import Path

from sphinx.application import Sphinx
from words import _

ICON = "fas fa-print"


def say(app: Sphinx, page: str, template: str, context: dict, doctree: object) -> None:
    """The theme's `.pdf` is no file: it opens the browser's print dialogue."""
    for group in context.get("header_buttons", []):
        for button in group.get("buttons", []):
            if button.get("label") == "download-pdf-button":
                button |= {"text": _("print"), "tooltip": _("Print this page"), "icon": ICON}


def hand_over(app: Sphinx, error: Exception | None) -> None:
    """Beside each source its text as a script, which a page calls `handed`."""
    if error:
        return
    for source in Path(app.outdir, "_sources").rglob("*.*"):
        if source.suffix in (".ipynb", ".md"):
            text = json.dumps(source.read_text(encoding="utf-8"))
            source.with_name(f"{source.name}.js").write_text(f"handed({text});\n", encoding="utf-8")


def setup(app: Sphinx) -> dict:
    app.connect("html-page-context", say, priority=900)  # after the theme, which makes the buttons
    app.connect("build-finished", hand_over, priority=900)  # after the plain notebooks have taken the place of their sources
    return {"parallel_read_safe": True}
