"""Eq. 18-21: similarity with four neighbours and the rules that rewrite noisy labels."""

import itertools
import math

import oracles
import pytest
import torch

from dsgc import correction
from dsgc.cam import IGNORE
from dsgc.correction import NEIGHBOURS, correct, neighbour_similarity, rules
from dsgc.correction import RULES as NAMES

HIGH, LOW = 0.85, 0.25
KEEP, UNSURE, NOISY = 0.1, 0.5, 0.95  # a noise probability of each kind
RULES = {"high": HIGH, "low": LOW, "tau": 0.3}


def draw_features(seed, height, width, dim=3):
    """Random features (1, D, h, w) with no similarity within 1e-3 of tau, or of another at the same place."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        features = torch.randn(1, dim, height, width, generator=generator)
        similarity = neighbour_similarity(features)
        gaps = similarity.nan_to_num(nan=-9).sort(1).values.diff(dim=1)
        if ((similarity - RULES["tau"]).abs().nan_to_num(9) > 1e-3).all() and ((gaps > 1e-3) | (gaps == 0)).all():
            return features


def one_hot(rows):
    """Features whose similarities are exactly 1 (same number) or 0: (1, 4, h, w) of a list of rows of 0..3."""
    return torch.nn.functional.one_hot(torch.tensor([rows]), 4).movedim(-1, 1).float()


def assert_equals_loop(labels, noise, features, **rules):
    """labels (B, h, w), noise (B, h, w), one grid of features (1, D, h, w) for all."""
    got = correct(labels, noise, features.expand(len(labels), -1, -1, -1), **rules).tolist()
    (similarity,) = oracles.neighbour_similarity(features.tolist())
    for b, (label, probability) in enumerate(zip(labels.tolist(), noise.tolist(), strict=True)):
        expected = oracles.correct(label, probability, similarity, **rules)
        assert got[b] == expected, f"labels {label}, noise {probability}: {got[b]}, expected {expected}"


# Eq. 18, 20


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (5, 1), (2, 2), (4, 3)])
def test_similarity_equals_the_loop_and_is_nan_off_the_image(shape):
    features = torch.randn(2, 3, *shape, generator=torch.Generator().manual_seed(0))
    expected = oracles.neighbour_similarity(features.tolist())
    expected = torch.tensor([[[[math.nan if v is None else v for v in r] for r in m] for m in i] for i in expected])
    torch.testing.assert_close(neighbour_similarity(features), expected, rtol=1e-5, atol=1e-6, equal_nan=True)


def test_similarity_names_its_order():
    """Only the right-hand neighbour of the middle place is like it; then only the upper one; and so on."""
    assert NEIGHBOURS == ("up", "down", "left", "right")
    for k, (y, x) in enumerate([(0, 1), (2, 1), (1, 0), (1, 2)]):
        grid = [[1] * 3 for _ in range(3)]
        grid[1][1] = grid[y][x] = 0
        assert neighbour_similarity(one_hot(grid))[0, :, 1, 1].tolist() == [float(i == k) for i in range(4)]


@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e15, 1e30])
def test_similarity_of_extreme_features_is_within_its_range(scale):
    similarity = neighbour_similarity(scale * torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(0)))
    inside = ~neighbour_similarity(torch.ones(1, 3, 4, 4)).isnan()
    assert (similarity[inside].abs() <= 1).all() and similarity[~inside].isnan().all()


def test_similarity_of_like_features_never_leaves_one():
    """Rounded in float32, the product of a unit vector with itself is above 1 as often as below."""
    features = torch.rand(1, 64, 50, 1, generator=torch.Generator().manual_seed(0)).expand(1, 64, 50, 2)
    similarity = neighbour_similarity(features)[0, 3, :, 0]  # to the right: the same vector
    assert similarity.max() <= 1 and similarity.min() > 1 - 1e-6


# which rule applies


def rule_of(noise, around, high, low, tau):
    """The number in `NAMES`, in the words of the paper; around: similarities, None off the image."""
    boundary = any(value is not None and value < tau for value in around)
    if noise > high:
        return 1 if boundary else 2
    return 0 if noise <= low or noise == high else 3 if boundary else 4


@pytest.mark.parametrize("tau", [-1.0, 0.25, 1.0])
@pytest.mark.parametrize(("high", "low"), [(0.75, 0.25), (0.5, 0.5), (1.0, 0.0), (0.0, 0.0), (1.0, 1.0)])
def test_the_rule_of_every_noise_among_every_neighbourhood(high, low, tau):
    """Noise below, at, between and above the thresholds; similarities off the image, below, at and above tau."""
    noises = (0.0, 0.125, 0.25, 0.4375, 0.5, 0.625, 0.75, 0.875, 1.0)  # exact in float32, as are all numbers here
    hoods = list(itertools.product((None, -1.0, 0.125, 0.25, 0.5, 1.0), repeat=4))
    similarity = torch.tensor([[math.nan if value is None else value for value in hood] for hood in hoods])
    similarity = similarity.T[None, :, :, None].expand(1, 4, len(hoods), len(noises))
    noise = torch.tensor(noises).expand(1, len(hoods), len(noises))
    got = rules(noise, similarity, high=high, low=low, tau=tau)
    assert got.dtype == torch.int64
    assert got[0].tolist() == [[rule_of(value, hood, high, low, tau) for value in noises] for hood in hoods]


def test_rules_have_names_and_a_number_means_what_its_name_says():
    assert len(NAMES) == len(set(NAMES)) == 5
    similarity = torch.full((1, 4, 1, 1), torch.nan)
    similarity[:, 0] = 0.5
    for (noise, tau), name in {
        (KEEP, 0.9): "kept",
        (NOISY, 0.9): "R_h, boundary: background",
        (NOISY, 0.1): "R_h, inside: left out",
        (UNSURE, 0.9): "R_u, boundary: background",
        (UNSURE, 0.1): "R_u, inside: neighbour's label",
    }.items():
        assert NAMES[rules(torch.full((1, 1, 1), noise), similarity, high=HIGH, low=LOW, tau=tau).item()] == name


# Eq. 19, 21 over whole small worlds


@pytest.mark.parametrize("tau", [-1.0, 0.3, 1.0])
@pytest.mark.parametrize("seed", range(2))
def test_every_label_and_noise_pattern_of_a_2x2_image(seed, tau):
    """4^4 label maps x 3^4 noise patterns; tau = -1: no boundary anywhere, tau = 1: boundary everywhere."""
    labels = torch.tensor(list(itertools.product([0, 1, 2, 255], repeat=4))).view(-1, 2, 2)
    features = draw_features(seed, 2, 2)
    for pattern in itertools.product([KEEP, UNSURE, NOISY], repeat=4):
        noise = torch.tensor(pattern).view(1, 2, 2).expand(len(labels), -1, -1)
        assert_equals_loop(labels, noise, features, high=HIGH, low=LOW, tau=tau)


@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (1, 6), (6, 1), (3, 3), (4, 5)])
@pytest.mark.parametrize("seed", range(3))
def test_random_images_of_every_shape(seed, shape):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.tensor([0, 1, 2, 20, 255])[torch.randint(5, (16, *shape), generator=generator)]
    noise = torch.rand(16, *shape, generator=generator)
    assert_equals_loop(labels, noise, draw_features(seed, *shape), **RULES)


@pytest.mark.parametrize("kind", [KEEP, UNSURE, NOISY])
@pytest.mark.parametrize("tau", [-1.0, 0.3, 1.0])
def test_each_noise_kind_at_each_position_of_a_3x3_image(kind, tau):
    """Corners, edges, centre: one pixel of the kind, all others sure; then the reverse."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.tensor([0, 1, 2, 255])[torch.randint(4, (9, 3, 3), generator=generator)]
    place = torch.eye(9).view(9, 3, 3).bool()
    for noise in (torch.where(place, kind, KEEP), torch.where(place, KEEP, kind)):
        assert_equals_loop(labels, noise, draw_features(1, 3, 3), high=HIGH, low=LOW, tau=tau)


