"""Pictures without a layout: folders by class, which of them validate, masks, and folders that have a layout after all."""

import csv

import numpy as np
import pytest
from PIL import Image

from dsgc.data import parts, voc
from dsgc.data.loading import EvalImages
from dsgc.data.own import Source
from dsgc.data.split import open_images, open_split
from dsgc.errors import UserError

TAGS = [("cat",), ("dog",), ("cat", "dog"), (), ("emu",)]


def paint(path, shade=0, size=(40, 30)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (shade % 256, shade // 256, 0)).save(path)


@pytest.fixture
def folder(tmp_path):
    """Forty pictures, some in folders, of three classes."""
    rows = [(f"{'deep/' * (i % 2)}p{i}.png", TAGS[i % 5]) for i in range(40)]
    for number, (name, _) in enumerate(rows):
        paint(tmp_path / "pictures" / name, number)
    with (tmp_path / "tags.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("file", "tags"), *((name, "|".join(tags)) for name, tags in rows)])
    return tmp_path / "pictures"


def source(folder, **more):
    return Source(str(folder.parent / "tags.csv"), **more)


def test_a_share_validates_of_each_class_and_the_rest_is_learnt_from(folder):
    train, val = (open_split(folder, name, source(folder)) for name in ("largest", "val"))
    assert not {*train.ids} & {*val.ids} and len(train.ids) + len(val.ids) == 40
    assert train.classes == ("cat", "dog", "emu") and 3 <= len(val.ids) <= 6 and val.tags().any(0).all() and train.tags().any(0).all()
    assert open_split(folder, "all", source(folder)).tags().sum(0).tolist() == [16, 16, 8]
    more = open_split(folder, "val", source(folder, share=0.5))
    assert {*val.ids} < {*more.ids}


def test_a_share_depends_on_names_and_tags_and_never_takes_the_last_picture_of_a_class():
    tags = {f"p{i}": TAGS[i % 5] for i in range(40)}
    turned = dict(reversed(tags.items()))
    assert parts.share_of(tags, 0.2) == parts.share_of(turned, 0.2)
    assert parts.share_of({"a": ("cat",), "b": ("cat", "dog"), "c": ("dog",)}, 0.9) < {"a", "b", "c"}
    assert parts.share_of({"a": ("cat",), "b": ("dog",)}, 0.9) == set()
    for share in (0.1, 0.5, 0.99):
        chosen = parts.share_of(tags, share)
        left = {tag for name, found in tags.items() if name not in chosen for tag in found}
        assert left == {"cat", "dog", "emu"}


def test_a_list_validates(folder):
    (folder.parent / "held.txt").write_text("p0.png\ndeep/p1\np4\np5\n")
    held = str(folder.parent / "held.txt")
    train, val = (open_split(folder, name, source(folder, val=held)) for name in ("largest", held))
    assert val.ids == ("p0", "p1", "p4", "p5") and len(train.ids) == 36
    (folder.parent / "held.txt").write_text("p0\nnowhere\n")
    with pytest.raises(UserError, match=r"held.txt: .*'nowhere' \(line 2\)"):
        open_split(folder, held, source(folder, val=held))


def test_with_two_lists_pictures_that_neither_names_need_no_row(folder):
    paint(folder / "untold.png", 77)
    with pytest.raises(UserError, match=r"tags.csv: pictures have no row there \(1\): untold.png"):
        open_split(folder, "largest", source(folder))
    lists = {"train": "p1\np2\np4\n", "val": "p5\n"}
    for name, text in lists.items():
        (folder / f"{name}.txt").write_text(text)
    given = source(folder, train="train.txt", val="val.txt")
    assert open_split(folder, "train.txt", given).ids == ("p1", "p2", "p4")
    assert open_split(folder, "val.txt", given).ids == ("p5",)
    with pytest.raises(UserError, match="nothing which validate"):
        open_split(folder, "val", source(folder, train="train.txt"))


def test_lists_that_leave_nothing_to_learn_are_refused(folder):
    (folder / "all.txt").write_text("\n".join(f"p{i}" for i in range(40)))
    (folder / "emus.txt").write_text("\n".join(f"p{i}" for i in range(4, 40, 5)))
    with pytest.raises(UserError, match="classes have no picture to learn from"):
        open_split(folder, "largest", source(folder, val="all.txt"))
    with pytest.raises(UserError, match="classes have no picture to learn from .*'emu'"):
        open_split(folder, "largest", source(folder, val="emus.txt"))
    for share in (0.0, 1.0):
        with pytest.raises(UserError, match="val_share"):
            open_split(folder, "val", source(folder, share=share))
    with pytest.raises(UserError, match="split 'mine': no part of"):
        open_split(folder, "mine", source(folder))


def test_each_folder_is_a_class(tmp_path):
    for number, name in enumerate(("cat/1.jpg", "cat/deep/2.jpg", "dog/1.jpg", "dog/3.png", "background/9.jpg")):
        paint(tmp_path / name, number)
    split = open_split(tmp_path, "all")
    assert split.classes == ("cat", "dog") and len(split.ids) == 5
    tags = {split.files[name]: found for name, found in split.named.items()}
    assert tags == {"cat/1.jpg": ("cat",), "cat/deep/2.jpg": ("cat",), "dog/1.jpg": ("dog",), "dog/3.png": ("dog",), "background/9.jpg": ()}
    assert open_images(tmp_path, "val").ids == open_split(tmp_path, "val").ids and len(open_images(tmp_path, "test").ids) == 5
    assert len({*split.ids}) == 5 and not any("/" in name for name in split.ids)


def test_folders_train_and_val_divide(tmp_path):
    for number, name in enumerate(("train/cat/1.jpg", "train/dog/1.jpg", "val/cat/1.jpg", "val/dog/7.jpg", "test/5.jpg")):
        paint(tmp_path / name, number)
    train, val = open_split(tmp_path, "largest"), open_split(tmp_path, "val")
    assert train.classes == val.classes == ("cat", "dog")
    assert [train.files[name] for name in train.ids] == ["train/cat/1.jpg", "train/dog/1.jpg"]
    assert [val.files[name] for name in val.ids] == ["val/cat/1.jpg", "val/dog/7.jpg"]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("cat/1.jpg", "2.jpg"), "lie in no folder of a class .*2.jpg.*--tags"),
        (("images/1.jpg", "masks/1.png"), "called as no class is .*images.*--tags"),
        (("cat/1.jpg", "dog/1.jpg", "tags.csv"), "may say the tags .*tags.csv; name it with --tags"),
        (("1.jpg", "2.jpg"), "pictures alone need --tags"),
        (("JPEGImages/1.jpg",), "ImageSets"),
    ],
)
def test_what_is_no_folder_per_class_is_refused(names, said, tmp_path):
    for number, name in enumerate(names):
        if name.endswith("csv"):
            (tmp_path / name).write_text("a,b")
        else:
            paint(tmp_path / name, number)
    with pytest.raises(UserError, match=said):
        open_split(tmp_path, "largest")


