"""Sphinx extension of the book: how long a page takes to read, solutions that fold without a script, and a list of all exercises.

    {reading}`../notebooks/01_ptc`     the minutes of that page, counted as the book is built
    {exercise-list}                    a directive: every exercise of the book, by page, in their order

Exercises and their numbers are sphinx-exercise's. A solution is a `details` element here, which needs no script, shows its focus and
is printed whole. The package would leave it open, or to a script that stumbles over the link in its title.
"""

import re

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.docutils import SphinxDirective, SphinxRole
from sphinx.util.logging import getLogger
from sphinx.util.nodes import make_refnode
from sphinx_exercise.nodes import exercise_subtitle, is_exercise_node, solution_node
from words import HAN, _

SIGN = re.compile(f"[{HAN}]")
SIGNS_A_WORD = 1.7  # of Chinese, which has no spaces
WORDS_A_MINUTE = 200  # plain text is read at about 240; here every sentence carries something
SECONDS = {"formula": 20, "line": 3, "output": 20}  # displayed; of code; a figure, table or listing that a cell shows
STEP = 5  # minutes; nobody knows it better
HIDDEN = {  # of a cell, by its tags; as a solution or an answer, what a reader may leave closed is not counted
    "cell_code_source": {"tag_hide-input", "tag_hide-cell", "tag_remove-input", "tag_remove-cell"},
    "cell_code_output": {"tag_hide-output", "tag_hide-cell", "tag_remove-output", "tag_remove-cell"},
}


class ReadingPlace(nodes.Inline, nodes.Element):
    """The place of a page's minutes, until all pages are read."""


class Summary(nodes.TextElement):
    """What is seen of a closed solution."""


class ExercisesPlace(nodes.General, nodes.Element):
    """The place of the list, until all exercises have numbers."""


# minutes


def minutes(page: nodes.Node) -> int:
    """To read what a page shows unasked, from its words, formulas, code and outputs; rounded up to whole steps."""
    seconds = 60 * words(page) / WORDS_A_MINUTE + sum(SECONDS[kind] for kind in shown(page))
    return STEP * max(1, -int(-seconds // (60 * STEP)))


def words(node: nodes.Node) -> float:
    """Of the prose, each formula in a line being one."""
    if isinstance(node, nodes.Text):
        return len(SIGN.sub(" ", node).split()) + len(SIGN.findall(node)) / SIGNS_A_WORD
    if isinstance(node, nodes.math):
        return 1
    return 0 if apart(node) or closed(node) else sum(map(words, node.children))


def shown(node: nodes.Node):
    """The kind of whatever a page shows that is no prose."""
    if isinstance(node, nodes.math_block):
        yield "formula"
    elif isinstance(node, nodes.literal_block):
        yield from ("line" for line in node.astext().splitlines() if line.strip())
    elif part(node) == "cell_code_output":
        yield from ["output"] * bool(node.children)
    elif isinstance(node, nodes.Element) and not closed(node):
        for child in node.children:
            if not HIDDEN.get(part(child), set()) & set(node.get("classes", ())):
                yield from shown(child)


def apart(node: nodes.Node) -> bool:
    """Is it counted in another way than by its words?"""
    return isinstance(node, nodes.math_block | nodes.literal_block | nodes.comment) or part(node) == "cell_code"


def closed(node: nodes.Node) -> bool:
    """Is it a solution, or a dropdown of sphinx-design?"""
    return isinstance(node, solution_node) or node.get("design_component") == "dropdown"


def part(node: nodes.Node) -> str | None:
    """What MyST-NB calls a part of a cell."""
    return None if isinstance(node, nodes.Text) else node.get("nb_element")


class Reading(SphinxRole):
    """{reading}`PAGE`: its minutes; the page is named as `doc` names it."""

    def run(self):
        place = ReadingPlace(page=self.env.relfn2path(self.text)[0])
        self.set_source_info(place)
        return [place], []


def count(app: Sphinx, doctree: nodes.document) -> None:
    app.env.metadata[app.env.docname]["reading"] = minutes(doctree)


def fill(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Put the minutes in their places, and take away the ids that sphinx-exercise gives to all exercises alike."""
    for place in list(doctree.findall(ReadingPlace)):
        found = app.env.metadata.get(place["page"], {}).get("reading")
        if found is None:
            getLogger(__name__).warning("no page %s, whose minutes are asked for", place["page"], location=place)
        place.replace_self(nodes.Text(str(found)))
    for section in doctree.findall(nodes.section):
        if {"exercise-content", "solution-content"} & set(section["ids"]):
            section["ids"] = []


# exercises


class ExerciseList(SphinxDirective):
    """{exercise-list}: a heading a page, below it its exercises."""

    def run(self):
        return [ExercisesPlace()]


def exercises(env) -> list[tuple[tuple[int, ...], str, str, str]]:
    """(number, page, label, title) of every exercise, in the order of the numbers."""
    found = []
    for label, entry in getattr(env, "sphinx_exercise_registry", {}).items():
        if is_exercise_node(entry["node"]):
            page, title = entry["docname"], next(entry["node"].findall(exercise_subtitle), None)
            if title is None:
                raise ExtensionError(f"{page}: exercise {label} has no title; write one behind ```{{exercise}}")
            found.append((env.toc_fignumbers[page]["exercise"][label], page, label, title.astext()))
    return sorted(found)


class FillExerciseList(SphinxPostTransform):
    """Before links are resolved."""

    default_priority = 4

    def run(self, **_):
        for place in list(self.document.findall(ExercisesPlace)):
            place.replace_self(self.by_page(exercises(self.env)))

    def by_page(self, found: list) -> nodes.definition_list:
        pages = nodes.definition_list(classes=["exercises"])
        for page in dict.fromkeys(page for _number, page, *_rest in found):
            items = nodes.bullet_list()
            for number, there, label, title in found:
                if there == page:
                    text = _("Exercise {number} ({title})").format(number=".".join(map(str, number)), title=title)
                    items += nodes.list_item("", nodes.paragraph("", "", self.link(page, label, text)))
            term = nodes.term("", "", self.link(page, None, self.env.titles[page].astext()))
            pages += nodes.definition_list_item("", term, nodes.definition("", items))
        return pages

    def link(self, page: str, label: str | None, text: str) -> nodes.reference:
        return make_refnode(self.app.builder, self.env.docname, page, label, nodes.Text(text))


# solutions


class FoldSolutions(SphinxPostTransform):
    """After sphinx-exercise has written the titles."""

    default_priority = 30

    def run(self, **_):
        for solution in self.document.findall(solution_node):
            title = solution[0].astext().partition(" (")[0]
            solution[0] = Summary("", title, classes=["admonition-title"])
            solution["ids"] = [f"{solution['target_label']}-solution"]


def opened(tag: str):
    return lambda writer, node: writer.body.append(writer.starttag(node, tag, CLASS="admonition" * (tag == "details")))


def ended(tag: str):
    return lambda writer, node: writer.body.append(f"</{tag}>\n")


def setup(app: Sphinx) -> dict:
    app.setup_extension("sphinx_exercise")
    app.add_role("reading", Reading())
    app.add_directive("exercise-list", ExerciseList)
    app.add_node(Summary, html=(opened("summary"), ended("summary")))
    app.add_node(solution_node, override=True, html=(opened("details"), ended("details")))
    app.add_post_transform(FillExerciseList)
    app.add_post_transform(FoldSolutions)
    app.connect("doctree-read", count)
    app.connect("doctree-resolved", fill)
    app.add_css_file("frames.css")
    return {"parallel_read_safe": True}
