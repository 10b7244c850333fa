"""The maximum that EM approaches (Eq. 11-16), in milliseconds: on a histogram, by some iterations of EM and then Newton's.

Each iteration of EM looks at every value, though values that are all but equal add all but the same; and where the Gaussians
overlap it may need thousands. So a row's values are first brought together in bins, once, after which the cost does not
depend on their number. On the bins EM chooses the hill, and Newton's method, which knows the curvature of the likelihood,
climbs it. All that either needs to know are sums of powers of the values, weighted by posteriors.
"""

import math

import numpy as np
import torch
from torch import Tensor

from dsgc.gmm import BLOCK, Mixture

BINS = 2048  # to a row
COARSE = 256  # of these, wider ones, where the climb begins
LEVELS = 16  # to a bin; values are rounded to them
NEAREST = 1e-30  # values no further apart are one: a float32 could not hold what scales them to levels
EM_FIRST = 40  # iterations; fewer have been seen to leave a map of a single hump on another hill than EM
SIGN = np.array([-1, 1])  # of the logit, for the first weight and the second
HANKEL = np.add.outer(np.arange(3), np.arange(3))
TINY = 1e-300
REACH = 0.25  # largest change at first: of a mean in standard deviations of the row, of a log variance, of the logit


def histogram(x: Tensor, mask: Tensor | None, bins: int) -> tuple[Tensor, Tensor]:
    """Bring each row's values together in evenly spaced bins: their mean in each, and how many they are; (B, bins), float64.

    x (B, N) finite; mask (B, N) bool, the values that count. They are rounded to `LEVELS` to a bin, and the means are of these.
    """
    levels, lowest, highest = bins * LEVELS, x, x
    if mask is not None:
        out = torch.where(mask, x.new_zeros(()), torch.inf)  # added or taken away, it moves a value past all that count
        lowest, highest = x + out, x - out
    low = lowest.amin(1, keepdim=True).nan_to_num(posinf=0.0)  # (B, 1)
    high = highest.amax(1, keepdim=True).maximum(low)
    apart = high - low > NEAREST
    scale = torch.where(apart, (levels - 1) / (high - low).where(apart, 1), 1)
    place = (lowest - low).mul_(scale).add_(0.5).clamp_(max=levels).to(torch.int32)  # (B, N); `levels` is for what does not count
    place += (levels + 1) * torch.arange(len(x), device=x.device, dtype=torch.int32)[:, None]
    found = torch.bincount(place.flatten(), minlength=len(x) * (levels + 1)).view(len(x), levels + 1)[:, :levels].double()
    found, numbers = found.view(len(x), bins, LEVELS), torch.arange(levels, dtype=torch.float64, device=x.device).view(bins, LEVELS)
    counts = found.sum(2)
    mean = torch.where(counts > 0, (found * numbers).sum(2) / counts, numbers.mean(1))  # (B, bins), in levels
    return low.double() + (high - low).double() * mean / (levels - 1), counts


