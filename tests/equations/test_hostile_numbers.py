"""Hostile numbers in every maths room: results stay finite and in their range, gradients too. Mixtures: test_hostile_mixture."""

import math

import hostile
import numpy as np
import pytest
import torch
from hypothesis import assume, example, given
from hypothesis import strategies as st
from promises import promise
from torch import nn

from dsgc import cam, correction, dskd, gmm, metrics, objective, ptc, refine
from dsgc.scoring import crf

pytestmark = promise(
    "Odd numbers",
    "Every function of the equations gives finite values in their range, and finite gradients, on constants, subnormal numbers and "
    "1e30, with one token, no pair, nothing labelled, no image.",
)

SLACK = 1e-5  # beyond a range, for the rounding of float32
BATCH, DIM, CLASSES = 2, 4, 3
GRID = hostile.GRIDS


def on_grids(*leading, **options):
    """Tensors (*leading, h, w) over all grids."""
    return GRID.flatmap(lambda grid: hostile.tensors(*leading, *grid, **options))


def gradients(loss, *inputs):
    assert loss.isfinite()
    found = torch.autograd.grad(loss, inputs)
    assert all(gradient.isfinite().all() for gradient in found)
    return found


# Eq. 1-3


@given(on_grids(BATCH, DIM), hostile.tensors(CLASSES, DIM), st.booleans())
@example(torch.full((1, DIM, 1, 2), 1e-20), torch.full((CLASSES, DIM), 1e-20), False)  # activations are subnormal
def test_activation_maps_have_a_peak_of_1_or_are_zero_wherever_the_activations_are_finite(tokens, weight, subtract_minimum):
    weight = weight.to(tokens.dtype)
    activation = torch.einsum("bdhw,cd->bchw", tokens, weight)
    assume(activation.isfinite().all())
    got = cam.class_activation_map(tokens, weight, subtract_minimum=subtract_minimum)
    assert got.isfinite().all() and (got >= 0).all()
    peak, activation = got.amax((-2, -1)), activation.relu()
    bottom = activation.amin((-2, -1)) if subtract_minimum else 0
    assert torch.equal(peak, (activation.amax((-2, -1)) > bottom).to(peak.dtype))


@given(on_grids(BATCH, DIM, kinds=hostile.GENTLE), hostile.tensors(CLASSES, DIM, kinds=hostile.GENTLE), st.booleans())
@example(torch.ones(1, DIM, 2, 2), torch.ones(1, DIM), True)
@example(torch.ones(1, DIM, 1, 1), torch.ones(1, DIM), True)
def test_gradients_of_activation_maps_are_finite_of_flat_maps_too(tokens, weight, subtract_minimum):
    tokens, weight = tokens.requires_grad_(), weight.to(tokens.dtype).requires_grad_()
    gradients(cam.class_activation_map(tokens, weight, subtract_minimum=subtract_minimum).sum(), tokens, weight)


@given(hostile.thresholds(), st.sampled_from(hostile.FLOATS))
def test_patch_labels_turn_exactly_at_thresholds_of_any_size(thresholds, dtype):
    low, high = (torch.tensor(threshold, dtype=dtype) for threshold in thresholds)
    values = torch.cat([hostile.around(threshold, dtype) for threshold in thresholds])
    expected = [0 if value < low else 1 if value > high else 255 for value in values]
    maps = torch.stack([values, torch.ones_like(values)])[None, :, None]  # the second class is not tagged
    assert cam.patch_labels(maps, torch.tensor([[1, 0]]), *thresholds).flatten().tolist() == expected


@given(on_grids(BATCH, CLASSES, kinds=hostile.SHARES), hostile.tags(BATCH, CLASSES), hostile.thresholds())
def test_patch_labels_name_tagged_classes_only(maps, tags, thresholds):
    for labels, tag in zip(cam.patch_labels(maps, tags, *thresholds), tags, strict=True):
        named = set(labels.unique().tolist()) - {0, 255}
        assert named <= {c + 1 for c in range(CLASSES) if tag[c]}
        assert tag.any() or (labels == (0 if thresholds[0] > 0 else 255)).all()


# Eq. 4-5


