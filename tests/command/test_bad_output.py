"""Places that cannot be written to: every command that writes refuses them in one line, and leaves nothing half-written there."""

import contextlib
import resource
import subprocess

import pytest
import torch
from promises import promise
from refusal import refused, refused_by_both, tree

import dsgc.training.pretrain
from dsgc.__main__ import main
from dsgc.data import shapes, shapes_coco
from dsgc.scoring.predict import TestTime, predict
from dsgc.training.loop import train
from dsgc.training.pretrain import Recipe, pretrain

pytestmark = promise("Bad input", "Where nothing can be written one line says so; nothing is half-written, and what is there stays.")

TestTime.__test__ = False  # no test, though its name begins like one
SMALL = {"train": 2, "val": 1}
PICTURES = (torch.zeros(3, 3, 128, 128, dtype=torch.uint8), torch.arange(3) % 2, torch.zeros(3, 128, 128))  # with labels and parts
RECIPE = ["--images", "3", "--steps", "1", "--batch", "1", "--kinds", "2"]


@pytest.fixture
def writers(one_step, arguments, tiny, monkeypatch):
    """Each command that writes, but for `grid`: as words and as the function behind it, both for a place to write to."""
    monkeypatch.setattr(dsgc.training.pretrain, "HELD_OUT", 1)
    monkeypatch.setattr(dsgc.training.pretrain, "_images", lambda _: PICTURES)
    sizes = [word for name, count in SMALL.items() for word in (f"--{name}", str(count))]
    recipe, ending = Recipe(images=3, steps=1, batch=1, kinds=2), ".safetensors"
    return {
        "train": (lambda out: arguments(out=str(out)), lambda out: train(tiny(out=str(out)))),
        "predict": (lambda out: ["predict", one_step, out, "--split", "val"], lambda out: predict(one_step, out, None, "val", TestTime())),
        "evaluate": (lambda out: ["evaluate", one_step, "--out", out], None),
        "data shapes": (lambda out: ["data", "shapes", out, *sizes, "--dev", "1"], lambda out: shapes.write(out, sizes=SMALL)),
        "data shapes-coco": (
            lambda out: ["data", "shapes-coco", out, *sizes],
            lambda out: shapes_coco.write(out, sizes={"train2014": 2, "val2014": 1}),
        ),
        "pretrain": (lambda out: ["pretrain", f"{out}{ending}", *RECIPE], lambda out: pretrain(out.with_suffix(ending), recipe)),
    }


def check(writer, out, folder, capsys, *named):
    words, call = writer
    if call is None:
        before = tree(folder)
        refused(words(out), capsys, *named)
        assert tree(folder) == before
    else:
        refused_by_both(words(out), lambda: call(out), folder, capsys, *named)


WRITERS = ["train", "predict", "evaluate", "data shapes", "data shapes-coco", "pretrain"]


@contextlib.contextmanager
def full(most):
    """No file can grow beyond so many bytes: what a full disk, or a quota, does to whoever writes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("command", WRITERS)
def test_a_full_disk(command, writers, tmp_path, capsys):
    with full(64):
        check(writers[command], tmp_path / "out", tmp_path, capsys, str(tmp_path / "out"), "cannot")


@pytest.mark.parametrize("command", WRITERS)
def test_a_folder_in_which_nothing_can_be_written(command, writers, tmp_path, capsys):
    """One of the system's: root may write in any other."""
    words, _ = writers[command]
    refused(words("/proc/out"), capsys, "/proc", "cannot")


@pytest.mark.parametrize("command", WRITERS)
def test_a_disk_that_is_read_only(command, writers, small_disk, capsys):
    disk = small_disk(4)
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    check(writers[command], disk / "out", disk, capsys, str(disk), "cannot", "Read-only")


@pytest.mark.parametrize("command", ["train", "predict", "data shapes", "data shapes-coco"])
@pytest.mark.parametrize("out", ["file", "file/out"])
def test_a_file_in_the_way(command, out, writers, tmp_path, capsys):
    (tmp_path / "file").write_text("kept")
    check(writers[command], tmp_path / out, tmp_path, capsys, str(tmp_path / out))


@pytest.mark.parametrize("command", ["evaluate", "pretrain"])
def test_a_file_in_the_way_of_the_folder_of_a_file(command, writers, tmp_path, capsys):
    (tmp_path / "file").write_text("kept")
    check(writers[command], tmp_path / "file/out", tmp_path, capsys, str(tmp_path / "file"), "cannot")


@pytest.mark.parametrize("command", ["train", "predict", "evaluate", "data shapes", "data shapes-coco"])
def test_a_folder_that_holds_something(command, writers, tmp_path, capsys):
    held = tmp_path / "results/VOC2012/Segmentation/comp6_val_cls"
    held.mkdir(parents=True)
    (held / "metrics.json").write_text("precious")
    check(writers[command], tmp_path, tmp_path, capsys, str(tmp_path))


@pytest.mark.parametrize("command", ["train", "data shapes", "data shapes-coco"])
def test_a_folder_that_holds_another_run(command, writers, one_step, capsys):
    check(writers[command], one_step, one_step, capsys, str(one_step), "another")


def test_training_names_the_command_that_goes_on_with_the_run_that_is_there(tmp_path, arguments, capsys):
    (tmp_path / "config.json").write_text("{}")
    before = tree(tmp_path)
    refused(arguments(out=str(tmp_path)), capsys, f"python -m dsgc resume {tmp_path}", "--out")
    assert tree(tmp_path) == before


def test_a_used_run_folder_is_refused_before_the_data_are_read(tmp_path, arguments, capsys):
    (tmp_path / "metrics.json").write_text("{}")
    refused(arguments(out=str(tmp_path), data=str(tmp_path / "no data")), capsys, "not an empty folder")


def test_scores_replace_those_that_are_there_whole_or_not_at_all(one_step, tmp_path, capsys):
    scores = tmp_path / "scores.json"
    scores.write_text("old")
    with full(64):
        refused(["evaluate", one_step, "--out", scores], capsys, str(scores), "cannot be written")
    assert tree(tmp_path) == {"scores.json": b"old"}
    assert main(["evaluate", str(one_step), "--out", str(scores)]) == 0 and scores.read_text() != "old"
