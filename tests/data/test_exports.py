"""COCO's layout as tools export it: what can be read in one way only is read, and is what the original says."""

import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image
from promises import promise
from spoilt import instances

from dsgc.__main__ import main
from dsgc.data.names import distinct_ids
from dsgc.data.split import open_images, open_split
from dsgc.errors import UserError
from dsgc.scoring.predict import TestTime, predict
from dsgc.training.loop import open_data

SUBJECT = "Bad input"
SPLITS = {"train": "train2014", "valid": "val2014"}


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def drawn(coco_folder, tmp_path):
    """A copy that a test may change."""
    return shutil.copytree(coco_folder, tmp_path / "coco")


def same(split, original):
    """Whether two splits have the same classes, pictures, tags and masks."""
    assert split.classes == original.classes and len(split.ids) == len(original.ids)
    np.testing.assert_array_equal(split.tags(), original.tags())
    for one, other in zip(split.ids, original.ids, strict=True):
        picture = original.image(other)
        np.testing.assert_array_equal(split.image(one), picture)
        np.testing.assert_array_equal(split.mask(one, picture.size), original.mask(other, picture.size))


# whole folders: where the JSON lies, where the pictures, and what stands before a file's name

FOLDERS = {
    "COCO, another year": ("annotations/instances_{}.json", "{}", ""),
    "Roboflow": ("{}/_annotations.coco.json", "{}", ""),
    "FiftyOne, a folder a split": ("{}/labels.json", "{}/data", ""),
    "labelme2coco, a folder a split": ("{}/annotations.json", "{}/JPEGImages", "JPEGImages/"),
    "CVAT": ("annotations/instances_{}.json", "images/{}", ""),
    "CVAT, pictures together": ("annotations/instances_{}.json", "images", ""),
    "Label Studio, with backslashes": ("annotations/{}.json", "images", "images\\"),
}


@promise(SUBJECT, "Data in COCO's layout are read as COCO, CVAT, Roboflow, FiftyOne and labelme2coco export them: same tags, same masks.")
@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_as_tools_export_it_is_the_original(name, coco_folder, tmp_path):
    file, folder, before = FOLDERS[name]
    for split, old in SPLITS.items():
        content = json.loads((coco_folder / f"annotations/instances_{old}.json").read_text())
        path, pictures = tmp_path / "set" / file.format(split), tmp_path / "set" / folder.format(split)
        for place in (path.parent, pictures):
            place.mkdir(parents=True, exist_ok=True)
        for image in content["images"]:
            shutil.copy(coco_folder / old / image["file_name"], pictures)
            image["file_name"] = before + image["file_name"]
        path.write_text(json.dumps(content | {"info": {"year": "2023"}}))
    for split, old in SPLITS.items():
        same(open_split(tmp_path / "set", split), open_split(coco_folder, old))
        assert len(open_images(tmp_path / "set", split).ids) == len(list((coco_folder / old).iterdir()))
    with pytest.raises(UserError, match=r"no such split; splits found there: train, valid"):
        open_split(tmp_path / "set", "val")


# fields


def rows(part, change):
    return instances(lambda content: [row.update(change(row)) for row in content[part]], "val2014")


def left_out(part, field):
    return instances(lambda content: [row.pop(field, None) for row in content[part]], "val2014")


def info(value):
    return instances(lambda content: content.update(info=value), "val2014")


def of_kind(kind):
    """All ids, and what names them, as another kind of value."""

    def change(content):
        for part, fields in (("images", ["id"]), ("categories", ["id"]), ("annotations", ["id", "image_id", "category_id"])):
            for row in content[part]:
                row.update({field: kind(row[field]) for field in fields})

    return instances(change, "val2014")


def over_all(name):
    """The category that Roboflow puts over the others, and never uses."""

    def change(content):
        for row in content["categories"]:
            row["supercategory"] = name
        content["categories"].insert(0, {"id": 0, "name": name, "supercategory": "none"})

    return instances(change, "val2014")


def encoded(encoding):
    def change(root):
        path = root / "annotations/instances_val2014.json"
        path.write_text(path.read_text(), encoding=encoding)

    return change


