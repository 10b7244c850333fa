"""Difficulties one at a time: each dial shows in the pictures, and in no other way."""

import matplotlib.colors
import pytest
import torch

from dsgc.data.scenes import EASY
from dsgc.scoring.parts import PARTS, found
from dsgc.teaching import difficulties, panels
from dsgc.teaching.difficulties import ALONE

COUNT = 12


@pytest.fixture(scope="module")
def drawn():
    return {name: difficulties.drawn(dials, COUNT) for name, dials in ALONE.items()}


def truly(pictures):
    """The tags that the masks show."""
    return torch.stack([(pictures.masks == label + 1).flatten(1).any(1) for label in range(pictures.tags.shape[1])], 1).float()


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


def test_the_truth_finds_all_of_a_thing_and_nothing_else(drawn):
    assert found(drawn["body"].masks, drawn["body"]) | {"ground": 0} == {"head": 1, "body": 1, "ground": 0, "rest": 0}


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
