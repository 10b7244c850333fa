"""A mistake in what the user gave, told in one line."""

import contextlib
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO


def printable(text: str) -> str:
    """Words from a stranger's file with a `?` for each character that would end the line or steer the terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def writable(text: str, stream: TextIO | None) -> str:
    """Words that a stream can write: a terminal need not know the letters of a path, nor is every path made of letters."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


class UserError(ValueError):
    """What is wrong, where, and the remedy, in one line. The command line prints it and exits with 2."""

    def __str__(self) -> str:
        return printable(super().__str__())  # it quotes names of files, tensors and classes, and those come from strangers


class Stopped(KeyboardInterrupt):
    """A run that a signal ended, at a checkpoint from which it can go on. Like Ctrl-C it is no `Exception`, so that no loop
    over many runs takes it for the failure of one."""

    def __init__(self, number: int, where: str = ""):
        super().__init__(where)
        self.number = number
        self.code = 128 + number  # as a shell has it for a program that a signal ended


def resuming(run: str | Path) -> str:
    """The command that goes on with a run."""
    return f"`python -m dsgc resume {run}`"


def first_line(error: BaseException) -> str:
    """The first line of what a library says went wrong, short enough to stand inside a message of ours, in no colours."""
    return (re.sub(r"\x1b\[[\d;]*m", "", str(error)).splitlines() or [type(error).__name__])[0][:120]


def one_line(error: UserError | OSError) -> str:
    """What the command line prints."""
    text = str(error)
    if isinstance(error, OSError):
        text = f"{error.filename or 'a file'}: {error.strerror or first_line(error)}; see to it, or name another file or folder"
    return printable(text)


def out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, of the machine or of a card, for which torch has a `RuntimeError` in several wordings."""
    words = r"out of memory|bad_alloc|alloc_failed|allocate"
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and bool(re.search(words, str(error), re.IGNORECASE)))


@contextlib.contextmanager
def enough_memory(what: str, remedy: str) -> Iterator[None]:
    """Where memory runs out in here, a `UserError` says what it was too little for, and the remedy."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        raise UserError(f"{what}, memory ran out ({first_line(error)}); {remedy}") from error


def check_writable(folder: Path) -> None:
    """Make a folder, and see that files can be written there, before hours are spent on what they would hold.

    Raises:
        UserError: it cannot be made, or nothing can be written in it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise UserError(f"{folder}: cannot write here ({error.strerror}); choose another folder") from error
