"""Results are made several at a time, each in a process of its own, once; what is damaged or of other code is told apart."""

import contextlib
import json
import os
import re
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

import dsgc.training.loop
from dsgc.correction import RULES
from dsgc.data import shapes
from dsgc.errors import UserError
from dsgc.experiments import provenance, runner
from dsgc.scoring.pictures import decoded

ROOT = Path(__file__).resolve().parents[2]
LONG = {"steps": 20_000}  # minutes: such a run is killed long before


@pytest.fixture(scope="module")
def made(tiny, tmp_path_factory):
    """A folder with the result of one tiny run, and its configuration."""
    folder = tmp_path_factory.mktemp("made")
    config = tiny(seed=3, pictures=2)
    runner.make(config, folder, tmp_path_factory.mktemp("scratch"))
    return folder, config


@pytest.fixture
def copy(made, tmp_path):
    """The same in a folder that a test may damage: (folder, config, path of the result)."""
    folder, config = made
    return tmp_path, config, Path(shutil.copy(runner.path_of(config, folder), tmp_path))


def store(config, folder, of, **about):
    """Write the result `of` as one of this configuration, with other facts about it."""
    result = of._replace(config=runner.described(config), about=of.about | about)
    runner.path_of(config, folder).write_text(json.dumps(result._asdict() | {"digest": runner.digest(result)}))


def handed_out(monkeypatch, act=lambda *_: None):
    """Runs are not made: a list of the arguments that each process would get, in the order in which they come."""
    seen = []
    monkeypatch.setattr(runner, "_make_apart", lambda *given: seen.append(given) or act(*given))
    return seen


# one result


def test_a_result_is_found_again_with_scores_counts_samples_and_provenance(made):
    folder, config = made
    state, result = runner.look_up(config, folder)
    assert state == "done" and result.config["seed"] == 3 and "out" not in result.config
    assert 0 <= result.scores["teacher"]["seg"]["miou"] <= 1 and result.scores["images"] == 4
    assert len(result.counts["rules"]) == len(RULES) and len(result.counts["detectors"]) == 2
    assert list(result.samples) == ["val_00000", "val_00001"]
    for maps in result.samples.values():
        assert {name: decoded(png).shape for name, png in maps.items()} == dict.fromkeys(
            ("cam", "pseudo", "prediction"), (shapes.SIDE, shapes.SIDE)
        )
    assert set(result.about) == {"code", "commit", "date", "seconds", "threads", "machine", "versions"}
    assert result.about["code"] == provenance.code_version("dsgc")


