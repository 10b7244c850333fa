"""The weights that come with the package: what is known of them is true, and they are made as it is told."""

import json

import pytest
import torch

from dsgc.data import shapes
from dsgc.experiments import grids, shipped
from dsgc.runs import exported
from dsgc.runs.restore import load_networks
from dsgc.scoring.protocols import TestTime

TestTime.__test__ = False  # no test, though its name begins like one
FOUND = shipped.read()
NAMES = sorted(FOUND["weights"])


def test_they_are_small_and_those_that_are_known():
    assert sorted(exported.shipped()) == NAMES and NAMES[0] == "shapes"
    assert sum(path.stat().st_size for path in exported.shipped().values()) <= 5e6


@pytest.mark.parametrize("name", NAMES)
def test_each_is_the_file_that_was_scored(name):
    about, saved = FOUND["weights"][name], exported.saved(name)
    assert saved.files == {f"{about['network']}.safetensors": about["digest"]}
    assert exported.shipped()[name].stat().st_size == about["bytes"]
    assert saved.classes == tuple(kind.name for kind in shapes.KINDS) and saved.config.method.name == about["method"]


@pytest.mark.parametrize("name", NAMES)
def test_each_was_trained_as_its_row_says(name):
    config, told = exported.saved(name).config.flat(), grids.config_of("shapes", shipped.CANDIDATES[FOUND["weights"][name]["row"]], 0)
    places = ("data", "out", "pictures", "workers")
    assert {key: value for key, value in config.items() if key not in places} == {
        key: value for key, value in told.flat().items() if key not in places
    }
    assert config["data"] == "data/shapes", "no folder of the machine that it was trained on"


def test_the_best_on_dev_is_shapes_and_the_paper_s_method_is_there():
    candidates, weights = FOUND["candidates"], FOUND["weights"]
    assert list(candidates) == list(shipped.CANDIDATES)
    assert weights["shapes"]["row"] == max(candidates, key=candidates.get)
    assert grids.METHOD in {about["row"] for about in weights.values()}
    for about in weights.values():
        assert about["dev"]["miou"] == pytest.approx(candidates[about["row"]], abs=2e-3), "float16 against float32"
        assert about["val"]["miou"] == pytest.approx(about["val_float32"], abs=2e-3)


@pytest.fixture(scope="module")
def val(tmp_path_factory):
    return shapes.write(tmp_path_factory.mktemp("drawn") / "shapes", sizes={"train": 1, "dev": 1, "val": shapes.SPLITS["val"]})


@pytest.mark.parametrize("name", NAMES)
def test_each_has_the_score_that_its_card_tells(name, val):
    found = shipped.on("val", exported.shipped()[name], str(val))
    assert found["miou"] == pytest.approx(FOUND["weights"][name]["val"]["miou"], abs=2e-3)


def test_the_recipe_trains_chooses_and_writes(tiny, tmp_path, monkeypatch):
    rows = {"baseline": {"method": "base"}, grids.METHOD: {}}
    small = {"baseline": ("base", {}), grids.METHOD: ("dsgc", {})}

    def config_of(row, folder, data):
        method, changes = small[row]
        return tiny(method, steps=1, warmup_steps=0, pictures=0, out=str(shipped.folder_of(row, folder)), **changes)

    monkeypatch.setattr(shipped, "CANDIDATES", rows)
    monkeypatch.setattr(shipped, "config_of", config_of)
    data, file = tiny().data, tmp_path / "shipped.json"
    threads = torch.get_num_threads()
    shipped.main(tmp_path / "runs", data, file, tmp_path / "weights")
    assert torch.get_num_threads() == threads == 1
    first, made = json.loads(file.read_text()), sorted((tmp_path / "weights").iterdir())
    best = first["weights"]["shapes"]["row"]
    assert [path.stem for path in made] == (["shapes"] if best == grids.METHOD else ["shapes", "shapes-dsgc"])
    for path in made:
        networks, saved = load_networks(path)
        assert saved.step == 1 and list(networks) == [first["weights"][path.stem]["network"]]
    held = [path.read_bytes() for path in made]
    shipped.main(tmp_path / "runs", data, file, tmp_path / "weights")
    assert [path.read_bytes() for path in made] == held and json.loads(file.read_text()) == first
