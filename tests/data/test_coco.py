"""COCO's layout: tags and masks from the instances, what the real files have, what a damaged or wrong one says, the cache."""

import json
import os

import numpy as np
import pytest
from PIL import Image

from dsgc.data import coco, shapes_coco
from dsgc.data.index import Index
from dsgc.data.loading import Crops, EvalImages
from dsgc.data.split import open_split
from dsgc.data.voc import open_split as open_voc
from dsgc.errors import UserError

CATEGORIES = [{"id": 1, "name": "person"}, {"id": 3, "name": "car"}, {"id": 90, "name": "toothbrush"}]
BOX = [4, 2, 12, 2, 12, 8, 4, 8]  # polygon of columns 4..11, rows 2..7


def image(number, mode="RGB", size=(20, 10)):
    return {"id": number, "file_name": f"COCO_val2014_{number:012d}.jpg", "width": size[0], "height": size[1]}, mode


def instance(number, of, category, segmentation, crowd=0, area=48):
    names = ("id", "image_id", "category_id", "segmentation", "iscrowd", "area")
    return dict(zip(names, (number, of, category, segmentation, crowd, area), strict=True))


def content():
    """Five images as the real set has them: overlap, crowd region, grey, CMYK, none; ids out of order and with gaps."""
    images = [image(9, "L"), image(5), image(30, "CMYK"), image(7), image(8)]
    whole = {"size": [10, 20], "counts": [0, 200]}  # the code of crowd regions: runs of 0 and 1, column by column
    annotations = [
        instance(1, 5, 90, [BOX], area=48),
        instance(2, 5, 3, [[0, 0, 20, 0, 20, 10, 0, 10]], area=200),  # behind the first, though it comes later
        instance(3, 7, 1, whole, crowd=1, area=200),
        instance(4, 7, 3, [BOX]),
        instance(5, 9, 3, [BOX, [14, 0, 16, 0, 16, 4, 14, 4]]),
        instance(6, 30, 1, [[1, 1, 5, 5]], area=0),  # a line has no pixel
    ]
    return images, annotations


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "dsgc"


@pytest.fixture
def folder(tmp_path):
    """A small set in the true layout; `write` stores changed content."""
    root = tmp_path / "coco"
    (root / "annotations").mkdir(parents=True)
    (root / "val2014").mkdir()
    images, annotations = content()
    for entry, mode in images:
        Image.new("RGB", (entry["width"], entry["height"]), (200, 100, 50)).convert(mode).save(root / "val2014" / entry["file_name"])
    write(root, {"info": {"year": 2014}, "images": [e for e, _ in images], "annotations": annotations, "categories": CATEGORIES})
    return root


def path_in(root):
    return root / "annotations" / "instances_val2014.json"


def read(root):
    return json.loads(path_in(root).read_text())


def write(root, value):
    path_in(root).write_text(value if isinstance(value, str) else json.dumps(value))


def test_images_without_an_instance_are_left_out_and_category_ids_become_1_to_c(folder):
    split = open_split(folder, "val2014")
    assert split.classes == ("person", "car", "toothbrush")
    assert split.ids == tuple(f"COCO_val2014_{number:012d}" for number in (5, 7, 9, 30))
    assert split.tags().tolist() == [[0, 1, 1], [1, 1, 0], [0, 1, 0], [1, 0, 0]]
    assert split.origin == str(path_in(folder))


def test_masks_are_painted_from_the_instances_crowd_regions_as_255(folder):
    split = open_split(folder, "val2014")
    masks = [np.asarray(split.mask(image_id, (20, 10))) for image_id in split.ids]
    inside = np.zeros((10, 20), bool)
    inside[2:8, 4:12] = True
    assert (masks[0] == np.where(inside, 3, 2)).all(), "the smaller instance is in front"
    assert (masks[1] == np.where(inside, 2, 255)).all(), "an instance in a crowd region keeps its label"
    parts = inside.copy()
    parts[0:4, 14:16] = True
    assert (masks[2] == np.where(parts, 2, 0)).all(), "an instance may have several polygons"
    assert not masks[3].any()


