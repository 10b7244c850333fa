"""Labels of a run, written for a second network: what lies in the folder, in each layout, and what stops it."""

import json
import shutil
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from promises import promise
from pycocotools.coco import COCO
from refusal import lines_of, refused, tree

from dsgc.__main__ import main
from dsgc.data import coco, voc
from dsgc.data.label_files import FOLDERS
from dsgc.data.loading import Images
from dsgc.data.palette import voc_palette
from dsgc.data.split import open_split
from dsgc.methods.labels import enlarged
from dsgc.runs.restore import load_networks
from dsgc.scoring.labelling import Looks, labelled, made, write_labels
from dsgc.training.loop import train


@pytest.fixture(scope="module")
def plain(one_step, tmp_path_factory):
    """The labels of a run's training pictures as it makes them; 12 of them."""
    return write_labels(one_step, tmp_path_factory.mktemp("labels") / "plain", layout="plain", changes={"workers": 0})


def png(path):
    with Image.open(path, formats=["PNG"]) as image:
        return np.array(image)


def ids_of(folder, split="train"):
    return open_split(folder, split).ids


# what is written


def test_labels_are_palette_pngs_of_the_pictures_sizes_with_tagged_classes_only(plain, shapes_folder):
    split = open_split(shapes_folder, "train")
    shown = set()
    for image_id, tags in zip(split.ids, split.tags(), strict=True):
        for folder in ("labels", "before"):
            with Image.open(plain / folder / f"{image_id}.png", formats=["PNG"]) as image:
                assert image.mode == "P" and image.size == split.image(image_id).size
                assert image.getpalette() == voc_palette().ravel().tolist()
                there = {*np.unique(np.asarray(image)).tolist()}
            assert there <= {0, 255, *(np.flatnonzero(tags) + 1).tolist()}
            shown |= there
    assert len(shown - {0, 255}) > 1 and 0 in shown, "a test of labels that show nothing would hold nothing"
    assert sorted(path.name for path in plain.iterdir()) == ["before", "cams", "classes.txt", "confidence", "labels", "labels.json"]
    assert (plain / "classes.txt").read_text().split() == list(split.classes)


def test_cam_and_confidence_are_those_of_the_method(plain, one_step, shapes_folder):
    network, split = load_networks(one_step)[0]["teacher"], open_split(shapes_folder, "train")
    method = load_networks(one_step)[1].config.method
    for image_id, tags in list(zip(split.ids, split.tags(), strict=True))[:3]:
        image = torch.from_numpy(np.array(split.image(image_id))).permute(2, 0, 1)[None].float() / 255
        with torch.no_grad():
            found = method.pseudo(network, image, torch.from_numpy(tags)[None])
        with np.load(plain / f"cams/{image_id}.npz", allow_pickle=False) as kept:
            assert kept["cam"].dtype == np.float16 and kept["cam"].shape == (int(tags.sum()), *image.shape[-2:])
            assert [split.classes[number - 1] for number in kept["labels"]] == kept["classes"].tolist()
            assert kept["labels"].tolist() == (np.flatnonzero(tags) + 1).tolist()
            maps = torch.nn.functional.interpolate(found.maps[:, tags > 0], image.shape[-2:], mode="bilinear")[0].numpy()
            assert np.abs(kept["cam"] - maps).max() < 1e-3
        confidence = enlarged(found.confidence, image.shape[-2:])[0].numpy()
        assert np.abs(png(plain / f"confidence/{image_id}.png") / 255 - confidence).max() <= 0.5 / 255 + 1e-6
        assert (png(plain / f"labels/{image_id}.png") == enlarged(found.labels, image.shape[-2:])[0].numpy()).all()
        assert (png(plain / f"before/{image_id}.png") == enlarged(found.initial, image.shape[-2:])[0].numpy()).all()


def test_the_description_counts_what_is_there_and_says_how_it_was_made(plain, one_step, shapes_folder):
    about = json.loads((plain / "labels.json").read_text())
    labels = np.stack([png(plain / f"labels/{image_id}.png") for image_id in ids_of(shapes_folder)])
    counts, known = about["counts"]["after"], labels != 255
    assert counts["coverage"] == pytest.approx(known.mean())
    for label, name in enumerate(("background", *about["classes"])):
        assert counts["classes"][name] == {"share": pytest.approx((labels == label).sum() / known.sum()),
                                           "images": int((labels == label).any((1, 2)).sum())}  # fmt: skip
    assert about["counts"]["before"] != counts, "what is corrected"
    assert (about["method"], about["network"], about["step"], about["split"]) == ("dsgc", "teacher", 1, "train")
    assert about["images"] == 12 and about["settings"]["label_high"] == 0.5 and about["run"] == str(one_step)


