"""Sphinx extension of the book: a search in Chinese, which puts no space between words.

The pages are split into words by jieba, as Sphinx does where it is installed, with the terms of the glossary among the words. What a
reader types is split in the browser, into the longest words that the pages have (`static/split.js`).
"""

from pathlib import Path

import jieba
from sphinx.application import Sphinx
from sphinx.search.zh import SearchChinese

SPLIT = Path(__file__).parent / "static/split.js"


class Chinese(SearchChinese):
    js_splitter_code = SPLIT.read_text(encoding="utf-8")

    def init(self, options: dict) -> None:
        jieba.setLogLevel("ERROR")
        super().init(options)
        for word in options.get("words", ()):
            jieba.add_word(word)


def setup(app: Sphinx) -> dict:
    jieba.dt.tmp_dir = str(app.doctreedir)  # its cache, instead of a folder that others can write to
    app.add_search_language(Chinese)
    return {"parallel_read_safe": True}
