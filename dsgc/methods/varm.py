"""TSCD's refinement by the image: as the pixel-adaptive one, but a neighbour counts less where the image changes around it.

Like that one it is linear in the maps and its weights sum to 1; unlike there a few weights may be a little below 0.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from dsgc.refine import averaged, neighbours

COLOUR_FACTOR = 4.0  # of a neighbour's difference in units of the local standard deviation
VARIATION_SHARE = 0.01  # weight of the variation


@torch.no_grad()
def variation(images: Tensor) -> Tensor:
    """How much images (B, 3, h, w) change from a pixel to the next one down and the next one across, squared: (B, h, w), >= 0.

    The last row has no next one down, the last column none across: there that part is 0.
    Source: Xu et al. 2023 (TSCD), its code.
    """
    down = F.pad(images.diff(dim=-2), (0, 0, 0, 1))
    across = F.pad(images.diff(dim=-1), (0, 1))
    return (down.square() + across.square()).mean(1)


@torch.no_grad()
def weights(images: Tensor, dilations: Sequence[int]) -> Tensor:
    """How much each neighbour counts at each pixel: (B, 3, h, w) images in [0, 1] -> (B, n, h, w), summing to 1 over n.

    A softmax of minus the squared difference of colour, less a hundredth of a softmax of the variation at the neighbour. Those who
    published it leave the sum at 0.99; here it is divided by that, so that a map keeps its level. What lies outside an image
    is its nearest pixel.
    Source: Xu et al. 2023 (TSCD), its code.
    """
    around = torch.stack(neighbours(images, dilations), 2)  # (B, 3, n, h, w)
    apart = COLOUR_FACTOR * (around - images[:, :, None]) / (around.std(2, keepdim=True) + 1e-8)
    changes = torch.cat(neighbours(variation(images)[:, None], dilations), 1)  # (B, n, h, w)
    found = (-apart.square().mean(1)).softmax(1) - VARIATION_SHARE * changes.softmax(1)
    return found / (1 - VARIATION_SHARE)


@torch.no_grad()
def refine(maps: Tensor, images: Tensor, *, dilations: Sequence[int], iterations: int) -> Tensor:
    """Average each map over its neighbours with `weights`, `iterations` times.

    Args:
        maps: (B, C, h, w), any range.
        images: (B, 3, h, w) in [0, 1], at the maps' resolution.
        dilations: distances in pixels at which the eight neighbours are taken.
        iterations: number of averagings; 0 returns the maps as they are.
    Returns:
        (B, C, h, w).
    Source: Xu et al. 2023 (TSCD), its code.
    """
    return averaged(maps, weights(images.to(maps.dtype), dilations), dilations, iterations) if iterations else maps
