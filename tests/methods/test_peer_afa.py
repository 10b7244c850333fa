"""AFA: its equations against plain loops, its label in the frame of the images, what its losses train, and what the walk is for."""

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch
from plain import make_mirror_symmetric
from steps import CLASSES, TAGS, gradients, in_parts, networks_of, stage_of, stages_of, step, uneven_batch

from dsgc.cam import IGNORE
from dsgc.errors import UserError
from dsgc.methods import affinity as pairwise
from dsgc.methods import preset
from dsgc.methods.base import Base
from dsgc.methods.labels import nearest
from dsgc.methods.peers import afa
from dsgc.objective import segmentation_loss

STAGES = ("warm-up", "affinity", "walk")


def rand(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def trained(networks, seed=5, size=3.0):
    """The networks with an affinity head that says something."""
    for network in networks.values():
        with torch.no_grad():
            weight = network.more["affinity"].weight
            weight.copy_(size * torch.randn(weight.shape, generator=torch.Generator().manual_seed(seed)))
    return networks


# equations


@pytest.mark.parametrize("symmetric", [True, False])
def test_affinity_is_the_sigmoid_of_a_weighted_sum_of_the_products(symmetric):
    products, weight, bias = rand(2, 3, 4, 4) * 4 - 2, rand(3, seed=1) - 0.5, rand(1, seed=2)
    found = pairwise.affinity(products, weight, bias, symmetric=symmetric)
    for b in range(2):
        for i in range(4):
            for j in range(4):
                total = float(bias)
                for k in range(3):
                    total += float(weight[k]) * float(products[b, k, i, j] + (products[b, k, j, i] if symmetric else 0))
                assert found[b, i, j].item() == pytest.approx(1 / (1 + math.exp(-total)), rel=1e-12)
    assert torch.equal(found, found.transpose(1, 2)) == symmetric


@pytest.mark.parametrize(("size", "radius"), [((3, 4), 1), ((4, 3), 2), ((5, 5), 0), ((2, 6), 9)])
def test_the_window_has_the_pairs_that_lie_near_down_and_across(size, radius):
    near = pairwise.window(size, radius, torch.device("cpu"))
    places = [(y, x) for y in range(size[0]) for x in range(size[1])]
    expected = [[abs(a - c) <= radius and abs(b - d) <= radius for c, d in places] for a, b in places]
    assert near.tolist() == expected


@pytest.mark.parametrize(("side", "radius"), [(28, 8), (12, 3), (32, 9), (4, 1), (1, 1)])
def test_the_radius_is_a_share_of_the_grid(side, radius):
    near = preset("voc", "afa").method.near((side, side + 3), torch.device("cpu"))
    assert near[0].view(side, side + 3)[0].sum() == min(radius, side + 2) + 1


def test_the_walk_has_a_radius_of_its_own(monkeypatch, images, fixed):
    method, seen = fixed("afa", walk_radius=0.5).method, []
    genuine = afa.transitions
    monkeypatch.setattr(afa, "transitions", lambda affinity, near, power: seen.append(near) or genuine(affinity, near, power))
    method.walked_label(images, rand(3, CLASSES, 4, 4).float(), TAGS, rand(3, 16, 16).float(), (4, 4))
    assert torch.equal(seen[0], pairwise.window((4, 4), 2, images.device))
    assert not torch.equal(seen[0], method.near((4, 4), images.device))


def test_pair_labels_are_those_of_a_loop():
    labels = torch.randint(0, 3, (3, 3, 4), generator=torch.Generator().manual_seed(1))
    labels[0, 0, :2], labels[1] = IGNORE, IGNORE
    near = pairwise.window((3, 4), 1, torch.device("cpu"))
    found = pairwise.pair_labels(labels, near)
    for b in range(3):
        row = labels[b].flatten().tolist()
        for i in range(12):
            for j in range(12):
                known = near[i, j] and IGNORE not in (row[i], row[j])
                assert found[b, i, j].item() == ((row[i] == row[j]) if known else IGNORE)
    assert (found[1] == IGNORE).all() and (found[2].diagonal() == 1).all()


@pytest.mark.parametrize("kind", ["random", "only like", "only unlike", "none"])
def test_pair_means_are_those_of_a_loop_and_0_of_nothing(kind):
    affinity = rand(2, 5, 5).requires_grad_()
    pairs = torch.tensor([0, 1, IGNORE])[torch.randint(0, 3, (2, 5, 5), generator=torch.Generator().manual_seed(2))].to(torch.uint8)
    pairs = {"random": pairs, "only like": torch.ones_like(pairs), "only unlike": torch.zeros_like(pairs)}.get(
        kind, torch.full_like(pairs, IGNORE)
    )
    value, over = pairwise.pair_means(affinity, pairs)
    like, unlike = [], []
    for number, kind_of in zip(affinity.flatten().tolist(), pairs.flatten().tolist(), strict=True):
        if kind_of != IGNORE:
            (like if kind_of else unlike).append(1 - number if kind_of else number)
    expected = [sum(found) / len(found) / 2 if found else 0 for found in (like, unlike)]
    assert value.tolist() == pytest.approx(expected, rel=1e-12) and over.tolist() == [len(like), len(unlike)]
    value.sum().backward()
    assert affinity.grad.isfinite().all() and bool(affinity.grad.any()) == (kind != "none")


@pytest.mark.parametrize("rounds", [0, 1, 3])
@pytest.mark.parametrize("power", [1.0, 2.0])
def test_the_walk_is_that_of_a_loop(rounds, power):
    size, affinity, maps = (2, 3), rand(2, 6, 6), rand(2, 4, 2, 3, seed=1)
    affinity[0, :, 2] = 0  # a token without any affinity
    near = pairwise.window(size, 1, torch.device("cpu"))
    before = affinity.clone()
    found = pairwise.walk(maps, pairwise.transitions(affinity, near, power), rounds)
    assert torch.equal(affinity, before), "nothing is written into the affinity"
    for b in range(2):
        steps = [[float(affinity[b, i, j]) ** power if near[i, j] else 0.0 for j in range(6)] for i in range(6)]
        sums = [sum(steps[i][j] for i in range(6)) + 0.1 for j in range(6)]
        for k in range(4):
            row = maps[b, k].flatten().tolist()
            for _ in range(rounds):
                row = [sum(row[i] * steps[i][j] / sums[j] for i in range(6)) for j in range(6)]
            assert found[b, k].flatten().tolist() == pytest.approx(row, rel=1e-12)


def test_a_constant_map_is_constant_after_a_walk_but_for_what_a_column_lacks():
    affinity = torch.ones(1, 9, 9, dtype=torch.float64)
    near = pairwise.window((3, 3), 1, torch.device("cpu"))
    steps = pairwise.transitions(affinity, near, 2.0)
    torch.testing.assert_close(steps.sum(1)[0], near.sum(0).double() / (near.sum(0).double() + 0.1))


def test_background_and_classes_before_the_walk():
    maps, tags = rand(2, 2, 1, 2), torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    found = afa.with_background(maps, tags, 0.4, True)
    for x in range(2):
        a, b = math.exp(0.4), math.exp(maps[0, 0, 0, x])
        assert found[0, :, 0, x].tolist() == pytest.approx([a / (a + b), b / (a + b), 0])
        assert found[1, :, 0, x].tolist() == [1, 0, 0]
    plain = afa.with_background(maps, tags, 0.4, False)
    assert (plain[:, 0] == 0.4).all() and torch.equal(plain[0, 1], maps[0, 0]) and not plain[0, 2].any() and not plain[1, 1:].any()


def test_one_label_of_two():
    low, high = torch.tensor([0, 1, 1, 2, 0]), torch.tensor([0, 0, 1, 1, 2])
    assert afa.by_two(low, high).tolist() == [0, IGNORE, 1, 1, 2]


def test_mirrored_is_what_a_mirrored_grid_gives():
    tokens = rand(2, 3, 2, 4)

    def products(maps):
        return torch.einsum("bdn,bdm->bnm", maps.flatten(2), 2 * maps.flatten(2) + 1)

    torch.testing.assert_close(pairwise.mirrored(products(tokens.flip(-1)), (2, 4)), products(tokens))


# numbers and stages


def test_published_numbers_of_either_data_set():
    voc, coco = preset("voc", "afa"), preset("coco", "afa")
    for config, ramps in ((voc, (2_000, 6_000)), (coco, (5_000, 15_000))):
        names = [config.method.stage(number, config.steps).name for number in range(config.steps)]
        assert [names.index(name) for name in STAGES] == [0, *ramps]
        assert (config.method.label_low, config.method.label_high, config.method.lambda1) == (0.35, 0.55, 0)
    assert (voc.method.refine_iterations, coco.method.refine_iterations) == (10, 15)
    assert (voc.method.affinity_label, coco.method.affinity_label) == ("initial", "walked")
    for name in ("walk_from", "affinity_label", "refine_iterations"):
        assert voc.source_of(name) == coco.source_of(name) == "published"


def test_stages_and_their_weights(tiny):
    config = tiny("afa")
    assert stages_of(config) == STAGES
    assert stage_of(config, "warm-up").weights == {"cls": 1.0}
    assert stage_of(config, "affinity").weights == stage_of(config, "walk").weights == {"cls": 1.0, "seg": 0.1, "aff": 0.1}
    assert stages_of(config.changed(walk_from=1.0)) == stages_of(config.changed(affinity_weight=0.0)) == STAGES[:2]


def test_blocks_that_there_are_not_are_refused(pair):
    for blocks in ((5,), (9, 1)):
        with pytest.raises(UserError, match="affinity_blocks .*the encoder has 5 blocks"):
            preset("shapes", "afa").method.replaced(affinity_blocks=blocks).heads(pair[0], CLASSES)


@pytest.mark.parametrize(("blocks", "heads"), [((2, 1), 8), ((4, 3), 8), ((1,), 4)])
@pytest.mark.parametrize("scaled", [True, False])
def test_the_head_has_a_weight_for_each_head_of_the_blocks_and_begins_near_one_half(pair, images, fixed, scaled, blocks, heads):
    config = fixed("afa", affinity_blocks=blocks, affinity_scaled=scaled)
    network = networks_of(pair, config)["network"]
    assert network.more["affinity"].weight.numel() == heads
    _, found = config.method.with_affinity(network, images)
    assert found.shape == (3, 16, 16) and (found - 0.5).abs().max() < 0.1
    _, products = network.with_attention(images, [6 - back for back in blocks])
    weight = network.more["affinity"].weight.flatten() / (math.sqrt(32) if scaled else 1)
    torch.testing.assert_close(found, torch.sigmoid(torch.einsum("bkij,k->bij", products + products.mT, weight)))


# off is off, and a bound


@dataclass(frozen=True)
class Plain(Base):
    name: ClassVar = "base"
    TAGGED: ClassVar[tuple[str, ...]] = ("patch_logits",)


@pytest.mark.parametrize("parts", [1, 4])
@pytest.mark.parametrize("stage", STAGES[:2])
def test_with_no_weight_it_is_the_baseline_to_the_bit(pair, fixed, stage, parts):
    off = fixed("afa", affinity_weight=0.0)
    plain = replace(off, method=Plain(**{name: getattr(off.method, name) for name in Base.names()}))
    batch = in_parts(uneven_batch(), parts)
    made, found = gradients(pair, batch, stage, off)
    base, expected = gradients(pair, batch, {"affinity": "expansion"}.get(stage, stage), plain)
    assert made.losses.keys() == base.losses.keys() and all(torch.equal(made.losses[name], base.losses[name]) for name in base.losses)
    assert found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)


