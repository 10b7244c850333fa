"""Sphinx extension of the book: pages that show source share their side bar.

They stand in no contents, so that nothing in it is marked as theirs, and it differs only in how many folders its links go up. Sphinx
makes it anew for each page, and copies all of the book's headings each time.
"""

from collections.abc import Callable
from functools import cache

from sphinx.application import Sphinx

SOURCE = "_modules/"
MAKES = "toctree"  # Sphinx's, for templates; the theme's calls it


class Shared:
    """What the first page of a depth has made, for all others of it."""

    def __init__(self):
        self.by_depth: dict[int, Callable] = {}

    def share(self, app: Sphinx, page: str, template: str, context: dict, doctree: object) -> None:
        if page.startswith(SOURCE) and MAKES in context:
            context[MAKES] = self.by_depth.setdefault(page.count("/"), cache(context[MAKES]))


def setup(app: Sphinx) -> dict:
    app.connect("html-page-context", Shared().share, priority=400)  # before the theme, which calls it
    return {"parallel_read_safe": True}
