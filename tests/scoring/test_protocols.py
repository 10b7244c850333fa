"""Each protocol is held against a plain loop in float64: one image, one look, one scale after another, on images of odd sizes."""

import copy
import json
import shutil
import sys
import typing

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from looks import CROP, cam, cam_labels, head, mean_iou, softmax
from PIL import Image
from refusal import refused, refused_by_both

from dsgc.__main__ import main
from dsgc.data.loading import EvalImages
from dsgc.data.split import open_split
from dsgc.errors import UserError
from dsgc.methods import labels
from dsgc.runs.restore import load_networks
from dsgc.scoring import crf, protocols
from dsgc.scoring.evaluate import score_run
from dsgc.scoring.predict import TestTime, located, predict, probabilities, score, segmented
from dsgc.scoring.protocols import protocol
from dsgc.training.loop import train

TestTime.__test__ = False  # no test, though its name begins like one
SIZES = [(71, 53), (96, 61), (50, 101), (64, 48)]  # width, height
NAMES = typing.get_args(protocols.Name)
WITHOUT_CRF = [name for name in NAMES if name not in ("published", "published-coco")]


@pytest.fixture(scope="module")
def odd(shapes_folder, tmp_path_factory):
    """The data set with validation images of odd sizes."""
    folder = shutil.copytree(shapes_folder, tmp_path_factory.mktemp("odd") / "shapes")
    for number, size in enumerate(SIZES):
        picture, mask = f"JPEGImages/val_{number:05d}.jpg", f"SegmentationClass/val_{number:05d}.png"
        for path, how in ((picture, Image.BILINEAR), (mask, Image.NEAREST)):
            with Image.open(folder / path) as image:
                image.resize(size, how).save(folder / path)
    return folder


@pytest.fixture(scope="module")
def run(tiny, odd, tmp_path_factory):
    changes = {"data": str(odd), "steps": 6, "warmup_steps": 3, "pictures": 0}
    return train(tiny(out=str(tmp_path_factory.mktemp("run") / "run"), **changes))


@pytest.fixture(scope="module")
def items(odd):
    dataset = EvalImages(open_split(odd, "val"))
    return [dataset[number] for number in range(len(dataset))]


def crops(items):
    """The images as `training` sees them: (4, 3, CROP, CROP)."""
    return torch.cat([F.interpolate(item.image[None] / 255, (CROP, CROP), mode="bilinear") for item in items])


@pytest.fixture(scope="module")
def network(run, items):
    """With a decoder that is surer of its classes than six steps make it, so that no two rules give the same, and a class that is
    seen everywhere, so that its map has a minimum to take off."""
    network = load_networks(run)[0]["student"]
    with torch.no_grad():
        network.decoder[-1].weight.mul_(30)
        seen = network(crops(items)).tokens.permute(0, 2, 3, 1).flatten(0, 2)
        network.patch_classifier.weight[0] = torch.linalg.solve(seen.T @ seen + 3 * torch.eye(seen.shape[1]), seen.sum(0))
    return network


@pytest.fixture(scope="module")
def exact(network):
    return copy.deepcopy(network).double()


# head and CAM of each protocol


@pytest.mark.parametrize("name", WITHOUT_CRF)
def test_probabilities_are_those_of_the_plain_loop(name, network, exact, items):
    for item in items:
        found = probabilities(network, item.image / 255, protocol(name, CROP)).numpy()
        expected = softmax(head(name, exact, item.image.numpy() / 255))
        assert found.shape == expected.shape and abs(found - expected).max() < 2e-5


def test_no_two_rules_give_the_same(exact, items):
    """Else the test above could not tell them apart."""
    picture = items[0].image.numpy() / 255
    found = [softmax(head(name, exact, picture)) for name in ("ours", "single", "training", "published", "published-coco")]
    assert min(abs(one - other).max() for n, one in enumerate(found) for other in found[:n]) > 1e-2


@pytest.mark.parametrize("name", ["single", "training", "published", "training-coco"])
def test_maps_are_those_of_the_plain_loop(name, network, exact, items):
    for item in items:
        how = protocol(name, CROP).cam
        images = item.image[None] / 255
        images = F.interpolate(images, (how.square,) * 2, mode="bilinear") if how.square else images
        found = labels.activation_over_scales(network, images, how.scales, mirror=how.mirror, subtract_minimum=True)
        expected = cam(name, exact, item.image.numpy() / 255)
        found = F.interpolate(found, item.image.shape[1:], mode="bilinear")[0].numpy()
        assert found.max() > 0.9 and abs(found - expected).max() < 2e-4


