"""A trained network as one file: it is the run to the last bit, names no folder of this machine, and is refused unless it is as written."""

import json

import numpy as np
import pytest
import torch
from promises import promise
from refusal import refused, refused_by_both
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from dsgc.__main__ import main
from dsgc.errors import UserError
from dsgc.network.build import build_network
from dsgc.runs import checkpoint, exported
from dsgc.runs.restore import load_networks
from dsgc.scoring.evaluate import score_run
from dsgc.scoring.predict import predict
from dsgc.scoring.protocols import TestTime
from dsgc.scoring.segmenter import export

TestTime.__test__ = False  # no test, though its name begins like one


@pytest.fixture
def file(one_step, tmp_path):
    """A file of the run's reported network that a test may damage."""
    export(one_step, tmp_path / "net.safetensors")
    return tmp_path / "net.safetensors"


def test_a_file_is_the_network_to_the_last_bit(file, one_step):
    networks, saved = load_networks(file)
    whole, expected = load_networks(one_step)
    assert list(networks) == ["teacher"] and saved.classes == expected.classes and saved.step == expected.step
    assert saved.config.method == expected.config.method and saved.images == expected.images
    assert all(torch.equal(value, whole["teacher"].state_dict()[name]) for name, value in networks["teacher"].state_dict().items())
    assert not networks["teacher"].training


def test_predict_and_evaluate_take_a_file_as_they_take_a_run(file, one_step, tmp_path, shapes_folder):
    data = str(shapes_folder)  # of which the file keeps the name alone
    for run, out in ((one_step, "a"), (file, "b")):
        assert main(["predict", str(run), str(tmp_path / out), "--data", data, "--split", "val"]) == 0
    one, other = ({path.name: path.read_bytes() for path in (tmp_path / out).rglob("*.png")} for out in "ab")
    assert one == other and len(one) == 4
    assert score_run(file, data) == score_run(one_step, names=("teacher",))


def test_the_same_network_gives_the_same_bytes_that_all_may_read(file, one_step):
    export(one_step, file.with_name("again.safetensors"))
    assert file.read_bytes() == file.with_name("again.safetensors").read_bytes()
    plain = file.with_name("plain")
    plain.touch()
    assert file.stat().st_mode == plain.stat().st_mode


def test_the_command_writes_it_and_the_other_network_in_half_the_space(file, one_step, capsys):
    half = file.with_name("half.safetensors")
    assert main(["export", str(one_step), str(half), "--network", "student", "--half"]) == 0
    assert capsys.readouterr().out.strip() == str(half) and half.stat().st_size < 0.6 * file.stat().st_size
    networks, _ = load_networks(half)
    student = load_networks(one_step)[0]["student"].state_dict()
    for name, value in networks["student"].state_dict().items():
        assert value.dtype == torch.float32 and torch.equal(value, student[name].half().float())


def test_no_folder_of_this_machine_is_in_it(file, one_step, shapes_folder):
    with safe_open(file, "pt") as opened:
        config = json.loads(opened.metadata()[exported.KEY])["config"]
    assert config["data"] == shapes_folder.name and config["out"] == one_step.name and config["weights"] == "none"
    assert str(shapes_folder).encode() not in file.read_bytes() and str(one_step).encode() not in file.read_bytes()
    assert exported._last("data/shapes") == "data/shapes" and exported._last("C:\\Users\\me\\data") == "data"


def test_training_starts_from_a_file(file, tiny, one_step):
    network, said = build_network(tiny(weights=str(file)), 6)
    teacher = load_networks(one_step)[0]["teacher"]
    assert "under encoder." in said
    assert all(torch.equal(value, teacher.encoder.state_dict()[name]) for name, value in network.encoder.state_dict().items())


