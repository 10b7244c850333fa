"""Weights, checkpoints and YAML of strangers: real attack files, each shown to work on a careless reader, run nothing here.

Nor do names of tensors, files and classes that are written to steer the terminal.
"""

import argparse
import json
import pickle
import shutil
import sys
from functools import partial
from pathlib import Path

import jupytext
import numpy as np
import pytest
import torch
import yaml
from attacks import (
    CLEAR,
    WEIGHTS,
    bare,
    commands,
    falls_for_it,
    loaded,
    unpacked,
    unpickled,
    with_members,
    yaml_command,
    yaml_loaded,
)
from jupyter_book.config import get_final_config
from promises import promise
from refusal import refused, refused_by_both, tree
from safetensors.torch import save_file
from spoilt import about, forged, nano, newest

from dsgc.__main__ import main
from dsgc.errors import UserError
from dsgc.experiments import runner
from dsgc.network import encoder_weights
from dsgc.network.build import build_network
from dsgc.network.encoder import create_encoder
from dsgc.runs import checkpoint
from dsgc.runs.record import read_config
from dsgc.scoring.evaluate import score_run
from dsgc.scoring.predict import TestTime, predict
from dsgc.training.loop import resume, train

TestTime.__test__ = False  # no test, though its name begins like one


# weights


@promise("Untrusted files", "A pickle with code is refused without running it, as weights and in the place of a checkpoint's file.")
@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_with_code_are_refused(name, marker, tmp_path, arguments, tiny, capsys, monkeypatch, recwarn):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")  # some set it to read old files of their own
    ending, does, save, careless = WEIGHTS[name]
    path = tmp_path / f"w{ending}"
    save(does(marker), path)
    falls_for_it(careless, path, marker)
    fields = {"out": str(tmp_path / "run"), "weights": str(path)}
    recwarn.clear()
    refused_by_both(arguments(**fields), lambda: train(tiny(**fields)), tmp_path, capsys, path.name, "not a readable weights file")
    assert not recwarn.list, "torch's own lines would stand above the one line"


@promise("Untrusted files", "No archive is unpacked: what lies in one under a name outside its folder is written nowhere.")
def test_weights_whose_archive_leaves_its_folder_write_nothing(tmp_path):
    path, escaped = tmp_path / "in/w.pth", tmp_path / "escaped"
    path.parent.mkdir()
    torch.save({"norm.weight": torch.zeros(128)}, path)
    with_members(path, "../../escaped", "w/../../../escaped")
    falls_for_it(unpacked, path, escaped)
    shutil.rmtree(path.parent / "unpacked")
    before = tree(tmp_path)
    with pytest.raises(UserError, match=r"w\.pth: not a readable weights file"):
        checkpoint.read_weights(path)
    assert tree(tmp_path) == before


@promise("Untrusted files", "A pickle with code is refused without running it, as weights and in the place of a checkpoint's file.")
def test_what_is_read_beside_weights_is_dropped_and_nothing_of_it_is_called(marker, tmp_path):
    """Options that training writes, as argparse holds them: neither their class nor what it is said to be built of is used."""

    class Options(argparse.Namespace):
        def __reduce__(self):
            return argparse.Namespace, (), {"weights": torch.zeros(1), "lr": 1}

    path = tmp_path / "w.pth"
    torch.save({"model": {"a": torch.ones(2)}, "args": Options(), "folder": Path("x"), "best": np.float64(3)}, path)
    found = checkpoint.read_weights(path)
    assert found.keys() == {"model.a"}
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)  # what it let through, it lets through no longer
    torch.save({"model": {"a": torch.ones(2)}, "args": argparse.Namespace(code=commands(marker))}, path)
    falls_for_it(loaded, path, marker)
    with pytest.raises(UserError, match="not a readable weights file"):
        checkpoint.read_weights(path)


@promise("Untrusted files", "Files that grow as they are read, and such as hold themselves, are read to an end or refused.")
def test_dictionaries_that_hold_themselves_or_each_other_many_times_are_read_to_an_end(tmp_path):
    laughs = {"a": torch.zeros(1)}
    for _ in range(12):
        laughs = {letter: laughs for letter in "abcdefghij"}
    laughs["myself"] = laughs
    torch.save(laughs, tmp_path / "w.pth")
    assert len(checkpoint.read_weights(tmp_path / "w.pth")) == 1


# a stranger's checkpoint


def configure(run, **values):
    """Other values in the config of a run that goes on and in that of its checkpoint."""
    (run / "metrics.json").unlink(missing_ok=True)
    text = json.dumps(json.loads((run / "config.json").read_text()) | values)
    (run / "config.json").write_text(text)
    about(lambda said: said["config"].update(values))(run)


