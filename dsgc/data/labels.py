"""Label pictures: masks whose numbers are the labels. What could hold other numbers than those that were drawn is refused."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from dsgc.data.images import ENDINGS, FORMATS, UNREADABLE, by_stem, check_upright
from dsgc.data.palette import voc_palette
from dsgc.errors import UserError, first_line

IGNORE = 255
FOLDERS = ("SegmentationClass", "SegmentationClassPNG", "SegmentationClassAug")  # VOC's, labelme's, that of the 10,582 images
KEEPING = ("PNG", "BMP")  # label numbers as they are given; who writes a GIF may number its colours anew
MODES = {
    "1": "1 bit a pixel, which holds no numbers",
    "LA": "grey with an alpha channel",
    "PA": "a palette with an alpha channel",
    "RGB": "colours, not labels",
    "RGBA": "colours, not labels",
    "I;16": "16 bits a pixel",
    "I": "more than 8 bits a pixel",
}
REMEDY = "save label numbers as a palette or grey PNG of 8 bits"


class Masks(NamedTuple):
    """The masks of a split, all from one folder."""

    folder: Path
    files: Mapping[str, list[str]]  # by id, those that are there
    elsewhere: str  # the other folders that have some of those that are not

    def path(self, image_id: str, ids: Sequence[str]) -> Path:
        """The mask of an image. `ids`: those of the split; a folder that lacks the mask of one of them serves none.

        Raises:
            UserError: one is missing, or this one is there twice.
        """
        if image_id not in self.files or len(self.files) < len(ids):
            lacking = [name for name in ids if name not in self.files] or [image_id]
            more = f", as are {len(lacking) - 1} more of this split" if len(lacking) > 1 else ""
            other = by_stem(self.folder, ENDINGS).get(lacking[0], [])
            hint = self.elsewhere or "evaluation needs the mask of every image of its split"
            if other:
                hint = f"{other[0]} is there, but a mask must be a PNG, whose label numbers are kept as they were drawn"
            raise UserError(f"{self.folder / lacking[0]}.png: missing{more}; {hint}")
        if len(self.files[image_id]) > 1:
            one, other = sorted(self.files[image_id])[:2]
            raise UserError(f"{self.folder / one}: {other} beside it is a mask of the same image; remove one")
        return self.folder / self.files[image_id][0]

    def label(self, image_id: str, ids: Sequence[str], picture: Path, size: Sequence[int], classes: int) -> Image.Image:
        """The mask of an image, labels 0..classes and 255; `picture` is the image's file, `size` its (width, height).

        Raises:
            UserError: as `path` and `read_labels` do, or it is not of the image's size.
        """
        path = self.path(image_id, ids)
        mask = read_labels(path, classes)
        check_upright(picture, mask.size, path)
        if mask.size != tuple(size):
            raise UserError(f"{path}: mask is {mask.size[0]} x {mask.size[1]}, its image {size[0]} x {size[1]}; they must agree")
        return mask


def find_masks(root: Path, ids: Sequence[str]) -> Masks:
    """The masks of a split: of the first of `FOLDERS` that has one for each of its images, never of two."""
    found = {name: by_stem(root / name, (".png",)) for name in FOLDERS}
    having = {name: {image_id: files[image_id] for image_id in ids if image_id in files} for name, files in found.items()}
    chosen = next((name for name in FOLDERS if len(having[name]) == len(ids)), None)
    chosen = chosen or next((name for name in FOLDERS if having[name]), FOLDERS[0])
    others = [name for name in FOLDERS if {*having[name]} - {*having[chosen]}]
    elsewhere = f"{' and '.join(others)} has some of them, but masks of two folders are not mixed; complete one folder" if others else ""
    return Masks(root / chosen, having[chosen], elsewhere)


def read_labels(path: Path, classes: int) -> Image.Image:
    """A mask, labels 0..classes and 255, (H, W) in one channel.

    Raises:
        UserError: not a readable picture, of a format or mode whose numbers need not be those drawn, or with a label of no class.
    """
    try:
        with Image.open(path, formats=FORMATS) as mask:
            kind, depth = mask.format, str(mask.tile[0][3] if mask.tile else "")
            mask.load()
    except UNREADABLE as error:
        raise UserError(f"{path}: not a readable mask ({first_line(error)}); replace the file") from error
    if kind not in KEEPING:
        raise UserError(f"{path}: is a {kind}, in which label numbers need not be those that were drawn; {REMEDY}")
    if mask.mode not in ("P", "L"):
        reason = f"{mask.mode}: {MODES[mask.mode]}" if mask.mode in MODES else mask.mode
        raise UserError(f"{path}: a mask must hold labels (palette or grey PNG), this one is {reason}; {REMEDY}")
    if depth in ("L;2", "L;4"):  # programs stretch such a grey to 0..255, and label 15 of 4 bits would become 255
        raise UserError(f"{path}: is grey of {depth[2:]} bits, whose numbers are stretched to shades of 0 to 255; {REMEDY}")
    labels = np.asarray(mask)
    there = np.flatnonzero(np.bincount(labels.ravel(), minlength=256))
    worst = max((int(label) for label in there if label != IGNORE), default=0)
    if worst > classes:
        raise UserError(f"{path}: label {worst}, but there are {classes} classes; allowed are 0..{classes} and {IGNORE}")
    if mask.mode == "P":
        _check_palette(path, mask, there, classes)
    return mask


def _check_palette(path: Path, mask: Image.Image, there: np.ndarray, classes: int) -> None:
    """Refuse a mask that gives a label the colour that VOC gives to another one, if its palette has the colours that it shows
    and no others: a program that was given colours has numbered them in its own way."""
    palette = [tuple(colour) for colour in np.array(mask.getpalette("RGB")).reshape(-1, 3).tolist()]
    shown = {label: palette[label] for label in there.tolist() if label < len(palette)}
    if len({*shown.values()}) < max(2, len(there)) or any(any(colour) for label, colour in enumerate(palette) if label not in shown):
        return  # a palette of its own, made for the labels; or one that says nothing
    label_of = {tuple(voc_palette()[label].tolist()): label for label in (*range(classes + 1), IGNORE)}
    for label, colour in shown.items():
        if label_of.get(colour, label) != label:
            raise UserError(
                f"{path}: label {label} has VOC's colour of label {label_of[colour]}, a program has numbered its colours anew; {REMEDY}"
            )
