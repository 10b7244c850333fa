"""VOC's colour map, against colours that everybody knows."""

import numpy as np
import pytest
import torch

from dsgc.data.palette import coloured, voc_palette

KNOWN = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 15: (192, 128, 128), 20: (0, 64, 128), 255: (224, 224, 192)}


@pytest.mark.parametrize("label", KNOWN)
def test_known_colours(label):
    assert tuple(int(value) for value in voc_palette()[label]) == KNOWN[label]


def test_every_label_has_its_own_colour():
    palette = voc_palette()
    assert palette.shape == (256, 3) and palette.dtype == np.uint8
    assert len(np.unique(palette, axis=0)) == 256


@pytest.mark.parametrize("kind", [np.array, torch.tensor])
def test_a_label_map_takes_the_colour_of_each_label(kind):
    picture = coloured(kind([[0, 1, 2], [15, 20, 255]]))
    assert picture.shape == (2, 3, 3) and picture.dtype == np.uint8
    assert [tuple(map(int, pixel)) for pixel in picture.reshape(-1, 3)] == list(KNOWN.values())
