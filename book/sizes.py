"""Sphinx extension of the book: every picture of a page says its size, and one that must be shown wide is.

A picture without a size takes no room until it has come, and then moves what the reader reads. The letters of a figure, whose PNG
says how small they are (`dsgc.teaching.legible`), may be too small in the column of the text: then it reaches into the margin.
"""

import base64
import io
import math
import re
from pathlib import Path
from xml.etree import ElementTree

from PIL import Image
from sphinx.application import Sphinx

from dsgc.teaching.legible import KEY

PICTURE = re.compile(r"<img\b[^>]*>")
ATTRIBUTE = re.compile(r'([\w-]+)="([^"]*)"')
COLUMN = 688  # pixels of the text's column, in a window 1280 wide
LEAST = 9  # pixels of a letter as shown
POINTS = 9  # of the smallest letters in most figures


def smallest_letter(about: dict) -> float | None:
    """What a figure's file says of its letters; of one stored before it did, what most have. None for pictures that are no figures."""
    if KEY in about:
        return float(about[KEY])
    return POINTS / 72 * round(about["dpi"][0]) if "Matplotlib" in about.get("Software", "") else None


def measured(content: bytes) -> tuple[int, int, float | None]:
    """Width, height and smallest letter of a picture, in its own pixels."""
    if content.lstrip().startswith(b"<"):
        svg = ElementTree.fromstring(content)
        sides = svg.get("viewBox", "").split()[2:] or [svg.get("width", ""), svg.get("height", "")]
        return *(round(float(re.sub(r"[a-z]+$", "", side))) for side in sides), None
    picture = Image.open(io.BytesIO(content))
    return *picture.size, smallest_letter(picture.info)


def sized(tag: str, read) -> str:
    """An <img> with its width and height; wide where its letters need that, and `--legible` says how wide at least."""
    given = dict(ATTRIBUTE.findall(tag))
    width, height, letter = measured(read(given["src"]))
    added = "" if {"width", "height"} <= given.keys() else f' width="{width}" height="{height}"'
    if letter:
        added += f' style="--legible: {math.ceil(width * LEAST / letter)}px"'
        if letter * COLUMN / width < LEAST:
            added += ' class="full-width"'
    return tag.replace("<img", f"<img{added}", 1)


def add(app: Sphinx, page: str, template: str, context: dict, doctree: object) -> None:
    """The pictures of a page, before it is written. Raises `KeyError` for one that is neither in the page nor among the book's."""
    files = {name: Path(app.srcdir, source) for source, name in app.builder.images.items()}

    def read(address: str) -> bytes:
        if address.startswith("data:"):
            return base64.b64decode(address.partition("base64,")[2])
        return files[address.rpartition("/")[2]].read_bytes()

    if "body" in context:
        context["body"] = PICTURE.sub(lambda found: sized(found[0], read), context["body"])


def setup(app: Sphinx) -> dict:
    app.connect("html-page-context", add)
    return {"parallel_read_safe": True}
