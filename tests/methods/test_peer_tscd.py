"""TSCD: its equations and its refinement against plain loops, what its losses train, and that its random points are the image's own."""

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch
from plain import moved
from steps import CLASSES, TAGS, gradients, in_parts, networks_of, stage_of, stages_of, step, uneven_batch

from dsgc import refine
from dsgc.cam import IGNORE
from dsgc.methods import preset, varm
from dsgc.methods.affinity import pair_labels
from dsgc.methods.base import Base
from dsgc.methods.labels import nearest
from dsgc.methods.peers import tscd
from dsgc.objective import segmentation_loss

STAGES = ("warm-up", "expansion")
OFF = {"affinity_weight": 0.0, "scd_weight": 0.0, "er_weight": 0.0}


def rand(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def softmax(values):
    top = max(values)
    total = sum(math.exp(value - top) for value in values)
    return [math.exp(value - top) / total for value in values]


def cosine(u, v):
    norms = math.sqrt(sum(a * a for a in u)) * math.sqrt(sum(b * b for b in v))
    return sum(a * b for a, b in zip(u, v, strict=True)) / norms if norms else 0.0


# refinement


def neighbourhood(dilations):
    return [(d * dy, d * dx) for d in dilations for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dy, dx) != (0, 0)]


def weights_by_loops(image, dilations):
    """image[channel][y][x] -> weights[y][x][n]."""
    height, width = len(image[0]), len(image[0][0])

    def within(y, x):
        return min(max(y, 0), height - 1), min(max(x, 0), width - 1)

    def varies(y, x):
        total = 0.0
        for channel in image:
            down = channel[y + 1][x] - channel[y][x] if y + 1 < height else 0.0
            across = channel[y][x + 1] - channel[y][x] if x + 1 < width else 0.0
            total += (down**2 + across**2) / len(image)
        return total

    found = []
    for y in range(height):
        found.append([])
        for x in range(width):
            places = [within(y + dy, x + dx) for dy, dx in neighbourhood(dilations)]
            colour = [0.0] * len(places)
            for channel in image:
                values = [channel[b][a] for b, a in places]
                mean = sum(values) / len(values)
                deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1))
                for n, value in enumerate(values):
                    colour[n] -= (4 * abs(value - channel[y][x]) / (deviation + 1e-8)) ** 2 / len(image)
            change = softmax([varies(b, a) for b, a in places])
            found[-1].append([(one - 0.01 * other) / 0.99 for one, other in zip(softmax(colour), change, strict=True)])
    return found