@given(st.data(), GRID)
def test_token_contrast_is_in_its_range_with_finite_gradient(data, grid):
    tokens = data.draw(hostile.tensors(BATCH, DIM, *grid)).requires_grad_()
    labels = data.draw(hostile.label_maps(BATCH, *grid, top=254))
    loss = ptc.patch_token_contrast(tokens, labels)
    assert -1 - SLACK <= loss <= 3 + SLACK
    (gradient,) = gradients(loss, tokens)
    assert (gradient[(labels == 255)[:, None].expand_as(gradient)] == 0).all()


@pytest.mark.parametrize(("length", "counts"), [(2e-12, 1), (9e18, 1), (1e20, 0)])
def test_token_contrast_does_not_see_lengths_of_1e_12_to_1e19_and_takes_longer_tokens_for_zero(length, counts):
    unit, labels = nn.functional.normalize(torch.tensor([[1.0, 2], [-3, 4], [0, 1]])), torch.tensor([[[0, 0, 1]]])

    def loss(*lengths):
        return ptc.patch_token_contrast((torch.tensor(lengths)[:, None] * unit).T[None, :, None], labels).item()

    assert loss(length, 1.0, 1.0) == pytest.approx(loss(counts, 1.0, 1.0), abs=1e-6)


# Eq. 6-10


@given(st.floats(allow_nan=False), st.floats(0, 1))
def test_momentum_is_between_its_start_and_1_at_any_progress(progress, start):
    assert start - 1e-15 <= dskd.momentum_at(progress, start) <= 1


@given(hostile.tensors(2, 6), st.sampled_from([0.0, 1e-30, 0.004, 0.5, 0.996, 1 - 1e-12, 1.0]))
def test_student_and_centre_move_to_a_place_between_where_they_were_and_their_aim(numbers, momentum):
    before, aim = numbers
    student, teacher = (nn.ParameterList([row.clone()]) for row in numbers)
    centre = before.clone()
    dskd.ema_update(student, teacher, momentum)
    dskd.centre_update(centre, aim, momentum)
    slack = 1e-6 * torch.maximum(before.abs(), aim.abs())
    for moved in (student[0], centre):
        assert moved.isfinite().all()
        assert (moved >= torch.minimum(before, aim) - slack).all() and (moved <= torch.maximum(before, aim) + slack).all()


@given(st.data(), GRID, st.sampled_from(["channels", "tokens"]))
def test_flip_similarity_is_in_its_range_with_finite_gradients(data, grid, axis):
    teacher, student = (data.draw(hostile.tensors(BATCH, DIM, *grid)).requires_grad_() for _ in range(2))
    loss = dskd.flip_similarity_loss(teacher, student, axis=axis)
    assert -1 - SLACK <= loss <= 1 + SLACK
    gradients(loss, teacher, student)


@pytest.mark.parametrize("axis", ["channels", "tokens"])
@pytest.mark.parametrize(("length", "counts"), [(2e-8, 1), (9e18, 1), (1e20, 0)])
def test_flip_similarity_does_not_see_lengths_of_1e_8_to_1e19_and_takes_longer_vectors_for_zero(length, counts, axis):
    unit = nn.functional.normalize(torch.tensor([1.0, 2, 3]), dim=0)
    unit = unit.view(1, 1, 3, 1) if axis == "channels" else unit.view(1, 3, 1, 1)
    assert dskd.flip_similarity_loss(length * unit, unit, axis=axis).item() == pytest.approx(-counts, abs=1e-6)


@given(hostile.tensors(BATCH, CLASSES), hostile.tags(BATCH, CLASSES))
def test_tag_loss_is_not_negative_and_no_logit_pulls_harder_than_its_share(logits, tags):
    loss = dskd.tag_loss(logits.requires_grad_(), tags)
    assert loss >= 0
    (gradient,) = gradients(loss, logits)
    assert (gradient.abs() <= (1 + SLACK) / tags.numel()).all()


@given(hostile.thresholds(), st.sampled_from(hostile.FLOATS))
def test_uncertain_region_ends_exactly_at_thresholds_of_any_size(thresholds, dtype):
    low, high = (torch.tensor(threshold, dtype=dtype) for threshold in thresholds)
    values = torch.cat([hostile.around(threshold, dtype) for threshold in thresholds])
    assert torch.equal(dskd.uncertain_region(values.view(1, 1, 1, 6), *thresholds).flatten(), (low < values) & (values < high))