def test_images_of_a_batch_do_not_touch():
    features = torch.cat([draw_features(seed, 3, 4) for seed in range(3)])
    generator = torch.Generator().manual_seed(0)
    labels, noise = torch.randint(3, (3, 3, 4), generator=generator), torch.rand(3, 3, 4, generator=generator)
    together = correct(labels, noise, features, **RULES)
    for b in range(3):
        one = slice(b, b + 1)
        assert torch.equal(together[one], correct(labels[one], noise[one], features[one], **RULES))


# single rules by hand


@pytest.mark.parametrize(("kind", "expected"), [(KEEP, 7), (UNSURE, 255), (NOISY, 255)])
def test_lone_pixel_has_no_neighbour_to_be_unlike_or_to_copy(kind, expected):
    got = correct(torch.tensor([[[7]]]), torch.tensor([[[kind]]]), torch.ones(1, 2, 1, 1), high=HIGH, low=LOW, tau=1.0)
    assert got.item() == expected


def test_tie_copies_the_first_of_up_down_left_right():
    labels = torch.tensor([[[1, 2, 3], [4, 5, 6], [7, 8, 9]]])
    got = correct(labels, torch.full((1, 3, 3), UNSURE), one_hot([[0] * 3] * 3), **RULES)
    assert got.tolist() == [[[4, 5, 6], [1, 2, 3], [4, 5, 6]]]


