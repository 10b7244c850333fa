"""Prediction and evaluation that cannot go on: one line that names the picture; what is done stays, and is marked as a part."""

import sys
from concurrent.futures.process import BrokenProcessPool
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from promises import promise
from refusal import lines_of, refused, refused_by_both

from dsgc.__main__ import main
from dsgc.errors import UserError
from dsgc.scoring import crf
from dsgc.scoring.predict import SERVER, TestTime, predict

TestTime.__test__ = False  # no test, though its name begins like one


@pytest.fixture
def run(one_step):
    return one_step



def no_memory():
    raise RuntimeError("[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes")


def no_memory_on_the_card():
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 8 GiB")


def no_room():
    raise OSError(28, "No space left on device")


def ctrl_c():
    raise KeyboardInterrupt


SEGMENTS = "dsgc.scoring.predict.probabilities"
FAULTS = {  # what is called at the third image, what happens then, and words of the line
    "no memory": (SEGMENTS, no_memory, ["val_00002 (128 x 128): cannot be segmented, memory ran out", "smaller"]),
    "no memory on the card": (SEGMENTS, no_memory_on_the_card, ["val_00002 (128 x 128)", "memory ran out", "smaller"]),
    "no room": ("dsgc.runs.disk.rename", no_room, ["cannot be written (No space left on device)", "make room"]),
    "Ctrl-C": (SEGMENTS, ctrl_c, ["interrupted"]),
}


@pytest.mark.parametrize("fault", [*FAULTS, "a damaged picture"])
@promise("Bad input", "Where a prediction cannot go on, what is done stays, marked as a part; the same command goes on with the rest.")
def test_what_is_done_stays_and_the_same_command_goes_on(fault, run, shapes_copy, tmp_path, at_call, monkeypatch, capsys):
    words = ["predict", str(run), str(tmp_path / "out"), "--data", str(shapes_copy), "--split", "val"]
    whole = predict(run, tmp_path / "whole", str(shapes_copy), "val", TestTime())
    picture = shapes_copy / "JPEGImages/val_00002.jpg"
    genuine, named = picture.read_bytes(), [str(picture), "not a readable image"]
    if fault in FAULTS:
        name, what, named = FAULTS[fault]
        module, _, called = name.rpartition(".")
        at_call(sys.modules[module], called, 4 if fault == "no room" else 3, what)
    else:
        picture.write_text("no image")
    assert main(words) == (130 if fault == "Ctrl-C" else 2)
    (said,) = lines_of(capsys.readouterr().err)
    done = 2 + (fault == "no room")
    for word in [*named, f"; {done} of 4 predictions are kept in {tmp_path}/out/", "the same command goes on"]:
        assert word in said
    out = tmp_path / "out" / SERVER / "comp6_val_cls"
    assert sorted(path.name for path in out.iterdir()) == ["unfinished.json", *(f"val_{number:05d}.png" for number in range(done))]
    kept = {path.name: path.stat().st_mtime_ns for path in out.glob("*.png")}
    monkeypatch.undo()
    picture.write_bytes(genuine)
    for other in (["--network", "student"], ["--mirror"], ["--scales", "0.5"]):
        refused([*words, *other], capsys, str(out), "a part of other predictions", "choose another folder")
    assert main(words) == 0
    assert {path.name: path.read_bytes() for path in out.iterdir()} == {path.name: path.read_bytes() for path in whole.iterdir()}
    assert all((out / name).stat().st_mtime_ns == time for name, time in kept.items())


@pytest.mark.parametrize("mark", ["", "[" * 100_000, "null", "\xff"])
def test_a_part_whose_mark_is_damaged_is_left_alone(mark, run, tmp_path, capsys):
    (tmp_path / "unfinished.json").write_text(mark, encoding="latin-1")
    (tmp_path / "a.png").write_text("precious")
    pictures = tmp_path.parent / f"{tmp_path.name}_pictures"
    pictures.mkdir()
    Image.new("RGB", (32, 32)).save(pictures / "a.jpg")
    call = lambda: predict(run, tmp_path, str(pictures), "test", TestTime())  # noqa: E731
    refused_by_both(["predict", run, tmp_path, "--data", pictures], call, tmp_path, capsys, "a part of other predictions")


def test_memory_that_runs_out_in_an_evaluation_names_the_images(run, capsys, monkeypatch):
    monkeypatch.setattr("dsgc.scoring.evaluate.views", lambda *_: no_memory())
    refused(["evaluate", run], capsys, "val_00000 (128 x 128) and 3 more: cannot be evaluated, memory ran out", "--eval-batch")
    refused(["evaluate", run, "--eval-batch", "1"], capsys, "val_00000 (128 x 128): cannot be evaluated", "smaller")
    refused(["evaluate", run, "--workers", "-1"], capsys, "workers -1")


def test_a_process_of_the_crf_that_dies_is_one_line(monkeypatch):
    monkeypatch.setattr(crf, "available", lambda: None)
    image = np.zeros((4, 4, 3), np.uint8)
    with pytest.raises(UserError, match="picture: a process of the CRF died, memory may have run out; make"):
        crf._result("picture", SimpleNamespace(result=lambda: (_ for _ in ()).throw(BrokenProcessPool())))
    monkeypatch.setattr(crf, "ProcessPoolExecutor", lambda *_, **__: no_room())
    with pytest.raises(UserError, match="No space left on device.*--shm-size"):
        next(crf.sharpened([("picture", image, image)]))
