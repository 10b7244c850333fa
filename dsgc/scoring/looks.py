"""One picture under a network: what one or several looks at it make of the classes, and the labels that come of that.

`predict`, the scores by a protocol and the library all see through these functions.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from dsgc.data.loading import EvalItem, ImageItem
from dsgc.data.palette import voc_palette
from dsgc.network.vit import Network, fitted, rescaled
from dsgc.runs.checkpoint import Checkpoint
from dsgc.runs.record import note
from dsgc.runs.restore import load_networks
from dsgc.scoring.evaluate import chosen
from dsgc.scoring.protocols import TestTime

MERGED = {  # by `TestTime.merge`: what is made of image and mirror image, logits (1 or 2, K, H, W), and then of two scales
    "mean": (lambda looks: looks.softmax(1).mean(0), torch.add),
    "maximum": (lambda looks: looks.sum(0), torch.maximum),
    "sum": (lambda looks: looks.amax(0), torch.add),
}


MANY, FEW = 20_000, 4_000  # patches of a picture: what takes a ViT-B minutes on a CPU, and what does not


def heavy(name: str, size: tuple[int, int], patch: int, scales: Sequence[float] = (1.0,)) -> str:
    """Words on a picture of (height, width) with so many patches that somebody may wonder whether anything happens; empty for others."""
    patches = max(scales) ** 2 * size[0] * size[1] / patch**2
    if patches <= MANY:
        return ""
    less = max(0.01, math.floor(100 * max(scales) * math.sqrt(FEW / patches)) / 100)
    return (
        f"{name} ({size[1]} x {size[0]}): {patches:,.0f} patches see each other, which may take long (twice the side, up to 16 times); "
        f"scale such pictures down, or look at them smaller: --scales {less:g}"
    )


def told(
    batches: Iterable[Sequence[EvalItem | ImageItem]], patch: int, scales: Sequence[float], *, speaks: bool
) -> Iterator[Sequence[EvalItem | ImageItem]]:
    """Batches as they come, each of pictures of one size; of the first that is `heavy` it is said so before, if this process speaks."""
    for items in batches:
        if speaks and (words := heavy(items[0].image_id, items[0].image.shape[-2:], patch, scales)):
            note([words], True)
            speaks = False
        yield items


class Opened(NamedTuple):
    """One network of what is stored of a run."""

    name: str
    network: Network
    saved: Checkpoint


def opened(run: str | Path, name: str = "") -> Opened:
    """The network of a name, or for "" the one whose results are reported: the method's first one of those that there are.

    Raises:
        UserError: nothing that `load_networks` takes, or it has no such network.
    """
    networks, saved = load_networks(run)
    name = name or next(known for known in saved.config.method.networks if known in networks)
    return Opened(name, chosen(run, networks, (name,))[name], saved)


def squeezed(images: Tensor, square: int) -> Tensor:
    """Images (B, 3, H, W) as squares of that side, as they are for 0; bilinear without smoothing, as ToCo and DuPL do it."""
    return F.interpolate(images, (square, square), mode="bilinear", align_corners=False) if square else images


@torch.no_grad()
def probabilities(network: Network, image: Tensor, how: TestTime) -> Tensor:
    """What all looks together make of the classes: (3, H, W) in [0, 1] -> (K, H, W) at the image's size, of sum 1."""
    size, total = image.shape[-2:], None
    of_mirror, of_scales = MERGED[how.merge]
    images = squeezed(image[None], how.square)
    for scale in how.scales:
        if how.patches == "whole":
            scaled = rescaled(images, scale, network.patch_size)
        else:
            side = [max(1, round(length * scale)) for length in images.shape[-2:]]
            scaled = fitted(F.interpolate(images, side, mode="bilinear", antialias=True), network.patch_size)
        views = torch.cat([scaled, scaled.flip(-1)]) if how.mirror else scaled
        logits = network.decode(network(views).tokens).float()
        if how.mirror:
            logits = torch.stack([logits[0], logits[1].flip(-1)])
        found = of_mirror(F.interpolate(logits, size, mode="bilinear", align_corners=False))
        total = found if total is None else of_scales(total, found)
    return total / len(how.scales) if how.merge == "mean" else total.softmax(0)


def labels_of(found: Tensor) -> np.ndarray:
    """The most probable class of each pixel: (K, H, W) -> (H, W) uint8."""
    return found.argmax(0).byte().cpu().numpy()


def as_picture(labels: np.ndarray) -> Image.Image:
    """Labels (H, W) uint8 as a picture in VOC's palette; read again, its pixels are the labels."""
    image = Image.fromarray(labels)
    image.putpalette(voc_palette().ravel().tolist())
    return image
