"""ReCAM: the second classifier's features and loss against plain loops, what it trains, and when its weights make the map."""

import math

import oracles
import pytest
import torch
from plain import check_off_is_off, check_true_label, reached
from steps import networks_of, stage_of, stages_of, uneven_batch

from dsgc import cam
from dsgc.methods.peers import recam

STAGES = ("warm-up", "expansion", "second classifier")


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# formulas


def test_features_are_means_of_tokens_times_the_map():
    tokens, weight = random(3, 5, 3, 4), random(4, 5, seed=1)
    tokens[2] = 0
    weight[3] = 0  # a class that no token activates
    made = {over: recam.under_maps(tokens, weight, over=over) for over in ("places", "map")}
    values = tokens.double().tolist()
    maps = oracles.class_activation_map(values, weight.double().tolist())
    for i in range(3):
        for c in range(4):
            mass = sum(sum(row) for row in maps[i][c])
            for d in range(5):
                terms = [maps[i][c][y][x] * values[i][d][y][x] for y, x in oracles.places(maps[i][c])]
                assert made["places"][i, c, d].item() == pytest.approx(oracles.mean(terms), abs=1e-5)
                assert made["map"][i, c, d].item() == pytest.approx(sum(terms) / mass if mass else 0, abs=1e-5)
    assert all(not found[2].any() and not found[:, 3].any() for found in made.values())


def test_weights_that_agree_keep_their_sign():
    first, second = torch.tensor([[2.0, -2, 2, -2, 0, 3]]), torch.tensor([[3.0, -3, -3, 3, 1, 0]])
    assert recam.joint(first, second, "agreeing").tolist() == [[6, -6, 0, 0, 0, 0]]
    assert recam.joint(first, second, "product").tolist() == [[6, 6, -6, -6, 0, 0]]
    assert recam.joint(first, second, "second") is second


def test_a_class_that_is_told_by_a_low_value_has_a_map_by_agreeing_weights_and_none_by_the_product():
    """Both classifiers know the class by a channel that is low on the object."""
    tokens = torch.zeros(1, 2, 1, 4)
    tokens[0, 0] = torch.tensor([-1.0, -1, 1, 1])  # the object is at the left
    first = second = torch.tensor([[-1.0, 0.0]])
    agreeing, product = (cam.class_activation_map(tokens, recam.joint(first, second, how)).flatten() for how in ("agreeing", "product"))
    assert agreeing.tolist() == [1, 1, 0, 0] and product.tolist() == [0, 0, 1, 1]


def test_the_loss_is_a_mean_over_the_tags_of_an_image_then_over_images_that_have_some():
    logits, tags = random(4, 3, 3) * 3, torch.tensor([[1.0, 0, 0], [1, 1, 1], [0, 0, 0], [0, 1, 1]])
    means = []
    for i in range(4):
        own = [-math.log(oracles.softmax(logits[i, c].double().tolist())[c]) for c in range(3) if tags[i, c]]
        means += [oracles.mean(own)] if own else []
    assert recam.softmax_loss(logits, tags).item() == pytest.approx(oracles.mean(means), rel=1e-5)
    assert recam.softmax_loss(logits, torch.zeros_like(tags)) == 0
    assert recam.softmax_loss(torch.zeros(4, 3, 3), tags).item() == pytest.approx(math.log(3))


# the method


@pytest.mark.parametrize("stage", ["warm-up", "expansion"])
@pytest.mark.parametrize("parts", [1, 4])
def test_off_is_the_baseline_to_the_bit(monkeypatch, pair, fixed, stage, parts):
    check_off_is_off(monkeypatch, pair, fixed, fixed("recam", lambda_softmax=0.0), stage, parts)
    check_off_is_off(monkeypatch, pair, fixed, fixed("recam"), stage, parts)  # nothing is different before its stage


def learnt(pair, config):
    """The network with a second classifier that has learnt something."""
    network = networks_of(pair, config)["network"]
    with torch.no_grad():
        network.more["softmax"].weight.copy_(random(*network.more["softmax"].weight.shape, seed=5))
    return network


def taken(network, config):
    part, stage = uneven_batch(), stage_of(config, "second classifier")
    seen = config.method.passes({"network": network}, part, stage)
    with torch.no_grad():
        goals = config.method.goals({"network": network}, seen, part, stage)
    return seen, goals, stage, config.method.losses({"network": network}, seen, goals, part, stage, {})


def test_each_loss_trains_what_it_claims(pair, fixed):
    config = fixed("recam")
    assert stages_of(config) == STAGES
    network = networks_of(pair, config)["network"]
    assert reached(network, taken(network, config)[-1]["softmax"].value) == {"more"}, "a classifier of zeros passes nothing back"
    network = learnt(pair, config)
    means = taken(network, config)[-1]
    assert reached(network, means["softmax"].value) == {"encoder", "more", "patch_classifier"}
    assert reached(network, means["seg"].value.sum()) == {"encoder", "decoder"}


def test_images_without_a_tag_do_not_count(pair, fixed):
    config = fixed("recam")
    means = taken(learnt(pair, config), config)[-1]
    assert means["softmax"].over == uneven_batch().tags.amax(1).sum() < 8


def test_the_map_is_of_both_weights_once_the_second_has_learnt_and_it_is_time(pair, fixed):
    config, batch = fixed("recam"), uneven_batch()
    network = networks_of(pair, config)["network"].eval()
    with torch.no_grad():
        output = network(batch.images)
        plain = config.method.cam(network, output, both=False)
        assert torch.equal(config.method.cam(network, output), plain), "a classifier of zeros makes no map"
        network = learnt(pair, config).eval()
        made = config.method.cam(network, output)
    weight = recam.joint(network.patch_classifier.weight, network.more["softmax"].weight, "agreeing")
    assert torch.equal(made, cam.class_activation_map(output.tokens, weight, subtract_minimum=True)) and not torch.equal(made, plain)
    early, late = (taken(network, fixed("recam", both_from=share))[1].labels.labels for share in (1.0, 0.6))
    assert not torch.equal(early, late), "step 3 of 4 is before the one and after the other"
    early, late = (taken(network, fixed("recam", softmax_from=0.75, both_from=share))[1].labels.labels for share in (1.0, 0.75))
    assert not torch.equal(early, late)


def test_mirrored_tokens_give_the_same_features():
    tokens, weight = random(3, 5, 3, 4), random(4, 5, seed=1)
    made, other = (recam.under_maps(given, weight, over="map") for given in (tokens, tokens.flip(-1)))
    torch.testing.assert_close(other, made)


def test_true_masks_give_the_loss_of_the_bound(pair, fixed):
    config = fixed("recam")
    network = learnt(pair, config)
    seen, goals, stage, _ = taken(network, config)
    check_true_label(config.method, network, seen, goals, stage, seen.tokens, uneven_batch())


def test_a_map_that_lies_on_another_class_costs_more():
    """Two classes with a look each: while a map lies on its own, the softmax is sure; moved to the other's place, it is wrong."""
    tokens = torch.zeros(1, 2, 2, 4)
    tokens[0, 0, :, :2], tokens[0, 1, :, 2:] = 1.0, 1.0
    classifier, tags = 20 * torch.eye(2), torch.ones(1, 2)
    maps = (torch.eye(2), torch.eye(2).flip(0))
    own, other = (recam.softmax_loss(recam.under_maps(tokens, weight, over="places") @ classifier.T, tags) for weight in maps)
    assert own < 0.01 and other > 5
