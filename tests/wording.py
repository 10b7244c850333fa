"""What a translated message has to do with the table of terms: one term, one word.

A message says a term if it says it in its prose, as a whole word, in the singular or plural: not in code, in a formula, or where a
role or link leads. A term with a parenthesis after it has other meanings too, so its Chinese word is not asked for. Where another word
is right after all, the translator says so in a comment above the message in the catalogue:

    # not the term: patch
"""

import re
from functools import cache
from pathlib import Path

from babel.messages.pofile import read_po
from terms import Term

SHOWN = ("term", "doc", "ref", "numref")  # roles that show words of the message; others show code, numbers or works
ROLE = re.compile(r"\{([\w:]+)\}`([^`]+)`")
TITLE = re.compile(r"(.+?)\s*<[^<>]+>", re.DOTALL)  # of a role: title <target>
NO_PROSE = re.compile(r"(`+).+?\1|\$\$.+?\$\$|\$[^$]+\$|<[^<>]*>|https?://\S+", re.DOTALL)
LINK = re.compile(r"\[((?:[^\[\]]|\[[^\[\]]*\])*)\]\([^()\s]*\)")
EXCUSE = "not the term:"


def prose(message: str) -> str:
    """What a reader sees of a message, without code and formulas."""
    return NO_PROSE.sub(" ", LINK.sub(r"\1", ROLE.sub(shown, message)))


def shown(role: re.Match) -> str:
    kind, body = role.groups()
    title = TITLE.fullmatch(body)
    if kind not in SHOWN:
        return " "
    return title[1] if title else body if kind == "term" else " "


def spelt(name: str) -> str:
    """A pattern of a term: a blank may be a hyphen or a new line, an apostrophe may be curly, the last word may be in the plural."""
    stem = r"[\s-]+".join(re.escape(word) for word in re.split(r"[\s-]+", name)).replace("'", "['’]")
    return f"{stem[:-1]}(?:y|ies)" if stem.endswith("y") else f"{stem}(?:e?s)?"


@cache
def pattern(terms: tuple[Term, ...]) -> tuple[list[Term], re.Pattern]:
    """The terms of one meaning, the longest first, and what finds any of them: its n-th group is the n-th of them."""
    ordered = sorted((term for term in terms if term.has_one_meaning), key=lambda term: len(term.english), reverse=True)
    words = "|".join(f"({spelt(term.english)})" for term in ordered)
    return ordered, re.compile(rf"(?<!\w)(?:{words})(?!\w)", re.IGNORECASE)


def said(message: str, terms: tuple[Term, ...]) -> list[Term]:
    """The terms of one meaning that a message says, each once; of two in one place the longer one."""
    ordered, words = pattern(terms)
    return [ordered[index] for index in sorted({match.lastindex - 1 for match in words.finditer(prose(message))})]


def squeezed(text: str) -> str:
    """Without blanks and in small letters: whether a blank stands between Chinese and Latin is no matter of terms."""
    return "".join(text.split()).lower()


def faults(english: str, chinese: str, terms: tuple[Term, ...], excused: frozenset[str] = frozenset()) -> list[str]:
    """Each term of a message without its word, each word that must not stand, each excuse without need; in a line each."""
    words = squeezed(prose(chinese))
    missing = {term.english: term.chinese for term in said(english, terms) if squeezed(term.chinese) not in words}
    found = [f"{name} is {word}" for name, word in missing.items() if name not in excused]
    found += [f"{word} must not stand; {term.english} is {term.chinese}" for term, word in misused(prose(chinese), terms)]
    return found + [f"no need of '{EXCUSE} {name}'" for name in sorted(excused - missing.keys())]


def misused(text: str, terms: tuple[Term, ...]) -> list[tuple[Term, str]]:
    """Words that must not stand, and whose they are. One may be a part of a word that is right: Holm 校正 has 校正."""
    found = []
    for term in terms:
        for word in filter(text.__contains__, term.forbidden):
            right = "|".join(apart(other.chinese) for other in terms if word in other.chinese)
            rest = re.sub(right, " ", text, flags=re.IGNORECASE) if right else text
            found += [(term, word)] * (word in rest)
    return found


def apart(word: str) -> str:
    """A pattern of a Chinese word: blanks may stand in it, or not."""
    return r"\s*".join(map(re.escape, "".join(word.split())))


def excuses(comments: list[str]) -> frozenset[str]:
    """The terms that a translator's comments name as not meant."""
    named = [comment.split(EXCUSE)[1] for comment in comments if comment.strip().startswith(EXCUSE)]
    return frozenset(name.strip() for names in named for name in names.split(","))


def faults_of(catalogue: Path, terms: tuple[Term, ...]) -> list[str]:
    """Of every message that is translated, with the beginning of the English one; what is fuzzy is not shown to a reader."""
    with catalogue.open("rb") as file:
        messages = [message for message in read_po(file, locale="zh_CN") if message.id and message.string and not message.fuzzy]
    found = []
    for message in messages:
        excused = excuses(message.user_comments)
        found += [f"{message.id[:60]!r}: {fault}" for fault in faults(message.id, message.string, terms, excused)]
    return found