def test_tags_are_refused_where_a_layout_has_them(folder, shapes_folder, coco_folder):
    for root, split in ((shapes_folder, "train"), (coco_folder, "train2014")):
        with pytest.raises(UserError, match="leave out --tags"):
            open_split(root, split, source(folder))
        with pytest.raises(UserError, match="leave out --masks"):
            open_split(root, split, Source(masks=str(folder)))
    with pytest.raises(UserError, match="leave out --tags"):
        open_split(folder, "voc6_train", source(folder))


def test_of_a_layout_the_pictures_alone_can_be_taken(shapes_folder, tmp_path):
    split = voc.open_split(shapes_folder, "train")
    (tmp_path / "tags.csv").write_text("".join(f"{name},thing\n" for name in split.ids))
    names = tmp_path / "names.txt"
    names.write_text("\n".join(split.ids))
    (tmp_path / "held.txt").write_text(split.ids[0])
    mine = Source(str(tmp_path / "tags.csv"), train=str(names), val=str(tmp_path / "held.txt"))
    assert open_split(shapes_folder / "JPEGImages", str(names), mine).ids == split.ids


def test_without_masks_all_is_unknown_and_with_them_they_are_the_pictures_own(folder):
    val = open_split(folder, "val", source(folder))
    item = EvalImages(val)[0]
    assert val.truth == "" and (item.mask == 255).all() and item.mask.shape == item.image.shape[1:]
    assert any("no mIoU" in note for note in val.notes)
    masks = folder.parent / "masks"
    for image_id in open_split(folder, "all", source(folder)).ids:
        (masks / "deep").mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((30, 40), 2, np.uint8)).save(masks / f"{image_id}.png")
    known = open_split(folder, "val", source(folder, masks=str(masks)))
    assert known.truth == str(masks) and (EvalImages(known)[0].mask == 2).all() and not any("no mIoU" in note for note in known.notes)
    (masks / f"{known.ids[1]}.png").unlink()
    with pytest.raises(UserError, match=f"{known.ids[1]}.png: missing"):
        EvalImages(open_split(folder, "val", source(folder, masks=str(masks))))[0]
    Image.fromarray(np.full((20, 40), 2, np.uint8)).save(masks / f"{known.ids[1]}.png")
    with pytest.raises(UserError, match="40 x 20, its image 40 x 30"):
        EvalImages(open_split(folder, "val", source(folder, masks=str(masks))))[1]
    with pytest.raises(UserError, match="no such folder of masks"):
        open_split(folder, "val", source(folder, masks=str(folder / "none")))


