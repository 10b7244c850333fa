"""Eq. 11-17: the mixture against a loop, against scikit-learn, and in the cases that break an EM."""

import math
import warnings

import numpy as np
import oracles
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from dsgc import gmm

ENDLESS = {"tolerance": -math.inf, "variance_floor": 1e-12}  # every iteration is done, the floor out of the way


def draw(seed, rows=4, values=40):
    """Rows of two overlapping humps of different width and share, float64 in [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    options = {"generator": generator, "dtype": torch.float64}
    first = torch.rand(rows, values, **options) < 0.2 + 0.6 * torch.rand(rows, 1, **options)
    low = 0.3 + 0.05 * torch.randn(rows, values, **options)
    high = 0.6 + 0.15 * torch.randn(rows, values, **options)
    return torch.where(first, low, high).clamp(0, 1)


def parameters(mixture, row=0):
    return [t[row].tolist() for t in (mixture.mean, mixture.variance, mixture.weight)]


def assert_same(a, b, rtol=1e-9):
    for name, mine, theirs in zip(gmm.Mixture._fields, a, b, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=rtol, atol=1e-10, msg=lambda m, name=name: f"{name}: {m}")


# against the loop


@pytest.mark.parametrize(("mu", "variance"), [(0.0, 1.0), (0.3, 0.01), (-2.0, 7.5)])
def test_log_density_is_the_logarithm_of_the_normal_density(mu, variance):
    x = torch.linspace(-1, 1, 9, dtype=torch.float64)
    got = gmm.log_density(x, torch.tensor(mu), torch.tensor(variance, dtype=torch.float64)).exp()
    expected = [oracles.normal(v, float(torch.tensor(mu)), variance) for v in x.tolist()]
    torch.testing.assert_close(got, torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=1e-300)


@pytest.mark.parametrize("seed", range(3))
def test_one_round_of_estimates_equals_the_loop(seed):
    x = draw(seed, rows=2)
    start = [[0.2, 0.7], [0.02, 0.05], [0.4, 0.6]]
    mean, variance, weight = (torch.tensor([v, v], dtype=torch.float64) for v in start)
    posterior, evidence = gmm.e_step(x, mean, variance, weight)
    mass = posterior.sum(-1)
    new_mean = gmm.update_mean(x, posterior, mass)
    new_variance = gmm.update_variance(x, posterior, mass, new_mean)
    new = [new_mean, new_variance, gmm.update_weight(mass, torch.tensor([40.0, 40.0]))]
    for b, values in enumerate(x.tolist()):
        gamma = oracles.posterior(values, *start)
        np.testing.assert_allclose(posterior[b], gamma, rtol=1e-10)
        np.testing.assert_allclose(evidence[b].exp(), [oracles.mixture_density(v, *start) for v in values], rtol=1e-10)
        for got, expected in zip(new, oracles.m_step(values, gamma), strict=True):
            np.testing.assert_allclose(got[b], expected, rtol=1e-10)


@pytest.mark.parametrize("iterations", [0, 1, 2, 10, 60])
def test_fit_equals_the_loop(iterations):
    x = draw(iterations)
    mixture = gmm.fit(x, max_iter=iterations, **ENDLESS)
    noise = gmm.noise_probability(x, mixture)
    for b, values in enumerate(x.tolist()):
        expected = oracles.em(values, iterations)
        np.testing.assert_allclose(parameters(mixture, b), expected, rtol=1e-7)
        assert mixture.log_likelihood[b].item() == pytest.approx(oracles.log_likelihood(values, *expected), abs=1e-9)
        np.testing.assert_allclose(noise[b], oracles.noise_probability(values, *expected), atol=1e-7)
    assert (mixture.n_iter == iterations).all() and not mixture.converged.any()


@pytest.mark.parametrize("iterations", [1, 5, 200])
@pytest.mark.parametrize("seed", range(3))
def test_fit_equals_scikit_learn_from_the_same_start(seed, iterations):
    x = draw(10 + seed, rows=1, values=200)
    values = x.T.numpy()
    start = np.array([[values.mean() - values.std()], [values.mean() + values.std()]])
    theirs = GaussianMixture(
        2,
        tol=0,
        reg_covar=0,
        max_iter=iterations,
        means_init=start,
        weights_init=[0.5, 0.5],
        precisions_init=np.full((2, 1, 1), 1 / values.var()),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        theirs.fit(values)
    order = theirs.means_[:, 0].argsort()
    mixture = gmm.fit(x, max_iter=iterations, **ENDLESS)
    mean, variance, weight = parameters(mixture)
    np.testing.assert_allclose(mean, theirs.means_[order, 0], rtol=1e-8)
    np.testing.assert_allclose(variance, theirs.covariances_[order, 0, 0], rtol=1e-7)
    np.testing.assert_allclose(weight, theirs.weights_[order], rtol=1e-8)
    assert mixture.log_likelihood.item() == pytest.approx(theirs.score(values), abs=1e-10)
    noise = gmm.noise_probability(x, mixture)[0]
    np.testing.assert_allclose(noise, theirs.predict_proba(values)[:, order[0]], atol=1e-8)


# monotone likelihood


def awkward(seed, rows=64, values=30):
    """Rows of many kinds: uniform, skewed, two humps, few different values, one outlier, nearly constant."""
    generator = torch.Generator().manual_seed(seed)
    uniform = torch.rand(rows, values, generator=generator, dtype=torch.float64)
    outlier = torch.cat([uniform[:, :1], torch.full_like(uniform[:, 1:], 0.1)], 1)
    humps, steps, narrow = draw(seed, rows, values), (3 * uniform).round() / 3, 0.5 + 0.003 * uniform
    return torch.cat([uniform, uniform**8, humps, steps, outlier, narrow])


@pytest.mark.parametrize(("dtype", "slack"), [(torch.float64, 1e-12), (torch.float32, 2e-5)])
@pytest.mark.parametrize("floor", [1e-6, 1e-3])
@pytest.mark.parametrize("seed", range(3))
def test_likelihood_never_falls(seed, floor, dtype, slack):
    x = awkward(seed).to(dtype)
    runs = [gmm.fit(x, max_iter=k, tolerance=-math.inf, variance_floor=floor) for k in range(25)]
    likelihood = torch.stack([run.log_likelihood for run in runs])
    assert likelihood.isfinite().all()
    assert likelihood.diff(dim=0).min() >= -slack
    assert min(run.variance.min().item() for run in runs) >= floor * (1 - 1e-6)


# degenerate rows

SINGLE = {
    "constant": [0.1] * 7,
    "all zero": [0.0] * 7,
    "one pixel": [0.3],
    "subnormal": [1e-40, 1e-42, 3e-45],
    "equal pair": [0.7, 0.7],
}
SPLIT = {
    "two points": [0.2, 0.8],
    "one outlier": [0.0] * 99 + [1.0],
    "zeros and ones": [0.0, 1.0] * 5,
    "subnormal beside one": [1e-40, 1.0, 1e-42, 0.9],
    "far apart": [0.0, 1e10],
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("values", SINGLE.values(), ids=SINGLE)
def test_row_without_two_values_has_one_component_and_no_noise(values, dtype):
    x = torch.tensor([values], dtype=dtype)
    mixture = gmm.fit(x)
    assert all(t.isfinite().all() for t in mixture)
    assert mixture.weight.tolist() == [[0, 1]] and mixture.converged.all()
    assert (gmm.noise_probability(x, mixture) == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("values", SPLIT.values(), ids=SPLIT)
def test_row_of_few_values_is_split_and_finite(values, dtype):
    x = torch.tensor([values], dtype=dtype)
    mixture = gmm.fit(x)
    noise = gmm.noise_probability(x, mixture)[0]
    assert all(t.isfinite().all() for t in mixture) and noise.isfinite().all()
    middle = (min(values) + max(values)) / 2
    assert ((noise > 0.5) == (x[0] < middle)).all()


@pytest.mark.parametrize("width", [0, 5])
def test_empty_mask_is_finite_and_noiseless(width):
    x = torch.rand(2, width, generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(2, width, dtype=torch.bool)
    mixture = gmm.fit(x, mask)
    assert all(t.isfinite().all() for t in mixture)
    assert (gmm.noise_probability(x, mixture, mask) == 0).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int64])
def test_low_precision_is_fitted_in_float32(dtype):
    x = (100 * draw(0)).to(dtype)
    mixture = gmm.fit(x)
    assert mixture.mean.dtype == gmm.noise_probability(x, mixture).dtype == torch.float32
    assert_same(mixture, gmm.fit(x.float()))


# rows and mask


def test_row_of_a_batch_equals_the_fit_of_that_row_alone():
    """Rows of different difficulty: one converges at once, one has no second value, one takes long."""
    x = torch.cat([draw(3, rows=5), torch.full((1, 40), 0.5, dtype=torch.float64), awkward(0, rows=1, values=40)])
    batch = gmm.fit(x, tolerance=1e-7)
    assert len(batch.n_iter.unique()) > 3
    for b in range(len(x)):
        assert_same(gmm.Mixture(*(t[b : b + 1] for t in batch)), gmm.fit(x[b : b + 1], tolerance=1e-7))


def test_order_of_rows_and_of_values_does_not_matter():
    x = awkward(1, rows=3)
    generator = torch.Generator().manual_seed(0)
    rows, values = torch.randperm(len(x), generator=generator), torch.randperm(x.shape[1], generator=generator)
    expected = gmm.fit(x)
    assert_same(gmm.fit(x[rows][:, values]), gmm.Mixture(*(t[rows] for t in expected)), rtol=1e-7)


@pytest.mark.parametrize("seed", range(5))
def test_mask_equals_taking_the_values_out(seed):
    x = draw(seed, rows=3)
    mask = torch.rand(x.shape, generator=torch.Generator().manual_seed(seed)) < 0.6
    masked = gmm.fit(x, mask)
    noise = gmm.noise_probability(x, masked, mask)
    for b in range(3):
        kept = x[b, mask[b]][None]
        alone = gmm.fit(kept)
        assert_same(gmm.Mixture(*(t[b : b + 1] for t in masked)), alone)
        torch.testing.assert_close(noise[b, mask[b]], gmm.noise_probability(kept, alone)[0], rtol=1e-7, atol=1e-9)
    assert (noise[~mask] == 0).all() and (noise[mask] > 0).any()


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e30])
def test_values_outside_the_mask_may_be_anything(value):
    x = draw(2)
    mask = torch.rand(x.shape, generator=torch.Generator().manual_seed(0)) < 0.6
    spoilt = torch.where(mask, x, value)
    assert_same(gmm.fit(spoilt, mask), gmm.fit(x, mask))
    noise = gmm.noise_probability(spoilt, gmm.fit(x, mask), mask)
    assert noise.isfinite().all() and (noise[~mask] == 0).all()


# what the fields mean


def test_converged_row_stopped_at_the_first_gain_below_the_tolerance():
    x, tolerance = draw(7, rows=8), 1e-4
    mixture = gmm.fit(x, max_iter=500, tolerance=tolerance)
    assert mixture.converged.all()
    for b, values in enumerate(x.tolist()):
        n = int(mixture.n_iter[b])
        course = [oracles.log_likelihood(values, *oracles.em(values, k)) for k in range(n + 1)]
        gains = np.diff(course)
        assert gains[-1] < tolerance and (gains[:-1] >= tolerance).all()
        assert mixture.log_likelihood[b].item() == pytest.approx(course[-1], abs=1e-9)


def test_row_cut_off_by_the_limit_is_not_converged():
    mixture = gmm.fit(draw(7), max_iter=2, tolerance=1e-9)
    assert not mixture.converged.any() and (mixture.n_iter == 2).all()


@pytest.mark.parametrize("seed", range(3))
def test_means_ascend_weights_sum_to_one_and_noise_is_a_probability(seed):
    x = awkward(seed)
    mixture = gmm.fit(x)
    assert (mixture.mean[:, 0] <= mixture.mean[:, 1]).all()
    torch.testing.assert_close(mixture.weight.sum(1), torch.ones(len(x), dtype=torch.float64))
    noise = gmm.noise_probability(x, mixture)
    assert ((noise >= 0) & (noise <= 1 + 1e-12)).all()


def test_noise_is_the_hump_of_smaller_values():
    generator = torch.Generator().manual_seed(0)
    centres = torch.cat([torch.full((1, 300), 0.8), torch.full((1, 100), 0.2)], 1)
    x = centres + 0.05 * torch.randn(1, 400, generator=generator)
    mixture = gmm.fit(x)
    noise = gmm.noise_probability(x, mixture)[0]
    assert noise[:300].max() < 0.01 and noise[300:].min() > 0.99
    np.testing.assert_allclose(mixture.mean[0], [0.2, 0.8], atol=0.02)
    np.testing.assert_allclose(mixture.weight[0], [0.25, 0.75], atol=1e-3)


@pytest.mark.parametrize("mask", [None, torch.ones(2, 4, dtype=torch.bool), torch.ones(4, dtype=torch.bool)])
def test_wrong_shapes_are_refused(mask):
    x = torch.zeros(5) if mask is None else torch.zeros(2, 5)
    with pytest.raises(ValueError, match=r"\(B, N\)"):
        gmm.fit(x, mask)


# another start, and how far apart the components are


@pytest.mark.parametrize("seed", range(4))
def test_from_two_groups_it_goes_where_scikit_learn_goes_from_the_same(seed):
    """Same groups, tolerance and limit; scikit-learn adds its floor to a variance, here it is a bound, so both are made tiny."""
    for values in draw(seed).numpy():
        x = torch.from_numpy(values)[None]
        groups = gmm.two_means(x, torch.ones_like(x), x.mean() + x.std() * torch.tensor([[-1.0, 1.0]], dtype=x.dtype))
        parts = [values[groups[0, k].bool().numpy()] for k in (0, 1)]
        assert parts[0].max() < (parts[0].mean() + parts[1].mean()) / 2 < parts[1].min()  # Lloyd's iteration has ended
        begin = {"means_init": [[part.mean()] for part in parts], "precisions_init": [[[1 / part.var()]] for part in parts]}
        begin["weights_init"] = [len(part) / len(values) for part in parts]
        for limit in (1, 10, 100):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                theirs = GaussianMixture(2, tol=1e-3, max_iter=limit, reg_covar=0, **begin).fit(values[:, None])
            found = gmm.fit(x, max_iter=limit, tolerance=1e-3, variance_floor=1e-12, start="kmeans")
            order = theirs.means_[:, 0].argsort()
            assert found.mean[0].numpy() == pytest.approx(theirs.means_[order, 0], abs=1e-6 if limit == 1 else 0.02)
            assert found.log_likelihood[0].item() == pytest.approx(theirs.score(values[:, None]), abs=2e-3)


def test_two_groups_are_split_halfway_between_their_means_and_leave_out_what_does_not_count():
    x = torch.tensor([[0.0, 0.1, 0.2, 0.9, 1.0, 5.0]], dtype=torch.float64)
    counts = torch.tensor([[1.0, 1, 1, 1, 1, 0]], dtype=torch.float64)
    groups = gmm.two_means(x, counts, torch.tensor([[0.0, 0.5]], dtype=torch.float64))
    assert groups.tolist() == [[[1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 0]]]
    for start in ("moments", "kmeans"):  # nothing to split
        assert gmm.fit(torch.full((2, 7), 0.3), start=start).weight.tolist() == [[0, 1]] * 2


def test_the_gap_is_in_pooled_standard_deviations_and_0_where_there_is_one_component():
    mixture = gmm.Mixture(
        torch.tensor([[0.2, 0.8], [0.5, 0.5]]), torch.tensor([[0.01, 0.03], [0.02, 0.02]]), torch.tensor([[0.25, 0.75], [0.0, 1.0]]),
        torch.zeros(2), torch.zeros(2, dtype=torch.int64), torch.ones(2, dtype=torch.bool),
    )  # fmt: skip
    assert gmm.gap(mixture).tolist() == pytest.approx([0.6 / math.sqrt(0.25 * 0.01 + 0.75 * 0.03), 0])
    shifted = mixture._replace(mean=3 * mixture.mean + 1, variance=9 * mixture.variance)
    assert gmm.gap(shifted).tolist() == pytest.approx(gmm.gap(mixture).tolist())
