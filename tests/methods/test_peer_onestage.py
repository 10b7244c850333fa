"""1Stage: tag scores, labels and the loss of the masks against plain loops; a background that does not learn; and who learns."""

import math

import oracles
import pytest
import torch
from plain import reached
from steps import CLASSES, gradients, networks_of, stage_of, stages_of, uneven_batch

from dsgc import dskd
from dsgc.cam import IGNORE
from dsgc.data.loading import train_batches
from dsgc.methods.peers import onestage
from dsgc.runs.parallel import accelerator_of
from dsgc.training.learner import advance, begin, parts_of
from dsgc.training.splits import open_data

LABELS = {"background": 0.7, "foreground": 0.6, "least": 0.2}


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# formulas


def tag_scores_by_loops(scores, power, floor):
    """[c] of one image's scores[k][y][x]."""
    where = oracles.places(scores[0])
    masks = {place: oracles.softmax(oracles.vector(scores, *place)) for place in where}
    found = []
    for k in range(1, len(scores)):
        inside = sum(masks[place][k] for place in where)
        share = inside / len(where)
        pooled = sum(masks[y, x][k] * scores[k][y][x] for y, x in where) / (1 + inside)
        found.append(pooled + (1 - share) ** power * math.log(floor + share))
    return found


def test_tag_scores_are_a_mean_within_the_mask_and_a_penalty_on_small_masks():
    scores = 3 * random(3, 4, 3, 5)
    scores[2] = -40.0
    scores[2, 0] = 1.0  # background everywhere
    made = onestage.tag_scores(scores, power=3.0, floor=0.01)
    for i in range(3):
        assert made[i].tolist() == pytest.approx(tag_scores_by_loops(scores[i].double().tolist(), 3.0, 0.01), rel=1e-4, abs=1e-5)
    assert made[2].tolist() == pytest.approx([math.log(0.01)] * 3, rel=1e-5), "an empty mask says no"


def sure_by_loops(masks, background, foreground, least):
    """[y][x] of one image's masks[k][y][x]."""
    limits = [max(least, max(max(row) for row in m) * (foreground if k else background)) for k, m in enumerate(masks)]
    found = [[IGNORE] * len(masks[0][0]) for _ in masks[0]]
    for y, x in oracles.places(masks[0]):
        above = [k for k, m in enumerate(masks) if m[y][x] > limits[k]]
        if len(above) == 1:
            found[y][x] = above[0]
    return found


def test_labels_are_where_one_mask_alone_is_near_its_peak():
    masks = (2 * random(4, 3, 5, 5)).softmax(1)
    masks[1, 2] = 0.0  # a class without a tag
    masks[2] = 1 / 3  # all alike: ambiguous everywhere
    masks[3, 1] *= 0.1  # too faint
    made = onestage.sure_labels(masks, **LABELS)
    assert made.tolist() == [sure_by_loops(masks[i].tolist(), **LABELS) for i in range(4)]
    assert (made[2] == IGNORE).all() and not (made[1] == 2).any() and not (made[3] == 1).any() and (made[0] != IGNORE).any()


def mask_loss_by_loops(logits, labels, tags):
    total = []
    for image, label, tag in zip(logits, labels, tags, strict=True):
        where = oracles.places(label)
        counts = {}
        for y, x in where:
            counts[label[y][x]] = counts.get(label[y][x], 0) + 1
        counts.pop(IGNORE, None)
        known, terms = sum(counts.values()), []
        for y, x in where:
            own, shares = label[y][x], oracles.softmax(oracles.vector(image, y, x))
            terms.append(0.0 if own == IGNORE else -math.log(shares[own]) * (known - counts[own]) / known)
        total.append(oracles.mean(terms) if len(counts) == sum(tag) + 1 else 0.0)
    return oracles.mean(total)


def test_the_loss_of_the_masks_weighs_rare_classes_and_whole_labels():
    logits = 2 * random(5, 4, 3, 3)
    labels = torch.randint(0, 4, (5, 3, 3), generator=torch.Generator().manual_seed(1))
    labels[0, 0], labels[1], labels[2] = IGNORE, IGNORE, 0
    labels[3, :, 0], labels[3, :, 1:] = 0, 2
    tags = torch.tensor([[1.0, 1, 1], [0, 0, 0], [0, 0, 0], [0, 1, 0], [1, 0, 0]])  # the last label has more classes than tags
    made = onestage.mask_loss(logits, labels, tags)
    assert made.item() == pytest.approx(mask_loss_by_loops(logits.double().tolist(), labels.tolist(), tags.tolist()), rel=1e-5)
    assert made > 0
    for i in (1, 2, 4):
        assert onestage.mask_loss(logits[i : i + 1], labels[i : i + 1], tags[i : i + 1]) == 0


def test_the_true_mask_is_what_the_loss_of_the_masks_wants():
    """The upper bound: logits that say a label have no loss with it, and any other prediction has."""
    labels = torch.randint(0, 4, (2, 4, 4), generator=torch.Generator().manual_seed(1))
    true = 40.0 * torch.nn.functional.one_hot(labels, 4).movedim(-1, 1)
    tags = torch.ones(2, 3)
    assert onestage.mask_loss(true, labels, tags) < 1e-6 < onestage.mask_loss(true.roll(1, -1), labels, tags)


