"""The words of a figure, and the figure a second time with these in another language.

Which languages there are, and what they say of each text, the builder of the book writes into a file that it names in the environment
(`FILE`); where it names none, no figure is drawn twice. A number, a formula or a name with a number in it is the same in every language,
so a text is known by what remains: "after {0} steps". How the words of a figure come to a catalogue, `book/shown.py` tells.
"""

import base64
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib import font_manager
from matplotlib.ft2font import FT2Font
from matplotlib.text import Text
from matplotlib.ticker import Formatter

FILE = "DSGC_WORDS"  # an environment variable, the path of JSON: by language what is "said" of each text, and a "font" file with its signs
SAME = re.compile(r"\$[^$]+\$|`[^`]+`|[+−-]?(?:[^\W\d_]+[-_.])*[^\W\d_]*\d(?:[\w.,:-]*\w)?")  # a formula, code, and what has a digit in it
PLACE = re.compile(r"\{(\d+)\}")
NAME = re.compile(r"--\S+( \S+)?|\w+([._]\w+)+")  # an option, a file, a name of the code
WORD = re.compile(r"[^\W\d_]{2}")
SERIFS = re.compile(r"\b(serif|song|ming|mincho|kai|fang)", re.IGNORECASE)


class Language(NamedTuple):
    """What another language says of texts, and the name of a font with its signs."""

    said: Mapping[str, str]
    font: str


def font_with(signs: str) -> str | None:
    """The file of a font of this system that has some signs, an upright one without serifs if there is one; None if there is none."""
    found = []
    for path in sorted(font_manager.findSystemFonts()):
        try:
            font = FT2Font(path)
        except (OSError, RuntimeError):  # a font of bitmaps, say
            continue
        if all(ord(sign) in font.get_charmap() for sign in signs):
            found.append((font.style_name != "Regular", bool(SERIFS.search(font.family_name)), path))
    return min(found)[2] if found else None


def known_as(text: str) -> tuple[str, list[str]]:
    """A text as a catalogue has it, and what stands at its places."""
    parts: list[str] = []

    def place(found: re.Match) -> str:
        parts.append(found[0])
        return f"{{{len(parts) - 1}}}"

    return SAME.sub(place, text.strip()), parts


def has_words(known: str) -> bool:
    """Is there something to translate in a text, as a catalogue has it? A name of the code is the same in every language."""
    return bool(WORD.search(known)) and not NAME.fullmatch(known)


def put(text: str, said: Mapping[str, str]) -> str:
    """A text in a language, with its own numbers; as it is where the language says nothing of it."""
    known, parts = known_as(text)
    if known not in said:
        return text
    before, after = text[: len(text) - len(text.lstrip())], text[len(text.rstrip()) :]
    return before + PLACE.sub(lambda found: parts[int(found[1])], said[known]) + after


def words(figure: Any) -> list[str]:
    """The texts of a figure as a catalogue has them, in the order in which matplotlib has them."""
    figure.draw_without_rendering()  # before that ticks have no labels
    texts = (artist.get_text() for artist in figure.findobj(Text) if artist.get_visible())
    return [known for known in dict.fromkeys(known_as(text)[0] for text in texts) if has_words(known)]


@cache
def _languages(path: str) -> dict[str, Language]:
    given = json.loads(Path(path).read_text(encoding="utf-8"))
    for language in given.values():
        font_manager.fontManager.addfont(language["font"])  # it may be newer than matplotlib's list
    return {name: Language(language["said"], FT2Font(language["font"]).family_name) for name, language in given.items()}


def about(figure: Any, png: Callable[[Any], bytes]) -> dict[str, Any]:
    """What an output of a figure carries beside it: its "words", and by language its PNG in base64, where a word is said there.

    png: draws the figure as it is.
    """
    told: dict[str, Any] = {"words": words(figure)}
    path = os.environ.get(FILE)
    for name, language in _languages(path).items() if path else ():
        if any(language.said.get(word, word) != word for word in told["words"]):
            with spoken(figure, language):
                told[name] = base64.b64encode(png(figure)).decode()
    return told


class _Said(Formatter):
    """Labels of ticks in a language, of those that another formatter makes."""

    def __init__(self, own: Formatter, said: Mapping[str, str]):
        self.own, self.said = own, said
        self.axis = own.axis

    def __call__(self, x: float, pos: int | None = None) -> str:
        return put(self.own(x, pos), self.said)

    def format_ticks(self, values: Any) -> list[str]:
        return [put(text, self.said) for text in self.own.format_ticks(values)]

    def get_offset(self) -> str:
        return self.own.get_offset()

    def set_locs(self, locs: Any) -> None:
        self.own.set_locs(locs)


@contextmanager
def spoken(figure: Any, language: Language) -> Iterator[None]:
    """The figure with its texts in a language; as it was afterwards."""
    with ExitStack() as after:
        axes = [axis for each in figure.findobj(lambda artist: hasattr(artist, "xaxis")) for axis in (each.xaxis, each.yaxis)]
        ticks = {label for axis in axes for label in axis.get_ticklabels(which="both")}
        for axis in axes:
            if any(put(label.get_text(), language.said) != label.get_text() for label in axis.get_ticklabels()):
                own = axis.get_major_formatter()
                axis.set_major_formatter(_Said(own, language.said))
                after.callback(axis.set_major_formatter, own)
        for text in figure.findobj(Text):
            now = put(text.get_text(), language.said)
            if text in ticks or now != text.get_text():
                family = text.get_fontfamily()
                # a text with a formula is drawn with its first font alone
                text.set_fontfamily([language.font] if "$" in now else [*family, language.font])
                after.callback(text.set_fontfamily, family)
            if text not in ticks and now != text.get_text():
                after.callback(text.set_text, text.get_text())
                text.set_text(now)
        yield