@pytest.mark.parametrize(("size", "dilations"), [((4, 5), (1, 2)), ((3, 3), (1,)), ((5, 4), (1, 6))])
def test_the_weights_of_the_refinement_are_those_of_a_loop(size, dilations):
    images = rand(2, 3, *size)
    found = varm.weights(images, dilations)
    for b in range(2):
        expected = torch.tensor(weights_by_loops(images[b].tolist(), dilations), dtype=torch.float64)
        torch.testing.assert_close(found[b].permute(1, 2, 0), expected, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(found.sum(1), torch.ones(2, *size, dtype=torch.float64))


@pytest.mark.parametrize("iterations", [0, 1, 3])
def test_the_refinement_is_that_of_a_loop(iterations):
    images, maps, dilations = rand(1, 3, 4, 5), rand(1, 2, 4, 5, seed=1), (1, 3)
    weights, expected = weights_by_loops(images[0].tolist(), dilations), maps[0].tolist()
    for _ in range(iterations):
        expected = [
            [
                [
                    sum(
                        weights[y][x][n] * map[min(max(y + dy, 0), 3)][min(max(x + dx, 0), 4)]
                        for n, (dy, dx) in enumerate(neighbourhood(dilations))
                    )
                    for x in range(5)
                ]
                for y in range(4)
            ]
            for map in expected
        ]
    found = varm.refine(maps, images, dilations=dilations, iterations=iterations)
    torch.testing.assert_close(found[0], torch.tensor(expected, dtype=torch.float64))


def test_the_refinement_keeps_a_constant_map_and_bears_a_constant_image():
    flat = varm.refine(torch.full((1, 1, 5, 5), 0.3), torch.rand(1, 3, 5, 5), dilations=(1, 2), iterations=10)
    torch.testing.assert_close(flat, torch.full((1, 1, 5, 5), 0.3))
    one = varm.refine(rand(1, 1, 5, 5), torch.full((1, 3, 5, 5), 0.5), dilations=(1, 2), iterations=4)
    assert one.isfinite().all() and one.std() < rand(1, 1, 5, 5).std()


def test_a_neighbour_at_an_edge_of_the_image_counts_less():
    """An image of one colour but for a bright column; far from it neighbours differ only in how near to it they are."""
    image = torch.zeros(1, 3, 5, 9)
    image[..., 7] = 1
    found = varm.weights(image, (1, 2))[0, :, 2, 4]  # its neighbour two to the right, in column 6, changes to the next one
    steps = neighbourhood((1, 2))
    assert found[steps.index((0, 2))] < found[steps.index((0, -2))] == found[steps.index((0, 1))]


@pytest.mark.parametrize("refinement", ["varm", "par"])
def test_which_refinement_makes_the_label(images, fixed, refinement):
    config = fixed("tscd", refinement=refinement)
    maps = rand(3, CLASSES, 4, 4).float()
    made, plain = config.method.initial_label(images, maps, TAGS), fixed("base").method.initial_label(images, maps, TAGS)
    assert torch.equal(made.confidence, plain.confidence) == (refinement == "par")
    small = torch.nn.functional.interpolate(images, (16, 16), mode="bilinear", antialias=True)
    wanted = torch.nn.functional.interpolate(maps * TAGS[:, :, None, None], (16, 16), mode="bilinear", align_corners=False)
    by = {"varm": varm.refine, "par": refine.refine}[refinement]
    torch.testing.assert_close(made.confidence, by(wanted, small, dilations=config.method.refine_dilations, iterations=10).amax(1))


# correspondences


def read(map, x, y):
    """map[c][row][column] at a place in [0, 1), bilinear between the middles of the cells."""
    height, width = len(map[0]), len(map[0][0])
    across, down = x * width - 0.5, y * height - 0.5
    across, down = min(max(across, 0), width - 1), min(max(down, 0), height - 1)
    a, b = int(across), int(down)
    c, d = min(a + 1, width - 1), min(b + 1, height - 1)
    s, t = across - a, down - b
    return [(1 - t) * ((1 - s) * m[b][a] + s * m[b][c]) + t * ((1 - s) * m[d][a] + s * m[d][c]) for m in map]


def distillation_by_loops(maps, logits, points, level, masked):
    """Sum and number of pairs, over images; nested lists."""
    total, number = 0.0, 0
    for b in range(len(maps[0])):
        first, second = ([read(maps[v][b], x, y) for x, y in points[v][b]] for v in range(2))
        one, other = ([read(logits[v][b], x, y) for x, y in points[v][b]] for v in range(2))
        pairs = [
            (u, v) for u in range(len(first)) for v in range(len(second)) if not masked or (any(first[u]) and any(second[v]))
        ]
        alike = {(u, v): cosine(first[u], second[v]) for u, v in pairs}
        whole = sum(alike.values()) / max(len(pairs), 1) if level else 0.0
        for u, v in pairs:
            row = [alike[pair] for pair in pairs if pair[0] == u]
            total -= max(cosine(one[u], other[v]), 0) * (alike[u, v] - sum(row) / len(row) + whole)
            number += 1
    return total, number


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("level", [True, False])
@pytest.mark.parametrize("kind", ["random", "holes", "no tag"])
def test_the_distillation_is_that_of_a_loop(level, masked, kind):
    maps, logits = (rand(2, 3, 4, 5), rand(2, 3, 2, 2, seed=1)), [rand(2, 4, 4, 5, seed=2) - 0.5, rand(2, 4, 2, 2, seed=3) - 0.5]
    if kind == "holes":
        maps[0][:, :, :2], maps[1][:, :, 0] = 0, 0
        maps[0][:, 1], maps[1][:, 1] = 0, 0
    if kind == "no tag":
        maps[0][0], maps[1][0] = 0, 0
    points = rand(2, 2, 7, 2, seed=4)
    for map in logits:
        map.requires_grad_()
    value, over = tscd.distillation(
        [map.float() for map in maps], [map.float() for map in logits], points.float(), level=level, masked=masked
    )
    lists = ([map.tolist() for map in maps], [map.tolist() for map in logits], points.tolist())
    total, number = distillation_by_loops(*lists, level, masked)
    assert over == number and value.item() == pytest.approx(total / number, abs=1e-5)
    assert number < 2 * 49 or not masked or kind == "random"
    value.backward()
    assert all(map.grad.isfinite().all() and map.grad.any() for map in logits)


def test_without_any_tag_the_distillation_is_0_and_has_no_gradient():
    for masked in (True, False):
        logits = [rand(2, 4, 3, 3, seed=seed).float().requires_grad_() for seed in (0, 1)]
        zero = torch.zeros(2, 3, 3, 3)
        value, over = tscd.distillation((zero, zero), logits, rand(2, 2, 5, 2).float(), level=True, masked=masked)
        value.backward()
        assert value == 0 and over == (0 if masked else 50)
        assert not any(map.grad.any() for map in logits)


def test_rows_lose_their_mean_and_take_on_that_of_the_image():
    alike, counts = rand(2, 4, 5), torch.ones(2, 4, 5, dtype=torch.bool)
    counts[1, 2], counts[1, :, 3] = False, False
    found, bare = (tscd.centred(alike, counts, level=level) for level in (True, False))
    for b in range(2):
        level = alike[b][counts[b]].mean()
        assert found[b][counts[b]].mean().item() == pytest.approx(level.item())
        torch.testing.assert_close(bare[b][counts[b]], found[b][counts[b]] - level)
        for u in range(4):
            if counts[b, u].any():
                assert found[b, u][counts[b, u]].mean().item() == pytest.approx(level.item())
    assert not found[~counts].any()


@pytest.mark.parametrize("level", [True, False])
def test_without_the_mean_given_back_the_decoder_learns_what_the_map_tells_apart_and_with_it_that_all_is_one(level):
    """Two classes, one in either half. As published, logits that are the same everywhere are the best there are."""
    maps = torch.zeros(1, 2, 4, 4)
    maps[:, 0, :, :2], maps[:, 1, :, 2:] = 1, 1
    small, points = maps[:, :, ::2, ::2], rand(2, 1, 200, 2).float()

    def loss(logits):
        return tscd.distillation((maps, small), [logits, logits[:, :, ::2, ::2]], points, level=level, masked=True).value

    told, one = loss(torch.cat([torch.zeros(1, 1, 4, 4), maps], 1)), loss(torch.ones(1, 3, 4, 4))
    assert one < told - 0.05 if level else told < one - 0.05
    logits = (rand(1, 3, 4, 4) - 0.5).float().requires_grad_()
    before = loss(logits).item()
    for _ in range(200):
        (gradient,) = torch.autograd.grad(loss(logits), logits)
        logits.data -= 5 * gradient
    assert loss(logits).item() < before - 0.05
    likeness = torch.cosine_similarity(logits[0, :, 1, 0], logits[0, :, 1, 3], dim=0)
    assert likeness > 0.95 if level else likeness < 0.5


def test_points_are_the_images_own(pair, fixed):
    """Whatever part it is in: its random numbers go with its seed."""
    config = fixed("tscd")
    networks, batch, now = networks_of(pair, config), uneven_batch(), stage_of(config, "expansion")
    method = config.method

    def points(part):
        with torch.no_grad():
            return method.goals(networks, method.passes(networks, part, now), part, now).points

    whole = points(batch)
    assert whole.shape == (2, 8, 16**2, 2) and 0 <= whole.min() and whole.max() < 1
    assert torch.equal(whole, torch.cat([points(part) for part in in_parts(batch, 4)], 1))
    assert not torch.equal(whole[0], whole[1]) and not torch.equal(whole[:, 0], whole[:, 1])
    assert abs(whole.mean() - 0.5) < 0.02


# equivariance


def test_equivariance_is_the_mean_difference_over_tagged_maps():
    maps, small = rand(2, 3, 4, 6), rand(2, 3, 2, 3, seed=1)
    tags = torch.tensor([[1, 0, 1], [0, 0, 1]], dtype=torch.float64)
    wanted = torch.nn.functional.interpolate(maps, (2, 3), mode="bilinear", antialias=True)
    value, over = tscd.equivariance(maps, small, tags)
    found = [abs(small[b, c, y, x] - wanted[b, c, y, x]) for b, c in ((0, 0), (0, 2), (1, 2)) for y in range(2) for x in range(3)]
    assert value.item() == pytest.approx(sum(found).item() / 18) and over == 18
    flat = tscd.equivariance(torch.full((1, 1, 4, 4), 0.4), torch.full((1, 1, 2, 2), 0.1, requires_grad=True), torch.ones(1, 1))
    assert flat.value.item() == pytest.approx(0.3)
    none = tscd.equivariance(maps, small.requires_grad_(), 0 * tags)
    none.value.backward()
    assert none.value == 0 and none.over == 0 and not small.grad.any()


@pytest.mark.parametrize(("side", "patch", "found"), [(448, 16, 128), (96, 8, 32), (168, 14, 56), (32, 8, 16)])
def test_the_small_copy_has_whole_patches(pair, side, patch, found):
    network = type("Network", (), {"patch_size": patch})
    copy = preset("voc", "tscd").method.small_copy(torch.rand(1, 3, side, side), network)
    assert copy.shape == (1, 3, found, found)


# numbers and stages


def test_published_numbers_and_stages(tiny):
    for name in ("voc", "coco"):
        method = preset(name, "tscd").method
        assert (method.scd_weight, method.er_weight, method.affinity_weight, method.lambda4, method.lambda1) == (0.1, 0.1, 0.1, 0.1, 0)
        assert (method.label_low, method.label_high, method.scd_points, method.refine_iterations) == (0.35, 0.55, 40, 10)
    config = tiny("tscd")
    assert stages_of(config) == STAGES and stage_of(config, "warm-up").weights == {"cls": 1.0}
    assert stage_of(config, "expansion").weights == {"cls": 1.0, "seg": 0.1, "aff": 0.1, "scd": 0.1, "er": 0.1}


@pytest.mark.parametrize("name", ["affinity_weight", "scd_weight", "er_weight", "lambda4"])
def test_a_loss_without_a_weight_is_not_computed_and_changes_no_other(pair, images, fixed, name):
    loss = {"affinity_weight": "aff", "scd_weight": "scd", "er_weight": "er", "lambda4": "seg"}[name]
    every, fewer = (step(pair, images, "expansion", fixed("tscd", **values)) for values in ({}, {name: 0.0}))
    assert every.losses.keys() - fewer.losses.keys() == {loss}
    for other, value in fewer.losses.items():
        assert every.losses[other].item() == pytest.approx(value.item(), rel=1e-6)


# off is off, and a bound


@dataclass(frozen=True)
class Plain(Base):
    name: ClassVar = "base"
    TAGGED: ClassVar[tuple[str, ...]] = ("patch_logits",)


@pytest.mark.parametrize("parts", [1, 4])
@pytest.mark.parametrize("stage", STAGES)
def test_with_no_weight_it_is_the_baseline_to_the_bit(pair, fixed, stage, parts):
    off = fixed("tscd", refinement="par", **OFF)
    plain = replace(off, method=Plain(**{name: getattr(off.method, name) for name in Base.names()}))
    batch = in_parts(uneven_batch(), parts)
    (made, found), (base, expected) = (gradients(pair, batch, stage, config) for config in (off, plain))
    assert made.losses.keys() == base.losses.keys() and all(torch.equal(made.losses[name], base.losses[name]) for name in base.losses)
    assert found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)


