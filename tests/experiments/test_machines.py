"""Several runners on one folder: each run and each warm-up is made once, whoever dies, and all results are there at the end.

The runners are processes of their own. What they would train is not trained here: it leaves a line, so that it can be counted.
"""

import os
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
from kept import store

from dsgc.experiments import apart, claims, forks, plan, runner, stored
from dsgc.experiments.claims import Claims
from dsgc.experiments.provenance import code_version

ROOT = Path(__file__).resolve().parents[2]
RUNNER = """
import sys
from pathlib import Path
from test_machines import Two
two = Two(Path(sys.argv[1]), *map(int, sys.argv[3:]))
sys.exit(two.here(hang=sys.argv[2] == "hangs"))
"""


@dataclass(frozen=True)
class Later:
    """A method as the runner sees it: runs that differ in `tau` alone share two steps. Nothing of torch is loaded for it."""

    name: ClassVar = "dsgc"
    later: ClassVar = ("tau",)
    shared_steps: ClassVar = 2


@dataclass(frozen=True)
class Light:
    """A configuration, as the runner sees it."""

    seed: int
    tau: float
    steps: int = 4
    eval_every: int = 0
    weights: str = "none"
    method: Later = Later()

    def flat(self):
        return {"seed": self.seed, "tau": self.tau, "weights": self.weights, "steps": self.steps}


def counting(lines, hang=False):
    """In place of `apart`: a line for each run and each warm-up that is begun; one that hangs is never done with a run."""
    about = {name: kind() for name, kind in stored.ABOUT.items()} | {"code": code_version("dsgc")}

    def act(config, folder, scratch, place, stop, trunk, *, grows):
        with lines.open("a") as file:
            file.write(f"{config.seed} {'trunk' if grows else config.tau}\n")
        if hang and not grows:
            stop.wait()
            return "stopped"
        time.sleep(0.02)
        if grows:
            trunk.mkdir()
            (trunk / forks.ABOUT).write_text("{}")
        elif not forks.is_grown(trunk):
            return "its warm-up is not there"
        else:
            store(config, folder, stored.Result({}, {}, {}, {}, about))

    return act


