"""The VOC loader: which ids train, which classes there are, tags from the XML alone, pictures of every kind in RGB."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dsgc.data import classes, scenes, shapes, voc
from dsgc.data.lists import training_ids
from dsgc.data.loading import Crops
from dsgc.errors import UserError

LISTS = "ImageSets/Segmentation"


def put_list(root, path, ids):
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text("".join(f"{image_id}\n" for image_id in ids))


def put_annotation(root, image_id, *names):
    (root / "Annotations").mkdir(parents=True, exist_ok=True)
    objects = "".join(f"<object><name>{name}</name><difficult>1</difficult></object>" for name in names)
    (root / "Annotations" / f"{image_id}.xml").write_text(f"<annotation>{objects}</annotation>")


@pytest.fixture
def one_image(tmp_path):
    """`one_image(picture, **save options)`: a data set whose only image is the picture."""

    def write(picture, **options):
        (tmp_path / "JPEGImages").mkdir()
        picture.save(tmp_path / "JPEGImages/a.jpg", **options)
        put_annotation(tmp_path, "a", "cat")
        put_list(tmp_path, f"{LISTS}/train.txt", ["a"])
        return voc.open_split(tmp_path, "train")

    return write


def crops(folder):
    return Crops(folder, size=32, scale=(0.5, 1), ratio=(1, 1), flip=True, seed=0)


def test_the_loader_reads_what_shapes_writes(shapes_folder):
    folder = voc.open_split(shapes_folder, "val")
    assert folder.classes == tuple(kind.name for kind in shapes.KINDS)
    assert folder.ids == tuple(f"val_{i:05d}" for i in range(4))
    for image_id in folder.ids:
        image = folder.image(image_id)
        labels = np.asarray(folder.mask(image_id, image.size))
        visible = {int(label) - 1 for label in np.unique(labels) if label not in (0, 255)}
        assert set(np.flatnonzero(voc.read_tags(folder, image_id))) == visible


def test_training_data_loads_without_any_mask(shapes_copy):
    before = crops(voc.open_split(shapes_copy, "train"))[0, 0]
    shutil.rmtree(shapes_copy / "SegmentationClass")
    after = crops(voc.open_split(shapes_copy, "train"))[0, 0]
    assert after.masks is None
    assert after.tags.equal(before.tags) and after.images.equal(before.images)


def test_tags_follow_the_annotation_even_where_the_mask_says_otherwise(shapes_copy):
    put_annotation(shapes_copy, "train_00000", "moon", "moon", "brick")
    tags = voc.open_split(shapes_copy, "train").tags()
    assert tags.dtype == np.float32 and tags.shape == (12, 6)
    assert tags[0].tolist() == [0, 1, 0, 0, 0, 1]


def test_an_annotation_without_objects_gives_no_tags(shapes_copy):
    put_annotation(shapes_copy, "train_00000")
    assert not voc.read_tags(voc.open_split(shapes_copy, "train"), "train_00000").any()


def test_parts_of_an_object_are_no_tags(shapes_copy):
    part = "<object><name>moon</name><part><name>head</name></part></object>"
    (shapes_copy / "Annotations/train_00000.xml").write_text(f"<annotation>{part}</annotation>")
    assert voc.read_tags(voc.open_split(shapes_copy, "train"), "train_00000").sum() == 1


RULES = {
    "train_aug": (
        {f"{LISTS}/train_aug.txt": "abx", f"{LISTS}/sbd_train.txt": "c", "ImageSets/Main/trainval.txt": "ad"},
        "abx",
    ),
    "trainaug": (
        {f"{LISTS}/trainaug.txt": "abx", f"{LISTS}/sbd_train.txt": "c", "ImageSets/Main/trainval.txt": "ad"},
        "abx",
    ),
    "sbd": (
        {f"{LISTS}/sbd_train.txt": "bcx", f"{LISTS}/sbd_val.txt": "dy", "ImageSets/Main/trainval.txt": "e"},
        "abcd",
    ),
    "main": ({"ImageSets/Main/trainval.txt": "abcxy"}, "abc"),
    "train": ({}, "a"),
}


@pytest.mark.parametrize("rule", RULES)
def test_training_ids_are_those_of_the_largest_list_without_validation_ids(tmp_path, rule):
    lists, expected = RULES[rule]
    for path, ids in ({f"{LISTS}/train.txt": "a", f"{LISTS}/val.txt": "xy"} | lists).items():
        put_list(tmp_path, path, ids)
    ids, origin = training_ids(tmp_path)
    assert ids == list(expected)
    assert {"sbd": "sbd_train", "main": "trainval"}.get(rule, rule) in origin, "it must say where the ids come from"


def test_validation_ids_are_taken_off_the_training_list(tmp_path):
    put_list(tmp_path, f"{LISTS}/train.txt", "abx")
    put_list(tmp_path, f"{LISTS}/val.txt", "xy")
    assert training_ids(tmp_path)[0] == ["a", "b"]


def test_any_list_can_be_a_split(shapes_copy):
    put_list(shapes_copy, f"{LISTS}/mine.txt", ["val_00001", "train_00003"])
    folder = voc.open_split(shapes_copy, "mine")
    assert folder.ids == ("val_00001", "train_00003")
    assert folder.origin.endswith("mine.txt")


def test_a_byte_order_mark_is_no_part_of_an_id(shapes_copy):
    (shapes_copy / LISTS / "mine.txt").write_bytes(b"\xef\xbb\xbfval_00001\r\n")
    assert voc.open_split(shapes_copy, "mine").ids == ("val_00001",)


def test_masks_come_from_vocs_folder_or_the_first_other_that_has_all_and_never_from_two(shapes_copy):
    size, own, other = (scenes.SIDE, scenes.SIDE), shapes_copy / "SegmentationClass", shapes_copy / "SegmentationClassAug"
    other.mkdir()

    def label():
        folder = voc.open_split(shapes_copy, "val")
        return int(np.asarray(folder.mask("val_00000", size)).max()), Path(folder.truth).name

    for number in range(4):
        Image.new("L", size, 5).save(own / f"val_0000{number}.png")
        Image.new("L", size, 3).save(other / f"val_0000{number}.png")
    assert label() == (5, "SegmentationClass")
    (own / "val_00003.png").unlink()
    assert label() == (3, "SegmentationClassAug")
    (other / "val_00002.png").unlink()
    with pytest.raises(UserError, match=r"SegmentationClass/val_00003\.png: missing; SegmentationClassAug has some.*not mixed"):
        label()


def test_classes_are_vocs_twenty_where_no_list_says_otherwise(tmp_path):
    assert classes.read_classes(tmp_path).names == classes.VOC
    assert len(classes.VOC) == 20 and classes.VOC == tuple(sorted(classes.VOC))
    (tmp_path / "classes.txt").write_text("cat\n\n dog \n")
    assert classes.read_classes(tmp_path).names == ("cat", "dog")


@pytest.mark.parametrize("text", ["", "cat\ncat\n", "\n".join(map(str, range(255)))], ids=["none", "twice", "255"])
def test_class_lists_that_cannot_be_are_refused(tmp_path, text):
    (tmp_path / "classes.txt").write_text(text)
    with pytest.raises(UserError, match="classes.txt"):
        classes.read_classes(tmp_path)


@pytest.mark.parametrize("mode", ["L", "CMYK", "RGB"])
def test_every_jpeg_becomes_rgb(one_image, mode):
    image = one_image(Image.new("RGB", (20, 10), (200, 100, 50)).convert(mode), quality=95).image("a")
    assert (image.mode, image.size) == ("RGB", (20, 10))
    red, green, blue = image.getpixel((10, 5))
    assert red == green == blue if mode == "L" else red > green + 30 > blue + 60


@pytest.mark.parametrize(
    ("orientation", "corner"), [(1, (2, 2)), (3, (37, 17)), (6, (17, 2)), (8, (2, 37)), (2, (37, 2))]
)
def test_images_are_turned_as_exif_says(one_image, orientation, corner):
    picture, exif = Image.new("L", (40, 20)), Image.Exif()
    picture.paste(255, (0, 0, 8, 8))  # a white mark, upper left as stored
    exif[0x0112] = orientation
    image = one_image(picture, exif=exif, quality=95).image("a")
    assert image.size == ((20, 40) if orientation > 4 else (40, 20))
    assert image.getpixel(corner)[0] > 200
    assert np.asarray(image).mean() < 60


def test_the_error_names_a_data_set_one_or_two_folders_down(tmp_path):
    (tmp_path / "VOCdevkit/VOC2012/JPEGImages").mkdir(parents=True)
    with pytest.raises(UserError, match="did you mean .*VOCdevkit/VOC2012"):
        voc.open_split(tmp_path, "train")
