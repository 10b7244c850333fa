"""Runs that share their warm-up: who does, and that each ends, bit by bit, as if it had been made alone."""

import dataclasses
import json
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch

from dsgc.errors import UserError
from dsgc.experiments import forks, grids, stored
from dsgc.methods.base import Base
from dsgc.runs import checkpoint
from dsgc.training.loop import train

ROWS = {"preset": {}, "no correction": {"correction": False}, "weights": {"lambda3": 0.4, "lambda4": 1.0, "pictures": 0}}


@pytest.fixture(scope="module")
def trunk(tiny, tmp_path_factory):
    """A trunk in a folder, and the rows that share it, which change much in a step."""
    folder = tmp_path_factory.mktemp("trunk")
    rows = {name: tiny(seed=5, lr=0.01, **changes) for name, changes in ROWS.items()}
    return folder, forks.grow(rows["preset"], folder), rows


def ended(run):
    """What a run that has ended leaves: scores, and the tensors of its last checkpoint."""
    saved = checkpoint.load(run)
    tensors = {f"{name}.{key}": value for name, part in saved.weights.items() for key, value in part.items()} | saved.state
    return json.loads((run / "metrics.json").read_text()), tensors


def same(mine, theirs):
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_a_forked_run_ends_as_if_it_had_been_made_alone(trunk, tmp_path):
    folder, grown, rows = trunk
    found = {}
    for name, config in rows.items():
        alone = train(dataclasses.replace(config, out=str(tmp_path / f"{name} alone")))
        forked, its = forks.go_on(folder, dataclasses.replace(config, out=str(tmp_path / name)))
        (scores, tensors), (theirs, expected) = ended(forked), ended(alone)
        assert its == grown and scores == theirs and same(tensors, expected), name
        assert stored.described(checkpoint.load(forked).config) == stored.described(config), "of the row alone"
        steps, lines = ([json.loads(line)["step"] for line in (run / "log.jsonl").open()] for run in (forked, alone))
        assert steps == lines
        found[name] = tensors
    assert not any(same(found[name], found["preset"]) for name in rows if name != "preset"), "rows that end alike show nothing"


def test_a_trunk_stops_where_the_runs_part_and_has_no_scores(trunk):
    folder, grown, rows = trunk
    assert [path.name for path in checkpoint.checkpoints(folder / "run")] == ["step_000002"]
    assert not (folder / "run" / "metrics.json").exists() and grown.seconds >= 0 and len(grown.id) == 12


def test_a_trunk_of_other_code_is_refused(trunk, tmp_path, monkeypatch):
    folder, _, rows = trunk
    monkeypatch.setattr(forks, "code_version", lambda method: "0123456789")
    with pytest.raises(UserError, match="the code has changed since this warm-up was trained"):
        forks.go_on(folder, dataclasses.replace(rows["preset"], out=str(tmp_path / "run")))
    assert list(tmp_path.iterdir()) == []


# who shares


def test_runs_share_that_differ_only_later(tiny):
    config = tiny()
    for other in ({"tau": 0.1}, {"label_low": 0.1}, {"correction": False, "lambda4": 0.0}, {"pictures": 3}, {"out": "elsewhere"}):
        assert forks.shared(config.changed(**other)) == forks.shared(config), other
    for other in (
        {"seed": 9}, {"lambda1": 0.1}, {"steps": 5}, {"lr": 0.1}, {"warmup_steps": 3}, {"distillation": False}, {"workers": 1},
        {"data": "elsewhere"}, {"precision": "bf16"}, {"projector_gain": True},
    ):  # fmt: skip
        assert forks.shared(config.changed(**other)) not in (None, forks.shared(config)), other
    assert forks.shared(tiny("base")) not in (None, forks.shared(config))


@pytest.mark.parametrize("changes", [{"method": "masks"}, {"warmup_steps": 0}, {"warmup_steps": 4}, {"eval_every": 1}], ids=str)
def test_without_a_warm_up_of_its_own_or_with_scores_on_the_way_nothing_is_shared(tiny, changes):
    assert forks.shared(tiny(**changes)) is None


def test_a_method_shares_only_what_it_says_itself(tiny):
    """A peer that inherits the baseline may read any number of its in a warm-up of its own."""

    @dataclass(frozen=True)
    class Peer(Base):
        name: ClassVar = "peer"

    @dataclass(frozen=True)
    class Open(Peer):
        later: ClassVar = ("lambda4",)

    base = tiny("base")
    assert forks.shared(base) is not None and forks.shared(base.changed(method=Peer(warmup_steps=2))) is None
    one, other, third = (base.changed(method=Open(warmup_steps=2, **changes)) for changes in ({}, {"lambda4": 0.3}, {"label_low": 0.1}))
    assert forks.shared(one) == forks.shared(other) != forks.shared(third)


def test_a_group_has_two_runs_or_more(tiny):
    runs = {"a": tiny(seed=1), "b": tiny(seed=2), "c": tiny(seed=1, tau=0.1), "d": tiny("masks"), "e": tiny("masks", seed=1)}
    assert list(forks.groups(runs).values()) == [["a", "c"]]


def test_rows_of_the_grids_share_by_seed():
    """All thresholds; of the modules the two with a student; of the weights those with the same weights of the warm-up's losses."""
    for name, sharing in {"thresholds": set(grids.GRIDS["thresholds"]), "modules": {"+ DSKD", grids.METHOD}}.items():
        runs = {f"{row}, {seed}": config for (row, seed), config in grids.rows(name, "shapes", (0, 1)).items()}
        assert [set(labels) for labels in forks.groups(runs).values()] == [{f"{row}, {seed}" for row in sharing} for seed in (0, 1)]
    for labels in forks.groups({row: config for (row, _), config in grids.rows("weights", "shapes", (0,)).items()}).values():
        assert len({tuple(row.split(", ")[:2]) for row in labels}) == 1
