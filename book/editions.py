"""Sphinx extension of the book: its editions in several languages lead to one another, and to what only the English one has.

    editions         the languages beside English that are built, such as `zh_CN`; each stands in a folder of its name
    english_edition  set while another is built: the folder of the English one, as HTML

Every page of an edition has a link to itself in the other ones, the switch, which works without a script; `edition.js` adds the section
that the reader is at, which has the same id in all editions. A name of the code that another edition has no entry for leads to the
English reference.
"""

import re
from pathlib import Path
from posixpath import join, relpath

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.inventory import InventoryFile
from words import load

NAMES = {"en": "English", "zh_CN": "中文"}
ENTRY = re.compile(r"""(?<=href=['"])(?:tests|reference)\.html#(?=test_|dsgc\.)""")
WITHOUT_SOURCE = ("search", "genindex")  # pages that Sphinx makes in every edition


def folder(language: str) -> str:
    """Where an edition stands below the English one."""
    return "." if language == "en" else language


def tag(language: str) -> str:
    """A language as HTML names it."""
    return language.replace("_", "-")


def others(app: Sphinx, page: str) -> list[dict[str, str]]:
    """The same page in the other editions, as links of this one."""
    here = app.config.language
    start = join(folder(here), page, "..")
    return [
        {"language": tag(there), "name": NAMES[there], "address": relpath(join(folder(there), f"{page}.html"), start)}
        for there in ("en", *app.config.editions)
        if there != here
    ]


def add(app: Sphinx, page: str, template: str, context: dict, doctree: object) -> None:
    """The switch of a page, and the same for search engines."""
    there_too = page in app.env.found_docs or page in WITHOUT_SOURCE
    context["editions"] = found = others(app, page) if there_too else []
    links = [f'<link rel="alternate" hreflang="{other["language"]}" href="{other["address"]}">' for other in found]
    context["metatags"] = "\n".join([context.get("metatags", ""), *links])


def lead_to_english(app: Sphinx, page: str, template: str, context: dict, doctree: object) -> None:
    """What a cell has printed as a link to an entry of the code leads to the English edition too."""
    if app.config.english_edition and "body" in context:
        back = relpath("book", join(folder(app.config.language), page, ".."))
        context["body"] = ENTRY.sub(lambda found: f"{back}/{found[0]}", context["body"])


def english(app: Sphinx, env, node: nodes.Element, content: nodes.Element) -> nodes.reference | None:
    """A name of the code, as a link to its entry in the English edition."""
    if node.get("refdomain") != "py" or not app.config.english_edition:
        return None
    if not hasattr(env, "english_entries"):
        with Path(app.config.english_edition, "objects.inv").open("rb") as file:
            env.english_entries = InventoryFile.load(file, "", join)
    for kind, entries in env.english_entries.items():  # of whatever kind: a property is named as a method is
        if kind.startswith("py:") and node["reftarget"] in entries:
            here = join(folder(app.config.language), node["refdoc"], "..")
            address = entries[node["reftarget"]][2]
            return nodes.reference("", "", content, internal=True, refuri=relpath(address, here))
    return None


def setup(app: Sphinx) -> dict:
    app.add_config_value("editions", [], "html")
    app.add_config_value("english_edition", "", "env")
    load(app)
    app.connect("html-page-context", add, priority=400)  # before the theme takes out what shows nothing
    app.connect("html-page-context", lead_to_english)
    app.connect("missing-reference", english, priority=400)  # before names of other packages become text
    return {"parallel_read_safe": True}
