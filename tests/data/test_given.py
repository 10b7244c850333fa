"""Pictures that a caller hands over: every usual kind is the same picture, every other one is refused in one line."""

import io

import numpy as np
import pytest
from PIL import Image
from promises import promise

from dsgc.data.given import as_rgb
from dsgc.data.images import ORIENTATION
from dsgc.errors import UserError, one_line

pytestmark = promise("Bad input", "From Python a picture is a path, one of Pillow's or an array of uint8; all else is refused in one line.")

RGB = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)


def pixels(picture):
    found = as_rgb(picture)
    assert found.mode == "RGB"
    return np.asarray(found)


def test_path_picture_and_array_are_one_picture(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "a.png")
    for given in (tmp_path / "a.png", str(tmp_path / "a.png"), Image.open(tmp_path / "a.png"), Image.fromarray(RGB), RGB):
        assert (pixels(given) == RGB).all()


def test_grey_is_grey_alpha_is_dropped_and_strides_do_not_matter():
    grey = RGB[:, :, 0]
    assert (pixels(grey) == grey[:, :, None]).all() and (pixels(grey[:, :, None]) == grey[:, :, None]).all()
    alpha = np.dstack([RGB, np.zeros((5, 7), np.uint8)])
    assert (pixels(alpha) == RGB).all() and (pixels(Image.fromarray(alpha)) == RGB).all()
    assert (pixels(RGB[::-1, ::2]) == RGB[::-1, ::2]).all() and (pixels(np.asfortranarray(RGB)) == RGB).all()


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGBA", "LA", "CMYK", "YCbCr"])
def test_a_picture_of_another_mode_is_what_a_file_of_it_is(mode, tmp_path):
    image = Image.fromarray(RGB).convert(mode)
    ending = "tif" if mode in ("CMYK", "YCbCr") else "png"
    image.save(tmp_path / f"a.{ending}")
    assert (pixels(image) == pixels(tmp_path / f"a.{ending}")).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_a_picture_as_it_turns_its_file_and_the_caller_s_stays(orientation, tmp_path):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    Image.fromarray(RGB).save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as image:
        assert (pixels(image) == pixels(tmp_path / "a.png")).all()
        assert image.size == (7, 5) and image.getexif()[ORIENTATION] == orientation


def test_an_array_is_not_changed_and_not_held():
    array = RGB.copy()
    found = as_rgb(array)
    array[:] = 0
    assert (np.asarray(found) == RGB).all()


def cut():
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(file, "PNG")
    return Image.open(io.BytesIO(file.getvalue()[:5000]))


REFUSED = {
    "channels first": (lambda: RGB.transpose(2, 0, 1), ["(3, 5, 7)", "transpose(1, 2, 0)"]),
    "a batch": (lambda: RGB[None], ["(1, 5, 7, 3)", "(H, W, 3)"]),
    "five channels": (lambda: np.zeros((4, 4, 5), np.uint8), ["(4, 4, 5)"]),
    "a line": (lambda: np.zeros(4, np.uint8), ["(4,)"]),
    "empty": (lambda: np.zeros((0, 4, 3), np.uint8), ["(0, 4, 3)"]),
    "floats to 1": (lambda: RGB / 255, ["float64", "* 255"]),
    "floats to 255": (lambda: RGB.astype(np.float32), ["float32 from 0 to 104", "round().astype(numpy.uint8)"]),
    "NaN": (lambda: np.full((4, 4, 3), np.nan), ["not finite"]),
    "negative": (lambda: RGB.astype(int) - 5, ["int64 from -5"]),
    "16 bits": (lambda: RGB.astype(np.uint16) * 256, ["uint16"]),
    "truth values": (lambda: RGB > 3, ["bool", "* 255"]),
    "objects": (lambda: np.array([[None]]), ["object"]),
    "texts": (lambda: np.array([["a"]]), ["<U1"]),
    "a list": (lambda: RGB.tolist(), ["type list", "give a path"]),
    "nothing": (lambda: None, ["type NoneType"]),
    "bytes": (lambda: b"\x89PNG", ["type bytes"]),
    "16 bits of Pillow's": (lambda: Image.new("I;16", (4, 4)), ["mode I;16", "more than 8 bits"]),
    "floats of Pillow's": (lambda: Image.new("F", (4, 4)), ["mode F", "more than 8 bits"]),
    "empty of Pillow's": (lambda: Image.new("RGB", (0, 4)), ["(0, 4)", "empty"]),
    "a file cut off": (cut, ["not readable"]),
    "no file": (lambda: "nowhere.png", ["nowhere.png: no such picture", "seen from /"]),
    "a folder": (lambda: "/", ["/"]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_picture_is_refused_in_one_line(name):
    make, said = REFUSED[name]
    with pytest.raises(UserError) as caught:
        as_rgb(make())
    line = str(caught.value)
    assert line == one_line(caught.value) and "\n" not in line and ";" in line
    assert all(word in line for word in said), line