def test_scales_and_mirror_reach_the_cam(one_step):
    network, saved = load_networks(one_step)
    images = torch.rand(1, 3, 48, 64, generator=torch.Generator().manual_seed(1))

    def cam(images, scales, mirror):
        (item,) = made(network["teacher"], images, torch.ones(1, 6), ["a"], Looks(scales, mirror), saved.config)
        return item.cam.astype(float)

    for mirror in (True, False):
        both = cam(images, (1.0, 1.5), mirror), cam(images.flip(-1), (1.0, 1.5), mirror)[..., ::-1]
        assert np.allclose(*both, atol=1e-3) == mirror, "the mirrored image gives the mirrored map"
    assert not np.allclose(cam(images, (1.0,), False), cam(images, (0.5, 1.0), False), atol=1e-2)


def test_a_picture_whose_tags_name_nothing_has_no_cam_and_shows_no_class(one_step):
    network, saved = load_networks(one_step)
    images = torch.rand(2, 3, 40, 33, generator=torch.Generator().manual_seed(1))
    tags = torch.tensor([[0.0] * 6, [0, 1, 0, 0, 1, 0]])
    nothing, two = made(network["teacher"], images, tags, ["a", "b"], Looks(), saved.config)
    assert nothing.cam.shape == (0, 40, 33) and {*np.unique(nothing.labels).tolist()} <= {0, 255}
    assert two.cam.shape == (2, 40, 33) and two.numbers.tolist() == [2, 5] and two.cam.dtype == nothing.cam.dtype == np.float16


def test_no_mask_is_opened_and_the_cams_can_be_left_out(one_step, shapes_copy, tmp_path, plain):
    shutil.rmtree(shapes_copy / "SegmentationClass")
    words = ["labels", one_step, tmp_path / "out", "--data", shapes_copy, "--split", "train", "--no-cams", "--format", "plain"]
    assert main([*map(str, words), "--eval-batch", "5"]) == 0
    assert not (tmp_path / "out/cams").exists()
    for path in (plain / "labels").iterdir():
        assert (png(path) != png(tmp_path / "out/labels" / path.name)).mean() < 1e-3, "five at once differ by rounding alone"


def test_processes_share_the_pictures_out(one_step, shapes_folder, monkeypatch):
    networks, saved = load_networks(one_step)
    split, names = open_split(shapes_folder, "val"), []
    tags = dict(zip(split.ids, split.tags(), strict=True))
    for number in range(3):
        monkeypatch.setattr("dsgc.scoring.labelling.parallel.rank_and_size", lambda number=number: (number, 3))
        names += [item.image_id for item in labelled(networks["teacher"], Images(split), tags, Looks(), saved.config, 1, "cpu")]
    assert sorted(names) == sorted(split.ids)


# layouts


def test_voc_s_layout_goes_in_place_of_the_masks(one_step, shapes_copy, tmp_path, plain):
    out = write_labels(one_step, tmp_path / "out", str(shapes_copy), "train")
    shutil.rmtree(shapes_copy / "SegmentationClass")
    shutil.copytree(out / "SegmentationClass", shapes_copy / "SegmentationClass")
    shutil.copy(out / "ImageSets/Segmentation/train.txt", shapes_copy / "ImageSets/Segmentation/taught.txt")
    split = voc.open_split(shapes_copy, "taught")
    assert split.ids == ids_of(shapes_copy) and (out / "classes.txt").read_text() == (shapes_copy / "classes.txt").read_text()
    for image_id in split.ids:
        assert (np.asarray(split.mask(image_id, split.image(image_id).size)) == png(plain / f"labels/{image_id}.png")).all()


def test_coco_s_layout_has_one_annotation_for_each_class_of_a_picture(one_step, coco_folder, tmp_path, capsys):
    out = write_labels(one_step, tmp_path / "out", str(coco_folder), "train2014", layout="coco", looks=Looks((1.0, 0.5), mirror=True))
    found, split = COCO(str(out / "annotations/instances_train2014.json")), open_split(coco_folder, "train2014")
    assert [row["name"] for row in found.loadCats(found.getCatIds())] == list(split.classes)
    assert [row["file_name"] for row in found.loadImgs(sorted(found.imgs))] == [split.file(image_id).name for image_id in split.ids]
    from pycocotools import mask as codec

    for number, image_id in enumerate(split.ids, 1):
        labels, rows = png(out / f"labels/{image_id}.png"), found.imgToAnns[number]
        assert sorted(row["category_id"] for row in rows) == sorted({*np.unique(labels).tolist()} - {0, 255})
        assert (found.imgs[number]["height"], found.imgs[number]["width"]) == labels.shape
        for row in rows:
            mask = labels == row["category_id"]
            assert (found.annToMask(row) == mask).all() and row["area"] == mask.sum() and row["iscrowd"] == 0
            left, top, width, height = map(int, row["bbox"])
            inside = mask[top : top + height, left : left + width]
            assert inside.sum() == mask.sum() and inside.any(0).all() or inside.any(0)[[0, -1]].all() and inside.any(1)[[0, -1]].all()
        nowhere = codec.decode([found.imgs[number]["unlabelled"]])[..., 0] if "unlabelled" in found.imgs[number] else np.zeros_like(labels)
        assert (nowhere == (labels == 255)).all()
    shutil.copytree(coco_folder / "train2014", out / "train2014")
    again = coco.open_split(out, "train2014")  # our own reader takes it too, of the pictures that show a class
    assert again.classes == split.classes and {*again.ids} <= {*split.ids}
    for image_id in again.ids:
        labels = png(out / f"labels/{image_id}.png")
        assert (np.asarray(again.mask(image_id, labels.shape[::-1])) == np.where(labels == 255, 0, labels)).all()


