"""Crops stay inside the image and within their bounds, and labels are never mixed."""

import numpy as np
import pytest
import torch
from PIL import Image

from dsgc.data.transforms import random_crop_box, resized, to_tensor

PAPER = {"scale": (0.32, 1.0), "ratio": (3 / 4, 4 / 3)}


@pytest.mark.parametrize("size", [(500, 375), (375, 500), (128, 128), (97, 61), (3, 3)])
def test_a_crop_is_inside_the_image_with_area_and_ratio_within_bounds(size):
    rng = np.random.default_rng(0)
    for _ in range(300):
        left, upper, right, lower = random_crop_box(rng, *size, **PAPER)
        width, height = right - left, lower - upper
        assert -1e-9 <= left and right <= size[0] + 1e-9 and -1e-9 <= upper and lower <= size[1] + 1e-9
        assert 0.32 - 1e-9 <= width * height / (size[0] * size[1]) <= 1 + 1e-9
        assert 3 / 4 - 1e-9 <= width / height <= 4 / 3 + 1e-9


@pytest.mark.parametrize("size", [(400, 20), (20, 400)])
def test_where_no_box_fits_the_largest_centred_one_is_taken(size):
    left, upper, right, lower = random_crop_box(np.random.default_rng(0), *size, scale=(1, 1), ratio=(3 / 4, 4 / 3))
    assert (left + right, upper + lower) == pytest.approx(size)
    assert max((right - left) / (lower - upper), (lower - upper) / (right - left)) == pytest.approx(4 / 3)
    assert min(right - left, lower - upper) == pytest.approx(20)


def test_crops_reach_all_of_the_image_and_vary_in_size():
    rng = np.random.default_rng(0)
    boxes = np.array([random_crop_box(rng, 100, 80, **PAPER) for _ in range(500)])
    assert boxes[:, :2].min() < 2 and boxes[:, 2].max() > 98 and boxes[:, 3].max() > 78
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]) / 8000
    assert areas.min() < 0.36 and areas.max() > 0.9


@pytest.mark.parametrize("size", [(500, 375), (333, 500), (128, 128), (64, 47)])
def test_every_box_is_one_that_pillow_takes(size):
    rng = np.random.default_rng(1)
    image = Image.new("L", size)
    for _ in range(200):
        assert resized(image, (8, 8), random_crop_box(rng, *size, scale=(0.9, 1), ratio=PAPER["ratio"])).size == (8, 8)


def test_labels_are_not_mixed_but_colours_are():
    checks = np.kron([[0, 200], [200, 0]], np.ones((8, 8))).astype(np.uint8)
    box = (0.3, 0.3, 15.1, 14.7)
    labels = np.asarray(resized(Image.fromarray(checks), (11, 11), box, labels=True))
    colours = np.asarray(resized(Image.fromarray(checks), (11, 11), box))
    assert set(np.unique(labels)) == {0, 200}
    assert len(np.unique(colours)) > 2


def test_tensors_hold_the_picture_as_it_is():
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    image = to_tensor(Image.fromarray(pixels))
    assert image.dtype == torch.uint8 and image.shape == (3, 5, 7)
    assert image.permute(1, 2, 0).numpy().tolist() == pixels.tolist()


@pytest.mark.parametrize("mode", ["P", "L"])
def test_masks_become_labels_not_colours(mode):
    labels = np.array([[0, 1, 255], [20, 3, 0]], np.uint8)
    mask = Image.new(mode, (3, 2))
    if mode == "P":
        mask.putpalette(list(range(255, -1, -1)) * 3)
    mask.putdata(labels.ravel().tolist())
    tensor = to_tensor(mask)
    assert tensor.dtype == torch.int64 and tensor.tolist() == labels.tolist()