def test_the_affinity_learns_beside_the_rest_and_changes_no_other_loss(pair, fixed):
    """In its first stage, where the label is the baseline's."""
    batch = [uneven_batch()]
    (one, _), (off, _) = (gradients(pair, batch, "affinity", fixed("afa", affinity_weight=weight)) for weight in (0.1, 0.0))
    for name in off.losses.keys() - {"all"}:
        assert one.losses[name].item() == pytest.approx(off.losses[name].item(), rel=1e-6)
    assert one.losses["all"].item() == pytest.approx(off.losses["all"].item() + 0.1 * one.losses["aff"].item(), rel=1e-6)


@pytest.mark.parametrize("stage", STAGES[1:])
def test_with_true_masks_for_labels_the_decoder_learns_what_any_method_does(pair, images, fixed, monkeypatch, stage):
    config = fixed("afa")
    true = torch.randint(0, CLASSES + 1, (3, 16, 16), generator=torch.Generator().manual_seed(1))
    initial = afa.Afa.initial_label
    monkeypatch.setattr(afa.Afa, "initial_label", lambda self, *given: initial(self, *given)._replace(labels=true))
    monkeypatch.setattr(afa.Afa, "walked_label", lambda self, *given: true)
    made = step(pair, images, stage, config)
    logits = pair[0].decode(pair[0](images.flip(-1)).tokens.flip(-1))
    logits = torch.nn.functional.interpolate(logits, (16, 16), mode="bilinear", align_corners=False)
    assert made.losses["seg"].item() == pytest.approx(segmentation_loss(logits, true, average="balanced").item(), rel=1e-5)


