"""SIPE: seeds, prototypes and labels against loops over places, what its loss trains, and what it shares with the baseline."""

import math

import oracles
import pytest
import torch
import torch.nn.functional as F
from steps import CLASSES, gradients, in_parts, networks_of, stage_of, step, uneven_batch

from dsgc.cam import IGNORE
from dsgc.errors import UserError
from dsgc.methods import preset
from dsgc.methods.base import Base
from dsgc.methods.labels import Initial
from dsgc.methods.peers.sipe import label_by_competition, prototype_maps, seeds, with_background

PLAIN = {"stride": 1, "dilations": (1,), "iterations": 0}  # labels of maps as they are


def random(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def drawn(seed=0, tags=((1, 0, 1), (0, 1, 0), (0, 0, 0))):
    """Maps of background and tagged classes, tokens, and tags."""
    tags = torch.tensor(tags).float()
    maps = with_background(random(len(tags), 3, 4, 5, seed=seed).square(), tags, of_all=False)
    return maps, random(len(tags), 6, 4, 5, seed=seed + 1) - 0.4, tags


# seeds


def seed_loop(maps, tokens, background):
    """The number of the map that each place is a seed of."""
    found = []
    for covers, token in zip(maps.tolist(), tokens.tolist(), strict=True):
        where = oracles.places(covers[0])
        row = []
        for here in where:
            alike = [max(0.0, oracles.cosine(oracles.vector(token, *here), oracles.vector(token, *there))) for there in where]
            overlaps = []
            for number, cover in enumerate(covers):
                values = [cover[y][x] for y, x in where]
                both = oracles.dot(alike, values)
                either = sum(alike) + sum(values) - both
                overlaps.append((both / either if either else 0.0) * (background if number == 0 else 1.0))
            row.append(overlaps.index(max(overlaps)))
        found.append(row)
    return found


@pytest.mark.parametrize("background", [0.5, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_seeds_equal_the_loop_over_pairs_of_places(seed, background):
    maps, tokens, tags = drawn(seed)
    found = seeds(maps, tokens, background)
    assert found.shape == maps.shape and (found.sum(1) == 1).all()
    assert found.argmax(1).flatten(1).tolist() == seed_loop(maps.double(), tokens.double(), background)
    allowed = F.pad(tags, (1, 0), value=1)
    assert not (found.amax((-2, -1)) > allowed).any(), "a class that is not there has no seed"
    assert torch.equal(seeds(maps.flip(-1), tokens.flip(-1), background), found.flip(-1))


def test_where_nothing_overlaps_the_background_is_the_seed():
    for maps, tokens in ((torch.zeros(1, 3, 2, 2), random(1, 4, 2, 2)), (torch.zeros(1, 3, 2, 2), torch.zeros(1, 4, 2, 2))):
        assert seeds(maps, tokens, 0.5)[:, 0].all()
    assert seeds(torch.ones(1, 3, 2, 2), torch.zeros(1, 4, 2, 2), 0.5)[:, 0].all()  # nothing is like a token of length 0


@pytest.mark.parametrize("of_all", [True, False])
def test_the_background_is_one_minus_the_strongest(of_all):
    maps, tags = random(2, 3, 4, 4), torch.tensor([[1.0, 0, 1], [0, 0, 0]])
    found = with_background(maps, tags, of_all)
    for image in range(2):
        for y, x in oracles.places(maps[0, 0].tolist()):
            counted = [float(maps[image, c, y, x]) for c in range(3) if of_all or tags[image, c]]
            assert found[image, 0, y, x].item() == pytest.approx(1 - max(counted, default=0.0), abs=1e-6)
    assert torch.equal(found[:, 1:], maps * tags[:, :, None, None])


# prototypes


def map_loop(found, features):
    maps = []
    for regions, feature in zip(found.tolist(), features.tolist(), strict=True):
        where = oracles.places(regions[0])
        maps.append([])
        for region in regions:
            chosen = [oracles.vector(feature, y, x) for y, x in where if region[y][x]]
            prototype = [sum(values) / len(where) for values in zip(*chosen, strict=True)] if chosen else [0.0] * len(feature)
            values = [max(0.0, oracles.cosine(oracles.vector(feature, *place), prototype)) for place in where]
            maps[-1].append([value / (max(values) or 1.0) for value in values])
    return maps


@pytest.mark.parametrize("seed", range(3))
def test_maps_of_prototypes_equal_the_loop(seed):
    maps, features, _ = drawn(seed)
    found = seeds(maps, features, 0.5)
    made = prototype_maps(found, features)
    torch.testing.assert_close(made.flatten(2), torch.tensor(map_loop(found, features.double())).float(), rtol=1e-4, atol=1e-5)
    assert not made[found.amax((-2, -1)) == 0].any() and made.max() == 1
    torch.testing.assert_close(prototype_maps(found.flip(-1), features.flip(-1)), made.flip(-1))


def test_maps_of_empty_seeds_and_of_zero_features_are_zero_with_finite_gradients():
    for found, features in ((torch.zeros(1, 3, 2, 2), random(1, 4, 2, 2)), (torch.ones(1, 3, 2, 2), torch.zeros(1, 4, 2, 2))):
        features = features.requires_grad_()
        made = prototype_maps(found, features)
        (1 - made).abs().mean().backward()
        assert not made.any() and features.grad.isfinite().all()


def test_a_prototype_finds_the_part_that_the_classifier_overlooks():
    """What the method is for: a CAM on an object's head, whose body has almost the same features; the rest is another thing."""
    cam = torch.zeros(1, 1, 6, 6)
    cam[0, 0, 1, 1:4] = 1
    thing = torch.zeros(6, 6, dtype=torch.bool)
    thing[1:5, 1:4] = True
    tokens = torch.where(thing, torch.tensor([1.0, 0.2, 0.0]).view(3, 1, 1), torch.tensor([0.1, 0.0, 1.0]).view(3, 1, 1))[None]
    tokens = tokens + 0.05 * random(1, 3, 6, 6, seed=4)
    maps = with_background(cam, torch.ones(1, 1), of_all=False)
    found = seeds(maps, tokens, 0.5)
    assert torch.equal(found[0, 1].bool(), thing)
    second = prototype_maps(found, tokens)[0]
    assert second[1][thing].min() > 0.9 and second[1][~thing].max() < 0.4
    labels = label_by_competition(torch.zeros(1, 3, 6, 6), second[None], torch.ones(1, 1), background=0.5, **PLAIN).labels
    assert torch.equal(labels[0] == 1, thing) and (labels[0][~thing] == 0).all()


# labels


def test_labels_equal_the_rule_place_by_place():
    maps, tags = random(3, 5, 8, 8), torch.tensor([[1.0, 0, 1, 1], [0, 0, 0, 1], [0, 0, 0, 0]])
    made = label_by_competition(torch.zeros(3, 3, 8, 8), maps, tags, background=0.5, **PLAIN)
    for image in range(3):
        for y, x in oracles.places(maps[0, 0].tolist()):
            ground = float(maps[image, 0, y, x])
            best, winner = max(((float(maps[image, 1 + c, y, x]), -c) for c in range(4) if tags[image, c]), default=(0.0, 0))
            expected = 1 - winner if best > ground else 0 if best <= 0.5 * ground else IGNORE
            assert made.labels[image, y, x] == expected
            assert made.confidence[image, y, x].item() == pytest.approx(best)
            assert made.strongest[image, y, x] == 1 - winner or not tags[image].any()
    assert {0, IGNORE, 1, 3, 4} == set(made.labels[0].unique().tolist()) and not made.labels[2].any()


def test_a_mirrored_image_has_mirrored_labels_and_refinement_takes_its_colours():
    images = F.interpolate(random(2, 3, 4, 4), (16, 16))
    maps, tags = random(2, 4, 4, 4, seed=1), torch.tensor([[1.0, 1, 0], [0, 0, 1]])
    options = {"background": 0.5, "stride": 2, "dilations": (1, 2), "iterations": 5}
    made = label_by_competition(images, maps, tags, **options)
    other = label_by_competition(images.flip(-1), maps.flip(-1), tags, **options)
    assert made.labels.shape == (2, 8, 8) and (made.labels == other.labels.flip(-1)).float().mean() > 0.99
    torch.testing.assert_close(made.confidence, other.confidence.flip(-1), rtol=0, atol=1e-5)
    assert not torch.equal(made.labels, label_by_competition(images, maps, tags, **options | {"iterations": 0}).labels)


# a step


@pytest.mark.parametrize("parts", [1, 4])
@pytest.mark.parametrize("stage", ["warm-up", "expansion"])
def test_without_prototypes_it_is_the_baseline_to_the_bit(pair, fixed, stage, parts):
    batch = in_parts(uneven_batch(), parts)
    made, found = gradients(pair, batch, stage, fixed("sipe", consistency=0.0, label_source="cam"))
    base, expected = gradients(pair, batch, stage, fixed("base"))
    assert made.losses.keys() == base.losses.keys()
    assert all(torch.equal(made.losses[name], base.losses[name]) for name in base.losses)
    assert found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)


def test_a_true_label_gives_the_segmentation_loss_of_the_baseline(pair, fixed, monkeypatch):
    batch, losses = uneven_batch(masks=True), []
    true = F.interpolate(batch.masks[:, None].float(), (16, 16), mode="nearest-exact")[:, 0].long()
    monkeypatch.setattr(Base, "initial_label", lambda *_: Initial(true.float(), true, true))
    monkeypatch.setattr("dsgc.methods.peers.sipe.label_by_competition", lambda *_, **__: Initial(true.float(), true, true))
    for name in ("base", "sipe"):
        losses.append(step(pair, batch.images, "expansion", fixed(name), tags=batch.tags).losses["seg"])
    torch.testing.assert_close(*losses, rtol=1e-6, atol=0)
    assert losses[0] > 0


def test_the_consistency_trains_the_classifier_the_encoder_and_the_layers_of_the_features(pair, fixed):
    config, batch = fixed("sipe"), uneven_batch()
    networks = networks_of(pair, config)
    made = step(pair, batch.images, "warm-up", config, tags=batch.tags)
    assert made.losses.keys() == {"cls", "ptc", "gsc"}
    found = torch.autograd.grad(made.losses["gsc"], list(pair[0].parameters()), allow_unused=True)
    named = zip(pair[0].named_parameters(), found, strict=True)
    reached = {name.split(".")[0] for (name, _), value in named if value is not None and value.any()}
    assert reached == {"encoder", "patch_classifier", "more"}
    features = config.method.looked(networks["network"], batch.images).features
    found = torch.autograd.grad(features.square().mul(random(*features.shape)).sum(), list(pair[0].parameters()), allow_unused=True)
    named = zip(pair[0].named_parameters(), found, strict=True)
    assert {name for (name, _), value in named if value is not None} == {f"more.sides.{number}.weight" for number in range(4)}


def test_the_consistency_is_the_mean_distance_of_both_maps(pair, fixed):
    config, part = fixed("sipe"), uneven_batch()
    network = networks_of(pair, config)["network"]
    with torch.no_grad():
        made = step(pair, part.images, "warm-up", config, tags=part.tags)
        seen = config.method.looked(network, part.images.flip(-1))
        first = config.method.live(network, seen.output, part.tags)
        second = prototype_maps(seeds(first, seen.output.tokens, 0.5), seen.features)
    assert first.shape == (8, 1 + CLASSES, 4, 4)
    torch.testing.assert_close(first[:, 1:], config.method.cam(network, seen.output) * part.tags[:, :, None, None])
    expected = sum(abs(a - b) for a, b in zip(first.flatten().tolist(), second.flatten().tolist(), strict=True)) / first.numel()
    assert made.losses["gsc"].item() == pytest.approx(expected, rel=1e-5)


def test_features_are_unit_vectors_of_each_block_after_its_layer(pair, fixed):
    config, part = fixed("sipe"), uneven_batch()
    network = networks_of(pair, config)["network"]
    with torch.no_grad():
        features = config.method.looked(network, part.images).features
        _, tokens = network.with_blocks(part.images, (1, 2, 4, 5))
    assert features.shape == (8, 192, 4, 4)
    for number, (block, rows) in enumerate(((1, slice(0, 32)), (2, slice(32, 64)), (4, slice(64, 128)), (5, slice(128, 192)))):
        for y, x in ((0, 0), (1, 3), (3, 2)):
            own = network.more["sides"][number].weight.detach() @ tokens[block][0, 1 + 4 * y + x]
            torch.testing.assert_close(features[0, rows, y, x], own / math.sqrt(float(own.square().sum())), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("source", ["prototypes", "cam"])
def test_labels_are_in_the_frame_of_the_images(pair, fixed, source):
    config, part = fixed("sipe", label_source=source), uneven_batch()
    method, network = config.method, networks_of(pair, config)["network"]
    with torch.no_grad():
        seen = method.looked(network, part.images.flip(-1))
        goals = method.goals({"network": network}, seen, part, stage_of(config, "expansion"))
        if source == "cam":
            expected = method.initial_label(part.images, method.cam(network, seen.output).flip(-1), part.tags)
        else:
            maps = prototype_maps(goals.seeds, seen.features).flip(-1)
            options = {"stride": 2, "dilations": method.refine_dilations, "iterations": method.refine_iterations}
            expected = label_by_competition(part.images, maps, part.tags, background=0.5, **options)
    assert torch.equal(goals.labels.labels, expected.labels) and len(expected.labels.unique()) > 2


@pytest.mark.parametrize("wrong", [{"side_widths": (8, 8)}, {"prototype_blocks": (0, 1, 2, 3)}, {"seed_background": 1.5}], ids=str)
def test_numbers_that_make_no_sense_are_refused_by_name(wrong):
    with pytest.raises(UserError, match=next(iter(wrong))):
        preset("shapes", "sipe").changed(**wrong)


def test_a_block_that_the_encoder_does_not_have_is_refused(pair, fixed):
    with pytest.raises(UserError, match="prototype_blocks .*: the encoder has blocks 1 to 5"):
        fixed("sipe", prototype_blocks=(1, 2, 4, 6)).method.heads(pair[0], CLASSES)
