"""The same seed gives the same run, to the bit, on one machine: in other processes, with and without loading processes."""

import json
import os
import random

import numpy as np
import pytest
import torch
from apart import command, outcome
from promises import promise
from refusal import tree

from dsgc.__main__ import main
from dsgc.data import shapes_coco
from dsgc.training.loop import train

SMALL = {"steps": 6, "checkpoint_every": 2, "eval_every": 3, "eval_images": 3}
SAME = "The same seed gives the same run to the bit on one machine, in one process or another, with loading processes or without."
KINDS = {
    "tags": {},
    "the baseline": {"method": "base"},
    "masks": {"method": "masks"},
    "in parts, recomputed": {"accumulate": 2, "recompute": True},
    "bfloat16": {"precision": "bf16"},
    "mixture on the patch grid, of all pixels": {"mixture_grid": "patch", "mixture_pixels": "all"},
    "labels by the student": {"label_network": "student", "tag_pool": 0.2, "centre_momentum": 0.9},
}


def files(run):
    """All that a run wrote, whole; where it was made, by how many processes and how fast, left out."""
    found = {name: content for name, content in tree(run).items() if content is not None}
    for name in found:
        if name.endswith(".json"):
            about = json.loads(found[name])
            for fields in (about, about.get("config", {})):
                fields.pop("out", None), fields.pop("workers", None)
            found[name] = about
    found["log.jsonl"] = [json.loads(line) | {"images_per_second": 0} for line in found["log.jsonl"].splitlines()]
    return found


@promise("Determinism", SAME)
def test_three_processes_make_the_same_run(arguments, tmp_path):
    """Each with other hashes of strings, other loading processes and another folder."""
    runs = [tmp_path / name / "run" for name in ("a", "b", "c")]
    processes = []
    for number, run in enumerate(runs):
        run.parent.mkdir()
        words = arguments(out=str(run), **SMALL | {"workers": number})
        processes.append(command(words, run.parent, {"PYTHONHASHSEED": str(number), "TZ": f"UTC{number}"}))
    for process in processes:
        assert process.wait(timeout=300) == 0, process.stdout.read()
    first, *others = map(files, runs)
    assert len(first) > 9 and {"teacher.safetensors", "state.safetensors"} <= {os.path.basename(name) for name in first}
    for other in others:
        assert other.keys() == first.keys()
        assert [name for name in first if other[name] != first[name]] == []


@promise("Determinism", SAME)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_run_is_the_same_again(kind, tiny, tmp_path):
    first = outcome(train(tiny(out=str(tmp_path / "a"), **SMALL | KINDS[kind])))
    for generator in (torch.manual_seed, np.random.seed, random.seed):  # what came before in this process does not matter
        generator(12345)
    assert outcome(train(tiny(out=str(tmp_path / "b"), **SMALL | KINDS[kind] | {"workers": 2}))) == first


@promise("Determinism", SAME)
def test_so_is_a_run_on_the_layout_of_coco_whether_its_cache_is_there_or_not(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    data = shapes_coco.write(tmp_path / "coco", sizes={"train2014": 12, "val2014": 4})
    changes = SMALL | {"data": str(data), "train_split": "train2014", "val_split": "val2014"}
    first = outcome(train(tiny(out=str(tmp_path / "a"), **changes)))
    assert any(tree(tmp_path / "cache").values())
    assert outcome(train(tiny(out=str(tmp_path / "b"), **changes))) == first


def test_another_seed_gives_another_run(tiny, tmp_path):
    first, other = (outcome(train(tiny(out=str(tmp_path / str(seed)), seed=seed, **SMALL))) for seed in (0, 1))
    assert first["digests"]["teacher.safetensors"] != other["digests"]["teacher.safetensors"]


@promise("Determinism", "Predictions and scores of a run are the same whenever they are made, with loading processes or without.")
def test_predictions_and_scores_are_the_same_again(tiny, tmp_path):
    runs = [train(tiny(out=str(tmp_path / f"run{workers}"), workers=workers, **SMALL)) for workers in (0, 2)]
    for number, run in enumerate(runs):
        assert main(["predict", str(run), str(tmp_path / f"p{number}"), "--split", "val", "--scales", "0.75", "1", "--mirror"]) == 0
        assert main(["evaluate", str(run), "--out", str(tmp_path / f"s{number}.json")]) == 0
    found = tree(tmp_path / "p0")
    assert sum(content is not None for content in found.values()) == 4 and tree(tmp_path / "p1") == found
    assert (tmp_path / "s0.json").read_bytes() == (tmp_path / "s1.json").read_bytes()
