"""SIPE (Chen et al., CVPR 2022): prototypes of an image, one for each class and one for the background, find whole objects.

A classifier answers to the parts of a class that tell it from others. An image's own prototype answers to all that looks like
its object: tokens that resemble the same places as the class activation map shows are its seeds, the mean of their features is the
prototype, and the cosine to it a second map. Both maps are drawn together, and the second makes the pseudo label.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dsgc import cam, refine
from dsgc.cam import IGNORE
from dsgc.errors import UserError
from dsgc.methods import labels, register
from dsgc.methods.base import Base
from dsgc.methods.contract import Mean, Networks, Part, Pseudo, Stage, State, Views
from dsgc.methods.labels import Initial
from dsgc.network.vit import Network, Output, fitted
from dsgc.settings import choice, published

CODE = "Chen et al. 2022, its code"


class Seen(NamedTuple):
    """What a step's pass gave, of the mirrored images."""

    output: Output
    features: Tensor | None  # (B, E, h, w) of several blocks; for prototypes


class Goals(NamedTuple):
    """What the losses are measured against."""

    patch_labels: Tensor | None  # (B, h, w) int64, in the frame of the pass; for L_PTC
    seeds: Tensor | None  # (B, 1 + C, h, w) in {0, 1}, in the frame of the pass; for the consistency of both maps
    labels: Initial | None  # in the frame of the images; for L_seg


