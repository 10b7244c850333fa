"""What a step costs is counted as it is: passes by hand, memory that grows with the batch, nothing changed by being measured."""

import pytest
import torch

from dsgc.errors import UserError
from dsgc.experiments import costs, grids
from dsgc.methods import PEERS


@pytest.fixture(scope="module")
def steps(tiny):
    return {name: costs.Steps(tiny(name, pictures=0)) for name in ("base", "dsgc", "masks")}


@pytest.mark.parametrize(
    ("method", "stage", "expected"),
    [
        ("base", "warm-up", (1, 0)), ("base", "expansion", (1, 0)), ("masks", "masks", (1, 0)),
        ("dsgc", "warm-up", (2, 0)), ("dsgc", "expansion", (1, 1)),
    ],
)  # fmt: skip
def test_passes_are_those_of_the_steps_description(steps, method, stage, expected):
    assert steps[method].passes(stage) == expected


def test_a_smaller_image_counts_by_its_pixels(steps):
    networks, part = steps["base"].learner.networks, steps["base"].part
    with costs.counting(networks, part) as seen:
        networks["network"](part.images[:, :, :16])
        with torch.no_grad():
            networks["network"](part.images[:1])
    assert seen == [0.5, 1 / len(part.images)]
    with costs.counting(networks, part) as after:
        pass
    assert after == [0, 0] and not networks["network"].encoder.patch_embed._forward_pre_hooks


def test_what_is_kept_is_the_activations_and_not_the_weights():
    weight = torch.nn.Parameter(torch.ones(1000, 4))
    layer = torch.nn.Module()
    layer.weight = weight
    with costs.keeping({"one": layer}) as kept:
        (torch.ones(8, 1000, requires_grad=True) @ weight).square().sum()
    assert sum(kept.values()) == 4 * (8 * 1000 + 8 * 4), "the input and the product, float32"


def test_a_second_network_that_learns_keeps_as_much_again(steps):
    assert steps["dsgc"].kept("warm-up") > 1.5 * steps["base"].kept("warm-up")
    assert steps["base"].kept("warm-up") == steps["base"].kept("warm-up")


def test_measuring_changes_no_weight(steps):
    networks = steps["base"].learner.networks
    before = {name: value.clone() for name, value in networks["network"].state_dict().items()}
    steps["base"].kept("expansion"), steps["base"].passes("warm-up"), steps["base"].seconds("warm-up")
    assert all(torch.equal(before[name], value) for name, value in networks["network"].state_dict().items())
    assert all(value.grad is None for value in networks["network"].parameters())


def test_the_table_has_a_line_for_each_method_and_the_reference_costs_once(tiny):
    table = costs.table({name: tiny(name, pictures=0) for name in ("base", "dsgc")}, "base", rounds=2)
    assert list(table.index) == ["base", "dsgc"] and table.loc["base", "with a graph, last stage"] == 1
    assert table.notna().all(axis=None) and (table["time of a step"] > 0).all()


@pytest.mark.parametrize("name", PEERS)
def test_every_peer_can_be_measured_in_each_stage(tiny, name):
    found = costs.Steps(tiny(name, pictures=0))
    for stage in found.stages:
        assert found.passes(stage).learning >= 1 and found.kept(stage) > 0


def test_what_is_written_is_read_again_and_what_is_not_there_names_its_command(tiny, tmp_path, monkeypatch):
    rows = {"baseline": {"method": "base"}, "masks": {"method": "masks"}}
    monkeypatch.setattr(grids, "GRIDS", {"peers": rows})
    monkeypatch.setattr(grids, "config_of", lambda scale, changes, seed, data: tiny(changes["method"], data=data, pictures=0))
    monkeypatch.setattr(costs, "ROUNDS", 1)
    with pytest.raises(UserError, match="costs.json: no such file; `make costs` makes it"):
        costs.read(tmp_path / "costs.json")
    costs.main(tiny().data, tmp_path / "costs.json")
    table, about = costs.read(tmp_path / "costs.json")
    assert list(table.index) == list(rows) and table.loc["baseline", "without"] == 0 and about["code"]
