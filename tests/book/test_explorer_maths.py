"""The explorers compute what the package computes: their JavaScript and the package side by side on thousands of cases.

Both calculate in float64. Where the operations are the same and in the same order, what is left is the last bit of a logarithm and of
an exponential, which no standard fixes: of what is between 0 and 1 that is less than 1e-15. Where sums are taken in another order they
may differ by as many last bits as there are terms. The contrast and the similarity of the package calculate in float32, so there
float64 is asked of the second implementation, `oracles`.
"""

import zlib

import explored
import explorers
import numpy as np
import oracles
import pytest
import torch
import torch.nn.functional as F

from dsgc import cam, correction, gmm
from dsgc.ptc import pull_and_push
from dsgc.scoring import diagnosis

EPS = torch.finfo(torch.float64).eps  # 2.2e-16
CASES, BINS = 2000, 40
PARTS = "{{ const m = {}; return [m.mean, m.variance, m.weight]; }}"  # of a mixture


@pytest.fixture(scope="module")
def js():
    """Evaluates a function of JavaScript on a list of cases, one after the other."""
    with explored.chromium() as browser:
        page = browser.new_page()
        for name in explored.MATHS:
            page.add_script_tag(path=explorers.FOLDER / name)
        yield lambda function, cases: page.evaluate(f"(cases) => cases.map({function})", cases)


def double(values):
    return torch.as_tensor(values, dtype=torch.float64)


