"""Does the correction find the errors of the pseudo label, and repair them? Pixels counted against true masks.

Counting is separate from reading: `count` goes once over a split and gives whole numbers that can be stored and added
up over runs; the other functions turn them into curves and shares.
"""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dsgc import correction
from dsgc.cam import IGNORE
from dsgc.config import Config
from dsgc.data.loading import EvalImages, eval_batches
from dsgc.errors import UserError
from dsgc.methods.contract import Examined
from dsgc.methods.labels import nearest
from dsgc.metrics import ConfusionMatrix
from dsgc.network.vit import Network, Output, fitted
from dsgc.scoring.evaluate import collate

BINS = 50  # of a detector's values in [0, 1]
DETECTORS = ("noise probability", "1 - confidence")  # what is asked whether a label is wrong
STATES = ("right", "wrong", "left out")  # of a pixel's label, against the truth


class Labelled(NamedTuple):
    """Images of one size, what a network makes of them, and the truth on the pseudo label's grid."""

    images: Tensor  # (B, 3, H, W) in [0, 1]
    tags: Tensor  # (B, C)
    masks: Tensor  # (B, H, W)
    output: Output
    made: Examined
    truth: Tensor  # (B, H', W') int64


@torch.no_grad()
def label(network: Network, images: Tensor, tags: Tensor, masks: Tensor, config: Config) -> Labelled:
    """Pseudo labels of a batch and the rule that applies to each pixel. Arguments as `evaluate.collate` gives them.

    Raises:
        UserError: the method corrects no labels.
    """
    scaled = fitted(images, network.patch_size)
    output = network(scaled)
    made = config.method.examined(network, output, scaled, tags)
    if made is None:
        raise UserError(f"method {config.method.name}: corrects no labels, so there is nothing to look into")
    return Labelled(images, tags, masks, output, made, nearest(masks, made.initial.shape[-2:]))


def whole_split(network: Network, dataset: EvalImages, config: Config) -> Labelled:
    """`label` for all images of a split at once; they are of one size."""
    return label(network, *collate([dataset[i] for i in range(len(dataset))], "cpu"), config)


def worth(labels: Tensor, truth: Tensor, num_classes: int) -> dict[str, float]:
    """What a label (B, H', W') is worth, in per cent: how much of the image it labels, mIoU over that, mIoU with the rest as missed.

    The middle one alone says little: a label gains in it by leaving out what it would be wrong about. num_classes: background included.
    """
    matrix = ConfusionMatrix(num_classes)
    matrix.update(labels, truth)
    found = {"labelled": matrix.coverage(), "mIoU of what is labelled": matrix.mean_iou(), "strict mIoU": matrix.mean_strict_iou()}
    return {name: 100 * value for name, value in found.items()}


def state(labels: Tensor, truth: Tensor) -> Tensor:
    """Index in `STATES` of each label, (B, H', W') and truth alike; meaningless where the truth is 255."""
    return torch.where(labels == IGNORE, 2, (labels != truth).long())


@torch.no_grad()
def count(network: Network, dataset: EvalImages, config: Config, device: torch.device | str = "cpu") -> dict[str, list]:
    """Counts over a split, pixels of the pseudo label's grid; those without a true label are left out.

    Returns:
        {} where the method corrects no labels; else
        "detectors": (detector, bin, right or wrong) over the pixels that the initial label calls foreground;
        "rules": (rule, state before, state after); as nested lists of whole numbers.
    Raises:
        UserError: the masks of the split do not say what its tags say.
    """
    if not config.method.corrects:
        return {}
    dataset.check_masks()
    detectors = torch.zeros(len(DETECTORS), BINS, 2, dtype=torch.int64, device=device)
    by_rule = torch.zeros(len(correction.RULES), 3, 3, dtype=torch.int64, device=device)
    was_training = network.training
    network.eval()
    for items in eval_batches(dataset, batch=config.eval_batch, workers=config.workers):
        seen = label(network, *collate(items, device), config)
        known = seen.truth != IGNORE
        before, after = state(seen.made.initial, seen.truth), state(seen.made.corrected, seen.truth)
        by_rule += torch.bincount((seen.made.rule * 9 + before * 3 + after)[known], minlength=by_rule.numel()).view_as(by_rule)
        foreground = known & (seen.made.initial > 0) & (seen.made.initial != IGNORE)
        noise = F.interpolate(seen.made.noise[:, None], foreground.shape[-2:], mode="nearest-exact")[:, 0]
        for number, value in enumerate((noise, 1 - seen.made.confidence)):
            place = (value[foreground] * BINS).long().clamp(0, BINS - 1) * 2 + before[foreground]
            detectors[number] += torch.bincount(place, minlength=2 * BINS).view(BINS, 2)
    network.train(was_training)
    return {"detectors": detectors.tolist(), "rules": by_rule.tolist()}


def reliability(counts: np.ndarray, bins: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """(BINS, 2) counts of right and wrong -> share of wrong labels in each of `bins` bins, NaN where empty; their shares of all."""
    merged = np.asarray(counts).reshape(bins, -1, 2).sum(1)
    pixels = merged.sum(1)
    return np.where(pixels, merged[:, 1] / np.maximum(pixels, 1), np.nan), pixels / max(pixels.sum(), 1)


def calibration_error(counts: np.ndarray) -> float:
    """Mean distance between what a detector says (the middle of each bin) and the share of wrong labels, over pixels; counts (BINS, 2)."""
    wrong, share = reliability(counts, BINS)
    middle = (np.arange(BINS) + 0.5) / BINS
    return float(np.nansum(np.abs(wrong - middle) * share))


def precision_recall(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of calling wrong whatever lies in a bin or above, from the highest bin down: (BINS,) each; NaN where nothing is called."""
    right, wrong = np.asarray(counts)[::-1].cumsum(0).T
    called = right + wrong
    return np.where(called, wrong / np.maximum(called, 1), np.nan), wrong / max(wrong[-1], 1)


def auc(counts: np.ndarray) -> float:
    """Of counts (BINS, 2), how often a wrong label has the higher value than a right one, ties in a bin half; NaN without either."""
    right, wrong = np.asarray(counts, float).T
    pairs = right.sum() * wrong.sum()
    below = right.cumsum() - right
    return float((wrong * (below + right / 2)).sum() / pairs) if pairs else float("nan")
