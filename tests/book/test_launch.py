"""Plain notebooks: what book/launch.py makes of a page, and where the buttons of Binder and Colab lead. On a book of two pages."""

import re

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace, patch_docutils

PAGE = "https://someone.github.io/thing/notebooks/page.html"
PNG = "iVBORw0KGgo="
TEXT = r"""# A *page* with `code`

See {doc}`other <../md>`, {ref}`the formula <eq-1>`, {eq}`named`, {ref}`far`, {download}`the data <data.csv>` and
{sub}`low`{sup}`high`; costs 5 \$, a * b, \_not stressed\_\_, 1 < 2, `` a ` b ``; {glue:text}`score:.1f` %.
Math $a_{1}
< b$ in a line.

(eq-1)=

$$
a &= b \\
c &= d
$$

$$
f(x)=\begin{cases}1 & x>0\\ 0 & \text{else}\end{cases}
\tag{3}
$$

$$
e = mc^2
$$ (named)

+ one
+ two

  more of two

3. three
4. four

Term
: what it means

| a | b |
|---|---|
| `x \| y` | $\lVert a\|=\lvert b\|$ |

```{figure} dot.png
:name: dot
:alt: a dot

What is *seen*.
```

:::::{admonition} A box
:class: warning

::::{tip}
Inside, a formula:

$$
x = y
$$
::::
:::::

````{admonition} Solution with $x$ & *y*
:class: dropdown

```{code-block} python
print("```")
```
````

```{dropdown} A hint
Look {ref}`there <far>`.
```

> quoted

## Second

1\. is no list.
"""


def solution(source, *outputs):
    cell = new_code_cell(source, metadata={"tags": ["hide-cell"], "mystnb": {"code_prompt_show": "Solution in code"}})
    cell.outputs = list(outputs)
    return cell


def stream(text, name="stdout"):
    return new_output("stream", name=name, text=text)


