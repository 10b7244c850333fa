"""Sphinx extension of the book: which pages speak of a word the most, for the order of what the search finds (`static/scorer.js`).

Sphinx's index knows whether a word stands on a page, but not how often, so that a chapter and a page that mentions it once
look alike. The weight is that of BM25, the usual one of search engines: how often, for the page's length, and how rare the
word is among the pages.
"""

import json
import math
from collections import Counter
from pathlib import Path

from sphinx.application import Sphinx

LISTS = ("book/reference", "book/tests")  # every word of the book stands there; the scorer puts them behind
OFTEN, LENGTH = 20, 0.75  # BM25's constants: a chapter is long, so that many mentions still count; how much a page's length does


def weights(counts: dict[str, Counter]) -> dict[str, dict[str, float]]:
    """By word and page; a page that says the word but once is left out."""
    mean = sum(count.total() for count in counts.values()) / len(counts)
    found: dict[str, dict[str, float]] = {}
    for word in sorted(set().union(*counts.values())):
        pages = {page: count[word] for page, count in counts.items() if count[word]}
        rare = math.log(1 + (len(counts) - len(pages) + 0.5) / (len(pages) + 0.5))
        for page, times in pages.items():
            if times > 1:
                long = 1 - LENGTH + LENGTH * counts[page].total() / mean
                found.setdefault(word, {})[page] = rare * times * (OFTEN + 1) / (times + OFTEN * long)
    return found


def script(found: dict[str, dict[str, float]]) -> str:
    """The weights as the scorer reads them: pages by their place in a list, three digits."""
    pages = sorted(set().union(*found.values()))
    place = {page: number for number, page in enumerate(pages)}
    words = {word: {place[page]: float(f"{weight:.3g}") for page, weight in weight_of.items()} for word, weight_of in found.items()}
    return f"const RANKS = {json.dumps({'pages': pages, 'words': words}, ensure_ascii=False, separators=(',', ':'))};\n"


def setup(app: Sphinx) -> dict:
    counts: dict[str, Counter] = {}

    def count(app: Sphinx, page: str, template: str, context: dict, doctree) -> None:
        if page == "search":
            app.add_js_file("ranks.js")
        if doctree is not None and page not in LISTS:
            language = app.builder.indexer.lang
            words = filter(language.word_filter, language.split(doctree.astext().lower()))
            counts[page] = Counter(map(language.stem, words))

    def write(app: Sphinx, error: Exception | None) -> None:
        if not error:
            Path(app.outdir, "_static/ranks.js").write_text(script(weights(counts)), encoding="utf-8")

    app.connect("html-page-context", count)
    app.connect("build-finished", write)
    return {"parallel_read_safe": True}