def test_label_255_of_the_most_similar_neighbour_is_copied_too():
    labels = torch.tensor([[[255, 1, 2]]])
    features = torch.tensor([[1.0, 1.0, 1.0], [0.0, 0.1, 1.0]]).view(1, 2, 1, 3)  # the left neighbour is nearer
    got = correct(labels, torch.tensor([[[KEEP, UNSURE, KEEP]]]), features, **RULES)
    assert got.tolist() == [[[255, 255, 2]]]


def test_all_pixels_change_at_once():
    """Each takes its neighbour's OLD label: going pixel by pixel from the left gives 2 2 2, from the right 1 1 2."""
    features = torch.tensor([[1.0, 1.0, 1.0], [0.0, 0.1, 1.0]]).view(1, 2, 1, 3)
    got = correct(torch.tensor([[[1, 2, 3]]]), torch.full((1, 1, 3), UNSURE), features, **RULES)
    assert got.tolist() == [[[2, 1, 2]]]


@pytest.mark.parametrize("unlike", [(0, 1), (2, 1), (1, 0), (1, 2)])
@pytest.mark.parametrize("kind", [UNSURE, NOISY])
def test_one_unlike_neighbour_makes_background(kind, unlike):
    grid = [[0] * 3 for _ in range(3)]
    grid[unlike[0]][unlike[1]] = 1
    noise = torch.full((1, 3, 3), KEEP)
    noise[0, 1, 1] = kind
    got = correct(torch.full((1, 3, 3), 5), noise, one_hot(grid), **RULES)
    assert got[0, 1, 1] == 0 and (got == 5).sum() == 8


def test_similarity_equal_to_tau_is_no_boundary():
    noise, labels = torch.tensor([[[NOISY, KEEP]]]), torch.tensor([[[3, 4]]])
    assert correct(labels, noise, one_hot([[0, 1]]), high=HIGH, low=LOW, tau=0.0).tolist() == [[[255, 4]]]
    assert correct(labels, noise, one_hot([[0, 1]]), high=HIGH, low=LOW, tau=1e-6).tolist() == [[[0, 4]]]
    assert correct(labels, noise, one_hot([[0, 0]]), high=HIGH, low=LOW, tau=1.0).tolist() == [[[255, 4]]]


def test_noise_equal_to_a_threshold_keeps_the_label():
    noise = torch.tensor([[[0.0, LOW, LOW + 1e-6, HIGH - 1e-6, HIGH, HIGH + 1e-6, 1.0]]])
    got = correct(torch.full((1, 1, 7), 4), noise, one_hot([[0, 1, 2, 3, 0, 1, 2]]), high=HIGH, low=LOW, tau=0.5)
    assert got.tolist() == [[[4, 4, 0, 0, 4, 0, 0]]]


def test_equal_thresholds_leave_no_unsure_pixel():
    noise = torch.tensor([[[0.4, 0.5, 0.6]]])
    got = correct(torch.full((1, 1, 3), 4), noise, one_hot([[0, 0, 0]]), high=0.5, low=0.5, tau=0.5)
    assert got.tolist() == [[[4, 4, 255]]]


def test_zero_features_are_unlike_everything():
    got = correct(torch.full((1, 2, 2), 4), torch.full((1, 2, 2), UNSURE), torch.zeros(1, 3, 2, 2), **RULES)
    assert (got == 0).all()


# symmetry, purity, errors


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("turn", [lambda t: t.flip(-1), lambda t: t.flip(-2), lambda t: t.transpose(-1, -2)])
def test_mirrored_input_gives_mirrored_output_without_ties(seed, turn):
    generator = torch.Generator().manual_seed(seed)
    labels, noise = torch.randint(9, (1, 6, 6), generator=generator), torch.rand(1, 6, 6, generator=generator)
    features = draw_features(seed, 6, 6, dim=8)
    got = correct(turn(labels), turn(noise), turn(features), **RULES)
    assert torch.equal(got, turn(correct(labels, noise, features, **RULES)))


def test_input_is_left_alone_and_the_output_has_no_graph():
    labels, noise = torch.full((1, 2, 2), 3), torch.full((1, 2, 2), NOISY)
    got = correct(labels, noise, torch.randn(1, 2, 2, 2).requires_grad_(), **RULES)
    assert (labels == 3).all() and got.dtype == torch.int64 and not got.requires_grad
    untouched = correct(labels, torch.zeros(1, 2, 2), torch.ones(1, 2, 2, 2), **RULES)
    assert torch.equal(untouched, labels) and untouched.data_ptr() != labels.data_ptr()


