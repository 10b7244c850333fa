"""Self correspondence distillation (TSCD): what the CAM finds alike in an image and a small copy of it, the decoder is to find alike."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from dsgc import cam, refine
from dsgc.methods import base, draws, labels, register, varm
from dsgc.methods.affinity import AttentionAffinity, mirrored, pair_labels, pair_means
from dsgc.methods.base import Base
from dsgc.methods.contract import Mean, Networks, Part, Stage, State
from dsgc.network.vit import Network, Output
from dsgc.settings import choice, published

CODE = "Xu et al. 2023, its code"


class Seen(NamedTuple):
    """What a step's passes gave, of the mirrored images."""

    output: Output
    small: Output | None  # of the small copy, where it is used
    affinity: Tensor | None  # (B, N, N) of the tokens, mirrored back; where it is used


class Goals(NamedTuple):
    """What the losses are measured against."""

    taught: base.Goals
    pairs: Tensor | None  # (B, N, N) uint8, of the tokens in the frame of the images
    maps: Tensor | None  # (B, C, h, w) the CAM of the tagged classes, in the frame of the pass
    small: Tensor | None  # (B, C, h', w') that of the small copy
    points: Tensor | None  # (2, B, P, 2) in [0, 1), places (x, y) in the image and in the small copy
    facts: dict[str, Tensor]  # scalars for the log


