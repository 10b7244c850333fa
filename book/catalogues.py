"""The catalogues of translations, made and renewed: `make locale` writes locale/LANGUAGE/LC_MESSAGES/ and README.LANGUAGE.md.

    python book/catalogues.py [--to FOLDER] [--executed FOLDER]

Every page has a catalogue of its name, with a message for each paragraph, title, cell of a table and alternative text, in their order;
the README has one too. Sphinx collects them, Babel merges them into what is translated: a message whose English has changed keeps its
translation as a fuzzy one, which no build uses, until somebody has read it again and removed the word `fuzzy`. Nothing else changes.
A file says neither where a message stands nor when it was written, so that a renewal without a change of English changes no file.

No notebook runs. What the cells of notebooks show is collected from their stored outputs; what those of pages show that run as the book is
built, from `_build/executed` of a build, if one is named. Code and formulas are not translated, nor are the pages made of docstrings
(`stage.MADE_OF_CODE`).
"""

import argparse
import io
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

import editions
import explorers
import framework
import nbformat
import readme
import shown
import stage
import yaml
from babel.messages import Catalog
from babel.messages.extract import extract_from_file
from babel.messages.pofile import read_po, write_po
from words import CATALOGUE, FOLDER, SPHINX, THEME

from dsgc.teaching.worded import WORD

LANGUAGES = tuple(language for language in editions.NAMES if language != "en")
HEADER = 'msgid ""\nmsgstr ""\n"Language: {}\\n"\n"Content-Type: text/plain; charset=utf-8\\n"\n\n'
HTML_ONLY = ("sphinx.ext.viewcode", "previews", "sizes", "lines", "downloads", "ranks", "launch")  # extensions
SAME = re.compile(  # in every language: a role without a title, code, a formula, an address
    r"\{[\w:+.-]+\}`[^`<]*`|(?<=`)(?=`)|`+[^`]+`+|\$[^$]+\$|(?<=\])\([^)]*\)|<[^>]+>"
)


def collected(folder: Path, executed: Path | None = None) -> dict[str, list[str]]:
    """The messages of all pages, and of the README, in their order."""
    pages = folder / "stage"
    stage.lay(pages)
    stage.shorten(pages)
    for page in (pages / "book").glob("*.md"):
        text = page.read_text(encoding="utf-8")
        page.write_text(text.replace("execution_mode: force", 'execution_mode: "off"'), encoding="utf-8")
    for source in sorted((stage.ROOT / "notebooks").glob("*.ipynb")):
        notebook = nbformat.read(source, as_version=4)
        for cell in notebook.cells:
            if cell.cell_type == "code":
                cell.outputs = []
        nbformat.write(notebook, pages / "notebooks" / source.name)
    config = stage.config(folder / "_config.yml", without=HTML_ONLY, gettext_compact=False, suppress_warnings=["mystnb"])
    command = [Path(sys.executable).with_name("jupyter-book"), "build", pages, "--config", config, "--toc", stage.CONTENTS]
    command += ["--path-output", folder, "--all", "-q", "--builder", "custom", "--custom-builder", "gettext"]
    done = subprocess.run(command, cwd=stage.ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        sys.exit(f"{done.stdout}locale: the pages could not be read, see above")
    made = folder / "_build/gettext"
    found = {path.relative_to(made).with_suffix("").as_posix(): messages(path) for path in made.rglob("*.pot")}
    return found | cells(executed) | {CATALOGUE: words(), "README": readme.messages((stage.ROOT / "README.md").read_text(encoding="utf-8"))}


def cells(executed: Path | None) -> dict[str, list[str]]:
    """What the cells of notebooks show, and, where a build is at hand, those of pages."""
    found = {shown.NOTEBOOKS: shown.texts_in(stage.ROOT / "notebooks")}
    return found | ({shown.PAGES: shown.texts_in(executed)} if executed else {})


def words() -> list[str]:
    """What the build itself says: extensions, the figure of the framework, and the book's title."""
    code = (text for path in sorted((stage.ROOT / "book").glob("*.py")) for _, text, *_ in extract_from_file("python", path, {"_": None}))
    config = yaml.safe_load(stage.CONFIG.read_text(encoding="utf-8"))
    return list(dict.fromkeys([config["title"], config["author"], *code, *explorers.said(), *framework.words()]))


def messages(path: Path) -> list[str]:
    with path.open("rb") as file:
        return [message.id for message in read_po(file) if message.id]


def is_said(message: str) -> bool:
    """Has it a word that is not the same in every language?"""
    return bool(WORD.search(SAME.sub("", message)))


def renewed(old: bytes, found: Iterable[str], language: str) -> bytes:
    """A catalogue with today's messages."""
    template = Catalog()
    for message in filter(is_said, found):
        template.add(message)
    catalogue = read_po(io.BytesIO(old), locale=language)
    catalogue.update(template)
    for message in catalogue:
        message.flags -= {"python-format", "python-brace-format"}  # "5 % of" and a role look like these
    written = io.BytesIO()
    write_po(written, catalogue, width=0, omit_header=True, ignore_obsolete=True)
    return HEADER.format(language).encode() + written.getvalue().rstrip(b"\n") + b"\n"


def renew(root: Path, found: dict[str, list[str]], language: str) -> None:
    """Write the catalogues of a language below a folder; those of pages that are gone go too."""
    folder = root / FOLDER / language / "LC_MESSAGES"
    for name, texts in found.items():
        path = folder / f"{name}.po"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(renewed(path.read_bytes() if path.is_file() else b"", texts, language))
    for path in folder.rglob("*.po"):
        if path.relative_to(folder).with_suffix("").as_posix() not in {*found, SPHINX, THEME, shown.PAGES}:
            path.unlink()
    english = (stage.ROOT / "README.md").read_text(encoding="utf-8")
    said = stage.translations(folder / "README.po")
    (root / f"README.{editions.tag(language)}.md").write_text(readme.translated(english, said), encoding="utf-8")


def write(to: Path, executed: Path | None = None) -> None:
    """Renew the catalogues; below another folder than the repository, copies of them."""
    with tempfile.TemporaryDirectory(prefix="dsgc-") as folder:
        found = collected(Path(folder), executed)
    for language in LANGUAGES:
        if to != stage.ROOT:
            shutil.copytree(stage.ROOT / FOLDER / language, to / FOLDER / language, dirs_exist_ok=True)
        renew(to, found, language)


def main() -> None:
    parser = argparse.ArgumentParser(description="Bring the catalogues of translations up to date with the English text.")
    parser.add_argument("--to", type=Path, default=stage.ROOT, metavar="FOLDER", help="write them below it; else in the repository")
    parser.add_argument("--executed", type=Path, metavar="FOLDER", help="where a build keeps what pages have shown")
    given = parser.parse_args()
    write(given.to.resolve(), given.executed)


if __name__ == "__main__":
    main()
