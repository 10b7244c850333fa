"""Faults in the midst of training: what was done is kept, one line says what happened, and the run goes on as if nothing had."""

import multiprocessing
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
from apart import SMALL, log_of, outcome
from promises import promise
from refusal import lines_of, refused
from safetensors.torch import load_file

import dsgc.training.learner
from dsgc.__main__ import main
from dsgc.data.loading import DEATHS, Crops
from dsgc.errors import UserError
from dsgc.runs import checkpoint
from dsgc.training.faults import PATIENCE
from dsgc.training.loop import resume, train

SUBJECT = "Faults during training"


@pytest.fixture
def config(tiny, tmp_path):
    return tiny(out=str(tmp_path / "run"), **SMALL)


# loading processes


def die():
    os.kill(os.getpid(), signal.SIGKILL)


@promise(SUBJECT, "Where a loading process dies, another takes its place; the run is the same, and no step is left half done.")
@pytest.mark.parametrize("moment", ["amid a step", "while it loads", "before it has begun"])
def test_a_loading_process_that_dies_changes_nothing(moment, tiny, at_call, tmp_path, monkeypatch, whole, capfd):
    def kill_all():
        for victim in multiprocessing.active_children():
            os.kill(victim.pid, signal.SIGKILL)
        time.sleep(0.3)  # here torch would raise

    def once(crops, key, genuine=Crops.__getitem__):
        if key[1] == (9 if moment == "while it loads" else 0) and not marker.exists():
            marker.touch()
            die()
        return genuine(crops, key)

    marker = tmp_path / "died"
    if moment == "amid a step":
        at_call(dsgc.training.learner, "backward", 1, kill_all)  # the first five batches are under way by now, of six
    else:
        monkeypatch.setattr(Crops, "__getitem__", once)
    config = tiny(out=str(tmp_path / "run"), workers=2, **SMALL)
    assert outcome(train(config)) == whole
    assert "a loading process died" in capfd.readouterr().err


@promise(SUBJECT, "Where loading processes keep dying, the run ends in one line; the steps so far are kept, and it can go on.")
def test_loading_processes_that_always_die(tiny, arguments, tmp_path, monkeypatch, whole, capsys):
    def never(crops, key, genuine=Crops.__getitem__):
        if key[1] >= 8:
            time.sleep(0.3)  # the batches before are on their way
            die()
        return genuine(crops, key)

    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(Crops, "__getitem__", never)
        code = main(arguments(out=str(run), **SMALL | {"workers": 2}))
    last = lines_of(capsys.readouterr().err)[-1]
    assert code == 2 and last.startswith("dsgc: workers 2: ") and f"died {DEATHS} times in a row" in last
    assert f"2 steps are kept, `python -m dsgc resume {run}` goes on" in last
    assert outcome(resume(run, workers=0)) == whole


# images


@promise(SUBJECT, "Where an image disappears, the run ends in one line that names it; once it is back, the run goes on.")
@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_disappears(workers, shapes_copy, at_call, tmp_path, arguments, whole, capsys, monkeypatch):
    run, images, aside = tmp_path / "run", shapes_copy / "JPEGImages", tmp_path / "aside"
    at_call(dsgc.training.learner, "backward", 2, lambda: images.rename(aside))
    words = arguments(out=str(run), data=str(shapes_copy), **SMALL | {"workers": workers})
    refused(words, capsys, f"{images}/", "No such file", "steps are kept", f"`python -m dsgc resume {run}` goes on")
    kept = checkpoint.checkpoints(run)
    assert len(kept) == 1 and checkpoint.read(kept[0]).step >= 2
    refused(["resume", run], capsys, str(shapes_copy))
    aside.rename(images)
    monkeypatch.undo()
    assert outcome(resume(run)) == whole


# losses


def with_nan(made, networks):
    made.losses["all"].fill_(torch.nan)
    made.losses["ptc"] = torch.tensor(torch.nan)


def with_infinite_gradient(made, networks):
    next(parameter for parameter in networks["teacher"].parameters() if parameter.grad is not None).grad.view(-1)[0] = torch.inf