def test_grey_and_cmyk_pictures_are_read_in_rgb(folder):
    split = open_split(folder, "val2014")
    for image_id in split.ids:
        picture = split.image(image_id)
        assert picture.mode == "RGB" and picture.size == (20, 10)
    assert np.ptp(np.asarray(split.image(split.ids[2])), -1).max() == 0, "a grey one is grey"
    colour = np.asarray(split.image(split.ids[3]), int).mean((0, 1))
    assert np.abs(colour - (200, 100, 50)).max() < 12


def test_a_split_serves_training_and_evaluation(folder):
    split = open_split(folder, "val2014")
    crop = Crops(split, size=16, scale=(0.3, 1.0), ratio=(0.75, 1.3), flip=True, seed=0)[0, 0]
    assert crop.images.shape == (3, 16, 16) and crop.tags.tolist() == [0, 1, 1] and crop.masks is None
    item = EvalImages(split)[1]
    assert item.mask.shape == (10, 20) and set(item.mask.unique().tolist()) == {2, 255}


# the drawn set


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    return shapes_coco.write(tmp_path_factory.mktemp("drawn") / "set", seed=0, sizes={"train2014": 50, "val2014": 50})


def test_the_drawn_set_is_that_of_the_voc_layout_but_for_what_is_awkward(drawn, shapes_folder):
    split, same = open_split(drawn, "train2014"), open_voc(shapes_folder, "train")
    assert len(split.ids) == 50 and split.classes == same.classes
    plain = [i for i in range(min(50, len(same.ids))) if i % shapes_coco.CROWD != shapes_coco.CROWD - 1]
    assert len(plain) > 5
    np.testing.assert_array_equal(split.tags()[plain], same.tags()[plain])
    for i in plain:
        size = split.image(split.ids[i]).size
        np.testing.assert_array_equal(split.mask(split.ids[i], size), same.mask(same.ids[i], size))


def test_the_drawn_set_has_what_is_awkward(drawn):
    listed = json.loads((drawn / "annotations/instances_val2014.json").read_text())
    assert len(listed["images"]) == 51 and len(open_split(drawn, "val2014").ids) == 50
    assert [entry["id"] for entry in listed["categories"]] == [1, 3, 5, 7, 9, 11]
    assert sum(row["iscrowd"] for row in listed["annotations"]) == 2
    split = open_split(drawn, "val2014")
    modes = {Image.open(split.folder / name).mode for name in split.index.files.tolist()}
    assert modes == {"L", "RGB"}
    crowded = split.ids[shapes_coco.CROWD - 1]
    assert 255 in np.asarray(split.mask(crowded, split.image(crowded).size))


# the cache


def test_the_second_start_reads_the_cache(folder, cache, monkeypatch):
    first = open_split(folder, "val2014")
    assert len(list(cache.iterdir())) == 1
    monkeypatch.setattr(coco, "build", lambda *_: pytest.fail("the instances were read again"))
    again = open_split(folder, "val2014")
    assert again.ids == first.ids and (again.tags() == first.tags()).all()
    assert (np.asarray(again.mask(again.ids[0], (20, 10))) == np.asarray(first.mask(first.ids[0], (20, 10)))).all()


def test_a_changed_file_is_read_again(folder, cache):
    open_split(folder, "val2014")
    changed = read(folder)
    changed["annotations"] = changed["annotations"][:2]
    write(folder, changed)
    assert len(open_split(folder, "val2014").ids) == 1 and len(list(cache.iterdir())) == 2


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 no archive", None], ids=["empty", "garbage", "truncated"])
def test_a_damaged_cache_is_made_anew(folder, cache, damage):
    ids = open_split(folder, "val2014").ids
    (kept,) = cache.iterdir()
    kept.write_bytes(kept.read_bytes()[:-200] if damage is None else damage)
    assert open_split(folder, "val2014").ids == ids
    with np.load(kept) as arrays:
        assert set(arrays) == set(Index._fields)


