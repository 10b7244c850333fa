"""A two-component Gaussian mixture in one dimension, fitted by EM to every map of a batch at once (Eq. 11-17)."""

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor

BLOCK = 2**20  # values worked on at a time, about as many as a cache holds


class Mixture(NamedTuple):
    """B mixtures of two Gaussians; component 0 has the smaller mean (noise), component 1 the larger (clean)."""

    mean: Tensor  # (B, 2), ascending
    variance: Tensor  # (B, 2), at least the floor
    weight: Tensor  # (B, 2), sums to 1
    log_likelihood: Tensor  # (B,) mean log-likelihood of a value, nats
    n_iter: Tensor  # (B,) int64, iterations until convergence or the limit; of `binned.fit` looks, EM's and Newton's
    converged: Tensor  # (B,) bool


def log_density(x: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """Logarithm of the normal density.

    Eq. (11). x, mean, variance broadcast; variance > 0. Source: the paper, Eq. 11.
    """
    return -0.5 * ((x - mean).square() / variance + variance.log() + math.log(2 * math.pi))


def log_joint(x: Tensor, mean: Tensor, variance: Tensor, weight: Tensor) -> Tensor:
    """Logarithm of weight times density of each component at each value; its logsumexp over dim 1 is log p(x).

    Eq. (12). x (B, N); mean, variance, weight (B, 2). Returns (B, 2, N); -inf for a component of weight 0.
    Source: the paper, Eq. 12.
    """
    return weight.log()[..., None] + log_density(x[:, None], mean[..., None], variance[..., None])


def e_step(x: Tensor, mean: Tensor, variance: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """The posterior of each component given each value, and the log-likelihood of each value.

    Eq. (13), in log space. x (B, N); mean, variance, weight (B, 2). Returns (B, 2, N) in [0, 1] and (B, N).
    Source: the paper, Eq. 13.
    """
    joint = log_joint(x, mean, variance, weight)
    evidence = joint.logsumexp(1)  # (B, N)
    return (joint - evidence[:, None]).exp(), evidence


def update_mean(x: Tensor, posterior: Tensor, mass: Tensor) -> Tensor:
    """The posterior-weighted mean of the values.

    Eq. (14). x (B, N); posterior (B, 2, N), 0 at values that do not count; mass (B, 2) > 0, its sum over N.
    Returns (B, 2). Source: the paper, Eq. 14.
    """
    return (posterior * x[:, None]).sum(-1) / mass


def update_variance(x: Tensor, posterior: Tensor, mass: Tensor, mean: Tensor) -> Tensor:
    """The posterior-weighted variance of the values about the new mean.

    Eq. (15). Shapes as in `update_mean`; mean (B, 2). Returns (B, 2) >= 0. Source: the paper, Eq. 15.
    """
    return (posterior * (x[:, None] - mean[..., None]).square()).sum(-1) / mass


def update_weight(mass: Tensor, count: Tensor) -> Tensor:
    """The share of the values that each component explains.

    Eq. (16). mass (B, 2); count (B,) > 0 values. Returns (B, 2), sums to 1. Source: the paper, Eq. 16.
    """
    return mass / count[:, None]


@torch.no_grad()
def fit(
    x: Tensor,
    mask: Tensor | None = None,
    *,
    max_iter: int = 100,
    tolerance: float = 1e-4,
    variance_floor: float = 1e-6,
    start: Literal["moments", "kmeans"] = "moments",
) -> Mixture:
    """Fit each row of x by expectation-maximisation, all rows at once, each until its own convergence.

    The start "moments" is symmetric about the mean of the values: means one standard deviation to either side, the common
    variance, weights 1/2. The start "kmeans" goes from there to two groups (`two_means`), and takes theirs. A variance below
    the floor is set to the floor; that is the constrained maximum, so the likelihood still never falls. A row whose variance is
    at most the floor (constant, one pixel, empty mask) has no second
    component: its weights are (0, 1) and its noise probability is 0.

    Args:
        x: (B, N) finite values, computed in float32 or better.
        mask: (B, N) bool, the values that count; all if None.
        max_iter: limit of EM iterations.
        tolerance: a row has converged when an iteration raises its mean log-likelihood by less than this (nats).
        variance_floor: least variance of a component.
        start: where EM begins.
    Returns:
        A `Mixture`; row b depends on row b of x alone.
    Raises:
        ValueError: x is not (B, N) or the mask has another shape.
    Source: the paper, section on GC; Dempster et al. 1977.
    """
    if x.ndim != 2 or (mask is not None and mask.shape != x.shape):
        raise ValueError(f"x must be (B, N) and the mask alike, got {tuple(x.shape)}, {None if mask is None else tuple(mask.shape)}")
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    counts = torch.ones_like(x) if mask is None else mask.to(x.dtype)
    x = torch.where(counts > 0, x, 0)
    count = counts.sum(1).clamp_min(1)  # (B,)
    centre = (x * counts).sum(1) / count
    spread = ((x - centre[:, None]).square() * counts).sum(1) / count  # (B,) variance of the row
    single = spread <= variance_floor  # nothing to split

    mean = centre[:, None] + spread.sqrt()[:, None] * x.new_tensor([-1.0, 1.0])
    variance = spread.clamp_min(variance_floor)[:, None].expand(-1, 2).clone()
    weight = torch.where(single[:, None], x.new_tensor([0.0, 1.0]), x.new_tensor([0.5, 0.5]))
    mean = torch.where(single[:, None], centre[:, None], mean)
    tiny = torch.finfo(x.dtype).tiny
    if start == "kmeans":
        groups = two_means(x, counts, mean)  # (B, 2, N)
        mass = groups.sum(-1).clamp_min(tiny)
        grouped = update_mean(x, groups, mass)
        moving = ~single[:, None]
        variance = torch.where(moving, update_variance(x, groups, mass, grouped).clamp_min(variance_floor), variance)
        mean, weight = torch.where(moving, grouped, mean), torch.where(moving, update_weight(mass, count), weight)

    likelihood = x.new_full((len(x),), -torch.inf)
    n_iter = torch.zeros(len(x), dtype=torch.int64, device=x.device)
    converged = single.clone()
    for _ in range(max_iter):
        posterior, evidence = e_step(x, mean, variance, weight)
        now = (evidence * counts).sum(1) / count
        gain = now - likelihood
        likelihood = torch.where(converged, likelihood, now)
        converged = converged | (gain < tolerance)
        if converged.all():
            break
        posterior = posterior * counts[:, None]
        mass = posterior.sum(-1).clamp_min(tiny)
        new_mean = update_mean(x, posterior, mass)
        new_variance = update_variance(x, posterior, mass, new_mean).clamp_min(variance_floor)
        moving = ~converged[:, None]  # rows that have converged keep what they have
        mean = torch.where(moving, new_mean, mean)
        variance = torch.where(moving, new_variance, variance)
        weight = torch.where(moving, update_weight(mass, count), weight)
        n_iter += moving[:, 0]

    final = (log_joint(x, mean, variance, weight).logsumexp(1) * counts).sum(1) / count
    converged = converged | (final - likelihood < tolerance)  # the last iteration allowed may have been enough
    likelihood = final
    ascending = mean.argsort(dim=1, stable=True)
    ordered = (t.gather(1, ascending) for t in (mean, variance, weight))
    return Mixture(*ordered, likelihood, n_iter, converged)


def two_means(x: Tensor, counts: Tensor, mean: Tensor) -> Tensor:
    """Lloyd's iteration from two means (B, 2): which of the values (B, N) that count belong to which group, (B, 2, N) in {0, 1}.

    On a line two groups are a threshold halfway between their means. Source: Lloyd 1982; scikit-learn starts EM from such groups.
    """
    for _ in range(100):
        upper = (x > mean.mean(1, keepdim=True)).to(x.dtype)
        groups = torch.stack([1 - upper, upper], 1) * counts[:, None]
        mass = groups.sum(-1)
        moved = torch.where(mass > 0, update_mean(x, groups, mass.clamp_min(1)), mean)
        if torch.equal(moved, mean):
            break
        mean = moved
    return groups


def gap(mixture: Mixture) -> Tensor:
    """How far apart the two means lie, in pooled standard deviations: (B,) >= 0; 0 where there is no second component."""
    mean, variance, weight, *_ = mixture
    return torch.where(weight.amin(1) > 0, (mean[:, 1] - mean[:, 0]) / (weight * variance).sum(1).sqrt(), 0)


@torch.no_grad()
def noise_probability(x: Tensor, mixture: Mixture, mask: Tensor | None = None) -> Tensor:
    """The posterior of the component with the smaller mean: how likely each value belongs to the noisy pixels.

    Eq. (17). Taken as printed: where the noisy component is the wider one, it also claims values far above both means.

    Args:
        x: (B, N) as given to `fit`; mask: (B, N) bool or None.
        mixture: what `fit` returned.
    Returns:
        (B, N) in [0, 1]; 0 outside the mask.
    Source: the paper, Eq. 17.
    """
    x = x.to(mixture.mean.dtype)
    parts = (part.T[..., None] for part in (mixture.mean, mixture.variance, mixture.weight))  # (2, B, 1)
    (m0, m1), (v0, v1), (w0, w1) = parts
    constant = (w0 / w1).log() + 0.5 * (v1 / v0).log()
    noise = torch.empty_like(x)
    rows = max(1, BLOCK // max(1, x.shape[1]))
    for some in (slice(first, first + rows) for first in range(0, len(x), rows)):
        odds = (x[some] - m1[some]).square_().div_(2 * v1[some]).sub_((x[some] - m0[some]).square_().div_(2 * v0[some]))
        torch.sigmoid(odds.add_(constant[some]), out=noise[some])  # of two components one is the sigmoid of log odds
    return noise if mask is None else noise.masked_fill_(~mask, 0)
