"""URN (Li et al. 2022): a label is uncertain where the prediction's winner changes as a class's response is made wider or narrower."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from dsgc import cam, objective, refine
from dsgc.methods import register
from dsgc.methods.base import Base
from dsgc.methods.contract import Mean, Networks, Part, Stage, State
from dsgc.methods.labels import Initial
from dsgc.network.vit import Network, Output
from dsgc.settings import choice, published

CODE = "Li et al. 2022, its code"
COCO_POWERS = (0.4, 0.5, 0.6, 2.0, 3.0, 4.0)


class Goals(NamedTuple):
    """What the losses are measured against."""

    patch_labels: Tensor | None  # as the baseline has them
    labels: Initial | None
    weights: Tensor | None  # (B, H', W') of each pixel of the label, where it is weighed


@register
@dataclass(frozen=True)
class Urn(Base):
    """The baseline, whose decoder learns little from pixels that change sides when a class's response is scaled."""

    name: ClassVar = "urn"
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        **Base.presets,
        "coco": {**Base.presets["coco"], "powers": COCO_POWERS},
    }
    left_out: ClassVar = (
        "Its two rounds of training (the second learns the first network's predictions): here one network weighs its labels as it goes. "
        "Its CRF (here the refinement by colour), its scales and mirror images, and the clamped loss of its first round."
    )

    later: ClassVar[tuple[str, ...]] = (*Base.later, "weigh_from", "powers", "least_weight")

    weigh_from: float = choice(0.5, "share of the steps after the warm-up before pixels are weighed; they begin a second training instead")
    powers: tuple[float, ...] = published(
        (0.15, 0.2, 0.25, 4.0, 5.0, 6.0), "powers that a class's response is raised to, one by one", CODE, coco=COCO_POWERS
    )
    least_weight: float = published(0.05, "weight of a pixel whose certainty is no greater than this; all others have weight 1", CODE)

    POSITIVE: ClassVar = (*Base.POSITIVE, "powers")
    SHARES: ClassVar = ("weigh_from", "least_weight")

    def stage(self, step: int, steps: int) -> Stage:
        stage = super().stage(step, steps)
        begins = self.warmup_steps + self.weigh_from * (steps - self.warmup_steps)
        return stage._replace(name="weighed") if "seg" in stage.weights and step >= begins else stage

    def goals(self, networks: Networks, seen: Output, part: Part, stage: Stage) -> Goals:
        patch_labels, made = super().goals(networks, seen, part, stage)
        weights = None
        if stage.name == "weighed":
            weights = self.weights(networks[self.networks[0]], seen.tokens.flip(-1), part, made.labels.shape[-2:])
        return Goals(patch_labels, made, weights)

    def losses(
        self, networks: Networks, seen: Output, goals: Goals, part: Part, stage: Stage, memory: State
    ) -> dict[str, Mean]:
        if goals.weights is None:
            return super().losses(networks, seen, goals, part, stage, memory)
        others = {name: weight for name, weight in stage.weights.items() if name != "seg"}
        found = super().losses(networks, seen, goals, part, stage._replace(weights=others), memory)
        logits = responses_of(networks[self.networks[0]], seen.tokens.flip(-1), goals.weights.shape[-2:])
        means = objective.segmentation_means(logits, goals.labels.labels, average=self.segmentation_average, weights=goals.weights)
        return found | {"seg": Mean(*means)}

    def watched(self, goals: Goals, memory: State) -> dict[str, Tensor]:
        """Beside the baseline's, `uncertain`: the share of all pixels that are weighed down."""
        found = super().watched(goals, memory)
        return found if goals.weights is None else found | {"uncertain": (goals.weights < 1).float().mean()}

    def weights(self, network: Network, tokens: Tensor, part: Part, size: Sequence[int]) -> Tensor:
        """Of each pixel of a label of a size, from the decoder's prediction on tokens (B, D, h, w) of the images: (B, H', W')."""
        small = F.interpolate(part.images, tuple(size), mode="bilinear", antialias=True)
        with torch.autocast(tokens.device.type, enabled=False):  # float32, for its products too
            responses = responses_of(network, tokens.float(), size).softmax(1)
            here = found_classes(responses, part.tags)
            maps, few, _ = cam.present(responses[:, 1:], here[:, 1:].float())  # of the classes found, not of all
            responses, here = torch.cat([responses[:, :1], maps], 1), F.pad(few > 0, (1, 0), value=True)
            options = {"dilations": self.refine_dilations, "iterations": self.refine_iterations}
            wins = scaled_wins(responses, here, small, powers=self.powers, **options)
        return pixel_weights(uncertainty(wins, here), self.least_weight)


