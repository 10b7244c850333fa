"""Frozen blocks: what lies in them does not move and costs no gradient; a run with them is otherwise as every run."""

import copy
from pathlib import Path

import pytest
import torch
from apart import outcome
from deaths import Killed, dying
from safetensors.torch import load_file
from steps import CLASSES, gradients, in_parts, step, uneven_batch

import dsgc.training.loop
from dsgc.errors import UserError
from dsgc.network.build import build_network
from dsgc.network.encoder import freeze
from dsgc.training.learner import optimiser
from dsgc.training.loop import resume, train

DEPTH = 5
SMALL = {"frozen_blocks": 3, "aux_block": 4, "steps": 4, "checkpoint_every": 1, "keep_checkpoints": 9}


def frozen(tiny, blocks, **changes):
    torch.manual_seed(0)
    return build_network(tiny(frozen_blocks=blocks, **changes), CLASSES)[0]


def block_of(name):
    """The number of the block, from 1, that a parameter of the encoder stands in; 0 before them, 9 after them."""
    parts = name.split(".")
    return int(parts[2]) + 1 if parts[1] == "blocks" else 9 * (parts[1] == "norm")


@pytest.mark.parametrize("blocks", range(DEPTH + 1))
def test_the_first_blocks_and_what_lies_before_them_do_not_learn(tiny, blocks):
    network = frozen(tiny, blocks)
    learning = {name for name, value in network.named_parameters() if value.requires_grad}
    assert {name for name, _ in network.named_parameters() if not name.startswith("encoder.")} <= learning
    for name, value in network.named_parameters():
        if name.startswith("encoder."):
            after = block_of(name) > blocks or not blocks
            assert value.requires_grad == (after and (blocks < DEPTH)), name
    held = {id(value) for group in optimiser(network, 1e-3, tiny()).param_groups for value in group["params"]}
    assert held == {id(value) for name, value in network.named_parameters() if name in learning}, "weight decay would reach it"


def test_a_pass_gives_the_same_and_keeps_a_graph_of_the_other_blocks_alone(tiny, images, monkeypatch):
    free, held = frozen(tiny, 0), frozen(tiny, 3)
    graphs = []
    for number, block in enumerate(held.encoder.blocks):
        block.register_forward_hook(lambda _, __, out, number=number: graphs.append((number, out.requires_grad)))
    assert all(torch.equal(one, two) for one, two in zip(free(images), held(images), strict=True))
    assert graphs == [(0, False), (1, False), (2, False), (3, True), (4, True)]


@pytest.mark.parametrize("blocks", [-1, DEPTH + 1])
def test_a_number_of_blocks_that_there_are_not_is_refused_in_one_line(tiny, blocks):
    with pytest.raises(UserError, match=f"^frozen_blocks {blocks}: (must not be negative|the encoder has 5 blocks)$"):
        frozen(tiny, blocks)


@pytest.mark.parametrize("method", ["base", "dsgc", "masks"])
@pytest.mark.parametrize("blocks", [3, DEPTH])
def test_learning_blocks_have_the_gradients_that_they_had_without(fixed, built, method, blocks):
    config = fixed(method)
    stage = {"masks": "masks"}.get(method, "expansion")
    batch = [uneven_batch(config.method.from_masks)]
    _, free = gradients(built, batch, stage, config)
    for network in (pair := copy.deepcopy(built)):
        freeze(network.encoder, blocks)
    _, found = gradients(pair, batch, stage, config)
    assert found and {name for name in free.keys() - found.keys() if ".encoder." not in name} == set()
    assert all(torch.equal(value, free[name]) for name, value in found.items())


def test_middle_tokens_of_a_frozen_block_teach_their_classifier_alone(fixed, built, images):
    """Eq. 7 is then a number without a gradient; the others are what they were."""
    for network in (pair := copy.deepcopy(built)):
        freeze(network.encoder, 3)  # the middle block of the preset
    taken = step(pair, images, "warm-up", fixed())
    assert not taken.losses["sim"].requires_grad and all(taken.losses[name].requires_grad for name in ("cls", "ptc"))
    taken.backward()
    assert pair[0].aux_classifier.weight.grad.any()


# whole runs


@pytest.fixture(scope="module")
def finished(tiny, tmp_path_factory):
    return train(tiny(out=str(tmp_path_factory.mktemp("frozen") / "run"), **SMALL))


def weights(run, step, network):
    return load_file(run / f"checkpoints/step_{step:06d}/{network}.safetensors")


@pytest.mark.parametrize("network", ["teacher", "student"])
def test_a_run_leaves_the_frozen_blocks_of_every_network_as_they_were_to_the_bit(finished, network):
    """The student too: a moving average between equal weights is that weight."""
    first, last = weights(finished, 1, "teacher"), weights(finished, 4, network)
    moved = {name for name in first if not torch.equal(first[name], last[name])}
    held = {name for name in first if name.startswith("encoder.") and block_of(name) <= 3}
    assert held and not moved & held
    assert {"decoder.0.weight", "encoder.blocks.3.mlp.fc1.weight", "encoder.norm.weight"} <= moved


def test_a_stopped_run_goes_on_to_the_same_bits(tiny, finished, tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(Killed):
        dying(patch, dsgc.training.loop, "advance", call=3)
        train(tiny(out=str(tmp_path / "run"), **SMALL))
    assert outcome(resume(Path(tmp_path / "run"))) == outcome(finished)


@pytest.mark.parametrize("changes", [{"accumulate": 2}, {"recompute": True}, {"precision": "bf16"}], ids=str)
def test_what_saves_memory_or_time_trains_too(tiny, finished, tmp_path, changes):
    run = train(tiny(out=str(tmp_path / "run"), **SMALL | changes))
    first, found, expected = (weights(*place) for place in ((finished, 1, "teacher"), (run, 4, "teacher"), (finished, 4, "teacher")))
    for name, value in found.items():
        if name.startswith("encoder.") and block_of(name) <= 3:
            assert torch.equal(value, first[name]), name
    moved, apart = (
        torch.cat([(one[name] - expected[name]).flatten() for name in expected]).norm() for one in (first, found)
    )
    assert apart < (0.5 if "precision" in changes else 1e-3) * moved


@pytest.mark.parametrize("parts", [2, 4])
def test_parts_of_a_batch_add_up(fixed, built, parts):
    for network in (pair := copy.deepcopy(built)):
        freeze(network.encoder, 3)
    _, whole = gradients(pair, in_parts(uneven_batch(), 1), "expansion", fixed())
    _, found = gradients(pair, in_parts(uneven_batch(), parts), "expansion", fixed())
    assert found.keys() == whole.keys()
    assert max(float((found[name] - whole[name]).abs().max() / whole[name].abs().max()) for name in whole) < 1e-5


def test_with_all_blocks_frozen_the_heads_alone_learn(tiny, tmp_path):
    run = train(tiny(out=str(tmp_path / "run"), **SMALL | {"frozen_blocks": DEPTH}))
    first, last = weights(run, 1, "teacher"), weights(run, 4, "teacher")
    moved = {name for name in first if not torch.equal(first[name], last[name])}
    assert moved and not {name for name in moved if name.startswith("encoder.")}
    assert {"patch_classifier.weight", "aux_classifier.weight", "class_classifier.weight", "decoder.0.weight"} <= moved
