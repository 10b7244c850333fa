"""Looking a data set over: every fault at once, in each layout, what is a hint only, and whether training would begin."""

import json
import shutil
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image

from dsgc.__main__ import main
from dsgc.data import sheet
from dsgc.data.check import check
from dsgc.data.own import Source


@pytest.fixture
def own(tmp_path):
    """Twelve pictures of two classes with a tag file, and a source that names it."""
    (tmp_path / "pictures").mkdir()
    noise = np.random.default_rng(0)
    for number in range(12):
        Image.fromarray(noise.integers(0, 255, (70, 80, 3), np.uint8)).save(tmp_path / f"pictures/p{number}.png")
    (tmp_path / "tags.csv").write_text("file,tags\n" + "".join(f"p{i}.png,{'cat' if i % 2 else 'dog'}\n" for i in range(12)))
    return tmp_path / "pictures", Source(str(tmp_path / "tags.csv"), share=0.2)


def said(faults):
    return "\n".join(faults.lines())


def test_a_sound_data_set_has_no_faults(own, shapes_folder, coco_folder):
    for root, source in (own, (shapes_folder, Source()), (coco_folder, Source())):
        report = check(root, "", "", source)
        assert not report.faults and len(report.parts) == 2
        assert any("sizes:" in line for line in report.lines())


def test_counts_of_each_class_and_split_are_told(own):
    report = check(own[0], "", "", own[1])
    rows = {line.split()[0]: line.split()[1:] for line in report.lines() if line.split()[:1] in (["cat"], ["dog"])}
    assert rows == {"cat": ["5", "1"], "dog": ["5", "1"]}
    assert "  sizes: all 80 x 70; median side 75" in report.lines()


def test_all_faults_of_own_pictures_are_told_at_once(own):
    root, source = own
    with open(source.tags, "a") as file:
        file.write("nowhere.png,cat\np0.png,cat\np1,cat\np2.png,Dog\n")
    (root / "p3.png").write_bytes((root / "p3.png").read_bytes()[:200])
    Image.new("RGB", (80, 70)).save(root / "more.png")
    faults = said(check(root, "", "", source).faults)
    rows = ("'nowhere.png' (line 14)", "'p0.png' (line 15) and line 2", "'p1' (line 16)", "'Dog'")
    for words in (*rows, "p3.png: not a readable image", "more.png"):
        assert words in faults


def test_of_many_faults_of_a_kind_the_first_few_are_told_and_how_many(own):
    with open(own[1].tags, "a") as file:
        file.writelines(f"nowhere{i}.png,cat\n" for i in range(50))
    faults = said(check(*own[:1], "", "", own[1]).faults)
    assert "(50)" in faults and faults.count("nowhere") == 3


def test_all_faults_of_a_voc_folder_are_told_at_once(shapes_copy):
    (shapes_copy / "JPEGImages/train_00003.jpg").unlink()
    (shapes_copy / "Annotations/train_00004.xml").write_text("<annotation>")
    (shapes_copy / "Annotations/train_00005.xml").write_text("<annotation><object><name>yeti</name></object></annotation>")
    (shapes_copy / "JPEGImages/train_00006.jpg").write_bytes(b"nothing")
    Image.new("L", (3, 3)).save(shapes_copy / "SegmentationClass/val_00001.png")
    report = check(shapes_copy, "", "")
    faults, hints = said(report.faults), said(report.hints)
    annotations = ("train_00004.xml: not a readable", "'yeti' is not one")
    for words in ("train_00003.jpg: missing", *annotations, "train_00006.jpg: not a readable", "mask is 3 x 3"):
        assert words in faults
    assert "without a tag" not in hints  # of what was not understood
    assert "annotations without a picture" in hints and "train_00003.xml" in hints
    assert "pictures are in neither split" in hints and "dev_00000" in hints


def test_masks_that_say_something_else_than_the_tags_are_a_fault(shapes_copy):
    for path in (shapes_copy / "SegmentationClass").glob("val*"):
        Image.new("L", Image.open(path).size, 255).point(lambda value: 0).save(path)
    assert "the masks show no object" in said(check(shapes_copy, "", "").faults)