# stopping and going on


@promise("Bad input", "Where labels cannot be written on, what is done stays, and the same command ends as if it had not been stopped.")
def test_the_same_command_goes_on_and_ends_as_if_it_had_not_been_stopped(one_step, plain, tmp_path, at_call, monkeypatch, capsys):
    words = ["labels", str(one_step), str(tmp_path / "out"), "--format", "plain"]

    def no_room():
        raise OSError(28, "No space left on device")

    at_call(sys.modules["dsgc.data.label_files"], "write_png", 6, no_room)  # the label of the third picture; its other files are there
    assert main(words) == 2
    (said,) = lines_of(capsys.readouterr().err)
    assert f"2 of 12 labels are kept in {tmp_path}/out" in said and "the same command goes on" in said and "No space left" in said
    assert not [path for path in (tmp_path / "out").rglob("*partial*")] and not (tmp_path / "out/labels.json").exists()
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "out/labels").iterdir()}
    monkeypatch.undo()
    for other in (["--mirror"], ["--network", "student"], ["--format", "coco"], ["--split", "val"], ["--no-cams"]):
        refused([*words, *other], capsys, "a part of other labels", "unfinished.json", "choose another folder")
    assert main(words) == 0 and tree(tmp_path / "out") == tree(plain)
    assert kept == {path: path.stat().st_mtime_ns for path in kept}
    refused(words, capsys, "already holds labels", "choose another folder")


def test_where_nothing_is_done_nothing_is_left(one_step, shapes_copy, tmp_path, capsys):
    (shapes_copy / "JPEGImages/train_00000.jpg").write_text("no image")
    words = ["labels", one_step, tmp_path / "a/b", "--data", shapes_copy]
    refused(words, capsys, str(shapes_copy / "JPEGImages/train_00000.jpg"), "not a readable image")
    assert not (tmp_path / "a").exists()


# what cannot be labelled


def test_pictures_without_tags_are_told(one_step, shapes_copy, tmp_path, capsys):
    for path in (shapes_copy / "Annotations").iterdir():
        path.unlink()
    refused(["labels", one_step, tmp_path / "out", "--data", shapes_copy], capsys, "labels are made of tags", "predict")
    refused(["labels", one_step, tmp_path / "out", "--data", shapes_copy / "JPEGImages"], capsys, "labels are made of tags", "predict")
    refused(["labels", one_step, tmp_path / "out", "--data", shapes_copy, "--split", "nowhere"], capsys, "nowhere.txt: no such split")
    assert not (tmp_path / "out").exists()


def test_other_classes_and_folders_in_use_are_told(one_step, shapes_copy, tmp_path, capsys):
    refused(["labels", one_step, shapes_copy], capsys, str(shapes_copy), "already holds", "choose another folder")
    (tmp_path / "file").write_text("")
    refused(["labels", one_step, tmp_path / "file"], capsys, "cannot write here", "choose another folder")
    refused(["labels", one_step, tmp_path / "file/below"], capsys, "cannot write here", "choose another folder")
    text = (shapes_copy / "classes.txt").read_text().split()
    (shapes_copy / "classes.txt").write_text("\n".join([*text[1:], text[0]]))
    refused(["labels", one_step, tmp_path / "out", "--data", shapes_copy], capsys, "its classes are not those", "classes.txt")
    refused(["labels", one_step, tmp_path / "out", "--network", "nobody"], capsys, "has no nobody", "--network")
    assert main(["labels", str(one_step), str(tmp_path / "out"), "--scales", "0"]) == 2
    assert "greater than 0" in capsys.readouterr().err
    refused(["labels", one_step, tmp_path / "out", "--eval-batch", "0"], capsys, "eval_batch 0")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("method", "words", "said"), [("masks", [], "makes no CAM"), ("onestage", ["--mirror"], "leave out --scales")])
def test_a_method_that_cannot_is_told_before_anything_is_written(tiny, tmp_path, capsys, method, words, said):
    run = train(tiny(method, out=str(tmp_path / "run"), steps=1, pictures=0, **({} if method == "masks" else {"warmup_steps": 0})))
    refused(["labels", run, tmp_path / "out", *words], capsys, f"method {method}", said)
    assert not (tmp_path / "out").exists()


def test_every_layout_has_a_folder_for_its_labels():
    assert FOLDERS.keys() == {"voc", "coco", "plain"}
