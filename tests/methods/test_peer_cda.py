"""CDA: which objects are cut and where they are pasted, against plain loops; and that each image's view is its own."""

import math

import oracles
import pytest
import torch
from plain import check_off_is_off, check_true_label, reached
from steps import CLASSES, in_parts, networks_of, stage_of, stages_of, uneven_batch

from dsgc.methods.peers import cda

AREA = (0.1, 0.7)


def random(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


# formulas


def object_by_loops(maps, tags, which, high, area):
    """[y][x] of one image: whether the place is of the tag that is taken."""
    named = [c for c, tag in enumerate(tags) if tag]
    where = oracles.places(maps[0])
    if not named:
        return [[False] * len(maps[0][0]) for _ in maps[0]]
    wanted = named[math.floor(which * len(named))]
    found = {(y, x): maps[wanted][y][x] > high and all(maps[wanted][y][x] >= maps[c][y][x] for c in named) for y, x in where}
    share = sum(found.values()) / len(where)
    return [[found[y, x] and area[0] <= share <= area[1] for x in range(len(maps[0][0]))] for y in range(len(maps[0]))]


def test_an_object_is_where_one_tag_is_strongest_and_loud_enough():
    maps, which = random(40, 3, 6, 6), random(40, seed=1)
    tags = (random(40, 3, seed=2) < 0.6).float()
    tags[0], which[1] = 0, 0.0
    maps[2] *= 0.4  # nothing loud enough
    maps[3, :] = 0.95  # one object everywhere: too large
    made = cda.objects(maps, tags, which, 0.5, AREA)
    expected = [object_by_loops(maps[i].tolist(), tags[i].tolist(), which[i].item(), 0.5, AREA) for i in range(40)]
    assert made.tolist() == expected
    assert not made[0].any() and not made[2].any() and not made[3].any() and made.flatten(1).any(1).sum() > 20


def box(size, top, left, bottom, right):
    found = torch.zeros(1, size, size, dtype=torch.bool)
    found[0, top:bottom, left:right] = True
    return found


def put(found, turn=0.0, place=(0.0, 0.0), side=0.7, size=20):
    """The pasted view of a picture of numbered pixels over one of -1."""
    images = torch.arange(size * size).float().view(1, 1, size, size).expand(1, 3, size, size)
    view = cda.paste(images, found, torch.full_like(images, -1.0), torch.tensor([turn]), torch.tensor([place]), side)
    return view[0, 0]


def test_an_object_that_is_small_enough_is_moved_pixel_by_pixel():
    found = box(20, 2, 4, 8, 8)  # 6 rows, 4 columns
    view = put(found, place=(-1.0, 1.0))  # left end, lower end
    expected = torch.full((20, 20), -1.0)
    for y in range(6):
        for x in range(4):
            expected[14 + y, x] = (2 + y) * 20 + 4 + x
    torch.testing.assert_close(view, expected, atol=0.02, rtol=0)


def test_an_object_that_is_turned_by_a_right_angle_stands_on_its_side():
    found = box(20, 2, 4, 8, 8)
    view = put(found, turn=math.pi / 2, place=(-1.0, -1.0))
    taken = view >= 0
    assert taken[:4, :6].all() and taken.sum() == 24, "6 columns and 4 rows in the upper left corner"
    inside = view[:4, :6]
    values = torch.tensor([[(2 + y) * 20 + 4 + x for x in range(4)] for y in range(6)]).float()
    turned = [torch.rot90(values, k) for k in (1, -1)]
    assert any((inside - one).abs().max() < 0.02 for one in turned), "turned, not mirrored"


@pytest.mark.parametrize("turn", [0.0, 0.5, -1.2])
def test_a_large_object_is_made_smaller_until_its_turned_box_fits(turn):
    found = box(40, 0, 10, 40, 30)  # as high as the picture, half as wide
    for place in ((-1.0, -1.0), (1.0, 1.0), (0.0, 0.0), (0.3, -0.8)):
        view = put(found, turn, place, side=0.7, size=40)
        rows, columns = ((view >= 0).any(axis).nonzero().flatten() for axis in (1, 0))
        height, width = (int(ends.max() - ends.min()) + 1 for ends in (rows, columns))
        assert abs(max(height, width) - 28) <= 2 and min(height, width) >= 13
        small = ((math.sin(abs(turn)) * 40 + math.cos(turn) * 20) / (math.cos(turn) * 40 + math.sin(abs(turn)) * 20))
        assert abs(min(height, width) / max(height, width) - min(small, 1 / small)) < 0.1
        for start, length, where in ((rows.min(), height, place[1]), (columns.min(), width, place[0])):
            assert abs(float(start) - (40 - length) * (where + 1) / 2) <= 1.5, "where it fits, from end to end"


def test_mirrored_pictures_make_mirrored_views():
    images, second, maps = random(5, 3, 24, 24), random(5, 3, 24, 24, seed=1), random(5, 2, 6, 6, seed=2)
    found = cda.objects(torch.nn.functional.interpolate(maps, (24, 24), mode="bilinear"), torch.ones(5, 2), random(5, seed=3), 0.4, (0, 1))
    turn, place = random(5, seed=4) * 3 - 1.5, random(5, 2, seed=5) * 2 - 1
    made = cda.paste(images, found, second, turn, place, 0.7)
    other = cda.paste(images.flip(-1), found.flip(-1), second.flip(-1), -turn, place * torch.tensor([-1.0, 1.0]), 0.7)
    assert (made - other.flip(-1)).abs().flatten(1).gt(1e-3).float().mean() < 0.01 and not torch.equal(made, second)


def test_without_an_object_the_view_is_the_crop():
    second = random(2, 3, 8, 8)
    found = torch.zeros(2, 8, 8, dtype=torch.bool)
    made = cda.paste(random(2, 3, 8, 8, seed=1), found, second, torch.tensor([0.3, -1.0]), torch.zeros(2, 2), 0.7)
    assert torch.equal(made, second) and cda.moves(found, torch.zeros(2), torch.zeros(2, 2), 0.7).isfinite().all()


def test_the_loss_is_over_images_with_an_object():
    logits, tags, counted = random(3, 4) * 4 - 2, (random(3, 4, seed=1) < 0.5).float(), torch.tensor([True, False, True])
    expected = (oracles.tag_loss(logits[[0, 2]].double().tolist(), tags[[0, 2]].tolist()))
    assert cda.counted_tag_loss(logits, tags, counted).item() == pytest.approx(expected, rel=1e-5)
    assert cda.counted_tag_loss(logits, tags, torch.zeros(3, dtype=torch.bool)) == 0


# the method


@pytest.mark.parametrize("stage", ["warm-up", "expansion"])
@pytest.mark.parametrize("parts", [1, 4])
def test_off_is_the_baseline_to_the_bit(monkeypatch, pair, fixed, stage, parts):
    config = fixed("cda", paste_share=0.0)
    check_off_is_off(monkeypatch, pair, fixed, config, stage, parts)
    assert config.method.second_crop is None and fixed("cda").method.second_crop == (0.32, 1.0)


def taken(pair, config, part=None):
    networks, part, stage = networks_of(pair, config), uneven_batch() if part is None else part, stage_of(config, "expansion")
    seen = config.method.passes(networks, part, stage)
    with torch.no_grad():
        goals = config.method.goals(networks, seen, part, stage)
    return networks["network"], seen, goals, config.method.losses(networks, seen, goals, part, stage, {})


def test_the_pasted_views_train_what_tags_train(pair, fixed):
    config = fixed("cda")
    assert stages_of(config) == ("warm-up", "expansion")
    network, seen, goals, means = taken(pair, config)
    assert reached(network, means["paste"].value) == {"encoder", "class_classifier", "patch_classifier", "aux_classifier"}
    assert means["paste"].over == seen.counted.sum() and 0 < seen.counted.sum() < 8
    assert not seen.counted[uneven_batch().tags.sum(1) == 0].any(), "no tag, no object"
    assert config.method.watched(goals, {})["pasted"] == seen.counted.float().mean()


def test_an_images_view_is_the_same_in_any_part_and_another_with_another_seed(pair, fixed):
    config, batch = fixed("cda"), uneven_batch()
    network, warm_up = networks_of(pair, config)["network"], stage_of(config, "warm-up")

    def pasted(part):
        return config.method.pasted(network, config.method.passes({"network": network}, part, warm_up).plain, part)

    whole, counted = pasted(batch)
    for number, part in enumerate(in_parts(batch, 8)):
        view, one = pasted(part)
        assert one[0] == counted[number]
        assert (view[0] - whole[number]).abs().gt(1e-4).float().mean() < 0.01, number
    again, _ = pasted(batch._replace(seeds=batch.seeds + 100))
    assert not torch.equal(whole, again)


def test_an_object_is_cut_where_the_picture_has_it_not_its_mirror_image(monkeypatch, pair, fixed):
    """The encoder sees mirrored pictures: what it finds at the left lies at the right of the picture, which is red there, else green."""
    config, red, green, blue = fixed("cda"), *torch.eye(3)[:, :, None, None]
    right = (torch.arange(32) >= 16)[None, None]
    batch = uneven_batch()
    images, second = torch.where(right, red, green).expand(8, 3, 32, 32), blue.expand(8, 3, 32, 32)
    part = batch._replace(images=images, tags=torch.ones(8, CLASSES), second=second)
    maps = torch.zeros(8, CLASSES, 4, 4)
    maps[..., 0] = 1.0
    monkeypatch.setattr(cda.Cda, "cam", lambda *_: maps)
    views, counted = config.method.pasted(networks_of(pair, config)["network"], None, part)
    assert counted.any() and views[counted][:, 0].sum() > 20 * views[counted][:, 1].sum()


def test_true_masks_give_the_loss_of_the_bound(pair, fixed):
    config = fixed("cda")
    network, seen, goals, _ = taken(pair, config)
    check_true_label(config.method, network, seen, goals, stage_of(config, "expansion"), seen.plain.tokens, uneven_batch())


def test_an_object_loses_its_surroundings():
    """A red square on green, pasted over a blue crop: red is there, green is not."""
    colours = torch.eye(3)[:, :, None, None]
    found = box(32, 8, 8, 20, 20)
    image = torch.where(found[:, None], colours[0], colours[1])
    view = cda.paste(image, found, colours[2].expand(1, 3, 32, 32), torch.tensor([0.4]), torch.tensor([[0.5, -0.5]]), 0.7)
    assert view[:, 0].sum() > 100 and view[:, 1].sum() < 0.25 * view[:, 0].sum() and view[:, 2].sum() > 500