@pytest.mark.parametrize(("low", "high"), [(0.9, 0.2), (-0.1, 0.5), (0.5, 1.1), (0.5, float("nan"))])
def test_thresholds_out_of_order_are_refused(low, high):
    with pytest.raises(ValueError, match="low"):
        correct(torch.zeros(1, 2, 2).long(), torch.zeros(1, 2, 2), torch.zeros(1, 3, 2, 2), high=high, low=low, tau=0.3)
    with pytest.raises(ValueError, match="low"):
        rules(torch.zeros(1, 2, 2), torch.zeros(1, 4, 2, 2), high=high, low=low, tau=0.3)


@pytest.mark.parametrize(
    "shapes",
    [
        ((1, 2, 3), (1, 3, 2), (1, 4, 2, 3)),
        ((1, 2, 3), (1, 2, 3), (1, 4, 3, 2)),
        ((2, 2, 3), (2, 2, 3), (1, 4, 2, 3)),
    ],
)
def test_grids_that_differ_are_refused(shapes):
    labels, noise, features = (torch.zeros(s) for s in shapes)
    with pytest.raises(ValueError, match="grids differ"):
        correct(labels.long(), noise, features, **RULES)


# readings


def scattered(seed, batch=3, height=5, width=6, dim=4):
    """Labels with many 255, noise of every kind and features that are alike here and there."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.tensor([0, 1, 2, IGNORE, IGNORE])[torch.randint(5, (batch, height, width), generator=generator)]
    noise = torch.rand(batch, height, width, generator=generator)
    features = torch.randn(batch, dim, height, width, generator=generator) + 1
    similarity = correction.neighbour_similarity(features)
    return labels, correction.rules(noise, similarity, high=0.9, low=0.2, tau=-0.3), similarity


def by_hand(labels, rule, similarity, *, in_turn, copy_from):
    """The same by loops over places, on whole numbers."""
    before, now = labels.tolist(), labels.tolist()
    for b, image in enumerate(now):
        for y, row in enumerate(image):
            for x, _ in enumerate(row):
                seen = now[b] if in_turn else before[b]
                near = []
                for k, (v, u) in enumerate(((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1))):
                    if 0 <= v < len(image) and 0 <= u < len(row):
                        near.append((similarity[b, k, y, x].item(), -k, seen[v][u]))
                labelled = [one for one in near if one[2] != IGNORE]
                best = max(labelled if copy_from == "labelled" and labelled else near)[2]
                row[x] = {0: row[x], 1: 0, 2: IGNORE, 3: 0, 4: best}[rule[b, y, x].item()]
    return torch.tensor(now)


@pytest.mark.parametrize("copy_from", ["any", "labelled"])
@pytest.mark.parametrize("in_turn", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_every_order_and_source_of_labels_equals_the_loop(seed, in_turn, copy_from):
    labels, rule, similarity = scattered(seed)
    rewrite = correction.rewritten_in_turn if in_turn else correction.rewritten
    kept = labels.clone()
    found = rewrite(labels, rule, similarity, copy_from=copy_from)
    assert torch.equal(found, by_hand(labels, rule, similarity, in_turn=in_turn, copy_from=copy_from))
    assert torch.equal(labels, kept), "the labels given were changed"
    assert (rule == 4).any() and not torch.equal(found, labels)


def test_labelled_neighbours_fill_what_any_neighbour_would_not_and_only_in_turn_does_a_label_travel():
    """A row of equal features, one label at its left end, all of R_u: `together` moves it by one place, `in turn` to the end."""
    labels = torch.tensor([[[3, IGNORE, IGNORE, IGNORE, IGNORE]]])
    similarity = correction.neighbour_similarity(torch.ones(1, 2, 1, 5))
    rule = torch.full_like(labels, 4)
    rule[..., 0] = 0
    assert correction.rewritten(labels, rule, similarity, copy_from="labelled").tolist() == [[[3, 3, IGNORE, IGNORE, IGNORE]]]
    assert correction.rewritten_in_turn(labels, rule, similarity).tolist() == [[[3] * 5]]


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
def test_a_quantile_leaves_that_share_of_an_images_pairs_below_it(share):
    generator = torch.Generator().manual_seed(0)
    similarity = correction.neighbour_similarity(torch.randn(3, 5, 9, 8, generator=generator))
    tau = correction.quantile(similarity, share)
    assert tau.shape == (3,)
    for one, bound in zip(similarity, tau, strict=True):
        known = one[~one.isnan()]
        assert (known < bound).float().mean() == pytest.approx(share, abs=2 / len(known))  # a pair of neighbours is seen from both
    each = correction.rules(torch.full((3, 9, 8), 0.95), similarity, high=0.9, low=0.2, tau=tau)
    alone = [
        correction.rules(torch.full((1, 9, 8), 0.95), similarity[b : b + 1], high=0.9, low=0.2, tau=tau[b].item()) for b in range(3)
    ]
    assert torch.equal(each, torch.cat(alone))
