"""URN: what scaled responses say of a label's pixels, held against plain loops; and what the weights do to the decoder's loss."""

import math

import oracles
import pytest
import torch
from plain import check_off_is_off, reached
from steps import CLASSES, networks_of, stage_of, stages_of, uneven_batch

from dsgc import objective
from dsgc.cam import IGNORE
from dsgc.methods.peers import urn

POWERS = (0.2, 0.5, 3.0)
PLAIN = {"dilations": (1,), "iterations": 0}


def random(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


# formulas


def wins_by_loops(maps, here, image, powers, dilations, iterations):
    """[c][p][y][x]: whether class c, raised to power p, beats every other class that is here."""
    classes = [c for c, is_here in enumerate(here) if is_here]
    refined = {c: oracles.refine([maps[c]], image, dilations, iterations)[0] for c in classes}
    found = [[[[False] * len(maps[0][0]) for _ in maps[0]] for _ in powers] for _ in maps]
    for c in classes:
        for p, power in enumerate(powers):
            (raised,) = oracles.refine([[[v**power for v in row] for row in maps[c]]], image, dilations, iterations)
            for y, x in oracles.places(maps[0]):
                found[c][p][y][x] = all(raised[y][x] > refined[k][y][x] for k in classes if k != c)
    return found


@pytest.mark.parametrize("iterations", [0, 2])
def test_wins_are_those_of_each_class_raised_alone(iterations):
    maps = random(3, 4, 6, 6).softmax(1)
    maps[2] = 0.25  # equal everywhere: nobody wins but who is raised with a power below 1
    here = torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 1, 1]]).bool()
    images = random(3, 3, 6, 6, seed=1)
    made = urn.scaled_wins(maps, here, images, powers=POWERS, dilations=(1, 2), iterations=iterations)
    for i in range(3):
        expected = wins_by_loops(maps[i].double().tolist(), here[i].tolist(), images[i].double().tolist(), POWERS, (1, 2), iterations)
        assert made[i].tolist() == expected
    assert made[1, 0].all() and not made[1, 1:].any(), "a class that is alone wins whatever its power"
    assert made.any() and not made.all()


def uncertainty_by_loops(wins, here):
    classes = [c for c, is_here in enumerate(here) if is_here]
    variance = {}
    for y, x in oracles.places(wins[0][0]):
        of = []
        for c in classes:
            votes = [float(power[y][x]) for power in wins[c]]
            of.append(sum((v - sum(votes) / len(votes)) ** 2 for v in votes) / len(votes))
        variance[y, x] = max(of)
    low, high = min(variance.values()), max(variance.values())
    return {place: (v - low) / (high - low) if high > low else 0.0 for place, v in variance.items()}


def test_the_uncertainty_is_the_largest_variance_of_the_votes_from_0_to_1_in_an_image():
    wins, here = random(4, 3, 6, 5, 5) < 0.5, torch.tensor([[1, 1, 1], [1, 1, 0], [1, 0, 0], [1, 0, 1]]).bool()
    wins[3] = True
    made = urn.uncertainty(wins, here)
    for i in range(4):
        expected = uncertainty_by_loops(wins[i].tolist(), here[i].tolist())
        assert all(made[i, y, x].item() == pytest.approx(value, abs=1e-6) for (y, x), value in expected.items())
    assert not made[3].any(), "the same everywhere: nothing is more uncertain than the rest"
    assert (made[:3].flatten(1).amax(1) == 1).all()


def test_weights_are_of_two_values():
    made = urn.pixel_weights(torch.tensor([[[0.0, 0.5, 0.949, 0.951, 1.0]]]), 0.05)
    assert made.flatten().tolist() == pytest.approx([1, 1, 1, 0.05, 0.05])
    assert (urn.pixel_weights(random(2, 3, 3), 1.0) == 1).all()


def test_classes_found_are_tagged_and_win_somewhere():
    maps = torch.zeros(2, 4, 2, 2)
    maps[:, 0] = 0.5
    maps[0, 1, 0, 0] = maps[0, 2, 0, 1] = 0.9  # both win, the second is not tagged
    maps[:, 3] = 0.4  # tagged, and wins nowhere
    made = urn.found_classes(maps, torch.tensor([[1.0, 0, 1], [0, 0, 0]]))
    assert made.tolist() == [[True, True, False, False], [True, False, False, False]]


@pytest.mark.parametrize("average", ["balanced", "pixels", "none"])
def test_the_weighed_loss_is_a_mean_over_pixels_not_over_weights(average):
    logits, weights = random(3, 4, 3, 3, seed=2) * 4, random(3, 3, 3, seed=3)
    labels = torch.randint(0, 4, (3, 3, 3), generator=torch.Generator().manual_seed(4))
    labels[0, 0], labels[1] = IGNORE, 0
    terms = {True: [], False: []}
    for i in range(3):
        for y, x in oracles.places(labels[i].tolist()):
            label = int(labels[i, y, x])
            if label != IGNORE:
                share = oracles.softmax(logits[i, :, y, x].double().tolist())[label]
                terms[label == 0].append(-math.log(share) * float(weights[i, y, x]))
    both = terms[True] + terms[False]
    expected = {
        "balanced": (oracles.mean(terms[True]) + oracles.mean(terms[False])) / 2, "pixels": oracles.mean(both), "none": sum(both) / 3,
    }[average]  # fmt: skip
    value, count = objective.segmentation_means(logits, labels, weights=weights, average=average)
    assert value.sum().item() == pytest.approx(expected, rel=1e-5)
    plain, over = objective.segmentation_means(logits, labels, average=average)
    assert torch.equal(count, over)
    ones, _ = objective.segmentation_means(logits, labels, weights=torch.ones(3, 3, 3), average=average)
    assert torch.equal(ones, plain), "to the bit"
    empty, none = objective.segmentation_means(logits, torch.full_like(labels, IGNORE), weights=weights, average=average)
    assert not empty.any() and (average == "none" or not none.any())