class Two:
    """Two runners on one folder, the other one a process of its own: of each seed they make four runs that share a warm-up."""

    def __init__(self, folder, *seeds):
        self.folder, self.results, self.log, self.said, self.seeds = folder, folder / "results", folder / "lines", [], seeds
        self.runs = {f"{seed} {tau}": Light(seed, tau) for seed in seeds for tau in (0.1, 0.2, 0.3, 0.4)}
        self.other = None

    def lines(self):
        return self.log.read_text().splitlines() if self.log.exists() else []

    def begin(self, lines, how="works"):
        """Begin the other one, and wait until it has begun so many processes."""
        path = os.pathsep.join(map(str, (ROOT, ROOT / "tests", ROOT / "tests/experiments")))
        self.other = subprocess.Popen(
            [sys.executable, "-c", RUNNER, self.folder, how, *map(str, self.seeds)], env=os.environ | {"PYTHONPATH": path},
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        self.until(lines)

    def until(self, lines):
        deadline = time.monotonic() + 300
        while len(self.lines()) < lines:
            assert time.monotonic() < deadline, "it never came so far"
            time.sleep(0.01)

    def here(self, *, hang=False):
        """What the runner of this process comes to."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(runner, "apart", counting(self.log, hang))
            return runner.make_all(self.runs, self.results, jobs=2, say=self.say)

    def say(self, line):
        self.said.append(line)
        print(line, flush=True)


@pytest.fixture
def two(tmp_path):
    begun = []
    code_version("dsgc")  # it takes a while, in which the other one would make all
    yield lambda *seeds: begun.append(Two(tmp_path, *seeds)) or begun[-1]
    for other in [two.other for two in begun if two.other]:
        other.kill()
        other.communicate()


def test_runners_at_once_make_each_run_and_each_warm_up_once(two):
    two = two(*range(6))
    two.begin(2)
    assert two.here() == 0
    said = two.other.communicate(timeout=300)[0].splitlines()
    assert two.other.returncode == 0
    assert Counter(two.lines()) == Counter([*two.runs, *(f"{seed} trunk" for seed in range(6))])
    assert len(list(two.results.iterdir())) == 24, "results, and nothing else"
    own = [line for line in (*two.said[1:], *said[1:]) if "made by another" not in line]
    assert len(own) == 24 and not [line for line in own if "FAILED" in line]


def test_what_a_killed_runner_was_at_the_other_makes(two):
    two = two(0)
    two.begin(3, "hangs")
    assert two.lines()[0] == "0 trunk"
    others = plan.others(two.runs, two.results)
    assert [owner.process for owner in others.values()] == 2 * [two.other.pid]
    killer = threading.Thread(target=lambda: (two.until(5), two.other.kill(), two.other.wait()))
    killer.start()  # it dies when the two that are left are under way here
    assert two.here() == 0
    killer.join()
    assert two.said[0].endswith(f"; 2 of them are being made by {socket.gethostname()}, process {two.other.pid}")
    assert sorted(Counter(two.lines()).values()) == [1, 1, 1, 2, 2], "the warm-up once, what was under way again"
    assert len(list(two.results.iterdir())) == 4


def test_one_that_need_not_be_the_last_ends_when_all_is_in_others_hands(tiny, tmp_path, monkeypatch):
    runs, others = {"a": tiny(seed=1), "b": tiny(seed=2)}, Claims(plan.making(tmp_path))
    for config in runs.values():
        assert others.take(stored.path_of(config, tmp_path).stem)
    monkeypatch.setattr(runner, "apart", None)
    said = []
    assert runner.make_all(runs, tmp_path, jobs=1, say=said.append, last=False) == 0
    (owner,) = {str(others.owner(key)) for key in others.held}
    assert said == [f"0 of 2 results are there, 2 to make, 1 at a time; 2 of them are being made by {owner}"]


def test_a_warm_up_stays_as_long_as_another_runner_needs_it_for_runs_of_its_own(tiny, tmp_path, monkeypatch):
    runs, grew, other = {tau: tiny(tau=tau) for tau in (0.1, 0.2, 0.3, 0.4)}, [], Claims(plan.making(tmp_path))

    def act(config, folder, scratch, place, stop, trunk, *, grows):
        if grows:
            grew.append(trunk)
            trunk.mkdir()
            (trunk / forks.ABOUT).write_text("{}")
        assert trunk is None or forks.is_grown(trunk)

    monkeypatch.setattr(runner, "apart", act)
    mark = other.take(f"needs-{forks.name(runs[0.1])}-other")
    for pair in ((0.1, 0.2), (0.3, 0.4)):
        assert runner.make_all({tau: runs[tau] for tau in pair}, tmp_path, jobs=1, say=[].append) == 0
        assert len(list(tmp_path.glob(".making/grown-*"))) == 1
    other.release(mark)
    assert runner.make_all({"b": tiny(seed=1)}, tmp_path, jobs=1, say=[].append) == 0
    assert len(grew) == 1 and list(tmp_path.iterdir()) == []


def test_a_run_that_another_takes_over_is_stopped_here_and_counted_there(made, tiny, tmp_path, monkeypatch):
    """Here another takes over, though this machine lives: its claim has been old for a moment."""
    folder, said, result = tmp_path / "results", [], stored.look_up(made[1], made[0])[1]
    other, mine = Claims(plan.making(folder)), []

    class Watched(Claims):
        def __init__(self, folder):
            super().__init__(folder)
            mine.append(self)

    def act(config, folder, scratch, place, stop, trunk, *, grows):
        (claim,) = mine[0].held.values()
        os.utime(claim.path, (1, 1))
        taken = other.take(claim.key)
        mine[0]._touch(claim)
        assert stop.is_set()
        store(config, folder, result)
        other.release(taken)
        return "killed by signal 9"

    monkeypatch.setattr(runner, "Claims", Watched)
    monkeypatch.setattr(runner, "apart", act)
    assert runner.make_all({"a": tiny()}, folder, jobs=1, say=said.append) == 0
    assert said[1:] == ["a: taken over by another, to whom this machine seemed gone", "1 of 1: a, made by another"]


def test_a_failed_run_is_not_tried_by_another_as_long_as_its_runner_is_there(tiny, tmp_path, monkeypatch):
    folder, tried = tmp_path / "results", []
    runs = {"a": tiny(seed=1), "b": tiny(seed=2)}

    def act(config, *_, grows):
        tried.append(config.seed)
        if config.seed == 2:
            assert runner.make_all({"a": runs["a"]}, folder, jobs=1, say=[].append, last=False) == 0
        return "no room"

    monkeypatch.setattr(runner, "apart", act)
    assert runner.make_all(runs, folder, jobs=1, say=[].append) == 2
    assert tried == [1, 2] and list(folder.iterdir()) == []


def test_warm_ups_that_nobody_needs_any_more_go_and_those_of_other_code_are_others(tiny, tmp_path, monkeypatch):
    folder = tmp_path / "results"
    making = plan.making(folder)
    left = making / "grown-0123456789abcdef"
    (left / "run").mkdir(parents=True)
    (making / f"{left.name}-0011").mkdir()
    monkeypatch.setattr(runner, "apart", lambda *_, grows: None)
    assert runner.make_all({"a": tiny()}, folder, jobs=1, say=[].append) == 0
    assert list(folder.iterdir()) == []
    name = forks.name(tiny())
    monkeypatch.setattr(forks, "code_version", lambda method: "0123456789")
    assert forks.name(tiny()) != name


@pytest.mark.parametrize("content", ["file", "folder of a claim"])
def test_a_damaged_folder_of_claims_is_told_before_anything_runs(tiny, tmp_path, monkeypatch, content):
    monkeypatch.setattr(runner, "apart", None)
    making = plan.making(tmp_path)
    if content == "file":
        making.write_text("kept")
    else:
        (making / stored.path_of(tiny(), tmp_path).stem).mkdir(parents=True)
    with pytest.raises(claims.UserError, match=r"\.making/.*: says who makes a run, and cannot be read \(.*\); delete it"):
        runner.make_all({"a": tiny()}, tmp_path, jobs=1, say=[].append)
    assert apart and (making.is_dir() or making.read_text() == "kept")
