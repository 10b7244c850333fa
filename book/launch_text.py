"""A page of the book as Markdown that any Jupyter shows: what Sphinx has resolved, written without a directive or a role.

By then a reference is a link, a citation has its author, a glued number its digits, an exercise its number. Links lead to the published
book, whatever they are to. What folds in the book is a `<details>`. Formulas keep their numbers. An element that is not known here is
written as what is in it, so that no text is lost.
"""

import re
from collections.abc import Callable, Iterable
from html import escape
from urllib.parse import urljoin

from docutils import nodes
from nbformat import NotebookNode
from sphinx import addnodes
from sphinx.locale import admonitionlabels
from sphinx_design.dropdown import dropdown_main

SILENT = (nodes.Invisible, nodes.target, nodes.system_message, nodes.colspec, addnodes.toctree)
SPECIAL = re.compile(r"([\\`*<$]|(?<!\w)_|_(?!\w))")  # means something in Markdown; an underscore only at the edge of a word
BEGINS = re.compile(r"^(\d+(?=[.)]\s)|(?=[#>+-]))")  # would make a heading, a quotation or a list of a paragraph
GLUED = "application/papermill.record/"
MIME = ("text/html", "image/png", "text/markdown", "text/plain")  # the first that an output has is shown


class Writer:
    """Writes parts of one page.

    Args:
        base: address of the published book, with a slash at its end.
        page: the page's name, such as notebooks/01_ptc.
        cells: the cells of the page as a notebook.
        pictures: the file that Sphinx has made of each picture of a text.
        number: what stands before the title of a figure, a table or an exercise, its kind and its number; of a formula its number.
    """

    def __init__(
        self, base: str, page: str, cells: list[NotebookNode], pictures: dict[str, str], number: Callable[[nodes.Node], str]
    ):
        self.base, self.address = base, f"{base}{page}.html"
        self.cells, self.pictures, self.number = cells, pictures, number

    # blocks

    def blocks(self, children: Iterable[nodes.Node]) -> str:
        """Several blocks, a blank line between two; text between them makes a paragraph."""
        parts, line = [], ""
        for child in children:
            if isinstance(child, (nodes.Text, nodes.Inline)):
                line += self.inline(child)
            else:
                parts += [line.strip(), self.block(child)]
                line = ""
        return "\n\n".join(filter(None, [*parts, line.strip()]))

    def block(self, node: nodes.Node) -> str:
        if isinstance(node, SILENT):
            return ""
        if is_cell(node):
            return self.cell(node)
        if folded(node):
            return details(self.words(node[0]), self.blocks(node[1:]))
        for kind in type(node).__mro__:
            if write := getattr(self, f"block_{kind.__name__.lower()}", None):
                return write(node)
        return self.blocks(node.children)

    def block_paragraph(self, node: nodes.Node) -> str:
        text = self.line(node)
        return BEGINS.sub(r"\1\\", text) if node.children and isinstance(node[0], nodes.Text) else text

    def block_title(self, node: nodes.Node) -> str:
        return f"**{(self.number(node.parent) + self.line(node)).strip()}**"

    block_rubric = block_title

    def block_math_block(self, node: nodes.Node) -> str:
        formula = re.sub(r"\\(begin|end)\{equation\*?\}", "", node.astext())  # dollars stand in its place
        split = (r"\\" in formula or "&" in formula) and r"\tag" not in formula  # as Sphinx does
        lines = [line.strip() for line in formula.splitlines() if line.strip()]  # written as one: what is quoted has a sign before each
        tags = [rf"\tag{{{digits}}}" for digits in [self.number(node)] if digits]
        return " ".join(["$$", *[r"\begin{split}"] * split, *lines, *[r"\end{split}"] * split, *tags, "$$"])

    def block_literal_block(self, node: nodes.Node) -> str:
        return fenced(node.astext(), node.get("language", ""))

    block_doctest_block = block_literal_block

    def block_raw(self, node: nodes.Node) -> str:
        return node.astext().strip() if "html" in node.get("format", "") else ""

    def block_block_quote(self, node: nodes.Node) -> str:
        return indented(self.blocks(node.children), "> ")

    def block_admonition(self, node: nodes.Node) -> str:
        titled = bool(node.children) and isinstance(node[0], nodes.title)
        title = self.block(node[0]) if titled else f"**{admonitionlabels.get(node.tagname, node.tagname.capitalize())}**"
        return indented("\n\n".join(filter(None, [title, self.blocks(node[titled:])])), "> ")

    def block_topic(self, node: nodes.Node) -> str:
        return indented(self.blocks(node.children), "> ")

    block_sidebar = block_topic

    def block_bullet_list(self, node: nodes.Node) -> str:
        return self.items(node, ["- "] * len(node))

    def block_enumerated_list(self, node: nodes.Node) -> str:
        return self.items(node, [f"{number}. " for number in range(node.get("start", 1), node.get("start", 1) + len(node))])

    def items(self, node: nodes.Node, marks: list[str]) -> str:
        texts = [indented(self.blocks(item.children), " " * len(mark), mark) for item, mark in zip(node, marks, strict=True)]
        return ("\n\n" if any("\n\n" in text for text in texts) else "\n").join(texts)

    def block_definition_list_item(self, node: nodes.Node) -> str:
        terms = [f"**{self.line(part)}**" for part in node if isinstance(part, nodes.term)]
        rest = [part for part in node if not isinstance(part, nodes.term)]
        return indented("\n\n".join([", ".join(terms), self.blocks(rest)]), "  ", "- ")

    def block_field(self, node: nodes.Node) -> str:
        return indented(f"**{self.line(node[0])}**: {self.blocks(node[1].children)}", "  ", "- ")

    def block_caption(self, node: nodes.Node) -> str:
        return f"*{self.number(node.parent)}{self.line(node)}*"

    def block_transition(self, node: nodes.Node) -> str:
        return "---"

    def block_footnote(self, node: nodes.Node) -> str:
        return f"[{node[0].astext()}] {self.blocks(node[1:])}"

    block_citation = block_footnote

    def block_table(self, node: nodes.Node) -> str:
        caption = [self.block(part) for part in node if isinstance(part, nodes.title)]
        rows = [[self.entry(entry) for entry in row] for row in node.findall(nodes.row)]
        if not next(node.findall(nodes.thead), None):
            rows.insert(0, [""] * len(rows[0]))
        rows.insert(1, ["---"] * len(rows[0]))
        return "\n\n".join([*caption, "\n".join(f"| {' | '.join(row)} |" for row in rows)])

    def entry(self, node: nodes.Node) -> str:
        """A cell: on one line, its bars masked."""
        node = node.deepcopy()
        for formula in node.findall(nodes.math):
            formula[:] = [nodes.Text(formula.astext().replace(r"\|", r"\Vert ").replace("|", r"\vert "))]
        return "<br>".join(self.blocks(node.children).splitlines()).replace("<br><br>", "<br>").replace("|", r"\|")

    # cells that stand inside something else

    def cell(self, node: nodes.Element) -> str:
        """A code cell as text: its source, and what it gave."""
        cell = self.cells[node["cell_index"]]
        gave = [fenced(part.text, "") if part.output_type == "stream" else self.output(part.get("data", {})) for part in shown(cell)]
        text = "\n\n".join([fenced(cell.source, "python"), *filter(None, gave)])
        return details(node["prompt_show"].format(type="source and output"), text) if hidden(node) else text

    def output(self, data: dict[str, str]) -> str:
        kind = next((kind for kind in MIME if kind in data), None)
        if kind == "image/png":
            return f"![output](data:image/png;base64,{''.join(data[kind].split())})"
        return fenced(data[kind], "") if kind == "text/plain" else data.get(kind, "").strip()

    # what stands in a line

    def line(self, node: nodes.Node) -> str:
        return "".join(map(self.inline, node.children)).strip()

    def words(self, node: nodes.Node) -> str:
        """A title for a place where Markdown is not read."""
        parts = [part for part in node.findall() if isinstance(part, nodes.Text) and not isinstance(part.parent, nodes.raw)]
        text = "".join(f"${part}$" if isinstance(part.parent, nodes.math) else part.astext() for part in parts)
        return self.number(node.parent) + " ".join(text.split())

    def inline(self, node: nodes.Node) -> str:
        if isinstance(node, SILENT):
            return ""
        if isinstance(node, nodes.Text):
            return SPECIAL.sub(r"\\\1", " ".join(re.split(r"\s+", node.astext()))).replace("](", r"]\(")
        for kind in type(node).__mro__:
            if write := getattr(self, f"inline_{kind.__name__.lower()}", None):
                return write(node)
        return "".join(map(self.inline, node.children))

    def inline_math(self, node: nodes.Node) -> str:
        return f"${' '.join(node.astext().split())}$"

    def inline_literal(self, node: nodes.Node) -> str:
        text = " ".join(node.astext().split("\n"))
        return f"`` {text} ``" if "`" in text else f"`{text}`"

    def inline_emphasis(self, node: nodes.Node) -> str:
        return wrapped("*", "".join(map(self.inline, node.children)))

    def inline_strong(self, node: nodes.Node) -> str:
        return wrapped("**", "".join(map(self.inline, node.children)))

    def inline_subscript(self, node: nodes.Node) -> str:
        return f"<sub>{self.line(node)}</sub>"

    def inline_superscript(self, node: nodes.Node) -> str:
        return f"<sup>{self.line(node)}</sup>"

    def inline_raw(self, node: nodes.Node) -> str:
        return "" if node.astext().lstrip().startswith("<svg") else self.block_raw(node)  # a sign beside a word

    def inline_reference(self, node: nodes.Node) -> str:
        uri = node.get("refuri", "") + (f"#{node['refid']}" if "refid" in node else "")
        return f"[{self.line(node)}]({urljoin(self.address, uri).replace('(', '%28').replace(')', '%29')})"

    def inline_download_reference(self, node: nodes.Node) -> str:
        return f"[{self.line(node)}]({self.base}_downloads/{node['filename']})" if "filename" in node else self.line(node)

    def inline_image(self, node: nodes.Node) -> str:
        uri = node["uri"]
        return f"![{node.get('alt', '')}]({uri if '://' in uri else f'{self.base}_images/{self.pictures[uri]}'})"