@register
@dataclass(frozen=True)
class Tscd(AttentionAffinity, Base):
    """TSCD (Xu et al. 2023): distillation of the CAM's correspondences, an equivariant CAM, an affinity to learn, another refinement."""

    name: ClassVar = "tscd"
    left_out: ClassVar[str] = (
        "Its encoder MiT-B1 and its decoder over four stages of that encoder; its regulariser by dense energy (weight 0.01), "
        "which needs a bilateral filter; several scales for the CAM of the small copy, the smallest of 67 pixels."
    )
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "coco": {**Base.presets["coco"], "label_high": 0.55},
        "voc6": {
            **Base.presets["voc6"], "label_low": 0.25, "label_high": 0.7,
            "affinity_scaled": False, "scd_points": 16,  # of the affinity's products, as AFA has them there; of points, twice the tokens
        },
        "shapes": {**Base.presets["shapes"], "label_low": 0.25, "affinity_scaled": False, "scd_points": 16},
    }  # fmt: skip
    later: ClassVar[tuple[str, ...]] = ()

    # self correspondence distillation
    scd_weight: float = published(0.1, "weight of the distillation of correspondences", CODE)
    scd_points: int = published(40, "points of the image, and of its small copy, along each side: that many squared", CODE)
    scd_level: bool = published(
        True, "give the correspondences of the CAM their mean back, so that hardly any is negative; without it unlike points part", CODE
    )
    scd_masked: bool = choice(True, "leave out points at which no tagged class is seen; they count them, with a cosine of 0")
    small_scale: float = published(0.3, "size of the small copy, rounded to whole patches", CODE)

    # equivariance
    er_weight: float = published(0.1, "weight of the equivariance of the CAM", CODE)
    er_gradient: bool = choice(True, "let the equivariance teach the CAM of the small copy; as published it has no gradient at all")

    # what the baseline has as well
    refinement: Literal["varm", "par"] = published("varm", "refinement of the label: TSCD's own, or the pixel-adaptive one", CODE)
    lambda1: float = published(0.0, "weight of L_PTC, which it does not have", CODE)
    label_low: float = published(0.35, "pseudo label: background below this confidence", CODE)
    label_high: float = published(0.55, "pseudo label: the strongest class above this confidence, 255 between", CODE)

    SYMMETRIC: ClassVar[bool] = False
    TAGGED: ClassVar[tuple[str, ...]] = ("patch_logits",)
    POSITIVE: ClassVar[tuple[str, ...]] = (*Base.POSITIVE, *AttentionAffinity.POSITIVE, "scd_points", "small_scale")
    NOT_NEGATIVE: ClassVar[tuple[str, ...]] = (*Base.NOT_NEGATIVE, *AttentionAffinity.NOT_NEGATIVE, "scd_weight", "er_weight")

    @property
    def shared_steps(self) -> int:
        return 0

    def stage(self, step: int, steps: int) -> Stage:
        """Tags alone; then everything."""
        given = super().stage(step, steps)
        if given.name == "warm-up":
            return given
        added = {"aff": self.affinity_weight, "scd": self.scd_weight, "er": self.er_weight}
        return given._replace(weights=given.weights | {name: weight for name, weight in added.items() if weight})

    # a step

    def passes(self, networks: Networks, part: Part, stage: Stage) -> Seen:
        """Of the mirrored images, as the baseline has them, and of a small copy of these."""
        network, images = networks[self.networks[0]], part.images.flip(-1)
        small = network(self.small_copy(images, network)) if {"scd", "er"} & stage.weights.keys() else None
        if "aff" not in stage.weights:
            return Seen(network(images), small, None)
        output, found = self.with_affinity(network, images)
        return Seen(output, small, mirrored(found, output.tokens.shape[-2:]))

    def goals(self, networks: Networks, seen: Seen, part: Part, stage: Stage) -> Goals:
        network, weights, size = networks[self.networks[0]], stage.weights, seen.output.tokens.shape[-2:]
        taught = super().goals(networks, seen.output, part, stage)
        pairs = maps = small = points = None
        facts = {}
        if "aff" in weights:
            near = self.near(size, part.images.device)
            made = taught.labels
            if made is None:  # the decoder learns nothing
                seeds = self.over_scales(network, self.cam(network, seen.output).flip(-1), part.images)
                made = self.initial_label(part.images, seeds, part.tags)
            pairs = pair_labels(labels.nearest(made.labels, size), near)
            facts = {"affinity_spread": seen.affinity[:, near].std(1).mean()}
        if seen.small is not None:
            maps, small = (cam.tagged(self.cam(network, output), part.tags) for output in (seen.output, seen.small))
        if "scd" in weights:
            drawn = draws.uniform(part.seeds, "correspondence", 2, self.scd_points**2, 2)
            points = drawn.transpose(0, 1).to(maps.device)
        return Goals(taught, pairs, maps, small, points, facts)

    def losses(
        self, networks: Networks, seen: Seen, goals: Goals, part: Part, stage: Stage, memory: State
    ) -> dict[str, Mean]:
        network = networks[self.networks[0]]
        found = super().losses(networks, seen.output, goals.taught, part, stage, memory)
        if "aff" in stage.weights:
            found["aff"] = pair_means(seen.affinity, goals.pairs)
        if "scd" in stage.weights:
            logits = [network.decode(output.tokens).float() for output in (seen.output, seen.small)]
            found["scd"] = distillation((goals.maps, goals.small), logits, goals.points, level=self.scd_level, masked=self.scd_masked)
        if "er" in stage.weights:
            mine = self.cam_with_graph(network, seen.small) if self.er_gradient else goals.small
            found["er"] = equivariance(goals.maps, mine, part.tags)
        return found

    def watched(self, goals: Goals, memory: State) -> dict[str, Tensor]:
        """`labelled`, as the baseline has it. `affinity_spread`: standard deviation of an image's affinities within the window."""
        return super().watched(goals.taught, memory) | goals.facts

    # its parts

    def small_copy(self, images: Tensor, network: Network) -> Tensor:
        """Images (B, 3, H, W) at `small_scale`, both sides whole patches, two at least: of one, a CAM would say nothing."""
        patches = [max(2, round(self.small_scale * side / network.patch_size)) for side in images.shape[-2:]]
        size = [count * network.patch_size for count in patches]
        return F.interpolate(images, size, mode="bilinear", antialias=True)

    def cam_with_graph(self, network: Network, output: Output) -> Tensor:
        """Eq. 1 of the small copy (B, C, h, w), to be learnt from."""
        with torch.autocast(output.tokens.device.type, enabled=False):  # in float32, as the CAM is elsewhere
            weight = network.patch_classifier.weight.float()
            return cam.class_activation_map(output.tokens.float(), weight, subtract_minimum=self.subtract_minimum)

    def refined(self, maps: Tensor, images: Tensor, **how: Any) -> Tensor:
        """With the variation-aware weights, or the pixel-adaptive ones."""
        return (varm.refine if self.refinement == "varm" else refine.refine)(maps, images, **how)


