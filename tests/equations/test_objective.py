"""Eq. 22-23: the segmentation loss, the stages and the weighted sum."""

import math

import oracles
import pytest
import torch
from steps import added

from dsgc.objective import labelled, segmentation_loss, segmentation_means, stage_at, stage_weights, total_loss

IGNORE = 255
LAMBDAS = (0.2, 0.5, 0.1, 0.3)


def draw(seed, values=(0, 0, 1, 2, 3, IGNORE)):
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(2, 4, 3, 5, generator=generator)
    return logits, torch.tensor(values)[torch.randint(len(values), (2, 3, 5), generator=generator)]


@pytest.mark.parametrize("average", ["pixels", "balanced", "none"])
@pytest.mark.parametrize("values", [(0, 0, 1, 2, 3, IGNORE), (0,), (1, 2, 3), (0, IGNORE), (2, IGNORE), (IGNORE,)])
@pytest.mark.parametrize("seed", range(2))
def test_segmentation_loss_equals_the_loop(seed, values, average):
    """Mixed, all background, all foreground, with and without ignored pixels, all ignored."""
    logits, labels = draw(seed, values)
    expected = oracles.segmentation_loss(logits.tolist(), labels.tolist(), average)
    assert segmentation_loss(logits, labels, average=average).item() == pytest.approx(expected, rel=1e-5)


def test_balanced_loss_is_the_mean_of_the_two_halves():
    """7 background pixels of loss a and 1 foreground pixel of loss b: (a + b) / 2, not (7a + b) / 8."""
    logits = torch.zeros(1, 2, 2, 4)
    logits[0, 0] = 1.0
    labels = torch.zeros(1, 2, 4, dtype=torch.int64)
    labels[0, 1, 3] = 1
    a, b = math.log(1 + math.exp(-1)), math.log(1 + math.exp(1))
    assert segmentation_loss(logits, labels).item() == pytest.approx((7 * a + b) / 8)
    assert segmentation_loss(logits, labels, average="balanced").item() == pytest.approx((a + b) / 2)


@pytest.mark.parametrize("average", ["pixels", "balanced", "none"])
@pytest.mark.parametrize("scale", [1.0, 1e30])
def test_all_ignored_is_zero_with_zero_gradient(scale, average):
    logits = (scale * draw(0)[0]).requires_grad_()
    loss = segmentation_loss(logits, torch.full((2, 3, 5), IGNORE), average=average)
    loss.backward()
    assert loss.item() == 0 and (logits.grad == 0).all()


@pytest.mark.parametrize("average", ["pixels", "balanced", "none"])
def test_ignored_pixels_take_no_gradient_and_labelled_ones_do(average):
    logits, labels = draw(1)
    logits.requires_grad_()
    segmentation_loss(logits, labels, average=average).backward()
    assert (labels == IGNORE).any() and (logits.grad.abs().sum(1) > 0).eq(labels != IGNORE).all()


@pytest.mark.parametrize("average", ["pixels", "balanced", "none"])
@pytest.mark.parametrize("values", [(0, 1, 2, IGNORE), (0,), (3,)])
def test_huge_logits_give_finite_loss_and_gradient(values, average):
    logits, labels = draw(2, values)
    logits = (1e30 * logits).requires_grad_()
    loss = segmentation_loss(logits, labels, average=average)
    loss.backward()
    assert loss.isfinite() and loss > 0 and logits.grad.isfinite().all()


# a batch that comes in parts


