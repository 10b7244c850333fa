"""Sphinx extension of the book: each page that has code is there as a notebook too that any Jupyter can open and run.

What one downloads from a page, and what Binder and Colab open, is such a *plain notebook*: text as plain Markdown (`launch_text`),
a first cell that installs the package where it is missing, solutions folded in `<details>` with a cell above to try one's own, the
outputs of the run that made the book. It stands where Sphinx puts a copy of the source, `_sources/notebooks/NAME.ipynb`.

Binder and Colab open files of a branch. The workflow that publishes the book commits the plain notebooks, each in the place of its
source, to the branch `launch`, and there the buttons lead. A page that is not made of a notebook is no file that they could open,
and has no such button.
"""

import re
import subprocess
from collections.abc import Iterator
from functools import partial
from itertools import groupby
from pathlib import Path

import nbformat
from docutils import nodes
from launch_text import Writer, cells_in, folded, hidden, is_cell, shown
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from sphinx.application import Sphinx
from words import _

BRANCH = "launch"
INSTALL = """# The package, where it is not there yet: on Colab, say. Elsewhere this cell does nothing.
import importlib.util

if importlib.util.find_spec("dsgc") is None:
    %pip install --quiet "dsgc[notebooks] @ git+{address}@{commit}\""""
METADATA = {"kernelspec": {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}}
FOLDS = {"hide-input": "source_hidden", "remove-cell": "source_hidden", "hide-output": "outputs_hidden"}  # tags, and Jupyter's words


def published(app: Sphinx) -> str:
    """The address at which GitHub Pages publishes this edition of the book."""
    owner, name = app.config.html_theme_options["repository_url"].rstrip("/").split("/")[-2:]
    edition = "" if app.config.language == "en" else f"{app.config.language}/"
    return f"https://{owner}.github.io/{name}/{edition}"


def commit(branch: str) -> str:
    """The commit that the book is made of; outside a repository the branch."""
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True)
    return done.stdout.strip() or branch


def number(app: Sphinx, page: str, node: nodes.Element) -> str:
    """The number of an element that has one: `Exercise 3 ` before a title, `3` of a formula."""
    if isinstance(node, nodes.math_block) and not node.get("number"):  # those of the paper have a number of their own
        return ""
    kind = next(filter(None, (domain.get_enumerable_node_type(node) for domain in app.env.domains.values())), None)
    numbers = app.env.toc_fignumbers.get(page, {}).get(kind, {})
    found = next((numbers[name] for name in node.get("ids", []) if name in numbers), ())
    digits = ".".join(map(str, found)) or str(node.get("number", ""))
    return app.config.numfig_format[kind] % digits + " " if digits and kind in app.config.numfig_format else digits


def flat(node: nodes.Element, level: int = 0) -> list[tuple[int, nodes.Node]]:
    """The blocks of a page in order, headings with their level, others with 0. What stands around code that runs is left away."""
    blocks = []
    for child in node.children:
        if isinstance(child, nodes.section):
            blocks += flat(child, level + 1)
        elif cells_in(child) and not (is_cell(child) or folded(child)):
            blocks += flat(child, level)
        else:
            blocks.append((level * (isinstance(child, nodes.title) and isinstance(node, nodes.section)), child))
    return blocks


def code(cell: NotebookNode) -> NotebookNode:
    """A code cell as it stands in a plain notebook."""
    tags = cell.metadata.get("tags", [])
    metadata = {"tags": ["parameters"]} if "parameters" in tags else {}
    if folds := {FOLDS[tag]: True for tag in tags if tag in FOLDS}:
        metadata["jupyter"] = folds
    return new_code_cell(cell.source, metadata=metadata, execution_count=cell.execution_count, outputs=shown(cell))


def pieces(blocks: list[tuple[int, nodes.Node]], writer: Writer) -> Iterator[NotebookNode | str]:
    """Code cells and parts of text in their order. Code that the page does not show is there all the same: other code may need it."""
    done = 0
    for level, node in blocks:
        inside = cells_in(node)
        if inside:
            yield from unseen(writer.cells[done : inside[0]])
            done = inside[-1] + 1
        if is_cell(node) and not hidden(node):
            yield code(writer.cells[node["cell_index"]])
            continue
        if inside:
            yield new_code_cell("# " + _("Your own solution"))
        yield f"{'#' * level} {writer.line(node)}" if level else writer.block(node)
    yield from unseen(writer.cells[done:])


def unseen(cells: list[NotebookNode]) -> list[NotebookNode]:
    return [code(cell) for cell in cells if cell.cell_type == "code"]


def arranged(parts: Iterator[NotebookNode | str]) -> list[NotebookNode]:
    """The cells of a plain notebook: text up to the next code is one."""
    made = []
    for is_text, group in groupby((part for part in parts if part), lambda part: isinstance(part, str)):
        run = list(group)
        made += [new_markdown_cell("\n\n".join(run))] if is_text else run
    return made


def convert(app: Sphinx, doctree: nodes.document, page: str, *, notebooks: dict[str, NotebookNode]) -> None:
    """Keep the plain notebook of a page that has code."""
    if app.builder.name != "html" or not cells_in(doctree):
        return
    cells = nbformat.read(Path(app.outdir).parent / f"jupyter_execute/{page}.ipynb", as_version=4).cells
    pictures = {uri: name for uri, (_, name) in app.env.images.items()}
    writer = Writer(published(app), page, cells, pictures, partial(number, app, page))
    options = app.config.html_theme_options
    install = INSTALL.format(address=options["repository_url"], commit=commit(options["repository_branch"]))
    made = _("*This is [{title}]({page}) of the book, as a notebook. Numbers in the text are those of the run that made the book.*")
    note = made.format(title=app.env.titles[page].astext(), page=writer.address)
    made = [new_code_cell(install), new_markdown_cell(note), *arranged(pieces(flat(doctree), writer))]
    for index, cell in enumerate(made):
        cell.id = f"cell-{index}"  # the same from build to build
    notebooks[page] = new_notebook(cells=made, metadata=METADATA)


def buttons(app: Sphinx, page: str, template: str, context: dict, doctree: object, *, notebooks: dict[str, NotebookNode]) -> None:
    """The buttons of Binder and Colab lead to the plain notebook, and where there is none for them, there is no button."""
    groups = context.get("header_buttons", [])
    launch = next((group for group in groups if group.get("label") == "launch-buttons"), None)
    if launch is None:
        return
    if page not in notebooks or context["page_source_suffix"] != ".ipynb":
        groups.remove(launch)
    branch = re.escape(app.config.html_theme_options["repository_branch"])
    for button in launch["buttons"]:
        button["url"] = re.sub(rf"(/(?:gh/[^/]+/[^/]+|blob)/){branch}(?=[/?])", rf"\g<1>{BRANCH}", button["url"])


def write(app: Sphinx, failed: Exception | None, *, notebooks: dict[str, NotebookNode]) -> None:
    """Put the plain notebooks where Sphinx and its theme have put copies of sources."""
    for page, notebook in notebooks.items():
        nbformat.write(notebook, Path(app.outdir) / f"_sources/{page}.ipynb")


def setup(app: Sphinx) -> dict:
    notebooks = {}
    app.connect("doctree-resolved", partial(convert, notebooks=notebooks), priority=900)  # after all others
    app.connect("html-page-context", partial(buttons, notebooks=notebooks), priority=900)
    app.connect("build-finished", partial(write, notebooks=notebooks))
    return {"parallel_read_safe": True, "parallel_write_safe": False}
