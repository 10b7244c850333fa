"""A contact sheet: some pictures of each class, with their tags, to see at a glance whether the tags are right."""

import contextlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dsgc.data.check import Part
from dsgc.errors import UserError

EACH = 6  # pictures of a class
SIDE, GAP, LINE = 132, 10, 16  # pixels
MANY = 40  # classes on a sheet
FONTS = (  # beside Pillow's own, which has little more than English: files that systems have, in places where Pillow looks
    "DejaVuSans.ttf", "NotoSans-Regular.ttf", "Arial.ttf", "arial.ttf", "NotoSansCJK-Regular.ttc", "wqy-microhei.ttc", "msyh.ttc",
    "msgothic.ttc", "PingFang.ttc", "Hiragino Sans GB.ttc", "Arial Unicode.ttf",
)  # fmt: skip
NO_LETTER = "\U0010ffff"  # what a font draws for this it draws for all that it lacks


def refuse_file(path: Path) -> None:
    """Raise `UserError` unless a sheet can be written to the file."""
    if path.suffix.lower() not in (".png", ".jpg", ".webp") or path.is_dir() or not path.parent.is_dir():
        raise UserError(f"{path}: cannot hold the sheet; name a file that ends in .png, in a folder that exists")


def write(path: Path, parts: Sequence[Part]) -> None:
    """Draw the sheet, a row for each class, and write it whole or not at all. Raises `UserError` if it cannot be written."""
    classes = parts[0].split.classes[:MANY]
    font = font_of({*"".join(classes), *(letter for part in parts for image_id in part.split.ids for letter in image_id)})
    row = SIDE + 2 * LINE + GAP
    sheet = Image.new("RGB", (GAP + EACH * (SIDE + GAP), GAP + len(classes) * (row + LINE)), "white")
    draw = ImageDraw.Draw(sheet)
    for number, name in enumerate(classes):
        top = GAP + number * (row + LINE)
        shown = _of_class(parts, number)
        count = sum(int(part.tags[:, number].sum()) for part in parts)
        draw.text((GAP, top), _fitting(f"{name}: {count} picture{'s' * (count != 1)}", 5 * SIDE, font), "black", font)
        for place, (part, index) in enumerate(shown):
            image_id = part.split.ids[index]
            image = part.split.image(image_id)
            image.thumbnail((SIDE, SIDE))
            left = GAP + place * (SIDE + GAP)
            sheet.paste(image, (left, top + LINE))
            tags = ", ".join(np.array(part.split.classes)[part.tags[index] > 0])
            for line, (text, colour) in enumerate(((tags, "black"), (image_id, "#666666"))):
                below = top + LINE + image.height + line * (LINE - 2)
                draw.text((left, below), _fitting(text, SIDE, font), colour, font)
    partial = path.with_name(f".{path.stem}.partial{path.suffix}")
    try:
        sheet.save(partial)
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise UserError(f"{path}: cannot be written ({error.strerror}); name another file with --sheet") from error


def font_of(letters: set[str]) -> ImageFont.FreeTypeFont:
    """The first font that can be found and has all these letters, else the one that lacks the fewest."""
    fonts = [ImageFont.load_default(12)]
    for name in FONTS:
        with contextlib.suppress(OSError):
            fonts.append(ImageFont.truetype(name, 12))

    def lacking(font: ImageFont.FreeTypeFont) -> int:
        empty = bytes(font.getmask(NO_LETTER))
        return sum(bytes(font.getmask(letter)) == empty for letter in letters if letter.isprintable() and not letter.isspace())

    return min(fonts, key=lacking)


def _of_class(parts: Sequence[Part], number: int) -> list[tuple[Part, int]]:
    """Some pictures of a class that can be read, from all over both splits."""
    having = [
        (part, int(index)) for part in parts for index in np.flatnonzero(part.tags[:, number]) if part.split.ids[index] in part.sizes
    ]
    return [having[place * len(having) // EACH] for place in range(EACH)] if len(having) > EACH else having


def _fitting(text: str, width: int, font: ImageFont.ImageFont) -> str:
    """As much of a text as has room."""
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}...") > width:
        text = text[:-1]
    return f"{text}..."