def test_a_folder_comes_before_a_name_of_the_package(one_step, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = next(iter(exported.shipped()))
    assert exported.saved(name).weights.keys() != {"state"}
    (tmp_path / name).symlink_to(one_step)
    assert exported.saved(name).step == checkpoint.load(one_step).step == 1
    (tmp_path / name).unlink()
    (tmp_path / name).mkdir()
    with pytest.raises(UserError, match="no checkpoint here"):
        exported.saved(name)


# what cannot be


def rewritten(change, *, signed=True):
    """A file whose description and tensors are changed, with a digest that says so or with the old one."""

    def spoil(path):
        tensors = load_file(path)
        with safe_open(path, "pt") as opened:
            about = json.loads(opened.metadata()[exported.KEY])
        old = about.pop("digest")
        change(about, tensors)
        about["digest"] = exported.digest(about, tensors) if signed else old
        save_file(tensors, path, {exported.KEY: json.dumps(about)})

    return spoil


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def one_byte(path):
    held = bytearray(path.read_bytes())
    held[-1] ^= 1
    path.write_bytes(held)


def bare(path):
    save_file(load_file(path), path)


def text(words):
    return lambda path: save_file(load_file(path), path, {exported.KEY: words})


def first(value):
    def change(_, tensors):
        tensors["decoder.0.bias"][0] = value

    return change


SPOILT = {
    "cut off": (cut, ["not a readable file of weights", "from a copy"]),
    "empty": (lambda path: path.write_bytes(b""), ["not a readable file of weights"]),
    "no weights": (lambda path: path.write_text("[]" * 50), ["not a readable file of weights"]),
    "one byte": (one_byte, ["its digest is another"]),
    "weights alone": (bare, ["holds weights alone", "--weights"]),
    "no JSON": (text("{"), ["not as `python -m dsgc export` wrote it"]),
    "brackets": (text("[" * 100_000), ["not as `python -m dsgc export` wrote it"]),
    "a list": (text("[]"), ["not as `python -m dsgc export` wrote it"]),
    "a later format": (rewritten(lambda about, _: about.update(format=2)), ["format 2, this version reads 1"]),
    "a number by hand": (rewritten(first(0.5), signed=False), ["its digest is another"]),
    "classes by hand": (rewritten(lambda about, _: about["classes"].reverse(), signed=False), ["its digest is another"]),
    "a NaN": (rewritten(first(float("nan"))), ["decoder.0.bias", "not finite"]),
    "no classes": (rewritten(lambda about, _: about.update(classes=[])), ["its classes are no list"]),
    "another number of classes": (rewritten(lambda about, _: about["classes"].pop()), ["does not fit", "aux_classifier.weight has shape"]),
    "a network of another method": (rewritten(lambda about, _: about.update(network="first")), ["network 'first'"]),
    "a method that there is not": (rewritten(lambda about, _: about["config"].update(method="mars")), ["method 'mars'", "there are"]),
    "a step before the first": (rewritten(lambda about, _: about.update(step=-1)), ["step -1"]),
    "a tensor less": (rewritten(lambda _, tensors: tensors.pop("decoder.0.bias")), ["does not fit", "decoder.0.bias is missing"]),
    "a tensor more": (rewritten(lambda _, tensors: tensors.update(more=torch.ones(1))), ["does not fit", "more has no place"]),
    "an encoder on the hub": (rewritten(lambda about, _: about["config"].update(encoder="hf-hub:someone/model")), ["an address"]),
    "wider than memory": (rewritten(lambda about, _: about["config"].update(decoder_channels=10**5)), ["does not fit"]),
}


@promise("Untrusted files", "A file of weights that is damaged or forged is refused in one line, whoever made it.")
@pytest.mark.parametrize("name", SPOILT)
def test_a_spoilt_file_is_refused_in_one_line(name, file, tmp_path, capsys):
    spoil, said = SPOILT[name]
    spoil(file)
    words = ["predict", file, tmp_path / "out", "--data", tmp_path]
    refused_by_both(words, lambda: predict(file, tmp_path / "out", str(tmp_path), "test", TestTime()), tmp_path, capsys, str(file), *said)


TARGETS = {
    "there already": ("net.safetensors", "already there"),
    "another ending": ("net.pth", "must end in .safetensors"),
    "no folder": ("nowhere/net.safetensors", "no folder"),
    "a folder": ("folder.safetensors", "already there"),
}


@pytest.mark.parametrize("name", TARGETS)
def test_a_file_that_cannot_be_written_is_refused_before_anything_is_read(name, file, tmp_path, capsys):
    (tmp_path / "folder.safetensors").mkdir()
    target, said = TARGETS[name]
    words = ["export", tmp_path / "no run", tmp_path / target]
    refused_by_both(words, lambda: export(tmp_path / "no run", tmp_path / target), tmp_path, capsys, target, said)


def test_a_full_disk_leaves_nothing(file, one_step, monkeypatch, capsys):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(exported, "to_disk", full)
    refused(["export", one_step, file.with_name("b.safetensors")], capsys, "cannot be written", "make room")
    assert sorted(path.name for path in file.parent.iterdir()) == [file.name]


def test_weights_too_large_for_float16_stay_float32(file, tmp_path, capsys):
    rewritten(first(1e6))(file)
    refused(["export", file, tmp_path / "half.safetensors", "--half"], capsys, "decoder.0.bias", "without --half")
    assert not (tmp_path / "half.safetensors").exists()
    export(file, tmp_path / "whole.safetensors")
    assert np.float32(1e6) in exported.read(tmp_path / "whole.safetensors").weights["teacher"]["decoder.0.bias"].numpy()