# a step


def pair_labels_of(config, made):
    return pairwise.pair_labels(nearest(made, (4, 4)), config.method.near((4, 4), made.device))


@pytest.mark.parametrize("stage", STAGES[1:])
def test_labels_and_affinity_are_in_the_frame_of_the_images(pair, images, fixed, stage):
    config = fixed("afa", label_low=0.2, label_high=0.5, affinity_label="walked")
    networks = trained(networks_of([make_mirror_symmetric(pair[0])], config))
    made = [step(pair, seen, stage, config) for seen in (images, images.flip(-1))]
    mine, theirs = (found.goals for found in made)
    same = (mine.taught.labels.labels == theirs.taught.labels.labels.flip(-1)).float().mean()
    assert same > 0.99 and (mine.taught.labels.labels != theirs.taught.labels.labels).float().mean() > 0.05
    turned = pair_labels_of(config, mine.taught.labels.labels.flip(-1))
    assert (theirs.pairs == turned).float().mean() > 0.99 and (mine.pairs != theirs.pairs).float().mean() > 0.02
    _, seen = config.method.with_affinity(networks["network"], images)
    part = uneven_batch()._replace(images=images, tags=TAGS)
    torch.testing.assert_close(config.method.passes(networks, part, made[0].stage).affinity, seen, atol=1e-5, rtol=1e-4)
    for name in ("cls", "seg"):  # of a pair of tokens the label is that of one of their pixels, which lies off their middle
        assert made[0].losses[name].item() == pytest.approx(made[1].losses[name].item(), rel=0.02)


