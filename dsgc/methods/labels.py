"""What methods that learn from tags share: CAM, the initial pseudo label, the decoder's loss, and labels on another grid."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from dsgc import cam, objective, refine
from dsgc.cam import IGNORE
from dsgc.methods.contract import Mean
from dsgc.network.vit import Network, rescaled


class Initial(NamedTuple):
    """A pseudo label by two thresholds. H' x W' is the image divided by the stride."""

    confidence: Tensor  # (B, H', W') strongest tagged activation after refinement, in [0, 1]
    labels: Tensor  # (B, H', W') int64: 0, 1..C, 255 between the thresholds
    strongest: Tensor  # (B, H', W') int64, which of the classes 1..C that is


@torch.no_grad()
def activation(tokens: Tensor, weight: Tensor, *, subtract_minimum: bool) -> Tensor:
    """The class activation map of tokens (B, D, h, w) under a classifier's weight (C, D): (B, C, h, w) in [0, 1]."""
    with torch.autocast(tokens.device.type, enabled=False):  # in float32, whatever precision the networks have
        return cam.class_activation_map(tokens.float(), weight.float(), subtract_minimum=subtract_minimum)


@torch.no_grad()
def activation_over_scales(
    network: Network, images: Tensor, scales: Sequence[float], *, mirror: bool, subtract_minimum: bool
) -> Tensor:
    """The class activation map over several scales of images (B, 3, H, W), at their size: (B, C, H, W) in [0, 1].

    As ToCo makes it: the classifier's output on the tokens of each scale, brought to the images' size; of image and mirror
    image the larger; what is negative made 0; the sum over the scales; then the division of Eq. 1.
    Source: Ru et al. 2023, code.
    """
    weight, total = network.patch_classifier.weight, None
    for scale in scales:
        looks = rescaled(images, scale, network.patch_size)
        tokens = network(torch.cat([looks, looks.flip(-1)]) if mirror else looks).tokens
        with torch.autocast(tokens.device.type, enabled=False):  # in float32 at least, whatever precision the networks have
            maps = cam.evidence(tokens.to(weight.dtype), weight)
        maps = F.interpolate(maps, images.shape[-2:], mode="bilinear", align_corners=False)
        if mirror:
            maps = torch.maximum(maps[: len(images)], maps[len(images) :].flip(-1))
        total = maps.relu() if total is None else total + maps.relu()
    return cam.to_unit_range(total, subtract_minimum=subtract_minimum)


@torch.no_grad()
def initial(
    images: Tensor,
    maps: Tensor,
    tags: Tensor,
    *,
    low: float,
    high: float,
    stride: int,
    dilations: Sequence[int],
    iterations: int,
    by: Callable[..., Tensor] = refine.refine,
) -> Initial:
    """CAM -> refinement by the picture's colours -> label by two thresholds.

    images (B, 3, H, W); maps (B, C, h, w) in [0, 1]; tags (B, C); dilations and iterations of `refine.refine`.
    by: what refines, called as that is.
    """
    size = [max(1, side // stride) for side in images.shape[-2:]]
    small = F.interpolate(images, size, mode="bilinear", antialias=True)
    maps, tags, numbers = cam.present(maps, tags)  # of T classes, not of all
    maps = F.interpolate(cam.tagged(maps, tags), size, mode="bilinear", align_corners=False)
    maps = by(maps, small, dilations=dilations, iterations=iterations)
    labels = cam.patch_labels(maps, tags, low, high)  # of 1..T
    labels = torch.where(labels == IGNORE, IGNORE, numbers.gather(1, labels.clamp_max(tags.shape[1]).flatten(1)).view_as(labels))
    confidence, winner = maps.max(1)
    return Initial(confidence, labels, numbers.gather(1, winner.flatten(1) + 1).view_as(winner))


def nearest(labels: Tensor, size: Sequence[int]) -> Tensor:
    """Labels (B, H, W) on a grid of another size, each place with the label nearest to it; never mixed."""
    return F.interpolate(labels[:, None].float(), tuple(size), mode="nearest-exact")[:, 0].long()


def segmentation(network: Network, tokens: Tensor, labels: Tensor, *, average: objective.Average) -> Mean:
    """Eq. 22 at the resolution of the labels (B, H, W), of the decoder's prediction from tokens (B, D, h, w)."""
    logits = F.interpolate(network.decode(tokens).float(), labels.shape[-2:], mode="bilinear", align_corners=False)
    return Mean(*objective.segmentation_means(logits, labels, average=average))


@torch.no_grad()
def segmented(network: Network, tokens: Tensor, size: Sequence[int]) -> Tensor:
    """The decoder's prediction at a size: (B, H, W) int64."""
    logits = F.interpolate(network.decode(tokens).float(), tuple(size), mode="bilinear", align_corners=False)
    return logits.argmax(1)


@torch.no_grad()
def by_threshold(maps: Tensor, background: float) -> Tensor:
    """The strongest class of maps (B, C, H, W), background where none is above a threshold: (B, H, W) int64."""
    strongest, winner = maps.max(1)
    return torch.where(strongest > background, winner + 1, 0)


def enlarged(map: Tensor, size: Sequence[int]) -> Tensor:
    """A map or labels (B, h, w) at a larger size, each place with the value nearest to it, float."""
    return F.interpolate(map[:, None].float(), tuple(size), mode="nearest-exact")[:, 0]


