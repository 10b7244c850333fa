"""Eq. 1-3: activation maps and the labels read off them."""

import oracles
import pytest
import torch

from dsgc import cam


def draw(seed, batch=2, dim=5, classes=3, height=4, width=3):
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randn(batch, dim, height, width, generator=generator)
    return tokens, torch.randn(classes, dim, generator=generator)


@pytest.mark.parametrize("subtract_minimum", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_map_equals_the_loop(seed, subtract_minimum):
    tokens, weight = draw(seed)
    expected = oracles.class_activation_map(tokens.tolist(), weight.tolist(), subtract_minimum)
    got = cam.class_activation_map(tokens, weight, subtract_minimum=subtract_minimum)
    torch.testing.assert_close(got, torch.tensor(expected), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_map_keeps_dtype_and_spans_zero_to_one(dtype):
    tokens, weight = draw(0)
    got = cam.class_activation_map(tokens.to(dtype), weight.to(dtype))
    assert got.dtype == dtype and got.shape == (2, 3, 4, 3)
    assert got.min() >= 0 and (got.amax((-2, -1)) == 1).all()


def test_class_that_no_token_activates_is_zero_with_finite_gradient():
    tokens = torch.ones(1, 2, 2, 2, requires_grad=True)
    got = cam.class_activation_map(tokens, torch.tensor([[-1.0, -1.0], [1.0, 0.0]]))
    assert (got[0, 0] == 0).all() and (got[0, 1] == 1).all()
    got.sum().backward()
    assert tokens.grad.isfinite().all()


def test_flat_positive_map_is_one_literally_and_zero_with_the_minimum_off():
    tokens, weight = torch.ones(1, 2, 3, 3), torch.ones(1, 2)
    assert (cam.class_activation_map(tokens, weight) == 1).all()
    assert (cam.class_activation_map(tokens, weight, subtract_minimum=True) == 0).all()


def test_map_ignores_the_scale_of_a_class_and_the_other_images():
    tokens, weight = draw(1)
    whole = cam.class_activation_map(tokens, weight)
    scaled = cam.class_activation_map(tokens[:1], weight * torch.tensor([[0.01], [1.0], [50.0]]))
    torch.testing.assert_close(scaled, whole[:1], rtol=1e-5, atol=1e-6)


def test_tagged_keeps_tagged_maps_and_clears_the_others():
    maps = torch.rand(2, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    tags = torch.tensor([[1, 0, 1], [0, 0, 0]])
    got = cam.tagged(maps, tags)
    assert torch.equal(got[0, [0, 2]], maps[0, [0, 2]])
    assert not got[0, 1].any() and not got[1].any()


@pytest.mark.parametrize("seed", range(5))
def test_patch_labels_equal_the_loop(seed):
    generator = torch.Generator().manual_seed(seed)
    maps = torch.rand(3, 4, 5, 6, generator=generator) ** 2
    tags = (torch.rand(3, 4, generator=generator) < 0.5).long()
    tags[2] = 0
    got = cam.patch_labels(maps, tags, 0.25, 0.6)
    assert got.dtype == torch.int64
    assert got.tolist() == oracles.patch_labels(maps.tolist(), tags.tolist(), 0.25, 0.6)
    assert (got[2] == 0).all()  # no tag: background everywhere


def test_patch_labels_take_the_strongest_tagged_class_only():
    maps = torch.tensor([0.9, 0.8, 0.85]).view(1, 3, 1, 1)
    assert cam.patch_labels(maps, torch.tensor([[0, 1, 1]]), 0.2, 0.7).item() == 3
    assert cam.patch_labels(maps, torch.tensor([[0, 1, 0]]), 0.2, 0.7).item() == 2
    assert cam.patch_labels(maps, torch.tensor([[0, 0, 0]]), 0.2, 0.7).item() == 0


def test_patch_labels_at_equality_with_a_threshold_are_ignored():
    maps = torch.tensor([[[[0.0, 0.25, 0.5, 0.7, 1.0]]]])
    labels = cam.patch_labels(maps, torch.ones(1, 1), 0.25, 0.7)
    assert labels.tolist() == [[[0, 255, 255, 255, 1]]]


def test_middle_band_is_empty_but_for_equality_when_the_thresholds_meet():
    labels = cam.patch_labels(torch.tensor([[[[0.4, 0.5, 0.6]]]]), torch.ones(1, 1), 0.5, 0.5)
    assert labels.tolist() == [[[0, 255, 1]]]


@pytest.mark.parametrize(("low", "high"), [(0.7, 0.3), (-0.1, 0.5), (0.5, 1.1), (float("nan"), 0.5)])
def test_thresholds_out_of_order_are_refused(low, high):
    with pytest.raises(ValueError, match="low"):
        cam.patch_labels(torch.zeros(1, 1, 2, 2), torch.ones(1, 1), low, high)


def test_present_keeps_the_tagged_maps_in_order_and_says_which_class_each_is():
    tags = torch.tensor([[0, 1, 0, 1, 0], [1, 0, 0, 0, 0], [0, 0, 0, 0, 0]])
    maps, chosen, numbers = cam.present(given := torch.rand(3, 5, 2, 3), tags)
    assert maps.shape == (3, 2, 2, 3) and chosen.tolist() == [[1, 1], [1, 0], [0, 0]]
    assert numbers[0].tolist() == [0, 2, 4] and numbers[1, :2].tolist() == [0, 1]
    assert torch.equal(maps[0], given[0, [1, 3]]) and torch.equal(maps[1, 0], given[1, 0])


@pytest.mark.parametrize("classes", [1, 7])
def test_labels_from_the_present_maps_are_those_from_all_maps(classes):
    g = torch.Generator().manual_seed(classes)
    maps = torch.rand(6, classes, 9, 9, generator=g).mul(4).round() / 4  # with ties between classes
    tags = (torch.rand(6, classes, generator=g) < 0.5).float()
    few, theirs, numbers = cam.present(maps, tags)
    labels = cam.patch_labels(few, theirs, 0.3, 0.6)
    labels = torch.where(labels == 255, 255, numbers.gather(1, labels.clamp_max(theirs.shape[1]).flatten(1)).view_as(labels))
    assert torch.equal(labels, cam.patch_labels(maps, tags, 0.3, 0.6))


def test_present_of_no_image_is_no_image():
    assert [len(part) for part in cam.present(torch.rand(0, 3, 2, 2), torch.zeros(0, 3))] == [0, 0, 0]
