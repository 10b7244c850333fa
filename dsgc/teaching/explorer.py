"""A picture that the reader can touch: places one of the explorers of `book/static/explore` on a page of the book.

What an explorer computes and how it looks stands in these scripts, which the book loads (`book/explorers.py`). A notebook that is
opened elsewhere, a reader without JavaScript and a printer show the picture.
"""

import base64
import io
import json
import struct
from collections.abc import Mapping
from html import escape
from typing import Any

import numpy as np
from torch import Tensor

from dsgc.teaching import legible, worded

TEMPLATE = """<div class="explorer" data-explorer="{name}">
<div class="picture">
<img src="data:image/png;base64,{code}" width="{width}" height="{height}" alt="{alt}">
<p>In the book on a screen this picture can be tried out; here it is only shown.</p>
</div>
<script type="application/json">{data}</script>
</div>"""


class Explorer:
    """An explorer as the value of a notebook's cell.

    Args:
        name: which one: "em", "rules", "thresholds" or "ptc".
        picture: a matplotlib figure, for where no script runs.
        alt: what it shows.
        data: what the explorer's script is given, of what JSON has; whole numbers 0 to 255 may be an array or a tensor of uint8.
    """

    def __init__(self, name: str, picture: Any, alt: str, data: Mapping[str, Any] | None = None):
        content = _png(picture)
        width, height = struct.unpack(">II", content[16:24])  # of the first chunk of every PNG
        given = json.dumps(dict(data or {}), default=_as_bytes, allow_nan=False, separators=(",", ":"))
        self.html = TEMPLATE.format(
            name=escape(name), code=base64.b64encode(content).decode(), width=width, height=height, alt=escape(alt),
            data=given.replace("<", "\\u003c"),  # nothing in it can end the script
        )  # fmt: skip
        self.beside = worded.about(picture, _png)

    def _repr_html_(self) -> tuple[str, dict[str, Any]]:
        return self.html, self.beside

    def __repr__(self) -> str:
        return "an explorer; open the book to try it out"


def _png(picture: Any) -> bytes:
    buffer = io.BytesIO()
    picture.savefig(buffer, format="png", metadata=legible.about(picture))
    return buffer.getvalue()


def _as_bytes(value: Any) -> dict[str, Any]:
    """An array of bytes for `explore.bytes`, read row by row: {"shape", "bytes"}, the latter in base64."""
    array = value.numpy() if isinstance(value, Tensor) else value
    if not isinstance(array, np.ndarray) or array.dtype != np.uint8:
        raise TypeError(f"an explorer's data has {type(value).__name__} {getattr(array, 'dtype', '')}; give what JSON has, or uint8")
    return {"shape": array.shape, "bytes": base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()}