@pytest.mark.parametrize(("label", "stage"), [("initial", "affinity"), ("initial", "walk"), ("walked", "affinity"), ("walked", "walk")])
def test_which_label_teaches_what(pair, images, fixed, label, stage):
    config = fixed("afa", label_low=0.2, label_high=0.5, affinity_label=label)
    networks = trained(networks_of(pair, config))
    made, method = step(pair, images, stage, config), config.method
    part = uneven_batch()._replace(images=images, tags=TAGS)
    seen = method.passes(networks, part, made.stage)
    maps = method.cam(networks["network"], seen.output).flip(-1)
    initial = method.initial_label(images, maps, TAGS).labels
    walked = method.walked_label(images, maps, TAGS, seen.affinity, (4, 4))
    assert (initial != walked).float().mean() > 0.05
    assert torch.equal(made.goals.taught.labels.labels, walked if stage == "walk" else initial)
    taught = walked if (label, stage) == ("walked", "walk") else initial
    assert torch.equal(made.goals.pairs, pair_labels_of(config, taught))
    facts, near = method.watched(made.goals, {}), method.near((4, 4), images.device)
    assert facts["affinity_spread"].item() == pytest.approx(seen.affinity.detach()[:, near].std(1).mean().item()) and facts["labelled"] > 0
    assert ("walked" in facts) == (stage == "walk")


