"""Runs that share a warm-up are made from it, come out as if made alone, and leave nothing of it."""

import os
import tempfile
from pathlib import Path

import pytest

from dsgc.experiments import forks, runner, stored

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    """Where processes leave what they need for a time."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setattr(runner, "gpus", lambda: 0)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    return folder


def test_runs_from_one_warm_up_give_what_they_give_alone(made, tmp_path, scratch):
    folder, config = made
    runs, said = {"one": config, "other": config.changed(correction=False, pictures=0)}, []
    assert runner.make_all(runs, tmp_path / "results", jobs=2, say=said.append) == 0
    assert said[0] == "0 of 2 results are there, 2 to make (2 of them from 1 shared warm-up), 2 at a time"
    assert sorted(line.split(": ")[1] for line in said[1:]) == ["one", "other"]
    one, other = stored.read(runs, tmp_path / "results", "").values()
    alone = stored.look_up(config, folder)[1]
    assert (one.config, one.scores, one.counts, one.samples) == (alone.config, alone.scores, alone.counts, alone.samples)
    assert one.about["warm_up"] == other.about["warm_up"] != {} == alone.about["warm_up"]
    assert list(scratch.iterdir()) == [] and len(list((tmp_path / "results").iterdir())) == 2


def test_a_warm_up_lies_there_as_long_as_a_run_needs_it_and_only_then_the_next_is_begun(tiny, tmp_path, scratch, monkeypatch):
    seen = []

    def act(config, folder, place, where, stop, trunk, *, grows):
        if grows:
            trunk.mkdir()
            (trunk / forks.ABOUT).write_text("{}")
        what = "trunk" if grows else getattr(config.method, "tau", None)
        seen.append((what, config.seed, len(list(folder.glob(".making/grown-*")))))

    monkeypatch.setattr(runner, "apart", act)
    runs = {(seed, tau): tiny(seed=seed, tau=tau) for seed in (1, 2) for tau in (0.1, 0.2)}
    assert runner.make_all(runs | {"alone": tiny("masks")}, tmp_path, jobs=1, say=[].append) == 0
    assert seen == [(what, seed, 1) for seed in (1, 2) for what in ("trunk", 0.1, 0.2)] + [(None, 0, 0)]


def test_where_a_shared_warm_up_fails_each_of_its_runs_has_failed_and_the_others_go_on(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "apart", lambda *given, grows: "no room" if grows else None)
    runs, said = {"a": tiny(seed=1, tau=0.1), "b": tiny(seed=2), "c": tiny(seed=1)}, []
    assert runner.make_all(runs, tmp_path, jobs=1, say=said.append) == 2
    failed = [f"{number} of 3: FAILED {label}: its shared warm-up: no room" for number, label in ((1, "a"), (2, "c"))]
    assert said[1:] == [*failed, "3 of 3: b"]
