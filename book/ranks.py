"""Sphinx extension of the book: which pages speak of a word the most, for the order of what the search finds (`static/scorer.js`).

Sphinx's index knows whether a word stands on a page, but not how often, so that a chapter and a page that mentions it once look alike.
The weight is that of BM25, the usual one of search engines: how often, for the page's length, and how rare the word is among the pages.
"""

import json
import math
from collections import Counter
from pathlib import Path

from sphinx.application import Sphinx

LISTS = ("book/reference", "book/tests")  # every word of the book stands there; the scorer puts them behind
KEPT = 8  # pages of a word
OFTEN, LENGTH = 1.5, 0.75  # the constants of BM25: how soon a further mention counts less, how much a page's length counts


def weights(counts: dict[str, Counter]) -> dict[str, dict[str, float]]:
    """By word and page; a page that says the word but once is left out."""
    mean = sum(count.total() for count in counts.values()) / len(counts)
    found: dict[str, dict[str, float]] = {}
    for word in sorted(set().union(*counts.values())):
        pages = {page: count[word] for page, count in counts.items() if count[word]}
        rare = math.log(1 + (len(counts) - len(pages) + 0.5) / (len(pages) + 0.5))
        weight = {}
        for page, times in pages.items():
            long = 1 - LENGTH + LENGTH * counts[page].total() / mean
            weight[page] = float(f"{rare * times * (OFTEN + 1) / (times + OFTEN * long):.3g}")
        best = sorted((page for page in pages if pages[page] > 1), key=lambda page: -weight[page])[:KEPT]
        if best:
            found[word] = {page: weight[page] for page in best}
    return found


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
            text = json.dumps(weights(counts), ensure_ascii=False, separators=(",", ":"))
            Path(app.outdir, "_static/ranks.js").write_text(f"const RANKS = {text};\n", encoding="utf-8")

    app.connect("html-page-context", count)
    app.connect("build-finished", write)
    return {"parallel_read_safe": True}
