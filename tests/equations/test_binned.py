"""The mixture from bins: the maximum that exact EM approaches, for every kind of map; Newton's step; rounding that stays small."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dsgc import binned, gmm

SIDE = 96


def noisy(generator, mean, sd):
    return mean + sd * torch.randn(4, SIDE * SIDE, generator=generator)


def maps(kind):
    """Four maps of values in [0, 1], (4, N)."""
    g = torch.Generator().manual_seed(0)

    def smooth(cells, mode):
        return F.interpolate(torch.randn(4, 1, cells, cells, generator=g), (SIDE, SIDE), mode=mode).flatten(1)

    if kind == "smooth":
        return (0.5 + 0.2 * smooth(12, "bicubic")).clamp(0, 1)
    if kind == "half of it 0":
        activation = smooth(24, "bilinear").relu()
        return activation / activation.amax(1, keepdim=True)
    if kind == "many close to 0":
        return (noisy(g, 0, 1).abs() / 4).clamp(0, 1) ** 2
    if kind == "two humps":
        return torch.where(torch.rand(4, SIDE * SIDE, generator=g) < 0.3, noisy(g, 0.2, 0.05), noisy(g, 0.65, 0.1)).clamp(0, 1)
    return torch.where(torch.rand(4, SIDE * SIDE, generator=g) < 0.5, torch.full((), 0.01), noisy(g, 0.9, 0.02)).clamp(0, 1)


KINDS = ("smooth", "half of it 0", "many close to 0", "two humps", "one value and a hump")


@pytest.mark.parametrize("kind", KINDS)
def test_noise_probabilities_are_those_of_exact_em_at_its_end(kind):
    """EM in float64 on the values themselves; it takes up to some thousand iterations to come as far."""
    x = maps(kind)
    exact = gmm.fit(x.double(), max_iter=6000, tolerance=1e-13)
    found = binned.fit(x)
    assert found.converged.all() and found.n_iter.max() <= 80 and exact.converged.all()
    noise, expected = gmm.noise_probability(x, found), gmm.noise_probability(x.double(), exact)
    assert (noise - expected).abs().max() < 1e-3
    torch.testing.assert_close(found.log_likelihood.double(), exact.log_likelihood, rtol=0, atol=1e-3)


def test_a_few_values_are_not_rounded_at_all():
    x = maps("two humps")[:, ::7].double()
    assert x.shape[1] < binned.BINS
    exact, found = gmm.fit(x, max_iter=6000, tolerance=1e-15), binned.fit(x)
    for name in ("mean", "variance", "weight", "log_likelihood"):
        torch.testing.assert_close(getattr(found, name), getattr(exact, name), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_the_end_is_a_maximum_a_further_iteration_of_em_stays_there(kind):
    x = maps(kind).double()
    found = binned.fit(x)
    posterior, _ = gmm.e_step(x, found.mean, found.variance, found.weight)
    mass = posterior.sum(-1)
    torch.testing.assert_close(gmm.update_mean(x, posterior, mass), found.mean, rtol=0, atol=1e-4)
    torch.testing.assert_close(gmm.update_weight(mass, torch.full((4,), x.shape[1])), found.weight, rtol=0, atol=1e-4)


def drawn():
    """Values, shares, parameters and a floor, one row."""
    g = np.random.default_rng(1)
    values, shares = np.linspace(-2, 2, 64)[None], g.random((1, 64))
    return values, shares / shares.sum(), np.array([[-0.9, 0.8, -0.7, -0.2, 0.3]]), np.array([[1e-6]])


def looked(values, shares, at):
    """The likelihood and the sums of one look."""
    powers = np.stack([values**k for k in range(5)], 1)
    joint = binned.densities(powers, at)
    return binned.log_likelihood(joint, shares), binned.sums(joint, powers, shares)


def test_an_iteration_of_em_is_that_of_the_equations():
    values, shares, at, floor = drawn()
    new = binned.em_update(looked(values, shares, at)[1], floor)[0]
    x, count = torch.from_numpy(values), torch.from_numpy(shares)
    second = 1 / (1 + np.exp(-0.3))
    posterior, _ = gmm.e_step(x, torch.tensor(at[:, :2]), torch.tensor(at[:, 2:4]).exp(), torch.tensor([[1 - second, second]]))
    part = posterior * count
    mass = part.sum(-1)
    mean = gmm.update_mean(x, part, mass)
    np.testing.assert_allclose(new[:2], mean[0], rtol=1e-12)
    np.testing.assert_allclose(np.exp(new[2:4]), gmm.update_variance(x, part, mass, mean)[0], rtol=1e-12)
    np.testing.assert_allclose(1 / (1 + np.exp(-new[4])), mass[0, 1], rtol=1e-12)


def test_newtons_step_has_gradient_and_curvature_of_the_likelihood():
    """Against automatic differentiation."""
    values, shares, at, floor = drawn()
    x, count = torch.from_numpy(values), torch.from_numpy(shares)

    def likelihood(parameters):
        weight = torch.stack([(-parameters[4]).sigmoid(), parameters[4].sigmoid()])
        joint = gmm.log_joint(x, parameters[None, :2], parameters[None, 2:4].exp(), weight[None])
        return (joint.logsumexp(1) * count).sum()

    here = torch.from_numpy(at[0])
    gradient = torch.func.grad(likelihood)(here)
    sizes, axes = torch.linalg.eigh(-torch.func.hessian(likelihood)(here))
    expected = axes @ ((axes.T @ gradient) / sizes.abs())
    value, found = looked(values, shares, at)
    step, gain = binned.newton_step(at, found, floor)
    np.testing.assert_allclose(step[0], expected, rtol=1e-9)
    np.testing.assert_allclose(value[0], likelihood(here), rtol=1e-12)
    np.testing.assert_allclose(gain[0], 0.5 * expected @ gradient, rtol=1e-9)


def test_no_step_of_the_climb_lowers_the_likelihood():
    for kind in KINDS:
        values = maps(kind).double().numpy()
        values = (values - values.mean(1, keepdims=True)) / values.std(1, keepdims=True)
        shares, floor = np.full(values.shape, 1 / values.shape[1]), np.full((4, 1), 1e-5)
        at = np.tile([-1.0, 1.0, 0.0, 0.0, 0.0], (4, 1))
        ends = [binned.climb(values, shares, at, floor, 3, limit, 0.0)[1] for limit in range(4, 20)]
        assert all((after >= before - 1e-9).all() for before, after in zip(ends, ends[1:], strict=False))


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_a_histogram_counts_what_the_mask_names_and_keeps_its_mean(share):
    g = torch.Generator().manual_seed(2)
    x = torch.rand(3, 500, generator=g)
    mask = torch.rand(3, 500, generator=g) < share
    values, counts = binned.histogram(x, mask, 32)
    assert values.isfinite().all() and counts.sum(1).tolist() == mask.sum(1).tolist() and (counts >= 0).all()
    for row in range(3):
        inside = x[row][mask[row]].double().sort().values
        if len(inside):
            width = (inside[-1] - inside[0]) / 31
            assert (values[row].repeat_interleave(counts[row].long()) - inside).abs().max() <= width
            assert abs(float((values[row] * counts[row]).sum() / counts[row].sum() - inside.mean())) < width / binned.LEVELS


def test_a_histogram_without_a_mask_is_that_of_all_values():
    x = maps("smooth")
    for one, other in zip(binned.histogram(x, None, 64), binned.histogram(x, torch.ones_like(x, dtype=torch.bool), 64), strict=True):
        assert torch.equal(one, other)


def test_a_mask_equals_taking_the_values_out_and_a_row_does_not_depend_on_others():
    x = maps("two humps")
    mask = torch.rand(x.shape, generator=torch.Generator().manual_seed(3)) < 0.6
    together = binned.fit(x, mask)
    for row in range(4):
        alone = binned.fit(x[row][mask[row]][None])
        for name in ("mean", "variance", "weight", "log_likelihood"):
            torch.testing.assert_close(getattr(together, name)[row], getattr(alone, name)[0], rtol=1e-5, atol=1e-6)


def test_blocks_of_rows_give_what_all_rows_at_once_give(monkeypatch):
    x = maps("smooth")
    whole = binned.fit(x)
    monkeypatch.setattr(binned, "BLOCK", 1)
    assert all(torch.equal(one, other) for one, other in zip(whole, binned.fit(x), strict=True))


@pytest.mark.parametrize("many", [1, 3000])  # below and above the number of bins
@pytest.mark.parametrize("values", [[0.7] * 5, [0.3], [0.5, 0.5001]])
def test_a_row_without_two_values_has_one_component_and_no_noise(values, many):
    x = torch.tensor([values * many])
    found = binned.fit(x)
    assert found.weight.tolist() == [[0, 1]] and gmm.noise_probability(x, found).eq(0).all() and found.converged.all()


@pytest.mark.parametrize("width", [0, 5, 3000])
def test_an_empty_mask_is_finite_and_noiseless(width):
    x = torch.full((2, width), 0.5)
    found = binned.fit(x, torch.zeros_like(x, dtype=torch.bool))
    assert found.mean.isfinite().all() and found.weight.tolist() == [[0, 1], [0, 1]]


@pytest.mark.parametrize("wrong", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("width", [100, 3000])
def test_a_value_that_is_not_finite_counts_as_0(wrong, width):
    x = torch.rand(2, width, generator=torch.Generator().manual_seed(4))
    x[0, 3], zeroed = wrong, x.clone()
    zeroed[0, 3] = 0
    assert all(torch.equal(one, other) for one, other in zip(binned.fit(x), binned.fit(zeroed), strict=True))


def test_the_result_has_the_dtype_of_the_values_and_at_least_float32():
    x = maps("two humps")
    for dtype, expected in ((torch.float16, torch.float32), (torch.float32, torch.float32), (torch.float64, torch.float64)):
        found = binned.fit(x.to(dtype))
        assert found.mean.dtype == found.log_likelihood.dtype == expected and found.n_iter.dtype == torch.int64


@pytest.mark.parametrize("mask", [torch.ones(2, 4, dtype=torch.bool), torch.ones(4, dtype=torch.bool)])
def test_wrong_shapes_are_refused(mask):
    with pytest.raises(ValueError, match="must be"):
        binned.fit(torch.rand(2, 5), mask)
