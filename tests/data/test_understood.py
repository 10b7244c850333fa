"""What can be read in one way only is read, in VOC's layout: forms of XML, of lists and of class lists, names of files, pictures alone."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image
from promises import promise
from refusal import refused
from spoilt import LISTS, every

from dsgc.__main__ import main
from dsgc.data import shapes_coco, voc
from dsgc.data.annotation import object_names
from dsgc.data.classes import read_classes
from dsgc.data.images import open_pictures
from dsgc.data.split import open_images, open_split
from dsgc.errors import UserError

pytestmark = promise("Bad input", "What can be read in one way only is read, whichever program has written it.")

CAT = "<object><name>cat</name></object>"
FORMS = {  # of an annotation, and the names in it
    "a namespace": (f"<annotation xmlns='http://x'>{CAT}</annotation>", ["cat"]),
    "a prefix": ("<v:annotation xmlns:v='x'><v:object><v:name>cat</v:name></v:object></v:annotation>", ["cat"]),
    "objects around": (f"<annotation><objects>{CAT}{CAT}</objects></annotation>", ["cat", "cat"]),
    "capitals": ("<Annotation><Object><Name>cat</Name></Object></Annotation>", ["cat"]),
    "an attribute": ("<annotation><object name='cat'/></annotation>", ["cat"]),
    "CDATA, a comment, blanks": ("<annotation><object><name> <![CDATA[ca]]><!-- - -->t\n</name></object></annotation>", ["cat"]),
    "parts": ("<annotation><object><name>cat</name><part><name>head</name></part></object></annotation>", ["cat"]),
    "an object marked as deleted": (f"<annotation>{CAT}<object><name>dog</name><deleted>1</deleted></object></annotation>", ["cat"]),
    "a header of its own": (f"<annotation><weather>rain</weather>{CAT}</annotation>", ["cat"]),
    "an owner with a name": (f"<annotation><owner><name>me</name></owner>{CAT}</annotation>", ["cat"]),
    "a header alone": ("<annotation><filename>a.jpg</filename><size><width>1</width></size></annotation>", []),
    "nothing": ("<annotation/>", []),
}


@pytest.mark.parametrize("name", FORMS)
def test_an_annotation_of_any_form_gives_its_names(name, tmp_path):
    content, expected = FORMS[name]
    (tmp_path / "a.xml").write_text(content)
    assert object_names(tmp_path / "a.xml") == expected


LISTED = {  # of classes, all of which say that cat is label 1 and dog label 2
    "names": "cat\ndog\n",
    "background": "background\ncat\ndog",
    "Background, Windows line ends, a byte order mark": "\ufeffBackground\r\ncat\r\ndog\r\n",
    "labelme's": "__ignore__\n_background_\ncat\ndog\n",
    "a comment": "# the classes\ncat\n# of pets\ndog",
    "CVAT's": "# label:color_rgb:parts:actions\nbackground:0,0,0::\ncat:128,0,0::\ndog:0,128,0::",
    "CVAT's, of other colours": "background:0,0,0::\ncat:250,50,83::\ndog:51,221,255::",
    "numbers": "1 cat\n2 dog",
    "numbers with the background": "0: _background_\n1: cat\n2: dog",
}


@pytest.mark.parametrize("name", LISTED)
def test_a_list_of_classes_of_any_form_gives_the_same_labels(name, tmp_path):
    (tmp_path / "classes.txt").write_bytes(LISTED[name].encode())
    found = read_classes(tmp_path)
    assert found.names == ("cat", "dog")
    assert len(found.notes) == (name != "names") and all("'cat' is label 1" in note for note in found.notes)


def test_names_that_begin_with_a_number_are_names(tmp_path):
    for names in (("1 cent", "1 euro", "2 euro"), ("2 doors", "4 wheels"), ("1 cent", "2 cent")):
        (tmp_path / "classes.txt").write_text("\n".join(names))
        assert read_classes(tmp_path).names == names


def test_where_there_is_no_list_that_of_labelme_or_cvat_serves(tmp_path):
    (tmp_path / "labelmap.txt").write_text("background:0,0,0::\ncat:128,0,0::\n")
    assert read_classes(tmp_path).names == ("cat",)
    (tmp_path / "class_names.txt").write_text("_background_\ndog\n")
    assert read_classes(tmp_path).names == ("dog",)


def test_training_and_evaluation_say_what_they_make_of_the_classes(shapes_copy, tmp_path, arguments, capsys):
    path = shapes_copy / "classes.txt"
    path.write_text("_background_\n" + path.read_text())
    assert main(arguments("masks", data=str(shapes_copy), out=str(tmp_path / "run"), steps=1)) == 0
    said = capsys.readouterr()
    assert "'_background_' is label 0; 'melon' is label 1" in said.out + said.err
    assert f"masks of {shapes_copy / 'SegmentationClass'}" in said.out + said.err
    assert main(["evaluate", str(tmp_path / "run"), "--split", "largest"]) == 0
    said = capsys.readouterr()
    assert "'_background_' is label 0" in said.err and "of ImageSets/Segmentation/train.txt, masks of SegmentationClass: " in said.err
    scores = json.loads(said.out)
    assert (scores["list"], scores["masks"]) == ("ImageSets/Segmentation/train.txt", "SegmentationClass")
    assert list(scores["network"]["seg"]["per_class"]) == ["background", *path.read_text().split()[1:]]
    assert main(["evaluate", str(tmp_path / "run"), "--mirror"]) == 0
    assert json.loads(capsys.readouterr().out)["list"] == "ImageSets/Segmentation/val.txt"


# files and lists

NAMED = {  # the pictures that there are, a list, the pictures that it names
    "blanks": (["photo.jpg", "photo (1).jpg", "photo (2).jpg"], "photo\nphoto (1)\t\r\n photo (2) ", 3),
    "blanks, in a list by class": (["photo.jpg", "photo (1).jpg"], "photo  1\nphoto (1) -1", 2),
    "quotes": (["photo.jpg", "photo (1).jpg"], '"photo"\n"photo (1)"', 2),
    "quotes, in a list by class": (["photo.jpg", "photo (1).jpg"], '"photo" 0\n"photo (1)" 1', 2),
    "numbers that belong to the name": (["photo.jpg", "photo 0.jpg", "photo 1.jpg"], "photo\nphoto 0\nphoto 1", 3),
    "endings of any kind": (["a.JPG", "b.jpeg", "c.png", "d.TIF", "e.webp"], "a\nb\nc\nd\ne", 5),
    "endings in the list": (["a.jpg", "b.JPG", "c.png"], "a.jpg\nb.jpg\nc.jpg\na", 3),
    "an ending that belongs to the name": (["a.jpg.jpg"], "a.jpg", 1),
    "dots": (["a.jpg", "a.v2.jpg"], "a\na.v2", 2),
    "capitals alone apart": (["a.jpg", "A.jpg"], "a\nA", 2),
    "accents as macOS has them": (["e\u0301.jpg"], "\u00e9", 1),
    "a narrow blank, as in screenshots of macOS": (["3.04\u202fPM.png"], "3.04\u202fPM", 1),
    "a picture beside, of another id": (["a.jpg", "b.jpg", "b.png"], "a", 1),
}


@pytest.mark.parametrize("name", NAMED)
def test_a_list_names_the_pictures_that_it_means(name, tmp_path):
    files, content, count = NAMED[name]
    (tmp_path / "JPEGImages").mkdir()
    (tmp_path / LISTS).mkdir(parents=True)
    for number, file in enumerate(files):
        Image.new("RGB", (8 + number, 8)).save(tmp_path / "JPEGImages" / file)
    (tmp_path / LISTS / "test.txt").write_bytes(content.encode())
    folder = open_images(tmp_path, "test")
    assert len(folder.ids) == count
    assert [folder.image(image_id).width - 8 for image_id in folder.ids] == list(range(count)), "each its own picture, in order"


def test_annotations_and_masks_may_have_endings_in_capitals(shapes_copy):
    before = open_split(shapes_copy, "val")
    tags, masks = before.tags(), [np.asarray(before.mask(name, (128, 128))) for name in before.ids]
    for pattern, ending in (("JPEGImages/*", ".JPG"), ("Annotations/*", ".XML"), ("SegmentationClass/*", ".PNG")):
        every(pattern, lambda path, ending=ending: path.rename(path.with_suffix(ending)))(shapes_copy)
    after = open_split(shapes_copy, "val")
    assert after.ids == before.ids and (after.tags() == tags).all()
    assert all((np.asarray(after.mask(name, (128, 128))) == mask).all() for name, mask in zip(after.ids, masks, strict=True))


def test_a_list_of_main_serves_where_segmentation_has_none(shapes_copy):
    expected = open_split(shapes_copy, "val").ids
    (shapes_copy / LISTS).rename(shapes_copy / "ImageSets/Main")
    folder = open_split(shapes_copy, "val")
    assert folder.ids == expected and folder.origin.endswith("ImageSets/Main/val.txt")


def test_train_is_its_own_list_and_largest_the_largest(shapes_copy):
    ids = [f"train_{number:05d}" for number in range(12)]
    (shapes_copy / LISTS / "train.txt").write_text("\n".join(ids[:3]))
    (shapes_copy / LISTS / "train_aug.txt").write_text("\n".join(ids))
    for opened in (open_split, open_images):
        assert [len(opened(shapes_copy, split).ids) for split in ("train", "largest", "train_aug")] == [3, 12, 12]
    (shapes_copy / LISTS / "largest.txt").write_text("\n".join(ids))
    with pytest.raises(UserError, match=r"largest\.txt: .* give this one another name"):
        open_split(shapes_copy, "largest")


def test_one_mask_without_an_object_in_its_annotation_is_no_mistake(shapes_copy):
    (shapes_copy / "Annotations/val_00000.xml").write_text("<annotation/>")
    assert open_split(shapes_copy, "val").tags().any(1).tolist() == [False, True, True, True]


# pictures alone


def test_pictures_of_every_format_are_segmented_and_what_is_passed_over_is_said(one_step, tmp_path, capsys):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("a.jpg", "b.JPG", "c.tif", "d.webp", "e.bmp", "f.gif", "g.JPEG", "h.PNG", "i.TIFF"):
        Image.new("RGB", (32, 32)).save(folder / name)
    Image.new("RGB", (32, 32)).save(folder / "j", format="PNG")
    for name in ("._a.jpg", ".DS_Store", "Thumbs.db", "desktop.ini"):
        (folder / name).write_text("nothing to speak of")
    assert open_pictures(folder).notes == ()
    for name in ("notes.txt", "k.heic", "README", "l.mp4"):
        (folder / name).write_text("no picture")
    (folder / "more").mkdir()
    assert main(["predict", str(one_step), str(tmp_path / "out"), "--data", str(folder)]) == 0
    assert {path.stem for path in (tmp_path / "out").iterdir()} == {*"abcdefghij"}
    (line,) = (line for line in capsys.readouterr().err.splitlines() if "passed over" in line)
    assert line == f"{folder}: passed over 4 files (README, k.heic, l.mp4, ...) and 1 folder (more)"


def test_where_all_is_passed_over_the_refusal_says_it(one_step, tmp_path, capsys):
    (tmp_path / "pictures/more").mkdir(parents=True)
    (tmp_path / "pictures/a.heic").write_text("no picture")
    words = ["predict", one_step, tmp_path / "out", "--data", tmp_path / "pictures"]
    refused(words, capsys, "no pictures here", ".tif", "passed over 1 file (a.heic) and 1 folder (more)")


def test_a_tiff_that_is_turned_is_read_as_it_shows(shapes_copy):
    exif = Image.Exif()
    exif[0x0112] = 6
    (shapes_copy / "JPEGImages/val_00000.jpg").unlink()
    picture = Image.new("RGB", (40, 20), "red")
    picture.save(shapes_copy / "JPEGImages/val_00000.tif", exif=exif)
    folder = open_split(shapes_copy, "val")
    assert folder.image("val_00000").size == (20, 40)
    Image.new("L", (20, 40)).save(shapes_copy / "SegmentationClass/val_00000.png")
    assert folder.mask("val_00000", (20, 40)).size == (20, 40)
    Image.new("L", (40, 20)).save(shapes_copy / "SegmentationClass/val_00000.png")
    with pytest.raises(UserError, match=r"40 x 20, as that picture is stored, but EXIF turns the picture to 20 x 40 \(orientation 6\)"):
        folder.mask("val_00000", (20, 40))


def test_instances_of_the_picture_as_it_is_stored_are_told_from_those_of_another_picture(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    data = shapes_coco.write(tmp_path / "coco", sizes={"train2014": 1, "val2014": 1})
    path, (picture,) = data / "annotations/instances_val2014.json", (data / "val2014").iterdir()
    path.write_text(path.read_text().replace('"height": 128', '"height": 64'))
    content = json.loads(path.read_text())
    content["annotations"] = [row | {"segmentation": [[0, 0, 9, 0, 9, 9]]} for row in content["annotations"]]
    path.write_text(json.dumps(content))
    exif = Image.Exif()
    exif[0x0112] = 8
    Image.new("RGB", (128, 64)).save(picture, exif=exif)
    split = open_split(data, "val2014")
    with pytest.raises(UserError, match=r"json: the mask of .* is 128 x 64, as that picture is stored, but EXIF turns .* to 64 x 128"):
        split.mask(split.ids[0], split.image(split.ids[0]).size)


def test_a_folder_is_listed_once_however_many_ids_there_are(shapes_copy, monkeypatch):
    listed = []
    genuine = voc.by_stem
    monkeypatch.setattr(voc, "by_stem", lambda folder, endings: listed.append(folder.name) or genuine(folder, endings))
    open_split(shapes_copy, "train")
    assert listed == ["JPEGImages", "Annotations"]


def test_a_copy_without_masks_still_trains_up_to_them(shapes_copy):
    shutil.rmtree(shapes_copy / "SegmentationClass")
    folder = open_split(shapes_copy, "val")
    assert folder.tags().any()
    with pytest.raises(UserError, match="val_00000.png: missing, as are 3 more of this split; evaluation needs"):
        folder.mask("val_00000", (128, 128))
