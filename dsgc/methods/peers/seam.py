"""SEAM (Wang et al. 2020): the map of a small view must be the small map, and a map is averaged over places that look alike."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dsgc import cam
from dsgc.methods import labels, register
from dsgc.methods.base import Base, Goals, tag_losses
from dsgc.methods.contract import Mean, Networks, Part, Pseudo, Stage, State, Views
from dsgc.network.vit import Network, Output, fitted
from dsgc.settings import choice, published

CODE = "Wang et al. 2020, its code"
ENOUGH = 1e-5  # added to lengths and sums before a division, and what a map must exceed its least value by; as published


class Seen(NamedTuple):
    """What a step's passes gave, of mirrored images."""

    whole: Output
    small: Output | None  # of the same images made smaller, where a loss needs it
    images: tuple[Tensor, ...]  # (B, 3, H, W) of either, as they were seen


@register
@dataclass(frozen=True)
class Seam(Base):
    """The baseline, a second view for equivariance, and a correlation module that refines the map that labels are made of.

    A map predicted over several scales is not refined.
    """

    name: ClassVar = "seam"
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = Base.presets
    left_out: ClassVar = (
        "The loss on the quarter of pixels with the lowest maps, which by its code only moves the best background score; scales and "
        "mirror images of its maps; AffinityNet and the separate segmentation network that learn from them. One layer on the middle "
        "tokens stands for its three on two blocks of a residual network."
    )

    later: ClassVar[tuple[str, ...]] = ()

    small_scale: float = published(0.3, "side of the second view as a share of the first's, then the nearest multiple of the patch", CODE)
    small_share: float = published(0.5, "share of the second view in the loss of the tags", CODE)
    lambda_equivariance: float = published(1.0, "weight of the loss between both views' maps", CODE)
    lambda_cross: float = published(1.0, "weight of the loss between a refined map and the other view's; at 0 no map is refined", CODE)
    worst: float = published(0.2, "share of an image's entries, those that differ most, that the cross loss counts", CODE)
    correlation_channels: int = published(192, "width of the layer whose cosines are the affinity", CODE)
    correlation_gain: float = choice(4.0, "gain of its first weights, as published for another number of inputs")

    POSITIVE: ClassVar = (*Base.POSITIVE, "small_scale", "worst", "correlation_channels", "correlation_gain")
    NOT_NEGATIVE: ClassVar = (*Base.NOT_NEGATIVE, "lambda_equivariance", "lambda_cross")
    SHARES: ClassVar = ("small_share", "worst")

    @property
    def shared_steps(self) -> int:
        """None: all that it adds is at work from the first step."""
        return 0

    def heads(self, network: Network, classes: int) -> dict[str, nn.Module]:
        layer = nn.Conv2d(network.encoder.embed_dim + 3, self.correlation_channels, 1, bias=False)
        nn.init.xavier_uniform_(layer.weight, gain=self.correlation_gain)
        return {"correlation": layer}

    def stage(self, step: int, steps: int) -> Stage:
        stage = super().stage(step, steps)
        more = {"small": self.small_share, "equivariance": self.lambda_equivariance, "cross": self.lambda_cross}
        weights = stage.weights | {"cls": 1 - self.small_share} | more
        return stage._replace(weights={name: weight for name, weight in weights.items() if weight})

    # a step

    def passes(self, networks: Networks, part: Part, stage: Stage) -> Seen:
        network, images = networks[self.networks[0]], part.images.flip(-1)
        if not {"small", "equivariance", "cross"} & stage.weights.keys():
            return Seen(network(images), None, (images,))
        small = smaller(images, self.small_scale, network.patch_size)
        return Seen(network(images), network(small), (images, small))

    def goals(self, networks: Networks, seen: Seen, part: Part, stage: Stage) -> Goals:
        network = networks[self.networks[0]]
        patch_labels = self.patch_labels(network, seen.whole, part.tags) if "ptc" in stage.weights else None
        made = None
        if "seg" in stage.weights:
            maps = self.over_scales(network, self.cam(network, seen.whole).flip(-1), part.images)
            maps = self.for_labels(network, maps, seen.whole.middle.flip(-1), part.images, part.tags)
            made = self.initial_label(part.images, maps, part.tags)
        return Goals(patch_labels, made)

    def losses(
        self, networks: Networks, seen: Seen, goals: Goals, part: Part, stage: Stage, memory: State
    ) -> dict[str, Mean]:
        network, (whole, small, images), tags, more = networks[self.networks[0]], seen, part.tags, {}
        if "small" in stage.weights:
            more["small"] = Mean(tag_losses(small, tags, self.TAGGED), len(tags))
        if {"equivariance", "cross"} & stage.weights.keys():
            maps = [self.live(network, output, tags) for output in (whole, small)]
        if "equivariance" in stage.weights:
            more["equivariance"] = Mean(equivariance(*maps), len(tags))
        if "cross" in stage.weights:
            counted = tags.amax(1) > 0  # without a tag there is nothing to tell apart
            refined = [
                self.correlated(network, map.detach(), output.middle, seen_as, tags)
                for map, output, seen_as in zip(maps, (whole, small), images, strict=True)
            ]
            more["cross"] = Mean(cross(maps, refined, counted, self.worst), counted.sum())
        baseline = stage._replace(weights={name: weight for name, weight in stage.weights.items() if name not in more})
        return super().losses(networks, whole, goals, part, baseline, memory) | more

    # its parts

    def live(self, network: Network, output: Output, tags: Tensor) -> Tensor:
        """The tagged CAM (B, C, h, w) with its graph."""
        with torch.autocast(tags.device.type, enabled=False):  # in float32, whatever precision the network has
            maps = cam.evidence(output.tokens.float(), network.patch_classifier.weight.float()).relu()
        return cam.tagged(cam.to_unit_range(maps, subtract_minimum=self.subtract_minimum), tags)

    def correlated(self, network: Network, maps: Tensor, middle: Tensor, images: Tensor, tags: Tensor) -> Tensor:
        """Tagged maps (B, C, h, w) and the background's, averaged over alike tokens: (B, 1 + C, h, w); only the layer takes a gradient."""
        layer = network.more["correlation"]
        features = layer(looks((images - network.mean) / network.std, middle.detach()))
        with torch.autocast(tags.device.type, enabled=False):
            averaged = spread(correlate(exclusive(maps), features.float()))
        return averaged * F.pad(tags, (1, 0), value=1)[:, :, None, None]

    def for_labels(self, network: Network, maps: Tensor, middle: Tensor, images: Tensor, tags: Tensor) -> Tensor:
        """What labels are made of: the CAM (B, C, H, W) after the correlation module, where that learns: (B, C, h, w)."""
        if not self.lambda_cross:
            return maps
        maps = F.interpolate(cam.tagged(maps, tags), middle.shape[-2:], mode="bilinear", align_corners=False)
        return self.correlated(network, maps, middle, images, tags)[:, 1:]

    # evaluation

    def views(self, network: Network, images: Tensor, tags: Tensor, background: float) -> Views:
        """As the baseline's, of the refined map."""
        size, scaled = images.shape[-2:], fitted(images, network.patch_size)
        output = network(scaled)
        maps = self.for_labels(network, self.over_scales(network, self.cam(network, output), scaled), output.middle, scaled, tags)
        made = labels.enlarged(self.initial_label(scaled, maps, tags).labels, size).long()
        full, head = resized(cam.tagged(maps, tags), size), labels.segmented(network, output.tokens, size)
        scored = {"seg": head, "cam": labels.by_threshold(full, background), "pseudo": made}
        return Views(scored, {"cam": full.amax(1), "pseudo": made, "prediction": head}, self.evidence(network, output))

    def made(self, network: Network, output: Output, images: Tensor, maps: Tensor, tags: Tensor) -> Pseudo:
        """As the baseline's, of the refined map."""
        return super().made(network, output, images, self.for_labels(network, maps, output.middle, images, tags), tags)


