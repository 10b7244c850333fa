"""A book of a few pages in English and, from catalogues that are written here, in Chinese, built in seconds."""

import io
from pathlib import Path

import catalogues
import nbformat
import sheet
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from sphinx.application import Sphinx
from sphinx.locale import translators
from sphinx.util.docutils import docutils_namespace

LANGUAGE = "zh_CN"
PAGE = """# A pseudo label

A {term}`threshold` cuts it: {glue:text}`share:.1f` % ({glue:text}`share`). See {py:func}`room.first` and {doc}`glossary`.

## How it is made

(formula)=
$$
a = b \\tag{1}
$$

Not yet translated.

Its English has changed.
"""
TERMS = """# Terms

:::{glossary}
pseudo label
  What a map becomes.

threshold
  A number.
:::
"""
MORE = "# More\n\nPseudo labels stand here, and a threshold.\n"
SAID = {
    "book/page": {
        "A pseudo label": "伪标签",
        "A {term}`threshold` cuts it: {glue:text}`share:.1f` % ({glue:text}`share`). See {py:func}`room.first` and {doc}`glossary`.":
            "{term}`阈值 <threshold>`切出它：{glue:text}`share:.1f`%（{glue:text}`share`）。见 {py:func}`room.first` 和{doc}`glossary`。",
        "How it is made": "它怎样得来",
    },
    "book/glossary": {"Terms": "术语", "pseudo label": "伪标签", "threshold": "阈值", "What a map becomes.": "图变成的标签。"},
    "book/more": {"More": "更多", "Pseudo labels stand here, and a threshold.": "这里有伪标签，也有阈值。"},
}  # fmt: skip
OLD = {"book/page": {"Its English has changed.": "旧的译文。"}}
CONFIG = {
    "extensions": ["myst_nb", "messages", "editions", "searching", "mentions"],
    "master_doc": "index",
    "html_theme": "basic",
    "templates_path": [str(Path(sheet.__file__).parent / "templates")],
    "nb_execution_mode": "off",
    "myst_enable_extensions": ["colon_fence", "deflist", "dollarmath"],
    "myst_heading_anchors": 3,
    "editions": [LANGUAGE],
    "gettext_compact": False,
    "locale_dirs": ["locale"],
}


def notebook(text: str) -> str:
    """A page that has glued a number, as it stands in the stage."""
    data = {"application/papermill.record/text/plain": "12.34"}
    shown = new_output("display_data", data=data, metadata={"scrapbook": {"mime_prefix": "application/papermill.record/", "name": "share"}})
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    cells = [new_code_cell("glue('share', 12.34)", outputs=[shown]), new_markdown_cell(text)]
    return nbformat.writes(new_notebook(cells=cells, metadata=metadata))


def write(folder: Path) -> None:
    """The pages and the catalogues."""
    (folder / "book").mkdir(parents=True)
    (folder / "index.md").write_text("# Start\n\n```{toctree}\nbook/page\nbook/glossary\nbook/more\nbook/code\n```\n")
    (folder / "book/page.ipynb").write_text(notebook(PAGE))
    (folder / "book/glossary.md").write_text(TERMS)
    (folder / "book/more.md").write_text(MORE)
    (folder / "book/code.md").write_text("# Code\n\n```{py:function} room.first()\n```\n")
    for name, said in SAID.items():
        path = folder / f"locale/{LANGUAGE}/LC_MESSAGES/{name}.po"
        path.parent.mkdir(parents=True, exist_ok=True)
        entries = [(english, other, "") for english, other in said.items()]
        entries += [(english, other, "#, fuzzy\n") for english, other in OLD.get(name, {}).items()]
        text = "\n\n".join(f'{mark}msgid "{english}"\nmsgstr "{other}"' for english, other, mark in entries)
        path.write_text(catalogues.HEADER.format(LANGUAGE) + text + "\n", encoding="utf-8")
        with path.open("rb") as source, path.with_suffix(".mo").open("wb") as compiled:
            write_mo(compiled, read_po(source, locale=LANGUAGE))


def build(folder: Path) -> tuple[Path, str]:
    """Both editions; the English HTML, with the Chinese one in it, and what Sphinx warned of."""
    source, html = folder / "source", folder / "html"
    write(source)
    warned = io.StringIO()
    chinese = {"english_edition": str(html), "html_search_language": "zh"}
    for language, target, more in (("en", html, {}), (LANGUAGE, html / LANGUAGE, chinese)):
        if language != "en":
            (source / "book/code.md").write_text("# Code\n\nIn English.\n")
        config = CONFIG | {"language": language} | more
        with docutils_namespace():
            app = Sphinx(source, None, target, folder / f"{language}/.doctrees", "html", config, status=None, warning=warned)
            app.build(force_all=True)
        translators.clear()  # a language stays set in the process that has built in it
    return html, warned.getvalue()


