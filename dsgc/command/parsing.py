"""A command's arguments as a dataclass of options; tyro reads them, and what is wrong with them is told in one line."""

import contextlib
import io
import re
from collections.abc import Sequence
from typing import Any

import tyro

from dsgc.errors import UserError

PROGRAM = "python -m dsgc"
KINDS = {"INT": "a whole number", "FLOAT": "a number"}  # of an option that takes one; others take numbers


def parse(options: type, arguments: Sequence[str], command: str, description: str | None = None) -> Any:
    """The options that the arguments give; what is wrong with them becomes a `UserError` of one line."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(
                options,
                args=list(arguments),
                prog=f"{PROGRAM} {command}",
                description=description,
                config=(tyro.conf.FlagCreatePairsOff,),
            )
    except SystemExit as stop:
        if not stop.code:
            raise  # --help
        raise UserError(f"{_told(said.getvalue())}; see `{PROGRAM} {command} --help`") from None


def _told(box: str) -> str:
    """What tyro says in a box (title, rule, message, rule, more of it, rule, ...), in words of a line."""
    plain = re.sub(r"\x1b\[[\d;]*m", "", box)
    parts = re.split(r"(?m)^(?:╭.*|[│ ]*[─-]{9,}[│ ]*)$", plain)  # without box characters where stdout has no UTF-8
    message, *more = (" ".join(re.sub(r"[│|] *$|^ *[│|]", "", part, flags=re.MULTILINE).split()) for part in parts[1:])
    more = " ".join(more)
    if wrong := re.match(r"Error parsing (--[\w-]+)", message):  # then comes what Python says of it
        kind = re.search(rf"helptext: {wrong[1]} ((?:\[*(?:INT|FLOAT|\.\.\.)\]* ?)+)", more)
        given = re.search(r"\[('.*?')\]|: ('[^']*')$", message)
        if kind and given:
            return f"{wrong[1]} {given[1] or given[2]}: takes {KINDS.get(kind[1].strip(), 'numbers')}"
    if choices := re.search(r"Expected one of \((.*?)\)", message):  # in the order of a set, which is none
        names = sorted({*re.findall(r"'([^']*)'", choices[1])} - {"None"})
        message = message.replace(choices[0], f"Expected one of {', '.join(names)}")
    if meant := re.search(r"Perhaps you meant: (--[\w-]+)", more):
        return f"{message.rstrip('.')}; perhaps {meant[1]} is meant"
    return message.rstrip(".")
