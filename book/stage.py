"""The folder that the book is built from: every page with the path that it has in the repository, and what Jupyter Book is told of it.

An edition in another language has a stage of its own. There the pages that are made of the code alone lead to the English ones.
"""

import shutil
from pathlib import Path

import framework
import yaml

ROOT = Path(__file__).resolve().parents[1]
MADE_OF_CODE = ("book/reference", "book/tests")  # of docstrings, which are English
CONFIG, CONTENTS = ROOT / "_config.yml", ROOT / "_toc.yml"


def lay(stage: Path) -> None:
    """Copy the pages, and draw the figure of the framework."""
    shutil.copytree(ROOT / "book", stage / "book", ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    (stage / "book/framework.svg").write_text(framework.svg(), encoding="utf-8")
    (stage / "notebooks").mkdir()


def shorten(stage: Path) -> None:
    """Leave of a page that is made of the code its introduction."""
    for name in MADE_OF_CODE:
        page = stage / f"{name}.md"
        page.write_text(page.read_text(encoding="utf-8").partition("\n## ")[0], encoding="utf-8")


def config(to: Path, *, without: tuple[str, ...], **more: object) -> Path:
    """Jupyter Book's configuration in a folder, without some extensions and with more of Sphinx's settings; its path."""
    given = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
    sphinx = given["sphinx"]
    sphinx["local_extensions"] = {name: str(ROOT / path) for name, path in sphinx["local_extensions"].items()}
    sphinx["config"]["extensions"] = [name for name in sphinx["config"]["extensions"] if name not in without]
    sphinx["config"] |= more
    path = to / "_config.yml"
    path.write_text(yaml.safe_dump(given, allow_unicode=True), encoding="utf-8")
    return path
