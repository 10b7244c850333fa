"""DuPL: two networks that are kept apart, and teach each other with labels of which suspicious pixels are taken out."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dsgc import cam, gmm, objective, ptc
from dsgc.cam import IGNORE
from dsgc.errors import UserError
from dsgc.methods import labels, register, strong
from dsgc.methods.base import Base, tag_losses
from dsgc.methods.contract import Mean, Networks, Part, Stage, State
from dsgc.methods.pairs import at, summed
from dsgc.network.vit import Network, Output
from dsgc.settings import choice, published

CODE = "Wu et al. 2024, its code"


def upper_threshold(progress: float, start: float, ends: Tensor, tags: Tensor) -> Tensor:
    """Above which confidence a pixel gets a class: half a cosine from `start` at progress 0 to a class's end at 1; (B,).

    ends (C,); tags (B, C). An image takes the largest of its tags' values, one without tags the start.
    Source: Wu et al. 2024 (DuPL), its code.
    """
    fallen = (1 - math.cos(math.pi * progress)) / 2
    values = torch.where(tags > 0, start + (ends - start) * fallen, 0).amax(1)
    return torch.where(tags.any(1), values, start)


def by_thresholds(confidence: Tensor, strongest: Tensor, low: float, high: Tensor) -> Tensor:
    """Labels (B, h, w): the strongest class 1..C above `high` (B,), background below `low`, 255 between.

    confidence (B, h, w) in [0, 1]; strongest (B, h, w) int64, 1..C. As `cam.patch_labels`, with a threshold for each image.
    """
    found = torch.where(confidence > high[:, None, None], strongest, IGNORE)
    return torch.where(confidence < low, 0, found)


def discrepancy(one: Tensor, other: Tensor) -> Tensor:
    """How alike two networks see: for each side one plus the mean cosine with the other side, which is held fixed; in [0, 4].

    one, other (B, D, h, w): each channel is a vector over the places. Source: Wu et al. 2024 (DuPL), its code.
    """
    one, other = one.flatten(2).float(), other.flatten(2).float()
    return sum(1 + F.cosine_similarity(fixed.detach(), moved, dim=-1, eps=1e-6).mean() for fixed, moved in ((one, other), (other, one)))


def noisy(
    losses: Tensor, found: Tensor, *, least: float, share: float, distance: float, posterior: float, one_sided: bool, **fit: Any
) -> Tensor:
    """Which labels are suspicious: foreground pixels whose loss belongs to the upper of two Gaussians; (B, H, W) bool.

    Each image has its own mixture, all being fitted at once. A posterior is no threshold: where the upper Gaussian is the wider
    one, it also claims losses below both means.

    Args:
        losses: (B, H, W) >= 0, of a network under its own labels.
        found: (B, H, W) int64, these labels: 0, 1..C, 255.
        least: only foreground pixels with a loss above it are fitted; all of the foreground is judged.
        share, distance: unless more than this share of the pixels is fitted, and the means lie further apart, nothing is noise.
        posterior: of the component with the larger mean, above which a pixel is noise.
        one_sided: take no loss below both means for noise; published is the plain posterior.
        fit: options of `gmm.fit`.
    Source: Wu et al. 2024 (DuPL), its code.
    """
    values, foreground = losses.flatten(1).float(), ((found != 0) & (found != IGNORE)).flatten(1)
    fitted = foreground & (values > least)
    mixture = gmm.fit(values, fitted, start="kmeans", **fit)
    chosen = foreground & (1 - gmm.noise_probability(values, mixture) > posterior)
    if one_sided:
        chosen = chosen & (values > mixture.mean[:, :1])
    enough = fitted.sum(1) > share * values.shape[1]
    apart = mixture.mean[:, 1] - mixture.mean[:, 0] > distance
    return (chosen & (enough & apart)[:, None]).view(found.shape)


def confident(logits: Tensor, taught: Tensor, above: float) -> Tensor:
    """What a network is sure of where its teacher says nothing: (B, H, W) int64, 255 elsewhere.

    logits (B, K, H, W); taught (B, H, W), the label that supervises it; above: the least largest probability.
    Source: Wu et al. 2024 (DuPL), its code.
    """
    confidence, winner = logits.float().softmax(1).max(1)
    return torch.where((taught == IGNORE) & (confidence > above), winner, IGNORE)


class Seen(NamedTuple):
    """What a step's passes gave, in the order of the networks."""

    plain: tuple[Output, ...]  # of the mirrored images
    logits: tuple[Tensor, ...]  # (B, K, h, w) of the decoder, back in the frame of the images; none in the warm-up
    strong: tuple[Tensor, ...]  # (B, K, h', w') of the strong view, in that frame; none before the filter