FIELDS = {
    "year 2023": info({"year": 2023}),
    "year null": info({"year": None}),
    "the year in words": info({"year": "2014"}),
    "no year": info({}),
    "info that is a text": info("exported by hand"),
    "no info": instances(lambda content: content.pop("info"), "val2014"),
    "no area": left_out("annotations", "area"),
    "area null": rows("annotations", lambda row: {"area": None}),
    "area 0": rows("annotations", lambda row: {"area": 0}),
    "area negative": rows("annotations", lambda row: {"area": -row["area"]}),
    "area of the box": rows("annotations", lambda row: {"area": 1e6 / (1 + row["area"])}),
    "iscrowd in words": rows("annotations", lambda row: {"iscrowd": str(row["iscrowd"])}),
    "iscrowd true and false": rows("annotations", lambda row: {"iscrowd": bool(row["iscrowd"])}),
    "no ids of instances": left_out("annotations", "id"),
    "ids 1.0": of_kind(float),
    "ids in words": of_kind(str),
    "width in words": rows("images", lambda row: {"width": str(row["width"])}),
    "width 128.0": rows("images", lambda row: {"width": float(row["width"])}),
    "a folder before the name": rows("images", lambda row: {"file_name": f"val2014/{row['file_name']}"}),
    "another folder before the name": rows("images", lambda row: {"file_name": f"images/{row['file_name']}"}),
    "a dot before the name": rows("images", lambda row: {"file_name": f"./{row['file_name']}"}),
    "a place on Windows": rows("images", lambda row: {"file_name": f"C:\\data\\{row['file_name']}"}),
    "coco_url alone": rows(
        "images", lambda row: {"coco_url": f"http://images.cocodataset.org/val2014/{row['file_name']}", "file_name": None}
    ),
    "the ending in capitals": rows("images", lambda row: {"file_name": row["file_name"].replace(".jpg", ".JPG")}),
    "a category over all": over_all("objects"),
    "a category over all, named as a class": over_all("star"),
    "background among the categories": instances(
        lambda content: content["categories"].insert(0, {"id": 0, "name": "_background_"}), "val2014"
    ),
    "a byte order mark": encoded("utf-8-sig"),
    "UTF-16": encoded("utf-16"),
}


@promise(SUBJECT, "What exporters leave out of an instances file or write in another way changes nothing, where it means one thing.")
@pytest.mark.parametrize("name", FIELDS)
def test_fields_as_exporters_write_them_mean_the_same(name, drawn, coco_folder):
    FIELDS[name](drawn)
    same(open_split(drawn, "val2014"), open_split(coco_folder, "val2014"))


def only(*shapes):
    """Make these the instances of the first image of validation."""

    def change(content):
        image = content["images"][0]["id"]
        content["annotations"] = [row for row in content["annotations"] if row["image_id"] != image] + [
            {"id": 10**6 + i, "image_id": image, "category_id": category, **fields} for i, (category, fields) in enumerate(shapes)
        ]

    return instances(change, "val2014")


def square(first, last):
    return {"segmentation": [[first, first, last, first, last, last, first, last]]}


@promise(SUBJECT, "What lies in front is told by counted pixels, so that no object vanishes where `area` is missing or wrong.")
@pytest.mark.parametrize("areas", [({}, {}), ({"area": None}, {"area": None}), ({"area": 9e4}, {"area": 1}), ({"area": 0}, {"area": -1})])
def test_a_small_object_listed_before_a_large_one_does_not_vanish(areas, drawn):
    only((1, square(30, 54) | areas[0]), (3, square(0, 128) | areas[1]))(drawn)
    split = open_split(drawn, "val2014")
    mask = np.asarray(split.mask(split.ids[0], (128, 128)))
    assert np.bincount(mask.ravel()).tolist() == [0, 24 * 24, 128 * 128 - 24 * 24]


@promise(SUBJECT, "An object of which only the box is known is not scored, neither as itself nor as background; its tag counts.")
def test_a_box_alone_is_not_scored_but_tags_its_image(drawn):
    only((1, {"segmentation": [], "bbox": [10, 20, 30, 40]}), (3, square(30, 54)))(drawn)
    split = open_split(drawn, "val2014")
    expected = np.zeros((128, 128), np.uint8)
    expected[20:60, 10:40], expected[30:54, 30:54] = 255, 2
    np.testing.assert_array_equal(split.mask(split.ids[0], (128, 128)), expected)
    assert split.tags()[0].tolist() == [1, 1, 0, 0, 0, 0]


@promise(SUBJECT, "A file that has boxes alone can be trained on, since its tags are true, as long as another split is scored.")
def test_boxes_alone_are_trained_on(drawn, tmp_path, arguments):
    instances(lambda content: [row.update(segmentation=[], bbox=[20, 20, 60, 60]) for row in content["annotations"]])(drawn)
    words = {"data": str(drawn), "out": str(tmp_path / "run"), "train_split": "train2014", "val_split": "val2014"}
    assert main(arguments(**words, steps=1, warmup_steps=0, pictures=0)) == 0


# names

