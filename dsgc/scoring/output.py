"""A folder of results with a file for each picture: of one command alone, kept where something goes wrong, and then gone on with."""

import contextlib
import json
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path

from dsgc.errors import UserError

UNFINISHED = "unfinished.json"  # beside files that are not all yet; says what they are of


def refuse_others(out: Path, asked: dict, what: str) -> None:
    """Raise `UserError` where a folder holds anything but a part of the results that are asked for; `what` they are, in the plural."""
    if not out.is_dir() or not any(out.iterdir()):
        return
    mark = out / UNFINISHED
    if not mark.is_file():
        raise UserError(
            f"{out}: already holds {what} or other files; choose another folder or delete it first (pictures to look at go with --data)"
        )
    with contextlib.suppress(OSError, ValueError, RecursionError):
        if json.loads(mark.read_text(encoding="utf-8")) == asked:
            return
    raise UserError(f"{out}: holds a part of other {what}, of which {mark.name} there tells; choose another folder or delete it first")


def first_new(out: Path) -> Path:
    """The folder that goes where nothing comes of the results: the outermost that is not there yet, or `out` itself."""
    return next((folder for folder in [*reversed(out.parents), out] if not folder.exists()), out)


@contextlib.contextmanager
def kept(out: Path, new: Path, files: Collection[Path], what: str) -> Iterator[None]:
    """Where something goes wrong in here, what is written of the files stays, and is said; where nothing is, the `new` folder goes.

    Raises:
        UserError: in place of it and of an `OSError`, with what is kept.
    """
    try:
        yield
    except (UserError, OSError, KeyboardInterrupt) as error:
        words = str(error) or "interrupted"
        if isinstance(error, OSError):
            words = f"{out}: cannot be written ({error.strerror}); make room, or choose another folder"
        if done := sum(file.is_file() for file in files):
            words += f"; {done} of {len(files)} {what} are kept in {out}, the same command goes on with the others"
        else:
            shutil.rmtree(new, ignore_errors=True)
        raise (KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else UserError)(words) from error