class Goals(NamedTuple):
    """What the losses are measured against, in the order of the networks that learn from it."""

    patch_labels: tuple[Tensor, ...]  # (B, h, w) int64, in the frame of the pass; for L_PTC
    labels: tuple[Tensor, ...]  # (B, H', W') int64; for L_seg
    confident: tuple[Tensor, ...]  # (B, H', W') int64; for L_con
    noise: tuple[Tensor, ...]  # (B, H', W') bool, what the filter took out


@register
@dataclass(frozen=True)
class Dupl(Base):
    """Progressive learning of two networks (Wu et al., CVPR 2024): the first is reported, and both learn to the end."""

    name: ClassVar = "dupl"
    heads_anew: ClassVar = ("second",)
    left_out: ClassVar = (
        "The CAM over three scales is an option (label_scales); the softmax before refinement and the CRF at the end are not here. "
        "As in the paper one value ends the fall of label_high; the list in the code for VOC's classes can be given in label_high_ends."
    )
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "coco": {**Base.presets["coco"], "discrepancy": 0.05, "auxiliary_until": 1 / 18, "early": False},
        "voc6": Base.presets["voc6"],
        "shapes": {**Base.presets["shapes"], "label_high_ends": (0.4,)},
    }
    later: ClassVar = ()

    lambda1: float = published(0.2, "weight of L_PTC, which compares absolute cosines and halves both means", CODE)
    lambda4: float = published(0.2, "weight of L_seg of each network; the paper says 0.1", CODE)
    ptc_low: float = published(0.25, "beta_l of Eq. 3", CODE)
    ptc_high: float = published(0.7, "beta_h of Eq. 3; falls in proportion to label_high", CODE, coco=0.65)
    label_low: float = published(0.25, "pseudo label: background below this confidence", CODE)
    label_high: float = published(0.7, "pseudo label: the strongest class above it at first", CODE, coco=0.65)
    label_high_ends: tuple[float, ...] = published(
        (0.55,), "label_high at the end; one value, or one a class: the code has 0.7 for 6 of VOC's classes", "Wu et al. 2024"
    )
    discrepancy: float = published(0.1, "weight of L_dis, which keeps the networks apart", CODE, coco=0.05)
    crossed: bool = published(True, "each network learns the other's label; else its own", "Wu et al. 2024")
    early: bool = published(True, "L_dis in the warm-up too, and L_PTC before labels come from the last tokens", CODE, coco=False)
    auxiliary_until: float = published(
        0.0, "share of the steps after the warm-up in which labels come from the middle tokens' CAM", CODE, coco=1 / 18
    )

    # the noise filter, and what is learnt where it, or a threshold, leaves no label
    filter_from: float = published(1 / 3, "share of the steps after the warm-up from which labels are filtered", CODE)
    filter_loss: float = published(0.1, "only losses above it are fitted", CODE)
    filter_share: float = published(0.005, "share of the label's pixels that must be fitted: 1,000 of 448 x 448", CODE)
    filter_distance: float = published(1.0, "the two means must lie further apart", CODE)
    filter_posterior: float = published(0.95, "no label above this posterior of the larger mean", CODE)
    filter_iterations: int = published(10, "most iterations of EM, which starts from two means", CODE)
    filter_tolerance: float = published(1e-2, "EM ends when the mean log-likelihood rises by less", CODE)
    filter_variance: float = published(5e-4, "least variance of a Gaussian; the code adds it", CODE)
    filter_one_sided: bool = choice(True, "take no loss below both means for noise; as published a wide upper Gaussian claims them too")
    consistency: float = published(0.05, "weight of L_con", CODE)
    confident: float = published(0.9, "L_con: pixels without a label whose largest probability is above it", CODE)
    strong_times: int = published(5, "strong view: changes of colour, one after the other", CODE)
    strong_strength: float = published(1 / 3, "strong view: their strength", CODE)
    strong_scale: float = published(0.75, "strong view: its scale", CODE)

    TAGGED: ClassVar = ("patch_logits", "aux_logits")
    POSITIVE: ClassVar = (*Base.POSITIVE, "label_high_ends", "filter_iterations", "filter_variance", "strong_scale")
    NOT_NEGATIVE: ClassVar = (
        *Base.NOT_NEGATIVE, "discrepancy", "consistency", "filter_loss", "filter_distance", "filter_tolerance", "strong_times",
    )  # fmt: skip
    SHARES: ClassVar = ("auxiliary_until", "filter_from", "filter_share", "filter_posterior", "confident", "strong_strength")
    ORDERED: ClassVar = (*Base.ORDERED, ("auxiliary_until", "filter_from"))

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.label_low <= min(self.label_high_ends) <= max(self.label_high_ends) <= 1:
            raise UserError(f"label_high_ends {self.label_high_ends}: must be in [label_low, 1], which begins at {self.label_low}")

    @property
    def networks(self) -> tuple[str, ...]:
        return ("first", "second")

    @property
    def shared_steps(self) -> int:
        return 0

    def heads(self, network: Network, classes: int) -> dict[str, nn.Module]:
        """None; but here it is known how many classes there are. Raises `UserError` if `label_high_ends` is of another number."""
        if len(self.label_high_ends) not in (1, classes):
            raise UserError(f"label_high_ends {self.label_high_ends}: must be one value, or {classes}, one for each class")
        return {}

    def stage(self, step: int, steps: int) -> Stage:
        after = max(steps - self.warmup_steps, 1)
        share = (step - self.warmup_steps) / after
        begin = self.warmup_steps + self.auxiliary_until * after  # of the fall of the upper threshold
        progress = min(max((step - begin) / max(steps - begin - 1, 1), 0.0), 1.0)
        settled = share >= self.auxiliary_until
        weights = {"cls": 1.0, "ptc": self.lambda1 if settled or self.early else 0.0}
        weights["dis"] = self.discrepancy if share >= 0 or self.early else 0.0
        if share >= 0:
            weights["seg"] = self.lambda4
        if share >= self.filter_from:
            weights["con"] = self.consistency
        name = "filter" if share >= self.filter_from else "crossed" if settled else "auxiliary" if share >= 0 else "warm-up"
        return Stage(name, {loss: weight for loss, weight in weights.items() if weight}, self.networks, progress)

    # a step

    def passes(self, networks: Networks, part: Part, stage: Stage) -> Seen:
        """The strong view is of the images as they are: mirrored, as seen from the plain pass."""
        pair = [networks[name] for name in self.networks]
        plain = tuple(network(part.images.flip(-1)) for network in pair)
        logits = changed = ()
        if {"seg", "con"} & stage.weights.keys():  # with a graph at once: a pass without one would leave autocast weights that have none
            logits = tuple(network.decode(output.tokens.flip(-1)) for network, output in zip(pair, plain, strict=True))
        if "con" in stage.weights:
            view = strong.coloured(part.images, part.seeds, times=self.strong_times, strength=self.strong_strength)
            view = strong.scaled(view, self.strong_scale, pair[0].patch_size)
            changed = tuple(network.decode(network(view).tokens) for network in pair)
        return Seen(plain, logits, changed)

    def goals(self, networks: Networks, seen: Seen, part: Part, stage: Stage) -> Goals:
        each = list(zip((networks[name] for name in self.networks), seen.plain, strict=True))
        ends = torch.tensor(self.label_high_ends, device=part.tags.device).expand(part.tags.shape[1])
        high = upper_threshold(stage.progress, self.label_high, ends, part.tags)
        patch_labels = made = noise = sure = ()
        if "ptc" in stage.weights:
            patch_labels = tuple(self.pair_labels(network, output, part.tags, high) for network, output in each)
        if seen.logits:
            middle = stage.name == "auxiliary"
            made = tuple(self.label(network, output, part, high, middle=middle) for network, output in each)
        if seen.logits and stage.name == "filter":
            noise = self.noise(seen.logits, made)
            made = tuple(torch.where(wrong, IGNORE, found) for wrong, found in zip(noise, made, strict=True))
        if self.crossed:
            made = made[::-1]
        if "con" in stage.weights:
            pairs = zip(seen.logits, made, strict=True)
            sure = tuple(confident(at(logits, taught), taught, self.confident) for logits, taught in pairs)
        return Goals(patch_labels, made, sure, noise)

    def losses(
        self, networks: Networks, seen: Seen, goals: Goals, part: Part, stage: Stage, memory: State
    ) -> dict[str, Mean]:
        images = len(part.tags)
        found = {"cls": Mean(sum(tag_losses(output, part.tags, self.TAGGED) for output in seen.plain), images)}
        if "ptc" in stage.weights:
            pairs = zip((output.tokens for output in seen.plain), goals.patch_labels, strict=True)
            found["ptc"] = summed([Mean(ptc.absolute_pull_and_push(tokens, made), ptc.pairs(made)) for tokens, made in pairs])
        if "dis" in stage.weights:
            found["dis"] = Mean(discrepancy(*(output.tokens for output in seen.plain)), images)
        if "seg" in stage.weights:
            found["seg"] = self.taught(seen.logits, goals.labels, self.segmentation_average)
        if "con" in stage.weights:
            found["con"] = self.taught(seen.strong, goals.confident, "pixels")
        return found

    def watched(self, goals: Goals, memory: State) -> dict[str, Tensor]:
        """Shares of the pixels, means of both networks: `labelled`, `filtered` and `confident`, those that L_con is over."""
        shares = {"labelled": [made != IGNORE for made in goals.labels], "filtered": goals.noise}
        shares["confident"] = [made != IGNORE for made in goals.confident]
        return {name: torch.stack([*each]).float().mean() for name, each in shares.items() if each}

    # its parts

    def pair_labels(self, network: Network, output: Output, tags: Tensor, high: Tensor) -> Tensor:
        """Eq. 3 on the middle tokens' CAM, with a threshold that falls as that of the labels, `high` (B,): (B, h, w) int64."""
        maps = labels.activation(output.middle, network.aux_classifier.weight, subtract_minimum=self.subtract_minimum)
        confidence, winner = cam.tagged(maps, tags).max(1)
        found = by_thresholds(confidence, winner + 1, self.ptc_low, self.ptc_high * (high / self.label_high))
        return found if self.ptc_classes else torch.where(found == IGNORE, found, found.clamp(max=1))

    def label(self, network: Network, output: Output, part: Part, high: Tensor, *, middle: bool) -> Tensor:
        """A network's own label (B, H', W'), of the last tokens' CAM or of the middle ones', which has one scale."""
        if middle:
            maps = labels.activation(output.middle, network.aux_classifier.weight, subtract_minimum=self.subtract_minimum).flip(-1)
        else:
            maps = self.over_scales(network, self.cam(network, output).flip(-1), part.images)
        made = self.initial_label(part.images, maps, part.tags)
        return by_thresholds(made.confidence, made.strongest, self.label_low, high)

    def noise(self, logits: Sequence[Tensor], made: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """`noisy` of both networks' own labels, all mixtures at once."""
        logits, found = torch.cat([*logits]), torch.cat([*made])
        losses = F.cross_entropy(at(logits, found), found, ignore_index=IGNORE, reduction="none")
        suspicious = noisy(
            losses, found, least=self.filter_loss, share=self.filter_share, distance=self.filter_distance,
            posterior=self.filter_posterior, one_sided=self.filter_one_sided,
            max_iter=self.filter_iterations, tolerance=self.filter_tolerance, variance_floor=self.filter_variance,
        )  # fmt: skip
        return suspicious.chunk(len(made))

    def taught(self, logits: Sequence[Tensor], made: Sequence[Tensor], average: objective.Average) -> Mean:
        """The cross-entropy of each network's logits (B, K, h, w) with what it learns from (B, H', W'); the sum of both."""
        pairs = zip(logits, made, strict=True)
        return summed([Mean(*objective.segmentation_means(at(each, found), found, average=average)) for each, found in pairs])