def refused_everywhere(run, folder, capsys, *named):
    """By every command that reads a checkpoint, and by the functions behind them."""
    words = ["predict", run, folder / "out", "--split", "val"]
    refused_by_both(["evaluate", run], lambda: score_run(run), folder, capsys, *named)
    refused_by_both(words, lambda: predict(run, folder / "out", None, "val", TestTime()), folder, capsys, *named)
    refused_by_both(["resume", run], lambda: resume(run), folder, capsys, *named)


@promise("Untrusted files", "A pickle with code is refused without running it, as weights and in the place of a checkpoint's file.")
@pytest.mark.parametrize("file", ["teacher.safetensors", "state.safetensors"])
@pytest.mark.parametrize("name", [name for name in WEIGHTS if name.endswith("safetensors")])
def test_a_checkpoint_with_code_is_refused_though_its_digest_is_right(name, file, run, marker, tmp_path, capsys):
    _, does, save, careless = WEIGHTS[name]
    forged(file, lambda path: save(does(marker), path))(run)
    configure(run)
    falls_for_it(careless, newest(run) / file, marker)
    refused_everywhere(run, tmp_path, capsys, file, "not a readable weights file")


ODD = {
    "a number without end": ({"lr": 10**400}, "lr 1000"),
    "a width beyond 64 bits": ({"decoder_channels": 10**30}, "decoder_channels 1000"),
    "a list for a name": ({"encoder": ["vit_tiny_patch16_224"]}, "encoder"),
    "a path for an encoder": ({"encoder": "../folder/vit_tiny_patch16_224"}, "encoder"),
    "an object for a path": ({"weights": {"py/object": "os.system"}}, "weights"),
    "a number for a folder": ({"data": 5}, "data 5"),
    "a word that steers the terminal": ({"precision": CLEAR}, "precision"),
    "a module for a method": ({"method": "os"}, "method 'os': unknown; there are"),
    "a path for a method": ({"method": "../../folder/base"}, "unknown; there are"),
    "an object for a method": ({"method": {"py/object": "os.system"}}, "unknown; there are"),
    "a method that steers the terminal": ({"method": CLEAR}, "unknown; there are"),
    "a field that there is not": ({"__class__": "os"}, "__class__"),
}


@promise("Untrusted files", "What a stranger's run says of itself is taken for data only; what cannot be is refused.")
@pytest.mark.parametrize("name", ODD)
def test_a_config_that_cannot_be_is_refused(name, run, tmp_path, capsys):
    values, said = ODD[name]
    configure(run, **values)
    refused_everywhere(run, tmp_path, capsys, said)


@promise("Untrusted files", "What a stranger's run says of itself is taken for data only; what cannot be is refused.")
def test_a_checkpoint_starts_no_thousands_of_processes(run):
    """Read and not scored: a failure of this test would be felt."""
    configure(run, workers=1025)
    with pytest.raises(UserError, match="workers 1025: must be at most 1024"):
        checkpoint.read(newest(run))


@promise("Untrusted files", "What a stranger's run says of itself is taken for data only; what cannot be is refused.")
@pytest.mark.parametrize("classes", [[], "moon", [1, 2, 3, 4, 5, 6], [["moon"]] * 6, None], ids=str)
def test_classes_that_are_no_names_are_refused(classes, run, tmp_path, capsys):
    configure(run)
    about(lambda said: said.update(classes=classes))(run)
    refused_everywhere(run, tmp_path, capsys, "about.json", "not a checkpoint's description")


@promise("Untrusted files", "A checkpoint makes nobody fetch weights, nor read other files.")
def test_a_checkpoint_makes_nobody_fetch_weights_or_read_others(run, marker, tmp_path, capsys):
    """With its config the run would begin from the hub, or from a pickle; its own weights take the place of either."""
    bare(commands(marker), tmp_path / "w.pth")
    falls_for_it(unpickled, tmp_path / "w.pth", marker)
    for weights, said in (("hub", "is the hub within reach"), (str(tmp_path / "w.pth"), "w.pth: not a readable weights file")):
        again = shutil.copytree(run, tmp_path / f"again{len(said)}")
        configure(again, weights=weights)
        assert score_run(again)["images"] == 4
        with pytest.raises(UserError, match=said):
            build_network(read_config(again), 6)
        resume(again)
        assert (again / "metrics.json").is_file() and "going on after step 1" in capsys.readouterr().out
        shutil.rmtree(again / "checkpoints")
        (again / "metrics.json").unlink()
        refused(["resume", again], capsys, said)  # asked to begin a run, it begins as its config says


