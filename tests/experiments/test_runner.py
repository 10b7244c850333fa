"""Runs are made several at a time, each in a process of its own, once; nothing but results is left."""

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest
from kept import handed_out, store

from dsgc.errors import UserError
from dsgc.experiments import runner, stored

ROOT = Path(__file__).resolve().parents[2]
LONG = {"steps": 20_000}  # minutes: such a run is killed long before


def test_no_jobs_is_refused(made):
    with pytest.raises(UserError, match="jobs 0: must be 1 or more"):
        runner.make_all({"mine": made[1]}, made[0], jobs=0)


@pytest.mark.parametrize(
    ("jobs", "cards", "cores", "places"),
    [
        (3, 2, 8, [("CUDA_VISIBLE_DEVICES", number) for number in "001"]),
        (3, 0, 8, 3 * [("OMP_NUM_THREADS", "2")]),
        (3, 0, 2, 3 * [("OMP_NUM_THREADS", "1")]),
        (2, 0, None, 2 * [("OMP_NUM_THREADS", "1")]),
    ],
)
def test_runs_at_a_time_share_the_cards_or_else_the_cores(tiny, tmp_path, monkeypatch, jobs, cards, cores, places):
    together = threading.Barrier(jobs)  # passed by all at once, so that none takes the place that another gave back
    seen = handed_out(monkeypatch, lambda *_: (together.wait(60), None)[1])
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    monkeypatch.setattr(runner, "gpus", lambda: cards)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    runs = {seed: tiny(seed=seed) for seed in range(jobs)}
    assert runner.make_all(runs, tmp_path, jobs=jobs, say=[].append) == 0
    assert sorted(item for given in seen for item in given[3].items()) == places


