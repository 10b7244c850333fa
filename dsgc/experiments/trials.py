"""Readings of the correction that a run has no setting for: they are tried on fixed maps alone (`ladder`).

Each is the paper's method with another noise probability in the place of Eq. 17.
"""

from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from dsgc import binned, gmm
from dsgc.config import Config
from dsgc.methods.dsgc import Dsgc

LEAST = 0.05  # of an image's pixels: fewer are no sample; DuPL asks for 1,000 pixels, .5 % of its crops
ITERATIONS = 200


@dataclass(frozen=True)
class Zero(Dsgc):
    """No mixture: noise is where the CAM is 0, if it is above that anywhere. What the mixture adds to this is what it is worth."""

    def _noise(self, x: Tensor, mask: Tensor) -> Tensor:
        some = (mask & (x > 0)).any(1, keepdim=True)  # else there is nothing to part, as `gmm.fit` has it
        return (mask & some & (x <= 0)).to(x.dtype)


@dataclass(frozen=True)
class Monotone(Dsgc):
    """Nothing above the higher mean is noise. Where the component of the lower mean is the wider one, Eq. 17 claims that too."""

    def _noise(self, x: Tensor, mask: Tensor) -> Tensor:
        mixture = binned.fit(x, mask, variance_floor=self.variance_floor)
        return gmm.noise_probability(x, mixture, mask & (x <= mixture.mean[:, 1:]))


@dataclass(frozen=True)
class EqualWidths(Dsgc):
    """Both components have one variance, so that noise only falls as confidence rises."""

    def _noise(self, x: Tensor, mask: Tensor) -> Tensor:
        return gmm.noise_probability(x, of_equal_widths(x, mask, self.variance_floor), mask)


@dataclass(frozen=True)
class Sampled(Dsgc):
    """Nothing is corrected where fewer than `LEAST` of the pixels count in the mixture."""

    def _noise(self, x: Tensor, mask: Tensor) -> Tensor:
        return super()._noise(x, mask & (mask.float().mean(1, keepdim=True) >= LEAST))


def of_equal_widths(x: Tensor, mask: Tensor, variance_floor: float) -> gmm.Mixture:
    """Fit each row of x (B, N) by EM, both components with the mean of their variances by weight; mask (B, N), the values that count.

    The start and what becomes of a row without a second component are those of `gmm.fit`.
    """
    counts = mask.to(x.dtype)
    count = counts.sum(1).clamp_min(1)  # (B,)
    mean, variance, weight, likelihood, *_ = gmm.fit(x, mask, max_iter=0, variance_floor=variance_floor)
    split = weight.amin(1, keepdim=True) > 0  # (B, 1)
    for _ in range(ITERATIONS):
        posterior = gmm.e_step(x, mean, variance, weight)[0] * counts[:, None]
        mass = posterior.sum(-1).clamp_min(torch.finfo(x.dtype).tiny)
        moved = gmm.update_mean(x, posterior, mass)
        shared = (gmm.update_weight(mass, count) * gmm.update_variance(x, posterior, mass, moved)).sum(1, keepdim=True)
        mean = torch.where(split, moved, mean)
        variance = torch.where(split, shared.clamp_min(variance_floor).expand(-1, 2), variance)
        weight = torch.where(split, gmm.update_weight(mass, count), weight)
    return gmm.Mixture(mean, variance, weight, likelihood, torch.full_like(count, ITERATIONS, dtype=torch.int64), ~split[:, 0])


def on_trial(config: Config, trial: type[Dsgc]) -> Config:
    """A configuration of the paper's method with such a reading instead."""
    return config.changed(method=trial(**asdict(config.method)))
