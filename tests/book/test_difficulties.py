"""Difficulties one at a time: each dial shows in the pictures, and heads, bodies and grounds are counted as they lie."""

import matplotlib.colors
import numpy as np
import pytest
import torch
from PIL import Image

from dsgc.data import shapes
from dsgc.data.loading import EvalImages
from dsgc.data.scenes import EASY
from dsgc.data.split import open_split
from dsgc.teaching import difficulties, panels
from dsgc.teaching.difficulties import ALONE, PARTS, Pictures

COUNT = 12


@pytest.fixture(scope="module")
def drawn():
    return {name: difficulties.drawn(dials, COUNT) for name, dials in ALONE.items()}


def truly(pictures):
    """The tags that the masks show."""
    return torch.stack([(pictures.masks == label + 1).flatten(1).any(1) for label in range(pictures.tags.shape[1])], 1).float()


def made(masks, parts, tags):
    """Pictures of which only masks, parts and tags matter."""
    masks, parts = torch.tensor([masks]), torch.tensor([parts])
    return Pictures(torch.zeros(1, 3, *masks.shape[1:]), torch.tensor([tags]).float(), masks, parts)


def test_each_dial_is_turned_up_alone_and_turns_one_value():
    for name, dials in ALONE.items():
        assert sum(one != other for one, other in zip(dials, EASY, strict=True)) == (name != "none")


def test_each_difficulty_shows_and_no_other(drawn):
    for name, pictures in drawn.items():
        assert bool((pictures.parts == PARTS["body"]).any()) == (name == "body")
        assert bool((pictures.parts == PARTS["ground"]).any()) == (name == "ground")
        assert torch.equal(pictures.tags, truly(pictures)) == (name != "wrong tag")
        assert torch.equal(pictures.masks > 0, (pictures.parts == PARTS["head"]) | (pictures.parts == PARTS["body"]))
    assert not (drawn["wrong tag"].tags == truly(drawn["wrong tag"])).all(1).any()
    area = {name: float((pictures.masks > 0).float().mean()) for name, pictures in drawn.items()}
    assert area["small"] < 0.5 * area["none"]


def test_the_same_seed_gives_the_same_pictures_and_another_one_others(drawn):
    again, other = difficulties.drawn(EASY, COUNT), difficulties.drawn(EASY, COUNT, seed=2)
    assert torch.equal(again.images, drawn["none"].images) and not torch.equal(other.images, again.images)


def test_pictures_of_a_split_are_those_on_disk(tmp_path):
    folder = shapes.write(tmp_path / "data", sizes={"train": 1, "val": 3})
    held = difficulties.held_out(EvalImages(open_split(str(folder), "val")))
    for number, name in enumerate(f"val_{i:05d}" for i in range(3)):
        drawn = shapes.picture((0, 1, number))
        np.testing.assert_array_equal(held.parts[number], drawn.parts)
        np.testing.assert_array_equal(held.masks[number], np.asarray(Image.open(folder / f"SegmentationClass/{name}.png")))
        pixels = held.images[number].mul(255).round().byte().permute(1, 2, 0)
        np.testing.assert_array_equal(pixels, np.asarray(Image.open(folder / f"JPEGImages/{name}.jpg")))


def test_found_counts_heads_and_bodies_by_class_and_the_rest_by_any():
    pictures = made([[2, 2, 2, 2], [0, 0, 0, 0]], [[1, 1, 2, 2], [3, 3, 0, 0]], [0, 1])
    labels = torch.tensor([[[2, 1, 2, 0], [1, 0, 0, 0]]])
    assert difficulties.found(labels, pictures) == {"head": 0.5, "body": 0.5, "ground": 0.5, "rest": 0}
    assert np.isnan(difficulties.found(labels, pictures._replace(parts=torch.zeros_like(pictures.parts)))["head"])


def test_the_truth_finds_all_of_a_thing_and_nothing_else(drawn):
    assert difficulties.found(drawn["body"].masks, drawn["body"]) | {"ground": 0} == {"head": 1, "body": 1, "ground": 0, "rest": 0}


@pytest.mark.parametrize(("place", "where"), list(enumerate(["head", "body", "another thing", "ground", "rest"])))
def test_the_loudest_place_is_named_by_what_it_shows(place, where):
    pictures = made([[1, 1, 2, 0, 0]], [[1, 2, 1, 3, 0]], [1, 0])
    maps = torch.zeros(1, 2, 1, 5)
    maps[0, 0, 0, place] = 1
    maps[0, 1] = 9  # of a class that is not tagged
    told = difficulties.loudest(maps, pictures)
    assert list(told) == ["head", "body", "another thing", "ground", "rest"]
    assert {name for name, share in told.items() if share} == {where} and told[where] == 1


def test_a_place_of_several_pixels_counts_for_the_first_it_shows_and_tags_without_an_object_do_not():
    pictures = made([[1, 1, 0, 0]], [[2, 1, 0, 0]], [1, 1])
    maps = torch.tensor([[[[1.0, 0]], [[0, 1.0]]]])  # (1, C, 1, 2); the second class is not there
    assert difficulties.loudest(maps, pictures)["head"] == 1


def test_chance_is_the_share_of_places_that_touch_an_object():
    pictures = made([[1, 0, 0, 0, 0, 0, 0, 0]], [[1, 0, 0, 0, 0, 0, 0, 0]], [1, 0])
    assert difficulties.chance(pictures, (1, 4)) == 0.25


def test_a_grid_of_parts_has_a_column_for_each_picture(drawn):
    shown = {
        name: (of.images[0].permute(1, 2, 0), of.masks[0], of.parts[0], torch.rand(of.masks[0].shape)) for name, of in drawn.items()
    }
    figure = panels.part_grid(shown, PARTS, "abcdef")
    grid = [axis for axis in figure.axes if axis.images and axis.get_label() != "<colorbar>"]
    assert len(grid) == 4 * len(shown) and [axis.get_title() for axis in grid[: len(shown)]] == list(shown)
    colours = grid[2 * len(shown)].images[0]
    for name, value in PARTS.items():
        assert colours.cmap(colours.norm(value)) == pytest.approx(matplotlib.colors.to_rgba(panels.PART_COLOURS[name]))
