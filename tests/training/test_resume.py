"""A run that is stopped at any moment and goes on ends as if it had not been: the same bits, scores, log and pictures."""

import contextlib
import copy
import json
import os
import random
import shutil
import signal
import time
from pathlib import Path

import apart
import numpy as np
import pytest
import torch
from apart import command, outcome
from deaths import Killed, dying
from promises import promise
from refusal import refused, tree
from safetensors.torch import load, load_file, save_file
from steps import CLASSES

import dsgc.training.learner
import dsgc.training.loop
from dsgc.data import shapes
from dsgc.errors import UserError
from dsgc.network.build import build_network
from dsgc.runs import checkpoint, record, state
from dsgc.scoring import pictures
from dsgc.training.learner import optimiser
from dsgc.training.loop import resume, train

SMALL = {"steps": 6, "checkpoint_every": 2, "keep_checkpoints": 2, "eval_every": 2, "eval_images": 3, "log_every": 3}


@pytest.fixture(scope="module")
def finished(tiny, tmp_path_factory):
    """A run that is never stopped."""
    return train(tiny(out=str(tmp_path_factory.mktemp("finished") / "run"), **SMALL))


@pytest.fixture(scope="module")
def whole(finished):
    return outcome(finished)


def half_a_file(tensors, path):
    save_file(tensors, path)
    os.truncate(path, path.stat().st_size // 2)


def half_a_folder(folder, **_):
    for path in sorted(folder.iterdir())[::2]:
        path.unlink()


def half_a_line(log, line):
    with log.path.open("a") as file:
        file.write(json.dumps(line)[:-9])


HALF = {"save_file": half_a_file, "rmtree": half_a_folder, "_write": half_a_line}


def stop(config, moment):
    """A run that was stopped at a moment, in this process; its folder."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        dying(patch, *moment, HALF.get(moment[1]))
        train(config)
    return Path(config.out)


# kills at random moments


class Moments:
    """Kills processes that work on a run, each at another moment: while a checkpoint is written, after a line of the log, any."""

    def __init__(self, run, seed):
        self.run, self.random = run, random.Random(seed)
        self.kills = self.amid = 0  # amid: those that left a checkpoint half written

    def partials(self):
        """Checkpoints that are being written, or that a kill left so: each with the time of the last change in its folder."""
        found = set()
        for path in self.run.glob("checkpoints/.step_*.partial"):
            with contextlib.suppress(FileNotFoundError):  # it has its name by now
                found.add((path.name, path.stat().st_mtime_ns))
        return found

    def lines(self):
        log = self.run / "log.jsonl"
        return len(log.read_bytes().splitlines()) if log.exists() else 0

    def wait(self, process, there):
        """Wait for something of a process that has not ended."""
        deadline = time.monotonic() + 120
        while not there():
            assert self.alive(process) and time.monotonic() < deadline, "the run ended, or hangs, before it could be killed"
            time.sleep(0.001)

    @staticmethod
    def alive(process):
        return process.is_alive() if hasattr(process, "is_alive") else process.poll() is None

    def kill(self, process, kind=None):
        """Kill a process; `kind` of the moment, drawn if not given."""
        kind = kind or self.random.choice(("writing", "writing", "line", "any"))
        before, lines = self.partials(), self.lines()
        if kind == "writing":
            self.wait(process, lambda: self.partials() - before)
            time.sleep(self.random.uniform(0, 0.03))
        elif kind == "line":
            more = self.random.randint(1, 3)
            self.wait(process, lambda: self.lines() >= lines + more)
            time.sleep(self.random.uniform(0, 0.1))
        else:
            end = time.monotonic() + self.random.uniform(0, 0.8)
            while time.monotonic() < end and self.lines() < lines + 4:  # so that the run lasts for all kills on a fast machine
                time.sleep(0.001)
        assert self.alive(process), "the run ended before it could be killed"
        os.kill(process.pid, signal.SIGKILL)
        process.join() if hasattr(process, "join") else process.wait()
        assert (process.exitcode if hasattr(process, "exitcode") else process.returncode) == -signal.SIGKILL
        self.kills += 1
        self.amid += bool(self.partials() - before)


@promise("Faults during training", "A run killed at any moment, by SIGKILL, goes on and ends as if it had not been.")
def test_twenty_kills_at_random_moments_change_nothing(tiny, arguments, tmp_path):
    """SIGKILL, which no process can answer. Four of the processes come from the command line, the others are forked."""
    changes = {"steps": 45, "warmup_steps": 15, "checkpoint_every": 1, "eval_every": 7, "eval_images": 2}
    undisturbed = apart.start(tiny(out=str(tmp_path / "whole"), **changes))
    undisturbed.join()
    run = tmp_path / "run"
    moments = Moments(run, seed=0)
    moments.kill(command(arguments(out=str(run), **changes), tmp_path), "line")
    for kind in ("writing", "line"):
        moments.kill(command(["resume", run], tmp_path), kind)
    while moments.kills < 20:
        moments.kill(apart.start(run))
    assert moments.amid >= 3
    last = command(["resume", run], tmp_path)
    said = last.communicate(timeout=300)[0]
    assert last.returncode == 0 and f"{run}: ended as planned" in said
    assert outcome(run) == outcome(tmp_path / "whole")
    assert not list(run.rglob("*.partial"))


# kills at chosen moments

SAVE, WRITTEN, TAKE_AWAY = (checkpoint, "save_file"), (checkpoint, "to_disk"), (checkpoint.shutil, "rmtree")
EVALUATE, LINE, DRAW = (dsgc.training.loop, "evaluate"), (record.Log, "_write"), (pictures, "write")
MOMENTS = {  # a checkpoint: 3 calls of SAVE, 5 of WRITTEN before it has its name and 1 after
    "before the first step": (dsgc.training.learner, "backward", 1, "before"),
    "in the first checkpoint": (*SAVE, 1, "amid"),
    "before the first checkpoint has its name": (*WRITTEN, 5, "after"),
    "in the teacher's weights": (*SAVE, 4, "amid"),
    "in the student's weights": (*SAVE, 5, "amid"),
    "in the state": (*SAVE, 6, "amid"),
    "before the description": (*SAVE, 6, "after"),
    "before the second checkpoint has its name": (*WRITTEN, 11, "after"),
    "after it has its name": (*WRITTEN, 12, "before"),
    "while an old checkpoint is taken away": (*TAKE_AWAY, 4, "amid"),
    "between checkpoint and evaluation": (*EVALUATE, 2, "before"),
    "between evaluation and scores": (*EVALUATE, 2, "after"),
    "in a line of losses": (*LINE, 3, "amid"),
    "between line and checkpoint": (*LINE, 4, "after"),
    "in a line of scores": (*LINE, 5, "amid"),
    "before the last evaluation": (*EVALUATE, 3, "before"),
    "between last line and pictures": (*DRAW, 1, "before"),
    "between pictures and metrics": (*DRAW, 1, "after"),
}


def test_the_moments_are_what_they_are_called(tiny, tmp_path):
    """What is there after some of the stops above."""
    there = {}
    for number, name in enumerate(("before the second checkpoint has its name", "after it has its name", "in a line of losses")):
        run = stop(tiny(out=str(tmp_path / str(number)), **SMALL), MOMENTS[name])
        lines = (run / "log.jsonl").read_text().splitlines()
        there[name] = sorted(path.name for path in run.glob("checkpoints/*")), len(lines), lines[-1].endswith("}")
    assert list(there.values()) == [
        ([".step_000004.partial", "step_000002"], 4, True),
        (["step_000002", "step_000004"], 4, True),
        (["step_000002"], 3, False),
    ]


@promise("Faults during training", "A run killed at any moment, by SIGKILL, goes on and ends as if it had not been.")
@pytest.mark.parametrize("name", MOMENTS)
def test_a_stop_at_the_worst_moments_changes_nothing(tiny, tmp_path, whole, name):
    run = stop(tiny(out=str(tmp_path / "run"), **SMALL), MOMENTS[name])
    assert outcome(resume(run)) == whole


VARIANTS = {
    "no student": {"distillation": False},
    "the baseline": {"method": "base"},
    "masks": {"method": "masks"},
    "all warm-up": {"warmup_steps": 6},
    "no warm-up, in parts, half precision": {"warmup_steps": 0, "accumulate": 2, "precision": "bf16"},
}


@pytest.mark.parametrize("name", VARIANTS)
def test_other_kinds_of_runs_go_on_as_well(tiny, tmp_path, name):
    changes = SMALL | VARIANTS[name]
    run = stop(tiny(out=str(tmp_path / "run"), **changes), (*LINE, 6, "before"))
    assert outcome(resume(run)) == outcome(train(tiny(out=str(tmp_path / "whole"), **changes)))


# what a stopped run may meet before it goes on


@pytest.fixture(scope="module")
def stopped(tiny, tmp_path_factory):
    return stop(tiny(out=str(tmp_path_factory.mktemp("stopped") / "run"), **SMALL), (*LINE, 6, "before"))


@pytest.fixture
def run(stopped, tmp_path):
    """A run of 6 steps, stopped in the last one, with checkpoints after 2 and 4: a copy that a test may damage and go on with."""
    return shutil.copytree(stopped, tmp_path / "run")


def cut(path):
    os.truncate(path, path.stat().st_size // 2)


def test_it_goes_on_with_other_loading_processes_and_where_the_data_are_now(run, shapes_copy, whole):
    config = (run / "config.json").read_bytes()
    assert outcome(resume(run, workers=2, data=str(shapes_copy))) == whole
    assert (run / "config.json").read_bytes() == config


def test_it_goes_on_in_parts_within_rounding(run, whole):
    last = outcome(resume(run, accumulate=4))["log"][-2]
    assert last["step"] == 6 and last["losses"] == pytest.approx(whole["log"][-2]["losses"], rel=1e-4)


def test_the_log_loses_what_the_stopped_run_wrote_beyond_its_checkpoint(run, whole):
    with (run / "log.jsonl").open("a") as log:
        log.write('{"step": 5, "losses": {"all": 0.0}}\n{"step": 6, "scores": {}}\n{"step": 6, ')
    assert outcome(resume(run)) == whole


@promise("Faults during training", "Where the newest checkpoint is damaged, the run goes on from the one before it, and says so.")
@pytest.mark.parametrize("name", ["about.json", "teacher.safetensors", "student.safetensors", "state.safetensors"])
def test_it_goes_on_from_the_checkpoint_before_a_damaged_one_and_says_so(run, whole, capsys, name):
    damaged = run / "checkpoints/step_000004" / name
    cut(damaged)
    assert outcome(resume(run)) == whole
    said = [line for line in capsys.readouterr().out.splitlines() if "checkpoint before it is used" in line]
    assert len(said) == 1 and str(damaged) in said[0]


def test_no_file_of_a_checkpoint_is_a_pickle(run):
    for folder in checkpoint.checkpoints(run):
        files = {path.name: path.read_bytes() for path in folder.iterdir()}
        assert files.keys() == {"about.json", "teacher.safetensors", "student.safetensors", "state.safetensors"}
        for name, content in files.items():
            tensors = load(content) if name.endswith(".safetensors") else json.loads(content)
            assert tensors and not content.startswith((b"\x80", b"PK"))


def configured(**changes):
    """A change: other values in the run's config, None for no such value."""

    def change(run):
        path = run / "config.json"
        values = json.loads(path.read_text()) | changes
        path.write_text(json.dumps({name: value for name, value in values.items() if value is not None}))

    return change


REFUSALS = {
    "all checkpoints damaged": (
        lambda run: [cut(path) for path in run.glob("checkpoints/*/state.safetensors")],
        [],
        ["step_000002/state.safetensors", "no sound checkpoint"],
    ),
    "ended": (lambda run: (run / "metrics.json").write_text("{}"), [], ["has ended", "evaluate"]),
    "no config": (lambda run: (run / "config.json").unlink(), [], ["config.json", "missing"]),
    "half a config": (lambda run: cut(run / "config.json"), [], ["config.json", "about.json"]),
    "the config of an earlier version": (configured(method=None), [], ["config.json", "names no method", "train anew"]),
    "a config that names another method": (configured(method="mars"), [], ["method 'mars'", "unknown; there are"]),
    "another network": (configured(decoder_channels=24), [], ["teacher does not fit", "same run"]),
    "no student": (configured(distillation=False), [], ["holds student and teacher", "same run"]),
    "parts that do not divide the batch": (lambda run: None, ["--accumulate", "3"], ["batch_size 4", "1 x 3"]),
    "data that are not there": (lambda run: None, ["--data", "nowhere"], ["nowhere"]),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_what_cannot_go_on_is_refused_in_one_line_and_left_as_it_was(run, capsys, name):
    change, words, named = REFUSALS[name]
    untouched = tree(run)
    change(run)
    before = tree(run)
    assert words or before != untouched
    refused(["resume", run, *words], capsys, *named)
    assert tree(run) == before


@pytest.mark.parametrize("classes", ["other order", "one more"])
def test_it_does_not_go_on_with_other_classes(run, shapes_copy, capsys, classes):
    names = [kind.name for kind in shapes.KINDS]
    (shapes_copy / "classes.txt").write_text("\n".join(names[::-1] if classes == "other order" else [*names, "yeti"]))
    before = tree(run)
    refused(["resume", run, "--data", shapes_copy], capsys, str(shapes_copy), "classes")
    assert tree(run) == before


def test_it_does_not_go_on_with_other_images(run, shapes_copy, capsys):
    ids = shapes_copy / "ImageSets/Segmentation/train.txt"
    ids.write_text("\n".join(ids.read_text().splitlines()[:-1]))
    before = tree(run)
    refused(["resume", run, "--data", shapes_copy], capsys, str(ids), "images", str(run))
    assert tree(run) == before


def test_training_into_the_folder_of_a_run_names_the_command_that_goes_on_with_it(run, arguments, capsys):
    before = tree(run)
    refused(arguments(out=str(run)), capsys, f"python -m dsgc resume {run}", "--out")
    assert tree(run) == before


# the state


def learners(config, seed=0):
    """Two networks, alike for the same seed, and their optimisers."""
    torch.manual_seed(seed)
    networks = {name: build_network(config, CLASSES)[0] for name in ("teacher", "student")}
    return networks, {name: optimiser(network, 1e-3, config) for name, network in networks.items()}


def learn(networks, optimisers, seed, without=()):
    """One step with gradients drawn from a seed; parameters whose names begin with `without` get none."""
    generator = torch.Generator().manual_seed(seed)
    for name, network in networks.items():
        for key, parameter in network.named_parameters():
            gradient = torch.randn(parameter.shape, generator=generator)
            parameter.grad = None if key.startswith(without) else gradient
        optimisers[name].step()


def draws():
    return torch.rand(3).tolist(), np.random.rand(3).tolist(), [random.random() for _ in range(3)]  # noqa: NPY002


@pytest.fixture
def kept(tiny, tmp_path):
    """Networks that learned, the decoder but in the last step, and the state that was written before that step."""
    networks, optimisers = learners(tiny())
    for seed in (1, 2):
        learn(networks, optimisers, seed, without=("decoder",))
    weights = {name: copy.deepcopy(network.state_dict()) for name, network in networks.items()}
    save_file(state.gather(networks, optimisers, {"centre": torch.arange(3.0)}), tmp_path / "state.safetensors")
    ahead = draws()
    learn(networks, optimisers, 3)
    return networks, weights, load_file(tmp_path / "state.safetensors"), ahead


def test_with_the_state_put_back_the_next_step_and_the_next_draws_are_the_same(tiny, kept):
    expected, weights, found, ahead = kept
    networks, optimisers = learners(tiny(), seed=9)
    for name, network in networks.items():
        network.load_state_dict(weights[name])
    centre = torch.zeros(3)
    state.restore(found, networks, optimisers, {"centre": centre})
    assert draws() == ahead and centre.tolist() == [0, 1, 2]
    learn(networks, optimisers, 3)
    for name, network in networks.items():
        for key, value in network.state_dict().items():
            assert torch.equal(value, expected[name].state_dict()[key]), key


def test_without_the_state_the_next_step_is_another(tiny, kept):
    expected, weights, _, _ = kept
    networks, optimisers = learners(tiny())
    networks["teacher"].load_state_dict(weights["teacher"])
    learn(networks, optimisers, 3)
    assert not torch.equal(networks["teacher"].encoder.norm.weight, expected["teacher"].encoder.norm.weight)


def test_a_state_from_a_machine_with_a_gpu_can_be_used_without_one(tiny, kept):
    networks, optimisers = learners(tiny())
    state.restore(kept[2] | {"random.cuda": torch.get_rng_state()[:16]}, networks, optimisers, {"centre": torch.zeros(3)})
    assert all(optimisers[name].state for name in networks)


STATES = {
    "other networks": ({"decoder_channels": 24, "projector": (32, 16, 24)}, lambda found: found, "of another network"),
    "fewer networks": ({}, lambda found: found | {"optimiser.third.step.norm.weight": found["memory.centre"]}, "no place for"),
    "no centre": ({}, lambda found: {name: value for name, value in found.items() if name != "memory.centre"}, "no memory.centre"),
    "nothing": ({}, lambda found: {}, "no memory.centre"),
    "more to remember": ({}, lambda found: found | {"memory.more": found["memory.centre"]}, "no place for"),
    "less to remember": ({}, lambda found: found | {"memory.centre": found["memory.centre"][:2].clone()}, "memory.centre has 2 numbers"),
    "half an optimiser": ({}, lambda found: {k: v for k, v in found.items() if ".exp_avg_sq." not in k}, "of another network"),
}


@pytest.mark.parametrize("name", STATES)
def test_a_state_of_something_else_is_refused(tiny, kept, name):
    changes, change, named = STATES[name]
    networks, optimisers = learners(tiny(**changes))
    with pytest.raises(UserError, match=named) as caught:
        state.restore(change(kept[2]), networks, optimisers, {"centre": torch.zeros(3)})
    assert "\n" not in str(caught.value)