def test_mirrored_masks_have_mirrored_labels():
    masks = (2 * random(4, 3, 5, 5)).softmax(1)
    assert torch.equal(onestage.sure_labels(masks.flip(-1), **LABELS), onestage.sure_labels(masks, **LABELS).flip(-1))


# the method


@pytest.fixture
def network(pair, fixed):
    """One whose decoder tells places apart."""
    with torch.no_grad():
        pair[0].decoder[-1].weight *= 30
    return networks_of(pair, fixed("onestage"))["network"]


def test_the_background_scores_1_everywhere_and_takes_no_gradient(network):
    scores = onestage.scores_of(network, network(uneven_batch().images).tokens)
    assert (scores[:, 0] == 1).all() and scores[:, 1:].std() > 0.1
    scores.logsumexp(1).sum().backward()
    last = network.decoder[-1]
    assert not last.weight.grad[0].any() and last.bias.grad[0] == 0 and last.weight.grad[1:].any()


def test_it_still_does_after_steps_but_for_what_weight_decay_takes(tiny):
    config = tiny("onestage", pictures=0, lr=0.01)
    data = open_data(config)
    learner, _ = begin(config, len(data.folder.classes), torch.device("cpu"))
    before = learner.networks["network"].decoder[-1].weight[1:].clone()
    options = {"batch": config.batch_size, "seed": config.seed, "start": 0, "stop": config.steps, "workers": 0}
    for step, batch in enumerate(train_batches(data.train, **options)):
        advance(learner, parts_of(batch, config.batch_size, torch.device("cpu")), step, config, accelerator_of(config))
    last = learner.networks["network"].decoder[-1]
    assert not last.weight[0].any() and 0.99 < last.bias[0] <= 1 and not torch.equal(last.weight[1:], before)


def test_scores_and_labels_lie_in_the_frame_of_the_images(network, fixed):
    """The encoder sees mirrored pictures, as the baseline's does."""
    method, part = fixed("onestage").method, uneven_batch()
    tokens = network(part.images.flip(-1)).tokens
    seen = method.passes({"network": network}, part, stage_of(fixed("onestage"), "expansion"))
    assert torch.equal(seen, onestage.scores_of(network, tokens.flip(-1)))
    columns = torch.zeros(1, CLASSES + 1, 4, 4)
    columns[0, 0], columns[0, 1, :, 0] = 1.0, 9.0  # an object at the left edge
    tags = torch.eye(CLASSES)[:1]
    label = method.label(columns, torch.full((1, 3, 32, 32), 0.5), tags)
    assert (label[0, :, 0] == 1).all() and (label[0, :, -1] == 0).all()


def test_each_loss_trains_what_it_claims(network, fixed):
    config, part = fixed("onestage"), uneven_batch()
    assert stages_of(config) == ("warm-up", "expansion")
    stage, networks = stage_of(config, "expansion"), {"network": network}
    seen = config.method.passes(networks, part, stage)
    goals = config.method.goals(networks, seen, part, stage)
    means = config.method.losses(networks, seen, goals, part, stage, {})
    assert {name: reached(network, mean.value) for name, mean in means.items()} == dict.fromkeys(("cls", "mask"), {"encoder", "decoder"})
    assert not goals.labels.requires_grad and 0 < config.method.watched(goals, {})["labelled"] < 1


def test_without_the_loss_of_the_masks_every_step_is_one_of_the_warm_up(pair, fixed):
    config = fixed("onestage", lambda_mask=0.0)
    (one, first), (other, second) = (gradients(pair, [uneven_batch()], stage, config) for stage in ("warm-up", "expansion"))
    assert one.losses.keys() == other.losses.keys() == {"all", "cls"} and torch.equal(one.losses["cls"], other.losses["cls"])
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_what_is_drawn_as_cam_has_no_class_but_the_tags(network, fixed):
    batch = uneven_batch()
    with torch.no_grad():
        view = fixed("onestage").method.views(network.eval(), batch.images, batch.tags, 0.4)
    assert (view.scored["seg"][0] > 0).any() and not view.scored["cam"][0].any(), "the first picture has no tag"
    assert view.scored["cam"].max() <= CLASSES


def test_a_class_is_found_by_its_mask_alone():
    """Tags alone: of two free masks the one that is tagged grows, the other shrinks, until the scores say the tags."""
    scores = torch.zeros(1, 2, 6, 6, requires_grad=True)
    for _ in range(200):
        full = torch.cat([torch.ones(1, 1, 6, 6), scores], 1)
        loss = dskd.tag_loss(onestage.tag_scores(full, power=3.0, floor=0.01), torch.tensor([[1.0, 0.0]]))
        (slope,) = torch.autograd.grad(loss, scores)
        scores = (scores - 5 * slope).detach().requires_grad_()
    masks = torch.cat([torch.ones(1, 1, 6, 6), scores], 1).softmax(1).mean((-2, -1))[0]
    assert masks[1] > 0.5 and masks[2] < 0.1