@pytest.fixture
def spoil(monkeypatch):
    """`spoil(steps, how)`: what the gradients and losses of some steps, counted from 0, are made to be."""

    def prepare(steps, how):
        genuine, count = dsgc.training.learner.backward, []

        def backward(*given):
            made = genuine(*given)
            if len(count) in steps:
                how(made, given[1])
            count.append(1)
            return made

        monkeypatch.setattr(dsgc.training.learner, "backward", backward)

    return prepare


@promise(SUBJECT, "A step whose loss or gradient is not finite changes nothing that is learnt; it is counted, and said.")
@pytest.mark.parametrize("step", [1, 3], ids=["warm-up", "expansion"])
@pytest.mark.parametrize(("how", "named"), [(with_nan, "the loss ptc"), (with_infinite_gradient, "the gradient")])
def test_a_step_that_is_not_finite_is_skipped(how, named, step, tiny, spoil, tmp_path, capfd):
    spoil({step}, how)
    run = train(tiny(out=str(tmp_path / "run"), steps=5, checkpoint_every=1, keep_checkpoints=9, centre_momentum=0.9))
    before, after = (
        {(path.name, key): value for path in folder.glob("*.safetensors") for key, value in load_file(path).items()}
        for folder in checkpoint.checkpoints(run)[step - 1 : step + 1]
    )
    assert before.keys() == after.keys() and len(before) > 100
    assert not [key for key in before if not key[1].startswith("random.") and not torch.equal(before[key], after[key])]
    logged = [line for line in log_of(run) if "stage" in line]
    assert [line.get("skipped") for line in logged] == [1 if number == step else None for number in range(5)]
    assert ["losses" in line for line in logged] == [number != step for number in range(5)] and "NaN" not in (run / "log.jsonl").read_text()
    assert f"step {step + 1} skipped, number 1 in a row: {named} was not finite" in capfd.readouterr().out
    assert (run / "metrics.json").is_file()


def test_skipped_steps_are_left_out_of_the_means_of_a_line(tiny, spoil, tmp_path):
    spoil({1}, with_nan)
    line = log_of(train(tiny(out=str(tmp_path / "run"), steps=3, warmup_steps=3, log_every=3)))[0]
    assert line["step"] == 3 and line["skipped"] == 1 and all(value == value for value in line["losses"].values())


@promise(SUBJECT, f"After {PATIENCE} such steps in a row the run ends in one line; its last checkpoint has the weights before them.")
def test_steps_in_a_row_that_are_not_finite_end_the_run(arguments, spoil, tmp_path, capsys):
    spoil(range(5, 99), with_nan)
    run = tmp_path / "run"
    words = arguments(out=str(run), steps=40, warmup_steps=30, checkpoint_every=5, keep_checkpoints=9)
    refused(words, capsys, str(run), f"the loss ptc was not finite in {PATIENCE} steps in a row, 6 to {PATIENCE + 5}", "smaller --lr")
    kept = checkpoint.checkpoints(run)
    sound, last = (load_file(folder / "teacher.safetensors") for folder in (kept[0], kept[-1]))
    assert kept[0].name == "step_000005" and all(torch.equal(sound[key], last[key]) for key in sound)
    assert not (run / "metrics.json").exists() and main(["evaluate", str(run)]) == 0


def test_steps_that_are_not_finite_now_and_then_do_not(tiny, spoil, tmp_path):
    spoil({step for step in range(2 * PATIENCE) if step != PATIENCE - 1} - {2 * PATIENCE - 1}, with_nan)
    config = tiny(out=str(tmp_path / "run"), steps=2 * PATIENCE, warmup_steps=2 * PATIENCE, log_every=2 * PATIENCE)
    assert log_of(train(config))[0]["skipped"] == 2 * PATIENCE - 2


