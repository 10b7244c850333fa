"""Pixel-adaptive refinement: an average over like-coloured neighbours, against a loop and by its properties."""

import oracles
import pytest
import torch

from dsgc.refine import affinity, refine


def draw(seed, batch=2, channels=3, height=5, width=6):
    generator = torch.Generator().manual_seed(seed)
    maps = torch.rand(batch, channels, height, width, generator=generator)
    return maps, torch.rand(batch, 3, height, width, generator=generator)


@pytest.mark.parametrize("dilations", [(1,), (2,), (1, 2), (1, 2, 4, 8)])
def test_affinity_equals_the_loop(dilations):
    """Dilations beyond the image are clamped to its edge."""
    _, images = draw(0)
    got = affinity(images, dilations)
    assert got.shape == (2, 8 * len(dilations), 5, 6)
    for b, image in enumerate(images.tolist()):
        for y in range(5):
            for x in range(6):
                expected = [weight for _, weight in oracles.refinement_weights(image, y, x, dilations)]
                torch.testing.assert_close(got[b, :, y, x], torch.tensor(expected), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("iterations", [1, 3, 10])
@pytest.mark.parametrize("dilations", [(1,), (1, 2, 4)])
def test_refine_equals_the_loop(dilations, iterations):
    maps, images = draw(1)
    got = refine(maps, images, dilations=dilations, iterations=iterations)
    for b in range(2):
        expected = oracles.refine(maps[b].tolist(), images[b].tolist(), dilations, iterations)
        torch.testing.assert_close(got[b], torch.tensor(expected), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("image", ["random", "constant", "black", "two halves", "one bright pixel"])
def test_affinity_is_a_distribution_over_the_neighbours(image):
    images = {
        "random": draw(2)[1],
        "constant": torch.full((1, 3, 7, 7), 0.3),
        "black": torch.zeros(1, 3, 7, 7),
        "two halves": (torch.arange(7) > 3).float().expand(1, 3, 7, 7),
        "one bright pixel": torch.eye(49)[24].view(1, 1, 7, 7).expand(1, 3, 7, 7),
    }[image]
    weights = affinity(images, (1, 2, 4, 8))
    assert (weights >= 0).all() and weights.isfinite().all()
    torch.testing.assert_close(weights.sum(1), torch.ones_like(weights[:, 0]))


@pytest.mark.parametrize("value", [0.0, 0.37, -2.0])
def test_constant_maps_stay_constant(value):
    maps = torch.full((2, 3, 5, 6), value)
    torch.testing.assert_close(refine(maps, draw(3)[1]), maps)


@pytest.mark.parametrize("seed", range(3))
def test_output_stays_within_the_range_of_each_map(seed):
    maps, images = draw(seed)
    maps = maps * torch.tensor([1.0, 10.0, 0.01])[:, None, None]
    got = refine(maps, images)
    low, high = maps.amin((-2, -1), keepdim=True), maps.amax((-2, -1), keepdim=True)
    assert (got >= low - 1e-5 * high).all() and (got <= high * (1 + 1e-5)).all()
    assert not torch.allclose(got, maps)


def test_no_iterations_is_the_identity_and_the_input_is_left_alone():
    maps, images = draw(4)
    before = maps.clone(), images.clone()
    assert torch.equal(refine(maps, images, iterations=0), maps)
    refine(maps, images)
    assert torch.equal(maps, before[0]) and torch.equal(images, before[1])


def test_iterations_compose():
    maps, images = draw(5)
    twice = refine(refine(maps, images, iterations=2), images, iterations=3)
    torch.testing.assert_close(twice, refine(maps, images, iterations=5))


def test_row_of_a_batch_and_channel_of_a_map_are_refined_alone():
    maps, images = draw(6)
    whole = refine(maps, images)
    for b in range(2):
        torch.testing.assert_close(refine(maps[b : b + 1], images[b : b + 1]), whole[b : b + 1])
    torch.testing.assert_close(refine(maps[:, 1:2], images), whole[:, 1:2])


def test_refinement_is_linear_in_the_maps():
    maps, images = draw(7)
    torch.testing.assert_close(refine(1 - 3 * maps, images), 1 - 3 * refine(maps, images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("scale", "offset"), [(255.0, 0.0), (4.0, -2.0), (1.0, 100.0)])
def test_colour_scale_does_not_matter(scale, offset):
    _, images = draw(8)
    expected = affinity(images, (1, 2))
    torch.testing.assert_close(affinity(scale * images + offset, (1, 2)), expected, rtol=1e-2, atol=1e-4)


def test_map_takes_on_the_outline_of_the_image():
    """A blob that spills two pixels over a colour edge withdraws: the far side keeps far less than the near side."""
    images = (torch.arange(16) >= 8).float().expand(1, 3, 16, 16)
    maps = torch.zeros(1, 1, 16, 16)
    maps[..., :10] = 1
    got = refine(maps, images)[0, 0].mean(0)
    assert got[:6].min() > 0.9 and got[8:10].max() < 0.5


def labels_by_channels(maps, images, *, softmax):
    """1 + the strongest map, 0 where a background channel of 0.4 everywhere wins; all channels refined together."""
    channels = torch.cat([torch.full_like(maps[:, :1], 0.4), maps], 1)
    return refine(channels.softmax(1) if softmax else channels, images).argmax(1)


def test_a_background_channel_refined_along_is_a_threshold_unless_a_softmax_mixes_it_with_the_others():
    maps, images = draw(9, height=24, width=24)
    strongest, winner = refine(maps, images).max(1)
    expected = torch.where(strongest > 0.4, winner + 1, 0)
    assert torch.equal(labels_by_channels(maps, images, softmax=False), expected)
    assert not torch.equal(labels_by_channels(maps, images, softmax=True), expected)