def details(title: str, text: str) -> str:
    return f"<details>\n<summary>{escape(title)}</summary>\n\n{text}\n\n</details>"


def is_cell(node: nodes.Node) -> bool:
    """Whether a node is a code cell, with its outputs."""
    return isinstance(node, nodes.container) and node.get("nb_element") == "cell_code"


def cells_in(node: nodes.Node) -> list[int]:
    """The indices of the code cells that a node is or holds."""
    return [part["cell_index"] for part in node.findall(is_cell)]


def hidden(node: nodes.Element) -> bool:
    """Whether the book folds a cell as a whole, and nothing around it does."""
    return node.get("hide_mode") == "all" and not any(map(folded, above(node)))


def folded(node: nodes.Node) -> bool:
    """Whether a node folds under its first child: a dropdown, a box of the class `dropdown`, a solution."""
    box = isinstance(node, nodes.Admonition) and ("dropdown" in node.get("classes", []) or node.tagname == "solution_node")
    return box or isinstance(node, dropdown_main)


def above(node: nodes.Element) -> Iterable[nodes.Element]:
    """What a node stands in, from the inside out."""
    while node.parent is not None:
        node = node.parent
        yield node


def shown(cell: NotebookNode) -> list[NotebookNode]:
    """What the book shows of a cell's outputs: no warnings, nothing that is glued into text, and a stream once (MyST-NB has added later
    parts to the first, and left them)."""
    outputs, streams = [], {"stderr"}
    for output in cell.outputs:
        glued = any(kind.startswith(GLUED) for kind in output.get("data", {}))
        if not glued and output.get("name") not in streams:
            bare = {"metadata": NotebookNode()} if "metadata" in output else {}  # figures in other languages stand there
            outputs.append(NotebookNode(output | bare))
        streams |= {output.name} if output.output_type == "stream" else set()
    return outputs


def fenced(text: str, language: str) -> str:
    """Text in a fence that is longer than any in it."""
    fence = "`" * max([3, *(len(run) + 1 for run in re.findall("`{3,}", text))])
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def indented(text: str, indent: str, first: str = "") -> str:
    lines = text.splitlines()
    return "\n".join(((first if first and not number else indent) + line).rstrip() for number, line in enumerate(lines))


def wrapped(mark: str, text: str) -> str:
    """Text between marks, with its outer spaces outside of them."""
    inner = text.strip()
    return text.replace(inner, f"{mark}{inner}{mark}", 1) if inner else text

