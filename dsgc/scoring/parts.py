"""What a map or a mask finds of a thing's parts on drawn pictures: what no real data set can tell, for none has masks of parts."""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dsgc.data import shapes
from dsgc.data.labels import read_labels
from dsgc.data.loading import EvalImages
from dsgc.data.scenes import BODY, GROUND, HEAD
from dsgc.scoring.evaluate import collate

PARTS = {"head": HEAD, "body": BODY, "ground": GROUND, "rest": 0}


class Pictures(NamedTuple):
    """Pictures of one size and all that is true of them."""

    images: Tensor  # (B, 3, H, W) in [0, 1]
    tags: Tensor  # (B, C) in {0, 1}, as they are said
    masks: Tensor  # (B, H, W) int64, 0 for background, c + 1 for class c
    parts: Tensor  # (B, H, W) int64, the values of `PARTS`


def held_out(dataset: EvalImages) -> Pictures:
    """All pictures of a split of the embedded data, as they lie on disk."""
    images, tags, masks = collate([dataset[index] for index in range(len(dataset))], "cpu")
    folder = dataset.folder.root / shapes.PARTS
    parts = [np.asarray(read_labels(folder / f"{image_id}.png", GROUND)) for image_id in dataset.folder.ids]
    return Pictures(images, tags, masks.long(), torch.from_numpy(np.stack(parts)).long())


def of_class(pictures: Pictures, number: int) -> Pictures:
    """The same pictures with the tags and the parts of class `number` alone, in 0...C - 1; other things and grounds are no part."""
    tags = pictures.tags * F.one_hot(torch.tensor(number), pictures.tags.shape[1])
    return pictures._replace(tags=tags, parts=torch.where(pictures.masks == number + 1, pictures.parts, -1))


def found(labels: Tensor, pictures: Pictures) -> dict[str, float]:
    """By part, the share of its pixels that labels (B, H, W) call a thing, in [0, 1]; NaN for a part that no picture shows.

    Of heads and bodies it must be the right class; of grounds and of the rest any class counts, and is an error.
    """
    named = torch.where(pictures.masks > 0, labels == pictures.masks, labels > 0).float()
    return {name: float(named[pictures.parts == value].mean()) for name, value in PARTS.items()}


def loudest(maps: Tensor, pictures: Pictures) -> dict[str, float]:
    """Where a tagged class is said the loudest in maps (B, C, h, w): by part, the share of the tags whose class is in the picture.

    A place counts for the first of these that any pixel of it shows: the class's head, its body, another thing, a ground, the rest.
    """
    shown = F.one_hot(pictures.masks.flatten(1), maps.shape[1] + 1).amax(1)[:, 1:]  # (B, C)
    image, label = (pictures.tags * shown).nonzero(as_tuple=True)  # (P,) pairs of an image and one of its tags
    masks, parts = pictures.masks[image], pictures.parts[image]
    own = masks == label[:, None, None] + 1
    regions = {
        "head": own & (parts == HEAD),
        "body": own & (parts == BODY),
        "another thing": (masks > 0) & ~own,
        "ground": parts == GROUND,
        "rest": torch.ones_like(own),
    }
    touched = F.adaptive_max_pool2d(torch.stack([*regions.values()], 1).float(), maps.shape[-2:]).flatten(2)  # (P, 5, h w)
    place = maps[image, label].flatten(1).argmax(1)
    first = touched[torch.arange(len(place)), :, place].argmax(1)  # of equal ones the first
    return dict(zip(regions, F.one_hot(first, len(regions)).float().mean(0).tolist(), strict=True))


def chance(pictures: Pictures, places: tuple[int, int]) -> float:
    """The share of a grid of so many places that touches an object of a tagged class, in [0, 1]: where chance would point."""
    image, label = pictures.tags.nonzero(as_tuple=True)
    own = (pictures.masks[image] == label[:, None, None] + 1).float()
    return float(F.adaptive_max_pool2d(own[:, None], places).mean())