@register
@dataclass(frozen=True)
class Sipe(Base):
    """The baseline, and a second map from prototypes of the image, with which the first has to agree."""

    name: ClassVar = "sipe"
    left_out: ClassVar[str] = (
        "Its later stages: a network of boundaries with a random walk, and a segmentation network of its own. The second map has "
        "one scale, that of the pass that learns, not four with the mirror image; labels are refined by colour, not by a CRF."
    )
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        **Base.presets,
        "shapes": {**Base.presets["shapes"], "prototype_blocks": (1, 2, 4, 5), "side_widths": (32, 32, 64, 64)},  # of 5 blocks
    }

    consistency: float = published(1.0, "weight of the L1 distance between the CAM and the prototypes' map", CODE)
    label_source: Literal["prototypes", "cam"] = published("prototypes", "which map makes the pseudo label", CODE)
    prototype_blocks: tuple[int, ...] = choice((3, 6, 9, 12), "blocks whose tokens make prototypes, for the stages of a ResNet")
    side_widths: tuple[int, ...] = published((128, 128, 256, 256), "to how many channels each block's tokens are brought", CODE)
    seed_background: float = published(0.5, "factor of the background's overlap where seeds are chosen", CODE)
    label_background: float = published(0.5, "factor of the background's map up to which a pixel has no label", CODE)
    background_of: Literal["tagged", "all"] = choice(
        "tagged", "the background is one minus the strongest class of those tagged; its code takes all, tagged or not"
    )

    POSITIVE: ClassVar = (*Base.POSITIVE, "prototype_blocks", "side_widths")
    NOT_NEGATIVE: ClassVar = (*Base.NOT_NEGATIVE, "consistency")
    SHARES: ClassVar = ("seed_background", "label_background")

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.side_widths) != len(self.prototype_blocks):
            raise UserError(f"side_widths {self.side_widths}: must be one for each of prototype_blocks {self.prototype_blocks}")

    def heads(self, network: Network, classes: int) -> dict[str, nn.Module]:
        depth, dim = len(network.encoder.blocks), network.encoder.embed_dim
        if max(self.prototype_blocks) > depth:
            raise UserError(f"prototype_blocks {self.prototype_blocks}: the encoder has blocks 1 to {depth}")
        return {"sides": nn.ModuleList(nn.Linear(dim, width, bias=False) for width in self.side_widths)}

    def stage(self, step: int, steps: int) -> Stage:
        stage = super().stage(step, steps)
        return stage._replace(weights=stage.weights | {"gsc": self.consistency}) if self.consistency else stage

    # a step

    def passes(self, networks: Networks, part: Part, stage: Stage) -> Seen:
        network, images = networks["network"], part.images.flip(-1)
        if "gsc" in stage.weights or ("seg" in stage.weights and self.label_source == "prototypes"):
            return self.looked(network, images)
        return Seen(network(images), None)

    def goals(self, networks: Networks, seen: Seen, part: Part, stage: Stage) -> Goals:
        network, found, made = networks["network"], None, None
        patch_labels = self.patch_labels(network, seen.output, part.tags) if "ptc" in stage.weights else None
        if seen.features is not None:
            maps = self.live(network, seen.output, part.tags)
            found = seeds(maps, seen.output.tokens, self.seed_background)
        if "seg" in stage.weights:
            made = self.label(network, seen, found, part.images, part.tags, mirrored=True)
        return Goals(patch_labels, found, made)

    def losses(
        self, networks: Networks, seen: Seen, goals: Goals, part: Part, stage: Stage, memory: State
    ) -> dict[str, Mean]:
        found = super().losses(networks, seen.output, goals, part, stage, memory)
        if "gsc" in stage.weights:
            maps = self.live(networks["network"], seen.output, part.tags)
            apart = (maps - prototype_maps(goals.seeds, seen.features)).abs()
            found["gsc"] = Mean(apart.mean(), len(apart))
        return found

    # its parts

    def looked(self, network: Network, images: Tensor) -> Seen:
        """A pass, with the features (B, E, h, w) of several blocks; these teach their layers, and not the encoder."""
        output, tokens = network.with_blocks(images, self.prototype_blocks)
        first = network.encoder.num_prefix_tokens
        sides = [
            F.normalize(layer(tokens[block][:, first:].detach()).float(), dim=-1)  # (B, N, E), all blocks count alike
            for block, layer in zip(self.prototype_blocks, network.more["sides"], strict=True)
        ]
        return Seen(output, torch.cat(sides, -1).transpose(1, 2).unflatten(2, output.tokens.shape[-2:]))

    def live(self, network: Network, output: Output, tags: Tensor) -> Tensor:
        """The CAM of the background and of tagged classes (B, 1 + C, h, w) in [0, 1], with its graph."""
        with torch.autocast(tags.device.type, enabled=False):  # in float32, whatever precision the network has
            maps = cam.evidence(output.tokens.float(), network.patch_classifier.weight.float()).relu()
        return with_background(cam.to_unit_range(maps, subtract_minimum=self.subtract_minimum), tags, self.background_of == "all")

    @torch.no_grad()
    def label(
        self, network: Network, seen: Seen, found: Tensor | None, images: Tensor, tags: Tensor, *, mirrored: bool
    ) -> Initial:
        """The pseudo label of images (B, 3, H, W), of a pass that saw them as they are or mirrored and of its seeds."""
        if self.label_source == "cam":
            maps = self.cam(network, seen.output)
            return self.initial_label(images, self.over_scales(network, maps.flip(-1) if mirrored else maps, images), tags)
        maps = prototype_maps(found, seen.features)
        return label_by_competition(
            images,
            maps.flip(-1) if mirrored else maps,
            tags,
            background=self.label_background,
            stride=self.label_stride,
            dilations=self.refine_dilations,
            iterations=self.refine_iterations,
        )

    # evaluation

    def views(self, network: Network, images: Tensor, tags: Tensor, background: float) -> Views:
        """As the baseline's, with the label that the method learns from."""
        size, scaled = images.shape[-2:], fitted(images, network.patch_size)
        seen = self.looked(network, scaled)
        found = seeds(self.live(network, seen.output, tags), seen.output.tokens, self.seed_background)
        made = labels.enlarged(self.label(network, seen, found, scaled, tags, mirrored=False).labels, size).long()
        maps = cam.tagged(self.over_scales(network, self.cam(network, seen.output), scaled), tags)
        full = F.interpolate(maps, size, mode="bilinear", align_corners=False)
        head = labels.segmented(network, seen.output.tokens, size)
        scored = {"seg": head, "cam": labels.by_threshold(full, background), "pseudo": made}
        return Views(scored, {"cam": full.amax(1), "pseudo": made, "prediction": head}, self.evidence(network, seen.output))

    def pseudo(
        self, network: Network, images: Tensor, tags: Tensor, scales: tuple[float, ...] = (), *, mirror: bool = False
    ) -> Pseudo:
        if scales and self.label_source != "cam":
            raise UserError("method sipe: its label is made of prototypes, in one look; leave out --scales and --mirror")
        return super().pseudo(network, images, tags, scales, mirror=mirror)

    def made(self, network: Network, output: Output, images: Tensor, maps: Tensor, tags: Tensor) -> Pseudo:
        """As the baseline's, or of the prototypes' maps, whose features take a pass of their own."""
        if self.label_source == "cam":
            return super().made(network, output, images, maps, tags)
        seen = self.looked(network, images)
        found = seeds(self.live(network, seen.output, tags), seen.output.tokens, self.seed_background)
        label = self.label(network, seen, found, images, tags, mirrored=False)
        return Pseudo(maps, label.confidence, None, label.labels)


