"""A strong view of images: other colours, another scale; nothing moves, so that labels still fit."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.v2 import functional

from dsgc.methods import draws

LEAST, SPAN = 0.1, 1.8  # of the factors of colour, contrast, brightness and sharpness; 1 leaves an image as it is
BITS = 6  # of a channel that posterising keeps at full strength

CHANGES: tuple[Callable[[Tensor, float], Tensor], ...] = (  # of an image (3, H, W) in [0, 1] at a strength in [0, 1]
    lambda image, strength: functional.autocontrast(image),
    lambda image, strength: functional.equalize(image),
    lambda image, strength: functional.posterize(image, max(1, int(BITS * strength))),
    lambda image, strength: functional.adjust_saturation(image, LEAST + SPAN * strength),
    lambda image, strength: functional.adjust_contrast(image, LEAST + SPAN * strength),
    lambda image, strength: functional.adjust_brightness(image, LEAST + SPAN * strength),
    lambda image, strength: functional.adjust_sharpness(image, LEAST + SPAN * strength),
)


@torch.no_grad()
def coloured(images: Tensor, seeds: Tensor, *, times: int, strength: float) -> Tensor:
    """Images (B, 3, H, W) in [0, 1] after `times` changes, of each drawn anew, with replacement, from `CHANGES`.

    seeds: (B,) of `Part`. The strength is one and the same; what is drawn is which change, and the order.
    Source: Cubuk et al. 2020 (RandAugment); Wu et al. 2024 (DuPL), its code, has these seven.
    """
    chosen = (draws.uniform(seeds, "strong view", times) * len(CHANGES)).long().tolist()
    found = []
    with torch.autocast(images.device.type, enabled=False):  # colours in float32
        for image, numbers in zip(images, chosen, strict=True):
            for number in numbers:
                image = CHANGES[number](image, strength)
            found.append(image)
    return torch.stack(found) if found else images


def scaled(images: Tensor, scale: float, patch: int) -> Tensor:
    """Images (B, 3, H, W) at a scale, both sides the nearest multiple of the patch, at least one patch; pixels are not smoothed."""
    size = [max(1, round(scale * side / patch)) * patch for side in images.shape[-2:]]
    return F.interpolate(images, size, mode="bilinear", align_corners=False)
