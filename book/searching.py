"""Sphinx extension of the book: a search in Chinese, which puts no space between words.

The pages are split into words by jieba, as Sphinx does where it is installed, with the terms of the table of terms among the words. What a
reader types is split in the browser, into the longest words that the pages have (`static/split.js`).
"""

from functools import cache
from pathlib import Path

import jieba
import terms
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.search.zh import SearchChinese

SPLIT = Path(__file__).parent / "static/split.js"


class Seen(set):
    """Words in Latin letters. Sphinx has them in a list, which grows with every page, and looks through it for every word."""

    extend = set.update


class Chinese(SearchChinese):
    js_splitter_code = SPLIT.read_text(encoding="utf-8")

    def init(self, options: dict) -> None:
        jieba.setLogLevel("ERROR")
        super().init(options)
        self.latin_terms = Seen()
        self.stem = cache(self.stem)  # most words have been seen before
        for word in options.get("words", ()):
            jieba.add_word(word)


def know_terms(app: Sphinx, config: Config) -> None:
    """Tell the search of the terms, in which jieba would see several words."""
    config.html_search_options = {"words": [term.chinese for term in terms.read()]}


def setup(app: Sphinx) -> dict:
    jieba.dt.tmp_dir = str(app.doctreedir)  # its cache, instead of a folder that others can write to
    app.add_search_language(Chinese)
    app.connect("config-inited", know_terms)
    return {"parallel_read_safe": True}