def test_with_true_masks_for_labels_the_decoder_learns_what_any_method_does(pair, images, fixed, monkeypatch):
    true = torch.randint(0, CLASSES + 1, (3, 16, 16), generator=torch.Generator().manual_seed(1))
    initial = tscd.Tscd.initial_label
    monkeypatch.setattr(tscd.Tscd, "initial_label", lambda self, *given: initial(self, *given)._replace(labels=true))
    made = step(pair, images, "expansion", fixed("tscd"))
    logits = pair[0].decode(pair[0](images.flip(-1)).tokens.flip(-1))
    logits = torch.nn.functional.interpolate(logits, (16, 16), mode="bilinear", align_corners=False)
    assert made.losses["seg"].item() == pytest.approx(segmentation_loss(logits, true, average="balanced").item(), rel=1e-5)
    near = preset("shapes", "tscd").method.near((4, 4), true.device)
    assert torch.equal(made.goals.pairs, pair_labels(nearest(true, (4, 4)), near)) and (made.goals.pairs != IGNORE).any()


# a step


def test_each_loss_trains_what_it_is_to_train(pair, images, fixed):
    config = fixed("tscd", label_low=0.2, label_high=0.5)
    network = networks_of(pair, config)["network"]
    losses = step(pair, images, "expansion", config).losses
    last = "encoder.blocks.4.attn.qkv.weight"
    found = {name: moved(network, loss) for name, loss in losses.items()}
    assert {"more.affinity.weight", "more.affinity.bias", last} <= found["aff"]
    assert {"decoder.0.weight", "decoder.4.weight", last} <= found["scd"]
    assert {"patch_classifier.weight", last} <= found["er"]
    assert not {name for name in found["scd"] if name.startswith(("patch_classifier", "more"))}, "the CAM is a constant"
    assert not {name for name in found["er"] | found["aff"] if name.startswith("decoder")}
    assert not {name for names in found.values() for name in names if name.startswith(("class_", "aux_", "projector"))}


def test_as_published_the_equivariance_has_no_gradient(pair, images, fixed):
    with_it, without = (step(pair, images, "expansion", fixed("tscd", er_gradient=given)).losses["er"] for given in (True, False))
    assert with_it.item() == pytest.approx(without.item(), rel=1e-6) and with_it.requires_grad and not without.requires_grad


def test_equivariance_lets_only_the_small_copy_learn(pair, images, fixed):
    config = fixed("tscd")
    networks, now = networks_of(pair, config), stage_of(config, "expansion")
    part = uneven_batch()._replace(images=images, tags=TAGS, seeds=torch.arange(3))
    seen = config.method.passes(networks, part, now)
    with torch.no_grad():
        goals = config.method.goals(networks, seen, part, now)
    loss = config.method.losses(networks, seen, goals, part, now, {})["er"].value
    one, other = torch.autograd.grad(loss, [seen.output.tokens, seen.small.tokens], allow_unused=True)
    assert one is None and other.any()


def test_the_affinity_is_not_made_symmetric(pair, images, fixed):
    config = fixed("tscd")
    network = networks_of(pair, config)["network"]
    _, found = config.method.with_affinity(network, images)
    assert not torch.allclose(found, found.mT, atol=1e-6)
