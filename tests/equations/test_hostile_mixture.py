"""The mixture on hostile values: it stays in its range, its likelihood never falls, what must not matter does not (Eq. 11-17)."""

import math

import hostile
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from promises import promise
from torch.testing import assert_close

from dsgc import binned, gmm

FLOOR = 1e-6
ROWS, DRAWS = 3, 1000
FITS = pytest.mark.parametrize("fit", [gmm.fit, binned.fit], ids=["gmm", "binned"])
DOUBLE = {"dtypes": (torch.float64,)}


@st.composite
def maps(draw, **options):
    """Activations (ROWS, N) and a mask of those that count: all, some or none of a row."""
    x = draw(hostile.tensors(ROWS, draw(st.sampled_from([1, 2, 3, 7, 40])), kinds=hostile.SHARES, **options))
    share = torch.tensor([draw(st.sampled_from([0.0, 0.3, 1.0, 1.0])) for _ in range(ROWS)])
    return x, torch.rand(x.shape, generator=draw(hostile.generators())) < share[:, None]


def many(kinds, dtype, values):
    """As many rows as there are draws, of every kind in turn, and a mask of all or half of their values."""
    generator, names = torch.Generator().manual_seed(0), sorted(kinds)
    x = torch.stack([kinds[names[row % len(names)]](generator, (values,)) for row in range(DRAWS)]).to(dtype)
    share = torch.where(torch.arange(DRAWS) // len(names) % 2 == 0, 1.0, 0.5)
    return x, torch.rand(x.shape, generator=generator) < share[:, None]


# range


def assert_in_range(x, mask, mixture):
    assert all(part.isfinite().all() for part in mixture)
    assert (mixture.mean[:, 0] <= mixture.mean[:, 1]).all() and (mixture.weight >= 0).all()
    assert_close(mixture.weight.sum(1), torch.ones_like(mixture.weight[:, 0]), rtol=0, atol=1e-5)
    some, rounding = mask.any(1, keepdim=True), 20 * torch.finfo(x.dtype).eps * x.abs().amax(1, keepdim=True)
    low = torch.where(mask, x, torch.inf).amin(1, keepdim=True).where(some, 0)
    high = torch.where(mask, x, -torch.inf).amax(1, keepdim=True).where(some, 0)
    assert ((mixture.mean >= low - rounding) & (mixture.mean <= high + rounding)).all()
    most = ((high - low).square() / 4).clamp_min(FLOOR)  # of values half of which lie at either end
    assert ((mixture.variance >= FLOOR * (1 - 1e-6)) & (mixture.variance <= most * (1 + 1e-4) + rounding.square())).all()
    noise = gmm.noise_probability(x, mixture, mask)
    assert ((noise >= 0) & (noise <= 1)).all() and (noise[~mask] == 0).all()


IN_RANGE = promise("Odd numbers", "Every map has a mixture within its values, and noise probabilities in [0, 1].")


@IN_RANGE
@FITS
@given(maps())
def test_every_map_has_a_mixture_within_its_values(fit, drawn):
    assert_in_range(*drawn, fit(*drawn))


@IN_RANGE
@FITS
@pytest.mark.parametrize("kind", hostile.SHARES)
def test_so_does_a_map_of_more_values_than_bins(fit, kind):
    x = hostile.SHARES[kind](torch.Generator().manual_seed(0), (ROWS, binned.BINS + 1)).float()
    mask = torch.ones_like(x, dtype=torch.bool)
    assert_in_range(x, mask, fit(x, mask))


@given(hostile.tensors(ROWS, 20, kinds=hostile.GENTLE | {"1e15": lambda g, shape: 1e15 * hostile.normal(g, shape)}))
def test_values_whose_squares_float32_holds_have_a_finite_mixture(x):
    mixture = gmm.fit(x)
    assert all(part.isfinite().all() for part in mixture)
    assert gmm.noise_probability(x, mixture).isfinite().all()


@st.composite
def parameters(draw):
    """Means, variances and weights (ROWS, 2): narrow ones, and components without weight."""
    mean = draw(hostile.tensors(ROWS, 2, kinds=hostile.GENTLE, **DOUBLE)).sort(1).values
    variance = hostile.ten_to(-6, 1)(draw(hostile.generators()), (ROWS, 2)).abs()
    weight = torch.tensor([draw(st.sampled_from([0.0, 1e-300, 1e-10, 0.5, 1.0])) for _ in range(ROWS)], dtype=torch.float64)
    return mean, variance, torch.stack([weight, 1 - weight], 1)


@given(parameters(), hostile.tensors(ROWS, 9, kinds=hostile.GENTLE, **DOUBLE))
def test_posteriors_sum_to_1_far_from_both_means_and_their_first_is_the_noise_probability(parameters, x):
    posterior, evidence = gmm.e_step(x, *parameters)
    assert evidence.isfinite().all() and ((posterior >= 0) & (posterior <= 1 + 1e-12)).all()
    assert_close(posterior.sum(1), torch.ones_like(x))
    unused = torch.zeros(ROWS, dtype=torch.float64)
    noise = gmm.noise_probability(x, gmm.Mixture(*parameters, unused, unused, unused))
    assert ((noise >= 0) & (noise <= 1)).all()
    exponents = (x[:, None] - parameters[0][..., None]).square() / parameters[1][..., None]
    assert ((noise - posterior[:, 0]).abs() <= 1e-9 + 1e-15 * exponents.amin(1)).all()  # rounding of what the exponential sees


# likelihood


@promise("Odd numbers", f"From one iteration of EM to the next the likelihood never falls, over {DRAWS:,} maps drawn at random.")
@pytest.mark.parametrize("values", [2, 3, 40])
@pytest.mark.parametrize("dtype", hostile.FLOATS, ids=str)
@pytest.mark.parametrize("kinds", [hostile.SHARES, hostile.GENTLE], ids=["activations", "any size up to a million"])
def test_likelihood_of_a_thousand_draws_never_falls_but_by_rounding(kinds, dtype, values):
    """From each iteration of EM to the next, by no more than 32 units in the last place of the likelihood."""
    x, mask = many(kinds, dtype, values)
    runs = [gmm.fit(x, mask, max_iter=iterations, tolerance=-math.inf) for iterations in range(20)]
    likelihood = torch.stack([run.log_likelihood for run in runs])
    assert likelihood.isfinite().all()
    rounding = 32 * torch.finfo(dtype).eps * (1 + likelihood[1:].abs())
    assert (likelihood.diff(dim=0) >= -rounding).all()
    assert (likelihood[-1] > likelihood[0] + 0.01).sum() > DRAWS / 10  # and for many rows it rises


@pytest.mark.parametrize("values", [2, 3, 40])
@pytest.mark.parametrize("dtype", hostile.FLOATS, ids=str)
def test_newton_ends_no_lower_than_the_iterations_of_em_it_began_with(dtype, values):
    x, mask = many(hostile.SHARES, dtype, values)
    em = gmm.fit(x.double(), mask, max_iter=binned.EM_FIRST, tolerance=-math.inf).log_likelihood
    found = binned.fit(x, mask)
    assert found.converged.all() and (found.log_likelihood >= em - 1e-6).all()
    assert values < 40 or (found.log_likelihood > em + 1e-4).any()


# symmetries

SAME = promise("Odd numbers", "A map's mixture depends on no other map; mirrored or scaled values have the mirrored or scaled mixture.")


def fits_of(fit):
    """The fit after a known number of iterations or at its maximum, as a function of values, mask and options."""
    return (lambda *maps, **options: gmm.fit(*maps, max_iter=20, tolerance=-math.inf, **options)) if fit is gmm.fit else fit


def assert_same(one, other):
    for mine, theirs in zip(one[:4], other[:4], strict=True):
        assert_close(mine, theirs, rtol=1e-6, atol=1e-6)


@SAME
@FITS
@given(drawn=maps(**DOUBLE), order=hostile.orders(ROWS))
def test_a_row_does_not_depend_on_the_others_nor_on_the_order_of_its_values(fit, drawn, order):
    fit, (x, mask) = fits_of(fit), drawn
    expected = fit(x, mask)
    assert_same(fit(x[order].flip(1), mask[order].flip(1)), gmm.Mixture(*(part[order] for part in expected)))
    for row in range(ROWS):
        assert_same(fit(x[row : row + 1], mask[row : row + 1]), gmm.Mixture(*(part[row : row + 1] for part in expected)))


@SAME
@FITS
@given(drawn=maps(**DOUBLE))
def test_mirrored_values_have_the_mirrored_mixture_and_what_was_noise_is_not(fit, drawn):
    fit, (x, mask) = fits_of(fit), drawn
    found, mirrored = fit(x, mask), fit(-x, mask)
    single = found.weight[:, 0] == 0
    assert torch.equal(mirrored.weight[:, 0] == 0, single)
    assert_close(mirrored.mean, -found.mean.flip(1), rtol=1e-6, atol=1e-6)
    assert_close(mirrored.variance, found.variance.flip(1), rtol=1e-6, atol=1e-6)
    assert_close(mirrored.weight[~single], found.weight[~single].flip(1), rtol=1e-6, atol=1e-6)
    noise, other = (gmm.noise_probability(values, mixture) for values, mixture in ((x, found), (-x, mirrored)))
    assert_close(other[~single], 1 - noise[~single], rtol=0, atol=1e-4)


@SAME
@FITS
@given(drawn=maps(**DOUBLE), scale=st.sampled_from([2.0**-10, 0.5, 8.0, 2.0**10]))
def test_scaled_values_have_the_scaled_mixture_and_the_same_noise(fit, drawn, scale):
    fit, (x, mask) = fits_of(fit), drawn
    found, scaled = fit(x, mask), fit(scale * x, mask, variance_floor=FLOOR * scale**2)
    assert_close(scaled.mean, scale * found.mean, rtol=1e-6, atol=1e-6 * scale)
    assert_close(scaled.variance, scale**2 * found.variance, rtol=1e-6, atol=1e-6 * scale**2)
    assert_close(gmm.noise_probability(scale * x, scaled, mask), gmm.noise_probability(x, found, mask), rtol=0, atol=1e-4)
