"""BECO: its formulas against plain loops, its pasting, and what its networks teach each other."""

import math

import pytest
import torch
import torch.nn.functional as F
from plain import reached
from steps import CLASSES, TAGS, gradients, networks_of, stage_of, step, uneven_batch

from dsgc import objective
from dsgc.cam import IGNORE
from dsgc.errors import UserError
from dsgc.methods import draws, labels, preset
from dsgc.methods.contract import Part, over_all
from dsgc.methods.peers.beco import Beco, boundary, cotrained, own_labels, pasted, pasted_classes, weighted

OFF = {"cotraining": 0.0, "mixing": 0.0}


def random(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def random_labels(*shape, seed=0):
    """Labels 0..CLASSES, some of them 255."""
    generator = torch.Generator().manual_seed(seed)
    found = torch.randint(0, CLASSES + 1, shape, generator=generator)
    return torch.where(torch.rand(shape, generator=generator) < 0.3, IGNORE, found)


def cross_entropy(logits, label):
    """In float64, of one pixel."""
    top = max(logits)
    return top + math.log(sum(math.exp(v - top) for v in logits)) - logits[label]


# labels of its own, and what is pasted


def test_own_labels_are_those_of_a_loop():
    logits = 5 * random(2, 4, 3, 5)
    found = own_labels(logits, 0.7)
    assert (found == IGNORE).any() and (found != IGNORE).any()
    for b in range(2):
        for y in range(3):
            for x in range(5):
                parts = [math.exp(v) for v in logits[b, :, y, x].tolist()]
                assert found[b, y, x] == (parts.index(max(parts)) if max(parts) / sum(parts) > 0.7 else IGNORE)
    assert (own_labels(torch.zeros(1, 4, 2, 2), 0.25) == IGNORE).all(), "at equality there is none"


def test_half_of_the_classes_that_are_there_are_pasted_and_each_as_often():
    made = torch.tensor([[[0, 1, 1, 255]], [[0, 0, 0, 0]], [[255, 255, 255, 255]], [[2, 3, 0, 6]], [[1, 2, 5, 6]]])
    times = torch.zeros(5, CLASSES)
    for seed in range(300):
        chosen = pasted_classes(made, random(5, CLASSES, seed=seed))
        assert chosen.sum(1).tolist() == [1, 0, 0, 2, 2]
        times += chosen
    assert times[0].tolist() == [300, 0, 0, 0, 0, 0] and not times[1:3].any()
    assert not times[3, [0, 3, 4]].any() and ((times[3, [1, 2, 5]] - 200).abs() < 40).all()
    assert not times[4, [2, 3]].any() and ((times[4, [0, 1, 4, 5]] - 150).abs() < 40).all()
    assert pasted_classes(made[:1], torch.zeros(1, CLASSES)).tolist() == [[True] + [False] * 5], "a number of 0 is a number"


def test_pasted_pixels_are_those_of_the_chosen_classes():
    made, chosen = random_labels(3, 4, 5), random(3, CLASSES) < 0.5
    found = pasted(made, chosen)
    for b in range(3):
        for y in range(4):
            for x in range(5):
                label = made[b, y, x].item()
                assert found[b, y, x] == (label not in (0, IGNORE) and chosen[b, label - 1].item())
    assert not pasted(torch.full((1, 2, 2), IGNORE), torch.ones(1, CLASSES, dtype=torch.bool)).any()


@pytest.mark.parametrize("radius", [0, 1, 2])
def test_the_boundary_is_where_a_square_holds_both_sides(radius):
    region = F.interpolate((random(2, 1, 4, 4) < 0.5).float(), (9, 9))[:, 0] > 0
    found = boundary(region, radius)
    for b in range(2):
        for y in range(9):
            for x in range(9):
                rows, columns = range(max(0, y - radius), min(9, y + radius + 1)), range(max(0, x - radius), min(9, x + radius + 1))
                around = {region[b, i, j].item() for i in rows for j in columns}
                assert found[b, y, x] == (around == {True, False})
    assert found.any() == bool(radius)
    assert torch.equal(boundary(region.flip(-1), radius), found.flip(-1))
    for value in (True, False):
        assert not boundary(torch.full((1, 5, 5), value), radius).any(), "the rim of a picture is no boundary"


# losses


def test_the_weighted_loss_is_that_of_a_loop_over_all_pixels():
    logits, made = 4 * random(2, CLASSES + 1, 5, 6).double(), random_labels(2, 5, 6)
    edge = random(2, 5, 6, seed=3) < 0.4
    value, over = weighted(logits, made, edge, 1.2)
    total = 0.0
    for b in range(2):
        for y in range(5):
            for x in range(6):
                if made[b, y, x] != IGNORE:
                    total += (1.2 if edge[b, y, x] else 1) * cross_entropy(logits[b, :, y, x].tolist(), made[b, y, x])
    assert over.tolist() == [60] and value.item() == pytest.approx(total / 60, rel=1e-12)


def test_co_training_is_that_of_a_loop_over_pixels_without_a_label():
    logits, others = 4 * random(2, CLASSES + 1, 5, 6).double(), 4 * random(2, CLASSES + 1, 5, 6, seed=1).double()
    made = random_labels(2, 5, 6)
    value, over = cotrained(logits, others, made)
    total = 0.0
    for b in range(2):
        for y in range(5):
            for x in range(6):
                if made[b, y, x] == IGNORE:
                    theirs = others[b, :, y, x].tolist()
                    total += cross_entropy(logits[b, :, y, x].tolist(), theirs.index(max(theirs)))
    assert over.tolist() == [60] and value.item() == pytest.approx(total / 60, rel=1e-12)


def test_losses_of_empty_sets_are_0_with_zero_gradient():
    logits = random(2, CLASSES + 1, 4, 4).requires_grad_()
    nothing, everything = torch.full((2, 4, 4), IGNORE), torch.zeros(2, 4, 4, dtype=torch.int64)
    edge = torch.ones(2, 4, 4, dtype=torch.bool)
    for value, _ in (weighted(logits, nothing, edge, 1.2), cotrained(logits, logits, everything)):
        (found,) = torch.autograd.grad(value.sum(), logits, retain_graph=True)
        assert value == 0 and not found.any()
    others = random(2, CLASSES + 1, 4, 4, seed=1).requires_grad_()
    value, _ = cotrained(logits, others, nothing)
    assert torch.autograd.grad(value.sum(), others, allow_unused=True) == (None,), "no network moves towards the other's error"


# mixing


def mixed_of(images, second, here, there, seeds=None, **changes):
    seeds = torch.arange(len(images)) if seeds is None else seeds
    part = Part(images, torch.ones(len(images), CLASSES), seeds, None, second)
    return preset("shapes", "beco").method.replaced(label_stride=1, **changes).mixed(part, here, there)


def one_hot(made, sure=20.0):
    return sure * F.one_hot(made.clamp(max=CLASSES), CLASSES + 1).permute(0, 3, 1, 2).float()


def test_an_object_is_pasted_with_its_own_label_and_an_edge_around_it():
    images, second = torch.zeros(2, 3, 16, 16), torch.ones(2, 3, 16, 16)
    here, there = torch.zeros(2, 16, 16, dtype=torch.int64), torch.zeros(2, 16, 16, dtype=torch.int64)
    here[:, 8:, :4], there[0, 2:8, 4:10] = 2, 5
    unsure = one_hot(here)
    unsure[:, :, 0] = 0
    found = mixed_of(images, second, unsure, one_hot(there))
    inside = there == 5
    assert torch.equal(found.images[:, 0] == 1, inside) and torch.equal(found.images[:, 0], found.images[:, 2])
    expected = torch.where(inside, 5, here)
    expected[:, 0] = IGNORE
    assert torch.equal(found.labels, expected)
    assert torch.equal(found.edge, boundary(inside, 1)) and found.edge[0].any() and not found.edge[1].any()
    assert torch.equal(found.images[1], images[1]), "nothing was found in its second crop, so nothing is pasted"
    mirrored = mixed_of(images, second, unsure.flip(-1), one_hot(there.flip(-1)))
    for one, other in zip(mirrored, found, strict=True):
        assert torch.equal(one, other.flip(-1))


def test_what_is_pasted_is_an_images_own_draw():
    images, second = random(4, 3, 16, 16), random(4, 3, 16, 16, seed=1)
    here, there = (one_hot(random_labels(4, 16, 16, seed=seed).clamp(max=CLASSES)) for seed in (2, 3))
    seeds = torch.tensor([5, 6, 7, 8])
    whole = mixed_of(images, second, here, there, seeds)
    part = mixed_of(images[2:], second[2:], here[2:], there[2:], seeds[2:])
    assert all(torch.equal(one, other[2:]) for one, other in zip(part, whole, strict=True))
    other = mixed_of(images, second, here, there, seeds + 10)
    assert not torch.equal(other.images, whole.images), "another seed, other classes"
    numbers = draws.uniform(seeds, "pasted classes", CLASSES)
    expected = pasted_classes(random_labels(4, 16, 16, seed=3).clamp(max=CLASSES), numbers)
    changed = (whole.images != images).any(1)
    assert torch.equal(changed, pasted(random_labels(4, 16, 16, seed=3).clamp(max=CLASSES), expected))


def test_a_pasted_object_lies_on_the_images_as_on_the_label(images):
    """At a stride of 2: the pixels that came from the second crop are those whose label did."""
    method = preset("shapes", "beco").method
    there = F.interpolate(random(3, CLASSES + 1, 4, 4) * 40, (16, 16), mode="nearest")
    part = Part(torch.zeros_like(images), TAGS, torch.arange(3), None, torch.ones_like(images))
    found = method.mixed(part, one_hot(torch.zeros(3, 16, 16, dtype=torch.int64)), there)
    small = F.max_pool2d(found.images[:, 0], 2) > 0
    assert torch.equal(small, found.labels > 0)
    assert 0.1 < small.float().mean() < 0.9 and set(found.images.unique().tolist()) == {0, 1}


def test_own_labels_are_of_the_mean_of_both_networks_and_frames_agree(images, fixed):
    """A network whose logits are the image: what it says of the mirrored image comes back to the frame of what is pasted."""

    class Pooled:
        patch_size = 8

        def __init__(self, gain):
            self.gain = gain

        def __call__(self, images):
            return type("Output", (), {"tokens": F.avg_pool2d(images, 8)})

        def decode(self, tokens):
            return self.gain * tokens

    config = fixed("beco", confident=0.6)
    part = Part(images, TAGS[:, :2], torch.arange(3), None, images.flip(-2))
    seen = config.method.passes({"first": Pooled(10), "second": Pooled(20)}, part, stage_of(config, "mixing"))
    torch.testing.assert_close(seen.logits[0], 10 * F.avg_pool2d(images, 8))
    grid = [images.new_zeros(3, 16, 16)]
    for source in (images, images.flip(-2)):
        grid.append(own_labels(F.interpolate(15 * F.avg_pool2d(source, 8), (16, 16), mode="bilinear", align_corners=False), 0.6))
    region = pasted(grid[2], pasted_classes(grid[2], draws.uniform(part.seeds, "pasted classes", 2)))
    assert region.any() and torch.equal(seen.mixed.labels, torch.where(region, grid[2], grid[1]))


def test_no_second_crop_is_wanted_where_nothing_is_pasted(fixed):
    assert fixed("beco").method.second_crop == (0.32, 1.0) and fixed("beco", mixing=0.0).method.second_crop is None
    with pytest.raises(UserError, match="second_area"):
        Beco(second_area=(0.5, 0.4))


# stages and steps


def test_stages_begin_where_they_are_published():
    method = preset("voc", "beco").method
    stages = [method.stage(number, 20_000) for number in (0, 1_999, 2_000, 2_224, 2_225, 20_000)]
    assert [stage.name for stage in stages] == ["warm-up"] * 2 + ["co-training"] * 2 + ["mixing"] * 2
    assert stages[0].weights == {"cls": 1, "ptc": 0.2}
    assert stages[2].weights == stages[0].weights | {"seg": 0.1, "cot": 0.1}
    assert stages[4].weights == stages[2].weights | {"mix": 0.1}
    off = method.replaced(**OFF)
    assert off.stage(10_000, 20_000).weights == {"cls": 1, "ptc": 0.2, "seg": 0.1}


REACHED = {
    "cls": {"encoder", "class_classifier", "patch_classifier", "aux_classifier"},
    "ptc": {"encoder"},
    "seg": {"encoder", "decoder"},
    "cot": {"encoder", "decoder"},
    "mix": {"encoder", "decoder"},
}


def test_each_loss_trains_what_it_claims_in_both_networks(pair, images, fixed):
    config = fixed("beco")
    made, networks = step(pair, images, "mixing", config), networks_of(pair, config)
    assert made.losses.keys() == REACHED.keys()
    for name, loss in made.losses.items():
        for network in networks.values():
            assert reached(network, loss) == REACHED[name], name


def test_losses_of_a_step_are_those_of_its_formulas(pair, images, fixed):
    """Both networks and both views, put together anew."""
    config = fixed("beco", confident=0.163)
    method, networks, stage = config.method, networks_of(pair, config), stage_of(config, "mixing")
    part = Part(images, TAGS, torch.arange(3), None, images.flip(-2))
    made = step(pair, images, "mixing", config)
    mixed = method.passes(networks, part, stage).mixed
    assert (mixed.labels == IGNORE).any() and (mixed.labels != IGNORE).any() and mixed.edge.any()

    def large(network, images, flip=False):
        logits = network.decode(network(images.flip(-1) if flip else images).tokens)
        return F.interpolate(logits.flip(-1) if flip else logits, (16, 16), mode="bilinear", align_corners=False)

    label = made.goals.labels.labels
    one, other = (
        F.interpolate(network.decode(network(images.flip(-1)).tokens.flip(-1)), (16, 16), mode="bilinear", align_corners=False)
        for network in pair
    )
    third, fourth = (large(network, mixed.images) for network in pair)
    seg = sum(objective.segmentation_loss(logits, label, average="balanced") for logits in (one, other))
    cot = sum(
        cotrained(a, b, target).value
        for a, b, target in ((one, other, label), (other, one, label), (third, fourth, mixed.labels), (fourth, third, mixed.labels))
    )
    mix = sum(weighted(logits, mixed.labels, mixed.edge, 1.2).value for logits in (third, fourth))
    for name, value in (("seg", seg), ("cot", cot), ("mix", mix)):
        assert made.losses[name].item() == pytest.approx(value.item(), rel=1e-5), name


@pytest.mark.parametrize(("stage", "theirs"), [("warm-up", "warm-up"), ("co-training", "expansion")])
def test_with_everything_off_the_first_network_is_the_baseline_to_the_bit(pair, fixed, stage, theirs):
    made, found = gradients(pair, [uneven_batch()], stage, fixed("beco", **OFF))
    base, expected = gradients(pair, [uneven_batch()], theirs, fixed("base"))
    mine = {key: value for key, value in found.items() if key.startswith("first.")}
    expected = {key.replace("network.", "first."): value for key, value in expected.items()}
    assert mine.keys() == expected.keys() and all(torch.equal(mine[key], expected[key]) for key in expected)
    assert made.losses.keys() == base.losses.keys() and made.losses["all"] > base.losses["all"]


def test_with_true_masks_it_learns_what_the_baseline_would(pair, fixed, monkeypatch):
    config, batch = fixed("beco"), uneven_batch(masks=True)
    monkeypatch.setattr(Beco, "initial_label", lambda self, *given: labels.Initial(None, batch.masks, None))
    made = step(pair, batch.images, "mixing", config, tags=batch.tags)
    expected = [config.method.segmentation(network, network(batch.images.flip(-1)).tokens.flip(-1), batch.masks) for network in pair]
    alone = [over_all({"seg": mean}, {"seg": mean.over})["seg"].item() for mean in expected]
    assert made.losses["seg"].item() == pytest.approx(sum(alone), rel=1e-5)


def test_networks_that_agree_on_an_unsure_pixel_get_surer_there_and_keep_the_labelled_ones():
    """The effect of co-training: some steps down its gradient, on logits that lean one way."""
    lean = torch.zeros(1, 3, 1, 4)
    lean[:, 1] = 0.5
    made = torch.tensor([[[IGNORE, IGNORE, 0, 2]]])
    one, other = lean.clone().requires_grad_(), lean.clone().requires_grad_()
    for _ in range(50):
        loss = cotrained(one, other, made).value.sum() + cotrained(other, one, made).value.sum()
        moved = torch.autograd.grad(loss, (one, other))
        with torch.no_grad():
            one -= moved[0]
            other -= moved[1]
    before, after = lean.softmax(1), one.detach().softmax(1)
    assert (after[0, 1, 0, :2] > 0.9).all() and torch.equal(after[..., 2:], before[..., 2:])


def test_what_is_watched_are_shares_of_pixels(pair, fixed, images):
    config = fixed("beco")
    made = step(pair, images, "mixing", config)
    found = config.method.watched(made.goals, {})
    assert found.keys() == {"labelled", "own", "edge"} and all(0 <= value <= 1 for value in found.values())
    assert found["own"] == 1 and config.method.watched(step(pair, images, "warm-up", config).goals, {}) == {}
