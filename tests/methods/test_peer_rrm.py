"""RRM: what the map and its refinement trust, against plain loops; and that nothing but the label differs from the baseline."""

import math

import oracles
import pytest
import torch
from plain import Plain, check_off_is_off, check_true_label, reached
from steps import TAGS, networks_of, smooth, stage_of, stages_of, uneven_batch

from dsgc.cam import IGNORE
from dsgc.methods.peers import rrm
from dsgc.methods.peers.rrm import Rrm

TRUST = {"least": 0.1, "share": 0.4, "background": 0.8}


def random(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


# formulas, of one image's maps[c][y][x]


def scores_by_loops(maps, power):
    where = oracles.places(maps[0])
    first = {(y, x): (1 - max(m[y][x] for m in maps)) ** power for y, x in where}
    return {(y, x): [first[y, x], *(m[y][x] for m in maps)] for y, x in where}


def trusted_by_loops(maps, least, share, background, power=32.0):
    scores = scores_by_loops(maps, power)
    winner = {place: of.index(max(of)) for place, of in scores.items()}
    found = {place: winner[place] == 0 and of[0] > background for place, of in scores.items()}
    for number in range(1, len(maps) + 1):
        values = sorted(of[number] for place, of in scores.items() if winner[place] == number and of[number] > least)
        for place, of in scores.items():
            if values and winner[place] == number and of[number] > values[math.floor(len(values) * (1 - share))]:
                found[place] = True
    return found


def labels_by_loops(wide, narrow, maps, trusted):
    """{place: label} from refined scores."""
    found = {}
    for y, x in oracles.places(wide):
        rest = [m[y][x] for m in maps]
        first, second = ([v / sum(of) if sum(of) else 0.0 for v in of] for of in ([wide[y][x], *rest], [narrow[y][x], *rest]))
        label = first.index(max(first)) or IGNORE
        label = label if second.index(max(second)) else 0
        found[y, x] = label if max([second[0], *first[1:]]) >= trusted else IGNORE
    return found


def maps_of(count=6, kinds=3, size=6):
    maps = random(count, kinds, size, size) * torch.linspace(0.1, 1, count)[:, None, None, None]
    maps[1, :, :3] = 0.0  # surely background
    maps[2] = 0.0
    maps[3] = 0.5  # flat: no pixel is above the others
    maps[4, 1:] = 0.0  # one tag
    return maps


def test_the_map_trusts_a_clear_background_and_the_strongest_pixels_of_each_class():
    maps = maps_of()
    scores = torch.cat([rrm.background(maps, 32.0), maps], 1)
    made = rrm.map_trusts(scores, **TRUST)
    for i, image in enumerate(maps.double().tolist()):
        expected = trusted_by_loops(image, **TRUST)
        assert [bool(made[i, y, x]) for y, x in expected] == list(expected.values()), i
    assert made[2].all() and not made[3].any() and 0 < made[5].sum() < made[5].numel() / 2
    assert made[1, :3].all()


def test_of_a_class_that_is_alone_the_share_is_trusted():
    value = torch.linspace(0.2, 1.0, 100).view(1, 1, 10, 10)
    scores = torch.cat([rrm.background(value, 32.0), value], 1)
    assert rrm.map_trusts(scores, **TRUST).sum() == 39, "those above the 61st of 100"
    assert rrm.map_trusts(scores, **TRUST | {"share": 0.0}).sum() == 0
    assert rrm.map_trusts(scores, **TRUST | {"share": 1.0}).sum() == 99


def test_refined_scores_give_a_label_where_the_winner_is_clear():
    maps, wide, narrow = maps_of(), 0.5 * random(6, 1, 6, 6, seed=1), random(6, 1, 6, 6, seed=2) * 0.3
    wide[5] = narrow[5] = maps[5] = 0.0  # nothing says anything
    made = rrm.refined_labels(wide, narrow, maps, 0.45)
    for i in range(6):
        given = (wide[i, 0], narrow[i, 0], maps[i])
        expected = labels_by_loops(*(one.double().tolist() for one in given), 0.45)
        assert [int(made[i, y, x]) for y, x in expected] == list(expected.values()), i
    assert (made[5] == IGNORE).all() and {0, 1, 3, IGNORE} <= set(made.unique().tolist())


def test_a_label_is_what_both_trust_among_the_tags():
    images, maps, tags, _ = smooth(0, [[1, 0, 1, 0, 0], [0, 0, 0, 0, 1], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1]])
    method = Rrm(refine_dilations=(1, 2), label_stride=8)  # on the grid of the maps
    made = method.initial_label(images, maps, tags)
    small = torch.nn.functional.interpolate(images, (6, 6), mode="bilinear", antialias=True).double().tolist()
    for i in range(4):
        named = [c for c in range(5) if tags[i, c]]
        given = [maps[i, c].double().tolist() for c in named] or [[[0.0] * 6 for _ in range(6)]]
        trusted = trusted_by_loops(given, **TRUST)
        scores = [scores_by_loops(given, power) for power in (4, 32)]
        scores = [[[of[y, x][0] for x in range(6)] for y in range(6)] for of in scores]
        wide, narrow, *refined = oracles.refine([*scores, *given], small[i], (1, 2), 10)
        expected = labels_by_loops(wide, narrow, refined, 0.8)
        names = {0: 0, IGNORE: IGNORE} | {t + 1: c + 1 for t, c in enumerate(named)}
        for (y, x), label in expected.items():
            assert made.labels[i, y, x] == (names[label] if trusted[y, x] else IGNORE), (i, y, x)
    assert (made.labels[2] == 0).all(), "no tag: background"
    assert made.labels.dtype == torch.int64 and (made.labels[[0, 1, 3]] > 0).any() and (made.labels == IGNORE).any()


