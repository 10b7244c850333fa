"""Sphinx extension of the book: the first time that a page uses a term of the glossary, the word leads there.

Where a page says `{term}` itself, that is the link of the term on this page. Titles, code, tables, quotations and outputs
have none.
"""

import re

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.nodes import make_refnode
from words import HAN

GLOSSARY = "book/glossary"
WITHOUT = {GLOSSARY, "book/reference", "book/tests", "book/bibliography"}  # the terms themselves, and lists
OFTEN_MEANT_OTHERWISE = {  # these need a `{term}`
    "term-collapse", "term-dev", "term-ground", "term-method", "term-precision", "term-reading", "term-recall", "term-val",
}  # fmt: skip
CLOSED = (
    nodes.title, nodes.caption, nodes.rubric, nodes.table, nodes.block_quote, nodes.reference, pending_xref, nodes.literal, nodes.math,
)  # fmt: skip


def key(name: str) -> str:
    """A term as it is looked up: on one line, in small letters, in the singular."""
    return " ".join(name.lower().split()).removesuffix("s")


def entries(env: BuildEnvironment) -> dict[str, tuple[int, str, str]]:
    """For each term, as it is looked up: which entry of the glossary it belongs to, its id there, and how it is spelt."""
    items = env.get_doctree(GLOSSARY).findall(nodes.definition_list_item)
    terms = [(entry, term["ids"][0], term.astext()) for entry, item in enumerate(items) for term in item.findall(nodes.term)]
    return {key(name): (entry, label, name) for entry, label, name in terms}


def pattern(names: list[str]) -> re.Pattern:
    """Any of the terms, longer ones first, in the singular or plural; those in small letters may begin a sentence.

    A Chinese one may stand in the middle of a sentence; one of a single sign would be found within other words.
    """
    spelt = []
    for name in sorted(names, key=len, reverse=True):
        if re.fullmatch(rf"[{HAN}].*[{HAN}]", name):
            spelt.append(re.escape(name))
            continue
        stem = r"\s".join(map(re.escape, name.removesuffix("s").split()))
        stem = f"[{name[0]}{name[0].upper()}]{stem[1:]}" if name == name.lower() else stem
        spelt.append(rf"(?<![^\W{HAN}])(?<!-){stem}s?(?![^\W{HAN}]|-)")
    return re.compile("|".join(spelt))


def is_open(text: nodes.Text) -> bool:
    """Does a text stand in a paragraph of prose, where a link would not be in the way?"""
    above, node = [], text.parent
    while node is not None:
        above.append(node)
        node = node.parent
    outside = any(isinstance(node, CLOSED) or "cell_output" in node.get("classes", []) for node in above)
    return not outside and any(isinstance(node, nodes.paragraph) for node in above)


def open_texts(document: nodes.document) -> list[nodes.Text]:
    """The texts in which terms are looked for. MyST ends one at each line break; here such neighbours are one."""
    for parent in {id(text.parent): text.parent for text in document.findall(nodes.Text) if is_open(text)}.values():
        parts = []
        for child in parent.children:
            if parts and isinstance(child, nodes.Text) and isinstance(parts[-1], nodes.Text):
                parts[-1] = nodes.Text(parts[-1] + child)
            else:
                parts.append(child)
        parent[:] = parts
    return [text for text in document.findall(nodes.Text) if is_open(text)]


class Mentions(SphinxPostTransform):
    """Links of first mentions; after the formulas of `sheet`, and while a page's own `{term}` can still be told."""

    default_priority = 6

    def run(self) -> None:
        page = self.env.docname
        if page in WITHOUT or GLOSSARY not in self.env.found_docs:
            return
        known = entries(self.env)
        own = [link["reftarget"] for link in self.document.findall(pending_xref) if link["reftype"] == "term"]
        entry_of = {label: entry for entry, label, _ in known.values()}
        labels = self.env.domaindata["std"]["terms"]  # of a translated glossary under both names
        seen = {entry_of.get(labels[name.lower()][1]) for name in own if name.lower() in labels}
        words = pattern([name for _, label, name in known.values() if label not in OFTEN_MEANT_OTHERWISE and len(name) > 1])
        for text in open_texts(self.document):
            parts, end = [], 0
            for match in words.finditer(text):
                entry, label, _ = known[key(match[0])]
                if entry not in seen:
                    seen.add(entry)
                    word = nodes.inline("", match[0], classes=["mention"])
                    link = make_refnode(self.app.builder, page, GLOSSARY, label, word)
                    parts += [nodes.Text(text[end : match.start()]), link]
                    end = match.end()
            if parts:
                text.parent.replace(text, [*parts, nodes.Text(text[end:])])


def setup(app: Sphinx) -> dict:
    app.add_post_transform(Mentions)
    return {"parallel_read_safe": True}
