"""What the book's own extensions say, in the language of the edition: `_("Test")`. Its catalogue is `words.po`."""

from pathlib import Path

from sphinx.application import Sphinx
from sphinx.locale import get_translation

CATALOGUE = "words"
THEME, SPHINX = "booktheme", "sphinx"  # what the catalogues of these packages lack is in ours of the same name
FOLDER = "locale"  # in the stage
HAN = r"\u4e00-\u9fff"  # Chinese signs, as a regular expression has them; between Chinese words is no space


def _(text: str) -> str:
    return str(get_translation(CATALOGUE)(text))


def load(app: Sphinx) -> None:
    for name in (CATALOGUE, THEME):  # Sphinx looks for its own there by itself
        app.add_message_catalog(name, str(Path(app.srcdir, FOLDER)))
