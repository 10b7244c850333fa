"""Sphinx extension of the book: what of a page is translated, and what a translated paragraph needs that Sphinx does not give it.

- A formula of its own is no message: it is the same in every language.
- A cell of a `{table}` or a `{list-table}` is one, though its directive parses it apart from the page, so that Sphinx takes it for words
  of its own.
- The title of an exercise is one, though sphinx-exercise keeps no source of it and takes it apart before messages are collected.
- The alternative text of a figure that a cell draws is one, though the cell has not run where messages are collected.
- A glued number, `` {glue:text}`name` ``, means the page's own in a translated paragraph too. Sphinx reads such a paragraph as a
  document by itself, which has no numbers.
"""

from docutils import nodes
from myst_nb.ext.glue.roles import PasteTextRole
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform
from sphinx.util.nodes import traverse_parent
from sphinx_exercise.directive import ExerciseDirective, ExerciseStartDirective
from sphinx_exercise.nodes import exercise_subtitle, is_exercise_node

CELL = "cell_code"  # MyST-NB's word


class Formulas(SphinxTransform):
    """Before Sphinx collects or translates messages."""

    default_priority = 11

    def apply(self, **_) -> None:
        for formula in self.document.findall(nodes.math_block):
            formula["translatable"] = False


class Parsed(SphinxTransform):
    """What was read from the page has the page as its source, however a directive has parsed it."""

    default_priority = 9  # from 10 on words that an extension has made have a text too, as if it had been read

    def apply(self, **_) -> None:
        for node in self.document.findall(nodes.TextElement):
            if node.rawsource and not node.source:
                node.source = self.document["source"]
                node.line = next((above.line for above in traverse_parent(node) if above.line), None)


class Alternatives(SphinxTransform):
    """Where messages are collected: a picture with its text in place of the figure that a cell would draw."""

    default_priority = 11

    def apply(self, **_) -> None:
        if self.app.builder.name != "gettext":
            return
        for cell in self.document.findall(lambda node: isinstance(node, nodes.container) and node.get("nb_element") == CELL):
            options = cell["cell_metadata"].get("mystnb", {}).get("image", {})
            if "alt" in options:
                picture = nodes.image(uri="", alt=options["alt"])
                picture.source, picture.line = self.document["source"], cell.line
                cell += picture


class Titled:
    """Of an exercise: its title in a place of its own, which Sphinx translates and then removes."""

    def run(self) -> list[nodes.Node]:
        made = super().run()
        for title in (title for node in made for title in node.findall(exercise_subtitle)):
            words = nodes.inline(self.arguments[0], "", *title.children, translatable=True)
            words.source, words.line = self.get_source_info()
            title[:] = [words]
        return made


class Exercise(Titled, ExerciseDirective):
    """{exercise}"""


class ExerciseStart(Titled, ExerciseStartDirective):
    """{exercise-start}"""


class ExerciseTitles(SphinxTransform):
    """What sphinx-exercise knows of an exercise for other pages and for its solution: the title as it stands on this page."""

    default_priority = 1000  # after Sphinx has removed the places of titles

    def apply(self, **_) -> None:
        for exercise in self.document.findall(is_exercise_node):
            self.env.sphinx_exercise_registry[exercise["label"]]["node"][0] = exercise[0].deepcopy()


class Glued(PasteTextRole):
    """{glue:text}: of this page where no other is named."""

    def run(self):
        if "::" not in self.text and "nb_renderer" not in self.document:
            env = self.document.settings.env
            key = self.text if ":" in self.text else f"{self.text}:s"  # its format must stand behind a page
            self.text = f"/{env.doc2path(env.docname, base=False)}::{key}"
        return super().run()


def setup(app: Sphinx) -> dict:
    app.setup_extension("myst_nb")
    app.setup_extension("sphinx_exercise")
    for transform in (Formulas, Parsed, Alternatives, ExerciseTitles):
        app.add_transform(transform)
    app.add_directive("exercise", Exercise, override=True)
    app.add_directive("exercise-start", ExerciseStart, override=True)
    app.add_role_to_domain("glue", "text", Glued(), override=True)
    return {"parallel_read_safe": True}
