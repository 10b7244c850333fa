"""A command's arguments as a dataclass of options; tyro reads them, and what is wrong with them is told in one line."""

import contextlib
import io
import re
from collections.abc import Sequence
from typing import Any

import tyro

from dsgc.errors import UserError

PROGRAM = "python -m dsgc"


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
        plain = re.sub(r"\x1b\[[\d;]*m", "", said.getvalue())  # tyro writes a box: title, rule, message, rule, ...
        parts = re.split(r"(?m)^(?:╭.*|[│ ]*[─-]{9,}[│ ]*)$", plain)  # without box characters where stdout has no UTF-8
        message = " ".join(parts[1].replace("│", " ").split())
        raise UserError(f"{message.rstrip('.')}; see `{PROGRAM} {command} --help`") from None
