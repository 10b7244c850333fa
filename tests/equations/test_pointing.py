"""The pointing game: whether the place where a class is said the loudest lies on an object of that class."""

import math

import pytest
import torch

from dsgc.metrics import PointingGame


def played(maps, tags, masks, classes=None):
    """The game after one batch."""
    game = PointingGame(classes or maps.shape[1])
    game.update(maps, tags, masks)
    return game


def draw(seed, images=6, classes=3, grid=(3, 4), patch=4, ignored=0.1):
    """Maps, tags (one in three has no pixel) and masks whose classes come in blocks, some of them smaller than a place."""
    generator = torch.Generator().manual_seed(seed)
    maps = torch.randn(images, classes, *grid, generator=generator)
    size = [side * patch for side in grid]
    coarse = torch.randint(0, classes + 1, (images, 1, *(side // 2 for side in size)), generator=generator)
    masks = coarse.repeat_interleave(2, -2).repeat_interleave(2, -1)[:, 0]  # (B, H, W)
    masks[torch.rand(masks.shape, generator=generator) < 0.5] = 0
    for image in range(images):  # now and then one class is not there
        masks[image][masks[image] == image % (classes + 2)] = 0
    masks[torch.rand(masks.shape, generator=generator) < ignored] = 255
    tags = (torch.rand(images, classes, generator=generator) < 0.7).float()
    return maps, tags, masks


def by_loop(maps, tags, masks, patch):
    """(hits, shown) by class: place by place and pixel by pixel, on lists."""
    classes = len(tags[0])
    hits, shown = [0] * classes, [0] * classes
    for image, mask in zip(range(len(masks)), masks, strict=True):
        for label in range(classes):
            pixels = [(y, x) for y, row in enumerate(mask) for x, value in enumerate(row) if value == label + 1]
            if tags[image][label] and pixels:
                places = {(y, x): value for y, row in enumerate(maps[image][label]) for x, value in enumerate(row)}
                loudest = max(places, key=places.get)
                shown[label] += 1
                hits[label] += loudest in {(y // patch, x // patch) for y, x in pixels}
    return hits, shown


@pytest.mark.parametrize("seed", range(8))
def test_the_game_equals_the_loop(seed):
    maps, tags, masks = draw(seed)
    game = played(maps, tags, masks)
    hits, shown = by_loop(maps.tolist(), tags.tolist(), masks.tolist(), 4)
    assert (game.hits.tolist(), game.shown.tolist()) == (hits, shown)
    assert sum(shown) > 5 and 0 < sum(hits) < sum(shown)
    expected = [h / s if s else math.nan for h, s in zip(hits, shown, strict=True)]
    assert game.by_class() == pytest.approx(expected, nan_ok=True)


MASK = torch.zeros(1, 8, 8, dtype=torch.int64)  # 2 x 2 places of 4 x 4 pixels
MASK[0, :4, :4] = 1  # the first place
MASK[0, 7, 7] = 2  # one pixel of the last


def pointing_at(*places):
    """Maps (1, C, 2, 2), each the loudest at its place."""
    maps = torch.zeros(1, len(places), 4)
    for label, place in enumerate(places):
        maps[0, label, place] = 1.0
    return maps.view(1, len(places), 2, 2)


@pytest.mark.parametrize(
    ("places", "hits"), [((0, 3), [1, 1]), ((1, 3), [0, 1]), ((3, 0), [0, 0]), ((0, 2), [1, 0])], ids=str
)
def test_hand_values(places, hits):
    """One pixel of the class is enough; a place on another class is no hit."""
    game = played(pointing_at(*places), torch.ones(1, 2), MASK)
    assert game.hits.tolist() == hits and game.shown.tolist() == [1, 1] and game.by_class() == hits


def test_a_class_without_a_tag_does_not_count():
    game = played(pointing_at(0, 3), torch.tensor([[1.0, 0.0]]), MASK)
    assert game.shown.tolist() == [1, 0] and game.by_class()[0] == 1 and math.isnan(game.by_class()[1])


def test_a_tag_of_which_no_pixel_is_there_does_not_count():
    """As a wrong one: there is no place that would be right."""
    game = played(pointing_at(0, 3, 1), torch.ones(1, 3), MASK)
    assert game.hits.tolist() == [1, 1, 0] and game.shown.tolist() == [1, 1, 0]


@pytest.mark.parametrize("label", [0, 255], ids=["background", "ignored"])
def test_background_and_ignored_pixels_are_of_no_class(label):
    mask = MASK.clone()
    mask[mask == 2] = label
    game = played(pointing_at(0, 3), torch.ones(1, 2), mask)
    assert game.hits.tolist() == [1, 0] and game.shown.tolist() == [1, 0]


def test_ignored_pixels_beside_an_object_leave_it_a_hit():
    mask = MASK.clone()
    mask[0, :3, :4] = 255
    assert played(pointing_at(0, 3), torch.ones(1, 2), mask).hits.tolist() == [1, 1]


def test_what_other_images_show_does_not_help():
    """Each map is held against the mask of its own image."""
    maps, masks = torch.cat([pointing_at(0, 3), pointing_at(3, 0)]), torch.cat([MASK, MASK.flip(1, 2)])
    game = played(maps, torch.ones(2, 2), masks)
    assert game.hits.tolist() == [2, 2]
    assert played(maps.flip(0), torch.ones(2, 2), masks).hits.tolist() == [0, 0]


@pytest.mark.parametrize("size", [1, 2, 5])
def test_several_batches_are_one(size):
    maps, tags, masks = draw(11)
    whole, parts = played(maps, tags, masks), PointingGame(3)
    for batch in zip(maps.split(size), tags.split(size), masks.split(size), strict=True):
        parts.update(*batch)
    assert torch.equal(whole.hits, parts.hits) and torch.equal(whole.shown, parts.shown)


def test_masks_of_another_size_may_follow():
    """A set's pictures need not be alike large; a place is then of another size."""
    game = played(pointing_at(0, 3), torch.ones(1, 2), MASK)
    game.update(pointing_at(0, 3), torch.ones(1, 2), MASK.repeat_interleave(3, 1).repeat_interleave(2, 2))
    assert game.hits.tolist() == game.shown.tolist() == [2, 2]


def test_a_shift_or_a_scale_of_a_map_changes_nothing():
    maps, tags, masks = draw(3)
    scales = torch.tensor([0.1, 3.0, 20.0])[:, None, None]
    assert torch.equal(played(maps, tags, masks).hits, played(maps * scales - 7, tags, masks).hits)


def test_nothing_played_is_no_score():
    assert all(map(math.isnan, PointingGame(3).by_class()))
    none = played(torch.zeros(2, 3, 2, 2), torch.zeros(2, 3), torch.zeros(2, 8, 8, dtype=torch.int64))
    assert none.shown.sum() == 0 and all(map(math.isnan, none.by_class()))


def test_batches_are_left_as_they_are_and_memory_does_not_grow_with_them():
    given = draw(5)
    before = [tensor.clone() for tensor in given]
    game = played(*given)
    sizes = [(name, value.shape, value.dtype) for name, value in vars(game).items()]
    for _ in range(3):
        game.update(*given)
    assert [(name, value.shape, value.dtype) for name, value in vars(game).items()] == sizes
    assert all(map(torch.equal, before, given)) and len(sizes) == 2
