"""RRM (Zhang et al. 2020): the decoder learns only from pixels that the map and its refinement both trust."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from dsgc import cam, refine
from dsgc.cam import IGNORE
from dsgc.methods import register
from dsgc.methods.base import Base
from dsgc.methods.labels import Initial
from dsgc.settings import published

CODE = "Zhang et al. 2020, its code"
COMMON = {"lambda4": Base.lambda4}  # where pictures are small, the weight of all methods


@register
@dataclass(frozen=True)
class Rrm(Base):
    """The baseline with another rule for labels; `label_low` and `label_high` play no part in it."""

    name: ClassVar = "rrm"
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = Base.presets | {
        name: {**Base.presets[name], **COMMON} for name in ("voc6", "shapes")
    }
    left_out: ClassVar = (
        "Its dense energy loss, which needs a bilateral filter, and its CRF: here the background's and the classes' scores are refined "
        "by colour and divided by their sum. Its decoder learns from the first step, ours after the warm-up, as in all methods."
    )

    later: ClassVar[tuple[str, ...]] = (
        *Base.later,
        "trusted_least", "trusted_share", "trusted_background", "trusted_refined", "power_background", "power_foreground",
    )  # fmt: skip

    lambda4: float = published(2.0, "weight of L_seg: its loss has weight 1, and adds the means of background and foreground", CODE)
    trusted_least: float = published(0.1, "a class of the map is trusted nowhere below this", CODE)
    trusted_share: float = published(0.4, "and only at this share of its pixels above it, where the map is strongest", CODE)
    trusted_background: float = published(0.8, "the background of the map is trusted above this", CODE)
    trusted_refined: float = published(0.8, "the refined scores are trusted above this", CODE)
    power_background: float = published(32.0, "score of the background: one minus the strongest map, to this power", CODE)
    power_foreground: float = published(4.0, "the same where refined scores shall say a class", CODE)

    POSITIVE: ClassVar = (*Base.POSITIVE, "power_background", "power_foreground")
    SHARES: ClassVar = ("trusted_least", "trusted_share", "trusted_background", "trusted_refined")

    def initial_label(self, images: Tensor, maps: Tensor, tags: Tensor) -> Initial:
        """CAM (B, C, h, w) -> what both trust."""
        size = [max(1, side // self.label_stride) for side in images.shape[-2:]]
        small = F.interpolate(images, size, mode="bilinear", antialias=True)
        with torch.autocast(images.device.type, enabled=False):  # float32, for its products too
            maps, few, numbers = cam.present(maps.float(), tags)  # of T classes, not of all
            maps = F.interpolate(cam.tagged(maps, few), size, mode="bilinear", align_corners=False)
            wide, narrow = (background(maps, power) for power in (self.power_foreground, self.power_background))
            refined = refine.refine(
                torch.cat([wide, narrow, maps], 1), small, dilations=self.refine_dilations, iterations=self.refine_iterations
            )
        trusted = map_trusts(
            torch.cat([narrow, maps], 1), least=self.trusted_least, share=self.trusted_share, background=self.trusted_background
        )
        labels = refined_labels(refined[:, :1], refined[:, 1:2], refined[:, 2:], self.trusted_refined)
        labels = torch.where(trusted, labels, IGNORE)
        named = numbers.gather(1, labels.clamp_max(few.shape[1]).flatten(1)).view_as(labels)
        confidence, winner = refined[:, 2:].max(1)
        strongest = numbers.gather(1, winner.flatten(1) + 1).view_as(winner)
        return Initial(confidence, torch.where(labels == IGNORE, IGNORE, named), strongest)


def background(maps: Tensor, power: float) -> Tensor:
    """The background's score of maps (B, C, H, W) in [0, 1]: (B, 1, H, W)."""
    return (1 - maps.amax(1, keepdim=True)) ** power


def map_trusts(scores: Tensor, *, least: float, share: float, background: float) -> Tensor:
    """Where a map is sure of its winner: the background if its score is high, a class where it is among its strongest pixels.

    Args:
        scores: (B, 1 + C, H, W) in [0, 1], the background first.
        least: a class's pixels are those that it wins with more than this.
        share: of these, in each image, how many are trusted: those above the value at place int((1 - share) n) from the lowest.
        background: score above which the background is trusted.
    Returns:
        (B, H, W) bool.
    Source: Zhang et al. 2020, section 3.2 and its code.
    """
    value, winner = scores.flatten(2).max(1)  # (B, N)
    trusted = (winner == 0) & (value > background)
    for number in range(1, scores.shape[1]):
        its = (winner == number) & (value > least)
        count = its.sum(1, keepdim=True)
        place = (count.double() * (1 - share)).long().clamp_max(value.shape[1] - 1)
        limit = torch.where(its, value, torch.inf).sort(1).values.gather(1, place)
        trusted = trusted | (its & (value > limit))
    return trusted.view(scores.shape[0], *scores.shape[2:])


def refined_labels(wide: Tensor, narrow: Tensor, maps: Tensor, trusted: float) -> Tensor:
    """What refined scores say, twice: a class where it beats a wide background, background where even a narrow one wins; else 255.

    Args:
        wide, narrow: (B, 1, H, W) refined scores of the background, with the lower and the higher power.
        maps: (B, C, H, W) refined maps.
        trusted: least share of the winner in the sum of all scores.
    Returns:
        (B, H, W) int64, 0..C or 255.
    Source: Zhang et al. 2020, section 3.2 and its code.
    """
    first, second = (shares(torch.cat([score, maps], 1)) for score in (wide, narrow))
    found = first.argmax(1)
    found = torch.where(found == 0, IGNORE, found)
    found = torch.where(second.argmax(1) == 0, 0, found)
    return torch.where(torch.cat([second[:, :1], first[:, 1:]], 1).amax(1) < trusted, IGNORE, found)


def shares(scores: Tensor) -> Tensor:
    """Scores (B, K, H, W), none negative, divided by their sum; 0 where all are."""
    total = scores.sum(1, keepdim=True)
    return scores / torch.where(total > 0, total, 1)