@pytest.mark.parametrize("name", WITHOUT_CRF)
@pytest.mark.parametrize("of", ["teacher", "student"])
def test_scores_are_those_of_the_plain_loop(name, of, run, items):
    networks, saved = load_networks(run)
    exact, scores = networks[of].double(), score(run, None, None, name, names=(of,))
    assert scores["protocol"] == name and scores["images"] == 4 and {"teacher", "student"} & scores.keys() == {of}
    seg = [(item.mask.numpy(), head(name, exact, item.image.numpy() / 255).argmax(0)) for item in items]
    maps = [(item.mask.numpy(), cam_labels(name, exact, item, saved.config.background_threshold)) for item in items]
    assert scores[of]["seg"]["miou"] == pytest.approx(mean_iou(seg), abs=2e-4)
    assert scores[of]["cam"]["miou"] == pytest.approx(mean_iou(maps), abs=2e-4)


@pytest.mark.parametrize("name", ["published", "published-coco"])
def test_the_crf_gets_image_and_softmax_of_the_merged_logits(name, network, exact, items, odd, monkeypatch):
    given = []
    monkeypatch.setattr(crf, "sharpened", lambda stream, workers: given.extend(stream) or [])
    assert not list(segmented(network, EvalImages(open_split(odd, "val")), protocol(name, CROP), workers=0, device="cpu"))
    assert [image_id for image_id, _, _ in given] == [item.image_id for item in items]
    for item, (_, image, found) in zip(items, given, strict=True):
        assert (image == item.image.permute(1, 2, 0).numpy()).all()
        assert abs(found - softmax(head(name, exact, item.image.numpy() / 255))).max() < 2e-5


@pytest.mark.parametrize("name", ["published", "published-coco"])
def test_the_published_score_is_the_one_after_the_crf(name, run, items):
    pytest.importorskip("pydensecrf.densecrf")
    exact, scores = load_networks(run)[0]["teacher"].double(), score(run, None, None, name, names=("teacher",))
    sharp = []
    for item in items:
        found = softmax(head(name, exact, item.image.numpy() / 255))
        sharp.append((item.mask.numpy(), crf.sharpen(item.image.permute(1, 2, 0).numpy(), found)))
    assert scores["teacher"]["seg"]["miou"] == pytest.approx(mean_iou(sharp), abs=2e-3)
    without = score(run, None, None, f"{name}-no-crf", names=("teacher",))
    assert scores["teacher"]["cam"] == without["teacher"]["cam"] and scores["teacher"]["seg"] != without["teacher"]["seg"]


# what follows from the definitions


def test_an_image_of_whole_patches_is_seen_alike_by_ours_and_single_and_one_of_the_crop_s_size_by_training(network):
    image = torch.rand(3, 48, 64, generator=torch.Generator().manual_seed(0))
    single = probabilities(network, image, protocol("single", CROP))
    torch.testing.assert_close(single, probabilities(network, image, protocol("ours", CROP)), atol=1e-5, rtol=0)
    crop = image[:, :CROP, :CROP]
    training = probabilities(network, crop, protocol("training", CROP))
    torch.testing.assert_close(training, probabilities(network, crop, protocol("single", CROP)), atol=1e-5, rtol=0)


def test_with_the_mirror_the_mirrored_image_has_the_mirrored_maps(network):
    images = torch.rand(2, 3, 40, 48, generator=torch.Generator().manual_seed(1))
    for mirror in (True, False):
        one, other = (
            labels.activation_over_scales(network, each, (1.0, 0.5), mirror=mirror, subtract_minimum=True)
            for each in (images, images.flip(-1))
        )
        assert torch.allclose(one, other.flip(-1), atol=1e-4) == mirror
    assert one.shape == (2, 6, 40, 48) and one.amin() == 0