@pytest.fixture(scope="module")
def drawn():
    """Values (B, N), how often each occurs, and a mixture (B, 2) for each row, of very narrow bells too."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(CASES, BINS, generator=generator, dtype=torch.float64)
    count = torch.randint(0, 6, (CASES, BINS), generator=generator).double()
    mean = torch.rand(CASES, 2, generator=generator, dtype=torch.float64).sort(1).values
    variance = 10 ** (-5 * torch.rand(CASES, 2, generator=generator, dtype=torch.float64))
    weight = torch.rand(CASES, 1, generator=generator, dtype=torch.float64)
    return x, count, mean, variance, torch.cat([weight, 1 - weight], 1)


def cases_of(x, count, mean, variance, weight):
    rows = zip(x.tolist(), count.tolist(), mean.tolist(), variance.tolist(), weight.tolist(), strict=True)
    return [{"x": x, "count": c, "mixture": {"mean": m, "variance": v, "weight": w}} for x, c, m, v, w in rows]


def test_e_step_is_the_package_s_to_the_last_bits(js, drawn):
    x, _, *mixture = drawn
    script = "({x, mixture}) => { const found = explore.em.eStep(x, mixture); return [found.posterior, found.evidence]; }"
    found = js(script, cases_of(*drawn))
    posterior, evidence = gmm.e_step(x, *mixture)
    size = 1 + gmm.log_joint(x, *mixture).abs().amax(1)  # (B, N): what the exponential is of, whose last bit it is
    assert ((double([of[1] for of in found]) - evidence).abs() <= 2 * EPS * size).all()
    off = (double([of[0] for of in found]) - posterior).abs()
    assert (off <= 4 * EPS * size[:, None]).all()
    assert float((off <= 1e-15).double().mean()) > 0.9999


def test_noise_probability_is_the_package_s_to_the_last_bits(js, drawn):
    x, _, mean, variance, weight = drawn
    mixture = gmm.Mixture(mean, variance, weight, *torch.zeros(3, len(x)))
    expected = gmm.noise_probability(x, mixture)
    odds = (x[:, None] - mean[..., None]).square() / (2 * variance[..., None])
    found = double(js("({x, mixture}) => explore.em.noise(x, mixture)", cases_of(*drawn)))
    assert ((found - expected).abs() <= 2 * EPS * (1 + odds.sum(1)) * expected + EPS).all()
    assert float(((found - expected).abs() <= 1e-15).double().mean()) > 0.9999


def test_m_step_is_the_package_s_up_to_the_order_of_sums(js, drawn):
    x, count, *mixture = drawn
    posterior, _ = gmm.e_step(x, *mixture)
    counted = posterior * count[:, None]
    mass = counted.sum(-1).clamp_min(torch.finfo(torch.float64).tiny)
    mean = gmm.update_mean(x, counted, mass)
    expected = mean, gmm.update_variance(x, counted, mass, mean).clamp_min(1e-6), gmm.update_weight(mass, count.sum(1))
    given = [case | {"posterior": part} for case, part in zip(cases_of(*drawn), posterior.tolist(), strict=True)]
    found = js("({x, count, posterior}) => " + PARTS.format("explore.em.mStep(x, count, posterior)"), given)
    known = (mass > 1e-290)[:, None]  # a component that accounts for nothing has no mean
    for part, of in zip(expected, double(found).unbind(1), strict=True):
        assert (((of - part).abs() <= BINS * EPS * part.abs()) | ~known[:, 0]).all()


def test_fit_is_the_package_s_of_the_values_each_as_often_as_it_occurs(js, drawn):
    x, count = drawn[0][:400], drawn[1][:400]
    repeated = x.repeat_interleave(5, 1)  # (B, 5 N)
    mask = torch.arange(5).repeat(BINS) < count.repeat_interleave(5, 1)
    package = gmm.fit(repeated, mask, max_iter=20, tolerance=-torch.inf)
    script = "({x, count}) => " + PARTS.format("explore.em.fit(x, count, {limit: 20, tolerance: -Infinity})")
    found = double(js(script, [{"x": a, "count": c} for a, c in zip(x.tolist(), count.tolist(), strict=True)]))
    assert (found[:, 0].diff(dim=1) >= 0).all()
    torch.testing.assert_close(found, torch.stack(package[:3], 1), rtol=1e-11, atol=1e-11)  # twenty times the last bits, and how they grow


def test_fit_ends_where_the_package_s_ends(js, drawn):
    x = drawn[0][:400]
    package = gmm.fit(x)
    found = js("(x) => " + PARTS.format("explore.em.fit(x, x.map(() => 1))"), x.tolist())
    torch.testing.assert_close(double(found), torch.stack(package[:3], 1), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("values", [[0.7] * 5, [0.3], [0.5, 0.5 + 1e-9]])
def test_what_cannot_be_split_is_not_split(js, values):
    (found,) = js("(x) => { const m = explore.em.fit(x, x.map(() => 1)); return [m.weight, explore.em.noise(x, m)]; }", [values])
    assert found == [[0, 1], [0] * len(values)]


SHAPES = ((5, 5), (1, 1), (1, 4), (3, 2))
CHOICES = {"high": (0.85, 0.5, 1.0), "low": (0.25, 0.5, 0.0), "tau": (0.7, 0.0, 1.0)}


@pytest.mark.parametrize(("height", "width"), SHAPES)
def test_the_rules_are_the_package_s_exactly(js, height, width):
    """Similarities with many ties, noise that equals a threshold, every label; off the image NaN."""
    generator = torch.Generator().manual_seed(height)
    size = 600, height, width
    angle = torch.tensor([0.0, 0.3, 0.6, 1.2, 2.0])[torch.randint(5, size, generator=generator)].double()
    noise = double([0.0, 0.25, 0.3, 0.5, 0.85, 0.9, 1.0])[torch.randint(7, size, generator=generator)]
    labels = torch.tensor([0, 1, 2, 255])[torch.randint(4, size, generator=generator)]
    features = torch.stack([angle.cos(), angle.sin()], -1).flatten(1, 2)  # (B, h w, 2)
    script = f"""({{features, noise, labels, high, low, tau}}) => {{
        const near = explore.rules.around({height}, {width}), alike = explore.rules.similarity(features, near);
        const rule = explore.rules.which(noise, alike, high, low, tau);
        return [alike, rule, explore.rules.rewritten(labels, rule, alike, near)]; }}"""
    for chosen in zip(*CHOICES.values(), strict=True):
        limits = dict(zip(CHOICES, chosen, strict=True))
        given = zip(features.tolist(), noise.flatten(1).tolist(), labels.flatten(1).tolist(), strict=True)
        found = js(script, [{"features": f, "noise": n, "labels": label} | limits for f, n, label in given])
        alike = double([of[0] for of in found]).view(*size, 4).movedim(-1, 1)  # (B, 4, h, w)
        rule = correction.rules(noise, alike, **limits)
        assert torch.equal(rule.flatten(1), torch.tensor([of[1] for of in found]))
        assert torch.equal(correction.rewritten(labels, rule, alike).flatten(1), torch.tensor([of[2] for of in found]))
    assert set(rule.unique().tolist()) <= set(range(5))
    package = correction.neighbour_similarity(features.view(*size, 2).movedim(-1, 1))
    torch.testing.assert_close(alike, package.double(), rtol=0, atol=1e-6, equal_nan=True)  # float32
    slow = oracles.neighbour_similarity(features[:100].view(100, height, width, 2).movedim(-1, 1).tolist())
    torch.testing.assert_close(alike[:100], double(np.array(slow, float)).view(100, 4, height, width), rtol=0, atol=1e-15, equal_nan=True)


def test_a_label_by_thresholds_and_its_worth_are_the_package_s_exactly(js):
    generator = torch.Generator().manual_seed(4)
    maps = torch.randint(0, 21, (500, 2, 6, 6), generator=generator).double() / 20  # many equal to a threshold
    truth = torch.tensor([0, 1, 2, 255])[torch.randint(4, (500, 6, 6), generator=generator)]
    confidence, winner = maps.max(1)
    labels = cam.patch_labels(maps, torch.ones(500, 2), 0.25, 0.7)
    script = """([confidence, strongest, truth]) => {
        const labels = explore.thresholds.cut(confidence, strongest, 0.25, 0.7), worth = explore.thresholds.worth(labels, truth);
        return [labels, [worth.share, worth.mean, worth.strictMean]]; }"""
    found = js(script, torch.stack([confidence, winner + 1, truth], 1).flatten(2).tolist())
    assert torch.equal(torch.tensor([of[0] for of in found]), labels.flatten(1))
    for (_, worth), label, true in zip(found, labels, truth, strict=True):
        share, *means = (value / 100 for value in diagnosis.worth(label[None], true[None], 3).values())
        assert worth[0] == pytest.approx(share, abs=1e-7)  # float32
        assert worth[1:] == pytest.approx(means, rel=1e-14)


def contrast(tokens, labels):
    """Eq. 4 of tokens (N, D) by the matrix of all pairs, float64."""
    unit, kept = F.normalize(tokens, dim=1), labels != 255
    both = kept[:, None] & kept & ~torch.eye(len(labels), dtype=torch.bool)
    same, cosine = labels[:, None] == labels, unit @ unit.T
    return sum(of[both & which].mean() if (both & which).any() else of.sum() * 0 for of, which in ((1 - cosine, same), (cosine, ~same)))


def test_the_contrast_and_its_gradient_are_the_package_s(js):
    generator = torch.Generator().manual_seed(7)
    tokens = torch.randn(1000, 12, 2, generator=generator, dtype=torch.float64)
    labels = torch.tensor([0, 1, 2, 255])[torch.randint(4, (1000, 12), generator=generator)]
    labels[0], labels[1], labels[2] = 255, 1, torch.tensor([0, 1] + [255] * 10)  # no pair, one label, one pair
    script = "([t, l]) => [explore.ptc.pullAndPush(t, l), explore.ptc.gradient(t, l), explore.ptc.step(t, l, 0.5)]"
    found = js(script, [list(of) for of in zip(tokens.tolist(), labels.tolist(), strict=True)])
    for (terms, gradient, moved), token, label in zip(found, tokens, labels, strict=True):
        assert terms == pytest.approx(pull_and_push(token.T.reshape(1, 2, 3, 4), label.view(1, 3, 4)).tolist(), abs=2e-6)  # float32
        here = token.clone().requires_grad_()
        loss = contrast(here, label)
        (slope,) = torch.autograd.grad(loss, here)
        assert sum(terms) == pytest.approx(float(loss.detach()), abs=132 * EPS)  # as many pairs
        torch.testing.assert_close(double(gradient), slope, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(double(moved), token - 0.5 * slope, rtol=1e-12, atol=1e-14)
    some = zip(tokens[:50], labels[:50], strict=True)
    slow = [oracles.patch_token_contrast([token.T[:, None].tolist()], [label[None].tolist()]) for token, label in some]
    assert [sum(of[0]) for of in found[:50]] == pytest.approx(slow, abs=132 * EPS)


def test_em_and_the_rules_travel_in_two_kilobytes():
    text = b"".join((explorers.FOLDER / name).read_bytes() for name in ("em.js", "rules.js"))
    assert len(zlib.compress(text, 9)) < 2048


def test_the_maths_knows_no_page():
    for name in explored.MATHS:
        text = (explorers.FOLDER / name).read_text(encoding="utf-8")
        assert "document" not in text and "window" not in text and text.count("globalThis") == 1
