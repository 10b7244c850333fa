"""What is counted of the correction is what it did, pixel by pixel; curves and shares of counts equal their definitions."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from steps import TAGS

from dsgc.cam import IGNORE
from dsgc.correction import RULES
from dsgc.data.loading import EvalImages
from dsgc.data.split import open_split
from dsgc.errors import UserError
from dsgc.methods.dsgc import Dsgc
from dsgc.network.vit import fitted
from dsgc.scoring import diagnosis

SIZE = 64  # of an image's label: 128 pixels at every second one
# Labels and thresholds under which every rule applies somewhere.
ALL_RULES = {"label_low": 0.3, "label_high": 0.4, "theta_high": 0.6, "theta_low": 0.2, "tau": 0.97, "mixture_grid": "pixel"}
ON_PATCHES = ALL_RULES | {"mixture_grid": "patch", "tau": 0.6}  # patches are less alike than pixels
MIDDLES = (np.arange(diagnosis.BINS) + 0.5) / diagnosis.BINS


class Bordered(EvalImages):
    """The data set with masks that leave out some rows, as those of VOC leave out the borders of objects."""

    def __getitem__(self, index):
        item = super().__getitem__(index)
        mask = item.mask.clone()
        mask[: 10 * (index + 1)] = IGNORE
        return item._replace(mask=mask)


@pytest.fixture(scope="module")
def dataset(shapes_folder):
    return Bordered(open_split(shapes_folder, "val"))


def random_counts(seed):
    """(BINS, 2): some bins empty, wrong labels more often where the value is high."""
    rng = np.random.default_rng(seed)
    wrong = rng.integers(0, 40, diagnosis.BINS) * (rng.random(diagnosis.BINS) < 0.7) * np.arange(diagnosis.BINS) // 20
    return np.stack([rng.integers(0, 40, diagnosis.BINS) * (rng.random(diagnosis.BINS) < 0.7), wrong], 1)


# pseudo labels and the rules behind them


def test_labels_are_those_of_the_method_and_the_truth_lies_on_their_grid(pair, dataset, fixed):
    network, config = pair[0].eval(), fixed(**ALL_RULES)
    seen = diagnosis.whole_split(network, dataset, config)
    with torch.no_grad():
        output = network(seen.images)
        made = config.method.pseudo_labels(seen.images, config.method.cam(network, output), seen.tags, output.tokens)
    assert seen.made._fields == made._fields
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(seen.made, made, strict=True))
    assert seen.made.initial.shape == seen.made.rule.shape == seen.truth.shape == (4, SIZE, SIZE)
    for index in range(4):
        item = dataset[index]
        assert torch.equal(seen.images[index], item.image / 255) and torch.equal(seen.masks[index], item.mask)
        assert torch.equal(seen.truth[index], item.mask[1::2, 1::2])  # the middle lies between two pixels


def test_a_rule_agrees_with_what_the_correction_did(pair, dataset, fixed):
    seen = diagnosis.whole_split(pair[0].eval(), dataset, fixed(**ALL_RULES))
    initial, corrected = seen.made.initial, seen.made.corrected
    places = [seen.made.rule == number for number in range(len(RULES))]
    assert all(place.any() for place in places), "the test needs every rule"
    assert torch.equal(corrected[places[0]], initial[places[0]])
    for number, label in ((1, 0), (2, IGNORE), (3, 0)):
        assert (corrected[places[number]] == label).all()
    for b, y, x in places[4].nonzero().tolist():
        around = [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
        near = {initial[b, v, u].item() for v, u in around if 0 <= v < SIZE and 0 <= u < SIZE}
        assert corrected[b, y, x].item() in near


def test_on_the_patch_grid_a_rule_holds_for_all_pixels_of_a_patch(pair, dataset, fixed):
    seen = diagnosis.whole_split(pair[0].eval(), dataset, fixed(**ON_PATCHES))
    patches = seen.made.rule.view(4, 16, 4, 16, 4)
    assert (patches == patches[:, :, :1, :, :1]).all() and len(seen.made.rule.unique()) == len(RULES)
    changed = seen.made.corrected != seen.made.initial
    assert changed.any() and (seen.made.rule[changed] > 0).all()


def test_without_correction_every_label_is_kept(pair, dataset, fixed):
    seen = diagnosis.whole_split(pair[0].eval(), dataset, fixed(**ALL_RULES, correction=False))
    assert not seen.made.rule.any() and torch.equal(seen.made.initial, seen.made.corrected)


@pytest.mark.parametrize("method", ["base", "masks"])
def test_a_method_that_corrects_nothing_has_nothing_to_look_into(pair, dataset, fixed, method):
    config = fixed(method)
    assert diagnosis.count(pair[0], dataset, config) == {}
    with pytest.raises(UserError, match=f"^method {method}: corrects no labels, so there is nothing to look into$"):
        diagnosis.whole_split(pair[0].eval(), dataset, config)


def test_images_of_any_size_have_their_truth_on_the_labels_grid(pair, fixed):
    masks = torch.arange(6).repeat_interleave(9).expand(3, 37, 54)
    seen = diagnosis.label(pair[0].eval(), torch.rand(3, 3, 37, 54), TAGS, masks, fixed(**ALL_RULES))
    assert seen.truth.shape == seen.made.rule.shape == seen.made.initial.shape == (3, 20, 28)  # from 40 x 56
    assert (seen.truth.diff() >= 0).all() and seen.truth.unique().tolist() == list(range(6))


@pytest.mark.parametrize(("side", "expected"), [(1, 8), (11, 8), (13, 16), (16, 16), (61, 64)])
def test_images_are_fitted_to_the_nearest_multiple_of_the_patch(side, expected):
    images = torch.rand(2, 3, side, 16)
    assert fitted(images, 8).shape == (2, 3, expected, 16)
    assert (fitted(images, 8) is images) == (side == expected)


def test_the_state_of_a_label():
    labels, truth = torch.tensor([[0, 3, 0, 3, IGNORE, 2]]), torch.tensor([[0, 3, 3, 0, 3, 3]])
    states = [diagnosis.STATES[number] for number in diagnosis.state(labels, truth)[0]]
    assert states == ["right", "right", "wrong", "wrong", "left out", "wrong"]


def test_worth_of_a_label_that_gives_up_its_errors():
    truth, label = torch.tensor([[0, 0, 1, 1, IGNORE]]), torch.tensor([[0, 1, 1, 1, 1]])
    given_up = torch.where(label == truth, label, IGNORE)
    assert list(diagnosis.worth(label, truth, 3).values()) == pytest.approx([100, 100 * (1 / 2 + 2 / 3) / 2] + [100 * 7 / 12])
    assert list(diagnosis.worth(given_up, truth, 3).values()) == pytest.approx([75, 100, 75])  # background: 1 of 2


# counts


def counted_by_loop(seen):
    """Both counts, pixel by pixel."""
    detectors = np.zeros((2, diagnosis.BINS, 2), int)
    rules = np.zeros((len(RULES), 3, 3), int)

    def state(label, true):
        return 2 if label == IGNORE else int(label != true)

    made, truth, rule = seen.made, seen.truth.tolist(), seen.made.rule.tolist()
    initial, corrected = made.initial.tolist(), made.corrected.tolist()
    step = SIZE // made.noise.shape[-1]  # pixels of the label to one of the mixture's grid
    for b in range(len(truth)):
        for y in range(SIZE):
            for x in range(SIZE):
                label, true = initial[b][y][x], truth[b][y][x]
                if true == IGNORE:
                    continue
                rules[rule[b][y][x], state(label, true), state(corrected[b][y][x], true)] += 1
                if label not in (0, IGNORE):
                    for number, value in enumerate((made.noise[b, y // step, x // step], 1 - made.confidence[b, y, x])):
                        place = min(int(value * diagnosis.BINS), diagnosis.BINS - 1)
                        detectors[number, place, int(label != true)] += 1
    return {"detectors": detectors.tolist(), "rules": rules.tolist()}


@pytest.mark.parametrize("settings", [ALL_RULES, ON_PATCHES], ids=["pixels", "patches"])
def test_counts_equal_the_loop(pair, dataset, fixed, settings):
    network, config = pair[0].eval(), fixed(**settings)
    expected = counted_by_loop(diagnosis.whole_split(network, dataset, config))
    assert min(np.sum(expected["detectors"], (0, 1))) > 0 and np.sum(expected["rules"], (1, 2)).all(), "the test needs every kind"
    assert diagnosis.count(network, dataset, config) == expected


@pytest.mark.parametrize("batch", [1, 3])
def test_counts_are_of_every_known_pixel_whatever_the_batches(pair, dataset, fixed, batch):
    config = fixed(**ALL_RULES, eval_batch=batch)
    counts = diagnosis.count(pair[0].eval(), dataset, config)
    seen = diagnosis.whole_split(pair[0], dataset, config)
    known = seen.truth != IGNORE
    foreground = known & (seen.made.initial > 0) & (seen.made.initial != IGNORE)
    assert known.sum() == 4 * SIZE**2 - SIZE * (5 + 10 + 15 + 20)
    assert np.sum(counts["rules"]) == known.sum()
    for detector in counts["detectors"]:
        assert np.sum(detector, 0).tolist() == np.sum(counts["detectors"][0], 0).tolist()
        assert abs(np.sum(detector) - int(foreground.sum())) <= 2  # a label at its threshold may tip with the batch


def test_counts_are_plain_numbers_that_can_be_stored(pair, dataset, fixed):
    counts = diagnosis.count(pair[0], dataset, fixed(**ALL_RULES))
    assert np.shape(counts["detectors"]) == (len(diagnosis.DETECTORS), diagnosis.BINS, 2)
    assert np.shape(counts["rules"]) == (len(RULES), len(diagnosis.STATES), len(diagnosis.STATES))
    assert {type(number) for part in counts.values() for rows in part for row in rows for number in row} == {int}


def test_values_at_the_ends_of_the_range_are_counted(pair, dataset, fixed, monkeypatch):
    """Noise 1 and 0 fall into the last and the first bin; confidence the other way round."""
    genuine = Dsgc.pseudo_labels

    def extreme(*given):
        made = genuine(*given)
        left = torch.arange(SIZE) < SIZE // 2
        return made._replace(noise=left.float().expand_as(made.noise), confidence=left.float().expand_as(made.confidence))

    monkeypatch.setattr(Dsgc, "pseudo_labels", extreme)
    noise, unsure = np.sum(diagnosis.count(pair[0], dataset, fixed(**ALL_RULES))["detectors"], 2)
    assert noise[0] > 0 and noise[-1] > 0 and noise[0] + noise[-1] == noise.sum()
    assert unsure.tolist() == noise[::-1].tolist()


@pytest.mark.parametrize("training", [True, False])
def test_a_network_is_counted_as_it_is_used_and_left_in_its_mode(pair, dataset, fixed, training):
    modes = []
    network = pair[0].train(training)
    network.register_forward_hook(lambda module, *_: modes.append(module.training))
    diagnosis.count(network, dataset, fixed(eval_batch=2))
    assert modes == [False, False] and network.training == training


# curves and shares


@pytest.mark.parametrize("seed", range(4))
def test_auc_is_that_of_the_values_at_the_middles_of_the_bins(seed):
    counts = random_counts(seed)
    values = np.concatenate([np.repeat(MIDDLES, counts[:, kind]) for kind in (0, 1)])
    expected = roc_auc_score(np.repeat([0, 1], counts.sum(0)), values)
    assert 0.5 < expected < 1
    assert diagnosis.auc(counts) == pytest.approx(expected, rel=1e-12)
    assert diagnosis.auc(counts[::-1].tolist()) == pytest.approx(1 - expected, rel=1e-12)


def test_auc_of_clear_cases():
    assert diagnosis.auc([[3, 0], [0, 5]]) == 1 and diagnosis.auc([[0, 5], [3, 0]]) == 0
    assert diagnosis.auc([[3, 5], [0, 0]]) == 0.5
    assert math.isnan(diagnosis.auc([[3, 0], [1, 0]])) and math.isnan(diagnosis.auc([[0, 3], [0, 1]]))


@pytest.mark.parametrize("seed", range(4))
def test_precision_and_recall_equal_the_loop(seed):
    counts = random_counts(seed)
    precision, recall = diagnosis.precision_recall(counts)
    assert len(precision) == len(recall) == diagnosis.BINS
    for called in range(1, diagnosis.BINS + 1):
        right, wrong = (sum(int(counts[diagnosis.BINS - k, kind]) for k in range(1, called + 1)) for kind in (0, 1))
        expected = wrong / (right + wrong) if right + wrong else math.nan
        assert precision[called - 1] == pytest.approx(expected, nan_ok=True)
        assert recall[called - 1] == pytest.approx(wrong / counts[:, 1].sum())


def test_precision_has_no_value_before_something_is_called_wrong():
    precision, recall = diagnosis.precision_recall([[4, 4], [2, 6], [0, 0]])
    assert math.isnan(precision[0]) and precision[1:].tolist() == [0.75, 0.625]
    assert recall.tolist() == [0, 0.6, 1]


def test_reliability_by_hand():
    """The 50 bins merged to 5: the first ten hold 8 labels, 2 of them wrong, the last two labels are both wrong."""
    counts = np.zeros((diagnosis.BINS, 2), int)
    counts[0], counts[9], counts[49] = (5, 1), (1, 1), (0, 2)
    wrong, share = diagnosis.reliability(counts.tolist(), 5)
    assert wrong[[0, 4]].tolist() == [0.25, 1] and np.isnan(wrong[1:4]).all()
    assert share.tolist() == [0.8, 0, 0, 0, 0.2]
    assert [len(part) for part in diagnosis.reliability(counts)] == [10, 10]


def test_calibration_error_by_hand():
    """6 labels at 0.01, 1 of them wrong; 2 at 0.99, both wrong; a detector that is always right about itself has none."""
    counts = np.zeros((diagnosis.BINS, 2), int)
    counts[0], counts[-1] = (5, 1), (0, 2)
    assert diagnosis.calibration_error(counts) == pytest.approx((6 * (1 / 6 - 0.01) + 2 * 0.01) / 8)
    honest = np.stack([99 - 2 * np.arange(diagnosis.BINS), 1 + 2 * np.arange(diagnosis.BINS)], 1)
    assert diagnosis.calibration_error(honest) == pytest.approx(0, abs=1e-12)
    assert diagnosis.calibration_error(honest[:, ::-1]) == pytest.approx(0.5)


def test_of_nothing_there_are_no_shares_and_no_warning(recwarn):
    nothing = np.zeros((diagnosis.BINS, 2), int)
    wrong, share = diagnosis.reliability(nothing)
    precision, recall = diagnosis.precision_recall(nothing)
    assert np.isnan(wrong).all() and np.isnan(precision).all() and not share.any() and not recall.any()
    assert math.isnan(diagnosis.auc(nothing))
    assert math.isfinite(diagnosis.calibration_error(nothing))
    assert not recwarn.list