def uneven(seed):
    """Six maps: mixed, all background, one foreground pixel, all foreground, and the last two without any label."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(6, 4, 3, 5, generator=generator, dtype=torch.float64)
    labels = torch.tensor((0, 0, 0, 1, 2, 3, IGNORE))[torch.randint(7, (6, 3, 5), generator=generator)]
    labels[1], labels[3], labels[4:] = 0, 2, IGNORE
    labels[2] = IGNORE
    labels[2, 0, 0] = 1
    return logits, labels


@pytest.mark.parametrize("seed", range(3))
def test_labelled_counts_as_a_loop_does(seed):
    labels, expected = uneven(seed)[1], [0, 0]
    for label in labels.flatten().tolist():
        if label != IGNORE:
            expected[label > 0] += 1
    counted = labelled(labels)
    assert counted.tolist() == expected and counted.dtype == torch.float64


@pytest.mark.parametrize("average", ["pixels", "balanced", "none"])
@pytest.mark.parametrize("sizes", [(2, 2, 2), (1, 5), (4, 2), (1, 1, 1, 1, 1, 1)], ids=str)
@pytest.mark.parametrize("seed", range(2))
def test_values_and_gradients_of_the_parts_add_up_to_those_of_the_whole(seed, sizes, average):
    logits, labels = uneven(seed)
    whole = logits.clone().requires_grad_()
    loss = segmentation_loss(whole, labels, average=average)
    loss.backward()
    parted = logits.clone().requires_grad_()
    parts = zip(parted.split(sizes), labels.split(sizes), strict=True)
    losses = added(segmentation_means(*part, average=average) for part in parts)
    sum(losses).backward()
    assert sum(losses).item() == pytest.approx(loss.item(), rel=1e-5)
    torch.testing.assert_close(parted.grad, whole.grad, rtol=1e-5, atol=1e-5 * whole.grad.abs().max().item())


@pytest.mark.parametrize("average", ["pixels", "balanced", "none"])
@pytest.mark.parametrize("seed", range(2))
def test_the_value_is_the_sum_of_the_means_each_over_what_it_counts(seed, average):
    logits, labels = uneven(seed)
    means, counts = segmentation_means(logits, labels, average=average)
    assert means.shape == counts.shape == ((2,) if average == "balanced" else (1,))
    assert counts.sum() == (len(labels) if average == "none" else labelled(labels).sum())
    assert means.sum().item() == pytest.approx(segmentation_loss(logits, labels, average=average).item(), rel=1e-6)


@pytest.mark.parametrize("average", ["pixels", "balanced"])
def test_the_mean_of_the_parts_own_values_is_another_number(average):
    logits, labels = uneven(0)
    parts = zip(logits.split(2), labels.split(2), strict=True)
    losses = [segmentation_loss(*part, average=average).item() for part in parts]
    assert sum(losses) / 3 != pytest.approx(segmentation_loss(logits, labels, average=average).item(), rel=0.1)


# stages


@pytest.mark.parametrize(
    ("step", "warmup", "stage"),
    [(0, 0, "expansion"), (0, 1, "warm-up"), (19, 20, "warm-up"), (20, 20, "expansion"), (99, 20, "expansion")],
)
def test_stage_changes_after_exactly_the_warm_up_steps(step, warmup, stage):
    assert stage_at(step, warmup) == stage


@pytest.mark.parametrize(
    ("stage", "after", "expected"),
    [
        ("warm-up", False, {"cls": 1.0, "ptc": 0.2, "sim": 0.5}),
        ("warm-up", True, {"cls": 1.0, "ptc": 0.2, "sim": 0.5}),
        ("expansion", False, {"cls": 1.0, "ptc": 0.2, "punc": 0.1, "seg": 0.3}),
        ("expansion", True, {"cls": 1.0, "ptc": 0.2, "sim": 0.5, "punc": 0.1, "seg": 0.3}),
    ],
)
def test_each_stage_weighs_its_own_losses(stage, after, expected):
    assert stage_weights(stage, *LAMBDAS, similarity_after_warmup=after) == expected


@pytest.mark.parametrize("stage", ["warm-up", "expansion"])
@pytest.mark.parametrize(("index", "name"), list(enumerate(["ptc", "sim", "punc", "seg"])))
def test_term_of_weight_zero_is_absent(index, name, stage):
    lambdas = [0.0 if i == index else value for i, value in enumerate(LAMBDAS)]
    full = stage_weights(stage, *LAMBDAS, similarity_after_warmup=True)
    weights = stage_weights(stage, *lambdas, similarity_after_warmup=True)
    assert weights == {key: value for key, value in full.items() if key != name}


def test_all_lambdas_zero_leaves_the_tag_loss():
    assert stage_weights("expansion", 0, 0, 0, 0) == {"cls": 1.0}


# Eq. 23


def test_total_loss_is_the_sum_of_the_paper():
    names = ("cls", "ptc", "sim", "punc", "seg")
    values = dict(zip(names, (0.7, 0.31, -0.9, 4.2, 1.3), strict=True))
    weights = stage_weights("expansion", *LAMBDAS, similarity_after_warmup=True)
    got = total_loss({name: torch.tensor(value) for name, value in values.items()}, weights)
    assert got.shape == () and got.item() == pytest.approx(oracles.total_loss(**values, lambdas=LAMBDAS), rel=1e-6)


def test_total_loss_sends_each_weight_to_its_loss_as_gradient():
    losses = {name: torch.tensor(2.0, requires_grad=True) for name in ("cls", "ptc", "sim", "punc", "seg")}
    total_loss(losses, stage_weights("warm-up", *LAMBDAS)).backward()
    gradient = {name: None if loss.grad is None else loss.grad.item() for name, loss in losses.items()}
    assert gradient == {"cls": 1.0, "ptc": pytest.approx(0.2), "sim": pytest.approx(0.5), "punc": None, "seg": None}


def test_loss_that_is_weighed_but_missing_is_an_error():
    with pytest.raises(KeyError, match="ptc"):
        total_loss({"cls": torch.tensor(1.0)}, {"cls": 1.0, "ptc": 0.2})
