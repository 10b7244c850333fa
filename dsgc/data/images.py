"""Pictures and text lists read from disk, the same for every layout; what is wrong with a file becomes one line."""

from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageOps

from dsgc.errors import UserError, first_line

UNREADABLE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)  # what Pillow raises for a file that it cannot read


def read_rgb(path: Path) -> Image.Image:
    """The picture in RGB, whatever its mode, turned as its EXIF says."""
    try:
        with Image.open(path) as image:
            ImageOps.exif_transpose(image, in_place=True)  # which loads it; no copy where none is needed
            return image if image.mode == "RGB" else image.convert("RGB")
    except UNREADABLE as error:
        raise UserError(f"{path}: not a readable image ({first_line(error)}); replace the file or take its id off the list") from error


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
