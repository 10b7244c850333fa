"""What cells show, in another language: words in figures and explorers, in tables, and in sentences that are computed.

A figure's words, and its picture in other languages, stand in the metadata of its output (`dsgc.teaching.worded`); the texts of a table,
of the strip on the first page, and of a sentence are found in the output itself. A catalogue has each without its numbers. What text is
printed, code, and a line that names commits or a command stay as they are.
"""

import html
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import deepcopy
from pathlib import Path

import nbformat
import stage
from nbformat import NotebookNode
from words import FOLDER

from dsgc.teaching.worded import FILE, font_with, has_words, known_as, put

NOTEBOOKS, PAGES = "shown", "shown_by_pages"  # catalogues of what notebooks show, and pages that run as the book is built
SIGNS = {"zh_CN": "这层误"}  # a font that has these has the language's
TAGS = ("script", "style", "code", "tbody lang=.en.")  # what stays: code, and what is English
ASIDE = re.compile(f"({'|'.join(f'<{tag}.*?</{tag.split()[0]}>' for tag in TAGS)})", re.DOTALL)
TEXT = re.compile(r"""(?:(?<=>)|^)[^<>]+(?=<|$)|(?<=\balt=")[^"]*(?=")""")
DATA = re.compile(r"""(?<=<script type="application/json">).*?(?=</script>)""", re.DOTALL)
PICTURE = re.compile(r"(?<=data:image/png;base64,)[\w+/=]+")
BLOCK = re.compile(r"(\n\s*\n|(?:^|\n)\s*(?:- |\d+\. ))")  # what parts paragraphs and items of Markdown
SENTENCE = re.compile(r"(?<=\.)(?<!Eq\.)(?<!Fig\.)\s+(?=[*A-Z\d])|(?<=;)\s+(?![^()]*\))")
OF_MACHINES = re.compile(r"`python -m|\bcommit [0-9a-f]|```")
NAMES = {"maps": dict, "grids": dict, "classes": list}  # an explorer's data: what has names that a reader sees


def speak(languages: Iterable[str], path: Path) -> None:
    """Have every kernel that starts from now on draw figures in these languages too; where no font has a language's signs, that is said."""
    told = {}
    for language in languages:
        font = font_with(SIGNS[language])
        if font:
            told[language] = {"said": said(language), "font": font}
        else:
            print(f"figures stay English, no font here has the signs of {language}; install one, fonts-noto-cjk say", file=sys.stderr)
    if told:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(told), encoding="utf-8")
        os.environ[FILE] = str(path.resolve())


def outputs(notebook: NotebookNode) -> Iterator[NotebookNode]:
    """The outputs of a notebook that a reader sees as more than printed text."""
    for cell in notebook.cells:
        yield from (output for output in cell.get("outputs", ()) if "data" in output)


def texts(notebook: NotebookNode) -> list[str]:
    """All texts that cells of a notebook show, as a catalogue has them, in their order."""
    found: list[str] = []

    def take(text: str) -> str:
        found.append(known_as(text)[0])
        return text

    for output in outputs(deepcopy(notebook)):
        for kind in ("image/png", "text/html"):
            found += output.metadata.get(kind, {}).get("words", ())
        _each(output.data, take)
    return [text for text in dict.fromkeys(found) if has_words(text)]


def texts_in(folder: Path) -> list[str]:
    """The same of every notebook in a folder."""
    notebooks = [nbformat.read(path, as_version=4) for path in sorted(folder.rglob("*.ipynb"))]
    return list(dict.fromkeys(text for notebook in notebooks for text in texts(notebook)))


def translate(notebook: NotebookNode, language: str, said: Mapping[str, str]) -> None:
    """Put what cells show into a language, as far as that is said."""
    for output in outputs(notebook):
        picture = output.metadata.get("image/png", {}).get(language)
        if picture:
            output.data["image/png"] = picture
        within = output.metadata.get("text/html", {}).get(language)
        if within:
            output.data["text/html"] = PICTURE.sub(within, output.data["text/html"], count=1)
        _each(output.data, lambda text: put(text, said))


def translate_all(folder: Path, language: str) -> None:
    """The same for every notebook in a folder, by the catalogues."""
    told = said(language)
    for path in sorted(folder.rglob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        translate(notebook, language, told)
        nbformat.write(notebook, path)


def said(language: str) -> dict[str, str]:
    """What a language says of what cells show."""
    folder = stage.ROOT / FOLDER / language / "LC_MESSAGES"
    return {text: other for name in (PAGES, NOTEBOOKS) for text, other in stage.translations(folder / f"{name}.po").items()}


def _each(data: NotebookNode, of: Callable[[str], str]) -> None:
    """Replace every text in an output."""
    if "text/html" in data:
        parts = ASIDE.split(data["text/html"])
        parts[::2] = [TEXT.sub(lambda found: _escaped(found[0], of), part) for part in parts[::2]]
        parts[1::2] = [DATA.sub(lambda found: _named(found[0], of), part) for part in parts[1::2]]
        data["text/html"] = "".join(parts)
    markdown = data.get("text/markdown", "")
    if markdown and not OF_MACHINES.search(markdown):
        parts = BLOCK.split(markdown)
        parts[::2] = [_joined(map(of, SENTENCE.split(" ".join(part.split())))) for part in parts[::2]]
        data["text/markdown"] = "".join(parts)


def _escaped(text: str, of: Callable[[str], str]) -> str:
    """A text of HTML replaced; if nothing becomes of it, it stays to the letter."""
    before = html.unescape(text)
    after = of(before)
    return text if after == before else html.escape(after)


def _joined(sentences: Iterable[str]) -> str:
    """Sentences of a paragraph; none has a space after a full stop of full width."""
    return re.sub(r"(?<=[。；]) ", "", " ".join(sentences))


def _named(data: str, of: Callable[[str], str]) -> str:
    """An explorer's data with the names in it replaced."""
    given = json.loads(data)
    for key, kind in NAMES.items():
        if key in given:
            given[key] = {of(name): value for name, value in given[key].items()} if kind is dict else [of(name) for name in given[key]]
    return json.dumps(given, separators=(",", ":")).replace("<", "\\u003c")