@promise(SUBJECT, "Weights that are not finite are never written, nor is anything that was kept taken away for them.")
def test_weights_that_are_not_finite_end_the_run_where_a_checkpoint_is_due(arguments, spoil, tmp_path, capsys):
    def overflow(made, networks):
        networks["teacher"].decoder[0].weight.data.view(-1)[0] = torch.inf

    spoil({2}, overflow)
    run = tmp_path / "run"
    words = arguments(out=str(run), steps=6, checkpoint_every=1, keep_checkpoints=1)
    refused(words, capsys, str(run), "after step 3 decoder.0.weight of the teacher is not finite: training diverged", "smaller --lr")
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["step_000002"]
    assert checkpoint.load(run).step == 2


def test_a_run_that_diverges_by_itself_ends_in_one_line_too(arguments, tmp_path, capsys):
    words = arguments(out=str(tmp_path / "run"), steps=40, warmup_steps=30, lr=1e15, lr_ramp_steps=0, decoder_channels=16)
    refused(words, capsys, str(tmp_path / "run"), "smaller --lr")


@promise(SUBJECT, "Where a card's memory does not suffice, one line says what needs less; nothing is kept of the step that was under way.")
def test_a_step_for_which_there_is_no_memory(at_call, arguments, tmp_path, capsys, whole):
    def no_memory():
        raise torch.OutOfMemoryError("tried to allocate 20.00 GiB")

    at_call(dsgc.training.learner, "backward", 6, no_memory)
    run = tmp_path / "run"
    refused(arguments(out=str(run), **SMALL), capsys, str(run), "no memory left on cpu in step 6", "--accumulate", "--recompute")
    assert checkpoint.load(run).step == 4
    assert main(["resume", str(run)]) == 0 and outcome(run) == whole


# disks


@promise(SUBJECT, "Where the disk fills while a checkpoint is written, the older one stays, and the run goes on once there is room.")
def test_a_disk_that_fills_while_a_checkpoint_is_written(small_disk, tiny, arguments, tmp_path, whole, capsys):
    size = sum(path.stat().st_size for path in checkpoint.checkpoints(train(tiny(out=str(tmp_path / "size"), **SMALL)))[-1].iterdir())
    disk = small_disk(1 + int(1.6 * size / 2**20))  # room for one, not for two
    words = arguments(out=str(disk / "run"), **SMALL)
    resuming = f"`python -m dsgc resume {disk}/run`"
    refused(words, capsys, f"{disk}/run: the checkpoint of step 6 cannot be written", "No space left", resuming)
    assert [path.name for path in (disk / "run/checkpoints").iterdir()] == ["step_000004"]
    assert checkpoint.load(disk / "run").step == 4
    refused(["resume", disk / "run"], capsys, "cannot be written", "make room")
    subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
    assert main(["resume", str(disk / "run")]) == 0
    assert outcome(disk / "run") == whole


@promise(SUBJECT, "Where the disk is full when the log is written, one line says so, and the run goes on once there is room.")
def test_a_disk_that_is_full_when_the_log_is_written(config, monkeypatch, whole):
    genuine, calls = os.fsync, []

    def fsync(descriptor):
        calls.append(descriptor)
        if len(calls) == 3:
            raise OSError(28, "No space left on device")
        genuine(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr("dsgc.runs.record.os.fsync", fsync)
        with pytest.raises(UserError, match=r"log\.jsonl: cannot be written \(No space left on device\); make room and go on"):
            train(config)
    assert outcome(resume(Path(config.out))) == whole


# clocks


@promise(SUBJECT, "A clock that jumps, forward, back or before 1970, changes nothing but the time that the progress bar shows.")
def test_a_clock_that_jumps_changes_nothing(config, monkeypatch, whole):
    genuine, jumps = time.time, random.Random(0)
    monkeypatch.setattr(time, "time", lambda: genuine() + jumps.choice([-1e10, -86_400, -3600.5, 0, 3600, 1e9]))
    run = train(config)
    for folder in checkpoint.checkpoints(run):
        os.utime(folder, (0, 0))  # a file's time does not decide either
    assert outcome(run) == whole and checkpoint.load(run).step == 6
    assert all(line["images_per_second"] > 0 for line in log_of(run) if "losses" in line)


def test_a_clock_that_stands_still_is_no_division_by_zero(config, monkeypatch, whole):
    monkeypatch.setattr(time, "perf_counter", lambda: 1.0)
    assert outcome(train(config)) == whole