def resized(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Maps (B, K, h, w) at a size; where that is smaller, each value is a mean over what it covers."""
    if tuple(maps.shape[-2:]) == tuple(size):
        return maps
    return F.interpolate(maps, tuple(size), mode="bilinear", align_corners=False, antialias=True)


def smaller(images: Tensor, scale: float, patch: int) -> Tensor:
    """Images (B, 3, H, W) at a scale, each side the multiple of the patch that is nearest."""
    return resized(images, [max(1, round(scale * side / patch)) * patch for side in images.shape[-2:]])


def equivariance(whole: Tensor, small: Tensor) -> Tensor:
    """How far the small view's maps (B, C, h', w') are from the whole view's (B, C, h, w) made small: a mean, in [0, 1].

    Source: Wang et al. 2020, its code.
    """
    return (resized(whole, small.shape[-2:]) - small).abs().mean()


def exclusive(maps: Tensor) -> Tensor:
    """Of maps (B, C, h, w) in [0, 1] the strongest at each place alone, behind the background's, one minus it: (B, 1 + C, h, w).

    Source: Wang et al. 2020, its code (which lets classes compete that are not tagged).
    """
    strongest = maps.amax(1, keepdim=True)
    return torch.cat([1 - strongest, torch.where(maps == strongest, maps, 0)], 1)


def looks(images: Tensor, middle: Tensor) -> Tensor:
    """What the correlation compares: colours of normalised images (B, 3, H, W) and tokens (B, D, h, w): (B, 3 + D, h, w).

    Middle tokens have no norm behind them; here each is brought to mean 0 and variance 1, as colours are.
    """
    tokens = F.layer_norm(middle.float().movedim(1, -1), middle.shape[1:2]).movedim(-1, 1)
    return torch.cat([resized(images, middle.shape[-2:]), tokens], 1)


def correlate(maps: Tensor, features: Tensor) -> Tensor:
    """Each place's mean of maps (B, K, h, w) over all places, weighed by the cosine of features (B, D, h, w) where that is positive.

    Source: Wang et al. 2020, pixel correlation module.
    """
    features = features.flatten(2)
    unit = features / (features.norm(dim=1, keepdim=True) + ENOUGH)
    alike = (unit.transpose(1, 2) @ unit).relu()  # (B, N, N)
    return (maps.flatten(2) @ (alike / (alike.sum(1, keepdim=True) + ENOUGH))).view_as(maps)


def spread(maps: Tensor) -> Tensor:
    """Maps (B, K, h, w) from 0 to 1 in each image and class; a flat one is 0."""
    least = maps.amin((-2, -1), keepdim=True)
    return cam.to_unit_range((maps - least - ENOUGH).relu(), subtract_minimum=False)


def cross(maps: Sequence[Tensor], refined: Sequence[Tensor], counted: Tensor, worst: float) -> Tensor:
    """How far each view's refined maps are from the other view's maps, over the entries of an image that differ most.

    Args:
        maps: (B, C, h, w) and (B, C, h', w') of the whole and the small view, targets.
        refined: the same, with the background's map first.
        counted: (B,) bool, the images whose mean it is.
        worst: share of an image's (1 + C) h' w' entries.
    Returns:
        A scalar >= 0, the sum of both directions; 0 where no image is counted.
    Source: Wang et al. 2020, its code.
    """
    size, found = maps[1].shape[-2:], 0.0
    for target, map in zip(maps[::-1], refined, strict=True):
        apart = (exclusive(resized(target.detach(), size)) - resized(map, size)).abs().flatten(1)
        means = apart.topk(max(1, int(worst * apart.shape[1])), 1).values.mean(1)
        found = found + torch.where(counted, means, 0).sum() / counted.sum().clamp_min(1)
    return found
