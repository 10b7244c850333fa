"""Heads and bodies seed by seed: the runs are those of the grid, and what is there is not made again."""

import json

import pytest
import torch

from dsgc.data import shapes
from dsgc.experiments import bodies, grids, tables
from dsgc.experiments.stored import look_up
from dsgc.scoring.parts import Pictures


def test_the_runs_are_those_of_the_grid_but_for_their_folders(tmp_path):
    for seed in (0, 14):
        mine, theirs = (one.flat() for one in (bodies.config_of(seed, tmp_path, ""), grids.config_of("shapes", {"method": "base"}, seed)))
        assert {name for name in mine if mine[name] != theirs[name]} == {"out"}


def test_a_network_s_labels_are_counted_by_class_and_part(tiny, tmp_path):
    run = bodies.ended(tiny("base", steps=1, warmup_steps=0, pictures=0, out=str(tmp_path / "run")))
    masks = torch.zeros(2, 64, 64, dtype=torch.int64)
    masks[0, :32], masks[1, :32] = 1, 2
    parts = torch.where(masks > 0, 1, 0)
    parts[:, 16:32] *= 2
    pictures = Pictures(torch.rand(2, 3, 64, 64), torch.tensor([[1.0, 0, 0, 0, 0, 0], [0, 1.0, 0, 0, 0, 0]]), masks, parts)
    network, saved = bodies.opened(run)[1:]
    labels = bodies.views(network.eval(), pictures.images, pictures.tags, saved.config).scored
    told = bodies.measure(run, pictures, ("melon", "brick"))
    for score in bodies.SCORES:
        for number, name in enumerate(("melon", "brick")):
            own = labels[score][number] == number + 1
            assert told[score][name] == pytest.approx({"head": float(own[:16].float().mean()), "body": float(own[16:32].float().mean())})


def test_what_is_there_is_not_made_again(tiny, tmp_path, monkeypatch):
    shapes_there = tiny("base").data
    monkeypatch.setattr(bodies, "config_of", lambda seed, folder, data: tiny(
        "base", steps=1, warmup_steps=0, pictures=0, seed=seed, data=data, out=str(folder / f"seed{seed}")
    ))  # fmt: skip
    monkeypatch.setattr(bodies, "SEEDS", (3, 4))
    monkeypatch.setattr(bodies.shapes, "ensure", lambda data: data)
    file = tmp_path / "bodies.json"
    bodies.main(tmp_path / "runs", shapes_there, file)
    first = file.read_text(encoding="utf-8")
    assert list(json.loads(first)["seeds"]) == ["3", "4"]
    ended = json.loads((tmp_path / "runs/seed3/metrics.json").read_text(encoding="utf-8"))
    assert json.loads(first)["seeds"]["3"]["miou"]["seg"] == ended["network"]["seg"]["miou"]
    monkeypatch.setattr(bodies, "ended", lambda config: pytest.fail("made again"))
    bodies.main(tmp_path / "runs", shapes_there, file)
    assert file.read_text(encoding="utf-8") == first
    table = bodies.read(file)
    assert set(table.score) == {"cam", "seg"} and len(table) == 2 * 2 * len(shapes.KINDS)
    assert table[["head", "body"]].stack().dropna().between(0, 100).all()  # a class may be in none of four pictures


def test_where_nothing_was_made_the_table_is_empty(tmp_path):
    assert bodies.read(tmp_path / "none.json").empty


def test_what_is_stored_is_of_the_runs_whose_scores_are_stored():
    for seed, told in json.loads(bodies.FILE.read_text(encoding="utf-8"))["seeds"].items():
        result = look_up(grids.config_of("shapes", {"method": "base"}, int(seed)), grids.RESULTS / "shapes")[1]
        for score in bodies.SCORES:
            assert tables.reproduced(100 * told["miou"][score], 100 * result.scores["network"][score]["miou"])