def test_without_a_step_and_without_softmax_the_label_is_the_initial_one(pair, images, fixed):
    method = fixed("afa", walk_rounds=0, walk_softmax=False, label_low=0.2, label_high=0.5).method
    maps = rand(3, CLASSES, 4, 4).float()
    found = method.walked_label(images, maps, TAGS, rand(3, 16, 16).float(), (4, 4))
    initial = method.initial_label(images, maps, TAGS).labels
    assert torch.equal(found, initial) and len(initial.unique()) > 3


def test_without_tags_the_walk_labels_background(images, fixed):
    found = fixed("afa").method.walked_label(images, rand(3, CLASSES, 4, 4).float(), 0 * TAGS, rand(3, 16, 16).float(), (4, 4))
    assert not found.any()


@pytest.mark.parametrize("stage", STAGES[1:])
def test_each_loss_trains_what_it_is_to_train(pair, images, fixed, stage):
    config = fixed("afa", label_low=0.2, label_high=0.5)
    network = trained(networks_of(pair, config))["network"]
    made = step(pair, images, stage, config)
    reached = {}
    for name, loss in made.losses.items():
        found = torch.autograd.grad(loss, list(network.parameters()), retain_graph=True, allow_unused=True)
        named = zip(dict(network.named_parameters()), found, strict=True)
        reached[name] = {key for key, value in named if value is not None and value.any()}
    blocks = ["encoder.blocks.3.attn.qkv.weight", "encoder.blocks.2.attn.qkv.weight"]
    assert {"more.affinity.weight", "more.affinity.bias", "encoder.blocks.4.attn.qkv.weight", *blocks} <= reached["aff"]
    assert not {name for name in reached["aff"] if name.startswith(("decoder", "patch_classifier", "aux", "class", "encoder.norm"))}
    assert {"decoder.0.weight", *blocks} <= reached["seg"] and "patch_classifier.weight" in reached["cls"]
    assert not {name for name in reached["seg"] | reached["cls"] if name.startswith(("more", "class", "aux"))}


# what it is for


def test_a_walk_fills_an_object_of_which_the_map_saw_a_part_and_nothing_beyond_it():
    """6 x 6 tokens, an object in the left half of which one column is seen; the affinity knows the halves."""
    method = preset("shapes", "afa").method.replaced(walk_radius=0.34, refine_iterations=0, label_low=0.35, label_high=0.55)
    left = (torch.arange(36) % 6 < 3).float()
    halves = torch.where(left[:, None] == left[None], 0.95, 0.05)[None]
    maps, tags = torch.full((1, 1, 6, 6), 0.3), torch.ones(1, 1)
    maps[..., :3], maps[..., 1] = 0.4, 1.0  # what lies between the thresholds has no label
    images = torch.zeros(1, 3, 48, 48)
    before = nearest(method.initial_label(images, maps, tags).labels, (6, 6))[0]
    after = nearest(method.walked_label(images, maps, tags, halves, (6, 6)), (6, 6))[0]
    assert before[:, 0].eq(IGNORE).all() and before[:, 1].eq(1).all()
    assert after[:, :3].eq(1).all() and not after[:, 3:].any()
    blind = nearest(method.walked_label(images, maps, tags, torch.full_like(halves, 0.5), (6, 6)), (6, 6))[0]
    assert not blind[:, :3].eq(1).all() and blind[:, 3:].any(), "an affinity that knows nothing blurs"


def test_the_loss_pulls_the_affinity_of_like_pairs_up_and_of_unlike_ones_down(pair, images, fixed):
    config = fixed("afa", label_low=0.2, label_high=0.5)
    networks = networks_of(pair, config)
    head = networks["network"].more["affinity"]
    first = None
    for _ in range(60):
        made = step(pair, images, "affinity", config)
        first = made.losses["aff"].item() if first is None else first
        for parameter, gradient in zip(head.parameters(), torch.autograd.grad(made.losses["aff"], list(head.parameters())), strict=True):
            parameter.data -= 300 * gradient
    assert made.losses["aff"].item() < first - 0.01