def test_a_mask_of_two_pictures_is_neither_s(tmp_path):
    for number, name in enumerate(("a/y.png", "b/y.png", "a/z.png", "b/w.png")):
        paint(tmp_path / "pictures" / name, number)
    (tmp_path / "tags.csv").write_text("a/y,cat\nb/y,dog\na/z,cat\nb/w,dog\n")
    for name in ("y.png", "z.png", "b/w.png"):
        paint(tmp_path / "masks" / name)
    found = open_split(tmp_path / "pictures", "all", Source(str(tmp_path / "tags.csv"), str(tmp_path / "masks"))).masks
    assert found.files == {"z": ["z.png"], "w": ["b/w.png"]}


def test_masks_that_lie_among_the_pictures_are_no_pictures(folder):
    (folder / "masks").mkdir()
    Image.new("L", (40, 30)).save(folder / "masks/p0.png")
    assert len(open_split(folder, "all", source(folder, masks=str(folder / "masks"))).ids) == 40


def test_a_list_of_classes_orders_them_and_knows_them(folder):
    (folder / "classes.txt").write_text("emu\ndog\ncat\nowl\n")
    split = open_split(folder, "all", source(folder))
    assert split.classes == ("emu", "dog", "cat", "owl") and split.tags().sum(0).tolist() == [8, 16, 16, 0]
    (folder / "classes.txt").write_text("emu\ndog\n")
    with pytest.raises(UserError, match=r"none of the classes in .*classes.txt .*'cat'"):
        open_split(folder, "all", source(folder))


def test_hidden_and_unreadable_files_are_passed_over(folder):
    for name in ("._p0.png", ".cache/x.png", "@eaDir/p0.png", "Thumbs.db"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"no picture")
    (folder / "dir.png").mkdir()
    assert len(open_split(folder, "all", source(folder)).ids) == 40
    (folder / "q.heic").write_bytes(b"no picture")
    with (folder.parent / "tags.csv").open("a") as file:
        file.write("q.heic,cat\n")
    with pytest.raises(UserError, match="not read.*q.heic.*JPEG"):
        open_split(folder, "all", source(folder))


def test_pictures_in_folders_are_segmented_too(folder):
    found = open_images(folder, "test")
    assert len(found.ids) == 40 and found.image("p1").size == (40, 30)
    assert open_images(folder, "val", source(folder)).ids == open_split(folder, "val", source(folder)).ids


@pytest.mark.parametrize("ending", [".jpg", ".png", ".webp", ".bmp", ".gif", ".tif", ".avif", ".jp2", ".ppm", ".qoi", ".tga", ".pcx"])
def test_every_format_that_pillow_reads_by_itself_is_read(ending, tmp_path):
    Image.new("RGB", (64, 64), (200, 30, 30)).save(tmp_path / f"p{ending}")
    image = open_images(tmp_path, "test").image("p")
    assert image.mode == "RGB" and np.abs(np.asarray(image)[8, 8].astype(int) - (200, 30, 30)).max() < 12