def shows(kind, value):
    return new_output("display_data", data={kind: value, "text/plain": "in words"})


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The HTML of a book with a notebook and a page of MyST Markdown that has a cell, built without running anything."""
    folder = tmp_path_factory.mktemp("book")
    source, to = folder / "source", folder / "_build/html"
    (source / "notebooks").mkdir(parents=True)
    glued = new_output("display_data", data={"application/papermill.record/text/plain": "41.26"})
    glued.metadata = {"scrapbook": {"name": "score", "mime_prefix": "application/papermill.record/"}}
    cells = [
        new_markdown_cell(TEXT),
        new_code_cell("size = 1", metadata={"tags": ["parameters"]}),
        new_code_cell("unseen = 1", metadata={"tags": ["remove-cell"]}),
        new_code_cell("size", metadata={"tags": ["hide-input"], "mystnb": {"image": {"alt": "x"}}}),
        new_markdown_cell("(far)=\n\n### Exercises\n\nCompute."),
        solution("print(1)", stream("1\n"), stream("2\n"), stream("no\n", "stderr"), shows("image/png", PNG)),
        new_markdown_cell("The end."),
        new_code_cell("last = 1", metadata={"tags": ["remove-cell"]}),
    ]
    cells[1].outputs, cells[3].outputs = [glued], [shows("text/html", "<b>1</b>"), stream("a\n"), stream("b\n")]
    notebook = new_notebook(cells=cells, metadata={"kernelspec": {"name": "python3", "display_name": "x"}})
    nbformat.write(notebook, source / "notebooks/page.ipynb")
    (source / "notebooks/dot.png").write_bytes(b"")
    (source / "notebooks/data.csv").write_text("1\n")
    head = "---\nfile_format: mystnb\nkernelspec:\n  name: python3\n  display_name: x\n---\n"
    (source / "md.md").write_text(head + "# Other\n\n{doc}`notebooks/page`\n\n```{code-cell}\n1\n```\n")
    (source / "index.md").write_text("# Book\n\n```{toctree}\nnotebooks/page\nmd\n```\n")
    options = {"repository_url": "https://github.com/someone/thing", "repository_branch": "main", "use_edit_page_button": True}
    options["launch_buttons"] = {"binderhub_url": "https://mybinder.org", "colab_url": "https://colab.research.google.com"}
    settings = {
        "extensions": ["myst_nb", "sphinx_design", "launch"], "html_theme": "sphinx_book_theme", "html_theme_options": options,
        "nb_execution_mode": "off", "nb_merge_streams": True, "numfig": True,
        "myst_enable_extensions": ["dollarmath", "colon_fence", "deflist"],
    }  # fmt: skip
    with patch_docutils(), docutils_namespace():
        app = Sphinx(source, None, to, folder / "trees", "html", settings, status=None, warning=None)
        app.build()
    return to


@pytest.fixture(scope="module")
def cells(site):
    notebook = nbformat.read(site / "_sources/notebooks/page.ipynb", as_version=4)
    nbformat.validate(notebook)
    return notebook.cells


@pytest.fixture(scope="module")
def text(cells):
    return "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


def test_the_first_cell_installs_the_package_where_it_is_missing(cells):
    assert cells[0].cell_type == "code" and cells[0].source.startswith("#") and "if importlib.util.find_spec(" in cells[0].source
    assert re.search(r'%pip install --quiet "dsgc\[notebooks\] @ git\+https://github.com/someone/thing@\w+"$', cells[0].source)
    assert f"[A page with code]({PAGE})" in cells[1].source


def test_all_code_is_there_in_order_but_for_solutions_which_have_a_cell_to_try(cells):
    code = [cell.source for cell in cells[1:] if cell.cell_type == "code"]
    assert code == ["size = 1", "unseen = 1", "size", "# Your own solution", "last = 1"]
    assert cells[-1].source == "last = 1" and "The end." in cells[-2].source


def test_code_that_the_book_hides_is_folded_and_parameters_can_be_set(cells):
    metadata = {cell.source: cell.metadata for cell in cells if cell.cell_type == "code"}
    assert metadata["size = 1"] == {"tags": ["parameters"]} and metadata["unseen = 1"] == {"jupyter": {"source_hidden": True}}
    assert metadata["size"] == {"jupyter": {"source_hidden": True}}


def test_outputs_are_those_of_the_book_without_what_is_glued(cells):
    outputs = {cell.source: cell.outputs for cell in cells if cell.cell_type == "code"}
    assert outputs["size = 1"] == [] and outputs["size"][0].data["text/html"] == "<b>1</b>"
    assert [output.text for output in outputs["size"][1:]] == ["a\nb\n"]


def test_no_role_directive_or_target_is_left(text):
    assert not re.findall(r"\{[a-z:]+\}`|^\s*[`:]{3,}\{|^\([\w-]+\)=", text, re.MULTILINE)
    assert not re.findall(r"\n{3,}", text)


@pytest.mark.parametrize(
    "line",
    [
        "# A *page* with `code`",
        "### Exercises",
        "[other](https://someone.github.io/thing/md.html)",
        f"[the formula]({PAGE}#eq-1)",
        f"[Exercises]({PAGE}#far)",
        "; 41.3 %. Math",
        r"costs 5 \$, a \* b, \_not stressed_\_, 1 \< 2, `` a ` b ``",
        "<sub>low</sub><sup>high</sup>",
        "$a_{1} < b$",
        r"$$ \begin{split} a &= b \\ c &= d \end{split} $$",
        r"$$ f(x)=\begin{cases}1 & x>0\\ 0 & \text{else}\end{cases} \tag{3} $$",
        r"$$ e = mc^2 \tag{2} $$",
        f"[(2)]({PAGE}#equation-named)",
        "- two\n\n  more of two",
        "3. three\n4. four",
        "- **Term**\n\n  what it means",
        "| a | b |\n| --- | --- |\n| `x \\| y` | $\\lVert a\\vert =\\lvert b\\vert$ |",
        "![a dot](https://someone.github.io/thing/_images/dot.png)",
        "*Fig. 1 What is *seen*.*",
        "> **A box**\n>\n> > **Tip**\n> >\n> > Inside, a formula:\n> >\n> > $$ x = y $$",
        '<summary>Solution with $x$ &amp; y</summary>\n\n````python\nprint("```")\n````\n\n</details>',
        f"<summary>A hint</summary>\n\nLook [there]({PAGE}#far).\n\n</details>",
        "> quoted",
        "1\\. is no list",
    ],
)
def test_what_myst_says_is_said_in_plain_markdown(text, line):
    assert line in text


def test_a_solution_in_code_is_folded_with_what_it_gave(text):
    inside = text.split("<summary>Solution in code</summary>")[1].split("</details>")[0]
    assert "```python\nprint(1)\n```\n\n```\n1\n2\n```\n\n![output](data:image/png;base64," in inside and "no" not in inside


def launch_links(site, page):
    return re.findall(r'href="([^"]*(?:mybinder|colab)[^"]*)"', (site / f"{page}.html").read_text(encoding="utf-8"))


def test_buttons_lead_to_the_plain_notebook_and_the_edit_button_to_the_source(site):
    assert launch_links(site, "notebooks/page") == [
        "https://mybinder.org/v2/gh/someone/thing/launch?urlpath=tree/notebooks/page.ipynb",
        "https://colab.research.google.com/github/someone/thing/blob/launch/notebooks/page.ipynb",
    ]
    assert "someone/thing/edit/main/notebooks/page.ipynb" in (site / "notebooks/page.html").read_text(encoding="utf-8")


def test_a_page_that_is_no_notebook_has_no_button_and_a_plain_notebook_to_download(site):
    assert launch_links(site, "md") == launch_links(site, "index") == []
    cells = nbformat.read(site / "_sources/md.ipynb", as_version=4).cells
    assert "[A page with code](https://someone.github.io/thing/notebooks/page.html)" in cells[2].source and cells[3].source == "1"
    assert '_sources/md.ipynb"' in (site / "md.html").read_text(encoding="utf-8")
