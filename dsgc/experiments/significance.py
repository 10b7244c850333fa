"""What seeds allow to tell: an exact test of differences by seed, its interval, many comparisons, and the size that could have been found.

A difference by seed is that of two rows whose runs share the seed, and with it first weights, data order and crops. If the two rows
are the same but for chance, each difference is as likely as its negative, whatever their distribution. That alone is what the test
rests on. A distribution is assumed only where the future is asked: how large a difference would have been found, how many seeds one
needs. These say so.
"""

from collections.abc import Iterable, Sequence
from functools import cache

import numpy as np
from scipy import optimize, stats

from dsgc.errors import UserError

LEVEL = 0.05  # of a whole family of comparisons, two-sided
POWER = 0.8
SEEDS = 20  # at most: signs of more take too long to go through
ENUMERATED = 12  # up to so many seeds the power is that of the test itself, beyond that Student's t comes close to it
DRAWS = 4000  # of imagined experiments


def finite(differences: Iterable[float]) -> np.ndarray:
    """The differences that are there, (n,): a seed under which one of the two runs is missing leaves NaN.

    Raises:
        UserError: more than `SEEDS`.
    """
    values = np.asarray(list(differences), float)
    values = values[np.isfinite(values)]
    if len(values) > SEEDS:
        raise UserError(f"seeds: {len(values)} differences, whose signs are too many to go through; name at most {SEEDS} seeds")
    return values


def smallest(seeds: int) -> float:
    """The smallest two-sided p, in (0, 1], that a sign-flip test of so many seeds can reach: all have one sign, 2 of 2^n cases."""
    return min(1.0, 2.0 / 2**seeds)


def sign_flip(differences: Iterable[float]) -> float:
    """The two-sided p, in [0, 1], that the mean of such differences is as far from 0 if each sign were a toss; exact.

    All 2^n signs are gone through: milliseconds for 10 seeds, seconds for 20. NaN for no difference. Source: Fisher's randomisation
    test, as SciPy has it for one sample of pairs.
    """
    values = finite(differences)
    if len(values) < 2:
        return 1.0 if len(values) else np.nan  # SciPy refuses one
    found = stats.permutation_test((values,), np.mean, permutation_type="samples", vectorized=True, n_resamples=np.inf, batch=2**10)
    return float(found.pvalue)


def interval(differences: Iterable[float], level: float = LEVEL) -> tuple[float, float]:
    """The true differences that `sign_flip` does not refuse at a level: the 95 % interval of the mean for the level 5 %; exact.

    Its ends are means of parts of the differences: of all 2^n - 1 parts, the k-th lowest and the k-th highest, k = level/2 * 2^n
    rounded down. Where k is 0, for less than 6 seeds at 5 %, nothing is refused and the ends are infinite. NaN for no difference.
    Source: Hartigan 1969, "Using subsample values as typical values", J. Amer. Statist. Assoc. 64.
    """
    values = finite(differences)
    if not len(values):
        return np.nan, np.nan
    sums, sizes = np.zeros(1), np.zeros(1)
    for value in values:  # a part has the value or has it not
        sums, sizes = np.concatenate([sums, sums + value]), np.concatenate([sizes, sizes + 1])
    means = np.sort(sums[1:] / sizes[1:])  # (2^n - 1,)
    k = int(np.floor(level / 2 * 2 ** len(values) + 1e-9))
    return (float(means[k - 1]), float(means[-k])) if k else (-np.inf, np.inf)


def holm(chances: Sequence[float]) -> np.ndarray:
    """The p-values of a family, corrected so that all its verdicts together are wrong with the probability of one, (n,) in [0, 1].

    The smallest is multiplied by their number, the next by one less, and none falls below one before it. It asks nothing of how they
    depend on each other. NaN stays and does not count. Source: Holm 1979.
    """
    found = np.asarray(chances, float)
    there = np.flatnonzero(~np.isnan(found))
    order = there[np.argsort(found[there], kind="stable")]
    corrected = np.full(len(found), np.nan)
    corrected[order] = np.minimum(np.maximum.accumulate(found[order] * np.arange(len(order), 0, -1)), 1)
    return corrected


@cache
def power(seeds: int, effect: float, level: float = LEVEL) -> float:
    """How often, in [0, 1], so many differences around a true one would have a `sign_flip` p at most of the level, the right way round.

    Here the differences are taken as normal. Up to `ENUMERATED` seeds the test is made on imagined differences, always the same ones;
    above that it is the noncentral t distribution's power of the t-test.

    Args:
        effect: the true difference, in standard deviations of the differences; positive.
    """
    if smallest(seeds) > level:
        return 0.0
    if seeds > ENUMERATED:
        edge = stats.t.ppf(1 - level / 2, seeds - 1)
        return float(stats.nct.sf(edge, seeds - 1, effect * np.sqrt(seeds)))
    noise, signs = _imagined(seeds)
    drawn = noise + effect  # (DRAWS, n)
    flipped = drawn @ signs.T  # (DRAWS, 2^n), the first column as it was drawn
    as_far = (flipped >= flipped[:, :1] - 1e-9).sum(axis=1)
    return float((2 * as_far <= level * 2**seeds * (1 + 1e-9)).mean())


@cache
def _imagined(seeds: int) -> tuple[np.ndarray, np.ndarray]:
    """Noise (DRAWS, n) and all signs (2^n, n), all positive first."""
    bits = np.arange(2**seeds)[:, None] >> np.arange(seeds) & 1
    return np.random.default_rng(0).standard_normal((DRAWS, seeds), np.float32), (1 - 2 * bits).astype(np.float32)


@cache
def _effect(seeds: int, level: float) -> float:
    """The effect that is found with the probability `POWER`."""
    return optimize.brentq(lambda effect: power(seeds, effect, level) - POWER, 0, 100, xtol=1e-3)


def detectable(differences: Iterable[float], family: int = 1) -> float:
    """The smallest true difference that as many seeds, with this spread, would tell from 0 in four of five cases.

    Infinite where no difference can be told with so few seeds. NaN for fewer than two, which have no spread. Taken is the level that
    Holm's first step asks of each of `family` comparisons. It is as good as the spread is, which few seeds know badly.
    Source: Colas et al. 2018, whose test is a t-test; ours asks more where the level is near the smallest p (`power`).
    """
    values = finite(differences)
    if len(values) < 2:
        return np.nan
    unit = standard(len(values), family)
    return unit * float(values.std(ddof=1)) if np.isfinite(unit) else np.inf


def standard(seeds: int, family: int = 1) -> float:
    """`detectable` in standard deviations of the differences."""
    level = LEVEL / family
    return np.inf if smallest(seeds) > level else _effect(seeds, level)


def needed(deviation: float, difference: float, family: int = 1) -> int:
    """How many seeds find a true difference in four of five cases, if the differences by seed have that standard deviation.

    Args:
        deviation, difference: in the same unit; positive.
    """
    seeds = 2
    while power(seeds, abs(difference) / deviation, LEVEL / family) < POWER:
        seeds += 1
    return seeds


def rate(cases: int, runs: int) -> tuple[float, float, float]:
    """A share in per cent with the ends of its exact 95 % interval. Source: Clopper and Pearson 1934, as SciPy has it.

    Raises:
        ValueError: no run, or more cases than runs.
    """
    found = stats.binomtest(cases, runs)
    ends = found.proportion_ci(1 - LEVEL, method="exact")
    return 100 * found.statistic, 100 * ends.low, 100 * ends.high
