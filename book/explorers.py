"""Sphinx extension of the book: a page with an explorer gets the scripts and the style of explorers, the others do without."""

from pathlib import Path

from sphinx.application import Sphinx

FOLDER = Path(__file__).parent / "static/explore"
SCRIPTS = [f"explore/{path.name}" for path in sorted(FOLDER.glob("*.js"))]  # any order will do: they only define


def add(app: Sphinx, page: str, template: str, context: dict, doctree: object) -> None:
    if "data-explorer=" in context.get("body", ""):
        app.add_css_file("explore/explore.css")
        for script in SCRIPTS:
            app.add_js_file(script, loading_method="defer")


def setup(app: Sphinx) -> dict:
    app.connect("html-page-context", add)
    return {"parallel_read_safe": True}
