"""Sphinx extension of the book: what a link to an equation or to a term leads to is kept in the page, for `static/previews.js` to show.

A page gets a `<template>` for each equation and each term that it links to, and no other; where no script runs nothing is shown of them.
An equation's holds the formula as its chapter has it and the line that the page of all equations says of it; a term's its entry in
the glossary. Links inside are made text, since a card is read and not walked through.
"""

import html
import re

from docutils import nodes
from sheet import ROW
from sphinx.application import Sphinx
from words import _

LINK = re.compile(r'<a (?![^>]*headerlink)[^>]*href="[^"]*#(eq-\d+|term-[^"]+)"')
TAG = re.compile(r"\\tag\{\d+\}")
SHEET, GLOSSARY = "book/equations", "book/glossary"


def card(title: str, *content: nodes.Node) -> nodes.container:
    """A title and what stands below it, without links and ids."""
    whole = nodes.container("", nodes.paragraph("", "", nodes.strong("", title)), *(part.deepcopy() for part in content))
    for link in list(whole.findall(nodes.reference)):
        link.parent.replace(link, link.children)
    for part in whole.findall(nodes.Element):
        part["ids"] = []
    return whole


def equations(app: Sphinx) -> dict[str, nodes.Element]:
    """The cards of all equations: number, formula, and what the page of all equations says of it."""
    cards = {}
    for row in app.env.get_and_resolve_doctree(SHEET, app.builder).findall(nodes.container):
        if ROW in row["classes"]:
            formula, text = row.children
            formula[:] = [nodes.Text(TAG.sub("", formula.astext()))]  # the card's first line has the number
            cards[f"eq-{row['number']}"] = card(_("Eq. {number}").format(number=row["number"]), formula, *text[:-1])
    return cards


def terms(app: Sphinx) -> dict[str, nodes.Element]:
    """The cards of all terms, by the ids that links have: the term, its other names and its entry in the glossary."""
    cards = {}
    for item in app.env.get_and_resolve_doctree(GLOSSARY, app.builder).findall(nodes.definition_list_item):
        names = [part for part in item if isinstance(part, nodes.term)]
        entry = card(", ".join(name.astext() for name in names), *item[-1])
        cards |= {label: entry for name in names for label in name["ids"]}
    return cards


class Cards:
    """The cards of a build, made when the first page needs one."""

    def __init__(self):
        self.cards: dict[str, nodes.Element] = {}

    def template(self, app: Sphinx, target: str) -> str:
        content = app.builder.render_partial(self.cards[target])["fragment"]
        return f'<template data-preview="{html.escape(target)}">{content}</template>\n'

    def add(self, app: Sphinx, page: str, template: str, context: dict, doctree: object) -> None:
        wanted = sorted(set(LINK.findall(context.get("body", ""))))
        if page == SHEET:  # its links to equations stand beside them
            wanted = [target for target in wanted if not target.startswith("eq-")]
        if not wanted:
            return
        self.cards = self.cards or equations(app) | terms(app)
        context["body"] += "".join(self.template(app, target) for target in wanted)
        app.add_css_file("previews.css")
        app.add_js_file("previews.js", loading_method="defer")


def setup(app: Sphinx) -> dict:
    app.connect("html-page-context", Cards().add)
    return {"parallel_read_safe": True}
