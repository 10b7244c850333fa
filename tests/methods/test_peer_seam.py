"""SEAM: equivariance, the correlation module and the cross loss against plain loops; who learns from them, and in which frame."""

import math

import oracles
import pytest
import torch
from plain import check_off_is_off, check_true_label, reached
from steps import networks_of, stage_of, stages_of, uneven_batch

from dsgc.methods.peers import seam

OFF = {"small_share": 0.0, "lambda_equivariance": 0.0, "lambda_cross": 0.0}


def random(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


# formulas


def shrunk(rows, height, width):
    """A map [y][x] made smaller: each value a mean with weights that fall linearly to 0 one small pixel away."""

    def weights(size, wanted):
        scale, found = size / wanted, []
        for i in range(wanted):
            near = [max(0.0, 1 - abs(j + 0.5 - (i + 0.5) * scale) / scale) for j in range(size)]
            found.append([value / sum(near) for value in near])
        return found

    down, across = weights(len(rows), height), weights(len(rows[0]), width)
    return [
        [sum(v * h * rows[y][x] for y, v in enumerate(down[i]) for x, h in enumerate(across[j])) for j in range(width)]
        for i in range(height)
    ]


@pytest.mark.parametrize("size", [(3, 3), (2, 3), (6, 6)], ids=str)
def test_equivariance_is_the_mean_distance_of_small_maps(size):
    whole, small = random(2, 3, 6, 6), random(2, 3, *size, seed=1)
    terms = []
    for i in range(2):
        for c in range(3):
            made = shrunk(whole[i, c].double().tolist(), *size)
            terms += [abs(made[y][x] - float(small[i, c, y, x])) for y, x in oracles.places(made)]
    assert seam.equivariance(whole, small).item() == pytest.approx(sum(terms) / len(terms), rel=1e-5)
    assert seam.equivariance(whole, seam.resized(whole, size)) == 0


def exclusive_by_loops(maps):
    """[1 + c][y][x] of one image's maps[c][y][x]."""
    best = [[max(m[y][x] for m in maps) for x in range(len(maps[0][0]))] for y in range(len(maps[0]))]
    rest = [[[m[y][x] if m[y][x] == best[y][x] else 0.0 for x in range(len(m[0]))] for y in range(len(m))] for m in maps]
    return [[[1 - v for v in row] for row in best], *rest]


def correlated_by_loops(maps, features):
    """[k][y][x]: at each place the mean over all places, by the cosines that are positive."""
    where = oracles.places(maps[0])
    found = [[[0.0] * len(maps[0][0]) for _ in maps[0]] for _ in maps]
    for y, x in where:
        mine = oracles.vector(features, y, x)
        alike = {(v, u): max(0.0, oracles.cosine(mine, oracles.vector(features, v, u))) for v, u in where}
        for k, m in enumerate(maps):
            found[k][y][x] = sum(weight * m[v][u] for (v, u), weight in alike.items()) / sum(alike.values())
    return found


def test_the_exclusive_maps_keep_the_strongest_class_and_the_background():
    maps = random(2, 3, 4, 5)
    maps[1] = 0.0
    made = seam.exclusive(maps)
    for i in range(2):
        torch.testing.assert_close(made[i], torch.tensor(exclusive_by_loops(maps[i].tolist())))
    assert (made[1, 0] == 1).all() and not made[1, 1:].any()


def test_the_correlation_is_a_mean_over_places_that_look_alike():
    maps, features = random(2, 3, 4, 5), torch.randn(2, 6, 4, 5, generator=torch.Generator().manual_seed(2))
    made = seam.correlate(maps, features)
    for i in range(2):
        expected = torch.tensor(correlated_by_loops(maps[i].double().tolist(), features[i].double().tolist()))
        torch.testing.assert_close(made[i].double(), expected.double(), rtol=1e-4, atol=1e-4)
    same = seam.correlate(maps, torch.ones(2, 6, 4, 5))
    torch.testing.assert_close(same, maps.mean((-2, -1), keepdim=True).expand_as(maps), rtol=1e-4, atol=1e-4)
    assert not seam.correlate(maps, torch.zeros(2, 6, 4, 5)).any(), "nothing is like a vector without length"


def test_maps_are_spread_from_0_to_1_and_a_flat_one_is_0():
    maps = 0.3 + 0.2 * random(2, 3, 4, 4)
    made = seam.spread(maps)
    assert (made.amin((-2, -1)) == 0).all() and (made.amax((-2, -1)) == 1).all()
    assert not seam.spread(torch.full((1, 2, 4, 4), 0.7) + 1e-7 * random(1, 2, 4, 4)).any(), "rounding is no map"


@pytest.mark.parametrize("worst", [0.2, 1.0, 1e-9])
def test_the_cross_loss_counts_the_entries_of_an_image_that_differ_most(worst):
    maps, refined = [random(3, 2, 6, 6), random(3, 2, 3, 3, seed=1)], [random(3, 3, 6, 6, seed=2), random(3, 3, 3, 3, seed=3)]
    counted, total = torch.tensor([True, True, False]), 0.0
    for i in range(2):
        small = [[shrunk(m.double().tolist(), 3, 3) for m in maps[k][i]] for k in (0, 1)]
        mine = [[shrunk(m.double().tolist(), 3, 3) for m in refined[k][i]] for k in (0, 1)]
        for target, own in ((small[1], mine[0]), (small[0], mine[1])):
            pairs = zip(exclusive_by_loops(target), own, strict=True)
            apart = [abs(a[y][x] - b[y][x]) for a, b in pairs for y, x in oracles.places(a)]
            most = sorted(apart, reverse=True)[: max(1, math.floor(worst * len(apart)))]
            total += sum(most) / len(most) / 2
    assert seam.cross(maps, refined, counted, worst).item() == pytest.approx(total, rel=1e-5)
    nobody = seam.cross(maps, refined, torch.zeros(3, dtype=torch.bool), worst)
    assert nobody == 0


@pytest.mark.parametrize(("side", "patch", "expected"), [(448, 16, 128), (96, 8, 32), (168, 14, 56), (16, 16, 16)])
def test_the_small_view_fits_the_patch(side, patch, expected):
    assert seam.smaller(random(1, 3, side, side), 0.3, patch).shape[-2:] == (expected, expected)


# the method


@pytest.mark.parametrize("stage", ["warm-up", "expansion"])
@pytest.mark.parametrize("parts", [1, 4])
def test_off_is_the_baseline_to_the_bit(monkeypatch, pair, fixed, stage, parts):
    check_off_is_off(monkeypatch, pair, fixed, fixed("seam", **OFF), stage, parts)


def taken(pair, config, part=None, stage="expansion"):
    networks, part, stage = networks_of(pair, config), uneven_batch() if part is None else part, stage_of(config, stage)
    seen = config.method.passes(networks, part, stage)
    with torch.no_grad():
        goals = config.method.goals(networks, seen, part, stage)
    return networks["network"], seen, goals, config.method.losses(networks, seen, goals, part, stage, {})


def test_each_loss_trains_what_it_claims(pair, fixed):
    assert stages_of(fixed("seam")) == ("warm-up", "expansion")
    network, _, _, means = taken(pair, fixed("seam", small_scale=0.5))
    named = {name: reached(network, mean.value.sum()) for name, mean in means.items()}
    assert named["equivariance"] == {"encoder", "patch_classifier"}
    assert named["cross"] == {"more"}, "as published, it teaches the correlation alone"
    assert named["small"] == {"encoder", "patch_classifier", "aux_classifier", "class_classifier"}
    assert named["seg"] == {"encoder", "decoder"}


def test_equivariance_has_a_gradient_through_both_views(pair, fixed):
    network, seen, _, _ = taken(pair, fixed("seam", small_scale=0.5))
    tags = uneven_batch().tags
    for live, rests in ((seen.whole, seen.small), (seen.small, seen.whole)):
        method = fixed("seam").method
        maps = [method.live(network, live, tags), method.live(network, rests, tags).detach()]
        assert "encoder" in reached(network, seam.equivariance(*sorted(maps, key=lambda m: -m.shape[-1])))


def test_without_tags_its_losses_are_0(pair, fixed):
    batch = uneven_batch()
    *_, means = taken(pair, fixed("seam"), batch._replace(tags=torch.zeros_like(batch.tags)))
    assert means["equivariance"].value == means["cross"].value == 0 and means["cross"].over == 0


def test_the_map_of_labels_is_refined_where_the_module_learns_and_only_there(pair, fixed):
    on, off = fixed("seam"), fixed("seam", lambda_cross=0.0)
    made, plain = (taken(pair, config)[2].labels.labels for config in (on, off))
    assert not torch.equal(made, plain)
    for config, label in ((on, made), (off, plain)):
        network, batch = networks_of(pair, config)["network"].eval(), uneven_batch()
        with torch.no_grad():
            seen = config.method.views(network, batch.images.flip(-1), batch.tags, 0.4)  # views do not mirror, passes do
        shown = seen.scored["pseudo"].flip(-1)[..., ::2, ::2]
        assert (shown == label).float().mean() > 0.99


def test_mirrored_features_and_maps_give_mirrored_maps():
    maps, features = random(2, 3, 4, 6), random(2, 5, 4, 6, seed=1) - 0.5
    torch.testing.assert_close(seam.correlate(maps.flip(-1), features.flip(-1)), seam.correlate(maps, features).flip(-1))
    images, middle = random(2, 3, 8, 12), random(2, 5, 4, 6)
    torch.testing.assert_close(seam.looks(images.flip(-1), middle.flip(-1)), seam.looks(images, middle).flip(-1))


def test_true_masks_give_the_loss_of_the_bound(pair, fixed):
    config = fixed("seam")
    network, seen, goals, _ = taken(pair, config)
    check_true_label(config.method, network, seen, goals, stage_of(config, "expansion"), seen.whole.tokens, uneven_batch())


def test_a_half_seen_object_is_filled_in_by_what_looks_like_it():
    """An object of one look whose map has only its left half: after the module its right half is as loud, the background is not."""
    features = torch.zeros(1, 2, 4, 8)
    features[:, 0, :, :4], features[:, 1, :, 4:] = 1.0, 1.0  # object left, background right
    maps = torch.zeros(1, 1, 4, 8)
    maps[..., :2] = 1.0
    made = seam.spread(seam.correlate(seam.exclusive(maps), features))[0, 1]
    assert made[:, :4].min() > 0.99 and not made[:, 4:].any()
