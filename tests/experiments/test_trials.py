"""Readings that are tried on fixed maps alone: each parts from Eq. 17 where it says so, and nowhere else."""

import math

import pytest
import torch

from dsgc.experiments import ladders, trials
from dsgc.methods import preset


def humps(low: float, high: float) -> torch.Tensor:
    """Three images: two humps of these widths, about .3 and .7; all one value; nothing that counts."""
    generator = torch.Generator().manual_seed(0)
    parts = [0.3 + low * torch.randn(300, generator=generator), 0.7 + high * torch.randn(200, generator=generator)]
    return torch.stack([torch.cat(parts), torch.full((500,), 0.4), torch.rand(500, generator=generator)])


def counted() -> torch.Tensor:
    mask = torch.ones(3, 500, dtype=torch.bool)
    mask[2] = False
    return mask


def noise(row: str, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return ladders.DRAWN.config(row).method.noise(x[:, None], mask[:, None], None)[:, 0]


def test_without_a_mixture_noise_is_where_the_cam_is_zero_and_counts():
    x = torch.tensor([[0.0, 0.2, 0.0, 0.9], [0.0, 0.0, 0.0, 0.5]])
    found = noise(ladders.WITHOUT_MIXTURE, x, torch.tensor([[True, True, False, True], [True, True, True, False]]))
    assert found.tolist() == [[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]  # in the second nothing that counts is above 0


def test_above_the_higher_mean_nothing_is_noise_and_below_it_nothing_changes():
    x, mask = humps(0.2, 0.03), counted()
    printed, cut = noise("preset", x, mask), noise("nothing above the higher mean is noise", x, mask)
    assert printed[0][x[0] > 0.9].min() > 0.9  # the wider component claims these
    assert not cut[0][x[0] > 0.75].any() and not cut[1:].any()
    assert torch.equal(cut[0][x[0] < 0.65], printed[0][x[0] < 0.65])


def test_with_equal_widths_the_noise_falls_as_confidence_rises_and_is_that_of_a_plain_loop():
    x, mask = humps(0.1, 0.1), counted()
    found = noise("components of equal widths", x, mask)
    assert (found[0][x[0].argsort()].diff() <= 1e-6).all() and not found[1:].any()
    values = x[0].double().tolist()
    centre = sum(values) / 500
    spread = sum((v - centre) ** 2 for v in values) / 500
    means, variance, weights = [centre - math.sqrt(spread), centre + math.sqrt(spread)], spread, [0.5, 0.5]

    def low(value):
        one, two = (w * math.exp(-((value - m) ** 2) / (2 * variance)) for w, m in zip(weights, means, strict=True))
        return one / (one + two)

    for _ in range(trials.ITERATIONS):
        shares = [(p, 1 - p) for p in map(low, values)]
        mass = [sum(share[k] for share in shares) for k in (0, 1)]
        means = [sum(share[k] * v for share, v in zip(shares, values, strict=True)) / mass[k] for k in (0, 1)]
        pairs = list(zip(shares, values, strict=True))
        variance = sum(share[k] * (v - means[k]) ** 2 for share, v in pairs for k in (0, 1)) / 500
        weights = [m / 500 for m in mass]
    assert found[0].tolist() == pytest.approx([low(v) for v in values], abs=2e-4)


def test_nothing_is_corrected_where_few_pixels_count():
    x, mask = humps(0.1, 0.05), counted()
    few = torch.zeros_like(mask)
    few[:, 280:304], mask[2] = True, True
    row = f"{ladders.ON_PIXELS}, 5 % of it at least"
    assert noise(ladders.ON_PIXELS, x, few)[0].any() and not noise(row, x, few).any()
    assert torch.equal(noise(row, x, mask), noise(ladders.ON_PIXELS, x, mask))


@pytest.mark.parametrize("row", ladders.TRIALS)
def test_a_trial_is_the_row_that_it_changes_in_all_its_numbers(row):
    trial, changed = ladders.TRIALS[row]
    mine, theirs = ladders.DRAWN.config(row), ladders.DRAWN.config(changed)
    assert type(mine.method) is trial and mine.flat() == theirs.flat()
    assert type(preset("shapes").method) is trial.__base__