def test_what_an_instances_file_has_wrong_is_told_for_each_split(coco_folder, tmp_path):
    root = shutil.copytree(coco_folder, tmp_path / "coco")
    for split in ("train2014", "val2014"):
        path = root / f"annotations/instances_{split}.json"
        content = json.loads(path.read_text())
        content["annotations"][0]["image_id"] = 10**9
        path.write_text(json.dumps(content))
    faults = said(check(root, "", "").faults)
    assert "instances_train2014.json" in faults and "instances_val2014.json" in faults


def test_doubles_are_hints_within_and_across_splits_and_a_fault_under_one_name(own, shapes_copy):
    root, source = own
    validating = check(root, "", "", source).parts[1].split.ids[0]
    learnt = [f"p{i}" for i in range(12) if f"p{i}" != validating and i % 2 == int(validating[1:]) % 2]
    for name in learnt[:2]:
        shutil.copy(root / f"{validating}.png", root / f"{name}.png")
    report = check(root, "", "", source)
    assert not report.faults and "pictures are in both splits (1)" in said(report.hints) and validating in said(report.hints)
    shutil.copy(root / f"{learnt[2]}.png", root / f"{learnt[3]}.png")
    assert "pictures are there twice (1)" in said(check(root, "", "", source).hints)
    lists = shapes_copy / "ImageSets/Segmentation"
    (lists / "mine.txt").write_text((lists / "val.txt").read_text() + (lists / "train.txt").read_text())
    assert "pictures are in both splits (4)" in said(check(shapes_copy, "mine", "val").faults)


def test_odd_sizes_and_pictures_without_tags_are_hints(own):
    root, source = own
    Image.new("RGB", (6001, 70)).save(root / "wide.png")
    Image.new("RGB", (20, 90)).save(root / "thin.png")
    with open(source.tags, "a") as file:
        file.write("wide.png,\nthin.png,cat\n")
    report = check(root, "", "", source)
    hints = said(report.hints)
    assert "wide (6001 x 70)" in hints and "thin (20 x 90)" in hints and "without a tag" in hints and not report.faults
    assert any("smallest 20 x 90, median 80 x 70, largest 6001 x 70" in line for line in report.lines())


def test_the_command_ends_with_0_or_2_and_draws_a_sheet(own, tmp_path, capsys):
    root, source = own
    words = ["check", str(root), "--tags", source.tags, "--sheet", str(tmp_path / "sheet.png")]
    assert main(words) == 0
    drawn = Image.open(tmp_path / "sheet.png")
    assert drawn.width > 800 and len(drawn.getcolors(10**6)) > 1000
    (root / "p3.png").write_bytes(b"nothing")
    assert main(words) == 2
    out, error = capsys.readouterr()
    assert "p3.png: not a readable image" in out and len([line for line in error.splitlines() if line.startswith("dsgc: ")]) == 1
    assert main(["check", str(tmp_path / "none")]) == 2


@pytest.mark.parametrize("name", ["gone/sheet.png", "sheet.exe", "pictures"])
def test_a_sheet_that_cannot_be_written_is_said_first(name, own, tmp_path, capsys):
    assert main(["check", str(own[0]), "--tags", own[1].tags, "--sheet", str(tmp_path / name)]) == 2
    out, error = capsys.readouterr()
    assert out == "" and "sheet" in error and len(error.splitlines()) == 1


def test_a_tag_that_may_be_another_misspelt_is_a_hint(own):
    root, source = own
    tags = Path(source.tags)
    tags.write_text(tags.read_text().replace("p1.png,cat", "p1.png,catt").replace("p0.png,dog", "p0.png,yak"))
    hints = said(check(root, "", "", source).hints)
    assert "tags are nearly alike (1)" in hints and "'catt' and 'cat'" in hints and "misspelt" in hints


def test_the_sheet_is_written_in_a_font_that_has_the_letters(monkeypatch):
    dejavu = Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf")
    monkeypatch.setattr(sheet, "FONTS", ("no-such-font.ttf", str(dejavu)))
    names = {letters: sheet.font_of({*letters}).getname()[0] for letters in ("cat 1", "größe", "electrobús", "gr\u0000")}
    assert names["größe"] == names["electrobús"] == "DejaVu Sans" and names["cat 1"] == names["gr\u0000"] != "DejaVu Sans"
    monkeypatch.setattr(sheet, "FONTS", ())
    assert sheet.font_of({"电"}).getname()[0] == names["cat 1"]
