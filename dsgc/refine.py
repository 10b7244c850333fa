"""Pixel-adaptive refinement: a map takes on the outlines of its image by averaging over similar neighbours.

After Ru et al. 2022; the paper's sources refine their pseudo labels so before any loss sees them. The averaging is
linear in the maps and its weights sum to 1, so a constant background channel stays constant: comparing refined maps with
thresholds is the same as refining such a channel along with them. Ru et al. 2023 take a softmax over the channels first, and of
that the background's channel is not constant: some labels differ (`book/parts.md` counts them).
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

COLOUR_SCALE = 0.3  # of the local standard deviation; w1 in Ru et al. 2022
POSITION_SHARE = 0.01  # weight of the position term; w2 there
DIRECTIONS = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if dy or dx]


def neighbours(maps: Tensor, dilations: Sequence[int]) -> list[Tensor]:
    """The eight neighbours of each place of maps (B, C, h, w) at each dilation, edges repeated: n views of (B, C, h, w)."""
    height, width = maps.shape[-2:]
    margin = max(dilations)
    padded = F.pad(maps, (margin,) * 4, mode="replicate")
    return [
        padded[..., margin + dy * d : margin + dy * d + height, margin + dx * d : margin + dx * d + width]
        for d in dilations
        for dy, dx in DIRECTIONS
    ]


@torch.no_grad()
def affinity(images: Tensor, dilations: Sequence[int]) -> Tensor:
    """How much each neighbour counts at each pixel: (B, 3, h, w) images -> (B, n, h, w), summing to 1 over n."""
    images = images.float()
    around = neighbours(images, dilations)
    total, square = torch.zeros_like(images), torch.zeros_like(images)
    for neighbour in around:  # differences, not values: the squares of near-equal values would not tell them apart
        apart = neighbour - images
        total += apart
        square.addcmul_(apart, apart)
    variance = (square - total.square() / len(around)).clamp_min_(0) / (len(around) - 1)  # (B, 3, h, w)
    scale = 1 / (COLOUR_SCALE * variance.sqrt() + 1e-8)
    colour = torch.stack([((neighbour - images) * scale).square_().mean(1) for neighbour in around], 1).neg_()  # (B, n, h, w)
    distance = torch.tensor([d * math.hypot(dy, dx) for d in dilations for dy, dx in DIRECTIONS], device=images.device)
    position = -(distance / (COLOUR_SCALE * distance.std())).square()  # (n,)
    weights = colour.softmax(1) + POSITION_SHARE * position.softmax(0)[:, None, None]
    return weights / (1 + POSITION_SHARE)


@torch.no_grad()
def refine(maps: Tensor, images: Tensor, *, dilations: Sequence[int] = (1, 2, 4, 8), iterations: int = 10) -> Tensor:
    """Average each map over neighbours of like colour, `iterations` times, all images and maps at once.

    Args:
        maps: (B, C, h, w), any range.
        images: (B, 3, h, w) in any linear colour scale (normalised or not) of numbers up to 1e10, at the maps' resolution.
        dilations: distances in pixels at which the eight neighbours are taken.
        iterations: number of averagings; 0 returns the maps as they are.
    Returns:
        (B, C, h, w), within the range of each input map.
    Source: Ru et al. 2022 (AFA), pixel-adaptive refinement.
    """
    return averaged(maps, affinity(images, dilations), dilations, iterations) if iterations else maps


@torch.no_grad()
def averaged(maps: Tensor, weights: Tensor, dilations: Sequence[int], iterations: int) -> Tensor:
    """Maps (B, C, h, w), each the sum of its neighbours by their weights (B, n, h, w), so many times over: (B, C, h, w)."""
    for _ in range(iterations):
        average = torch.zeros_like(maps)
        for weight, neighbour in zip(weights.unbind(1), neighbours(maps, dilations), strict=True):
            average.addcmul_(neighbour, weight[:, None])  # in place: no (B, C, n, h, w) copy
        maps = average
    return maps