NAMES = {
    "two endings": (("a.jpg", "a.png"), ("a.jpg", "a.png")),
    "three names from one": (("a.jpg", "a.png", "a.jpg.png"), ("a.jpg", "a.png", "a.jpg.png")),
    "capitals": (("A.jpg", "a.png"), ("A.jpg", "a.png")),
    "an accent in two ways": (("\u00e9.jpg", "e\u0301.png"), ("\u00e9.jpg", "e\u0301.png")),
    "two folders": (("x/a.jpg", "y/a.jpg"), ("x_a.jpg", "y_a.jpg")),
    "numbers in brackets": (("a.jpg", "a (1).jpg", "a (2).jpg"), ("a", "a (1)", "a (2)")),
    "dots": (("a.1.jpg", "a.2.jpg"), ("a.1", "a.2")),
}


@promise(SUBJECT, "Two pictures whose names differ in the ending, in capitals or in the folder stay two: picture, mask and tags together.")
@pytest.mark.parametrize("name", NAMES)
def test_pictures_of_like_names_stay_apart(name, drawn, coco_folder, one_step, tmp_path):
    names, ids = NAMES[name]

    def rename(content):
        for row, new in zip(content["images"], names, strict=False):
            old, path = drawn / "val2014" / row["file_name"], drawn / "val2014" / new
            path.parent.mkdir(exist_ok=True)
            with Image.open(old) as image:
                image.save(path, "PNG")
            old.unlink()
            row["file_name"] = new

    instances(rename, "val2014")(drawn)
    split = open_split(drawn, "val2014")
    assert split.ids[: len(ids)] == ids
    same(split, open_split(coco_folder, "val2014"))
    alone = open_images(drawn, "val2014")
    assert {*split.ids} <= {*alone.ids} and all(alone.files[name].samefile(split.file(name)) for name in split.ids)
    if name == "two endings":
        out = predict(one_step, tmp_path / "out", str(drawn), "val2014", TestTime())
        assert {path.stem for path in out.iterdir()} == {*alone.ids}


@pytest.mark.parametrize(
    ("names", "expected"),
    [(["x/a.jpg", "x_a.jpg"], ["a", "x_a"]), (["a", "a.jpg"], ["a", "a.jpg"]), (["A.jpg", "a.jpg"], ["A.jpg", "a.jpg"]), ([], [])],
)
def test_ids_are_as_short_as_tells_them_apart(names, expected):
    assert distinct_ids(names) == tuple(expected)


def test_names_that_no_id_tells_apart_are_refused():
    with pytest.raises(UserError, match="cannot be told from others"):
        distinct_ids(["x/y/a.jpg", "x/y_a.jpg", "x_y/a.jpg"])


def test_the_same_name_in_two_folders_is_no_overlap_unless_it_is_the_same_picture(drawn, tiny):
    def first(split, source):
        def change(content):
            os.replace(source, drawn / split / "a.jpg")
            content["images"][0]["file_name"] = "a.jpg"

        instances(change, split)(drawn)

    for split in ("train2014", "val2014"):
        first(split, min((drawn / split).iterdir()))
    config = tiny(data=str(drawn), train_split="train2014", val_split="val2014")
    assert {*open_data(config).folder.ids} & {*open_data(config).val.folder.ids} == {"a"}
    shutil.copy(drawn / "train2014/a.jpg", drawn / "val2014/a.jpg")
    with pytest.raises(UserError, match="1 of its images are trained on too, the first is a"):
        open_data(config)


# a disk that does not tell capitals


@promise(SUBJECT, "A VOC folder is one also where the disk does not tell `annotations` from `Annotations`.")
@pytest.mark.parametrize("beside", ["nothing", "a JSON file of labelme"])
def test_voc_is_voc_where_the_disk_does_not_tell_capitals(beside, shapes_copy, one_step, tmp_path):
    expected = open_split(shapes_copy, "val")
    if beside != "nothing":
        (shapes_copy / "Annotations/val_00000.json").write_text("{}")
    (shapes_copy / "annotations").symlink_to("Annotations")
    assert open_split(shapes_copy, "val") == expected
    assert open_images(shapes_copy, "val").ids == expected.ids
    if beside == "nothing":
        assert main(["evaluate", str(one_step), "--data", str(shapes_copy), "--out", str(tmp_path / "scores.json")]) == 0


@promise(SUBJECT, "A VOC folder is one also where the disk does not tell `annotations` from `Annotations`.")
def test_coco_is_coco_with_a_folder_of_voc_s_beside_it(drawn, coco_folder):
    (drawn / "JPEGImages").mkdir()
    (drawn / "Annotations").mkdir()
    same(open_split(drawn, "val2014"), open_split(coco_folder, "val2014"))
