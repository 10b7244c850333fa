"""Results are made once, found again, and never used when damaged or of other code."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from dsgc import runner
from dsgc.errors import UserError


@pytest.fixture(scope="module")
def made(tiny, tmp_path_factory):
    """A folder with the result of one tiny run, and its configuration."""
    folder = tmp_path_factory.mktemp("results")
    config = tiny(seed=3)
    runner.make(config, folder)
    return folder, config


@pytest.fixture
def copy(made, tmp_path):
    """The same in a folder that a test may damage: (folder, config, path of the result)."""
    folder, config = made
    path = runner.path_of(config, tmp_path)
    path.write_bytes(runner.path_of(config, folder).read_bytes())
    return tmp_path, config, path


def test_a_result_is_found_again_with_scores_and_provenance(made):
    state, result = runner.look_up(made[1], made[0])
    assert state == "done" and result.config["seed"] == 3 and "out" not in result.config
    assert 0 <= result.scores["teacher"]["seg"]["miou"] <= 1 and result.scores["images"] == 4
    assert set(result.about) == {"code", "commit", "date", "seconds", "threads", "machine", "versions"}
    assert result.about["code"] == runner.code_version()


def test_where_a_run_takes_place_does_not_matter_but_what_it_does(made, tmp_path):
    folder, config = made
    assert runner.look_up(dataclasses.replace(config, out="elsewhere", workers=1), folder)[0] == "done"
    assert runner.look_up(dataclasses.replace(config, seed=4), folder) == ("missing", None)
    assert runner.look_up(dataclasses.replace(config, tau=0.51), folder) == ("missing", None)


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "",
        lambda text: text.replace('"seed": 3', '"seed": 2'),
        lambda text: text.replace('"images": 4', '"images": 5'),
        lambda text: "[1, 2]",
    ],
)
def test_a_damaged_result_is_not_used(copy, damage):
    folder, config, path = copy
    path.write_text(damage(path.read_text()))
    assert runner.look_up(config, folder) == ("damaged", None)


def test_a_result_of_other_code_is_reported_and_not_used(copy):
    folder, config, path = copy
    path.rename(runner.path_of(config, folder, "0123456789"))
    assert runner.look_up(config, folder) == ("other code", None)
    with pytest.raises(UserError, match=r"of 1 results 1 other code; make them with `make ablations`"):
        runner.need([config], folder, "make ablations")
    assert runner.seconds_expected(config, folder) is not None  # as an estimate it serves


def test_what_is_lacking_is_counted_by_kind(copy):
    folder, config, _ = copy
    assert [result.config["seed"] for result in runner.need([config, config], folder, "make it")] == [3, 3]
    others = [dataclasses.replace(config, seed=seed) for seed in (5, 6)]
    with pytest.raises(UserError, match="of 3 results 2 missing"):
        runner.need([config, *others], folder, "make it")


def test_what_is_lacking_is_made_several_at_a_time_and_a_failure_stops_nothing(copy, monkeypatch):
    folder, config, path = copy
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    damaged, sound = dataclasses.replace(config, seed=4), dataclasses.replace(config, seed=5)
    broken = dataclasses.replace(config, seed=6, val_split="nowhere")
    runner.path_of(damaged, folder).write_text("{}")
    before, said = path.stat().st_mtime_ns, []
    assert runner.make_all([config, broken, sound, damaged, sound], folder, jobs=2, say=said.append) == 1
    assert said[0] == f"{runner.path_of(damaged, folder).name}: damaged, made again"
    assert said[1] == "1 of 4 results are there, 3 to make, 2 at a time" and len(said) == 5
    assert [line for line in said if "FAILED" in line and "UserError" in line and "nowhere" in line]
    assert path.stat().st_mtime_ns == before and runner.look_up(broken, folder)[0] == "missing"
    first, second = runner.need([damaged, sound], folder, "make it")
    assert first.scores != second.scores and first.config["seed"] == 4


def test_a_killed_run_leaves_no_result(made, tmp_path):
    """A real process, killed in the middle of training."""
    script = (
        "import dataclasses, json, sys; from dsgc import runner; from dsgc.config import Config\n"
        "values = {k: tuple(v) if isinstance(v, list) else v for k, v in json.loads(sys.argv[1]).items()}\n"
        "runner.make(Config(**values), sys.argv[2])\n"
    )
    config = dataclasses.replace(made[1], steps=5000, warmup_steps=2)
    scratch, results = tmp_path / "scratch", tmp_path / "results"
    scratch.mkdir()
    results.mkdir()
    command = [sys.executable, "-c", script, json.dumps(dataclasses.asdict(config)), str(results)]
    process = subprocess.Popen(
        command, env=os.environ | {"TMPDIR": str(scratch)}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        while process.poll() is None and not any(path.stat().st_size for path in scratch.glob("*/run/log.jsonl")):
            time.sleep(0.02)
        assert process.poll() is None, "it ended before it could be killed"
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert list(results.iterdir()) == [] and runner.look_up(config, results) == ("missing", None)


def test_no_jobs_is_refused(made):
    with pytest.raises(UserError, match="jobs 0: must be 1 or more"):
        runner.make_all([made[1]], made[0], jobs=0)


def changed_code(monkeypatch, tmp_path, file, old, new):
    """The code version with one text replaced in one file of a copy of the package."""
    package = tmp_path / "dsgc"
    if not package.exists():
        shutil.copytree(runner.PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__", "*.safetensors"))
    path = package / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    monkeypatch.setattr(runner, "PACKAGE", package)
    return runner.code_version.__wrapped__()


@pytest.mark.parametrize(
    ("file", "old", "new", "differs"),
    [
        ("train.py", "gradient_clip:", "gradient_clip and True:", True),
        ("dskd.py", "1 - momentum", "1 - momentum + 0", True),  # reached through method
        ("data/transforms.py", "range(10)", "range(11)", True),
        ("metrics.py", "nanmean()", "nanmean() + 0", True),
        ("train.py", "# (B, C)", "# tags", False),
        ("ptc.py", "Eq. (4), whose", "Eq. (4), of which the", False),
        ("figures.py", "def style", "def look", False),
        ("paper.py", "74.8", "74.9", False),
    ],
)
def test_code_version_changes_with_what_a_run_depends_on_and_with_nothing_else(monkeypatch, tmp_path, file, old, new, differs):
    assert (changed_code(monkeypatch, tmp_path, file, old, new) != runner.code_version()) == differs