# the method


def test_its_stages(fixed):
    assert stages_of(fixed("urn")) == ("warm-up", "expansion", "weighed")


@pytest.mark.parametrize("stage", ["warm-up", "expansion", "weighed"])
@pytest.mark.parametrize("parts", [1, 4])
def test_with_weights_of_one_it_is_the_baseline_to_the_bit(monkeypatch, pair, fixed, stage, parts):
    check_off_is_off(monkeypatch, pair, fixed, fixed("urn", least_weight=1.0), stage, parts)


def prepared(pair, config):
    """The network with a decoder that says different things at different places, and the goals of its weighed step."""
    networks, part, stage = networks_of(pair, config), uneven_batch(), stage_of(config, "weighed")
    with torch.no_grad():
        networks["network"].decoder[-1].weight *= 300
    seen = config.method.passes(networks, part, stage)
    with torch.no_grad():
        return networks, part, stage, seen, config.method.goals(networks, seen, part, stage)


def test_weights_make_the_decoders_loss_smaller_and_leave_the_others(pair, fixed):
    config = fixed("urn")
    networks, part, stage, seen, goals = prepared(pair, config)
    assert 0 < config.method.watched(goals, {})["uncertain"] < 1
    made = config.method.losses(networks, seen, goals, part, stage, {})
    plain = config.method.losses(networks, seen, goals._replace(weights=torch.ones_like(goals.weights)), part, stage, {})
    assert made["seg"].value.sum() < plain["seg"].value.sum()
    assert all(torch.equal(made[name].value, plain[name].value) for name in ("cls", "ptc"))


def test_true_masks_and_weights_of_one_give_the_loss_of_the_bound(pair, fixed):
    config = fixed("urn")
    networks, part, stage, seen, goals = prepared(pair, config)
    true = torch.randint(0, CLASSES + 1, goals.weights.shape, generator=torch.Generator().manual_seed(0))
    goals = goals._replace(labels=goals.labels._replace(labels=true), weights=torch.ones_like(goals.weights))
    made = config.method.losses(networks, seen, goals, part, stage, {})["seg"]
    expected = config.method.segmentation(networks["network"], seen.tokens.flip(-1), true)
    assert torch.equal(made.value, expected.value) and torch.equal(torch.as_tensor(made.over), torch.as_tensor(expected.over))


def test_the_weighed_loss_trains_decoder_and_encoder(pair, fixed):
    config = fixed("urn")
    networks, part, stage, seen, goals = prepared(pair, config)
    loss = config.method.losses(networks, seen, goals, part, stage, {})["seg"].value.sum()
    assert reached(networks["network"], loss) == {"decoder", "encoder"}


def test_mirrored_pictures_have_mirrored_weights(pair, fixed):
    """From mirrored tokens too, so that nothing but the mirror differs."""
    config = fixed("urn")
    networks, part, _, seen, _ = prepared(pair, config)
    tokens, network = seen.tokens, networks["network"]
    network.decoder[0] = torch.nn.Conv2d(tokens.shape[1], 16, 1)  # a decoder that looks at one place commutes with the mirror
    network.decoder[2] = torch.nn.Conv2d(16, 16, 1)
    with torch.no_grad():
        made = config.method.weights(network, tokens, part, (16, 16))
        other = config.method.weights(network, tokens.flip(-1), part._replace(images=part.images.flip(-1)), (16, 16))
    assert made.unique().numel() == 2 and (made == other.flip(-1)).float().mean() > 0.99


def test_weights_lie_in_the_frame_of_the_label(pair, fixed):
    """The encoder sees mirrored pictures; label and weights are of the pictures as they are."""
    config = fixed("urn")
    networks, part, _, seen, goals = prepared(pair, config)
    with torch.no_grad():
        both = (seen.tokens.flip(-1), seen.tokens)
        back, mirrored = (config.method.weights(networks["network"], tokens, part, (16, 16)) for tokens in both)
    assert torch.equal(goals.weights, back) and not torch.equal(back, mirrored)


def test_what_is_between_a_sure_object_and_a_sure_background_is_weighed_down():
    """Responses that rise from left to right: both ends keep their winner whatever the power, the middle does not."""
    rise = torch.linspace(0.0, 1.0, 21).clamp(1e-12, 1 - 1e-12).expand(1, 1, 4, 21)
    maps, here = torch.cat([1 - rise, rise], 1), torch.ones(1, 2, dtype=torch.bool)
    wins = urn.scaled_wins(maps, here, torch.zeros(1, 3, 4, 21), powers=urn.Urn().powers, **PLAIN)
    weights = urn.pixel_weights(urn.uncertainty(wins, here), 0.05)
    assert weights[0, :, 0].eq(1).all() and weights[0, :, -1].eq(1).all() and weights[0, :, 9:12].lt(1).all()
