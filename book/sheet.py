"""Sphinx extension of the book: the page of all equations is put together from the chapters, so that nothing stands there twice.

    ```{equation} 7
    What it says, in a line.
    ```

stands for the formula that some page labels `eq-7`, with the line under it, and with links to the function and to the test that the table
at the end of that page names, and to the place where it is derived.
"""

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.errors import ExtensionError
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.docutils import SphinxDirective
from sphinx.util.nodes import make_refnode
from words import _

ROW = "equation-row"


def place(env: BuildEnvironment, number: int) -> tuple[str, str]:
    """The page that labels an equation, and the id that it has there."""
    found = env.get_domain("std").anonlabels.get(f"eq-{number}")
    if found is None:
        raise ExtensionError(f"sheet: no page has the label (eq-{number})= before a formula; the equation has to be derived somewhere")
    return found


def formula(env: BuildEnvironment, number: int) -> nodes.math_block:
    """A copy of the formula of an equation, without its id."""
    page, label = place(env, number)
    blocks = [block for block in env.get_doctree(page).findall(nodes.math_block) if label in block["ids"]]
    if not blocks:
        raise ExtensionError(f"sheet: the label (eq-{number})= of {page} stands before no formula; put it directly before the $$")
    copy = blocks[0].deepcopy()
    copy["ids"], copy["names"] = [], []
    return copy


def holders(env: BuildEnvironment, number: int) -> list[pending_xref]:
    """The function and the test of an equation: links out of the row of its page's table that begins with it."""
    page, _ = place(env, number)
    for row in env.get_doctree(page).findall(nodes.row):
        links = [list(cell.findall(pending_xref)) for cell in row]
        if len(links) == 3 and links[1] and links[2] and f"eq-{number}" in {link["reftarget"] for link in links[0]}:
            return [links[1][0].deepcopy(), links[2][0].deepcopy()]
    raise ExtensionError(f"sheet: no table of {page} has a row of Eq. {number} with its function and a test; add one")


class Equation(SphinxDirective):
    """A row of the page; what comes from other pages is put in when all of them have been read."""

    required_arguments = 1
    has_content = True

    def run(self) -> list[nodes.Node]:
        number = directives.positive_int(self.arguments[0])
        row = nodes.container(classes=[ROW], ids=[f"equation-{number}"], number=number)
        row += nodes.container(classes=["equation-text"])
        self.state.nested_parse(self.content, self.content_offset, row[0])
        self.set_source_info(row)
        return [row]


class Assemble(SphinxPostTransform):
    """Formula and links of every row, before links are resolved."""

    default_priority = 5

    def run(self) -> None:
        for row in self.document.findall(lambda node: isinstance(node, nodes.container) and ROW in node["classes"]):
            number = row["number"]
            row.insert(0, formula(self.env, number))
            row[1] += self.links(number)

    def links(self, number: int) -> nodes.paragraph:
        page, label = place(self.env, number)
        function, test = holders(self.env, number)
        for link in (function, test):
            link["refdoc"] = self.env.docname
        title = nodes.Text(self.env.titles[page].astext())
        chapter = make_refnode(self.app.builder, self.env.docname, page, label, title)
        line = nodes.paragraph(classes=["equation-links"])
        for word, link in ((_("Function"), function), (_("Test"), test), (_("Derived in"), chapter)):
            line += nodes.inline("", "", nodes.Text(f"{word} "), link, nodes.Text(" "))
        return line


def setup(app: Sphinx) -> dict:
    app.add_directive("equation", Equation)
    app.add_post_transform(Assemble)
    app.connect("html-page-context", style)
    return {"parallel_read_safe": True}


def style(app: Sphinx, page: str, template: str, context: dict, doctree: object) -> None:
    if ROW in context.get("body", ""):
        app.add_css_file("equations.css")
