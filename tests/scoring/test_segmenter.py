"""The package as a library: it gives what `predict` writes, of whatever a caller hands over, from several threads too."""

import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image
from refusal import refused

import dsgc
from dsgc import methods
from dsgc.__main__ import main
from dsgc.data import shapes
from dsgc.errors import UserError
from dsgc.methods.contract import Method
from dsgc.network.build import build_network
from dsgc.scoring.segmenter import Segmenter, device_of

SIZES = {"square": (64, 64), "odd": (50, 71), "small": (5, 9)}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Smooth pictures of several sizes in a folder."""
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for name, size in SIZES.items():
        coarse = Image.fromarray(rng.integers(0, 255, (6, 6, 3), dtype=np.uint8))
        coarse.resize(size, Image.Resampling.BICUBIC).save(folder / f"{name}.png")
    return folder


@pytest.fixture(scope="module")
def model(one_step):
    return dsgc.load(one_step)


WAYS = {
    "plain": ({}, []),
    "scales and mirror": ({"scales": (0.75, 1.5), "mirror": True}, ["--scales", "0.75", "1.5", "--mirror"]),
    "a protocol": ({"protocol": "published-no-crf"}, ["--protocol", "published-no-crf"]),
}


@pytest.mark.parametrize("way", WAYS)
def test_it_gives_the_file_that_predict_writes(way, model, one_step, pictures, tmp_path):
    how, words = WAYS[way]
    assert main(["predict", str(one_step), str(tmp_path / "out"), "--data", str(pictures), *words]) == 0
    for path in pictures.iterdir():
        model.segment(path, **how).picture().save(tmp_path / "mine.png")
        assert (tmp_path / "mine.png").read_bytes() == (tmp_path / f"out/{path.name}").read_bytes()


def test_with_the_crf_too(model, one_step, pictures, tmp_path):
    pytest.importorskip("pydensecrf.densecrf")
    assert main(["predict", str(one_step), str(tmp_path / "out"), "--data", str(pictures), "--crf"]) == 0
    found = model.segment(pictures / "odd.png", crf=True)
    assert (found.labels == np.asarray(Image.open(tmp_path / "out/odd.png"))).all()


def test_labels_are_the_most_probable_classes_and_have_names(model, pictures):
    found = model.segment(pictures / "odd.png")
    assert found.classes == ("background", *(kind.name for kind in shapes.KINDS)) == model.classes
    assert found.labels.shape == (71, 50) and found.labels.dtype == np.uint8
    assert found.probabilities.shape == (7, 71, 50) and found.probabilities.dtype == np.float32
    assert np.allclose(found.probabilities.sum(0), 1, atol=1e-5) and (found.probabilities.argmax(0) == found.labels).all()
    assert sum(found.shares().values()) == pytest.approx(1) and set(found.shares()) <= set(found.classes)


def test_the_other_network_is_the_other_one(model, one_step, pictures):
    one, other = (dsgc.load(one_step, network=name).segment(pictures / "odd.png") for name in ("teacher", "student"))
    mine = model.segment(pictures / "odd.png")
    assert (one.probabilities == mine.probabilities).all() and not (other.probabilities == mine.probabilities).all()


def test_threads_share_a_network_and_get_what_one_alone_gets(model, pictures):
    paths = [path for path in sorted(pictures.iterdir()) for _ in range(4)]
    alone = [(model.segment(path).probabilities, model.tags(path)) for path in paths]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda path: (model.segment(path).probabilities, model.tags(path)), paths))
    assert all((one == other).all() and tags == those for (one, tags), (other, those) in zip(alone, together, strict=True))


def test_no_gradient_is_kept_and_the_network_is_in_evaluation_mode(model, pictures):
    model.segment(pictures / "odd.png")
    assert not model.network.training and not any(value.requires_grad for value in model.network.parameters())
    assert torch.is_grad_enabled()


# class activation maps


def test_weights_of_the_package_segment_a_folder_without_more_words(pictures, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(shutil.copytree(pictures, tmp_path / "photos"))
    for words, place in ((["predict", "shapes", str(tmp_path / "photos")], "photos_masks"), (["predict", "shapes", "."], None)):
        if place is None:
            refused(words, capsys, "photos_masks", "already holds predictions")
        else:
            assert main(words) == 0 and "photos_masks" in capsys.readouterr().out
    segmenter = dsgc.load("shapes")
    for path in (tmp_path / "photos").iterdir():
        assert (np.asarray(Image.open(tmp_path / "photos_masks" / f"{path.stem}.png")) == segmenter.segment(path).labels).all()


@pytest.fixture(scope="module")
def of_method(tiny):
    """`of_method(name)`: a network of a method with random weights, as a library has it."""

    def make(name):
        torch.manual_seed(1)
        config = tiny(name)
        return Segmenter(build_network(config, 6)[0], [kind.name for kind in shapes.KINDS], config, torch.device("cpu"))

    return make


@pytest.mark.parametrize("name", methods.names())
def test_every_method_gives_its_cam_or_says_that_it_has_none(name, of_method, pictures):
    model, path = of_method(name), pictures / "odd.png"
    if type(model.config.method).activation is Method.activation:
        for call in (lambda: model.cam(path, ["star"]), lambda: model.tags(path)):
            with pytest.raises(UserError, match=f"method {name}: has no class activation map"):
                call()
        return
    maps = model.cam(path, ["star", "melon"])
    assert list(maps) == ["star", "melon"]
    assert all(map.shape == (71, 50) and map.dtype == np.float32 and 0 <= map.min() <= map.max() <= 1 for map in maps.values())


def test_a_cam_is_the_method_s_own_over_scales(model, pictures):
    image = torch.from_numpy(np.array(Image.open(pictures / "square.png"))).permute(2, 0, 1)[None] / 255
    with torch.no_grad():
        expected = model.config.method.activation(model.network, image, (1.0, 1.5), mirror=True)[0].numpy()
    maps = model.cam(pictures / "square.png", model.classes[1:], scales=(1.0, 1.5), mirror=True)
    assert all(np.allclose(maps[name], expected[number], atol=1e-6) for number, name in enumerate(model.classes[1:]))


def test_without_tags_those_are_taken_that_are_more_probable_than_not(model, pictures, monkeypatch):
    assert list(model.tags(pictures / "odd.png")) == list(model.classes[1:])
    monkeypatch.setattr(Segmenter, "tags", lambda *_: {"star": 0.6, "moon": 0.4})
    assert list(model.cam(pictures / "odd.png")) == ["star"]


# what cannot be


REFUSED = {
    "a class that there is not": (lambda model: model.cam(np.zeros((9, 9, 3), np.uint8), ["dog"]), "'dog' is no class of this run"),
    "a word for tags": (lambda model: model.cam(np.zeros((9, 9, 3), np.uint8), "star"), r"give a list of classes, \['star'\]"),
    "no picture": (lambda model: model.segment(None), "type NoneType"),
    "no scale": (lambda model: model.segment(np.zeros((9, 9, 3), np.uint8), scales=()), "one or more factors"),
    "a scale of 0": (lambda model: model.segment(np.zeros((9, 9, 3), np.uint8), scales=0), "greater than 0"),
    "a scale in words": (lambda model: model.cam(np.zeros((9, 9, 3), np.uint8), scales="one"), "one or more factors"),
    "a protocol that there is not": (lambda model: model.segment(np.zeros((9, 9, 3), np.uint8), protocol="ToCo"), "there are ours"),
    "a protocol and more": (lambda model: model.segment(np.zeros((9, 9, 3), np.uint8), protocol="ours", mirror=True), "without"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_is_refused_in_one_line(name, model):
    call, said = REFUSED[name]
    with pytest.raises(UserError, match=said) as caught:
        call(model)
    assert "\n" not in str(caught.value)


def test_a_run_a_network_and_a_device_that_are_not_there_are_named(one_step, tmp_path):
    with pytest.raises(UserError, match=r"mars: no checkpoint here, nor weights of this name in the package \(.*shapes"):
        dsgc.load("mars")
    with pytest.raises(UserError, match="has no mars, only a teacher and a student|has no mars, only a student and a teacher"):
        dsgc.load(one_step, network="mars")
    with pytest.raises(UserError, match="device 'mars': not here"):
        dsgc.load(one_step, device="mars")
    with pytest.raises(UserError, match="no checkpoint here"):
        dsgc.load(tmp_path)
    assert device_of("cpu").type == "cpu"


def test_where_memory_runs_out_the_picture_is_named(model, pictures, monkeypatch):
    def no_memory(*_):
        raise RuntimeError("CUDA out of memory")

    monkeypatch.setattr("dsgc.scoring.segmenter.probabilities", no_memory)
    with pytest.raises(UserError, match=r"odd.png \(50 x 71\): cannot be segmented.*memory"):
        model.segment(pictures / "odd.png")


def test_importing_the_package_loads_no_library():
    code = "import sys, dsgc; dsgc.load; sys.exit(bool({'torch', 'timm', 'numpy', 'PIL'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