def densities(powers: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Logarithm of weight times density of each component at all bins, as `gmm.log_joint` has it: (B, 2, K).

    powers (B, 5, K), of exponents 0 to 4; at (B, 5), the parameters: two means, two logarithms of variances, the logit of the
    second weight.
    """
    mean, log_variance, logit = at[:, :2], at[:, 2:4], at[:, 4:] * SIGN
    inverse = np.exp(-log_variance)
    constant = -np.logaddexp(0, -logit) - 0.5 * (log_variance + math.log(2 * math.pi) + mean**2 * inverse)
    return np.stack([constant, mean * inverse, -0.5 * inverse], 2) @ powers[:, :3]


def sums(joint: np.ndarray, powers: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """One look at all bins: sums of powers of the values (B, 3, 5), each bin weighed by its posteriors.

    joint (B, 2, K) of `densities`; powers (B, 5, K); shares (B, K) of the row's values. Rows of the sums: weighted by the posterior of
    the first component, by that of the second, by their product.
    """
    odds = joint[:, 1] - joint[:, 0]
    rare = np.exp(-np.abs(odds))  # the smaller of the two densities, in parts of the larger
    second = np.where(odds > 0, 1, rare) / (1 + rare)
    part = second * shares
    weights = np.stack([shares - part, part, part * (1 - second)], 1)  # (B, 3, K)
    return weights @ powers.swapaxes(1, 2)


def log_likelihood(joint: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """The mean log-likelihood of a value (B, 1), of joint (B, 2, K) of `densities` and shares (B, K)."""
    evidence = joint.max(1) + np.log1p(np.exp(-np.abs(joint[:, 1] - joint[:, 0])))
    return (evidence * shares).sum(1, keepdims=True)


def em_update(found: np.ndarray, floor: np.ndarray) -> np.ndarray:
    """Where an iteration of EM goes, Eq. (14-16): sums (B, 3, 5) of `sums`, least variance (B, 1) -> parameters (B, 5)."""
    mass = np.maximum(found[:, :2, 0], TINY)
    mean = found[:, :2, 1] / mass
    variance = np.maximum(found[:, :2, 2] / mass - mean**2, floor)
    return np.concatenate([mean, np.log(variance), np.log(mass[:, 1:] / mass[:, :1])], 1)


def newton_step(at: np.ndarray, found: np.ndarray, floor: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """To where a likelihood that is quadratic would have its maximum (B, 5), and by how much that would raise it (B, 1).

    Along axes in which the likelihood curves upwards the step goes uphill all the same, as far as if it curved downwards alike.
    at (B, 5), found (B, 3, 5) and floor (B, 1) as in `sums` and `em_update`.
    """
    mean, inverse, weight = at[:, :2], np.exp(-at[:, 2:4]), 1 / (1 + np.exp(-at[:, 4]))
    # The derivatives of both log joint densities by the parameters: coefficients of 1, x and x squared.
    slopes = np.zeros((len(at), 2, 5, 3))
    for k in (0, 1):
        slopes[:, k, k, 0], slopes[:, k, k, 1] = -mean[:, k] * inverse[:, k], inverse[:, k]
        slopes[:, k, 2 + k, 0] = 0.5 * (mean[:, k] ** 2 * inverse[:, k] - 1)
        slopes[:, k, 2 + k, 1], slopes[:, k, 2 + k, 2] = -mean[:, k] * inverse[:, k], 0.5 * inverse[:, k]
        slopes[:, k, 4, 0] = k - weight
    gradient = (slopes @ found[:, :2, :3, None]).sum(1)[..., 0]
    apart = slopes[:, 1] - slopes[:, 0]
    curvature = -apart @ found[:, 2][:, HANKEL] @ apart.swapaxes(1, 2)  # (B, 5, 5), of minus the log-likelihood
    mass, first, square = found[:, :2, :3].transpose(2, 0, 1)
    for k in (0, 1):
        mixed = (first[:, k] - mean[:, k] * mass[:, k]) * inverse[:, k]
        curvature[:, k, k] += mass[:, k] * inverse[:, k]
        curvature[:, k, 2 + k] += mixed
        curvature[:, 2 + k, k] += mixed
        curvature[:, 2 + k, 2 + k] += 0.5 * (square[:, k] - 2 * mean[:, k] * first[:, k] + mean[:, k] ** 2 * mass[:, k]) * inverse[:, k]
    curvature[:, 4, 4] += weight * (1 - weight)

    stuck = np.zeros_like(at, dtype=bool)  # a variance at the floor that would shrink stays out
    stuck[:, 2:4] = (at[:, 2:4] <= np.log(floor) + 1e-9) & (gradient[:, 2:4] < 0)
    gradient = np.where(stuck, 0, gradient)
    curvature = np.where(stuck[:, :, None] | stuck[:, None], np.eye(5), curvature)
    sizes, axes = np.linalg.eigh(curvature)
    along = (axes.swapaxes(1, 2) @ gradient[..., None])[..., 0] / np.maximum(np.abs(sizes), 1e-9)
    step = (axes @ along[..., None])[..., 0]
    return step, 0.5 * (step * gradient).sum(1, keepdims=True)


def merged(values: np.ndarray, shares: np.ndarray, bins: int) -> tuple[np.ndarray, np.ndarray]:
    """Fewer bins of the same values: means (B, K) and shares of bins (B, K) -> (B, bins), neighbours taken together."""
    values, shares = values.reshape(len(values), bins, -1), shares.reshape(len(shares), bins, -1)
    total = shares.sum(2)
    return (values * shares).sum(2) / np.maximum(total, TINY), total


def climb(
    values: np.ndarray, shares: np.ndarray, at: np.ndarray, floor: np.ndarray, em: int, max_iter: int, tolerance: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """From `at` uphill, `em` iterations of EM and then Newton's: parameters (B, 5), likelihood, looks, whether it ended (B, 1).

    values, shares (B, K); floor (B, 1). A step of Newton's that lowers the likelihood is taken back and shortened.
    """
    square = values**2
    powers = np.stack([np.ones_like(values), values, square, square * values, square**2], 1)  # (B, 5, K)
    for _ in range(em):
        at = em_update(sums(densities(powers, at), powers, shares), floor)
    best, reach = np.full((len(values), 1), -np.inf), np.full((len(values), 1), REACH)
    n_iter, converged = np.full((len(values), 1), em), np.zeros((len(values), 1), bool)
    held, step = at, np.zeros_like(at)
    for _ in range(em, max_iter):
        joint = densities(powers, at)
        likelihood, found = log_likelihood(joint, shares), sums(joint, powers, shares)
        better = (likelihood >= best - 1e-12) & ~converged
        newton, gain = newton_step(at, found, floor)
        held, best = np.where(better, at, held), np.where(better, likelihood, best)
        step, reach = np.where(better, newton, step), np.where(better, 2 * reach, reach / 4)
        at = held + step * np.minimum(reach / np.maximum(np.abs(step).max(1, keepdims=True), TINY), 1)
        at[:, 2:4] = np.maximum(at[:, 2:4], np.log(floor))
        n_iter += ~converged
        ended = better & (gain < tolerance)
        held, converged = np.where(ended, at, held), converged | ended  # so short a step needs no look
        if converged.all():
            break
    return held, best, n_iter, converged


@torch.no_grad()
def fit(
    x: Tensor,
    mask: Tensor | None = None,
    *,
    max_iter: int = 100,
    tolerance: float = 1e-9,
    variance_floor: float = 1e-6,
) -> Mixture:
    """Fit each row of x as `gmm.fit` does, from the same start, up to the maximum that EM approaches.

    With more than `BINS` values to a row this is the maximum for values brought together in bins; noise probabilities are within
    0.001 of those for the values themselves unless a component is narrower than some bins. A row of a single hump may have
    several maxima, and this can be a higher one than EM's. The sums are in float64 and made on the CPU, wherever x is.

    Args:
        x: (B, N) values. One that is not finite counts as 0: a network that diverged shows in its losses, and need not fail here.
        mask: (B, N) bool, the values that count; all if None.
        max_iter: limit of looks at the bins, EM's included.
        tolerance: a row has converged when the next of Newton's steps promises less (nats of mean log-likelihood); it is taken.
        variance_floor: least variance of a component.
    Returns:
        A `Mixture` in the dtype of x, or float32 if that has less; row b depends on row b of x alone.
    Raises:
        ValueError: x is not (B, N) or the mask has another shape.
    Source: Dempster et al. 1977 for EM; Newton's method on the same likelihood.
    """
    if x.ndim != 2 or (mask is not None and mask.shape != x.shape):
        raise ValueError(f"x must be (B, N) and the mask alike, got {tuple(x.shape)}, {None if mask is None else tuple(mask.shape)}")
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    if not x.sum().isfinite():
        x = x.nan_to_num(0.0, 0.0, 0.0)
    if x.shape[1] > BINS:
        rows = max(1, BLOCK // x.shape[1])
        masks = [None] * len(x) if mask is None else mask.split(rows)
        blocks = [histogram(part, kept, BINS) for part, kept in zip(x.split(rows), masks, strict=False)]
        values, counts = (torch.cat(parts) for parts in zip(*blocks, strict=True))
    else:
        counts = torch.ones_like(x, dtype=torch.bool) if mask is None else mask
        values, counts = torch.where(counts, x, 0).double(), counts.double()
    values, counts = values.cpu().numpy(), counts.cpu().numpy()
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    centre = (shares * values).sum(1, keepdims=True)  # (B, 1)
    spread = (shares * (values - centre) ** 2).sum(1, keepdims=True)
    single = spread <= variance_floor  # nothing to split
    unit = np.sqrt(np.where(single, 1, spread))
    values, floor = (values - centre) / unit, variance_floor / unit**2  # rows of mean 0 and variance 1
    at, em, before = np.tile([-1.0, 1.0, 0.0, 0.0, 0.0], (len(x), 1)), EM_FIRST, 0
    if values.shape[1] == BINS:  # most of the way in few, wide bins
        at, _, before, _ = climb(*merged(values, shares, COARSE), at, floor, em, max_iter, tolerance)
        em = 0
    at, likelihood, n_iter, converged = climb(values, shares, at, floor, em, max_iter, tolerance)

    mean = centre + unit * np.where(single, 0, at[:, :2])
    variance = np.where(single, np.maximum(spread, variance_floor), np.exp(at[:, 2:4]) * unit**2)
    weight = np.where(single, [0, 1], 1 / (1 + np.exp(-at[:, 4:] * SIGN)))
    ascending = mean.argsort(1, kind="stable")
    mean, variance, weight = (np.take_along_axis(part, ascending, 1) for part in (mean, variance, weight))
    real = (mean, variance, weight, (likelihood - np.log(unit))[:, 0])
    parts = [torch.from_numpy(part).to(x.device, x.dtype) for part in real]
    return Mixture(*parts, *(torch.from_numpy(part[:, 0]).to(x.device) for part in (n_iter + before, converged)))
