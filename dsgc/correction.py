"""Gaussian correction: what happens to the label of a pixel that the mixture calls noise (Eq. 18-21)."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Copied = Literal["any", "labelled"]  # whose label is copied
BLOCK = 2**20  # products made at a time, about as many as a cache holds
NEIGHBOURS = ("up", "down", "left", "right")  # the order of dim 1 wherever four neighbours are stacked


def _shifted(maps: Tensor, fill: float) -> Tensor:
    """The four neighbours' values at each place: (B, h, w) -> (B, 4, h, w), `fill` off the image."""
    padded = F.pad(maps, (1, 1, 1, 1), value=fill)
    return torch.stack([padded[:, :-2, 1:-1], padded[:, 2:, 1:-1], padded[:, 1:-1, :-2], padded[:, 1:-1, 2:]], 1)


def neighbour_similarity(features: Tensor) -> Tensor:
    """Cosine similarity of each place's features with those of its four neighbours.

    Eq. (18) at the pixels of R_h and Eq. (20) at those of R_u: the same four numbers, computed once for every place.
    Each edge of the grid is multiplied once and serves both its ends; a strip of the grid at a time, whose products a cache
    holds.

    Args:
        features: (B, D, h, w).
    Returns:
        (B, 4, h, w) in [-1, 1]: up, down, left, right; NaN where the neighbour is off the image. No gradient is needed
        through it: labels are made of it.
    Source: the paper, Eq. 18 and 20.
    """
    images, dim, height, width = features.shape
    sizes = ((height, width), (height - 1, width), (height, width - 1))
    square, vertical, horizontal = (features.new_empty(images, *size, dtype=torch.float32) for size in sizes)
    rows = max(1, BLOCK // max(1, images * dim * width))
    for y in range(0, height, rows):
        strip = features[:, :, y : y + rows + 1].float()  # with one row of the next
        here, below = strip[:, :, :rows], strip[:, :, 1:]
        square[:, y : y + rows] = here.square().sum(1)
        vertical[:, y : y + rows] = (below * strip[:, :, :-1]).sum(1)  # row i with row i + 1
        horizontal[:, y : y + rows] = (here[..., 1:] * here[..., :-1]).sum(1)
    longest = square.amax((1, 2))
    if not (longest.isfinite() & (longest > 1e-24)).all():  # squares left the range of float32, or an image is all zero
        largest = features.abs().amax((1, 2, 3), keepdim=True)
        if ((largest > 0) & (largest != 1)).any():
            return neighbour_similarity(features / torch.where(largest > 0, largest, 1))
    length = square.sqrt_().clamp_min_(1e-12)
    vertical /= length[:, 1:] * length[:, :-1]
    horizontal /= length[..., 1:] * length[..., :-1]
    sides = ((vertical, (0, 0, 1, 0)), (vertical, (0, 0, 0, 1)), (horizontal, (1, 0)), (horizontal, (0, 1)))
    return torch.stack([F.pad(product, side, value=torch.nan) for product, side in sides], 1).clamp_(-1, 1)


RULES = (  # by the number that `rules` gives
    "kept",
    "R_h, boundary: background",
    "R_h, inside: left out",
    "R_u, boundary: background",
    "R_u, inside: neighbour's label",
)


def quantile(similarity: Tensor, share: float) -> Tensor:
    """The cosine below which a share of an image's neighbouring pairs lies: (B, 4, h, w) -> (B,), a tau of each image's own."""
    return similarity.flatten(1).nanquantile(share, 1)


def rules(noise: Tensor, similarity: Tensor, *, high: float, low: float, tau: float | Tensor) -> Tensor:
    """Which rule applies to each pixel, as its number in `RULES`.

    R_h is where noise > high, R_u where low < noise < high; at equality with a threshold the label is kept. A pixel lies on
    a boundary if some neighbour's similarity is below tau; a neighbour off the image takes no part.

    Args:
        noise: (B, h, w) in [0, 1], from `gmm.noise_probability`.
        similarity: (B, 4, h, w), from `neighbour_similarity`.
        high, low: theta_h >= theta_l in [0, 1].
        tau: similarity threshold in [-1, 1], or one of each image (B,).
    Returns:
        (B, h, w) int64.
    Raises:
        ValueError: unless 0 <= low <= high <= 1.
    Source: the paper, the text before Eq. 18.
    """
    if not 0 <= low <= high <= 1:
        raise ValueError(f"thresholds must satisfy 0 <= low <= high <= 1, got low={low}, high={high}")
    tau = torch.as_tensor(tau, dtype=similarity.dtype, device=similarity.device).view(-1, 1, 1, 1)
    boundary = (similarity < tau).any(1).long()  # a comparison with NaN is False: no neighbour, no boundary
    uncertain = (low < noise) & (noise < high)
    return torch.where(noise > high, 2 - boundary, torch.where(uncertain, 4 - boundary, 0))


def _copied(similarity: Tensor, around: Tensor, copy_from: Copied) -> Tensor:
    """The label of the most similar of four neighbours: (B, 4, ...) similarities and labels -> (B, ...).

    A neighbour off the image comes last; where labelled ones are copied from, one that is 255 comes only before it.
    """
    rank = similarity.nan_to_num(nan=-4.0)
    if copy_from == "labelled":
        rank = torch.where((around == 255) & (rank >= -1), rank - 2.5, rank)  # below every cosine
    return around.gather(1, rank.max(1, keepdim=True).indices).squeeze(1)  # argmax is ten times slower


@torch.no_grad()
def correct(labels: Tensor, noise: Tensor, features: Tensor, *, high: float, low: float, tau: float | Tensor) -> Tensor:
    """Rewrite the labels of noisy pixels; all pixels at once, each looking at its neighbours' labels before the change.

    Where noise > high (R_h), Eq. (19): 0 if some neighbour's similarity is below tau, else 255.
    Where low < noise < high (R_u), Eq. (21): 0 if some neighbour's similarity is below tau, else the label of the most
    similar neighbour (the first of up, down, left, right at a tie; its label counts even if it is 255).
    Everywhere else, at equality with a threshold too, the label stays. A neighbour off the image takes no part.

    Args:
        labels: (B, h, w) int64: 0, 1..C, 255.
        noise: (B, h, w) in [0, 1], from `gmm.noise_probability`.
        features: (B, D, h, w) at the same places.
        high, low: theta_h >= theta_l in [0, 1].
        tau: similarity threshold in [-1, 1], or one of each image (B,).
    Returns:
        (B, h, w) int64, a new tensor.
    Raises:
        ValueError: unless 0 <= low <= high <= 1, or when the grids differ.
    Source: the paper, Eq. 19 and 21.
    """
    if not labels.shape == noise.shape == features.shape[:1] + features.shape[2:]:
        raise ValueError(
            f"grids differ: labels {tuple(labels.shape)}, noise {tuple(noise.shape)}, features {tuple(features.shape)}"
        )
    tau = torch.as_tensor(tau, dtype=torch.float32, device=features.device).expand(len(labels))
    corrected = torch.empty_like(labels)
    images = max(1, BLOCK // (len(NEIGHBOURS) * max(1, labels.shape[1:].numel())))  # at a time
    for some in (slice(first, first + images) for first in range(0, len(labels), images)):
        similarity = neighbour_similarity(features[some])
        rule = rules(noise[some], similarity, high=high, low=low, tau=tau[some])
        corrected[some] = rewritten(labels[some], rule, similarity)
    return corrected


def rewritten(labels: Tensor, rule: Tensor, similarity: Tensor, *, copy_from: Copied = "any") -> Tensor:
    """Labels under the rules that apply to them, all at once.

    Args:
        labels: (B, h, w) int64: 0, 1..C, 255.
        rule: (B, h, w) int64, from `rules`.
        similarity: (B, 4, h, w), from `neighbour_similarity`.
        copy_from: "labelled" copies from the most similar neighbour that has a label, if one has, so that what was 255 is filled.
    Returns:
        (B, h, w) int64, a new tensor.
    """
    copied = _copied(similarity, _shifted(labels, fill=255), copy_from)  # 255 where no neighbour exists at all
    return _ruled(rule, labels, copied)


def rewritten_in_turn(labels: Tensor, rule: Tensor, similarity: Tensor, *, copy_from: Copied = "any") -> Tensor:
    """`rewritten`, but place by place in the order of reading: each sees what those above and to its left have become.

    Arguments and result are those of `rewritten`. A label can pass over many places at once.
    """
    height, width = labels.shape[1:]
    now = F.pad(labels, (1, 1, 1, 1), value=255)
    for y in range(1, height + 1):
        for x in range(1, width + 1):
            around = torch.stack([now[:, y - 1, x], now[:, y + 1, x], now[:, y, x - 1], now[:, y, x + 1]], 1)  # (B, 4)
            copied = _copied(similarity[:, :, y - 1, x - 1], around, copy_from)
            now[:, y, x] = _ruled(rule[:, y - 1, x - 1], now[:, y, x], copied)
    return now[:, 1:-1, 1:-1]


def _ruled(rule: Tensor, labels: Tensor, copied: Tensor) -> Tensor:
    """Labels by the number of the rule; all of one shape."""
    left = torch.where(rule == 4, copied, torch.where(rule == 2, 255, labels))
    return torch.where((rule == 1) | (rule == 3), 0, left)
