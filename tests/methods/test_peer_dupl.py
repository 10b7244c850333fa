"""DuPL: its formulas against plain loops and scikit-learn, its stages against those published, and what its filter finds."""

import math
from typing import NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from plain import Contrasted, reached
from sklearn.mixture import GaussianMixture
from steps import CLASSES, TAGS, gradients, networks_of, stage_of, step, uneven_batch

from dsgc import cam
from dsgc.cam import IGNORE
from dsgc.errors import UserError
from dsgc.methods import preset, strong
from dsgc.methods.contract import Part, over_all
from dsgc.methods.peers import dupl
from dsgc.methods.peers.dupl import Dupl, by_thresholds, confident, discrepancy, noisy, upper_threshold

OFF = {"discrepancy": 0.0, "consistency": 0.0, "crossed": False, "filter_from": 1.0, "lambda4": 0.1}
PUBLISHED = {"least": 0.1, "share": 0.005, "distance": 1.0, "posterior": 0.95, "one_sided": False}
FIT = {"max_iter": 10, "tolerance": 1e-2, "variance_floor": 5e-4}
TO_THE_END = {"max_iter": 2000, "tolerance": 1e-9, "variance_floor": 1e-9}


def random(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def kept_high(config):
    """The upper threshold of labels as it is at first."""
    return config.changed(label_high_ends=(config.method.label_high,))


# thresholds


def test_the_upper_threshold_falls_along_half_a_cosine_to_the_largest_value_of_the_tags():
    start, ends = 0.7, [0.7, 0.55, 0.6, 0.7, 0.5, 0.55]
    tags = torch.cat([TAGS, torch.zeros(1, CLASSES)])
    for steps, number in ((18_000, 0), (18_000, 5_999), (18_000, 17_999), (4, 1)):
        share = number / (steps - 1)
        found = upper_threshold(share, start, torch.tensor(ends), tags)
        for value, row in zip(found.tolist(), tags.tolist(), strict=True):
            now = [start + (end - start) * (1 - math.cos(math.pi * share)) / 2 for end, tag in zip(ends, row, strict=True) if tag]
            assert value == pytest.approx(max(now, default=start), abs=1e-6)
    assert upper_threshold(1.0, start, torch.full((CLASSES,), 0.55), TAGS).tolist() == pytest.approx([0.55] * 3)


def test_labels_by_two_thresholds_are_those_of_equation_3_where_the_upper_one_is_the_same_for_all():
    maps, high = random(3, CLASSES, 5, 7), torch.tensor([0.5, 0.7, 0.9])
    confidence, winner = cam.tagged(maps, TAGS).max(1)
    found = by_thresholds(confidence, winner + 1, 0.25, high)
    for number in range(3):
        rows = slice(number, number + 1)
        assert torch.equal(found[rows], cam.patch_labels(maps[rows], TAGS[rows], 0.25, high[number].item()))
    edges = torch.tensor([[[0.24, 0.25, 0.5, 0.51, 0.0, 1.0]]])
    assert by_thresholds(edges, torch.full((1, 1, 6), 4), 0.25, torch.tensor([0.5])).tolist() == [[[0, 255, 255, 4, 0, 4]]]


def test_one_value_ends_the_fall_or_one_for_each_class(fixed, pair):
    assert Dupl(label_high_ends=(0.7,) * 4 + (0.55,) * 16).heads(pair[0], 20) == {}
    with pytest.raises(UserError, match="must be one value, or 6, one for each class"):
        fixed("dupl", label_high_ends=(0.5, 0.6)).method.heads(pair[0], CLASSES)
    with pytest.raises(UserError, match="label_high_ends"):
        fixed("dupl", label_high_ends=(0.1,))


def test_both_kinds_of_labels_follow_the_threshold(pair, images, fixed):
    """More is labelled as it falls, in each network's label and in the pairs; nothing where it stays."""
    config = fixed("dupl", label_high_ends=(0.3,))
    networks, part = networks_of(pair, config), Part(images, TAGS, torch.arange(3))
    stage = stage_of(config, "crossed")

    def shares(config, progress):
        seen = config.method.passes(networks, part, stage)
        with torch.no_grad():
            goals = config.method.goals(networks, seen, part, stage._replace(progress=progress))
        return [(made != IGNORE).float().mean().item() for made in (*goals.patch_labels, *goals.labels)]

    first, middle, last = (shares(config, progress) for progress in (0.0, 0.5, 1.0))
    assert all(a <= b <= c for a, b, c in zip(first, middle, last, strict=True))
    assert all(a < c for a, c in zip(first, last, strict=True))
    assert shares(kept_high(config), 0.0) == shares(kept_high(config), 1.0) == first


# discrepancy


def test_discrepancy_is_that_of_a_loop_over_channels():
    one, other = torch.randn(2, 2, 3, 2, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64).unbind()
    one[1, 2] = 0  # a silent channel: cosine 0
    total = 0.0
    for b in range(2):
        for d in range(3):
            u, v = one[b, d].flatten().tolist(), other[b, d].flatten().tolist()
            norms = max(math.sqrt(sum(x * x for x in u)), 1e-6) * max(math.sqrt(sum(x * x for x in v)), 1e-6)
            total += sum(x * y for x, y in zip(u, v, strict=True)) / norms
    assert discrepancy(one, other).item() == pytest.approx(2 * (1 + total / 6), abs=1e-6)


def test_discrepancy_is_largest_for_like_networks_and_each_side_moves_away_from_the_other():
    tokens = torch.randn(2, 5, 3, 3, generator=torch.Generator().manual_seed(0))
    assert discrepancy(tokens, 2 * tokens).item() == pytest.approx(4, abs=1e-5)
    assert discrepancy(tokens, -tokens).item() == pytest.approx(0, abs=1e-5)
    one, other = tokens.clone().requires_grad_(), tokens.roll(1, 0).clone().requires_grad_()
    before = discrepancy(one, other)
    before.backward()
    with torch.no_grad():
        assert discrepancy(one - one.grad, other) < before and discrepancy(one, other - other.grad) < before
        expected = torch.autograd.functional.jacobian(lambda x: F.cosine_similarity(x.flatten(2), other.flatten(2), dim=-1).mean(), one)
    torch.testing.assert_close(one.grad, expected)  # of the side that is not held fixed alone


# the filter


def losses_of(*groups, size=(40, 50), seed=0):
    """One image's losses, shuffled: groups of (count, mean, deviation), what is left at 0.02; all foreground, of class 1."""
    generator = np.random.default_rng(seed)
    drawn = np.concatenate([generator.normal(mean, deviation, count) for count, mean, deviation in groups]).clip(0)
    values = np.full(size[0] * size[1], 0.02)
    values[: len(drawn)] = drawn
    values = torch.from_numpy(generator.permutation(values)).float().view(1, *size)
    return values, torch.ones(1, *size, dtype=torch.int64)


CASES = {
    "far apart": [(700, 0.5, 0.15), (300, 3.0, 0.5)],
    "wide above": [(900, 0.6, 0.1), (500, 2.5, 1.2)],
    "wide below": [(900, 1.0, 0.6), (300, 4.0, 0.2)],
}


@pytest.mark.parametrize("groups", CASES.values(), ids=CASES)
@pytest.mark.parametrize("start", range(2), ids=["all foreground", "some background and 255"])
def test_the_filter_is_that_of_scikit_learn_at_convergence(groups, start):
    losses, found = losses_of(*groups)
    if start:
        found[:, :5], found[:, 5:8] = 0, IGNORE
    values, known = losses.double().flatten().numpy(), ((found != 0) & (found != IGNORE)).flatten().numpy()
    mixture = GaussianMixture(2, max_iter=2000, tol=1e-10, reg_covar=1e-12, random_state=0)
    mixture.fit(values[known & (values > 0.1)][:, None])
    upper = mixture.predict_proba(values[:, None])[:, mixture.means_.argmax()]
    made = noisy(losses, found, **PUBLISHED, **TO_THE_END).flatten().numpy()
    clear = abs(upper - 0.95) > 0.01
    assert clear.mean() > 0.98 and made.any()
    assert (made == (known & (upper > 0.95)))[clear].all()


@pytest.mark.parametrize("groups", CASES.values(), ids=CASES)
def test_so_it_is_all_but_at_as_few_iterations_as_published(groups):
    """Both begin with two groups of least squares; scikit-learn adds 5e-4 to a variance that is no smaller here."""
    losses, found = losses_of(*groups)
    values = losses.double().flatten().numpy()
    mixture = GaussianMixture(2, max_iter=10, tol=1e-2, reg_covar=5e-4, random_state=0).fit(values[values > 0.1][:, None])
    upper = mixture.predict_proba(values[:, None])[:, mixture.means_.argmax()]
    made = noisy(losses, found, **PUBLISHED, **FIT).flatten().numpy()
    assert (made == (upper > 0.95)).mean() > 0.98 and made.any()


def test_a_wide_upper_gaussian_claims_the_smallest_losses_too_and_the_one_sided_filter_leaves_them():
    losses, found = losses_of(*CASES["wide above"])
    small = losses < 0.1
    assert small.sum() > 100
    assert noisy(losses, found, **PUBLISHED, **FIT)[small].all(), "pixels that the network knows best"
    one_sided = noisy(losses, found, **PUBLISHED | {"one_sided": True}, **FIT)
    large = losses > 0.7
    assert not one_sided[small].any() and torch.equal(one_sided[large], noisy(losses, found, **PUBLISHED, **FIT)[large])
    assert losses[one_sided].min() > losses[~one_sided].median(), "what is taken out are large losses"


@pytest.mark.parametrize(
    ("groups", "changes"),
    [
        ([(8, 0.5, 0.1), (2, 3.0, 0.1)], {}),  # 10 of 2,000 are .5 %, and not more
        ([(700, 0.5, 0.1), (300, 1.2, 0.1)], {}),  # means .7 apart
        ([(700, 0.5, 0.1), (300, 3.0, 0.1)], {"share": 0.6}),
        ([(700, 0.5, 0.1), (300, 3.0, 0.1)], {"distance": 3.0}),
        ([(700, 0.5, 0.1), (300, 3.0, 0.1)], {"posterior": 1.0}),
        ([(700, 0.5, 0.1), (300, 3.0, 0.1)], {"least": 9.0}),
    ],
)  # fmt: skip
def test_its_guards_hold(groups, changes):
    losses, found = losses_of(*groups)
    assert not noisy(losses, found, **PUBLISHED | changes, **FIT).any()
    loose = {"least": 0.1, "share": 0.0, "distance": 0.0, "posterior": 0.9}
    assert noisy(losses, found, **PUBLISHED | loose, **FIT).any(), "else nothing was held back"


@pytest.mark.parametrize("value", [0.0, 0.5, 50.0])
def test_constant_losses_and_labels_without_foreground_have_no_noise(value):
    losses, found = torch.full((2, 20, 20), value), torch.ones(2, 20, 20, dtype=torch.int64)
    assert not noisy(losses, found, **PUBLISHED, **FIT).any()
    varied = 5 * random(2, 20, 20)
    assert not noisy(varied, torch.full_like(found, IGNORE), **PUBLISHED, **FIT).any()
    assert not noisy(varied, torch.zeros_like(found), **PUBLISHED, **FIT).any()
    assert noisy(torch.zeros(0, 4, 4), torch.zeros(0, 4, 4, dtype=torch.int64), **PUBLISHED, **FIT).shape == (0, 4, 4)


def test_images_are_filtered_each_by_itself():
    one, other = losses_of(*CASES["far apart"]), losses_of(*CASES["wide above"], seed=1)
    both = noisy(*(torch.cat(pair) for pair in zip(one, other, strict=True)), **PUBLISHED, **FIT)
    assert torch.equal(both[:1], noisy(*one, **PUBLISHED, **FIT)) and torch.equal(both[1:], noisy(*other, **PUBLISHED, **FIT))
    assert torch.equal(noisy(one[0].flip(-1), one[1].flip(-1), **PUBLISHED, **FIT), both[:1].flip(-1))


def test_the_filter_finds_labels_that_were_exchanged(fixed):
    """A network that has learnt the truth, two pictures with a wrong patch in their label: what is taken out is the patch."""
    true = torch.zeros(2, 64, 64, dtype=torch.int64)
    true[:, 10:50, 10:50] = 3
    logits = 3.0 * F.one_hot(true, CLASSES + 1).permute(0, 3, 1, 2) + 1.5 * random(2, CLASSES + 1, 64, 64)
    wrong = true.clone()
    wrong[0, 10:22, 10:30], wrong[1, 40:50, 20:50] = 5, 5
    taken_out = torch.cat(fixed("dupl").method.noise((logits[:1], logits[1:]), (wrong[:1], wrong[1:])))
    spoilt = wrong != true
    assert taken_out[spoilt].float().mean() > 0.9 and taken_out[~spoilt].float().mean() < 0.01


# consistency and the strong view


def test_what_a_network_is_sure_of_without_a_label_is_that_of_a_loop():
    logits, taught = 4 * random(2, 4, 3, 5), torch.randint(0, 2, (2, 3, 5), generator=torch.Generator().manual_seed(0)) * IGNORE
    found = confident(logits, taught, 0.6)
    assert {0, 1} <= {(made == IGNORE).int().item() for made in found.flatten()}
    for b in range(2):
        for y in range(3):
            for x in range(5):
                parts = [math.exp(v) for v in logits[b, :, y, x].tolist()]
                sure = taught[b, y, x] == IGNORE and max(parts) / sum(parts) > 0.6
                assert found[b, y, x] == (parts.index(max(parts)) if sure else IGNORE)
    assert (confident(logits, torch.zeros_like(taught), 0.0) == IGNORE).all(), "where there is a label, that is learnt"


def test_consistency_is_the_mean_over_sure_pixels_and_0_without_any(pair, images, fixed):
    config = fixed("dupl")
    logits = tuple(random(2, CLASSES + 1, 4, 4, seed=seed).double().requires_grad_() for seed in (0, 1))
    goals = tuple(torch.where(random(2, 8, 8, seed=seed) < 0.5, 2, IGNORE) for seed in (2, 3))
    found = config.method.taught(logits, goals, "pixels")
    for value, count, each, made in zip(found.value, found.over, logits, goals, strict=True):
        large = F.interpolate(each, (8, 8), mode="bilinear", align_corners=False)
        terms = [-math.log(large[b, :, y, x].softmax(0)[2].item()) for b, y, x in (made == 2).nonzero().tolist()]
        assert count == len(terms) and value.item() == pytest.approx(sum(terms) / len(terms), rel=1e-5)
    made = step(pair, images, "filter", config.changed(confident=1.0))
    assert made.losses["con"] == 0
    made.losses["con"].backward()
    assert all(parameter.grad is None or not parameter.grad.any() for network in pair for parameter in network.parameters())


def test_the_strong_view_is_an_images_own_keeps_its_range_and_moves_nothing():
    images, seeds = F.interpolate(random(4, 3, 5, 5), (32, 32), mode="bilinear"), torch.tensor([3, 1, 4, 1])
    images[3] = images[1]
    view = strong.coloured(images, seeds, times=5, strength=1 / 3)
    assert view.shape == images.shape and 0 <= view.min() and view.max() <= 1
    assert all((one - other).abs().max() > 0.02 for one, other in zip(view, images, strict=True))
    assert torch.equal(view[1], view[3]), "of one seed and one image one view"
    assert torch.equal(strong.coloured(images[2:], seeds[2:], times=5, strength=1 / 3), view[2:]), "in whatever part it is"
    torch.testing.assert_close(strong.coloured(images.flip(-1), seeds, times=5, strength=1 / 3), view.flip(-1))
    assert torch.equal(strong.coloured(images, seeds, times=0, strength=1 / 3), images)
    assert strong.coloured(images[:0], seeds[:0], times=5, strength=1 / 3).shape == (0, 3, 32, 32)


def test_each_change_is_drawn_as_often_and_does_what_its_strength_says():
    generator = np.random.default_rng(0)
    seeds = torch.from_numpy(generator.integers(0, 2**62, 300))
    numbers = (strong.draws.uniform(seeds, "strong view", 5) * len(strong.CHANGES)).long().flatten()
    assert len(strong.CHANGES) == 7 and (numbers.bincount(minlength=7) / len(numbers) - 1 / 7).abs().max() < 0.03
    image = random(3, 64, 64)
    saturation, contrast, brightness, sharpness = strong.CHANGES[3:]
    for change in (saturation, contrast, brightness, sharpness):
        torch.testing.assert_close(change(image, 0.5), image)
    torch.testing.assert_close(brightness(image, 1 / 3), 0.7 * image)
    grey = (image * torch.tensor([0.2989, 0.587, 0.114])[:, None, None]).sum(0)
    torch.testing.assert_close(contrast(image, 1 / 3), 0.7 * image + 0.3 * grey.mean(), atol=1e-3, rtol=0)
    torch.testing.assert_close(saturation(image, 1 / 3), 0.7 * image + 0.3 * grey, atol=1e-3, rtol=0)
    assert len(strong.CHANGES[2](image, 1 / 3).unique()) == 4, "two bits"
    stretched = strong.CHANGES[0](0.2 + 0.5 * image, 1 / 3)
    assert stretched.amin((1, 2)).tolist() == [0] * 3 and stretched.amax((1, 2)).tolist() == pytest.approx([1] * 3)
    assert strong.CHANGES[1](image**3, 1 / 3).mean() > 0.45, "as many dark pixels as bright ones"


SIDES = [(448, 16, 336), (96, 8, 72), (168, 14, 126), (112, 14, 84), (40, 8, 32), (8, 8, 8)]


@pytest.mark.parametrize(("side", "patch", "expected"), SIDES)
def test_the_strong_views_sides_are_multiples_of_the_patch(side, patch, expected):
    assert strong.scaled(torch.zeros(1, 3, side, side), 0.75, patch).shape == (1, 3, expected, expected)


class Pooled(NamedTuple):
    tokens: torch.Tensor


class Plain:
    """A network whose tokens and logits are the image itself, in patches."""

    patch_size = 8

    def __call__(self, images):
        return Pooled(F.avg_pool2d(images, 8))

    def decode(self, tokens):
        return tokens


def test_logits_of_both_views_are_in_the_frame_of_the_images(images, fixed):
    config = fixed("dupl", strong_times=0, strong_scale=1.0)
    part, given = Part(images, TAGS, torch.arange(3)), []

    class Watched(Plain):
        def __call__(self, images):
            given.append(images)
            return super().__call__(images)

    seen = config.method.passes({"first": Watched(), "second": Plain()}, part, stage_of(config, "filter"))
    small = F.avg_pool2d(images, 8)
    assert torch.equal(given[0], images.flip(-1)) and torch.equal(given[1], images), "one view is the other's mirror image"
    for logits in (*seen.logits, *seen.strong):
        torch.testing.assert_close(logits, small)
    torch.testing.assert_close(seen.plain[0].tokens, small.flip(-1))


# stages


def test_stages_begin_where_they_are_published():
    method = preset("voc", "dupl").method
    stages = [method.stage(number, 20_000) for number in (0, 1_999, 2_000, 7_999, 8_000, 19_999, 20_000)]
    assert [stage.name for stage in stages] == ["warm-up"] * 2 + ["crossed"] * 2 + ["filter"] * 3
    assert stages[1].weights == {"cls": 1, "ptc": 0.2, "dis": 0.1}
    assert stages[2].weights == stages[1].weights | {"seg": 0.2} and stages[4].weights == stages[2].weights | {"con": 0.05}
    assert [stage.progress for stage in stages] == pytest.approx([0, 0, 0, 5_999 / 17_999, 6_000 / 17_999, 1, 1])

    method = preset("coco", "dupl").method.replaced(warmup_steps=8_000)
    numbers = (0, 7_999, 8_000, 11_999, 12_000, 31_999, 32_000, 79_999)
    stages = [method.stage(number, 80_000) for number in numbers]
    assert [stage.name for stage in stages] == ["warm-up"] * 2 + ["auxiliary"] * 2 + ["crossed"] * 2 + ["filter"] * 2
    assert stages[0].weights == {"cls": 1} and stages[2].weights == {"cls": 1, "dis": 0.05, "seg": 0.2}
    assert stages[4].weights == stages[2].weights | {"ptc": 0.2} and stages[6].weights == stages[4].weights | {"con": 0.05}
    assert [stage.progress for stage in stages] == pytest.approx([0, 0, 0, 0, 0, 19_999 / 67_999, 20_000 / 67_999, 1], abs=1e-5)


def test_labels_come_from_the_middle_tokens_first_where_the_method_says_so(pair, images, fixed):
    config = fixed("dupl", auxiliary_until=0.3, early=False, refine_iterations=0, crossed=False)
    method, networks = config.method, networks_of(pair, config)
    made = step(pair, images, "auxiliary", config)
    assert made.losses.keys() == {"cls", "dis", "seg"}
    with torch.no_grad():
        for network, found in zip(networks.values(), made.goals.labels, strict=True):
            output = network(images.flip(-1))
            maps = cam.class_activation_map(output.middle, network.aux_classifier.weight, subtract_minimum=True).flip(-1)
            assert torch.equal(found, method.initial_label(images, maps, TAGS).labels)
    late = step(pair, images, "crossed", config.changed(auxiliary_until=0.0))
    assert not torch.equal(late.goals.labels[0], made.goals.labels[0])


# a step


def test_each_network_learns_the_others_label(pair, images, fixed):
    own = step(pair, images, "crossed", fixed("dupl", crossed=False)).goals.labels
    crossed = step(pair, images, "crossed", fixed("dupl")).goals.labels
    assert not torch.equal(*own) and torch.equal(crossed[0], own[1]) and torch.equal(crossed[1], own[0])


def test_where_a_label_is_taken_out_its_pupil_may_learn_from_itself(pair, images, fixed, monkeypatch):
    """The filter judges a network's own label; the one that is supervised by it then has no label there, and may be sure."""
    monkeypatch.setattr(dupl, "noisy", lambda losses, found, **options: (found != 0) & (found != IGNORE))
    config = kept_high(fixed("dupl"))
    made, before = step(pair, images, "filter", config), step(pair, images, "crossed", config).goals.labels
    for number in (0, 1):
        now, then = made.goals.labels[number], before[number]
        assert torch.equal(now, torch.where(then == 0, 0, IGNORE)) and (then != now).any()
        assert torch.equal(made.goals.confident[number] != IGNORE, now == IGNORE)
        assert torch.equal(made.goals.noise[1 - number], (then != 0) & (then != IGNORE))


REACHED = {
    "cls": {"encoder", "patch_classifier", "aux_classifier"},
    "ptc": {"encoder"},
    "dis": {"encoder"},
    "seg": {"encoder", "decoder"},
    "con": {"encoder", "decoder"},
}


def test_each_loss_trains_what_it_claims_in_both_networks(pair, images, fixed):
    config = fixed("dupl")
    made, networks = step(pair, images, "filter", config), networks_of(pair, config)
    assert made.losses.keys() == REACHED.keys()
    for name, loss in made.losses.items():
        for network in networks.values():
            assert reached(network, loss) == REACHED[name], name


def test_what_one_network_is_taught_moves_that_one_alone(pair, images, fixed):
    config = fixed("dupl")
    networks, part, stage = networks_of(pair, config), Part(images, TAGS, torch.arange(3)), stage_of(config, "filter")
    seen = config.method.passes(networks, part, stage)
    with torch.no_grad():
        goals = config.method.goals(networks, seen, part, stage)
    means = config.method.losses(networks, seen, goals, part, stage, {})
    for name in ("ptc", "seg", "con"):
        mine = means[name].value[: len(means[name].value) // 2].sum()
        assert torch.autograd.grad(mine, networks["first"].encoder.cls_token, retain_graph=True)[0].any()
        theirs = torch.autograd.grad(mine, [*networks["second"].parameters()], retain_graph=True, allow_unused=True)
        assert not any(value.any() for value in theirs if value is not None)


@pytest.mark.parametrize(("stage", "theirs"), [("warm-up", "warm-up"), ("crossed", "expansion")])
def test_with_everything_off_each_network_is_the_baseline_to_the_bit(pair, fixed, stage, theirs):
    off = kept_high(fixed("dupl", **OFF))
    base = fixed("base")
    base = base.changed(method=Contrasted(**{name: getattr(base.method, name) for name in base.method.names()}))
    made, found = gradients(pair, [uneven_batch()], stage, off)
    ends = []
    for number, name in enumerate(off.method.networks):
        one, expected = gradients([pair[number]], [uneven_batch()], theirs, base)
        mine = {key.removeprefix(f"{name}."): value for key, value in found.items() if key.startswith(f"{name}.")}
        expected = {key.removeprefix("network."): value for key, value in expected.items()}
        assert mine.keys() == expected.keys() and all(torch.equal(mine[key], expected[key]) for key in expected)
        ends.append(one.losses)
    assert made.losses.keys() == ends[0].keys()
    for name, value in made.losses.items():
        assert value.item() == pytest.approx(sum(end[name].item() for end in ends), rel=1e-6), name


def test_with_true_masks_it_learns_what_the_baseline_would(pair, fixed, monkeypatch):
    config, batch = fixed("dupl"), uneven_batch(masks=True)
    monkeypatch.setattr(Dupl, "label", lambda self, network, output, part, high, *, middle: part.masks)
    made = step(pair, batch.images, "crossed", config, tags=batch.tags, masks=batch.masks)
    method = config.method
    expected = [method.segmentation(network, network(batch.images.flip(-1)).tokens.flip(-1), batch.masks) for network in pair]
    alone = [over_all({"seg": mean}, {"seg": mean.over})["seg"].item() for mean in expected]
    assert made.losses["seg"].item() == pytest.approx(sum(alone), rel=1e-5)


def test_what_is_watched_are_shares_of_pixels(pair, fixed, images):
    config = fixed("dupl")
    made = step(pair, images, "filter", config)
    found = config.method.watched(made.goals, {})
    assert found.keys() == {"labelled", "filtered", "confident"} and all(0 <= value <= 1 for value in found.values())
    known = sum((made != IGNORE).sum().item() for made in made.goals.labels) / sum(made.numel() for made in made.goals.labels)
    assert found["labelled"].item() == pytest.approx(known)
    assert config.method.watched(step(pair, images, "warm-up", config).goals, {}) == {}
