"""Pictures and text lists read from disk, the same for every layout; what is wrong with a file becomes one line."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageOps

from dsgc.errors import UserError, first_line

UNREADABLE = Exception  # what Pillow raises for a damaged file: OSError, SyntaxError, for its EXIF struct.error, AttributeError, ...
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF")  # no other is tried: whatever its name, an EPS would be run, by Ghostscript
ORIENTATION = 0x0112  # the EXIF tag: 1 as stored, 2 to 4 mirrored or upside down, 5 to 8 with width and height changed


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """A picture, open; what goes wrong while it is becomes a `UserError`."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            yield image
    except UNREADABLE as error:
        raise UserError(f"{path}: not a readable image ({first_line(error)}); replace the file or take its id off the list") from error


def read_rgb(path: Path) -> Image.Image:
    """The picture in RGB, turned as its EXIF says; an alpha channel is dropped, what lies under it counts."""
    with _opened(path) as image:
        if image.mode[0] in "IF":  # Pillow would make white of all that is above 255
            raise ValueError(f"{image.mode}: more than 8 bits a channel")
        ImageOps.exif_transpose(image, in_place=True)  # which loads it; no copy where none is needed
        return image if image.mode == "RGB" else image.convert("RGB")


def check_upright(path: Path) -> None:
    """Refuse a picture to which a mask belongs if EXIF mirrors it, or turns it into one of the same size.

    Masks are drawn on the picture as it is stored or as it is shown: tools differ. Where turning makes another size, the
    mask's own size tells which; here nothing does, and a wrong guess would score an image against an upside-down mask.
    """
    with _opened(path) as image:
        orientation, square = image.getexif().get(ORIENTATION, 1), image.width == image.height
    if orientation in (2, 3, 4) or (square and orientation in (5, 6, 7, 8)):
        raise UserError(
            f"{path}: EXIF turns it (orientation {orientation}), and whether its mask is turned too cannot be known; "
            "store the picture as it is to be seen, without the tag"
        )


def is_plain(name: str) -> bool:
    """Whether this can only be a file's name: no way to another folder, nothing hidden, nothing that steers a terminal."""
    return name.isprintable() and not {"/", "\\"} & {*name} and not name.startswith(".") and 0 < len(name.encode()) <= 200


def read_lines(path: Path) -> list[str]:
    """The lines of a text file that are not blank; a byte order mark is no part of the first."""
    try:
        return [line for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a readable text file ({first_line(error)}); save it as UTF-8") from error


class Pictures(NamedTuple):
    """The pictures of a folder, and nothing that says what they show; an id is a file's name without its ending."""

    ids: tuple[str, ...]
    files: dict[str, Path]  # by id

    def image(self, image_id: str) -> Image.Image:
        """The picture in RGB."""
        return read_rgb(self.files[image_id])


def open_pictures(folder: Path) -> Pictures:
    """A folder's pictures, by name. Raises `UserError` if there are none, or two of one name with different endings."""
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    files = {path.stem: path for path in found}
    if not files:
        raise UserError(f"{folder}: no pictures here (.jpg, .jpeg or .png)")
    twice = next((path for path in found if files[path.stem] != path), None)
    if twice:
        raise UserError(f"{twice}: {files[twice.stem].name} beside it has the same id; rename one of them")
    return Pictures(tuple(files), files)
