"""Eq. 24: the streaming confusion matrix and the mean intersection over union."""

import math

import oracles
import pytest
import torch

from dsgc import metrics
from dsgc.metrics import ConfusionMatrix


def counted(prediction, target, num_classes, **options):
    matrix = ConfusionMatrix(num_classes, **options)
    matrix.update(torch.as_tensor(prediction), torch.as_tensor(target))
    return matrix


def draw(seed, classes=5, shape=(3, 6, 7), ignored=0.2):
    generator = torch.Generator().manual_seed(seed)
    prediction, target = torch.randint(classes, (2, *shape), generator=generator)
    target[torch.rand(shape, generator=generator) < ignored] = 255
    return prediction, target


@pytest.mark.parametrize("present", [5, 3])
@pytest.mark.parametrize("seed", range(4))
def test_iou_equals_the_loop(seed, present):
    """Also with classes 3 and 4 in neither map: NaN there, left out of the mean."""
    prediction, target = draw(seed, classes=present)
    matrix = counted(prediction, target, 5)
    expected = oracles.iou(prediction.flatten().tolist(), target.flatten().tolist(), 5)
    got = matrix.iou()
    assert got.dtype == torch.float64
    assert got.tolist() == pytest.approx([math.nan if v is None else v for v in expected], rel=1e-12, nan_ok=True)
    seen = [v for v in expected if v is not None]
    assert matrix.mean_iou() == pytest.approx(sum(seen) / len(seen), rel=1e-12)


def test_hand_values():
    """Background 3 of 4, class 1: 1 of 3, class 2: predicted only, class 3: nowhere."""
    matrix = counted([0, 0, 0, 1, 0, 2], [0, 0, 0, 1, 1, 1], 4)
    assert matrix.iou()[:3].tolist() == [0.75, pytest.approx(1 / 3), 0.0] and matrix.iou()[3].isnan()
    assert matrix.mean_iou() == pytest.approx((0.75 + 1 / 3) / 3)
    assert matrix.counts.tolist() == [[3, 0, 0, 0], [1, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]]


def test_iou_is_symmetric_where_nothing_is_ignored():
    prediction, target = draw(0, ignored=0.0)
    assert torch.equal(counted(prediction, target, 5).iou(), counted(target, prediction, 5).iou())


def test_perfect_is_one_and_disjoint_is_zero():
    target = torch.arange(4).repeat(3)
    assert counted(target, target, 4).mean_iou() == 1
    assert counted((target + 1) % 4, target, 4).mean_iou() == 0


@pytest.mark.parametrize("predicted", [0, 2, 3, 77, -1, 2**40])
@pytest.mark.parametrize("ignore", [255, 3, -1, -100, 0])
def test_ignored_pixels_do_not_count_whatever_was_predicted(ignore, predicted):
    matrix = counted([1, 1, 2, predicted], [1, 1, 2, ignore], 3, ignore_index=ignore)
    assert matrix.counts.tolist() == [[0, 0, 0], [0, 2, 0], [0, 0, 1]]


@pytest.mark.parametrize("ignore", [255, -1])
@pytest.mark.parametrize("seed", range(4))
def test_pixels_left_out_count_as_missed_in_the_strict_score_alone(seed, ignore):
    """Against the loop: left out, they are a class of their own that no target has."""
    prediction, target = draw(seed)
    prediction[torch.rand(prediction.shape, generator=torch.Generator().manual_seed(seed)) < 0.3] = 255
    matrix = counted(*(torch.where(t == 255, ignore, t) for t in (prediction, target)), 5, ignore_index=ignore)
    sure = prediction != 255
    assert torch.equal(matrix.counts, counted(prediction[sure], target[sure], 5).counts)
    as_a_class = oracles.iou(torch.where(sure, prediction, 5).flatten().tolist(), target.flatten().tolist(), 6)
    assert matrix.strict_iou().tolist() == pytest.approx(as_a_class[:5], rel=1e-12)
    assert matrix.mean_strict_iou() == pytest.approx(sum(as_a_class[:5]) / 5, rel=1e-12)
    known = target != 255
    assert matrix.coverage() == pytest.approx(float((sure & known).sum() / known.sum()))


