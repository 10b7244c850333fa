"""BECO: two networks teach each other where the label is unsure, and learn edges from objects pasted by their own prediction."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from dsgc import objective
from dsgc.cam import IGNORE
from dsgc.methods import draws, register
from dsgc.methods.base import Base, contrast, tag_losses
from dsgc.methods.contract import Mean, Networks, Part, Stage, State
from dsgc.methods.labels import Initial, enlarged
from dsgc.methods.pairs import at, summed
from dsgc.network.vit import Output
from dsgc.settings import choice, published

CODE = "Rong et al. 2023, its code"


def own_labels(logits: Tensor, above: float) -> Tensor:
    """What a prediction is sure of: the most likely class 0..C where its probability is above a threshold, else 255; (B, H, W) int64.

    logits (B, K, H, W), the background first. Source: Rong et al. 2023 (BECO), its code.
    """
    confidence, winner = logits.softmax(1).max(1)
    return torch.where(confidence > above, winner, IGNORE)


def pasted_classes(made: Tensor, numbers: Tensor) -> Tensor:
    """Half of each image's classes, rounded up, those with the smallest numbers: (B, C) bool; never the background.

    made (B, H, W) int64, labels 0..C or 255; numbers (B, C) in [0, 1). Source: Rong et al. 2023 (BECO), its code.
    """
    present = torch.stack([(made == label + 1).flatten(1).any(1) for label in range(numbers.shape[1])], 1)
    place = numbers.masked_fill(~present, torch.inf).argsort(1).argsort(1)  # 0 for the smallest
    return present & (place < (present.sum(1, keepdim=True) + 1) // 2)


def pasted(made: Tensor, chosen: Tensor) -> Tensor:
    """Which pixels of labels (B, H, W) are of the chosen classes (B, C): (B, H, W) bool."""
    known = torch.cat([chosen.new_zeros(len(chosen), 1), chosen], 1)  # (B, 1 + C), the background first
    of_class = known.gather(1, made.masked_fill(made == IGNORE, 0).flatten(1))
    return of_class.view_as(made)


def boundary(region: Tensor, radius: int) -> Tensor:
    """The places within `radius` of a region's outline, on either side: (B, H, W) bool.

    The region grown by a square of 2 radius + 1, less the region shrunk by it; the picture's rim is no outline.
    Source: Rong et al. 2023 (BECO), its code.
    """

    def grown(places: Tensor) -> Tensor:
        return F.max_pool2d(places[:, None].float(), 2 * radius + 1, stride=1, padding=radius)[:, 0] > 0

    return grown(region) & grown(~region)


def weighted(logits: Tensor, made: Tensor, edge: Tensor, weight: float) -> Mean:
    """The cross-entropy with labels, at the edge times a weight, as a mean over all pixels, those without a label too; (1,).

    logits (B, K, H, W); made (B, H, W) int64; edge (B, H, W) bool. Source: Rong et al. 2023 (BECO), its code.
    """
    losses = F.cross_entropy(logits, made, ignore_index=IGNORE, reduction="none")
    return _over_all_pixels(torch.where(edge, weight * losses, losses))


def cotrained(logits: Tensor, others: Tensor, made: Tensor) -> Mean:
    """The cross-entropy with what the other network predicts, where there is no label, as a mean over all pixels; (1,).

    logits, others (B, K, H, W); made (B, H, W) int64. No gradient reaches the other network.
    Source: Rong et al. 2023 (BECO), its code.
    """
    losses = F.cross_entropy(logits, others.argmax(1), reduction="none")
    return _over_all_pixels(torch.where(made == IGNORE, losses, 0))


def _over_all_pixels(losses: Tensor) -> Mean:
    return Mean(losses.sum()[None] / max(losses.numel(), 1), torch.tensor([losses.numel()], device=losses.device))


class Mixed(NamedTuple):
    """Images with objects of their second crop pasted in."""

    images: Tensor  # (B, 3, H, W)
    labels: Tensor  # (B, H', W') int64, the networks' own
    edge: Tensor  # (B, H', W') bool, around what was pasted


class Seen(NamedTuple):
    """What a step's passes gave, in the order of the networks."""

    plain: tuple[Output, ...]  # of the mirrored images
    logits: tuple[Tensor, ...]  # (B, K, h, w) of the decoder, back in the frame of the images; none in the warm-up
    mixed: Mixed | None
    mixed_logits: tuple[Tensor, ...]  # (B, K, h, w)


class Goals(NamedTuple):
    """What the losses are measured against; what is pasted stands in `Seen`, since the passes need it."""

    patch_labels: tuple[Tensor, ...]  # (B, h, w) int64 of Eq. 3, in the frame of the pass
    labels: Initial | None  # for both networks
    mixed: Mixed | None