# the method


@pytest.mark.parametrize("stage", ["warm-up", "expansion"])
@pytest.mark.parametrize("parts", [1, 4])
def test_with_the_baselines_label_it_is_the_baseline_to_the_bit(monkeypatch, pair, fixed, stage, parts):
    monkeypatch.setattr(Rrm, "initial_label", Plain.initial_label)
    check_off_is_off(monkeypatch, pair, fixed, fixed("rrm"), stage, parts)


def taken(pair, config):
    networks, part, stage = networks_of(pair, config), uneven_batch(), stage_of(config, "expansion")
    seen = config.method.passes(networks, part, stage)
    with torch.no_grad():
        goals = config.method.goals(networks, seen, part, stage)
    return networks, seen, goals, part, stage


def test_its_label_trains_the_decoder_and_the_encoder(pair, fixed):
    config = fixed("rrm")
    assert stages_of(config) == ("warm-up", "expansion")
    networks, seen, goals, part, stage = taken(pair, config)
    means = config.method.losses(networks, seen, goals, part, stage, {})
    assert reached(networks["network"], means["seg"].value.sum()) == {"encoder", "decoder"}
    assert 0 < config.method.watched(goals, {})["labelled"] < 1


def test_true_masks_give_the_loss_of_the_bound(pair, fixed):
    config = fixed("rrm")
    networks, seen, goals, part, stage = taken(pair, config)
    check_true_label(config.method, networks["network"], seen, goals, stage, seen.tokens, part)


def test_mirrored_pictures_and_maps_have_mirrored_labels():
    images, maps, tags, _ = smooth(1, TAGS[:, :5].tolist())
    method = Rrm(refine_dilations=(1, 2))
    made = method.initial_label(images, maps, tags).labels
    other = method.initial_label(images.flip(-1), maps.flip(-1), tags).labels
    assert (made == other.flip(-1)).float().mean() > 0.995 and made.unique().numel() > 2


def test_between_object_and_background_nothing_is_learnt():
    """A map that falls from the object to the background: its top and its foot are labelled, its slope is not."""
    fall = torch.linspace(1, 0, 24).expand(1, 1, 24, 24).clone()
    made = Rrm(refine_iterations=0, label_stride=1).initial_label(torch.zeros(1, 3, 24, 24), fall, torch.ones(1, 1)).labels[0]
    assert (made[:, :8] == 1).all() and (made[:, -1] == 0).all() and (made[:, 10:22] == IGNORE).all()
