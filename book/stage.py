"""The folder that the book is built from: every page with the path that it has in the repository, and what Jupyter Book is told of it.

An edition in another language has a stage of its own, with the catalogues that say what becomes of the English text. Of the pages that
are made of docstrings it has the introduction, which leads to the English page.
"""

import shutil
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path

import framework
import yaml
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from words import CATALOGUE, FOLDER

ROOT = Path(__file__).resolve().parents[1]
CONFIG, CONTENTS = ROOT / "_config.yml", ROOT / "_toc.yml"
MADE_OF_CODE = ("book/reference", "book/tests")
REFERENCE = "../../book/reference.html#dsgc."  # the English one, from a page of another edition


def lay(stage: Path) -> None:
    """Copy the pages, and draw the figure of the framework."""
    shutil.copytree(ROOT / "book", stage / "book", ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    (stage / "book/framework.svg").write_text(framework.svg(), encoding="utf-8")
    (stage / "notebooks").mkdir()


def shorten(stage: Path) -> None:
    """Leave of a page that is made of docstrings its introduction."""
    for name in MADE_OF_CODE:
        page = stage / f"{name}.md"
        page.write_text(page.read_text(encoding="utf-8").partition("\n## ")[0].rstrip() + "\n", encoding="utf-8")


def lead_on(stage: Path, _: Callable[[str], str]) -> None:
    """Let these introductions lead to the English pages."""
    for name in MADE_OF_CODE:
        page = stage / f"{name}.md"
        text = page.read_text(encoding="utf-8")
        title = text.partition("\n")[0].removeprefix("# ")
        link = f'<a href="../../{name}.html" hreflang="en" lang="en">{title}</a>'
        more = _("The entries are made of the code, and in English:")
        page.write_text(f"{text}\n{more}{link}\n", encoding="utf-8")


def translate(stage: Path, language: str) -> Path:
    """Make another edition's stage of the English one, beside it; its path."""
    here = stage.parent / language
    there = here / "stage"
    shutil.copytree(stage, there)
    shutil.copytree(ROOT / FOLDER / language, there / FOLDER / language)
    for catalogue in (there / FOLDER).rglob("*.po"):
        with catalogue.open("rb") as text, catalogue.with_suffix(".mo").open("wb") as compiled:
            write_mo(compiled, read_po(text, locale=language))
    shorten(there)
    lead_on(there, said(language, CATALOGUE))
    (there / "book/framework.svg").write_text(framework.svg(REFERENCE, said(language, CATALOGUE)), encoding="utf-8")
    return there


def translations(path: Path) -> Mapping[str, str]:
    """What a catalogue says of each message that is translated and up to date."""
    with path.open("rb") as file:
        return {message.id: message.string for message in read_po(file) if message.id and message.string and not message.fuzzy}


def said(language: str, name: str) -> Callable[[str], str]:
    """A text in a language, by the catalogue of this name; in English if the catalogue says nothing of it."""
    found = translations(ROOT / FOLDER / language / f"LC_MESSAGES/{name}.po")
    return lambda text: found.get(text, text)


def config(path: Path, *, without: Collection[str] = (), beside: Iterable[str] = (), **more: object) -> Path:
    """Write Jupyter Book's configuration, without some extensions, with others beside them, and with more of Sphinx's settings."""
    given = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
    sphinx = given["sphinx"]
    sphinx["local_extensions"] = {name: str(ROOT / folder) for name, folder in sphinx["local_extensions"].items()}
    sphinx["config"]["extensions"] = [name for name in sphinx["config"]["extensions"] if name not in without] + list(beside)
    gone = {name.rpartition(".")[2] for name in without}  # with their settings
    sphinx["config"] = {name: value for name, value in sphinx["config"].items() if name.partition("_")[0] not in gone} | more
    path.write_text(yaml.safe_dump(given, allow_unicode=True), encoding="utf-8")
    return path


def config_in(language: str, path: Path, english: Path, languages: list[str]) -> Path:
    """The configuration of another edition: its language, its search, its titles, and where the English one stands."""
    given = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
    _ = said(language, CATALOGUE)
    options = given["sphinx"]["config"]["html_theme_options"] | {"search_bar_text": _("Search this book...")}
    return config(
        path,
        without=["sphinx.ext.viewcode"],  # the source of the code is English
        beside=["searching"] if language == "zh_CN" else [],
        language=language,
        locale_dirs=[FOLDER],
        gettext_compact=False,
        html_title=_(given["title"]),
        author=_(given["author"]),
        html_search_language=language.partition("_")[0],
        html_theme_options=options,
        nb_code_prompt_show=_("Unfold the cell"),
        nb_code_prompt_hide=_("Fold the cell"),
        editions=languages,
        english_edition=str(english),
    )


def contents_in(language: str, path: Path) -> Path:
    """The book's contents with their parts named in another language."""
    given = yaml.safe_load(CONTENTS.read_text(encoding="utf-8"))
    _ = said(language, given["root"])
    for part in given["parts"]:
        part["caption"] = _(part["caption"])
    path.write_text(yaml.safe_dump(given, allow_unicode=True, sort_keys=False), encoding="utf-8")
    return path