@register
@dataclass(frozen=True)
class Beco(Base):
    """Boundary-enhanced co-training (Rong et al., CVPR 2023), on labels that are made on the way; the first network is reported."""

    name: ClassVar = "beco"
    heads_anew: ClassVar = ("second",)
    left_out: ClassVar = (
        "There labels come from an earlier run (IRN), of each class the half that is surest; here from the first network's CAM. "
        "Objects are pasted from a second crop of the same picture, not from another one, and the images' colours are not changed; "
        "in the first steps, when predictions are not sure enough, nothing is pasted. Scores are the first network's, not the mean's."
    )
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = Base.presets
    later: ClassVar = ()

    cotraining: float = choice(0.1, "weight of L_cot, of pixels without a label; published is that of L_seg")
    mixing: float = choice(0.1, "weight of L_mix, of images with pasted objects; published every second image, with that of L_seg")
    mix_from: float = published(1 / 80, "share of the steps after the warm-up from which objects are pasted: 1 epoch of 80", CODE)
    confident: float = published(0.95, "own labels: above this probability of both networks' mean logits", CODE)
    boundary_weight: float = published(1.2, "weight of pixels near the outline of what was pasted", CODE)
    boundary_radius: int = published(1, "how near, pixels of the label", CODE)
    second_area: tuple[float, float] = choice((0.32, 1.0), "area of the second crop as a share of the image, as of the first")

    NOT_NEGATIVE: ClassVar = (*Base.NOT_NEGATIVE, "cotraining", "mixing", "boundary_weight", "boundary_radius")
    SHARES: ClassVar = ("mix_from", "confident")
    AREAS: ClassVar = ("second_area",)

    @property
    def networks(self) -> tuple[str, ...]:
        return ("first", "second")

    @property
    def second_crop(self) -> tuple[float, float] | None:
        return self.second_area if self.mixing else None

    @property
    def shared_steps(self) -> int:
        return 0

    def stage(self, step: int, steps: int) -> Stage:
        share = (step - self.warmup_steps) / max(steps - self.warmup_steps, 1)
        name = "mixing" if share >= self.mix_from and self.mixing else "co-training"
        weights = {"cls": 1.0, "ptc": self.lambda1}
        if share < 0:
            name = "warm-up"
        else:
            weights |= {"seg": self.lambda4, "cot": self.cotraining}
        if name == "mixing":
            weights["mix"] = self.mixing
        return Stage(name, {loss: weight for loss, weight in weights.items() if weight}, self.networks)

    # a step

    def passes(self, networks: Networks, part: Part, stage: Stage) -> Seen:
        pair = [networks[name] for name in self.networks]
        plain = tuple(network(part.images.flip(-1)) for network in pair)
        if stage.name == "warm-up":
            return Seen(plain, (), None, ())
        logits = tuple(network.decode(output.tokens.flip(-1)) for network, output in zip(pair, plain, strict=True))
        if "mix" not in stage.weights:
            return Seen(plain, logits, None, ())
        with torch.no_grad():  # after passes with a graph: autocast keeps the weights that it has cast
            there = sum(network.decode(network(part.second).tokens).float() for network in pair) / len(pair)
        mixed = self.mixed(part, sum(each.detach().float() for each in logits) / len(pair), there)
        return Seen(plain, logits, mixed, tuple(network.decode(network(mixed.images).tokens) for network in pair))

    def goals(self, networks: Networks, seen: Seen, part: Part, stage: Stage) -> Goals:
        """One label for both networks, the baseline's, of the first one's CAM."""
        patch_labels = ()
        if "ptc" in stage.weights:
            each = zip(self.networks, seen.plain, strict=True)
            patch_labels = tuple(self.patch_labels(networks[name], output, part.tags) for name, output in each)
        made = None
        if stage.name != "warm-up":
            first = networks[self.networks[0]]
            maps = self.over_scales(first, self.cam(first, seen.plain[0]).flip(-1), part.images)
            made = self.initial_label(part.images, maps, part.tags)
        return Goals(patch_labels, made, seen.mixed)

    def losses(
        self, networks: Networks, seen: Seen, goals: Goals, part: Part, stage: Stage, memory: State
    ) -> dict[str, Mean]:
        found = {"cls": Mean(sum(tag_losses(output, part.tags, self.TAGGED) for output in seen.plain), len(part.tags))}
        if "ptc" in stage.weights:
            each = zip(seen.plain, goals.patch_labels, strict=True)
            found["ptc"] = summed([contrast(output.tokens, made) for output, made in each])
        if stage.name == "warm-up":
            return found
        made = goals.labels.labels
        logits = [at(each, made) for each in seen.logits]
        if "seg" in stage.weights:
            means = [objective.segmentation_means(each, made, average=self.segmentation_average) for each in logits]
            found["seg"] = summed([Mean(*mean) for mean in means])
        unsure = [cotrained(*logits, made), cotrained(*logits[::-1], made)]
        if "mix" in stage.weights:
            _, own, edge = seen.mixed
            logits = [at(each, own) for each in seen.mixed_logits]
            found["mix"] = summed([weighted(each, own, edge, self.boundary_weight) for each in logits])
            unsure += [cotrained(*logits, own), cotrained(*logits[::-1], own)]
        if "cot" in stage.weights:
            found["cot"] = summed(unsure)
        return found

    def watched(self, goals: Goals, memory: State) -> dict[str, Tensor]:
        """Shares of the pixels: `labelled` by the CAM; `own`, that mixed images have of own labels; `edge`, around what was pasted."""
        found = super().watched(goals, memory)
        if goals.mixed is not None:
            found |= {"own": (goals.mixed.labels != IGNORE).float().mean(), "edge": goals.mixed.edge.float().mean()}
        return found

    # its parts

    @torch.no_grad()
    def mixed(self, part: Part, here: Tensor, there: Tensor) -> Mixed:
        """Objects of the second crop on the images, under own labels, of which logits (B, K, h, w) of either are the source."""
        size = [max(1, side // self.label_stride) for side in part.images.shape[-2:]]
        with torch.autocast(part.images.device.type, enabled=False):
            grid = part.tags.new_zeros(len(part.tags), *size)
            mine, theirs = (own_labels(at(logits, grid), self.confident) for logits in (here, there))
            numbers = draws.uniform(part.seeds, "pasted classes", part.tags.shape[1]).to(theirs.device)
            region = pasted(theirs, pasted_classes(theirs, numbers))
            large = enlarged(region, part.images.shape[-2:])[:, None] > 0
        images = torch.where(large, part.second, part.images)
        return Mixed(images, torch.where(region, theirs, mine), boundary(region, self.boundary_radius))
