"""Heads, bodies and grounds are counted as they lie."""

import numpy as np
import pytest
import torch
from PIL import Image

from dsgc.data import shapes
from dsgc.data.loading import EvalImages
from dsgc.data.split import open_split
from dsgc.scoring.parts import Pictures, chance, found, held_out, loudest, of_class


def made(masks, parts, tags):
    """Pictures of which only masks, parts and tags matter."""
    masks, parts = torch.tensor([masks]), torch.tensor([parts])
    return Pictures(torch.zeros(1, 3, *masks.shape[1:]), torch.tensor([tags]).float(), masks, parts)


def test_pictures_of_a_split_are_those_on_disk(tmp_path):
    folder = shapes.write(tmp_path / "data", sizes={"train": 1, "val": 3})
    held = held_out(EvalImages(open_split(str(folder), "val")))
    for number, name in enumerate(f"val_{i:05d}" for i in range(3)):
        drawn = shapes.picture((0, 1, number))
        np.testing.assert_array_equal(held.parts[number], drawn.parts)
        np.testing.assert_array_equal(held.masks[number], np.asarray(Image.open(folder / f"SegmentationClass/{name}.png")))
        pixels = held.images[number].mul(255).round().byte().permute(1, 2, 0)
        np.testing.assert_array_equal(pixels, np.asarray(Image.open(folder / f"JPEGImages/{name}.jpg")))


def test_found_counts_heads_and_bodies_by_class_and_the_rest_by_any():
    pictures = made([[2, 2, 2, 2], [0, 0, 0, 0]], [[1, 1, 2, 2], [3, 3, 0, 0]], [0, 1])
    labels = torch.tensor([[[2, 1, 2, 0], [1, 0, 0, 0]]])
    assert found(labels, pictures) == {"head": 0.5, "body": 0.5, "ground": 0.5, "rest": 0}
    assert np.isnan(found(labels, pictures._replace(parts=torch.zeros_like(pictures.parts)))["head"])


def test_the_parts_of_a_class_are_counted_without_those_of_others():
    pictures = made([[2, 2, 1, 1, 0]], [[1, 2, 1, 2, 3]], [1, 1])
    labels = torch.tensor([[[2, 0, 1, 1, 1]]])
    alone = [of_class(pictures, number) for number in range(2)]
    assert [found(labels, one)["head"] for one in alone] == [1, 1] and [found(labels, one)["body"] for one in alone] == [1, 0]
    assert [one.tags.tolist() for one in alone] == [[[1, 0]], [[0, 1]]]
    assert all(np.isnan(found(labels, one)["ground"]) for one in alone), "a ground is no part of a thing"


@pytest.mark.parametrize(("place", "where"), list(enumerate(["head", "body", "another thing", "ground", "rest"])))
def test_the_loudest_place_is_named_by_what_it_shows(place, where):
    pictures = made([[1, 1, 2, 0, 0]], [[1, 2, 1, 3, 0]], [1, 0])
    maps = torch.zeros(1, 2, 1, 5)
    maps[0, 0, 0, place] = 1
    maps[0, 1] = 9  # of a class that is not tagged
    told = loudest(maps, pictures)
    assert list(told) == ["head", "body", "another thing", "ground", "rest"]
    assert {name for name, share in told.items() if share} == {where} and told[where] == 1


def test_a_place_of_several_pixels_counts_for_the_first_it_shows_and_tags_without_an_object_do_not():
    pictures = made([[1, 1, 0, 0]], [[2, 1, 0, 0]], [1, 1])
    maps = torch.tensor([[[[1.0, 0]], [[0, 1.0]]]])  # (1, C, 1, 2); the second class is not there
    assert loudest(maps, pictures)["head"] == 1


def test_chance_is_the_share_of_places_that_touch_an_object():
    pictures = made([[1, 0, 0, 0, 0, 0, 0, 0]], [[1, 0, 0, 0, 0, 0, 0, 0]], [1, 0])
    assert chance(pictures, (1, 4)) == 0.25