def test_the_counts_are_of_every_pixel_of_the_split(made):
    """Masks of the shapes have no pixel without a label, and the pseudo label has one for every second pixel each way."""
    counts = runner.look_up(made[1], made[0])[1].counts
    assert sum(number for rule in counts["rules"] for row in rule for number in row) == 4 * (shapes.SIDE // 2) ** 2


def test_without_pseudo_labels_there_is_nothing_to_count(tiny, tmp_path):
    config = tiny("masks", pictures=0)
    runner.make(config, tmp_path / "results", tmp_path)
    state, result = runner.look_up(config, tmp_path / "results")
    assert state == "done" and result.counts == {} and result.samples == {}
    assert result.scores.keys() == {"network", "images", "list", "masks"}


def test_where_a_run_takes_place_does_not_matter_but_what_it_does(made, tiny):
    folder, config = made
    places = [{"out": "elsewhere"}, {"workers": 1}, {"data": "copy"}]
    for elsewhere in (*places, {"batch_size": 4, "accumulate": 2}, {"recompute": True}, {"keep_checkpoints": 1}):
        assert runner.look_up(config.changed(**elsewhere), folder)[0] == "done"
    for other in ({"seed": 4}, {"tau": 0.51}, {"refine_dilations": (1, 2)}, {"pictures": 3}):
        assert runner.look_up(config.changed(**other), folder) == ("missing", None)
    assert runner.look_up(tiny("base", seed=3, pictures=2), folder) == ("missing", None)


DAMAGES = {
    "cut short": lambda text: text[: len(text) // 2],
    "empty": lambda text: "",
    "other configuration": lambda text: text.replace('"seed": 3', '"seed": 2'),
    "other scores": lambda text: text.replace('"images": 4', '"images": 5'),
    "other counts": lambda text: text.replace('"rules": [', '"rules": [[[0]], '),
    "other code": lambda text: text.replace(provenance.code_version("dsgc"), "0123456789"),
    "without samples": lambda text: text.replace('"samples"', '"examples"'),
    "a list": lambda text: "[1, 2]",
    "bytes": lambda text: "\udcff" + text,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_result_is_not_used(copy, damage):
    folder, config, path = copy
    text = path.read_text()
    damaged = DAMAGES[damage](text)
    assert damaged != text
    path.write_bytes(damaged.encode(errors="surrogateescape"))
    assert runner.look_up(config, folder) == ("damaged", None)


def test_a_result_of_another_run_under_this_one_s_name_is_damaged(copy):
    folder, config, path = copy
    other = config.changed(seed=4)
    path.rename(runner.path_of(other, folder))
    assert runner.look_up(other, folder) == ("damaged", None)


def test_a_result_of_other_code_is_used_but_named_and_made_again(copy, monkeypatch):
    folder, config, path = copy
    whole = runner.look_up(config, folder)[1]
    monkeypatch.setattr(runner, "code_version", lambda method: "0123456789")
    assert runner.look_up(config, folder) == ("other code", whole)
    results = runner.read({"mine": config}, folder, "make it")
    assert results == {"mine": whole}
    assert runner.summary(results).startswith(f"1 runs, 1 of them by other code than today's ({whole.about['code']});")
    seen, said = handed_out(monkeypatch), []
    assert runner.make_all({"mine": config}, folder, jobs=1, say=said.append) == 0
    assert [given[0] for given in seen] == [config]
    assert said[:2] == [f"mine: {path.name} other code, made again", "0 of 1 results are there, 1 to make, 1 at a time"]


# several results


def test_what_is_lacking_is_counted_by_kind_and_the_command_that_makes_it_is_named(copy):
    folder, config, _ = copy
    runs = {(seed, "row"): config.changed(seed=seed) for seed in (3, 4, 5, 6)}
    assert runner.read({(3, "row"): config}, folder, "make it")[3, "row"].config["seed"] == 3
    runner.path_of(runs[5, "row"], folder).write_text("{}")
    with pytest.raises(UserError, match="of 4 results 2 missing, 1 damaged; make them with `make it`$"):
        runner.read(runs, folder, "make it")


def test_a_summary_names_each_code_machine_and_version_once_and_adds_the_hours(made):
    result = runner.look_up(made[1], made[0])[1]
    facts = {"code": "0123456789", "date": "2001-02-03", "machine": "a box", "seconds": 7200, "threads": 96}
    slow = result._replace(about=result.about | {"seconds": 3600})
    assert f"2 runs, all by today's code, {provenance.code_version('dsgc')};" in runner.summary({1: slow, 2: slow})
    text = runner.summary({1: slow, 2: slow._replace(about=slow.about | facts), 3: slow})
    assert re.match(r"3 runs, 1 of them by other code than today's \(.*\b0123456789\b.*?\); ", text)
    assert text.endswith("4.0 hours of training in all")
    for name in ("date", "machine", "threads"):
        assert f" {', '.join(sorted((str(facts[name]), str(slow.about[name]))))};" in text
    assert text.count(f"torch {slow.about['versions']['torch']}") == 1


def test_a_summary_compares_each_result_with_the_code_of_its_method(made):
    result = runner.look_up(made[1], made[0])[1]
    codes = {name: provenance.code_version(name) for name in ("base", "dsgc", "masks")}
    assert len(set(codes.values())) == 3
    results = {
        name: result._replace(config=result.config | {"method": name}, about=result.about | {"code": code})
        for name, code in codes.items()
    }
    assert f"3 runs, all by today's code, {', '.join(sorted(codes.values()))};" in runner.summary(results)
    swapped = results["base"]._replace(about=result.about | {"code": codes["masks"]})
    assert f"2 of them by other code than today's ({codes['masks']})" in runner.summary({1: swapped, 2: result, 3: swapped})


def test_a_plan_has_a_line_for_each_run_and_the_time_that_the_rest_takes(made, tmp_path):
    config, result = made[1], runner.look_up(made[1], made[0])[1]
    runs = {f"seed {seed}": config.changed(seed=seed) for seed in range(7)}
    for seed, seconds in enumerate((60, 1200, 600)):  # the median is ten minutes
        store(runs[f"seed {seed}"], tmp_path, result, seconds=seconds)
    runner.path_of(runs["seed 3"], tmp_path).write_text("{}")
    *lines, last = runner.plan(runs, tmp_path, 2)
    states = 3 * ["done"] + ["damaged"] + 3 * ["missing"]
    assert [line.split(maxsplit=2) for line in lines] == [
        [state, runner.path_of(run, tmp_path).name, label] for state, (label, run) in zip(states, runs.items(), strict=True)
    ]
    assert last == "3 of 7 results are there, 4 to make, 2 at a time: about 20 min"


def test_a_plan_says_when_there_is_nothing_to_estimate_from_or_nothing_to_do(copy):
    folder, config, _ = copy
    last = runner.plan({"longer": config.changed(steps=5)}, folder, 1)[-1]
    assert last == "0 of 1 results are there, 1 to make, 1 at a time: no run to estimate from"
    assert runner.plan({"mine": config}, folder, 1)[-1] == "1 of 1 results are there, 0 to make, 1 at a time"


def test_an_estimate_is_of_as_many_steps_of_the_same_method_and_encoder_by_whatever_code(copy, tiny, monkeypatch):
    folder, config, _ = copy
    seconds = runner.look_up(config, folder)[1].about["seconds"]
    (folder / "other.json").write_text("[1, 2]")
    monkeypatch.setattr(runner, "code_version", lambda method: "0123456789")
    assert runner.durations(folder) == {("dsgc", config.steps, config.encoder, config.crop_size, config.batch_size): seconds}
    assert "about" in runner.plan({"other": config.changed(seed=9, tau=0.1)}, folder, 1)[-1]
    assert "no run to estimate from" in runner.plan({"other": tiny("base")}, folder, 1)[-1]
    for other in ({"steps": 5}, {"encoder": "vit_tiny_patch16_224"}, {"crop_size": 64}, {"batch_size": 5}):
        assert "no run to estimate from" in runner.plan({"other": config.changed(**other)}, folder, 1)[-1]


# how processes are dealt out


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


# real processes


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
        store(self.runs["there"], self.results, runner.look_up(config, source)[1])
        runner.path_of(self.runs["damaged"], self.results).write_text("{}")
        self.before = runner.path_of(self.runs["there"], self.results).stat().st_mtime_ns
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
    states = {label: runner.look_up(config, apart.results)[0] for label, config in apart.runs.items()}
    assert states == {"killed": "missing", "there": "done", "broken": "missing", "damaged": "done"}
    assert runner.path_of(apart.runs["there"], apart.results).stat().st_mtime_ns == apart.before


def test_what_happens_is_told_line_by_line(apart):
    name = runner.path_of(apart.runs["damaged"], apart.results).name
    assert apart.said[:2] == [f"damaged: {name} damaged, made again", "1 of 4 results are there, 3 to make, 2 at a time"]
    broken, damaged, killed = apart.said[2:]  # the two that follow each other end while the long one goes on
    assert broken.startswith("1 of 3: FAILED broken: ") and "nowhere.txt" in broken and "\n" not in broken
    assert damaged == "2 of 3: damaged"
    assert killed == f"3 of 3: FAILED killed: killed by signal {signal.SIGKILL:d}"


def test_a_run_apart_gives_what_it_gives_here_also_with_loading_processes(apart, made):
    here, there = (runner.look_up(apart.config, folder)[1] for folder in (made[0], apart.results))
    assert here.config == there.config and there.about["threads"] == 1
    assert (here.scores, here.counts, here.samples) == (there.scores, there.counts, there.samples)


def test_nothing_is_left_but_results(apart):
    wanted = {runner.path_of(apart.runs[label], apart.results) for label in ("there", "damaged")}
    assert set(apart.results.iterdir()) == wanted
    assert list(apart.scratch.iterdir()) == []


def test_the_same_command_makes_only_what_lacks(apart, monkeypatch):
    seen, said = handed_out(monkeypatch), []
    assert runner.make_all(apart.runs, apart.results, jobs=1, say=said.append) == 0
    assert [given[0] for given in seen] == [apart.runs["killed"], apart.runs["broken"]]
    assert said == ["2 of 4 results are there, 2 to make, 1 at a time", "1 of 2: killed", "2 of 2: broken"]


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
runner.make_all({seed: config.changed(seed=seed) for seed in (1, 2)}, results, jobs=2)
"""


@pytest.fixture
def near():
    """A temporary folder with a short path: workers that load data put a socket below it, whose address holds 107 characters."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def test_the_runs_of_a_killed_process_end_soon_and_leave_no_result(made, tmp_path, near):
    """All its processes, those that load data too, hold one end of a pipe: the other end reads nothing only when all are gone."""
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
        while sum(path.stat().st_size > 0 for path in scratch.glob("*/*/run/log.jsonl")) < 2:
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
    assert not results.exists() or list(results.iterdir()) == []
    assert list(scratch.glob("dsgc-runs-*")) == []


def test_what_other_code_made_is_named_without_today_s(made):
    result = runner.look_up(made[1], made[0])[1]
    other = result._replace(about=result.about | {"code": "0123456789"})
    assert "1 of them by other code than today's (0123456789);" in runner.summary({1: result, 2: other})


def test_a_plan_for_more_jobs_than_runs_takes_as_long_as_one(made, tmp_path):
    config = made[1]
    store(config, tmp_path, runner.look_up(config, made[0])[1], seconds=600)
    runs = {"a": config.changed(seed=1), "b": config.changed(seed=2)}
    assert runner.plan(runs, tmp_path, 8)[-1].endswith("about 10 min")


def test_a_result_is_of_the_code_that_was_loaded_though_files_changed_while_it_trained(tiny, tmp_path, monkeypatch):
    order, genuine, train = [], runner.provenance, dsgc.training.loop.train
    monkeypatch.setattr(runner, "provenance", lambda *given: order.append("provenance") or genuine(*given))
    monkeypatch.setattr(dsgc.training.loop, "train", lambda config: order.append("train") or train(config))
    runner.make(tiny(pictures=0), tmp_path / "results", tmp_path)
    assert order == ["provenance", "train"]


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