def responses_of(network: Network, tokens: Tensor, size: Sequence[int]) -> Tensor:
    """The decoder's logits of tokens (B, D, h, w) at a size: (B, 1 + C, H', W') float32."""
    return F.interpolate(network.decode(tokens).float(), tuple(size), mode="bilinear", align_corners=False)


def found_classes(responses: Tensor, tags: Tensor) -> Tensor:
    """Which classes an image's prediction has: those that win somewhere, and that its tags name; and the background.

    responses (B, 1 + C, H, W), tags (B, C) -> (B, 1 + C) bool.
    Source: Li et al. 2022, its code (which does not look at the tags, but whose labels have no other class).
    """
    winners = F.one_hot(responses.argmax(1).flatten(1), responses.shape[1]).amax(1)[:, 1:]
    return F.pad((winners > 0) & (tags > 0), (1, 0), value=True)


def scaled_wins(
    responses: Tensor, here: Tensor, images: Tensor, *, powers: Sequence[float], dilations: Sequence[int], iterations: int
) -> Tensor:
    """Where a class is the strongest once its response is raised to a power, and all are refined by colour.

    A power below 1 makes a response wider, one above 1 narrower. The refinement is linear, so that each map is refined once.

    Args:
        responses: (B, K, H, W) in [0, 1].
        here: (B, K) bool, the classes that compete.
        images: (B, 3, H, W).
    Returns:
        (B, K, P, H, W) bool for P powers; false for a class that is not here.
    Source: Li et al. 2022, its code.
    """
    kinds = responses.shape[1]
    scaled = [responses, *(responses**power for power in powers)]
    refined = refine.refine(torch.cat(scaled, 1), images, dilations=dilations, iterations=iterations)
    refined = refined.unflatten(1, (1 + len(powers), kinds)).masked_fill(~here[:, None, :, None, None], -1)
    plain, raised = refined[:, 0], refined[:, 1:].transpose(1, 2)  # (B, K, H, W), (B, K, P, H, W)
    itself = torch.eye(kinds, dtype=torch.bool, device=responses.device)[None, :, :, None, None]
    others = plain[:, None].masked_fill(itself, -1).amax(2)  # (B, K, H, W)
    return (raised > others[:, :, None]) & here[:, :, None, None, None]


def uncertainty(wins: Tensor, here: Tensor) -> Tensor:
    """How much the powers disagree: the variance over them, of the class that changes most, from 0 to 1 in each image.

    wins (B, K, P, H, W) bool, here (B, K) bool -> (B, H, W); all 0 where the variance is the same everywhere.
    Source: Li et al. 2022, its code.
    """
    share = wins.float().mean(2)
    variance = (share * (1 - share) * here[:, :, None, None]).amax(1)
    variance = variance - variance.amin((-2, -1), keepdim=True)
    peak = variance.amax((-2, -1), keepdim=True)
    return variance / torch.where(peak > 0, peak, 1)


def pixel_weights(uncertain: Tensor, least: float) -> Tensor:
    """The weight of pixels of an uncertainty (B, H, W) in [0, 1]: `least` where one minus it is no greater, else 1."""
    return torch.where(1 - uncertain <= least, least, 1.0)
