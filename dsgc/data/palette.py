"""The PASCAL VOC colour map: the colour of a label is its bits, spread over red, green and blue."""

import numpy as np


def voc_palette() -> np.ndarray:
    """Colours (256, 3) uint8 of the labels 0..255; 0 is black, 255 (ignore) the cream of VOC's borders."""
    labels = np.arange(256)
    colours = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):  # bits 0, 3, 6 make red, 1, 4, 7 green, 2, 5 blue; the lowest bits weigh most
            colours[:, channel] |= (((labels >> (3 * bit + channel)) & 1) << (7 - bit)).astype(np.uint8)
    return colours


def coloured(labels: np.ndarray) -> np.ndarray:
    """(H, W) labels 0..255, an array or a tensor -> (H, W, 3) uint8."""
    return voc_palette()[np.asarray(labels)]
