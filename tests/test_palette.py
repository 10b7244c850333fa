"""VOC's colour map, against colours that everybody knows."""

import numpy as np
import pytest

from dsgc.data.palette import voc_palette

KNOWN = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 15: (192, 128, 128), 20: (0, 64, 128), 255: (224, 224, 192)}


@pytest.mark.parametrize("label", KNOWN)
def test_known_colours(label):
    assert tuple(int(value) for value in voc_palette()[label]) == KNOWN[label]


def test_every_label_has_its_own_colour():
    palette = voc_palette()
    assert palette.shape == (256, 3) and palette.dtype == np.uint8
    assert len(np.unique(palette, axis=0)) == 256
