"""Segmentation at test time: several scales and mirror images, the CRF, the PNGs for VOC's server, no image counted twice."""

import dataclasses
import json
import shutil
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from refusal import refused

from dsgc.__main__ import main
from dsgc.data.loading import EvalImages, Images
from dsgc.data.palette import voc_palette
from dsgc.data.split import open_split
from dsgc.data.voc import open_images
from dsgc.errors import UserError
from dsgc.runs.restore import load_networks
from dsgc.scoring import crf, looks
from dsgc.scoring.evaluate import score_run
from dsgc.scoring.predict import SERVER, TestTime, predict, probabilities, score, segmented
from dsgc.training.loop import train

TestTime.__test__ = False  # no test, though its name begins like one


@pytest.fixture(scope="module")
def run(tiny, tmp_path_factory):
    return train(tiny(out=str(tmp_path_factory.mktemp("run") / "run"), steps=6, warmup_steps=3, pictures=0))


@pytest.fixture(scope="module")
def network(run):
    return load_networks(run)[0]["teacher"]


def test_the_plain_prediction_scores_as_evaluation_does(run):
    mine, theirs = score(run, None, None, TestTime()), score_run(run)
    assert mine["images"] == theirs["images"]
    assert mine["teacher"]["seg"]["miou"] == pytest.approx(theirs["teacher"]["seg"]["miou"], abs=1e-3)


@pytest.mark.parametrize("size", [(64, 64), (50, 70), (33, 20)])
def test_probabilities_have_the_image_s_size_and_add_up_to_one(network, size):
    image = torch.rand(3, *size, generator=torch.Generator().manual_seed(0))
    found = probabilities(network, image, TestTime((0.5, 1.0, 1.7), mirror=True))
    assert found.shape[1:] == size and found.min() >= 0
    torch.testing.assert_close(found.sum(0), torch.ones(size), atol=1e-5, rtol=0)


def test_with_the_mirror_the_mirrored_image_gives_the_mirrored_result(network):
    image = torch.rand(3, 48, 48, generator=torch.Generator().manual_seed(1))
    for mirror, same in ((True, True), (False, False)):
        how = TestTime((1.0, 1.5), mirror)
        one, other = probabilities(network, image, how), probabilities(network, image.flip(-1), how).flip(-1)
        assert torch.allclose(one, other, atol=1e-5) == same


def test_several_scales_are_the_mean_of_each(network):
    image = torch.rand(3, 48, 64, generator=torch.Generator().manual_seed(2))
    each = [probabilities(network, image, TestTime((scale,))) for scale in (0.75, 1.0, 1.5)]
    torch.testing.assert_close(probabilities(network, image, TestTime((0.75, 1.0, 1.5))), sum(each) / 3)


# the CRF


def edge():
    """An image whose left half is dark, and probabilities whose boundary lies four pixels off that edge, and are noisy."""
    image = np.full((40, 40, 3), 30, np.uint8)
    image[:, 20:] = 220
    rng = np.random.default_rng(0)
    right = np.where(np.arange(40) >= 24, 0.75, 0.25) + rng.uniform(-0.3, 0.2, (40, 40))
    return image, np.stack([1 - right.clip(0, 1), right.clip(0, 1)]).astype(np.float32)


def test_the_crf_moves_labels_to_the_edges_of_the_image():
    pytest.importorskip("pydensecrf.densecrf")
    image, found = edge()
    before, after = found.argmax(0), crf.sharpen(image, found)
    truth = np.arange(40) >= 20
    assert after.dtype == np.uint8 and after.shape == (40, 40)
    assert (after == truth).mean() > (before == truth).mean() + 0.05


def test_the_stream_keeps_the_order_and_holds_few_images_at_a_time():
    pytest.importorskip("pydensecrf.densecrf")
    image, found = edge()
    taken = []

    def items():
        for number in range(9):
            taken.append(number)
            yield str(number), image, found

    names = []
    for name, labels in crf.sharpened(items(), workers=1):
        names.append(name)
        assert len(taken) <= len(names) + 2 and (labels == crf.sharpen(image, found.astype(np.float16))).all()
    assert names == [str(number) for number in range(9)]


