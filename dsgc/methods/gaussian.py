"""Gaussian correction as a part of a method: its numbers, and the way from a class activation map to a corrected label."""

from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from dsgc import binned, cam, correction, gmm
from dsgc.cam import IGNORE
from dsgc.errors import UserError
from dsgc.methods.labels import Initial, nearest
from dsgc.settings import Settings, choice, paper


class Corrected(NamedTuple):
    """A label after correction, and why. H' x W' is the initial label's grid, h x w the mixture's."""

    noise: Tensor  # (B, h, w) noise probability, 0 where no mixture is fitted
    rule: Tensor  # (B, h, w) int64, number in `correction.RULES`
    labels: Tensor  # (B, H', W') int64


@dataclass(frozen=True)
class GaussianCorrection(Settings):
    """A mixture fitted to the confidence of the map (Eq. 11-17), and the rules that rewrite the label with it (Eq. 18-21)."""

    theta_high: float = paper(0.85, "theta_h: noise probability above which a pixel is in R_h")
    theta_low: float = paper(0.25, "theta_l: noise probability above which a pixel is in R_u")

    # the mixture
    mixture_pixels: Literal["all", "positive", "foreground"] = paper(
        "all", "what the mixture is fitted to: all pixels, those with a positive CAM, or those labelled foreground"
    )
    mixture_grid: Literal["patch", "pixel"] = choice("patch", "grid of mixture and rules: of the tokens compared, or of the label's pixels")
    mixture_map: Literal["raw", "refined"] = paper("raw", "the CAM whose confidence is fitted: as Eq. 1 has it, or refined")
    mixture_by: Literal["image", "class"] = choice("image", "one mixture for an image, or one for each of its classes")
    mixture_gap: float = choice(0.0, "correct only where the means lie further apart than this, in pooled standard deviations")
    em_iterations: int = choice(0, "iterations of EM at most; 0 goes up to the maximum that EM approaches")
    em_tolerance: float = choice(1e-4, "least gain of an iteration of EM, nats of mean log-likelihood; for em_iterations above 0")
    em_start: Literal["moments", "kmeans"] = choice("moments", "where EM begins: at mean and spread, or at two groups; likewise")
    variance_floor: float = choice(1e-6, "least variance of a component")

    # the rules
    tau: float = choice(0.8, "cosine similarity below which two neighbours differ, or the share of pairs that do (tau_of)")
    tau_of: Literal["cosine", "quantile"] = choice("cosine", "what tau is: a cosine, or a share of an image's neighbouring pairs")
    correction_features: Literal["last", "middle", "projected"] = choice("last", "F of Eq. 18: tokens of which layer")
    copy_from: Literal["any", "labelled"] = choice("any", "whose label R_u takes: any neighbour's, or a labelled one's, which fills 255")
    correction_rounds: int = choice(1, "how often the rules are applied")
    correction_order: Literal["together", "raster"] = choice("together", "all pixels at once, or one after the other as one reads")

    NOT_NEGATIVE: ClassVar[tuple[str, ...]] = ("mixture_gap", "em_iterations", "em_tolerance")
    POSITIVE: ClassVar[tuple[str, ...]] = ("variance_floor", "correction_rounds")
    ORDERED: ClassVar[tuple[tuple[str, str], ...]] = (("theta_low", "theta_high"),)

    def __post_init__(self) -> None:
        super().__post_init__()
        least, kind = (0, "a share") if self.tau_of == "quantile" else (-1, "a cosine")
        if not least <= self.tau <= 1:
            raise UserError(f"tau {self.tau}: {kind}, must be in [{least}, 1]")

    @torch.no_grad()
    def corrected(self, initial: Initial, maps: Tensor, tags: Tensor, features: Tensor) -> Corrected:
        """Initial label -> mixture -> corrected label, in float32.

        maps (B, C, h, w) in [0, 1], of Eq. 1; tags (B, C); features (B, D, h, w) of Eq. 18.
        """
        size = initial.labels.shape[-2:]
        on_patches = self.mixture_grid == "patch"
        grid = features.shape[-2:] if on_patches else size
        confidence, strongest = self._confidence(initial, maps, tags, grid)
        of_grid = nearest(initial.labels, grid)
        counted = {"all": torch.ones_like(of_grid, dtype=torch.bool), "positive": confidence > 0}.get(
            self.mixture_pixels, (of_grid > 0) & (of_grid != IGNORE)
        )
        noise = self.noise(confidence, counted, strongest if self.mixture_by == "class" else None)
        if not on_patches:
            features = F.interpolate(features, grid, mode="bilinear", align_corners=False)
        rule, labels = self._rewritten(of_grid, noise, features)
        if on_patches:  # a corrected patch passes its label on to all its pixels, every other pixel keeps its own
            changed = nearest((labels != of_grid).long(), size).bool()
            labels = torch.where(changed, nearest(labels, size), initial.labels)
        return Corrected(noise, rule, labels)

    def noise(self, confidence: Tensor, counted: Tensor, strongest: Tensor | None) -> Tensor:
        """Eq. 13-17: the noise probability (B, h, w) of confidences (B, h, w), 0 where `counted` (B, h, w) is false.

        strongest: (B, h, w) int64, the class that each place is taken for, where classes have mixtures of their own; else None.
            A place where none is seen counts in the mixture of every class, and is noise if it is in one of them.
        """
        x, mask = confidence.flatten(1), counted.flatten(1)
        if strongest is None:
            return self._noise(x, mask).view_as(confidence)
        whose, noise = strongest.flatten(1), torch.zeros_like(x)
        for number in whose.unique().tolist():
            its = (whose == number) & (x > 0)
            here = its.any(1, keepdim=True)  # images that have the class
            noise = torch.maximum(noise, self._noise(x, mask & here & (its | (x == 0))))
        return noise.view_as(confidence)

    def _noise(self, x: Tensor, mask: Tensor) -> Tensor:
        """Of one mixture a row: (B, N), (B, N) -> (B, N)."""
        if self.em_iterations:
            mixture = gmm.fit(
                x,
                mask,
                max_iter=self.em_iterations,
                tolerance=self.em_tolerance,
                variance_floor=self.variance_floor,
                start=self.em_start,
            )
        else:
            mixture = binned.fit(x, mask, variance_floor=self.variance_floor)
        if self.mixture_gap:
            mask = mask & (gmm.gap(mixture) > self.mixture_gap)[:, None]
        return gmm.noise_probability(x, mixture, mask)

    def _confidence(self, initial: Initial, maps: Tensor, tags: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """x of Eq. 13 on the grid, and which class it is of: (B, h, w), (B, h, w) int64."""
        if self.mixture_map == "refined":
            confidence = F.adaptive_avg_pool2d(initial.confidence[:, None], grid)[:, 0]  # the same where the grid is the label's
            return confidence, nearest(initial.strongest, grid)
        return F.interpolate(cam.tagged(maps.float(), tags), grid, mode="bilinear", align_corners=False).max(1)

    def _rewritten(self, labels: Tensor, noise: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """Eq. 18-21 on the mixture's grid: which rule applies, and the labels."""
        similarity = correction.neighbour_similarity(features)
        tau = correction.quantile(similarity, self.tau) if self.tau_of == "quantile" else self.tau
        rule = correction.rules(noise, similarity, high=self.theta_high, low=self.theta_low, tau=tau)
        rewrite = correction.rewritten if self.correction_order == "together" else correction.rewritten_in_turn
        for _ in range(self.correction_rounds):
            labels = rewrite(labels, rule, similarity, copy_from=self.copy_from)
        return rule, labels
