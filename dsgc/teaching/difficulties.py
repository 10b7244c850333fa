"""Drawn pictures with one difficulty each.

Every picture has two things, so that they can touch. The same seed gives the same background and, where nothing forces another
place, the same things in the same place, whatever the dials.
"""

import numpy as np
import torch
import torch.nn.functional as F

from dsgc.data import scenes, shapes
from dsgc.data.scenes import DIALS, EASY, KINDS, Dials
from dsgc.scoring.parts import Pictures

TRAIN = 0  # the split whose tags may be wrong
ALONE = {  # a dial each, all others at 0; a picture in which the difficulty is possible has it
    "none": EASY,
    "body": EASY._replace(body=DIALS.body),
    "ground": EASY._replace(grounds=1),
    "touching": EASY._replace(touching=1),
    "small": EASY._replace(small=1),
    "wrong tag": EASY._replace(wrong_tags=1),
}


def drawn(dials: Dials, count: int, seed: int = 1) -> Pictures:
    """So many new pictures of the embedded kinds, two things each; the data set itself has seed 0."""
    made = [scenes.scene(np.random.default_rng((seed, TRAIN, number)), KINDS, 2, dials) for number in range(count)]
    said = [shapes.tags((seed, TRAIN, number), one.placed, dials) for number, one in enumerate(made)]
    tags = torch.stack([F.one_hot(torch.tensor(kinds), len(KINDS)).amax(0) for kinds in said]).float()
    labels = [np.array([0, *(kind + 1 for kind in one.placed)])[one.instances] for one in made]
    images, parts = (np.stack([getattr(one, name) for one in made]) for name in ("image", "parts"))
    images = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    return Pictures(images, tags, torch.from_numpy(np.stack(labels)), torch.from_numpy(parts).long())