def test_leaving_out_errors_raises_the_score_but_not_the_strict_one():
    whole, without = counted([0, 0, 1, 0], [0, 0, 1, 1], 2), counted([0, 0, 1, 255], [0, 0, 1, 1], 2)
    assert without.mean_iou() == 1 > whole.mean_iou() and without.strict_iou().tolist() == [1, 0.5]
    assert (whole.coverage(), without.coverage()) == (1, 0.75) and whole.mean_strict_iou() == whole.mean_iou()


def test_nothing_labelled_is_a_strict_zero():
    matrix = counted([255, 255], [1, 255], 3)
    assert matrix.missed.tolist() == [0, 1, 0] and matrix.coverage() == 0
    assert matrix.mean_strict_iou() == 0 and math.isnan(matrix.mean_iou())


def test_nothing_counted_is_nan():
    assert math.isnan(ConfusionMatrix(3).mean_iou())
    for prediction, target in (([0, 1], [255, 255]), ([77, -1], [255, 255]), (torch.zeros(0, 2).long(),) * 2):
        matrix = counted(prediction, target, 3)
        assert matrix.iou().isnan().all() and math.isnan(matrix.mean_iou())


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_batches_count_as_the_whole(batch):
    prediction, target = draw(1, shape=(5, 8, 8))
    streaming = ConfusionMatrix(5)
    for p, t in zip(prediction.split(batch), target.split(batch), strict=True):
        streaming.update(p, t)
    whole = counted(prediction, target, 5)
    assert torch.equal(streaming.counts, whole.counts) and streaming.mean_iou() == whole.mean_iou()
    assert whole.counts.sum() == (target != 255).sum()


@pytest.mark.parametrize("pixels", [1, 10, 125, 126, 127])
def test_how_many_pixels_are_counted_at_a_time_changes_nothing(monkeypatch, pixels):
    whole = counted(*draw(3), 5)
    monkeypatch.setattr(metrics, "PIXELS", pixels)
    assert torch.equal(counted(*draw(3), 5).counts, whole.counts)
    with pytest.raises(ValueError, match=r"prediction .*-1\.\.9"):
        counted([0, 7, -1, 1, 9, 1], [0, 0, 0, 0, 0, 0], 5)


def test_mean_is_of_the_pooled_counts_not_of_the_images():
    matrix = ConfusionMatrix(2)
    matrix.update(torch.tensor([0, 0, 0, 0]), torch.tensor([0, 0, 0, 0]))
    matrix.update(torch.tensor([0, 1]), torch.tensor([1, 1]))
    assert matrix.iou().tolist() == [0.8, 0.5]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32])
def test_small_integers_do_not_overflow(dtype):
    prediction, target = draw(2, classes=21)
    expected = counted(prediction, target, 21)
    assert torch.equal(counted(prediction.to(dtype), target.to(dtype), 21).counts, expected.counts)


def test_shapes_that_differ_are_refused():
    with pytest.raises(ValueError, match="shape"):
        counted(torch.zeros(2, 3).long(), torch.zeros(3, 2).long(), 2)


@pytest.mark.parametrize(
    ("prediction", "target", "message"),
    [
        ([0, 3], [0, 1], r"prediction .*0\.\.3"),
        ([0, 1], [0, 9], r"target .*0\.\.9"),
        ([-1, 1], [0, 1], r"prediction .*-1\.\.1"),
        ([-5, -2], [0, 1], r"prediction .*-5\.\.-2"),
        ([0, 1], [-1, 2], r"target .*-1\.\.2"),
        ([0, 1], [254, 1], r"target .*1\.\.254"),
        ([0, 1], [256, 1], r"target .*1\.\.256"),
        ([2**32, 1], [0, 1], r"prediction .*1\.\.4294967296"),
        ([0, 1], [0, 2**32], r"target .*0\.\.4294967296"),
        ([9, 5, 1], [255, 0, 1], r"prediction .*1\.\.5"),  # what stands where the target is ignored is not named
    ],
)
def test_value_out_of_range_is_named_and_counts_nothing(prediction, target, message):
    matrix = ConfusionMatrix(3)
    with pytest.raises(ValueError, match=message):
        matrix.update(torch.tensor(prediction), torch.tensor(target))
    assert matrix.counts.sum() == 0


@pytest.mark.parametrize("target", [-1, -99, -101, 3])
def test_of_the_values_below_zero_only_the_ignored_one_is_a_target(target):
    with pytest.raises(ValueError, match="target has labels"):
        counted([0, 0], [target, -100], 3, ignore_index=-100)
