"""1Stage (Araslanov & Roth 2020): the decoder's own masks say which tags an image has, and become its labels."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dsgc import dskd, objective, refine
from dsgc.cam import IGNORE
from dsgc.errors import UserError
from dsgc.methods import labels, register
from dsgc.methods.base import Base
from dsgc.methods.contract import Mean, Method, Networks, Part, Pseudo, Stage, State, Views
from dsgc.network.vit import Network, fitted
from dsgc.settings import choice, paper, published

CODE = "Araslanov & Roth 2020, its code"
COMMON = ("warmup_steps", "label_stride", "refine_dilations", "refine_iterations")  # as the baseline has them


class Goals(NamedTuple):
    """What the losses are measured against."""

    labels: Tensor | None  # (B, H', W') int64, in the frame of the images; for the loss of the masks


@register
@dataclass(frozen=True)
class Onestage(Method):
    """Tags are read off the decoder's softmax, without a class activation map; its surest pixels, refined, teach the decoder."""

    name: ClassVar = "onestage"
    scores: ClassVar = ("seg", "cam", "pseudo")
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        preset: {name: value for name, value in values.items() if name in COMMON} for preset, values in Base.presets.items()
    }
    left_out: ClassVar = (
        "Its gate, which mixes deep and shallow features at random, and its decoder on features of a quarter of the image's size: a "
        "plain vision transformer has no such features. Its refinement by colour differs from ours in the distance of colours and has no "
        "term of position. Its first stage is 5 of 24 epochs; the warm-up here is that of all methods."
    )

    later: ClassVar[tuple[str, ...]] = (
        "lambda_mask", "foreground_share", "background_share", "least", "label_stride", "refine_dilations", "refine_iterations",
    )  # fmt: skip

    warmup_steps: int = paper(2_000, "iterations of the warm-up stage", coco=5_000)
    lambda_mask: float = published(1.0, "weight of the loss of the masks, after the warm-up", CODE)
    focal_power: float = published(3.0, "power of the penalty on small masks", CODE)
    focal_floor: float = published(0.01, "what is added to a mask's share before its logarithm", CODE)
    foreground_share: float = published(0.6, "a pixel is a class where its mask is above this share of the mask's peak", CODE)
    background_share: float = published(0.7, "the same of the background", CODE)
    least: float = published(0.2, "and above this", CODE)
    label_stride: int = choice(2, "pixels of the image to one pixel of the pseudo label")
    refine_dilations: tuple[int, ...] = choice((1, 2, 4, 8, 12, 24), "pixel-adaptive refinement: neighbour distances")
    refine_iterations: int = choice(10, "pixel-adaptive refinement: averagings; 0 for none")

    POSITIVE: ClassVar = ("focal_floor", "label_stride", "refine_dilations")
    NOT_NEGATIVE: ClassVar = ("warmup_steps", "lambda_mask", "focal_power", "refine_iterations")
    SHARES: ClassVar = ("foreground_share", "background_share", "least")

    def heads(self, network: Network, classes: int) -> dict[str, nn.Module]:
        """No head, but the decoder's score of the background begins as 1 everywhere, and never learns (`scores_of`)."""
        with torch.no_grad():
            network.decoder[-1].weight[0] = 0
            network.decoder[-1].bias[0] = 1
        return {}

    @property
    def shared_steps(self) -> int:
        return self.warmup_steps

    def check(self, steps: int) -> None:
        if self.warmup_steps > steps:
            raise UserError(f"warmup_steps {self.warmup_steps}: longer than the run, which has steps {steps}")

    def stage(self, step: int, steps: int) -> Stage:
        name = objective.stage_at(step, self.warmup_steps)
        masks = {"mask": self.lambda_mask} if name == "expansion" and self.lambda_mask else {}
        return Stage(name, {"cls": 1.0} | masks, self.networks)

    # a step

    def passes(self, networks: Networks, part: Part, stage: Stage) -> Tensor:
        """The decoder's scores (B, 1 + C, h, w), in the frame of the images; the encoder sees the mirrored ones, as the baseline's does."""
        network = networks[self.networks[0]]
        return scores_of(network, network(part.images.flip(-1)).tokens.flip(-1))

    def goals(self, networks: Networks, seen: Tensor, part: Part, stage: Stage) -> Goals:
        return Goals(self.label(seen, part.images, part.tags) if "mask" in stage.weights else None)

    def losses(
        self, networks: Networks, seen: Tensor, goals: Goals, part: Part, stage: Stage, memory: State
    ) -> dict[str, Mean]:
        logits = tag_scores(seen, power=self.focal_power, floor=self.focal_floor)
        found = {"cls": Mean(dskd.tag_loss(logits, part.tags), len(part.tags))}
        if "mask" in stage.weights:
            large = F.interpolate(seen, goals.labels.shape[-2:], mode="bilinear", align_corners=False)
            found["mask"] = Mean(mask_loss(large, goals.labels, part.tags), len(part.tags))
        return found

    def watched(self, goals: Goals, memory: State) -> dict[str, Tensor]:
        """`labelled`: the share of the pseudo label's pixels that have a label."""
        return {} if goals.labels is None else {"labelled": (goals.labels != IGNORE).float().mean()}

    @torch.no_grad()
    def refined(self, scores: Tensor, images: Tensor, tags: Tensor) -> Tensor:
        """Softmax -> refinement: masks (B, 1 + C, H', W') in [0, 1]."""
        size = [max(1, side // self.label_stride) for side in images.shape[-2:]]
        small = F.interpolate(images, size, mode="bilinear", antialias=True)
        with torch.autocast(images.device.type, enabled=False):  # float32, for its products too
            masks = F.interpolate(tagged_masks(scores, tags), size, mode="bilinear", align_corners=False)
            return refine.refine(masks, small, dilations=self.refine_dilations, iterations=self.refine_iterations)

    def label(self, scores: Tensor, images: Tensor, tags: Tensor) -> Tensor:
        """Softmax -> refinement -> label: (B, H', W') int64."""
        return self.sure(self.refined(scores, images, tags))

    def sure(self, masks: Tensor) -> Tensor:
        """The label (B, H', W') int64 of refined masks (B, 1 + C, H', W')."""
        return sure_labels(masks, background=self.background_share, foreground=self.foreground_share, least=self.least)

    # evaluation

    def views(self, network: Network, images: Tensor, tags: Tensor, background: float) -> Views:
        """`cam` is the strongest mask among the tags' and the background's: the maps of this method are its masks."""
        size, scaled = images.shape[-2:], fitted(images, network.patch_size)
        scores = scores_of(network, network(scaled).tokens)
        masks = F.interpolate(tagged_masks(scores, tags), size, mode="bilinear", align_corners=False)
        head = F.interpolate(scores, size, mode="bilinear", align_corners=False).argmax(1)
        made = labels.enlarged(self.label(scores, scaled, tags), size).long()
        scored = {"seg": head, "cam": masks.argmax(1), "pseudo": made}
        return Views(scored, {"cam": masks[:, 1:].amax(1), "pseudo": made, "prediction": head})

    def pseudo(
        self, network: Network, images: Tensor, tags: Tensor, scales: tuple[float, ...] = (), *, mirror: bool = False
    ) -> Pseudo:
        """The maps of this method are its masks, before refinement. Raises `UserError` for scales."""
        if scales:
            raise UserError("method onestage: its label is made of masks, in one look; leave out --scales and --mirror")
        scaled = fitted(images, network.patch_size)
        scores = scores_of(network, network(scaled).tokens)
        masks = self.refined(scores, scaled, tags)
        return Pseudo(tagged_masks(scores, tags)[:, 1:], masks[:, 1:].amax(1), None, self.sure(masks))


def scores_of(network: Network, tokens: Tensor) -> Tensor:
    """The decoder's scores (B, 1 + C, h, w) float32 of tokens (B, D, h, w); the background's takes no gradient, and so stays 1.

    (Weight decay alone takes a little of it.)
    """
    scores = network.decode(tokens).float()
    return torch.cat([scores[:, :1].detach(), scores[:, 1:]], 1)


def tag_scores(scores: Tensor, *, power: float, floor: float) -> Tensor:
    """How much of each class an image's masks have: the mean score within the mask, and a penalty where the mask is small.

    Args:
        scores: (B, 1 + C, h, w), the background first.
        power, floor: of the penalty (1 - s)^power log(floor + s) on a mask's share s of the image.
    Returns:
        (B, C), before the sigmoid.
    Source: Araslanov & Roth 2020, normalised global weighted pooling and focal mask penalty.
    """
    values, masks = scores.flatten(2), scores.softmax(1).flatten(2)
    pooled = (masks * values).sum(-1) / (1 + masks.sum(-1))
    share = masks.mean(-1)
    return (pooled + (1 - share) ** power * (floor + share).log())[:, 1:]


def tagged_masks(scores: Tensor, tags: Tensor) -> Tensor:
    """The softmax of scores (B, 1 + C, h, w), 0 for classes that the tags (B, C) do not name."""
    return scores.softmax(1) * F.pad(tags, (1, 0), value=1)[:, :, None, None]


def sure_labels(masks: Tensor, *, background: float, foreground: float, least: float) -> Tensor:
    """A pixel's label is the only class whose mask is above a share of its own peak there; 255 where there is none, or more than one.

    masks (B, 1 + C, H, W) in [0, 1], the background first -> (B, H, W) int64.
    Source: Araslanov & Roth 2020, section 3.3 and its code.
    """
    shares = torch.full((masks.shape[1], 1, 1), foreground, dtype=masks.dtype, device=masks.device)
    shares[0] = background
    above = masks > (masks.amax((-2, -1), keepdim=True) * shares).clamp_min(least)
    return torch.where(above.sum(1) == 1, above.long().argmax(1), IGNORE)


def mask_loss(logits: Tensor, labels: Tensor, tags: Tensor) -> Tensor:
    """Cross-entropy in which a class weighs the less the more pixels of the image it has; a mean over all pixels and images.

    An image counts as 0 unless its label has the background and every class that is tagged. Where the code divides by one more
    than the number of labelled pixels, this divides by their number.

    Args:
        logits: (B, K, H, W), the background first.
        labels: (B, H, W) int64, 0..K-1 or 255.
        tags: (B, C).
    Returns:
        A scalar >= 0.
    Source: Araslanov & Roth 2020, its code.
    """
    flat, kinds = labels.flatten(1), logits.shape[1]
    known = flat != IGNORE
    slots = torch.where(known, flat, kinds)
    counts = logits.new_zeros(len(labels), kinds + 1).scatter_add(1, slots, torch.ones_like(slots, dtype=logits.dtype))[:, :-1]
    total = counts.sum(1, keepdim=True)
    rare = F.pad((total - counts) / total.clamp_min(1), (0, 1)).gather(1, slots)  # (B, N), 0 where there is no label
    loss = F.cross_entropy(logits, labels, ignore_index=IGNORE, reduction="none").flatten(1)
    whole = (counts > 0).sum(1) == tags.sum(1) + 1
    return ((rare * loss).mean(1) * whole).sum() / max(len(labels), 1)