def test_the_minimum_is_taken_off_on_request(network, items):
    images = crops(items)
    off, on = (labels.activation_over_scales(network, images, (1.0,), mirror=False, subtract_minimum=each) for each in (True, False))
    low = on.amin((-2, -1), keepdim=True)
    assert (low[:, 0] > 0.05).all()
    torch.testing.assert_close(off, (on - low) / (on - low).amax((-2, -1), keepdim=True).clamp_min(1e-9), atol=1e-5, rtol=0)


def test_an_image_smaller_than_a_patch_is_looked_at(network):
    image = torch.rand(3, 5, 20, generator=torch.Generator().manual_seed(3))
    for name in WITHOUT_CRF:
        assert probabilities(network, image, protocol(name, CROP)).shape[1:] == (5, 20)


# the names, the command line and what is refused


def test_a_method_without_a_cam_has_a_segmentation_alone(tiny, odd, tmp_path):
    alone = train(tiny("masks", data=str(odd), out=str(tmp_path / "run"), steps=1, pictures=0))
    networks, saved = load_networks(alone)
    assert not list(located(networks["network"], EvalImages(open_split(odd, "val")), protocol("training", CROP), saved.config, "cpu"))
    assert score(alone, None, None, "training")["network"].keys() == {"seg"}


def test_the_command_line_scores_and_predicts_by_name(run, odd, tmp_path, capsys):
    for name in ("training", "ours"):
        assert main(["evaluate", str(run), "--protocol", name, "--network", "student", "--out", str(tmp_path / "s.json")]) == 0
        written = json.loads((tmp_path / "s.json").read_text())
        assert written == json.loads(json.dumps(score(run, None, None, name, names=("student",))))
    assert written == score_run(run, names=("student",)) | {"protocol": "ours"} and "teacher" not in written
    words = ["--split", "val", "--protocol", "published-no-crf", "--network", "student"]
    assert main(["predict", str(run), str(tmp_path / "p"), *words]) == 0
    student, val = load_networks(run)[0]["student"], EvalImages(open_split(odd, "val"))
    expected = dict(segmented(student, val, protocol("published-no-crf", CROP), workers=0, device="cpu"))
    written = {path.stem: np.asarray(Image.open(path)) for path in (tmp_path / "p").rglob("*.png")}
    assert written.keys() == expected.keys() and all((written[name] == expected[name]).all() for name in written)


def test_every_name_is_a_protocol_and_says_what_it_is():
    assert len({protocol(name, 448) for name in NAMES}) == len(NAMES)
    assert protocol("training", 448).square == protocol("published", 448).cam.square == 448
    assert all(f"`{name}`" in protocol.__doc__ for name in NAMES if not name.endswith("-no-crf"))


@pytest.mark.parametrize("words", [["--scales", "1"], ["--scales", "1", "1.5"], ["--mirror"], ["--crf"]])
def test_a_protocol_with_settings_of_one_s_own_is_refused(one_step, tmp_path, capsys, words):
    for command in (["evaluate", one_step], ["predict", one_step, tmp_path / "out"]):
        refused([*command, "--protocol", "training", *words], capsys, "protocol training", "without --scales, --mirror and --crf")
    assert not (tmp_path / "out").exists()


def test_a_name_that_is_none_is_refused(one_step, tmp_path, capsys):
    refused(["evaluate", one_step, "--protocol", "ToCo"], capsys, "--protocol", "published-no-crf")
    for call in (lambda: score(one_step, None, None, "ToCo"), lambda: predict(one_step, tmp_path / "out", None, "val", "ToCo")):
        with pytest.raises(UserError, match="protocol 'ToCo': unknown; there are ours, single"):
            call()


def test_a_network_that_a_run_does_not_have_is_refused(one_step, tmp_path, capsys):
    for words, call in (
        (["--protocol", "training"], lambda: score(one_step, None, None, "training", names=("best",))),
        ([], lambda: score_run(one_step, names=("best",))),
    ):
        refused_by_both(["evaluate", one_step, "--network", "best", *words], call, tmp_path, capsys, "has no best", "--network")


def test_published_without_its_package_says_which_name_needs_none(one_step, capsys, monkeypatch):
    for name in ("pydensecrf", "pydensecrf.densecrf"):
        monkeypatch.setitem(sys.modules, name, None)
    refused(["evaluate", one_step, "--protocol", "published"], capsys, "pydensecrf2: not installed", "leave the CRF off")
    assert main(["evaluate", str(one_step), "--protocol", "published-no-crf"]) == 0
