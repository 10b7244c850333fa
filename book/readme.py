"""The README in another language: its paragraphs, titles and cells of tables are messages, all else stays as it is."""

from collections.abc import Mapping

from markdown_it import MarkdownIt
from markdown_it.token import Token


def parts(text: str) -> list[Token]:
    """What is said, in order; each part knows its lines."""
    return [token for token in MarkdownIt("commonmark").enable("table").parse(text) if token.type == "inline" and token.content]


def line(part: Token) -> str:
    return " ".join(part.content.split())


def messages(text: str) -> list[str]:
    return [line(part) for part in parts(text)]


def translated(text: str, said: Mapping[str, str]) -> str:
    """The text with what is said of each message; a message of which nothing is said stays English."""
    lines, ends = text.splitlines(), {}
    for part in parts(text):
        first, last = part.map
        found = said.get(line(part), "")
        if last - first > 1 or not lines[first].lstrip().startswith("|"):
            whole = "\n".join(lines[first:last])
            begin = whole.index(part.content.splitlines()[0])
            lines[first:last] = [whole[:begin] + (found or whole[begin:]), *[None] * (last - first - 1)]
            continue
        begin = lines[first].index(part.content, ends.get(first, 0))  # cells come from left to right
        put = found or part.content
        lines[first] = lines[first][:begin] + put + lines[first][begin + len(part.content) :]
        ends[first] = begin + len(put)
    return "\n".join(line for line in lines if line is not None) + "\n"