def test_a_cache_that_cannot_be_written_costs_nothing_but_time(folder, cache):
    cache.parent.mkdir()
    cache.write_text("a file in the way")
    assert len(open_split(folder, "val2014").ids) == 4


# bad input


def change(part, **fields):
    def apply(value):
        value[part][-1] |= fields

    return apply


def drop(part, field):
    return lambda value: value[part][-1].pop(field)


def twice(part):
    return lambda value: value[part].append(dict(value[part][0]))


BAD = {
    "no images": (lambda value: value.pop("images"), "no list 'images'"),
    "captions": (lambda value: value.pop("categories"), "no list 'categories'; an instances file"),
    "another year": (lambda value: value.update(info={"year": 2017}), "is of 2017, the split of 2014"),
    "an image twice": (twice("images"), "1 ids of 'images' are not unique, the first is 9"),
    "an instance twice": (twice("annotations"), "1 ids of 'annotations' are not unique"),
    "a category twice": (twice("categories"), "1 ids of 'categories' are not unique"),
    "a file twice": (change("images", file_name="COCO_val2014_000000000005.jpg"), "2 images have the file name"),
    "a path": (change("images", file_name="../../etc/passwd"), "'../../etc/passwd' is not a plain file name"),
    "no size": (drop("images", "width"), "lacks 'width'"),
    "an id in words": (change("annotations", image_id="5"), "lacks 'image_id' or has it of another type"),
    "an unknown image": (change("annotations", image_id=6), "instance 6 has image_id 6, which the file does not list"),
    "an unknown category": (change("annotations", category_id=2), "instance 6 has category_id 2"),
    "a mask of another size": (change("annotations", segmentation={"size": [5, 5], "counts": [0, 25]}), "mask of 5 x 5"),
    "an odd polygon": (change("annotations", segmentation=[[1, "a", 3, 4, 5, 6]]), "instance 6 has no readable segmentation"),
    "nothing": (lambda value: value.update(annotations=[]), "no image has an instance"),
    "no categories": (lambda value: value.update(categories=[], annotations=[]), "0 categories"),
}


@pytest.mark.parametrize("name", BAD)
def test_an_instances_file_that_is_wrong_is_refused_in_one_line(name, folder):
    apply, said = BAD[name]
    value = read(folder)
    apply(value)
    write(folder, value)
    with pytest.raises(UserError) as refusal:
        open_split(folder, "val2014")
    assert said in str(refusal.value) and "instances_val2014.json" in str(refusal.value) and "\n" not in str(refusal.value)


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", "\x00"], ids=["empty", "truncated", "a list", "binary"])
def test_a_file_that_is_no_instances_file_is_refused(text, folder):
    write(folder, text)
    with pytest.raises(UserError, match=r"instances_val2014\.json: (not a readable instances file|has no list 'images')"):
        open_split(folder, "val2014")


def test_missing_images_are_counted_and_the_first_is_named(folder):
    for number in (5, 30):
        (folder / "val2014" / f"COCO_val2014_{number:012d}.jpg").unlink()
    with pytest.raises(UserError, match=r"COCO_val2014_000000000005\.jpg: missing, as are 1 more of the 4 images"):
        open_split(folder, "val2014")


def test_a_split_that_is_not_there_names_those_that_are(folder):
    with pytest.raises(UserError, match=r"instances_train2014\.json: no such split; splits found there: val2014"):
        open_split(folder, "train2014")
    os.rename(folder / "val2014", folder / "images")
    with pytest.raises(UserError, match=r"val2014: missing; the images of instances_val2014\.json belong there"):
        open_split(folder, "val2014")


def test_a_picture_of_another_size_than_the_file_says_is_refused(folder):
    split = open_split(folder, "val2014")
    with pytest.raises(UserError, match=r"says that COCO_val2014_000000000005\.jpg is 20 x 10, the image is 10 x 20"):
        split.mask(split.ids[0], (10, 20))