def test_without_the_package_one_line_says_what_to_install(monkeypatch, run, capsys):
    monkeypatch.setitem(sys.modules, "pydensecrf.densecrf", None)
    monkeypatch.setitem(sys.modules, "pydensecrf", None)
    with pytest.raises(UserError, match="pip install pydensecrf2"):
        crf.available()
    assert main(["evaluate", str(run), "--crf"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "pydensecrf2: not installed" in line


# the command


def test_predict_writes_palette_pngs_where_the_server_looks_and_needs_no_annotation(run, shapes_copy, tmp_path):
    for folder in ("Annotations", "SegmentationClass"):
        for path in (shapes_copy / folder).iterdir():
            path.unlink()
    (shapes_copy / "ImageSets/Segmentation/test.txt").write_text("val_00001\nval_00000\n")
    out = predict(run, tmp_path / "out", str(shapes_copy), "test", TestTime())
    assert out == tmp_path / "out" / SERVER / "comp6_test_cls"
    assert sorted(path.name for path in out.iterdir()) == ["val_00000.png", "val_00001.png"]
    with Image.open(out / "val_00000.png") as image, Image.open(shapes_copy / "JPEGImages/val_00000.jpg") as picture:
        assert image.mode == "P" and image.size == picture.size
        assert image.getpalette() == voc_palette().ravel().tolist()
        assert np.asarray(image).max() <= 6
    with pytest.raises(UserError, match="already holds predictions"):
        predict(run, tmp_path / "out", str(shapes_copy), "test", TestTime())


def test_predict_takes_the_images_of_coco_s_layout_and_any_folder_of_pictures(run, shapes_folder, tmp_path):
    pictures = tmp_path / "coco/test2014"
    pictures.mkdir(parents=True)
    for image_id, name in (("val_00000", "b.JPG"), ("val_00001", "a.jpeg")):
        shutil.copy(shapes_folder / f"JPEGImages/{image_id}.jpg", pictures / name)
    (pictures / "notes.txt").write_text("no picture")
    out = predict(run, tmp_path / "out", str(tmp_path / "coco"), "test2014", TestTime())
    assert out == tmp_path / "out" and sorted(path.name for path in out.iterdir()) == ["a.png", "b.png"]
    again = predict(run, tmp_path / "again", str(pictures), "test", TestTime())
    assert {path.name: path.read_bytes() for path in out.iterdir()} == {path.name: path.read_bytes() for path in again.iterdir()}
    as_voc = predict(run, tmp_path / "voc", str(shapes_folder), "val", TestTime())
    assert (as_voc / "val_00000.png").read_bytes() == (out / "b.png").read_bytes()


@pytest.mark.parametrize(
    ("names", "said"), [((), "no pictures here"), (("a.jpg", "a.png"), "has the same id"), (None, "no such folder")]
)
def test_a_folder_without_pictures_of_their_own_names_is_refused(run, tmp_path, names, said):
    if names is not None:
        (tmp_path / "pictures").mkdir()
        for name in names:
            Image.new("RGB", (32, 32)).save(tmp_path / "pictures" / name)
    with pytest.raises(UserError, match=said):
        predict(run, tmp_path / "out", str(tmp_path / "pictures"), "test", TestTime())
    assert not (tmp_path / "out").exists()


def test_the_command_line_predicts_and_scores(run, tmp_path, capsys):
    assert main(["predict", str(run), str(tmp_path / "p"), "--split", "val", "--scales", "1", "0.5", "--mirror"]) == 0
    assert str(SERVER) in capsys.readouterr().out
    assert main(["evaluate", str(run), "--mirror", "--out", str(tmp_path / "s.json")]) == 0
    scores = json.loads((tmp_path / "s.json").read_text())
    assert scores["test_time"] == dataclasses.asdict(TestTime(mirror=True)) | {"scales": [1.0]} and "protocol" not in scores
    assert scores["teacher"]["seg"]["miou"] is not None and "cam" not in scores["teacher"]


@pytest.mark.parametrize(("words", "said"), [(["--scales", "0"], "greater than 0"), (["--scales", "9"], "at most 8")])
def test_a_wrong_scale_is_refused(run, capsys, words, said):
    assert main(["evaluate", str(run), *words]) == 2
    assert said in capsys.readouterr().err


def test_an_image_that_is_missing_is_named(run, shapes_copy, tmp_path):
    (shapes_copy / "JPEGImages/val_00001.jpg").unlink()
    with pytest.raises(UserError, match=r"val_00001\.jpg: missing"):
        predict(run, tmp_path / "out", str(shapes_copy), "val", TestTime())


# several processes


def test_processes_share_the_images_out_and_none_comes_twice(network, shapes_folder, monkeypatch):
    dataset = EvalImages(open_split(shapes_folder, "val"))
    names = []
    for number in range(3):
        monkeypatch.setattr("dsgc.scoring.predict.parallel.rank_and_size", lambda number=number: (number, 3))
        part = [name for name, _ in segmented(network, dataset, TestTime(), workers=0, device="cpu")]
        assert abs(len(part) - len(dataset) / 3) < 1
        names += part
    assert sorted(names) == sorted(dataset.folder.ids)


def test_images_alone_are_the_same_images(shapes_folder):
    alone, full = Images(open_images(shapes_folder, "val")), EvalImages(open_split(shapes_folder, "val"))
    assert len(alone) == len(full)
    assert alone[1].image_id == full[1].image_id and torch.equal(alone[1].image, full[1].image)


def test_scores_do_not_depend_on_the_order_of_scales(run):
    one, other = (score(run, None, None, TestTime(scales))["teacher"]["seg"] for scales in ((1.0, 1.5), (1.5, 1.0)))
    assert one["miou"] == pytest.approx(other["miou"], abs=1e-6)


# one of two networks


def test_at_test_time_both_networks_are_scored(run):
    both, plain = score(run, None, None, TestTime()), score_run(run)
    for network in ("teacher", "student"):
        assert both[network]["seg"]["miou"] == pytest.approx(plain[network]["seg"]["miou"], abs=1e-3)
    assert both["teacher"] != both["student"] and both["images"] == 4
    alone = score(run, None, None, TestTime(), names=("student",))
    assert alone["student"] == both["student"] and "teacher" not in alone


def test_either_network_can_predict(run, shapes_folder, tmp_path, capsys):
    for network in ("teacher", "student"):
        assert main(["predict", str(run), str(tmp_path / network), "--split", "val", "--network", network]) == 0
        genuine, val = load_networks(run)[0][network], EvalImages(open_split(shapes_folder, "val"))
        expected = dict(segmented(genuine, val, TestTime(), workers=0, device="cpu"))
        for path in (tmp_path / network).rglob("*.png"):
            with Image.open(path, formats=["PNG"]) as image:
                assert (np.asarray(image) == expected[path.stem]).all()


@pytest.mark.parametrize(("method", "changes", "network"), [("dsgc", {"distillation": False}, "teacher"), ("masks", {}, "network")])
def test_a_student_that_a_run_does_not_have_is_one_line(tiny, tmp_path, capsys, method, changes, network):
    start = {} if method == "masks" else {"warmup_steps": 0}
    alone = train(tiny(method, out=str(tmp_path / "run"), steps=1, pictures=0, **start, **changes))
    refused(["predict", alone, tmp_path / "out", "--split", "val", "--network", "student"], capsys, "has no student", "--network")
    assert not (tmp_path / "out").exists() and score(alone, None, None, TestTime()).keys() == {
        network, "images", "list", "masks", "test_time",
    }  # fmt: skip


def test_pictures_of_very_many_patches_are_told_of_once_with_a_remedy(run, shapes_folder, tmp_path, monkeypatch, capsys):
    assert looks.heavy("a", (7000, 9000), 16) == (
        "a (9000 x 7000): 246,094 patches see each other, which may take long (twice the side, up to 16 times); "
        "scale such pictures down, or look at them smaller: --scales 0.12"
    )
    assert not looks.heavy("a", (700, 900), 16) and not looks.heavy("a", (7000, 9000), 16, (0.12,))
    assert looks.heavy("a", (2000, 1500), 16, (1.0, 2.0)) and not looks.heavy("a", (2000, 1500), 16)
    monkeypatch.setattr(looks, "MANY", 1)
    words = ["--data", str(shapes_folder), "--split", "val", "--workers", "0"]
    for command in ("predict", "labels"):
        assert main([command, str(run), str(tmp_path / command), *words]) == 0
        assert capsys.readouterr().err.count("patches see each other") == 1
