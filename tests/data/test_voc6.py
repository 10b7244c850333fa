"""The six classes of VOC: lists that come with the package, and the same labels from VOC's own folder and from a small copy of it."""

import re
import shutil

import numpy as np
import pytest
from PIL import Image

from dsgc.data import classes, voc6
from dsgc.data.palette import voc_palette
from dsgc.data.split import named, open_images, open_split
from dsgc.errors import UserError

IDS = ("2007_000392", "2008_000001", "2010_000002")
OBJECTS = {IDS[0]: ("cat", "chair"), IDS[1]: ("person", "horse"), IDS[2]: ("sheep",)}
SIZES = {IDS[0]: (500, 332), IDS[1]: (375, 500), IDS[2]: (300, 200)}


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(voc6, "listed", lambda _: list(IDS))


@pytest.fixture
def devkit(tmp_path, few):
    """A folder like VOC's own: 20 classes, pictures of up to 500 pixels, an object of another class in the first."""
    root = tmp_path / "VOC2012"
    for name in ("JPEGImages", "Annotations", "SegmentationClass", "ImageSets/Segmentation"):
        (root / name).mkdir(parents=True)
    for number, (image_id, (width, height)) in enumerate(SIZES.items()):
        Image.effect_noise((width, height), 60 + number).convert("RGB").save(root / f"JPEGImages/{image_id}.jpg")
        items = "".join(f"<object><name>{name}</name></object>" for name in OBJECTS[image_id])
        (root / f"Annotations/{image_id}.xml").write_text(f"<annotation>{items}</annotation>")
        labels = np.zeros((height, width), np.uint8)
        for place, name in enumerate(OBJECTS[image_id]):
            labels[20:120, 100 * place : 100 * place + 80] = classes.VOC.index(name) + 1
        labels[20:26] = 255
        mask = Image.fromarray(labels)
        mask.putpalette(voc_palette().ravel().tolist())
        mask.save(root / f"SegmentationClass/{image_id}.png")
    return root


def labels_of(split, image_id):
    return np.asarray(split.mask(image_id, split.image(image_id).size))


def test_the_lists_hold_1500_ids_none_of_them_twice():
    lists = {split: voc6.listed(split) for split in voc6.SPLITS}
    assert {split: len(ids) for split, ids in lists.items()} == {"voc6_train": 1013, "voc6_dev": 187, "voc6_val": 300}
    every = [image_id for ids in lists.values() for image_id in ids]
    assert len(set(every)) == 1500 and all(re.fullmatch(r"20(07|08|09|10|11|12)_\d{6}", image_id) for image_id in every)


def test_tags_are_of_the_six_classes_and_others_have_none(devkit):
    split = open_split(devkit, "voc6_val")
    found = [{split.classes[i] for i in np.flatnonzero(row)} for row in split.tags()]
    assert split.classes == voc6.CLASSES and split.tags().shape == (3, 6)
    assert found == [{"cat"}, {"horse", "person"}, {"sheep"}]


def test_labels_are_numbered_anew_and_other_classes_are_255(devkit):
    split = open_split(devkit, "voc6_val")
    cat, both, sheep = (labels_of(split, image_id) for image_id in IDS)
    assert {*np.unique(cat)} == {0, 1, 255} and {*np.unique(both)} == {0, 4, 5, 255} and {*np.unique(sheep)} == {0, 6, 255}
    assert cat[60, 20] == 1 and cat[60, 90] == 255, "the chair beside the cat"


def test_the_longer_side_is_at_most_320_and_smaller_pictures_stay(devkit):
    split = open_split(devkit, "voc6_val")
    assert [split.image(image_id).size for image_id in IDS] == [(320, 212), (240, 320), (300, 200)]
    assert all(labels_of(split, image_id).shape == split.image(image_id).size[::-1] for image_id in IDS)


def test_a_copy_made_small_with_six_classes_gives_the_same(devkit, tmp_path):
    split, copy = open_split(devkit, "voc6_val"), tmp_path / "copy"
    shutil.copytree(devkit, copy)
    (copy / "classes.txt").write_text("\n".join(voc6.CLASSES))
    for image_id in IDS:
        small = split.image(image_id)
        Image.fromarray(labels_of(split, image_id)).save(copy / f"SegmentationClass/{image_id}.png")
        (copy / f"JPEGImages/{image_id}.jpg").unlink()
        small.save(copy / f"JPEGImages/{image_id}.png")
    (copy / f"Annotations/{IDS[0]}.xml").write_text("<annotation><object><name>cat</name></object></annotation>")
    again = open_split(copy, "voc6_val")
    assert np.array_equal(again.tags(), split.tags()) and again.classes == split.classes
    for image_id in IDS:
        assert np.array_equal(labels_of(again, image_id), labels_of(split, image_id))
        assert np.array_equal(again.image(image_id), split.image(image_id))


def test_a_score_is_of_the_list_by_its_name_and_of_no_place_on_a_disk(devkit):
    assert named(open_split(devkit, "voc6_dev")) == {"list": "the list voc6_dev", "masks": "SegmentationClass"}


def test_pictures_to_segment_are_the_same(devkit):
    pictures = open_images(devkit, "voc6_val")
    assert pictures._replace(ids=IDS[1:]).ids == IDS[1:] and pictures.image(IDS[1]).size == (240, 320)


def test_what_is_missing_is_refused_in_one_line(devkit):
    (devkit / f"JPEGImages/{IDS[1]}.jpg").unlink()
    with pytest.raises(UserError, match=f"{IDS[1]}.jpg: missing, though the list voc6_val lists {IDS[1]}"):
        open_split(devkit, "voc6_val")
    with pytest.raises(UserError, match="no data set in the VOC layout"):
        open_split(devkit / "nowhere", "voc6_val")


def test_classes_without_one_of_the_six_are_refused(devkit):
    (devkit / "classes.txt").write_text("cat\ncow\n")
    with pytest.raises(UserError, match="classes.txt: has no class dog, one of the six of voc6"):
        open_split(devkit, "voc6_val")
