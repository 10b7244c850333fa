"""One picture on its way through the method, from left to right: the first thing that a reader of the book sees."""

import base64
import io
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

import numpy as np
from IPython.display import HTML
from PIL import Image


class Station(NamedTuple):
    """A step of the way: a picture or a few words, under its title, which leads to the page that explains it."""

    title: str
    page: str  # where the title leads, relative to the page with the strip
    shown: np.ndarray | Sequence[str]  # (H, W, 3) uint8, or words
    alt: str = ""  # what the picture shows


def strip(stations: Sequence[Station]) -> HTML:
    """The stations side by side, in as many rows as the screen needs (`book/static/strip.css`)."""
    return HTML(f'<ol class="strip">{"".join(map(_item, stations))}</ol>')


def _item(station: Station) -> str:
    name = f'<a href="{escape(station.page)}">{escape(station.title)}</a>'
    if isinstance(station.shown, np.ndarray):
        return f"<li>{_image(station.shown, station.alt)}{name}</li>"
    return f'<li><span class="words">{"".join(f"<b>{escape(word)}</b>" for word in station.shown)}</span>{name}</li>'


def _image(pixels: np.ndarray, alt: str) -> str:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="png", optimize=True)
    height, width = pixels.shape[:2]
    code = base64.b64encode(buffer.getvalue()).decode()
    return f'<img src="data:image/png;base64,{code}" width="{width}" height="{height}" alt="{escape(alt)}">'
