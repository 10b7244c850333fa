"""Pictures in other colours, as contrastive methods look at them; each image's numbers are its own (`draws`)."""

import math

import torch
import torchvision.transforms.v2.functional as change
from torch import Tensor

NUMBERS = 13  # that `coloured` takes for an image
CHANGES = (change.adjust_brightness, change.adjust_contrast, change.adjust_saturation, change.adjust_hue)


@torch.no_grad()
def coloured(
    images: Tensor,
    numbers: Tensor,
    *,
    jitter: tuple[float, float, float, float],
    jitter_share: float,
    grey_share: float,
    blur: tuple[float, float],
    blur_share: float,
    solarised_share: float,
) -> Tensor:
    """Images (B, 3, H, W) in [0, 1] in colours that random numbers (B, 13) in [0, 1) choose: as many, of that size and range.

    In this order, of all images: the share `jitter_share` has brightness, contrast and saturation times 1 +- `jitter`, and the hue
    turned by +- `jitter` of a circle, in random order; `grey_share` loses its colours; `blur_share` is smoothed by a Gaussian with
    a standard deviation in `blur`, pixels; of `solarised_share` the light half of all values is inverted.
    Source: Caron et al. 2021 (DINO), the colours of its views; Ru et al. 2023 has them too.
    """
    found = []
    with torch.autocast(images.device.type, enabled=False):  # smoothing is a convolution, and pictures keep their precision
        for image, drawn in zip(images, numbers.tolist(), strict=True):
            jittered, greyed, smoothed, width, solarised = drawn[0], *drawn[9:]
            if jittered < jitter_share:
                image = _jittered(image, jitter, order=drawn[1:5], amounts=drawn[5:9])
            if greyed < grey_share:
                image = change.rgb_to_grayscale(image, 3)
            if smoothed < blur_share:
                image = _smoothed(image, blur[0] + (blur[1] - blur[0]) * width)
            if solarised < solarised_share:
                image = change.solarize(image, 0.5)
            found.append(image)
    return torch.stack(found)


def _jittered(image: Tensor, jitter: tuple[float, ...], *, order: list[float], amounts: list[float]) -> Tensor:
    """The four changes of an image (3, H, W), the one with the lowest number in `order` first."""
    for number in sorted(range(4), key=order.__getitem__):
        by = jitter[number] * (2 * amounts[number] - 1)
        image = CHANGES[number](image, by if CHANGES[number] is change.adjust_hue else 1 + by)
    return image


def _smoothed(image: Tensor, width: float) -> Tensor:
    """An image (3, H, W) under a Gaussian of a standard deviation, which is cut off at three times that."""
    reach = min(math.ceil(3 * width), min(image.shape[-2:]) - 1)  # mirrored at the edges, so no further than the image
    return change.gaussian_blur(image, [2 * reach + 1] * 2, [width] * 2)
