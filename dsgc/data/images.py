"""Pictures and text lists read from disk, the same for every layout; what is wrong with a file becomes one line."""

from pathlib import Path

from PIL import Image, ImageOps

from dsgc.errors import UserError, first_line

UNREADABLE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)  # what Pillow raises for a file that it cannot read


def read_rgb(path: Path) -> Image.Image:
    """The picture in RGB, whatever its mode, turned as its EXIF says."""
    try:
        with Image.open(path) as image:
            return ImageOps.exif_transpose(image).convert("RGB")
    except UNREADABLE as error:
        raise UserError(f"{path}: not a readable image ({first_line(error)}); replace the file or take its id off the list") from error


def read_lines(path: Path) -> list[str]:
    """The lines of a text file that are not blank; a byte order mark is no part of the first."""
    try:
        return [line for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a readable text file ({first_line(error)}); save it as UTF-8") from error
