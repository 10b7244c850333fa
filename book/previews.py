"""Sphinx extension of the book: what a link to an equation or to a term leads to is kept in the page, for `static/previews.js` to show.

A page gets a `<template>` for each equation and each term that it links to, and no other; where no script runs nothing is shown of them.
An equation's holds the formula as its chapter has it and the line that the page of all equations says of it; a term's its entry in
the glossary. Links inside are made text, since a card is read and not walked through.
"""

import html
import re

from docutils import nodes
from sheet import ROW, formula
from sphinx.application import Sphinx

LINK = re.compile(r'<a [^>]*href="[^"]*#(eq-(\d+)|term-[^"]+)"')
TAG = re.compile(r"\\tag\{\d+\}")
SHEET, GLOSSARY = "book/equations", "book/glossary"
BEFORE_MATHJAX = 400  # its own handler has 500, and asks then whether the page has formulas


def plain(node: nodes.Element) -> nodes.Element:
    """A copy without links and ids."""
    copy = node.deepcopy()
    for link in list(copy.findall(nodes.reference)):
        link.parent.replace(link, link.children)
    for part in copy.findall(nodes.Element):
        part["ids"] = []
    return copy


def equation(app: Sphinx, number: int) -> nodes.Element:
    """The card of an equation: its number, the formula and what it says."""
    block = formula(app.env, number)
    block[:] = [nodes.Text(TAG.sub("", block.astext()))]
    rows = [row for row in app.env.get_doctree(SHEET).findall(nodes.container) if ROW in row["classes"] and row["number"] == number]
    title = nodes.paragraph("", "", nodes.strong("", f"Eq. {number}"))
    return nodes.container("", title, block, *(plain(row[0][0]) for row in rows))


def terms(app: Sphinx) -> dict[str, nodes.Element]:
    """The cards of all terms, by the ids that links have: the term and its first paragraph."""
    glossary = app.env.get_and_resolve_doctree(GLOSSARY, app.builder)
    cards = {}
    for item in glossary.findall(nodes.definition_list_item):
        names, definition = [part for part in item if isinstance(part, nodes.term)], item[-1]
        title = nodes.paragraph("", "", nodes.strong("", ", ".join(name.astext() for name in names)))
        for name in names:
            cards |= {label: nodes.container("", title.deepcopy(), plain(definition[0])) for label in name["ids"]}
    return cards


class Cards:
    """The cards of a build, each rendered once."""

    def __init__(self):
        self.rendered: dict[str, str] = {}
        self.terms: dict[str, nodes.Element] = {}

    def card(self, app: Sphinx, target: str, number: str) -> str:
        if target not in self.rendered:
            if not number and not self.terms:
                self.terms = terms(app)
            node = equation(app, int(number)) if number else self.terms[target]
            fragment = app.builder.render_partial(node)["fragment"]
            self.rendered[target] = f'<template data-preview="{html.escape(target)}">{fragment}</template>\n'
        return self.rendered[target]

    def add(self, app: Sphinx, page: str, template: str, context: dict, doctree: object) -> None:
        body = context.get("body", "")
        wanted = {} if page == SHEET else dict(LINK.findall(body))  # that page shows them all
        if wanted:
            context["body"] = body + "".join(self.card(app, *target) for target in sorted(wanted.items()))
            app.add_css_file("previews.css")
            app.add_js_file("previews.js", loading_method="defer")
            if 'class="math' in context["body"]:
                app.env.get_domain("math").data["has_equations"][page] = True


def setup(app: Sphinx) -> dict:
    app.connect("html-page-context", Cards().add, priority=BEFORE_MATHJAX)
    return {"parallel_read_safe": True}
