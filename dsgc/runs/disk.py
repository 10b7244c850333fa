"""Files on whatever file system there is: where it refuses what is not essential, nothing that was written is lost."""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

UNKNOWN = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}  # this file system has no such call
TROUBLE = {errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG}  # with the disk, that no other call would get round


@contextlib.contextmanager
def where_known() -> Iterator[None]:
    """In here a call of a file that its file system does not know, as some shares know no fsync, is left out; other errors stay."""
    try:
        yield
    except OSError as error:
        if error.errno not in UNKNOWN:
            raise


def to_disk(path: Path) -> None:
    """Wait until a file is on the disk, or the names in a folder, and not only on their way there.

    Of a folder this is tried only: Windows opens none, and some shares refuse; its files are there all the same.
    Raises `OSError` where a file's last bytes cannot be written.
    """
    folder = path.is_dir()
    with contextlib.suppress(OSError) if folder else where_known():
        descriptor = os.open(path, os.O_RDONLY if folder else os.O_RDWR)  # Windows waits for a file only that is open for writing
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def rename(made: Path, target: Path, last: str = "") -> None:
    """Give a file, or a folder with files, the name under which it counts, in place of the file of that name.

    Some shares rename no folder, and some nothing onto a file that is there: then its files move one by one, the `last` one last,
    or the file that is there moves aside first.
    """
    try:
        os.replace(made, target)
        return
    except OSError as error:
        if error.errno in TROUBLE or not (made.is_dir() or (made.is_file() and target.is_file())):
            raise
    if made.is_dir():
        target.mkdir(exist_ok=True)
        for path in sorted(made.iterdir(), key=lambda path: path.name == last):
            os.replace(path, target / path.name)
        made.rmdir()
        return
    aside = target.with_name(target.name + ".old")
    os.replace(target, aside)
    try:
        os.replace(made, target)
    except OSError:
        os.replace(aside, target)
        raise
    aside.unlink()


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """The name to write a file under, in here; it gets its own once it is written, and what is half-written goes."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        yield partial
        rename(partial, path)
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()