@given(st.data(), GRID, st.sampled_from([0.04, 1.0, 10.0]), st.sampled_from([0.1, 1.0]))
def test_uncertain_region_loss_is_not_negative_with_a_gradient_bounded_inside_and_0_outside(data, grid, sharp, soft):
    student, teacher = (data.draw(hostile.tensors(BATCH, DIM, *grid)) for _ in range(2))
    centre = data.draw(st.none() | hostile.tensors(1, DIM, dtypes=(torch.float32,)).map(lambda rows: rows[0]))
    region = data.draw(hostile.label_maps(BATCH, *grid)) == 0
    options = {"centre": centre, "student_temperature": sharp, "teacher_temperature": soft}
    loss = dskd.uncertain_region_loss(student, teacher.requires_grad_(), region, **options)
    assert loss >= 0
    (gradient,) = gradients(loss, teacher)
    assert (gradient.abs() <= (1 + SLACK) / (soft * region.sum().clamp_min(1))).all()
    assert (gradient.movedim(1, -1)[~region] == 0).all()


# Eq. 18-21


@given(on_grids(BATCH, DIM))
def test_neighbour_similarity_is_in_its_range_and_nan_off_the_image_only(features):
    got = correction.neighbour_similarity(features)
    off = torch.ones_like(got, dtype=torch.bool)
    off[:, 0, 1:], off[:, 1, :-1], off[:, 2, :, 1:], off[:, 3, :, :-1] = (False,) * 4
    assert torch.equal(got.isnan(), off) and (got[~off].abs() <= 1).all()


@given(st.data(), GRID, hostile.thresholds(), st.sampled_from([-1.0, 0.0, 0.3, 1.0]))
def test_corrected_labels_are_old_ones_or_0_or_255_and_change_only_above_the_lower_threshold(data, grid, thresholds, tau):
    low, high = thresholds
    labels = data.draw(hostile.label_maps(BATCH, *grid))
    noise = data.draw(hostile.tensors(BATCH, *grid, kinds=hostile.SHARES))
    features = data.draw(hostile.tensors(BATCH, DIM, *grid))
    got = correction.correct(labels, noise, features, high=high, low=low, tau=tau)
    assert torch.equal(got[noise <= low], labels[noise <= low])
    for image, before in zip(got, labels, strict=True):
        assert set(image.unique().tolist()) <= set(before.unique().tolist()) | {0, 255}
    sure = noise > torch.tensor(high, dtype=noise.dtype)
    assert ((got[sure] == 0) | (got[sure] == 255)).all()


# Eq. 22-24


@given(st.data(), GRID, st.sampled_from(["balanced", "pixels", "none"]))
def test_segmentation_loss_is_not_negative_and_no_pixel_pulls_harder_than_its_share(data, grid, average):
    logits = data.draw(hostile.tensors(BATCH, CLASSES + 1, *grid)).requires_grad_()
    labels = data.draw(hostile.label_maps(BATCH, *grid, classes=CLASSES))
    loss = objective.segmentation_loss(logits, labels, average=average)
    assert loss >= 0
    (gradient,) = gradients(loss, logits)
    back, front = objective.labelled(labels).tolist()
    least = {"pixels": max(1, back + front), "none": BATCH}.get(average) or min((2 * count for count in (back, front) if count), default=1)
    assert (gradient.abs() <= (1 + SLACK) / least).all()
    assert (gradient.movedim(1, -1)[labels == 255] == 0).all()


@given(st.lists(st.sampled_from([0.0, -1.0, 1e-45, 1.0, 1e30]), min_size=5, max_size=5), st.sampled_from([0.0, 1e-30, 0.2, 1e6]))
def test_total_loss_of_losses_of_any_size_is_finite_and_each_gradient_is_its_weight(values, weight):
    losses = {name: torch.tensor(value, requires_grad=True) for name, value in zip("abcde", values, strict=True)}
    found = gradients(objective.total_loss(losses, dict.fromkeys(losses, weight)), *losses.values())
    assert all(gradient.item() == pytest.approx(weight) for gradient in found)


