"""Sphinx extension of the book: a page with an explorer gets the scripts and the style of explorers, the others do without.

What the scripts say, `` _`after ${n} steps` ``, is a message of the build as that of the extensions is, known as "after {0} steps".
"""

import json
import re
from functools import cache
from pathlib import Path

from babel.messages.extract import extract_from_file
from sphinx.application import Sphinx
from words import _

FOLDER = Path(__file__).parent / "static/explore"
SCRIPTS = [f"explore/{path.name}" for path in sorted(FOLDER.glob("*.js"))]  # any order will do: they only define

PLACE = re.compile(r"\$\{[^{}]*\}")


@cache
def said() -> tuple[str, ...]:
    """What the scripts say, with numbers where a value will stand."""
    found = (text for path in sorted(FOLDER.glob("*.js")) for _, text, *_ in extract_from_file("javascript", path, {"_": None}))
    return tuple(_numbered(text) for text in dict.fromkeys(found))


def _numbered(text: str) -> str:
    places = iter(range(len(text)))
    return PLACE.sub(lambda found: f"{{{next(places)}}}", text)


def add(app: Sphinx, page: str, template: str, context: dict, doctree: object) -> None:
    if "data-explorer=" in context.get("body", ""):
        app.add_css_file("explore/explore.css")
        translated = {text: other for text in said() if (other := _(text)) != text}
        if translated:
            app.add_js_file(None, body=f"globalThis.explore = {{ words: {json.dumps(translated, ensure_ascii=False)} }};")
        for script in SCRIPTS:
            app.add_js_file(script, loading_method="defer")


def setup(app: Sphinx) -> dict:
    app.connect("html-page-context", add)
    return {"parallel_read_safe": True}
