"""Pictures and text lists read from disk, the same for every layout; what is wrong with a file becomes one line."""

import contextlib
import os
import unicodedata
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageOps

from dsgc.errors import UserError, first_line

UNREADABLE = Exception  # what Pillow raises for a damaged file: OSError, SyntaxError, for its EXIF struct.error, AttributeError, ...
# No other format is tried: whatever its name, an EPS would be run, by Ghostscript.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF", "JPEG2000", "PPM", "QOI", "PSD", "ICO", "DDS")
UNMARKED = {".tga": "TGA", ".pcx": "PCX", ".sgi": "SGI"}  # whose files hardly tell what they are: tried by their ending
COMMON = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
RARE = (".avif", ".jp2", ".j2k", ".jpx", ".ppm", ".pgm", ".pbm", ".pnm", ".qoi", ".psd", ".ico", ".dds", *UNMARKED)
ENDINGS = (*COMMON, *RARE)  # of such files, in any case
ORIENTATION = 0x0112  # the EXIF tag: 1 as stored, 2 to 4 mirrored or upside down, 5 to 8 with width and height changed
SYSTEMS = ("thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx")  # what Windows and macOS leave in folders, beside hidden files


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """A picture, open; what goes wrong while it is becomes a `UserError`."""
    try:
        with warnings.catch_warnings(action="ignore", category=UserWarning), _image(path) as image:
            yield image  # such a warning comes before the error that says the same
    except UserError:
        raise
    except UNREADABLE as error:
        remedy = "replace the file, or take it out with its row or id"
        raise UserError(f"{path}: not a readable image ({first_line(error)}); {remedy}") from error


def _image(path: Path) -> Image.Image:
    return Image.open(path, formats=(*FORMATS, *filter(None, [UNMARKED.get(path.suffix.lower())])))


def read_rgb(path: Path) -> Image.Image:
    """The picture in RGB, turned as its EXIF says; an alpha channel is dropped, what lies under it counts.

    Raises:
        UserError: no picture that can be read, or one of more than 8 bits a channel.
    """
    with _opened(path) as image:
        if image.mode[0] in "IF":  # Pillow would make white of all that is above 255
            raise UserError(f"{path}: has more than 8 bits a channel (Pillow's mode {image.mode}); save it with 8")
        ImageOps.exif_transpose(image, in_place=True)  # which loads it; no copy where none is needed
        return image if image.mode == "RGB" else image.convert("RGB")


def shown_size(path: Path) -> tuple[int, int]:
    """Width and height of a picture as `read_rgb` gives it, from its header alone."""
    with _opened(path) as image:
        turned = image.getexif().get(ORIENTATION, 1) in (5, 6, 7, 8) and image.format != "TIFF"  # a TIFF's is the turned one's
        return image.size[::-1] if turned else image.size


def check_upright(path: Path, mask: Sequence[int], source: Path | str) -> None:
    """Refuse a picture that EXIF turns, unless its mask, of the size `mask` (width, height), can only be drawn on the turned one.

    Masks are drawn on the picture as it is stored or as it is shown: tools differ. Where turning makes another size, the
    mask's own size tells which; else nothing does, and a wrong guess would score an image against an upside-down mask.
    `source` is the file that the mask comes from.

    Raises:
        UserError: it cannot be known, or the mask is of the picture as it is stored.
    """
    with _opened(path) as image:
        orientation, size = image.getexif().get(ORIENTATION, 1), image.size
        shown = size[::-1] if orientation in (5, 6, 7, 8) and image.format != "TIFF" else size  # a TIFF's is the turned one's
    if orientation in (2, 3, 4) or (shown[0] == shown[1] and orientation in (5, 6, 7, 8)):
        raise UserError(
            f"{path}: EXIF turns it (orientation {orientation}), and whether its mask is turned too cannot be known; "
            "store the picture as it is to be seen, without the tag"
        )
    if orientation in (5, 6, 7, 8) and tuple(mask) == shown[::-1]:
        raise UserError(
            f"{source}: the mask of {path.name} is {mask[0]} x {mask[1]}, as that picture is stored, but EXIF turns the picture "
            f"to {shown[0]} x {shown[1]} (orientation {orientation}); turn the mask too, or take the tag off the picture"
        )


def is_plain(name: str) -> bool:
    """Whether this can only be a file's name: no way to another folder, nothing hidden, nothing that steers a terminal."""
    shown = all(letter.isprintable() or unicodedata.category(letter) == "Zs" for letter in name)  # Zs: the blanks of all kinds
    return shown and not {"/", "\\"} & {*name} and not name.startswith(".") and 0 < len(name.encode()) <= 200


def read_lines(path: Path) -> list[str]:
    """The lines of a text file that are not blank; a byte order mark is no part of the first. Raises `UserError` if it cannot be read."""
    try:
        return [line for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a readable text file ({first_line(error)}); save it as UTF-8") from error


def by_stem(folder: Path, endings: Sequence[str]) -> dict[str, list[str]]:
    """The names of a folder's files with such an ending, in capitals or not, by what stands before it; none if there is no folder.

    Letters with accents are compared in one form: macOS stores another than keyboards give.
    """
    found: dict[str, list[str]] = {}
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
        for entry in entries:
            stem, ending = os.path.splitext(entry.name)
            if ending.lower() in endings and entry.is_file():
                found.setdefault(unicodedata.normalize("NFC", stem), []).append(entry.name)
    return found


class Pictures(NamedTuple):
    """The pictures of a folder, and nothing that says what they show; an id is a file's name without its ending."""

    ids: tuple[str, ...]
    files: dict[str, Path]  # by id
    notes: tuple[str, ...] = ()  # lines on what was passed over

    def image(self, image_id: str) -> Image.Image:
        """The picture in RGB."""
        return read_rgb(self.files[image_id])


def open_pictures(folder: Path) -> Pictures:
    """A folder's pictures, by name: files with a picture's ending, and files without one that hold a picture.

    Raises:
        UserError: there are none, or two of one name with different endings.
    """
    found, passed = [], []
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.name.lower() in SYSTEMS:
            continue
        (found if _is_picture(path) else passed).append(path)
    files = {path.stem: path for path in found}
    note = _passed_over(folder, passed)
    if not files:
        raise UserError(f"{folder}: no pictures here ({', '.join(COMMON)}, ...)" + (f"; {note}" if note else ""))
    twice = next((path for path in found if files[path.stem] != path), None)
    if twice:
        raise UserError(f"{twice}: {files[twice.stem].name} beside it has the same id; rename one of them")
    return Pictures(tuple(files), files, (f"{folder}: {note}",) if note else ())


def _is_picture(path: Path) -> bool:
    if path.is_dir() or (path.exists() and not path.is_file()):  # a pipe would be waited for
        return False
    if path.suffix:
        return path.suffix.lower() in ENDINGS
    with contextlib.suppress(UserError), _opened(path):
        return True
    return False


def _passed_over(folder: Path, paths: Sequence[Path]) -> str:
    """What of a folder is no picture, in a few words; empty if there is nothing."""
    folders, files = [path.name for path in paths if path.is_dir()], [path.name for path in paths if not path.is_dir()]
    parts = [
        f"{len(names)} {kind}{'s' * (len(names) > 1)} ({', '.join(names[:3])}{', ...' * (len(names) > 3)})"
        for kind, names in (("file", files), ("folder", folders))
        if names
    ]
    return f"passed over {' and '.join(parts)}" if parts else ""
