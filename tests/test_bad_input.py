"""Bad input: exit code 2, one line that names the file or field and the remedy, and nothing left behind."""

import os

import numpy as np
import pytest
import torch
from PIL import Image
from refusal import refused, tree

from dsgc.network import create_encoder

LISTS = "ImageSets/Segmentation"


def every(pattern, change):
    """A damage: `change` each file of that name."""

    def damage(root):
        paths = sorted(root.glob(pattern))
        assert paths
        for path in paths:
            change(path)

    return damage


def write(path, content):
    return lambda root: (root / path).write_bytes(content)


def annotation(text):
    return write("Annotations/train_00003.xml", text.encode())


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def picture(change):
    """A damage: save what `change` makes of the picture over it."""

    def save(path):
        with Image.open(path) as image:
            image.load()
        change(image).save(path)

    return save


def grey(label):
    return picture(lambda mask: Image.fromarray(np.full(mask.size[::-1], label, np.uint8)))


ALIEN = "<annotation><object><name>yeti</name></object></annotation>"
DAMAGES = {
    "no data folder": (lambda root: root.rename(root.with_name("gone")), ["shapes", "python -m dsgc data"]),
    "no image folder": (lambda root: (root / "JPEGImages").rename(root / "Pictures"), ["JPEGImages"]),
    "no training list": (lambda root: (root / LISTS / "train.txt").unlink(), ["train.txt", "dev, val"]),
    "no validation list": (lambda root: (root / LISTS / "val.txt").unlink(), ["val.txt", "dev, train"]),
    "empty training list": (write(f"{LISTS}/train.txt", b"\n"), ["train.txt", "no images"]),
    "empty validation list": (write(f"{LISTS}/val.txt", b""), ["val.txt", "no images"]),
    "list of another encoding": (write(f"{LISTS}/train.txt", b"tr\xe9\n"), ["train.txt", "UTF-8"]),
    "id with a folder": (write(f"{LISTS}/train.txt", b"../../secret\n"), ["train.txt", "../../secret"]),
    "id with a backslash": (write(f"{LISTS}/train.txt", b"..\\secret\n"), ["train.txt", "secret"]),
    "id without image": (write(f"{LISTS}/train.txt", b"nobody\n"), ["nobody.jpg", "train.txt"]),
    "id without annotation": (lambda root: (root / "Annotations/train_00003.xml").unlink(), ["train_00003.xml"]),
    "malformed annotation": (annotation("<annotation><object>"), ["train_00003.xml", "not a readable annotation"]),
    "empty annotation": (annotation(""), ["train_00003.xml", "not a readable annotation"]),
    "class not in the list": (annotation(ALIEN), ["train_00003.xml", "yeti", "classes.txt"]),
    "class twice": (write("classes.txt", b"moon\nmoon\n"), ["classes.txt", "different"]),
    "classes of another encoding": (write("classes.txt", b"\xff\xfe\x00"), ["classes.txt", "UTF-8"]),
    "unreadable image": (
        every("JPEGImages/train*", lambda path: path.write_text("no image")),
        ["train_", "not a readable image"],
    ),
    "zero-byte image": (
        every("JPEGImages/train*", lambda path: path.write_bytes(b"")),
        ["train_", "not a readable image"],
    ),
    "truncated image": (every("JPEGImages/train*", cut), ["train_", "truncated"]),
    "truncated validation image": (every("JPEGImages/val*", cut), ["val_", "truncated"]),
    "no mask": (every("SegmentationClass/val_00002*", os.unlink), ["SegmentationClass/val_00002.png", "missing"]),
    "mask of another size": (
        every("SegmentationClass/val_00002*", picture(lambda mask: mask.resize((50, 60)))),
        ["SegmentationClass/val_00002.png", "50 x 60", "128 x 128"],
    ),
    "RGB mask": (
        every("SegmentationClass/val*", picture(lambda mask: mask.convert("RGB"))),
        ["SegmentationClass/val_", "RGB"],
    ),
    "label out of range": (every("SegmentationClass/val*", grey(7)), ["SegmentationClass/val_", "label 7", "0..6"]),
    "truncated mask": (every("SegmentationClass/val*", cut), ["SegmentationClass/val_", "not a readable mask"]),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_data_ends_training_in_one_line_and_leaves_no_run(name, shapes_copy, tmp_path, arguments, capsys):
    damage, named = DAMAGES[name]
    damage(shapes_copy)
    before = tree(tmp_path)
    refused(arguments(data=str(shapes_copy), out=str(tmp_path / "run")), capsys, *named)
    assert tree(tmp_path) == before


def test_an_unreadable_image_is_one_line_from_a_loading_process_too(shapes_copy, tmp_path, arguments, capsys):
    every("JPEGImages/train*", cut)(shapes_copy)
    refused(arguments(data=str(shapes_copy), out=str(tmp_path / "run"), workers=1), capsys, "train_", "truncated")
    assert not (tmp_path / "run").exists()


def test_masks_that_supervise_are_checked_as_well(shapes_copy, tmp_path, arguments, capsys):
    every("SegmentationClass/train*", grey(9))(shapes_copy)
    changes = {"data": str(shapes_copy), "out": str(tmp_path / "run"), "supervision": "masks"}
    refused(arguments(**changes), capsys, "SegmentationClass/train_", "label 9")
    assert not (tmp_path / "run").exists()


OPTIONS = {
    "--roi-low 0.8": ["roi_low", "roi_high"],
    "--theta-high 0.1": ["theta_low", "theta_high"],
    "--label-low 0.9 --label-high 0.8": ["label_low", "label_high"],
    "--ptc-low 0.9": ["ptc_low", "ptc_high"],
    "--batch-size 0": ["batch_size 0"],
    "--batch-size 13": ["batch_size 13", "12 images", "train.txt"],
    "--accumulate 3": ["batch_size 4", "1 x 3"],
    "--accumulate 0": ["accumulate 0"],
    "--keep-checkpoints 0": ["keep_checkpoints 0"],
    "--warmup-steps 5": ["warmup_steps 5", "steps 4"],
    "--crop-size 36": ["crop_size 36", "8"],
    "--crop-size 4": ["crop_size 4", "8"],
    "--aux-block 6": ["aux_block 6", "1 to 5"],
    "--steps many": ["--steps", "many"],
    "--lr": ["--lr"],
    "--crop-scale 0.5": ["--crop-scale", "2"],
    "--device gpu": ["--device", "gpu", "auto"],
    "--random-flip perhaps": ["--random-flip", "perhaps"],
    "--colour blue": ["--colour"],
    "--lambda_5 1": ["5"],
    "--encoder nonsense": ["encoder", "nonsense"],
    "--encoder resnet18": ["encoder", "resnet18"],
    "--encoder vit_base_patch16_siglip_224": ["encoder", "class token"],
    "--weights /nowhere/at/all.pth": ["/nowhere/at/all.pth", "no such weights file"],
    "--train-split nowhere": ["nowhere.txt", "dev, train, val"],
    "--val-split nowhere": ["nowhere.txt", "dev, train, val"],
}


@pytest.mark.parametrize("options", OPTIONS)
def test_options_that_cannot_be_end_in_one_line_and_leave_no_run(options, tmp_path, arguments, capsys):
    refused([*arguments(out=str(tmp_path / "run")), *options.split()], capsys, *OPTIONS[options])
    assert not list(tmp_path.iterdir())


def another_shape(path):
    torch.save(create_encoder("dsgc_vit_nano_patch8", 32).state_dict() | {"norm.weight": torch.zeros(3)}, path)


def another_encoder(path):
    torch.save(create_encoder("deit_tiny_patch16_224", 32).state_dict(), path)


def truncated(path):
    torch.save(create_encoder("dsgc_vit_nano_patch8", 32).state_dict(), path)
    cut(path)


WEIGHTS = {
    "a tensor of another shape": (another_shape, ["norm.weight", "(3,)", "(128,)"]),
    "of another encoder": (another_encoder, ["shape"]),
    "truncated": (truncated, ["not a readable weights file"]),
    "of something else": (lambda path: torch.save({"a": torch.zeros(1)}, path), ["none of its 1 tensors"]),
    "a folder": (lambda path: path.mkdir(), ["no such weights file"]),
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_that_cannot_be_loaded_end_in_one_line_and_leave_no_run(name, tmp_path, arguments, capsys):
    make, named = WEIGHTS[name]
    make(tmp_path / "w.pth")
    before = tree(tmp_path)
    refused(arguments(out=str(tmp_path / "run"), weights=str(tmp_path / "w.pth")), capsys, "w.pth", *named)
    assert tree(tmp_path) == before


def test_an_existing_run_is_not_touched(tmp_path, arguments, capsys):
    (tmp_path / "run/checkpoints").mkdir(parents=True)
    (tmp_path / "run/metrics.json").write_text("precious")
    before = tree(tmp_path)
    refused(arguments(out=str(tmp_path / "run")), capsys, "run", "not an empty folder")
    assert tree(tmp_path) == before


def test_a_used_run_folder_is_refused_before_the_data_are_read(tmp_path, arguments, capsys):
    (tmp_path / "metrics.json").write_text("{}")
    refused(arguments(out=str(tmp_path), data=str(tmp_path / "no data")), capsys, "not an empty folder")


def test_a_folder_that_holds_a_run_names_the_command_that_goes_on_with_it(tmp_path, arguments, capsys):
    (tmp_path / "config.json").write_text("{}")
    before = tree(tmp_path)
    refused(arguments(out=str(tmp_path)), capsys, f"python -m dsgc resume {tmp_path}", "--out")
    assert tree(tmp_path) == before


@pytest.mark.parametrize("out", ["file", "file/run", "/proc/nowhere/run"])
def test_a_run_folder_that_cannot_be_made_ends_in_one_line(out, tmp_path, arguments, capsys):
    (tmp_path / "file").write_text("in the way")
    refused(arguments(out=str(tmp_path / out)), capsys, out, "--out")
    assert tree(tmp_path) == {"file": b"in the way"}
