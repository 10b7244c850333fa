"""What a translated message has to have in common with its English one, so that a page says the same and no link or number is lost."""

import re
from collections import Counter

import shown
from babel.messages.pofile import read_po
from catalogues import LANGUAGES
from markdown_it import MarkdownIt
from stage import ROOT
from words import FOLDER

CATALOGUES = ROOT / FOLDER / LANGUAGES[0] / "LC_MESSAGES"
ROLE = re.compile(r"(?<!`)\{([\w:+.-]+)\}(`+)((?:[^`<]|<(?![^<>`]*>`))*?)\s*(?:<([^<>`]*)>)?\2")  # name, title or target, target
FORMULA = re.compile(r"(?<![\\$])\$(?!\$)((?:[^$\\]|\\.)+)\$")
CODE = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)")
LINK = re.compile(r"\]\(([^()\s]*(?:\([^()]*\)[^()\s]*)*)\)")
PLACE = re.compile(r"\{\w+\}")
MARKDOWN = MarkdownIt("commonmark")


def said(page: str) -> list:
    """The messages of a page's catalogue."""
    with (CATALOGUES / f"{page}.po").open("rb") as file:
        return [message for message in read_po(file) if message.id]


def pages() -> list[str]:
    """Whatever has a catalogue."""
    return sorted(path.relative_to(CATALOGUES).with_suffix("").as_posix() for path in CATALOGUES.rglob("*.po"))


# Pages of the Chinese edition that are whole. A change of their English asks for one of their Chinese; a new page may wait here.
NOT_YET: tuple[str, ...] = ()
TRANSLATED = tuple(page for page in pages() if page not in NOT_YET)


def held(text: str) -> dict[str, Counter]:
    """What must be in both: roles with their targets, formulas, code, addresses and names of places."""
    roles = Counter((name, target or inner) for name, _, inner, target in ROLE.findall(text))
    text = ROLE.sub("", text)
    code = Counter(inner for _, inner in CODE.findall(text))
    text = CODE.sub("", text)
    formulas = Counter(FORMULA.findall(text))
    text = FORMULA.sub("", text)
    return {
        "roles": roles,
        "code": code,
        "formulas": formulas,
        "links": Counter(LINK.findall(text)),
        "places": Counter(PLACE.findall(text)),
    }


def faults(english: str, other: str) -> list[str]:
    """What is wrong with a translation, in words; nothing of a right one."""
    if not other:
        return ["not translated"]
    found, before, after = [], held(english), held(other)
    for kind, wanted in before.items():
        found += [f"{kind}: {item!r} is missing" for item in (wanted - after[kind]).elements()]
        found += [f"{kind}: {item!r} is not in the English" for item in (after[kind] - wanted).elements()]
    blocks = [token.type for token in MARKDOWN.parse(other) if token.level == 0]
    if blocks != ["paragraph_open", "paragraph_close"]:
        found.append(f"begins as no paragraph does, {blocks[0].removesuffix('_open')}; put a backslash before its first sign")
    if "\n" in other:
        found.append("has a line's end; a message is one line")
    return found + marks(other)


def faults_of_cells(english: str, other: str) -> list[str]:
    """The same of what cells show, which is no Markdown of a page: its places, and its lines, which a figure may need as they are."""
    places, now = (Counter(PLACE.findall(text)) for text in (english, other))
    lines = english.count("\n") != other.count("\n")
    wrong = {"not translated": not other, "a place is missing or doubled": places != now, "has other lines": lines}
    return [fault for fault, is_so in wrong.items() if is_so]


def wrong_in(page: str, messages: list) -> dict[str, list[str]]:
    """What is wrong with translations of a catalogue, by the beginning of the English."""
    of = faults_of_cells if page in (shown.NOTEBOOKS, shown.PAGES) else faults
    return {message.id[:100]: found for message in messages if (found := of(message.id, message.string))}


def marks(text: str) -> list[str]:
    """Emphasis that Markdown does not see, since its marks stand between letters and the full stops of Chinese."""
    inline = (child for token in MARKDOWN.parse(FORMULA.sub("x", ROLE.sub("x", text))) for child in token.children or ())
    plain = "".join(child.content for child in inline if child.type == "text")
    shown = re.search(r"\*[^\s*]|[^\s*]\*", plain)
    return ["a * is shown as it is: put a space outside of it, or the full stop on its other side"] if shown else []
