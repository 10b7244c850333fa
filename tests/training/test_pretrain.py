"""Pre-training of the encoder that ships: mosaics and their labels, what is asked of a tile, the same weights from the same seed."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from dsgc import network
from dsgc.__main__ import main
from dsgc.data.scenes import BODY, GROUND, HEAD, KINDS, SIDE, pretraining_kinds
from dsgc.network.encoder import create_encoder
from dsgc.training import pretrain
from dsgc.training.pretrain import COLOURS, CROP, ENCODER, GRID, PATCH, Heads, Recipe, mosaic

SHIPPED = Path(network.__file__).with_name("shapes_encoder.safetensors")
FEW = Recipe(kinds=3, images=16, steps=2, batch=9, lr=1e-3)


# mosaics


def grey(count=64):
    """Pictures of one grey each, which is their label: no crop, no mirror, no interpolation changes it."""
    labels = torch.arange(count)
    return labels.byte()[:, None, None, None].expand(-1, 3, SIDE, SIDE), labels


def tiles(bounds):
    """(row, column, region in pixels) of each tile."""
    for row, rows in enumerate(bounds):
        for column, columns in enumerate(bounds):
            yield row, column, (..., *(slice(PATCH * side.start, PATCH * side.stop) for side in (rows, columns)))


@pytest.mark.parametrize("seed", range(8))
def test_every_tile_shows_the_picture_whose_label_it_has(seed):
    made, names, bounds = mosaic(*grey(), np.random.default_rng(seed))
    assert made.shape == (64, 3, CROP, CROP) and names.shape == (64, len(bounds), len(bounds))
    for row, column, region in tiles(bounds):
        shown = 255 * made[region]
        assert torch.allclose(shown, names[:, row, column].float()[:, None, None, None].expand_as(shown), atol=1e-3)


@pytest.mark.parametrize("seed", range(8))
def test_tiles_of_a_mosaic_are_of_different_pictures_and_each_picture_is_as_often_in_every_place(seed):
    _, names, bounds = mosaic(*grey(), np.random.default_rng(seed))
    assert all(len(one.unique()) == len(bounds) ** 2 for one in names)
    assert (names.flatten(1).sort(0).values == torch.arange(64)[:, None]).all()


def test_bounds_cover_the_grid_and_there_are_one_two_and_three_tiles_a_side():
    images, labels = grey(9)
    drawn = [mosaic(images, labels, np.random.default_rng(seed))[2] for seed in range(60)]
    for bounds in drawn:
        assert [token for side in bounds for token in range(side.start, side.stop)] == list(range(GRID))
        assert min(side.stop - side.start for side in bounds) >= GRID // 3
    assert {len(bounds) for bounds in drawn} == {1, 2, 3}
    assert len({bounds[0].stop for bounds in drawn if len(bounds) == 2}) > 2, "two tiles meet at places drawn by lot"


@pytest.mark.parametrize("seed", range(4))
def test_a_tile_shows_more_than_half_of_a_picture_s_width(seed):
    """On pictures that grow lighter from left to right by 1 a column; some tiles are mirrored."""
    ramp = torch.arange(SIDE, dtype=torch.uint8).expand(9, 3, SIDE, SIDE)
    made, _, bounds = mosaic(ramp, torch.arange(9), np.random.default_rng(seed))
    assert made.min() >= 0 and made.max() <= SIDE / 255
    for _, _, region in tiles(bounds):
        steps = made[region].diff(dim=-1)
        assert (steps > 0).all() or (steps < 0).all()
        assert 255 * steps.sum(-1).abs().min() > 0.5 * SIDE


# what is asked


class Spoken(nn.Module):
    """An encoder that says what it is told: tokens (B, 1 + GRID GRID, D), the first of the class."""

    num_prefix_tokens = 1

    def __init__(self, tokens):
        super().__init__()
        self.tokens = tokens

    def forward_features(self, images):
        return self.tokens


def plain_heads(kinds):
    """Heads that hand on what tokens say of the kinds, and find every patch black."""
    heads = Heads(kinds, kinds)
    for head in (heads.of_token, heads.of_image):
        nn.init.eye_(head.weight)
        nn.init.zeros_(head.bias)
    nn.init.zeros_(heads.colours.weight)
    nn.init.zeros_(heads.colours.bias)
    return heads


BOUNDS = [slice(0, 5), slice(5, GRID)]
NAMES = torch.tensor([[[0, 1], [2, 3]]])  # (1, 2, 2)


def spoken(places, kinds=4, loud=40.0):
    """Tokens that say (row, column, kind) for each of the places, and the class token all four alike."""
    tokens = torch.zeros(1, GRID, GRID, kinds)
    for rows, columns, kind in places:
        tokens[0, rows, columns, kind] = loud
    return torch.cat([torch.zeros(1, 1, kinds), tokens.flatten(1, 2)], 1)


def asked(places, images=None):
    images = torch.zeros(1, 3, CROP, CROP) if images is None else images
    return pretrain._loss(Spoken(spoken(places)), plain_heads(4), images, NAMES, BOUNDS, 0.0).item()


RIGHT = [(rows, columns, 2 * r + c) for r, rows in enumerate(BOUNDS) for c, columns in enumerate(BOUNDS)]
SHARES = np.log(4)  # the class token's loss where it says all four kinds alike, as they are


def test_a_tile_whose_tokens_say_its_label_costs_nothing():
    assert asked(RIGHT) == pytest.approx(SHARES, abs=1e-4)
    assert asked([]) == pytest.approx(2 * SHARES, abs=1e-4)


def test_a_label_said_in_another_tile_does_not_count():
    elsewhere = [(rows, columns, 3 - kind) for rows, columns, kind in RIGHT]
    assert asked(elsewhere) == pytest.approx(SHARES + 40, abs=1e-3)


@pytest.mark.parametrize(("tokens", "share"), [(6, 1.0), (3, 0.5), (1, 1 / 6)])
def test_the_loudest_quarter_of_a_tile_speaks_for_it(tokens, share):
    """6 of the first tile's 5 x 5 tokens; fewer that say it speak in proportion. The other tiles cost nothing."""
    first = [(token // 5, token % 5, 0) for token in range(tokens)]
    cost = np.log(1 + 3 * np.exp(-40 * share)) / 4
    assert asked(first + RIGHT[1:]) == pytest.approx(SHARES + cost, abs=1e-4)


def test_the_class_token_is_asked_for_the_shares_of_the_tiles():
    tokens = spoken(RIGHT)
    tokens[:, 0, :2] = 40.0  # says two of four kinds
    loss = pretrain._loss(Spoken(tokens), plain_heads(4), torch.zeros(1, 3, CROP, CROP), NAMES, BOUNDS, 0.0)
    assert loss.item() == pytest.approx(np.log(2) + 20, abs=1e-3)


def test_a_token_is_asked_for_the_colours_of_its_own_patch():
    """Told as they are, means of 2 x 2 pixels times 4, they cost nothing; those of the patch beside it cost."""
    images = torch.rand(1, 3, CROP, CROP, generator=torch.Generator().manual_seed(0))
    cells = F.avg_pool2d(images, PATCH // COLOURS)[0]  # (3, GRID COLOURS, GRID COLOURS)
    wanted = [
        cells[:, COLOURS * y : COLOURS * (y + 1), COLOURS * x : COLOURS * (x + 1)].flatten() for y in range(GRID) for x in range(GRID)
    ]
    told = 4 * torch.stack(wanted)[None]  # (1, GRID GRID, 3 COLOURS COLOURS)

    def cost(colours):
        heads = plain_heads(4)
        heads.colours = Spoken(None)
        heads.colours.forward = lambda tokens: colours.unflatten(1, (GRID, GRID))
        return pretrain._loss(Spoken(spoken(RIGHT)), heads, images, NAMES, BOUNDS, 0.0).item() - SHARES

    assert cost(told) == pytest.approx(0, abs=1e-4) and cost(told.roll(1, 1)) > 0.3
    assert asked(RIGHT, images) - SHARES == pytest.approx(float(told.mean()), rel=1e-3)


def test_pointing_is_the_share_of_images_whose_loudest_token_lies_on_the_thing():
    """Of four images one points at the head, one at the body, one at its ground, one at nothing."""
    tokens = torch.zeros(4, 1 + GRID * GRID, 3)
    tokens[:, 1 + 5 * GRID + 7, 1] = 1.0  # of label 1, in row 5 and column 7
    tokens[:, 1, 2] = 9.0  # another label is louder elsewhere
    tokens[:3, 0, 1] = 1.0  # three are named rightly
    parts = torch.zeros(4, SIDE, SIDE, dtype=torch.uint8)
    scale = SIDE / GRID
    for number, part in enumerate((HEAD, BODY, GROUND)):
        parts[number, int(5.5 * scale), int(7.5 * scale)] = part
    labels, images = torch.ones(4, dtype=torch.int64), torch.zeros(4, 3, SIDE, SIDE, dtype=torch.uint8)
    assert pretrain._held_out(Spoken(tokens), plain_heads(3), images, labels, parts) == (0.75, 0.5)


# the images, and the whole


def test_images_show_one_thing_of_a_kind_that_the_data_set_does_not_have(monkeypatch):
    monkeypatch.setattr(pretrain, "CHUNK", 6)
    images, labels, parts = pretrain._draw((0, 0, 10))
    again, following = pretrain._draw((0, 0, 10)), pretrain._draw((0, 6, 10))
    assert images.shape == (len(labels), SIDE, SIDE, 3) and parts.shape == (len(labels), SIDE, SIDE) and 4 <= len(labels) <= 6
    assert all(map(np.array_equal, (images, labels, parts), again)) and not np.array_equal(images[0], following[0][0])
    assert set(labels) <= set(range(10)) and not {kind.name for kind in pretraining_kinds(10)} & {kind.name for kind in KINDS}
    assert all(np.isin((HEAD, BODY), part).all() for part in parts)


@pytest.fixture
def few(monkeypatch):
    """`few(out, recipe)`: the pre-training of a moment, on pictures of noise and on the CPU."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(256, (16, 3, SIDE, SIDE), generator=generator, dtype=torch.uint8)
    parts = torch.randint(4, (16, SIDE, SIDE), generator=generator, dtype=torch.uint8)
    monkeypatch.setattr(pretrain, "HELD_OUT", 4)
    monkeypatch.setattr(pretrain, "_images", lambda recipe: (images, torch.arange(16) % recipe.kinds, parts))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    return pretrain.pretrain


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(few, tmp_path):
    files = [tmp_path / f"{name}.safetensors" for name in ("one", "two", "other")]
    for file, seed in zip(files, (0, 0, 1), strict=True):
        torch.rand(3)  # what was drawn before does not matter
        few(file, FEW._replace(seed=seed))
    one, two, other = map(load_file, files)
    assert one.keys() == two.keys() and all(torch.equal(value, two[name]) for name, value in one.items())
    assert not all(torch.equal(value, other[name]) for name, value in one.items())


def test_every_weight_learns_and_the_file_says_how_it_was_made(few, tmp_path):
    recipe = FEW._replace(lr=1.0)  # the first steps have a small part of it, which float16 must still show
    found = few(tmp_path / "made.safetensors", recipe)
    torch.manual_seed(recipe.seed)
    begun, made = create_encoder(ENCODER, CROP).state_dict(), load_file(tmp_path / "made.safetensors")
    assert made.keys() == begun.keys() and {value.dtype for value in made.values()} == {torch.float16}
    assert not [name for name, value in begun.items() if torch.equal(value.half(), made[name])]
    with safe_open(tmp_path / "made.safetensors", "pt") as file:
        about = file.metadata()
    assert about == {name: str(value) for name, value in recipe._asdict().items()} | {
        "held_out_accuracy": f"{found.accuracy:.3f}", "held_out_pointing": f"{found.pointing:.3f}",
    }  # fmt: skip


def test_the_command_line_tells_accuracy_and_pointing(few, tmp_path, capsys):
    words = [word for name, value in FEW._asdict().items() for word in (f"--{name.replace('_', '-')}", str(value))]
    main(["pretrain", str(tmp_path / "made.safetensors"), *words])
    assert re.fullmatch(r".*made.safetensors: held-out accuracy [01]\.\d{3}, pointing [01]\.\d{3}\n", capsys.readouterr().out)


def test_the_encoder_that_ships_is_of_this_recipe_and_points_at_things():
    with safe_open(SHIPPED, "pt") as file:
        about = file.metadata()
    assert {name: about[name] for name in Recipe._fields} == {name: str(value) for name, value in Recipe()._asdict().items()}
    assert float(about["held_out_pointing"]) >= 0.95 and float(about["held_out_accuracy"]) > 0.7
    create_encoder(ENCODER, CROP).load_state_dict(load_file(SHIPPED))  # every weight, and no other
    assert SHIPPED.stat().st_size < 5e6
