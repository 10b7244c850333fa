"""What of a page is translated: all that a reader reads, by whatever directive; and a translation comes out where the English stood."""

import base64
import re
import subprocess
import sys
from html import unescape

import nbformat
import pytest
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image
from stage import ROOT

CONF = """
import sys
sys.path.insert(0, {book!r})
extensions = ["myst_nb", "sphinx_design", "sphinx_togglebutton", "sphinx_exercise", "messages", "frames"]
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
html_theme, html_static_path, nb_execution_mode, numfig = "sphinx_book_theme", [{static!r}], "off", True
locale_dirs, gettext_compact, exclude_patterns = ["locale"], False, ["jupyter_execute"]
"""
INDEX = """# a start

```{exercise-list}
```

```{toctree}
:caption: a part

page
A name of it <notebook>
```
"""
PAGE = """# a page

a paragraph with $x$, *stress* and `code`

$$
a = b
$$

- an item

> a quotation

a word
: its meaning

| a head | a **stressed** head |
|---|---|
| a cell | [a link](notebook) |

```{table} the title of a table, $y$
:widths: 30 70

| a head in a table | $z$ |
|---|---|
| a cell in a table | {doc}`named otherwise <notebook>` |
```

```{list-table} the title of a list
:header-rows: 1

* - a head in a list
  - beside it
* - a cell in a list
  - - one among items
```

```{csv-table} the title of values
:header: a head of values, its fellow

a cell of values, its neighbour
```

````{admonition} a box
:class: predict
inside of it

```{dropdown} a fold
an answer
```
````

:::{note}
a note
:::

:::{card} a card
on it
:::

::::{tab-set}
:::{tab-item} a tab
behind it
:::
::::

```{figure} dot.png
:alt: what a figure shows

a caption

a legend
```

```{image} dot.png
:alt: what a directive shows
```

![what a line shows](dot.png)

:::{glossary}
a term
  what it means
:::

```{rubric} a rubric
```

```{topic} a topic
its text
```

```{epigraph}
a saying

-- a sage
```

```{code-block} python
:caption: over the code

pass
```

```{exercise} By hand: the first, $w$
:label: ex-first

to be done
```

```{solution} ex-first
as it is done
```

```{exercise-start} In code: the second
:label: ex-second
```

to be programmed

```{exercise-end}
```

```{solution-start} ex-second
```

as it is programmed

```{solution-end}
```
"""
SAID = {
    "index": ["A name of it", "a part", "a start"],
    "page": [
        "a page", "a paragraph with $x$, *stress* and `code`", "an item", "a quotation", "a word", "its meaning",
        "a head", "a **stressed** head", "a cell", "[a link](notebook)",
        "the title of a table, $y$", "a head in a table", "$z$", "a cell in a table", "{doc}`named otherwise <notebook>`",
        "the title of a list", "a head in a list", "beside it", "a cell in a list", "one among items",
        "the title of values", "a head of values", "its fellow", "a cell of values", "its neighbour",
        "a box", "inside of it", "a fold", "an answer", "a note", "a card", "on it", "a tab", "behind it",
        "what a figure shows", "a caption", "a legend", "what a directive shows", "![what a line shows](dot.png)", "what a line shows",
        "a term", "what it means", "a rubric", "a topic", "its text", "a saying", "a sage", "over the code",
        "By hand: the first, $w$", "to be done", "as it is done", "In code: the second", "to be programmed", "as it is programmed",
    ],
    "notebook": ["a notebook", "what a cell draws", "what its table holds", "said of a cell"],
}  # fmt: skip
TAG, MARKUP = re.compile(r"<[^>]*>"), re.compile(r"\{doc\}`| <\w+>`|`|\*|!?\[|\]\([^)]*\)")
FORMULA = re.compile(r"\$(\w)\$")
SEEN = re.compile(r' alt="([^"]*)"')


def notebook(picture: bytes) -> str:
    """A page with a figure that a cell draws, and with a table beside it."""
    shown = new_output("display_data", data={"image/png": picture, "text/plain": "a figure"})
    drawn = new_code_cell("draw()", metadata={"mystnb": {"image": {"alt": "what a cell draws"}}}, outputs=[shown])
    text = new_markdown_cell("```{table}\n| what its table holds |\n|---|\n| said of a cell |\n```")
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    return nbformat.writes(new_notebook(cells=[new_markdown_cell("# a notebook"), drawn, text], metadata=metadata))


def sphinx(folder, builder, *options):
    """Make pages, or collect their messages, in a process of its own: a language stays set in the one that has built in it."""
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "-b", builder, *options, folder, folder / builder]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout  # of a warning too


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    """Its sources, and the messages that were collected."""
    folder = tmp_path_factory.mktemp("messages")
    dot = folder / "dot.png"
    Image.new("RGB", (1, 1)).save(dot)
    (folder / "conf.py").write_text(CONF.format(book=str(ROOT / "book"), static=str(ROOT / "book/static")))
    (folder / "index.md").write_text(INDEX)
    (folder / "page.md").write_text(PAGE)
    (folder / "notebook.ipynb").write_text(notebook(base64.b64encode(dot.read_bytes()).decode()))
    sphinx(folder, "gettext")
    return folder


def catalogue(book, page):
    with (book / f"gettext/{page}.pot").open("rb") as file:
        return read_po(file)


@pytest.fixture(scope="module")
def translated(book):
    """What a reader of each page sees, alternative texts too, where every message is translated by a sign before it."""
    (book / "locale/zh_CN/LC_MESSAGES").mkdir(parents=True)
    for page in SAID:
        messages = catalogue(book, page)
        for message in messages:
            message.string = message.id and before(message.id)
        with (book / f"locale/zh_CN/LC_MESSAGES/{page}.mo").open("wb") as file:
            write_mo(file, messages)
    sphinx(book, "html", "-D", "language=zh_CN")
    html = {page: (book / f"html/{page}.html").read_text(encoding="utf-8") for page in SAID}
    return {page: unescape(TAG.sub("", text) + "\n".join(SEEN.findall(text))) for page, text in html.items()}


def before(text: str) -> str:
    """译 before the first word of a message, within its markup."""
    return re.sub(r"(?<![\w{$])(?=\w)", "译", text, count=1)


def shown(text: str) -> str:
    """A message as a page shows it before formulas are typeset."""
    return FORMULA.sub(r"\\(\1\\)", MARKUP.sub("", text))


@pytest.mark.parametrize("page", SAID)
def test_all_that_a_reader_reads_is_a_message(book, page):
    assert [message.id for message in catalogue(book, page) if message.id] == SAID[page]


@pytest.mark.parametrize("page", SAID)
def test_every_translation_comes_out_and_no_english_is_left(translated, page):
    for message in (message for message in SAID[page] if before(message) != message):
        found = re.findall(rf"(译?)(?<![a-z]){re.escape(shown(message))}(?![a-z])", translated[page])
        assert set(found) == {"译"}, message


def test_the_title_of_an_exercise_is_translated_wherever_it_is_named(translated):
    assert re.findall(r"2\s+\((译?)In code: the second\)", translated["index"]) == ["译"]
    assert re.findall(r"练习 1\s+\((译?)By hand: the first, \\\(w\\\)\)", translated["page"]) == ["译"]
