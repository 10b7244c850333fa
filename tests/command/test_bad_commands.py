"""Commands and evaluations that cannot be: exit code 2, one line, nothing left behind; in a process of its own too."""

import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from promises import promise
from refusal import refused, tree

from dsgc.__main__ import COMMANDS as NAMES
from dsgc.__main__ import main
from dsgc.data import shapes
from dsgc.training.loop import train

pytestmark = promise("Bad input", "A command that makes no sense ends in one line and exit code 2; `--debug` shows the traceback above it.")

COMMANDS = {
    "fly": ["fly", ", ".join(NAMES)],
    "train mars": ["mars", "shapes"],
    "train --steps 3": ["--steps", "name a preset first", "train shapes --steps", "shapes"],
    "train shapes --steps few": ["--steps 'few': takes a whole number"],
    "train shapes --lr x": ["--lr 'x': takes a number"],
    "train shapes --crop-scale 1 x": ["--crop-scale '1', 'x': takes numbers"],
    "train shapes --tua 0.4": ["--tua", "perhaps --tau is meant"],
    "evaluate nowhere --scales a": ["--scales 'a': takes numbers"],
    "evaluate nowhere --protocol sngle": ["Expected one of ours, published, published-coco, published-coco-no-crf"],
    "evaluate": ["evaluate", "run folder"],
    "evaluate nowhere": ["nowhere", "no checkpoint here", "shapes"],
    "predict nowhere out": ["nowhere", "no checkpoint here", "shapes"],
    "predict shapes out": ["out", "no such folder", "a folder of pictures"],
    "predict shapes full": ["full", "no pictures here"],
    "predict shapes out --data nowhere": ["nowhere", "no such folder"],
    "predict shapes out --data full": ["full", "no pictures here"],
    "export": ["export", "run"],
    "export nowhere out.safetensors": ["nowhere", "no checkpoint here"],
    "export shapes out.pth": ["out.pth", "must end in .safetensors"],
    "export shapes full": ["full", "must end in .safetensors"],
    "export shapes nowhere/out.safetensors": ["nowhere", "no folder"],
    "export shapes out.safetensors --network mars": ["mars", "--network"],
    "evaluate nowhere --hurry": ["--hurry"],
    "resume": ["resume", "run folder"],
    "resume nowhere": ["nowhere/config.json", "run folder"],
    "resume nowhere --workers few": ["--workers 'few': takes a whole number"],
    "resume nowhere --steps 3": ["--steps"],
    "resume full": ["full/config.json", "run folder"],
    "resume full/file": ["full/file/config.json"],
    "grid mars": ["mars", "modules, peers, stability, thresholds, weights, choices", "real, 'real, peers'"],
    "grid modules --scale mars": ["mars", "shapes"],
    "grid --jobs 0": ["jobs 0"],
    "grid modules --jobs 0 --dry-run": ["jobs 0"],
    "grid --jobs few": ["--jobs"],
    "grid --seeds 0 -1": ["seed -1"],
    "grid --seeds": ["seeds", "name one or more"],
    "data clouds out": ["clouds", "shapes"],
    "data shapes": ["data shapes", "--help"],
    "data shapes out --train few": ["--train", "few"],
    "data shapes out --train -1": ["train -1"],
    "data shapes out --seed -1": ["seed -1"],
    "data shapes .": ["name a new folder"],
    "data shapes full": ["full", "not an empty folder"],
    "data shapes full/file": ["full/file", "not an empty folder"],
    "data shapes full/file/out": ["full/file/out", "cannot write"],
    "pretrain": ["pretrain", ".safetensors"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_that_cannot_be_end_in_one_line_and_leave_nothing(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    if "full" in command:
        (tmp_path / "full").mkdir()
        (tmp_path / "full/file").write_text("kept")
    before = tree(tmp_path)
    refused(command.split(), capsys, *COMMANDS[command])
    assert tree(tmp_path) == before


EVALUATIONS = {
    "--split nowhere": ["nowhere.txt", "dev, train, val"],
    "--data nowhere": ["nowhere", "VOC layout"],
    "--out nowhere/scores.json": ["nowhere/scores.json", "--out"],
    "--split": ["--split"],
}


@pytest.mark.parametrize("options", EVALUATIONS)
def test_evaluations_that_cannot_be_end_in_one_line(options, one_step, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    refused(["evaluate", one_step, *options.split()], capsys, *EVALUATIONS[options])
    assert not list(tmp_path.iterdir())


def test_a_run_is_not_evaluated_on_other_classes(one_step, shapes_copy, capsys):
    (shapes_copy / "classes.txt").write_text("\n".join(reversed([kind.name for kind in shapes.KINDS])))
    refused(["evaluate", one_step, "--data", shapes_copy], capsys, "classes", "melon")


def test_a_damaged_checkpoint_is_not_evaluated(tiny, tmp_path, capsys):
    run = train(tiny(out=str(tmp_path / "run"), steps=1, warmup_steps=0, pictures=0))
    weights = run / "checkpoints/step_000001/student.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    refused(["evaluate", run], capsys, "student.safetensors", "not as it was written", "damaged")


def test_debug_shows_where_in_the_code_a_mistake_was_found(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "shapes", "--debug", "--data", "nowhere"]) == 2
    *above, last = capsys.readouterr().err.splitlines()
    assert above[0] == "Traceback (most recent call last):" and any("dsgc/data/split.py" in line for line in above)
    assert last.startswith("dsgc: nowhere") and above[-1].endswith(last.removeprefix("dsgc: "))
    refused(["train", "shapes", "--data", "nowhere"], capsys, "nowhere")


def process(words, cwd):
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2]), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-m", "dsgc", *words], cwd=cwd, env=environment, capture_output=True, text=True, timeout=300
    )


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ("train mars", "preset 'mars'"),
        ("train shapes --steps x", "--steps"),
        ("train shapes --weights none --data nowhere", "nowhere"),
        ("grid modules --data nowhere --jobs 2", "nowhere"),
    ],
    ids=["preset", "option", "data", "data of a grid"],
)
def test_a_real_process_exits_with_2_and_one_line(words, named, tmp_path):
    done = process(words.split(), tmp_path)
    assert done.returncode == 2 and done.stdout == ""
    assert len(done.stderr.splitlines()) == 1 and named in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("width", ["20", "200"])
@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_one_line_whatever_the_terminal(width, encoding, monkeypatch):
    monkeypatch.setenv("COLUMNS", width)
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding=encoding) for _ in range(2))
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    assert main(["train", "shapes", "--device", "gpu"]) == 2
    err.flush()
    said = err.buffer.getvalue().decode(encoding)
    assert re.fullmatch(r"dsgc: invalid choice 'gpu' for argument '--device'\. Expected one of .*--help`\n", said), said
