"""Class activation maps and the labels read off them (Eq. 1-3)."""

import torch
import torch.nn.functional as F
from torch import Tensor

IGNORE = 255  # the label of what is not to be learnt from, in every label map of the package


def evidence(tokens: Tensor, weight: Tensor) -> Tensor:
    """How loud each token (B, D, h, w) says each class of a classifier's weights (C, D): (B, C, h, w), any range."""
    return torch.einsum("bdhw,cd->bchw", tokens, weight)


def class_activation_map(tokens: Tensor, weight: Tensor, *, subtract_minimum: bool = False) -> Tensor:
    """Where each class is seen: the classifier's weights applied to every token, scaled to [0, 1] per image and class.

    Eq. (1); with a middle layer's tokens and the auxiliary classifier's weights Eq. (2).

    Args:
        tokens: patch tokens (B, D, h, w).
        weight: the classifier's weights (C, D), one row a class, no bias.
        subtract_minimum: take the smallest activation of each map off before dividing (as ToCo does); the paper's
            Eq. 1 does not, and a map that is positive everywhere then stays flat.
    Returns:
        (B, C, h, w) in [0, 1], 1 where a class is seen most; all zero for a class that no token activates. Activations that
        overflow their type are not handled.
    Source: the paper, Eq. 1-2; Zhou et al. 2016; Ru et al. 2023.
    """
    return to_unit_range(evidence(tokens, weight).relu(), subtract_minimum=subtract_minimum)


def to_unit_range(activation: Tensor, *, subtract_minimum: bool) -> Tensor:
    """Activations (B, C, h, w), none negative, divided by the largest of each image and class, on request without the smallest."""
    if subtract_minimum:
        activation = activation - activation.amin((-2, -1), keepdim=True)
    peak = activation.amax((-2, -1), keepdim=True)  # (B, C, 1, 1)
    return activation / torch.where(peak == 0, 1, peak)  # a flat map without its minimum is 0, and so its gradient stays finite


def tagged(cam: Tensor, tags: Tensor) -> Tensor:
    """The maps of the classes that the tags name; zero for all others. cam (B, C, h, w), tags (B, C) in {0, 1}."""
    return cam * tags[:, :, None, None].to(cam.dtype)


def present(cam: Tensor, tags: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The maps of the classes that some image's tags name, as many an image as the image with most tags has.

    cam (B, C, h, w), tags (B, C) in {0, 1} -> maps (B, T, h, w), their tags (B, T), and (B, 1 + T) int64, which label map t is:
    0 for the background, then the class's number, counted from 1. Classes stay in their order; T is at least 1.
    """
    count = max(1, int(tags.sum(1).max())) if len(tags) else 1
    chosen = tags.argsort(dim=1, descending=True, stable=True)[:, :count]  # (B, T)
    maps = cam.gather(1, chosen[:, :, None, None].expand(-1, -1, *cam.shape[-2:]))
    return maps, tags.gather(1, chosen), F.pad(chosen + 1, (1, 0))


def patch_labels(cam: Tensor, tags: Tensor, low: float, high: float) -> Tensor:
    """Label what a map is sure of: the strongest tagged class above `high`, background below `low`, else 255.

    Eq. (3), per class as ToCo does (the paper writes the two-valued case: foreground 1, background 0).

    Args:
        cam: (B, C, h, w) in [0, 1].
        tags: (B, C), 1 where the class is in the image.
        low, high: thresholds beta_l < beta_h in (0, 1); at equality with either the label is 255.
    Returns:
        (B, h, w) int64: 0 background, c + 1 for class c, 255 neither.
    Raises:
        ValueError: unless 0 <= low <= high <= 1.
    Source: the paper, Eq. 3; Ru et al. 2023.
    """
    if not 0 <= low <= high <= 1:
        raise ValueError(f"thresholds must satisfy 0 <= low <= high <= 1, got low={low}, high={high}")
    confidence, winner = tagged(cam, tags).max(1)  # both (B, h, w)
    labels = torch.full_like(winner, IGNORE)
    labels = torch.where(confidence > high, winner + 1, labels)
    return torch.where(confidence < low, 0, labels)