def at(maps: Tensor, points: Tensor) -> Tensor:
    """Maps (B, C, h, w) at places (B, P, 2) in [0, 1), x first, bilinear between the middles of their cells: (B, P, C)."""
    found = F.grid_sample(maps, 2 * points[:, :, None] - 1, mode="bilinear", padding_mode="border", align_corners=False)
    return found[..., 0].transpose(1, 2)


def correspondences(one: Tensor, other: Tensor) -> Tensor:
    """Cosines of vectors (B, P, C) with vectors (B, Q, C): (B, P, Q) in [-1, 1], 0 where one is 0."""
    return F.normalize(one, dim=-1) @ F.normalize(other, dim=-1).transpose(1, 2)


def distillation(maps: tuple[Tensor, Tensor], logits: list[Tensor], points: Tensor, *, level: bool, masked: bool) -> Mean:
    """Minus the mean product of how alike two points are to the decoder and how alike they are by the CAM, seen from the point's mean.

    Of a pair, one point lies in the image and one in its small copy. The CAM's cosine loses its mean over the second points and
    takes on the image's mean in return; those who published it take that of the batch. The decoder's counts where it is positive.
    As no CAM is negative, nearly all of what the mean is given back to is positive: a decoder to which all points are alike is best.

    Args:
        maps: the CAM of the tagged classes (B, C, h, w) and of the small copy (B, C, h', w'); constants.
        logits: the decoder's output (B, 1 + C, h, w) and (B, 1 + C, h', w'), before any softmax.
        points: places (2, B, P, 2) in [0, 1) of image and small copy; both are read off the tokens' grid, bilinear.
        level: give the image's mean back; without it unlike points are driven apart.
        masked: leave out the pairs of which a point has no CAM.
    Returns:
        () over as many pairs as count; 0 with zero gradient where there is none.
    Source: Xu et al. 2023 (TSCD), its code; Hamilton et al. 2022 (STEGO), from where the correction of the mean is.
    """
    with torch.autocast(points.device.type, enabled=False):  # float32, for its products too
        first, second = (at(map.float(), place) for map, place in zip(maps, points, strict=True))  # (B, P, C)
        decoded = correspondences(*(at(map.float(), place) for map, place in zip(logits, points, strict=True)))
        alike = correspondences(first, second)
        counts = torch.ones_like(alike, dtype=torch.bool)
        if masked:
            counts = (first != 0).any(-1)[:, :, None] & (second != 0).any(-1)[:, None, :]
        alike = centred(alike, counts, level=level)
        pairs = counts.sum()
        return Mean(-torch.where(counts, decoded.clamp_min(0) * alike, 0).sum() / pairs.clamp_min(1), pairs.double())


def centred(alike: Tensor, counts: Tensor, *, level: bool) -> Tensor:
    """Correspondences (B, P, Q) less their row's mean, and with `level` plus the image's, where `counts` (B, P, Q) says so; else 0."""
    alike = alike * counts
    rows = alike.sum(2, keepdim=True) / counts.sum(2, keepdim=True).clamp_min(1)
    whole = alike.sum((1, 2), keepdim=True) / counts.sum((1, 2), keepdim=True).clamp_min(1)
    return (alike - rows + whole if level else alike - rows) * counts


def equivariance(maps: Tensor, small: Tensor, tags: Tensor) -> Mean:
    """How far the CAM of the small copy is from the small copy of the CAM: the mean absolute difference over tagged classes.

    Args:
        maps: (B, C, h, w) in [0, 1], a constant.
        small: (B, C, h', w') in [0, 1].
        tags: (B, C).
    Returns:
        () in [0, 1], over as many places of tagged classes' maps; 0 with zero gradient where there is no tag.
    Source: Wang et al. 2020 (SEAM); Xu et al. 2023 (TSCD), whose code gives it no gradient.
    """
    wanted = F.interpolate(maps, small.shape[-2:], mode="bilinear", antialias=True)
    places = tags.sum() * small.shape[-2] * small.shape[-1]
    return Mean((cam.tagged(small - wanted, tags)).abs().sum() / places.clamp_min(1), places.double())