def test_without_a_driver_there_is_no_card_and_one_run_for_each_core(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(os, "cpu_count", lambda: 5)
    assert runner.gpus() == 0 and runner.jobs_here() == 5
    monkeypatch.setattr(runner, "gpus", lambda: 2)
    assert runner.jobs_here() == 2


def test_never_more_run_than_the_jobs_and_each_has_a_folder_of_its_own(tiny, tmp_path, monkeypatch):
    counter, counts, pair = threading.Semaphore(2), [], threading.Barrier(2)

    def act(*_):
        counts.append(counter.acquire(blocking=False))
        pair.wait(60)  # two at a time, or this would never be passed
        counter.release()

    seen = handed_out(monkeypatch, act)
    assert runner.make_all({seed: tiny(seed=seed) for seed in range(6)}, tmp_path, jobs=2, say=[].append) == 0
    assert counts == 6 * [True] and len({given[2] for given in seen}) == 6


class Apart:
    """What `make_all` did with four runs, two at a time: one is there, one damaged, one cannot be, one is killed on the way."""

    def __init__(self, made, folder, patch):
        source, config = made
        self.results, self.scratch = folder / "results", folder / "scratch"
        self.results.mkdir()
        self.scratch.mkdir()
        self.config = config
        self.runs = {
            "killed": config.changed(seed=8, **LONG),
            "there": config.changed(seed=4),
            "broken": config.changed(seed=6, val_split="nowhere"),
            "damaged": config.changed(workers=1),
        }
        store(self.runs["there"], self.results, stored.look_up(config, source)[1])
        stored.path_of(self.runs["damaged"], self.results).write_text("{}")
        self.before = stored.path_of(self.runs["there"], self.results).stat().st_mtime_ns
        self.said, self.started = [], []
        started = self.started

        class Noted(subprocess.Popen):
            def __init__(self, *words, **options):
                super().__init__(*words, **options)
                started.append(self)

        patch.setattr(subprocess, "Popen", Noted)
        patch.setattr(tempfile, "tempdir", str(self.scratch))
        patch.setattr(runner, "gpus", lambda: 0)
        patch.setattr(os, "cpu_count", lambda: 2)  # one thread for each of two, as in these tests
        patch.setenv("PYTHONPATH", str(ROOT))
        self.over = threading.Event()
        killer = threading.Thread(target=self.kill)
        killer.start()
        try:
            self.failed = runner.make_all(self.runs, self.results, jobs=2, say=self.said.append)
        finally:
            self.over.set()
            killer.join()

    def kill(self):
        """Kill the long run when the other two have ended and it trains; after minutes whatever there is, so that nothing hangs."""
        deadline = time.monotonic() + 300
        while not self.over.wait(0.05) and time.monotonic() < deadline:
            if len(self.said) == 4 and [path for path in self.scratch.glob("*/*/run/log.jsonl") if path.stat().st_size]:
                break
        for process in self.started:
            process.kill()


@pytest.fixture(scope="module")
def apart(made, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        return Apart(made, tmp_path_factory.mktemp("apart"), patch)


def test_a_failing_and_a_killed_run_stop_nothing_and_cost_only_themselves(apart):
    assert apart.failed == 2 and len(apart.started) == 3
    states = {label: stored.look_up(config, apart.results)[0] for label, config in apart.runs.items()}
    assert states == {"killed": "missing", "there": "done", "broken": "missing", "damaged": "done"}
    assert stored.path_of(apart.runs["there"], apart.results).stat().st_mtime_ns == apart.before


def test_what_happens_is_told_line_by_line(apart):
    name = stored.path_of(apart.runs["damaged"], apart.results).name
    assert apart.said[:2] == [f"damaged: {name} damaged, made again", "1 of 4 results are there, 3 to make, 2 at a time"]
    broken, damaged, killed = apart.said[2:]  # the two that follow each other end while the long one goes on
    assert broken.startswith("1 of 3: FAILED broken: ") and "nowhere.txt" in broken and "\n" not in broken
    assert damaged == "2 of 3: damaged"
    assert killed == f"3 of 3: FAILED killed: killed by signal {signal.SIGKILL:d}"


def test_a_run_apart_gives_what_it_gives_here_also_with_loading_processes(apart, made):
    here, there = (stored.look_up(apart.config, folder)[1] for folder in (made[0], apart.results))
    assert here.config == there.config and there.about["threads"] == 1
    assert (here.scores, here.counts, here.samples) == (there.scores, there.counts, there.samples)


def test_nothing_is_left_but_results(apart):
    wanted = {stored.path_of(apart.runs[label], apart.results) for label in ("there", "damaged")}
    assert set(apart.results.iterdir()) == wanted
    assert list(apart.scratch.iterdir()) == []


def test_the_same_command_makes_only_what_lacks(apart, monkeypatch):
    seen, said = handed_out(monkeypatch), []
    assert runner.make_all(apart.runs, apart.results, jobs=1, say=said.append) == 0
    assert [given[0] for given in seen] == [apart.runs["killed"], apart.runs["broken"]]
    assert said == ["2 of 4 results are there, 2 to make, 1 at a time", "1 of 2: killed", "2 of 2: broken"]


# processes that lose their parent, and other trouble


GRID = """
import json, subprocess, sys
from pathlib import Path
from dsgc.experiments import runner
from dsgc.methods import configured

class Passed(subprocess.Popen):
    def __init__(self, *words, **options):
        super().__init__(*words, **options, pass_fds=[alive])

results, alive, values = Path(sys.argv[1]), int(sys.argv[2]), json.loads(sys.argv[3])
subprocess.Popen = Passed
config = configured(values)
runner.make_all({tau: config.changed(tau=tau) for tau in (0.1, 0.2)}, results, jobs=2)
"""


@pytest.fixture
def near():
    """A temporary folder with a short path: workers that load data put a socket below it, whose address holds 107 characters."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def test_the_runs_of_a_killed_process_end_soon_and_leave_no_result_but_a_warm_up(made, tmp_path, near):
    """All its processes, those that load data too, hold one end of a pipe: the other end reads nothing only when all are gone.

    The two go on from one warm-up of two steps, whose files are still there when both train.
    """
    results, scratch = tmp_path / "results", near
    config = made[1].changed(workers=1, **LONG)
    here, there = os.pipe()
    parent = subprocess.Popen(
        [sys.executable, "-c", GRID, results, str(there), json.dumps(config.flat())],
        env=os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(scratch)}, pass_fds=[there], start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(there)
    try:
        deadline = time.monotonic() + 300
        while sum(len(path.read_text().splitlines()) > 2 for path in scratch.glob("*/*/run/log.jsonl")) < 2:
            assert parent.poll() is None and time.monotonic() < deadline, "the two runs never came to their first step"
            time.sleep(0.05)
        parent.kill()
        parent.wait()
        assert select.select([here], [], [], 60)[0], "a process is still there a minute after its parent was killed"
        assert os.read(here, 1) == b""
    finally:
        os.close(here)
        with contextlib.suppress(ProcessLookupError):  # as it should be: none is left
            os.killpg(parent.pid, signal.SIGKILL)
        parent.wait()
    assert list(results.glob("*.json")) == [] and list(scratch.glob("dsgc-runs-*")) == []
    left = sorted(path.name.split("-")[0] for path in (results / ".making").iterdir() if "." not in path.name)
    assert left[2:] == ["grown", "needs"], "two runs claimed by a process that is gone, and a warm-up that the next goes on from"


def test_cards_are_those_that_the_environment_names(tiny, tmp_path, monkeypatch):
    seen = handed_out(monkeypatch)
    monkeypatch.setattr(runner, "gpus", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    runner.make_all({seed: tiny(seed=seed) for seed in range(3)}, tmp_path, jobs=1, say=[].append)
    assert {given[3]["CUDA_VISIBLE_DEVICES"] for given in seen} == {"3"}


@pytest.mark.parametrize("name", ["file", "file/below"])
def test_a_folder_that_cannot_be_written_is_refused_before_anything_runs(tiny, tmp_path, monkeypatch, name):
    seen = handed_out(monkeypatch)
    (tmp_path / "file").write_text("kept")
    with pytest.raises(UserError, match="cannot write here"):
        runner.make_all({"a": tiny()}, tmp_path / name, jobs=1, say=[].append)
    assert seen == [] and (tmp_path / "file").read_text() == "kept"


def test_an_error_on_the_way_ends_the_processes_and_leaves_nothing(made, tmp_path, monkeypatch):
    """Here the one that tells what happens fails; an interrupt does the same."""
    results, scratch = tmp_path / "results", tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    started = []

    class Noted(subprocess.Popen):
        def __init__(self, *words, **options):
            super().__init__(*words, **options)
            started.append(self)

    monkeypatch.setattr(subprocess, "Popen", Noted)

    def say(line):
        if "FAILED" in line:
            raise BrokenPipeError

    runs = {"long": made[1].changed(**LONG), "broken": made[1].changed(val_split="nowhere")}
    with pytest.raises(BrokenPipeError):
        runner.make_all(runs, results, jobs=2, say=say)
    assert sorted(process.returncode for process in started) == [-signal.SIGKILL, 2]
    assert list(results.iterdir()) == list(scratch.iterdir()) == []


def test_torch_is_loaded_only_by_the_processes_that_train():
    code = "import sys; from dsgc import __main__; from dsgc.experiments import grids, runner; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(ROOT)}).returncode == 0
