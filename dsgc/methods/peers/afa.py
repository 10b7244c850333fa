"""Affinity from attention (AFA): a head learns from attention which tokens belong together, and a random walk spreads the label so."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from dsgc import cam, refine
from dsgc.cam import IGNORE
from dsgc.methods import base, labels, register
from dsgc.methods.affinity import AttentionAffinity, mirrored, pair_labels, pair_means, transitions, walk
from dsgc.methods.base import Base
from dsgc.methods.contract import Mean, Networks, Part, Pseudo, Stage, State, Views
from dsgc.network.vit import Network, Output, fitted
from dsgc.settings import choice, published

CODE = "Ru et al. 2022, its code"


class Seen(NamedTuple):
    """What a step's pass gave."""

    output: Output  # of the mirrored images
    affinity: Tensor | None  # (B, N, N) of their tokens, mirrored back; where it is used


class Goals(NamedTuple):
    """What the losses are measured against."""

    taught: base.Goals  # whose label is what the decoder learns
    pairs: Tensor | None  # (B, N, N) uint8, of the tokens in the frame of the images
    facts: dict[str, Tensor]  # scalars for the log


@register
@dataclass(frozen=True)
class Afa(AttentionAffinity, Base):
    """AFA (Ru et al. 2022): a head that learns affinity from attention, and a label that walks along it."""

    name: ClassVar = "afa"
    scores: ClassVar[tuple[str, ...]] = ("seg", "cam", "pseudo_initial", "pseudo")
    left_out: ClassVar[str] = (
        "Its encoder MiT-B1, with norm layers that do not learn, and its decoder over that encoder's four stages; a plain encoder has one. "
        "The affinity of the walk is that of the pass that learns, not of the images at 1.5 times their size."
    )
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "coco": {
            **Base.presets["coco"], "label_high": 0.55, "refine_iterations": 15,
            "walk_from": 2 / 15, "affinity_label": "walked",
        },
        "voc6": {**Base.presets["voc6"], "label_low": 0.25, "label_high": 0.7, "affinity_scaled": False},  # few steps: what is
        "shapes": {**Base.presets["shapes"], "label_low": 0.25, "affinity_scaled": False},  # larger moves sooner
    }  # fmt: skip
    later: ClassVar[tuple[str, ...]] = ()

    # the walk
    walk_from: float = published(
        2 / 9, "share of the steps after the warm-up from which the walked label teaches the decoder; 1 for never", CODE, coco=2 / 15
    )
    walk_radius: float = choice(
        0.17, "a step of the walk goes up to this share of the grid's shorter side: they walk 8 of 48 tokens, of images 1.5 times as large"
    )
    walk_power: float = published(2.0, "power of the affinity in the walk", CODE)
    walk_rounds: int = published(1, "steps of the walk", CODE)
    walk_softmax: bool = published(True, "softmax over background and tagged classes before the walk", CODE)
    affinity_label: Literal["initial", "walked"] = published(
        "initial", "the label that the affinity learns once the walk has begun", CODE, coco="walked"
    )

    # what the baseline has as well
    lambda1: float = published(0.0, "weight of L_PTC, which it does not have", CODE)
    label_low: float = published(0.35, "pseudo label: background below this confidence", CODE)
    label_high: float = published(0.55, "pseudo label: the strongest class above this confidence, 255 between", CODE)
    refine_iterations: int = published(10, "pixel-adaptive refinement: averagings; 0 for none", CODE, coco=15)

    TAGGED: ClassVar[tuple[str, ...]] = ("patch_logits",)
    POSITIVE: ClassVar[tuple[str, ...]] = (*Base.POSITIVE, *AttentionAffinity.POSITIVE, "walk_power")
    NOT_NEGATIVE: ClassVar[tuple[str, ...]] = (*Base.NOT_NEGATIVE, *AttentionAffinity.NOT_NEGATIVE, "walk_rounds")
    SHARES: ClassVar[tuple[str, ...]] = (*AttentionAffinity.SHARES, "walk_from", "walk_radius")

    @property
    def shared_steps(self) -> int:
        return 0

    def stage(self, step: int, steps: int) -> Stage:
        """Tags alone; then decoder and affinity learn the initial label; then the decoder learns the one that has walked."""
        given = super().stage(step, steps)
        if given.name == "warm-up":
            return given
        weights = given.weights | ({"aff": self.affinity_weight} if self.affinity_weight else {})
        progress = (step - self.warmup_steps) / max(steps - self.warmup_steps, 1)
        walks = bool(self.affinity_weight) and self.walk_from < 1 and progress >= self.walk_from  # not along what nobody taught
        return Stage("walk" if walks else "affinity", weights, given.learning)

    # a step

    def passes(self, networks: Networks, part: Part, stage: Stage) -> Seen:
        """Of the mirrored images, as the baseline has them."""
        network, images = networks[self.networks[0]], part.images.flip(-1)
        if "aff" not in stage.weights:
            return Seen(network(images), None)
        output, found = self.with_affinity(network, images)
        return Seen(output, mirrored(found, output.tokens.shape[-2:]))

    def goals(self, networks: Networks, seen: Seen, part: Part, stage: Stage) -> Goals:
        taught = super().goals(networks, seen.output, part, stage)
        if "aff" not in stage.weights:
            return Goals(taught, None, {})
        network, size = networks[self.networks[0]], seen.output.tokens.shape[-2:]
        near = self.near(size, part.images.device)
        made = taught.labels
        if made is None or stage.name == "walk":
            maps = self.over_scales(network, self.cam(network, seen.output).flip(-1), part.images)
            made = made or self.initial_label(part.images, maps, part.tags)
        first, facts = made.labels, {"affinity_spread": seen.affinity[:, near].std(1).mean()}
        if stage.name == "walk":
            walked = self.walked_label(part.images, maps, part.tags, seen.affinity, size)
            taught = taught._replace(labels=made._replace(labels=walked))
            facts["walked"] = (walked != first).float().mean()
            first = walked if self.affinity_label == "walked" else first
        return Goals(taught, pair_labels(labels.nearest(first, size), near), facts)

    def losses(
        self, networks: Networks, seen: Seen, goals: Goals, part: Part, stage: Stage, memory: State
    ) -> dict[str, Mean]:
        found = super().losses(networks, seen.output, goals.taught, part, stage, memory)
        if "aff" in stage.weights:
            found["aff"] = pair_means(seen.affinity, goals.pairs)
        return found

    def watched(self, goals: Goals, memory: State) -> dict[str, Tensor]:
        """`labelled`, as the baseline has it. `affinity_spread`: standard deviation of an image's affinities within the window.
        `walked`: the share of the pseudo label's pixels that the walk changed.
        """
        return super().watched(goals.taught, memory) | goals.facts

    # its parts

    @torch.no_grad()
    def walked_label(self, images: Tensor, maps: Tensor, tags: Tensor, affinity: Tensor, grid: Sequence[int]) -> Tensor:
        """CAM -> walk among the tokens -> refinement -> label by two thresholds: (B, H', W') int64.

        images (B, 3, H, W); maps (B, C, h', w') in [0, 1]; tags (B, C); affinity (B, N, N) of the images' tokens, whose grid is h x w.
        """
        side = [max(1, length // self.label_stride) for length in images.shape[-2:]]
        with torch.autocast(images.device.type, enabled=False):  # float32, for its products too
            small = F.interpolate(images, side, mode="bilinear", antialias=True)
            maps, tags, numbers = cam.present(maps, tags)  # of T classes, not of all
            maps = F.interpolate(cam.tagged(maps, tags), tuple(grid), mode="bilinear", align_corners=False)
            steps = transitions(affinity.float(), self.near(grid, images.device, self.walk_radius), self.walk_power)
            both = torch.cat([with_background(maps, tags, floor, self.walk_softmax) for floor in (self.label_low, self.label_high)], 1)
            both = F.interpolate(walk(both, steps, self.walk_rounds), side, mode="bilinear", align_corners=False)
            both = refine.refine(both, small, dilations=self.refine_dilations, iterations=self.refine_iterations)
            low, high = (numbers.gather(1, found.argmax(1).flatten(1)).view(-1, *side) for found in both.chunk(2, 1))
        return by_two(low, high)

    # evaluation

    def views(self, network: Network, images: Tensor, tags: Tensor, background: float) -> Views:
        """`pseudo_initial`: the label without the walk."""
        size = images.shape[-2:]
        scaled = fitted(images, network.patch_size)
        output, found = self.with_affinity(network, scaled)
        maps = self.cam(network, output)
        seeds = self.over_scales(network, maps, scaled)
        first = labels.enlarged(self.initial_label(scaled, seeds, tags).labels, size).long()
        walked = labels.enlarged(self.walked_label(scaled, seeds, tags, found, output.tokens.shape[-2:]), size).long()
        full = F.interpolate(cam.tagged(maps, tags), size, mode="bilinear", align_corners=False)
        head = labels.segmented(network, output.tokens, size)
        scored = {"seg": head, "cam": labels.by_threshold(full, background), "pseudo_initial": first, "pseudo": walked}
        drawn = {"cam": full.amax(1), "initial": first, "walked": walked, "prediction": head}
        return Views(scored, drawn, self.evidence(network, output))

    def made(self, network: Network, output: Output, images: Tensor, maps: Tensor, tags: Tensor) -> Pseudo:
        """`initial`: the label without the walk, whose confidence this is. The affinity takes a pass of its own."""
        first, (_, found) = self.initial_label(images, maps, tags), self.with_affinity(network, images)
        walked = self.walked_label(images, maps, tags, found, output.tokens.shape[-2:])
        return Pseudo(maps, first.confidence, first.labels, walked)


def with_background(maps: Tensor, tags: Tensor, floor: float, softmax: bool) -> Tensor:
    """The maps (B, T, h, w) of tagged classes behind one of the background, which is `floor` everywhere: (B, 1 + T, h, w) in [0, 1].

    softmax: over the background and the classes that tags (B, T) name; what they do not name is 0 in any case.
    Source: Ru et al. 2022 (AFA), its code.
    """
    both = F.pad(maps, (0, 0, 0, 0, 1, 0), value=floor)
    named = F.pad(tags, (1, 0), value=1)[:, :, None, None] > 0
    return both.masked_fill(~named, float("-inf")).softmax(1) if softmax else both * named


def by_two(low: Tensor, high: Tensor) -> Tensor:
    """One label of two: a class where the label by the high threshold has one, background where both say so, 255 elsewhere.

    low, high (B, H, W) int64, 0 for background -> (B, H, W) int64.
    Source: Ru et al. 2022 (AFA), its code.
    """
    return torch.where(high > 0, high, torch.where(low > 0, IGNORE, 0))
