"""What the book's own extensions say, in the language of the edition: `_("Test")`. Its catalogue is `words.po`."""

from pathlib import Path

from sphinx.application import Sphinx
from sphinx.locale import get_translation

CATALOGUE = "words"
FOLDER = "locale"  # in the stage


def _(text: str) -> str:
    return str(get_translation(CATALOGUE)(text))


def load(app: Sphinx) -> None:
    app.add_message_catalog(CATALOGUE, str(Path(app.srcdir, FOLDER)))
