"""Values of a notebook for the text of the book: MyST-NB's `glue`, and where that is not installed a stand-in.

MyST-NB brings Sphinx, which takes part in building the book alone. Who runs a notebook elsewhere misses nothing without it.
"""

from typing import Any

try:
    from myst_nb import glue
except ImportError:

    def glue(name: str, variable: Any, display: bool = True) -> None:
        """Show a value if asked to; no book is there to take it."""
        if display:
            from IPython.display import display as show

            show(variable)


__all__ = ["glue"]