@promise("Untrusted files", "What a stranger's run says of itself is taken for data only; what cannot be is refused.")
@pytest.mark.parametrize("line", [b"5", b"[]", b"null", b'{"step": "x"}', b"{}", b"[" * 100_000, b"\xff\xfe", b"\x80\x04."], ids=repr)
def test_a_log_of_nonsense_stops_no_run(line, run):
    configure(run)
    (run / "log.jsonl").write_bytes(line[:200_000] + b"\n" + (run / "log.jsonl").read_bytes())
    resume(run)
    assert all(json.loads(text)["step"] <= 1 for text in (run / "log.jsonl").read_text().splitlines())


# YAML


@promise("Untrusted files", "YAML is read as data, by all that reads it for the book.")
def test_yaml_runs_nothing_in_what_reads_it_for_the_book(marker, tmp_path):
    path = tmp_path / "_config.yml"
    yaml_command(path, marker)
    falls_for_it(yaml_loaded, path, marker)
    with pytest.raises(yaml.YAMLError):
        yaml.safe_load(path.read_text())
    with pytest.raises(yaml.YAMLError):
        get_final_config(user_yaml=path)
    header = "".join(f"# {line}\n" for line in ["---", *path.read_text().splitlines(), "---"])
    assert "title" not in jupytext.reads(header + "\n1\n", fmt="py:percent").metadata

# words that steer the terminal


def plain(capsys):
    """What was said, without anything that a terminal would obey."""
    said = capsys.readouterr()
    assert all(letter.isprintable() or letter in "\r\n" for letter in said.out + said.err)
    return said.out + said.err


@promise("Untrusted files", "Names that files give do not steer the terminal.")
def test_tensors_whose_names_steer_the_terminal_are_named_without_that(tmp_path, arguments, capsys):
    path = tmp_path / "w.safetensors"
    save_file(nano() | {CLEAR: torch.zeros(1)}, path)
    assert CLEAR in str(encoder_weights.load_encoder(create_encoder("dsgc_vit_nano_patch8", 32), path)), "print would send it on"
    assert main(arguments(out=str(tmp_path / "run"), weights=str(path), steps=1, warmup_steps=0)) == 0
    assert "1 unexpected (?[2J?]0;owned?)" in plain(capsys)


@promise("Untrusted files", "Names that files give do not steer the terminal.")
def test_a_description_that_steers_the_terminal_is_told_without_that(run, capsys):
    shutil.copytree(newest(run), run / "checkpoints/step_000002")
    about(lambda said: said["files"].update({CLEAR: ""}))(run)
    assert score_run(run)["images"] == 4
    assert "owned" in plain(capsys), "the newer checkpoint is told of, and the one before it taken"


@promise("Untrusted files", "Names that files give do not steer the terminal.")
def test_a_picture_whose_name_steers_the_terminal_is_refused_without_that(run, tmp_path, capsys):
    (tmp_path / "pictures").mkdir()
    (tmp_path / f"pictures/{CLEAR}.jpg").write_bytes(b"no picture")
    words = ["predict", run, tmp_path / "out", "--data", tmp_path / "pictures", "--split", "val"]
    call = partial(predict, run, tmp_path / "out", str(tmp_path / "pictures"), "val", TestTime())
    refused_by_both(words, call, tmp_path, capsys, "?[2J?]0;owned?.jpg", "not a readable image")


@promise("Untrusted files", "Names that files give do not steer the terminal.")
def test_classes_that_steer_the_terminal_are_named_without_that(shapes_copy, tmp_path, arguments, tiny, capsys):
    (shapes_copy / "classes.txt").write_text(f"{CLEAR}\nmoon\n")
    fields = {"data": str(shapes_copy), "out": str(tmp_path / "run")}
    refused_by_both(arguments(**fields), lambda: train(tiny(**fields)), tmp_path, capsys, "?[2J?]0;owned?, moon")


@promise("Untrusted files", "Names that files give do not steer the terminal.")
def test_what_a_run_of_a_grid_dies_of_is_told_without_what_steers_the_terminal(tiny, tmp_path, monkeypatch):
    program, said = tmp_path / "dies", []
    program.write_text("#!/bin/sh\nprintf 'KeyError: \\033[2J\\033]0;owned\\007\\n' >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    assert runner.make_all({"one": tiny()}, tmp_path / "results", jobs=1, say=said.append) == 1
    assert said[-1].endswith("FAILED one: KeyError: ?[2J?]0;owned?")
