"""Odd input that is no mistake: pictures of any size and mode, turned ones, masks that say nothing, lists from any editor."""

import json
import struct
import zlib

import numpy as np
import pytest
import torch
from apart import log_of
from PIL import Image
from promises import promise
from refusal import tree
from spoilt import LISTS, ORIENTATION, every, grey, picture

from dsgc.__main__ import main
from dsgc.data.images import read_rgb
from dsgc.data.loading import Crops, EvalImages
from dsgc.data.split import open_split
from dsgc.errors import UserError
from dsgc.methods import find
from dsgc.scoring.evaluate import views

pytestmark = promise(
    "Bad input",
    "What is odd but no mistake works: pictures of any kind and size, masks without a label, lists of any editor.",
)

RED, GREEN = (200, 40, 20), (20, 200, 40)


def half(size=(40, 20), mode="RGB"):
    """A picture whose left half is red and whose right half is green."""
    image = Image.new("RGB", size, GREEN)
    image.paste(RED, (0, 0, size[0] // 2, size[1]))
    return image.convert(mode)


def of_16_bits(path):
    """A colour PNG of 16 bits a channel, whose lower 8 bits are noise."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    row = b"\0" + b"".join(bytes([value, 99]) for colour in [RED] * 20 + [GREEN] * 20 for value in colour)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 40, 20, 16, 2, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(row * 20)) + chunk(b"IEND", b""))


def with_alpha(path):
    """Its left half is wholly transparent."""
    image = half(mode="RGBA")
    image.paste((*RED, 0), (0, 0, 20, 20))
    image.save(path, format="PNG")


PICTURES = {  # all are named .jpg
    "PNG": lambda path: half().save(path, format="PNG"),
    "PNG of 16 bits a channel: the upper 8 count": of_16_bits,
    "alpha: the colour that lies under it counts": with_alpha,
    "palette with a transparent colour": lambda path: half().quantize(4).save(path, format="PNG", transparency=0),
    "CMYK": lambda path: half(mode="CMYK").save(path, quality=100),
    "two pictures in a JPEG: the first counts": lambda path: half().save(
        path, format="MPO", save_all=True, append_images=[Image.new("RGB", (40, 20), "blue")], quality=100, subsampling=0
    ),
    "WebP": lambda path: half().save(path, format="WEBP", lossless=True),
    "GIF": lambda path: half().save(path, format="GIF"),
    "BMP": lambda path: half().save(path, format="BMP"),
    "an EXIF orientation that there is not": lambda path: half().save(path, exif=exif(9), quality=100, subsampling=0),
}


def exif(orientation):
    found = Image.Exif()
    found[ORIENTATION] = orientation
    return found


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_of_any_kind_is_read_in_the_colours_that_it_shows(name, tmp_path):
    PICTURES[name](tmp_path / "a.jpg")
    read = read_rgb(tmp_path / "a.jpg")
    assert read.mode == "RGB" and read.size == (40, 20)
    for x, colour in ((5, RED), (35, GREEN)):
        assert np.abs(np.array(read.getpixel((x, 10))) - colour).max() <= 32, "CMYK comes near it"


def test_such_pictures_train_by_the_command_as_well(shapes_copy, tmp_path, arguments):
    images = sorted((shapes_copy / "JPEGImages").glob("train_*.jpg"))
    for path, name in zip(images, PICTURES, strict=False):
        PICTURES[name](path)
    half((1, 1)).save(images[-1])
    half((700, 10)).save(images[-2])
    assert len(images) >= len(PICTURES) + 2
    assert main(arguments(data=str(shapes_copy), out=str(tmp_path / "run"), batch_size=12, steps=2)) == 0
    lines = log_of(tmp_path / "run")
    assert all(np.isfinite(value) for line in lines for value in line.get("losses", {}).values())


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (30_000, 10), (10, 30_000)], ids=str)
def test_a_picture_of_any_size_is_cropped_and_evaluated(size, shapes_copy, pair, fixed):
    for path in sorted(shapes_copy.glob("*/train_00000.*")):
        if path.suffix != ".xml":
            picture(lambda image: image.resize(size, Image.Resampling.NEAREST))(path)
    folder = open_split(shapes_copy, "train")
    for draw in range(3):
        crop = Crops(folder, size=32, scale=(0.3, 1), ratio=(0.75, 1.3), flip=True, seed=0, masks=True)[0, draw]
        assert crop.images.shape == (3, 32, 32) and crop.masks.shape == (32, 32)
    item = EvalImages(folder)[0]
    assert item.mask.shape == item.image.shape[1:] == size[::-1]
    if size != (10, 30_000):  # which shows nothing new: attention over thousands of tokens takes seconds
        view = views(pair[0].eval(), item.image[None].float() / 255, item.tags[None], fixed())
        assert tuple(view.scored) == fixed().method.scores and view.drawn
        assert {map.shape for map in (*view.scored.values(), *view.drawn.values())} == {(1, *size[::-1])}
        assert all(torch.isfinite(map.float()).all() for map in (*view.scored.values(), *view.drawn.values()))


# EXIF: the picture is turned as it says; the mask has to be drawn on the turned one, or it cannot be told


@pytest.fixture
def turned(shapes_copy):
    """`turned(orientation, size of the picture as stored, size of the mask)`: the first image of val."""

    def write(orientation, stored, mask):
        half(stored).save(shapes_copy / "JPEGImages/val_00000.jpg", exif=exif(orientation), quality=100, subsampling=0)
        Image.fromarray(np.zeros(mask[::-1], np.uint8)).save(shapes_copy / "SegmentationClass/val_00000.png")
        return EvalImages(open_split(shapes_copy, "val"))

    return write


def test_a_quarter_turn_with_a_mask_on_the_turned_picture_agrees(turned):
    item = turned(6, (40, 20), (20, 40))[0]
    assert item.image.shape[1:] == item.mask.shape == (40, 20)
    assert item.image[0, :15].min() > 150 and item.image[0, 25:].max() < 60, "red on top"


@pytest.mark.parametrize(("orientation", "stored"), [(2, (40, 20)), (3, (40, 20)), (4, (40, 20)), (6, (40, 40)), (8, (40, 40))])
def test_a_turn_that_leaves_the_size_is_refused_where_a_mask_belongs_to_it_and_only_there(orientation, stored, turned):
    dataset = turned(orientation, stored, stored)
    assert dataset.folder.image("val_00000").size == stored, "without a mask it is turned and used"
    with pytest.raises(UserError, match=rf"val_00000\.jpg: EXIF turns it \(orientation {orientation}\).*mask.*; store"):
        dataset[0]


def test_orientation_1_is_no_turn(turned):
    assert turned(1, (40, 20), (40, 20))[0].image[0, :, :15].min() > 150


# masks, annotations, lists


@pytest.mark.parametrize("method", ["dsgc", "base", "masks"])
def test_masks_that_are_all_255_score_nothing_and_break_nothing(method, shapes_copy, tmp_path, arguments):
    every("SegmentationClass/*.png", grey(255))(shapes_copy)
    assert main(arguments(method, data=str(shapes_copy), out=str(tmp_path / "run"), steps=2)) == 0
    scores = json.loads((tmp_path / "run/metrics.json").read_text())
    (network, *_) = find(method)().networks
    assert scores["images"] == 4 and scores[network]["seg"]["miou"] is None
    assert set(scores[network]["seg"]["per_class"].values()) == {None}


def test_one_mask_that_is_all_255_changes_no_score_but_its_own(shapes_copy, tmp_path, arguments):
    every("SegmentationClass/val_00003.png", grey(255))(shapes_copy)
    assert main(arguments(data=str(shapes_copy), out=str(tmp_path / "all"), steps=2)) == 0
    (shapes_copy / LISTS / "val.txt").write_text("val_00000\nval_00001\nval_00002\n")
    assert main(arguments(data=str(shapes_copy), out=str(tmp_path / "three"), steps=2)) == 0
    with_it, without = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("all", "three"))
    assert (with_it.pop("images"), without.pop("images")) == (4, 3) and with_it == without


EDITORS = {
    "Windows line ends": "\r\n".join,
    "blank lines": lambda ids: "\n\n".join(["", *ids, "  ", "\t"]),
    "an id named again": lambda ids: "\n".join([*ids, *ids[:3]]),
    "a byte order mark": lambda ids: "\ufeff" + "\n".join(ids),
    "blanks around": lambda ids: "\n".join(f"  {image_id}\t" for image_id in ids),
    "a number behind each, as in VOC's lists by class": lambda ids: "\n".join(f"{image_id}  1" for image_id in ids),
    "no line end at the end": "\n".join,
}


@pytest.mark.parametrize("name", EDITORS)
def test_a_list_from_any_editor_names_the_same_images(name, shapes_copy, tmp_path, arguments):
    expected = open_split(shapes_copy, "train").ids
    (shapes_copy / LISTS / "train.txt").write_bytes(EDITORS[name](expected).encode())
    assert open_split(shapes_copy, "train").ids == expected
    if name == "Windows line ends":
        assert main(arguments(data=str(shapes_copy), out=str(tmp_path / "run"), steps=1, warmup_steps=0)) == 0
        assert "run/metrics.json" in tree(tmp_path)


def test_images_whose_annotations_name_no_object_train_without_tags(shapes_copy, tmp_path, arguments):
    every("Annotations/train_0000*", lambda path: path.write_text("<annotation/>"))(shapes_copy)
    assert open_split(shapes_copy, "train").tags().any(1).tolist() == [False] * 10 + [True] * 2
    assert main(arguments(data=str(shapes_copy), out=str(tmp_path / "run"))) == 0
