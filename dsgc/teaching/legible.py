"""How small the smallest letters of a figure are. Its PNG carries that, so that a page knows how wide the figure has to be shown.

Pixels do not tell what in them is a letter, but the figure does, at the moment when it is drawn.
"""

from typing import Any

from IPython import get_ipython
from IPython.core.pylabtools import print_figure

from dsgc.teaching import worded

KEY = "Smallest letter"  # of a PNG's text chunk; the value is in pixels of the picture


def smallest(figure: Any) -> float:
    """The size of the smallest letters of a matplotlib figure in pixels of its picture; an index or a power may be smaller."""
    figure.draw_without_rendering()  # before that ticks have no labels
    texts = figure.findobj(lambda artist: hasattr(artist, "get_fontsize") and artist.get_visible() and artist.get_text().strip())
    return min((text.get_fontsize() for text in texts), default=72) * figure.dpi / 72


def about(figure: Any) -> dict[str, str]:
    """What a PNG of a figure is given as metadata."""
    return {KEY: f"{smallest(figure):.2f}"}


def png(figure: Any) -> bytes:
    """The PNG of a figure as IPython makes it, with `KEY`."""
    return print_figure(figure, metadata=about(figure))


def shown(figure: Any) -> tuple[bytes, dict[str, Any]]:
    """What a cell gives of a figure: its PNG, and beside it its words and the PNG in other languages."""
    return png(figure), worded.about(figure, png)


def in_notebooks(kind: type) -> None:
    """Have figures of this type that are values of cells shown as `shown` does; outside of a notebook this does nothing.

    The backend must be loaded already, since that sets how figures are shown.
    """
    shell: Any = get_ipython()
    if shell:
        shell.display_formatter.formatters["image/png"].for_type(kind, shown)