def with_background(maps: Tensor, tags: Tensor, of_all: bool) -> Tensor:
    """Tagged maps, and one minus the strongest before them: maps (B, C, h, w) in [0, 1], tags (B, C) -> (B, 1 + C, h, w) in [0, 1].

    of_all: the strongest of all classes, not of the tagged ones alone.
    Source: Chen et al. 2022 (SIPE), its code, which takes all.
    """
    kept = cam.tagged(maps, tags)
    return torch.cat([1 - (maps if of_all else kept).amax(1, keepdim=True), kept], 1)


@torch.no_grad()
def seeds(maps: Tensor, tokens: Tensor, background: float) -> Tensor:
    """For each place the map that covers best what resembles it: seeds of the background and of each class.

    What resembles a place is a map too, the cosines to its token where they are positive. Its overlap with each of the maps is an
    intersection over union, of products instead of sets.

    Args:
        maps: (B, 1 + C, h, w) in [0, 1], the background's first; zero for classes that are not tagged.
        tokens: (B, D, h, w).
        background: the background's overlap counts times this.
    Returns:
        (B, 1 + C, h, w) in {0, 1}, one 1 at each place, of the background where nothing overlaps.
    Source: Chen et al. 2022 (SIPE), its seeds and code.
    """
    with torch.autocast(maps.device.type, enabled=False):
        unit = F.normalize(tokens.float().flatten(2), dim=1)  # (B, D, N)
        alike = torch.einsum("bdn,bdm->bnm", unit, unit).relu()
        cover = maps.float().flatten(2)  # (B, 1 + C, N)
        both = torch.einsum("bnm,bkm->bkn", alike, cover)
        either = alike.sum(2)[:, None] + cover.sum(2)[..., None] - both
        overlap = both / either.clamp_min(torch.finfo(either.dtype).tiny)
        overlap = torch.cat([overlap[:, :1] * background, overlap[:, 1:]], 1)
    return F.one_hot(overlap.argmax(1), maps.shape[1]).movedim(-1, 1).to(maps.dtype).unflatten(2, maps.shape[-2:])


def prototype_maps(seeds: Tensor, features: Tensor) -> Tensor:
    """The cosine, where positive, of every place's features to the mean features of each seed region, by the map's largest.

    seeds (B, 1 + C, h, w) in {0, 1}, features (B, E, h, w) -> (B, 1 + C, h, w) in [0, 1], 0 for what has no seed.
    Source: Chen et al. 2022 (SIPE), its image-specific CAM and code.
    """
    with torch.autocast(features.device.type, enabled=False):
        features = features.float()
        prototypes = F.normalize(torch.einsum("bkhw,behw->bke", seeds.float(), features), dim=-1)
        cosines = torch.einsum("bke,behw->bkhw", prototypes, F.normalize(features, dim=1))
        return cam.to_unit_range(cosines.relu(), subtract_minimum=False)


@torch.no_grad()
def label_by_competition(
    images: Tensor,
    maps: Tensor,
    tags: Tensor,
    *,
    background: float,
    stride: int,
    dilations: Sequence[int],
    iterations: int,
) -> Initial:
    """Maps of background and classes -> refinement by the picture's colours -> the strongest class, where above the background.

    It is background where the background's map times `background` is still as strong, 255 where it is neither.
    images (B, 3, H, W), maps (B, 1 + C, h, w) in [0, 1], tags (B, C); dilations and iterations of `refine.refine`.
    Source: Chen et al. 2022 (SIPE), its code, with a CRF in place of the refinement.
    """
    size = [max(1, side // stride) for side in images.shape[-2:]]
    small = F.interpolate(images, size, mode="bilinear", antialias=True)
    kept, tagged, numbers = cam.present(maps[:, 1:], tags)  # of T classes, not of all
    maps = F.interpolate(torch.cat([maps[:, :1], cam.tagged(kept, tagged)], 1), size, mode="bilinear", align_corners=False)
    maps = refine.refine(maps, small, dilations=dilations, iterations=iterations)
    confidence, winner = maps[:, 1:].max(1)
    strongest = numbers.gather(1, winner.flatten(1) + 1).view_as(winner)
    found = torch.where(confidence > maps[:, 0], strongest, IGNORE)
    return Initial(confidence, torch.where(confidence <= background * maps[:, 0], 0, found), strongest)