@given(st.data(), GRID)
def test_intersection_over_union_is_in_its_range_and_nan_for_classes_that_do_not_occur(data, grid):
    prediction = data.draw(hostile.label_maps(BATCH, *grid, classes=CLASSES)).clamp_max(CLASSES)
    target = data.draw(hostile.label_maps(BATCH, *grid, classes=CLASSES))
    matrix = metrics.ConfusionMatrix(CLASSES + 1)
    matrix.update(prediction, target)
    counted = target != 255
    assert matrix.counts.sum() == counted.sum() and (matrix.counts >= 0).all()
    seen = torch.tensor([bool(((prediction == c) | (target == c))[counted].any()) for c in range(CLASSES + 1)])
    iou = matrix.iou()
    assert torch.equal(iou.isnan(), ~seen) and ((iou[seen] >= 0) & (iou[seen] <= 1)).all()
    assert 0 <= matrix.mean_iou() <= 1 if seen.any() else math.isnan(matrix.mean_iou())


# refinement and CRF

PICTURES = hostile.GENTLE | hostile.SHARES
PICTURES |= {"as large as may be": lambda generator, shape: 1e10 * hostile.SHARES["zeros and ones"](generator, shape)}


@given(on_grids(BATCH, 3, kinds=PICTURES), st.sampled_from([(1,), (1, 2), (1, 2, 4, 8)]))
def test_affinity_is_a_distribution_over_the_neighbours_in_any_picture(images, dilations):
    weights = refine.affinity(images, dilations)
    assert (weights >= 0).all()
    torch.testing.assert_close(weights.sum(1), torch.ones_like(weights[:, 0]), rtol=0, atol=SLACK)


@given(st.data(), GRID, st.sampled_from([1, 3]))
def test_refined_maps_stay_within_the_range_of_each_map(data, grid, iterations):
    maps = data.draw(hostile.tensors(BATCH, CLASSES, *grid))
    images = data.draw(hostile.tensors(BATCH, 3, *grid, kinds=PICTURES))
    got = refine.refine(maps, images, dilations=(1, 2), iterations=iterations)
    low, high = maps.amin((-2, -1), keepdim=True), maps.amax((-2, -1), keepdim=True)
    slack = SLACK * maps.abs().amax((-2, -1), keepdim=True) + 1e-43  # a subnormal number has few digits
    assert (got >= low - slack).all() and (got <= high + slack).all()


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 1, 1), (1, 4, 5), (3, 1, 6)], ids=str)
@pytest.mark.parametrize("kind", ["zero", "one", "zeros and ones", "subnormal"])
def test_the_crf_labels_every_pixel_by_a_class_that_there_is(kind, shape):
    pytest.importorskip("pydensecrf.densecrf")
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(256, (*shape[1:], 3), generator=generator, dtype=torch.uint8).numpy()
    labels = crf.sharpen(image, hostile.SHARES[kind](generator, shape).numpy())
    assert labels.shape == shape[1:] and labels.dtype == np.uint8 and labels.max() < shape[0]


# no image at all

EMPTY, LABELS = torch.zeros(0, 3, 2, 2), torch.zeros(0, 2, 2, dtype=torch.int64)
SOME = {"high": 0.7, "low": 0.2}


@pytest.mark.parametrize(
    "function",
    [
        lambda: cam.class_activation_map(EMPTY, torch.ones(2, 3)),
        lambda: cam.tagged(EMPTY, torch.zeros(0, 3)),
        lambda: cam.patch_labels(EMPTY, torch.zeros(0, 3), 0.2, 0.7),
        lambda: dskd.uncertain_region(EMPTY, 0.2, 0.7),
        lambda: refine.refine(EMPTY, EMPTY),
        lambda: correction.rules(LABELS.float(), torch.zeros(0, 4, 2, 2), tau=0.3, **SOME),
        lambda: correction.neighbour_similarity(EMPTY),
        lambda: correction.correct(LABELS, LABELS.float(), EMPTY, tau=0.3, **SOME),
        lambda: gmm.noise_probability(torch.zeros(0, 5), gmm.fit(torch.zeros(0, 5))),
    ],
)
def test_maps_of_an_empty_batch_are_an_empty_batch(function):
    assert len(function()) == 0


@pytest.mark.parametrize(
    "function",
    [
        lambda tokens: ptc.patch_token_contrast(tokens, LABELS),
        lambda tokens: dskd.uncertain_region_loss(tokens, tokens, LABELS.bool()),
        lambda tokens: objective.segmentation_loss(tokens, LABELS),
        lambda tokens: objective.segmentation_loss(tokens, LABELS, average="balanced"),
    ],
)
def test_losses_over_pairs_and_pixels_of_an_empty_batch_are_zero(function):
    loss = function(tokens := EMPTY.clone().requires_grad_())
    assert loss.item() == 0 and gradients(loss, tokens)
