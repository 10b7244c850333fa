"""Sphinx extension of the book: what of a page is translated, and what a translated paragraph needs that Sphinx does not give it.

- A formula of its own is no message: it is the same in every language.
- The alternative text of a figure that a cell draws is one, though the cell has not run where messages are collected.
- A glued number, `` {glue:text}`name` ``, means the page's own in a translated paragraph too. Sphinx reads such a paragraph as a
  document by itself, which has no numbers.
"""

from docutils import nodes
from myst_nb.ext.glue.roles import PasteTextRole
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

CELL = "cell_code"  # MyST-NB's word


class Formulas(SphinxTransform):
    """Before Sphinx collects or translates messages."""

    default_priority = 11

    def apply(self, **_) -> None:
        for formula in self.document.findall(nodes.math_block):
            formula["translatable"] = False


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
    app.add_transform(Formulas)
    app.add_transform(Alternatives)
    app.add_role_to_domain("glue", "text", Glued(), override=True)
    return {"parallel_read_safe": True}
