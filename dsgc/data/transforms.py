"""From a picture on disk to the tensor a network sees; every random number comes from the generator given."""

import math

import numpy as np
import torch
from PIL import Image
from torch import Tensor

Box = tuple[float, float, float, float]  # left, upper, right, lower, pixels


def random_crop_box(
    rng: np.random.Generator, width: int, height: int, scale: tuple[float, float], ratio: tuple[float, float]
) -> Box:
    """A box of random area (a share `scale` of the image) and random aspect (width over height in `ratio`, log-uniform).

    After ten boxes that do not fit, the largest centred box whose aspect is within `ratio`.
    """
    for _ in range(10):
        area = width * height * rng.uniform(*scale)
        aspect = math.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1])))
        w, h = math.sqrt(area * aspect), math.sqrt(area / aspect)
        if w <= width and h <= height:
            left, upper = rng.uniform(0, width - w), rng.uniform(0, height - h)
            return left, upper, left + w, upper + h
    w, h = min(width, height * ratio[1]), min(height, width / ratio[0])
    left, upper = (width - w) / 2, (height - h) / 2
    return left, upper, left + w, upper + h


def resized(image: Image.Image, size: tuple[int, int], box: Box, *, labels: bool = False) -> Image.Image:
    """The part of an image in `box`, scaled to `size` (width, height); labels are never mixed."""
    return image.resize(size, Image.Resampling.NEAREST if labels else Image.Resampling.BILINEAR, box=box)


def to_tensor(image: Image.Image) -> Tensor:
    """RGB picture -> (3, H, W) uint8; palette or grey picture -> (H, W) int64 labels."""
    if image.mode == "RGB":
        return torch.from_numpy(np.stack([np.asarray(band) for band in image.split()]))
    return torch.from_numpy(np.array(image)).long()  # of a copy, which torch may own
