"""Patch token contrast: tokens of one label are pulled together, tokens of different labels pushed apart (Eq. 4-5)."""

import torch
import torch.nn.functional as F
from torch import Tensor

LABELS = 256  # label values a map can hold; the last one, 255, is ignored


def pairs(labels: Tensor) -> Tensor:
    """How many ordered pairs of tokens of an image have equal labels, and how many different ones: (2,) float64.

    labels (B, h, w) int64, 0..254, or 255 for no label.
    """
    counts = _counts(labels.flatten(1))
    same = counts.square().sum() - counts.sum()  # N+, a token makes no pair with itself
    return torch.stack([same, counts.sum(1).square().sum() - counts.square().sum()])


def patch_token_contrast(tokens: Tensor, labels: Tensor) -> Tensor:
    """One minus the mean cosine of equally labelled token pairs, plus the mean cosine of differently labelled pairs.

    Eq. (4), whose cosine similarity is Eq. (5). Pairs lie within one image, a token makes no pair with itself, and the
    means are over all pairs of the batch. The sum of cosines over the pairs of a set is the squared norm of the sum of
    its unit vectors, less the diagonal; so no N x N matrix is ever built: time and memory grow with N, not N^2.

    Args:
        tokens: patch tokens of the last layer (B, D, h, w). Their lengths do not matter from 1e-12 to 1e19; a shorter token
            counts the less the shorter it is, a longer one, whose square float32 cannot hold, as zero.
        labels: patch labels (B, h, w) int64, 0..254, or 255 for no label.
    Returns:
        A scalar in [-1, 3]; a term with no pair is 0, with zero gradient.
    Source: the paper, Eq. 4-5; Ru et al. 2023 (who take the absolute value of the cosine).
    """
    return pull_and_push(tokens, labels).sum().float()


def pull_and_push(tokens: Tensor, labels: Tensor) -> Tensor:
    """The two means of `patch_token_contrast`, each over one number of `pairs`: (2,) float64; arguments as there."""
    batch, dim = tokens.shape[:2]
    unit = F.normalize(tokens.flatten(2).float(), dim=1).transpose(1, 2)  # (B, N, D)
    count, labels = pairs(labels), labels.flatten(1)  # (2,), (B, N)
    slot = labels + LABELS * torch.arange(batch, device=labels.device)[:, None]  # (B, N), one slot an image and label
    sums = unit.new_zeros(batch * LABELS, dim).index_add(0, slot.flatten(), unit.flatten(0, 1))
    sums = sums.view(batch, LABELS, dim)[:, :-1]  # (B, 255, D); slot 255 dropped

    itself = unit.square().sum(-1)[labels != LABELS - 1].sum()  # each token's cosine with itself: 1, of a zero token 0
    same_sum = sums.square().sum() - itself
    other_sum = sums.sum(1).square().sum() - sums.square().sum()
    pull = torch.where(count[0] > 0, 1 - same_sum / count[0].clamp_min(1), 0)
    push = torch.where(count[1] > 0, other_sum / count[1].clamp_min(1), 0)
    return torch.stack([pull, push])


def _counts(labels: Tensor) -> Tensor:
    """How often each image (B, N) has each label but 255: (B, 255) float64."""
    counts = torch.zeros(len(labels), LABELS, device=labels.device, dtype=torch.float64)
    return counts.scatter_add(1, labels, torch.ones_like(labels, dtype=torch.float64))[:, :-1]


def absolute_pull_and_push(tokens: Tensor, labels: Tensor) -> Tensor:
    """Patch token contrast as ToCo and DuPL have it: of the cosine's absolute value, and half of either mean.

    Here pairs are compared one by one, since absolute values do not add up as cosines do.

    Args:
        tokens: (B, D, h, w).
        labels: (B, h, w) int64, 0..254, or 255 for no label.
    Returns:
        (2,): half of one minus the mean over pairs of equal labels, half the mean over pairs of different ones, each over as many as
        `pairs` says (they divide by one more); 0 with zero gradient where there is no such pair.
    Source: Ru et al. 2023 (ToCo), Eq. 3 and its code; Wu et al. 2024 (DuPL), its code.
    """
    unit = F.normalize(tokens.flatten(2).float(), dim=1)  # (B, D, N)
    labels = labels.flatten(1)  # (B, N)
    similar = torch.einsum("bdn,bdm->bnm", unit, unit).abs()
    known = labels != LABELS - 1
    both = known[:, :, None] & known[:, None, :] & ~torch.eye(labels.shape[1], dtype=torch.bool, device=labels.device)
    same = labels[:, :, None] == labels[:, None, :]
    means = []
    for chosen, value in ((both & same, 1 - similar), (both & ~same, similar)):
        means.append(torch.where(chosen, value, 0).sum() / chosen.sum().clamp_min(1) / 2)
    return torch.stack(means)
