"""Sphinx extension of the book: a long line of code, or of what it prints, goes on below itself, indented, instead of being cut off."""

import html
import re

from sphinx.application import Sphinx

CODE = re.compile(r'(<div class="highlight"><pre>)(.*?)(</pre>)', re.DOTALL)
TAG = re.compile(r"<[^>]+>")
NUMBER = re.compile(r'<span class="linenos">(.*?)</span>')  # of a line, in the pages of source
SHORT = 32  # characters that fit the narrowest page
DEEPER = 4  # characters that what goes on is indented more


def wrapped(line: str) -> str:
    """A highlighted line with its end, in a box of its own if it may have to go on."""
    text = html.unescape(TAG.sub("", NUMBER.sub(lambda found: " " * len(found[1]), line)))
    if len(text.rstrip()) <= SHORT:
        return line
    indent = len(text) - len(text.lstrip(" ")) + DEEPER
    return f'<span class="long" style="--indent: {indent}ch">{line}</span>'


def wrap(app: Sphinx, page: str, template: str, context: dict, doctree: object) -> None:
    def block(found: re.Match) -> str:
        return found[1] + "".join(map(wrapped, found[2].splitlines(keepends=True))) + found[3]

    if "body" in context:
        context["body"] = CODE.sub(block, context["body"])


def setup(app: Sphinx) -> dict:
    app.connect("html-page-context", wrap)
    return {"parallel_read_safe": True}
