"""ToCo (Ru et al., CVPR 2023): tokens that differ are kept apart, patches within an image and local crops against the whole.

A deep vision transformer makes its tokens alike. Patch token contrast works against it with labels of a middle block. Class
token contrast shows the network small crops beside the whole: a crop with parts of an object is to have a class token like the
whole's, a crop of background an unlike one; so parts of objects that the CAM leaves out are found.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call

from dsgc import cam, objective, ptc
from dsgc.errors import UserError
from dsgc.methods import draws, labels, register
from dsgc.methods.base import Base, tag_losses
from dsgc.methods.colours import NUMBERS, coloured
from dsgc.methods.contract import Mean, Networks, Part, Stage, State
from dsgc.methods.labels import Initial
from dsgc.network.vit import Network, Output
from dsgc.settings import published

CODE = "Ru et al. 2023, its code"
WHOLE = 2  # views of an image that are not local: the mirrored crop and the second crop
EPSILON = 1e-4  # beside the negatives of L_CTC; all that is left of them where there is none


class Seen(NamedTuple):
    """What a step's passes gave. V views of an image: the mirrored crop, the second crop, the local crops."""

    crop: Output  # of the mirrored images
    class_tokens: Tensor | None  # (B, V, D) of all views; for L_CTC
    positive: Tensor | None  # (B, V) bool, which views show objects; for L_CTC


class Goals(NamedTuple):
    """What the losses are measured against."""

    patch_labels: Tensor | None  # (B, h, w) int64, in the frame of the pass; for L_PTC
    positive: Tensor | None  # (B, V) bool; for L_CTC
    labels: Initial | None  # in the frame of the images; for L_seg


@register
@dataclass(frozen=True)
class ToCo(Base):
    """Token contrast: no tokens alike where the middle block sees different things, and class tokens of local crops."""

    name: ClassVar = "toco"
    left_out: ClassVar[str] = (
        "The dense energy regulariser, which needs a compiled bilateral filter. The crop that all losses see is everyone's, neither "
        "coloured nor blurred; the CAM has one scale, that of the pass that learns, not three with the mirror image; labels are refined "
        "without a softmax."
    )
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "coco": {**Base.presets["coco"], "ctc_temperature": 1.0, "contrast_from": 1 / 18},
        "voc6": {**Base.presets["voc6"], "local_size": 42, "blur": (0.04, 0.75)},  # of 168 pixels, not of 448
        "shapes": {**Base.presets["shapes"], "local_size": 24, "blur": (0.02, 0.43)},  # of 96
    }

    # losses
    lambda1: float = published(0.2, "weight of L_PTC, of which both parts count half", CODE)
    ctc_weight: float = published(0.5, "weight of L_CTC", CODE)
    lambda4: float = published(0.1, "weight of L_seg", CODE)
    ptc_low: float = published(0.25, "background threshold of patch labels, and of what a local crop shows", CODE)
    ptc_high: float = published(0.7, "foreground threshold of patch labels, and of what a local crop shows", CODE, coco=0.65)
    label_low: float = published(0.25, "pseudo label: background below this confidence", CODE)
    label_high: float = published(0.7, "pseudo label: the strongest class above this confidence, 255 between", CODE, coco=0.65)
    contrast_from: float = published(
        0.0,
        "share of the steps after the warm-up without contrast, with pseudo labels of the middle tokens' CAM at one scale; "
        "0 for contrast from the first step of all",
        CODE,
        coco=1 / 18,
    )

    # class token contrast
    ctc_temperature: float = published(0.5, "temperature of L_CTC", CODE, coco=1.0)
    projector_momentum: float = published(0.9, "EMA of the projector that makes the targets", CODE)
    second_area: tuple[float, float] = published((0.4, 1.0), "area of the second crop as a share of the picture", CODE)
    local_crops: int = published(8, "local crops of an image", CODE)
    local_size: int = published(96, "side of a local crop, pixels, to the nearest multiple of the patch", CODE)
    negative_share: float = published(
        0.2, "a local crop is negative up to this mean of its pixels: 0 for background, 1 in between, 2 for foreground", CODE
    )

    # colours of the second and of the local crops
    jitter: tuple[float, float, float, float] = published((0.4, 0.4, 0.2, 0.1), "brightness, contrast, saturation, hue: +-", CODE)
    jitter_share: float = published(0.8, "share of the crops whose colours are changed", CODE)
    grey_share: float = published(0.2, "share of the crops without colours", CODE)
    blur: tuple[float, float] = published((0.1, 2.0), "standard deviation of the blur, pixels", CODE)
    local_blur_share: float = published(0.5, "share of images whose local crops are blurred", CODE)
    second_blur_share: float = published(0.1, "share of the second crops that are blurred", CODE)
    solarised_share: float = published(0.2, "share of the second crops whose light values are inverted", CODE)

    TAGGED: ClassVar = ("patch_logits", "aux_logits")
    POSITIVE: ClassVar = (*Base.POSITIVE, "ctc_temperature", "local_crops", "local_size", "blur")
    NOT_NEGATIVE: ClassVar = (*Base.NOT_NEGATIVE, "ctc_weight", "negative_share")
    SHARES: ClassVar = (
        "contrast_from", "projector_momentum",
        "jitter_share", "grey_share", "local_blur_share", "second_blur_share", "solarised_share",
    )  # fmt: skip

    AREAS: ClassVar = ("second_area",)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (min(self.jitter) >= 0 and max(self.jitter) <= 1 and self.jitter[-1] <= 0.5):
            raise UserError(f"jitter {self.jitter}: none negative, none above 1, and the hue's at most 0.5, half a circle")
        if self.blur[0] > self.blur[1]:
            raise UserError(f"blur {self.blur}: the smallest and the largest standard deviation, in that order")

    @property
    def second_crop(self) -> tuple[float, float] | None:
        return self.second_area if self.ctc_weight else None

    def stage(self, step: int, steps: int) -> Stage:
        name = objective.stage_at(step, self.warmup_steps)
        begin = self.warmup_steps + self.contrast_from * (steps - self.warmup_steps) if self.contrast_from else 0
        weights = {"cls": 1.0}
        if step >= begin:
            weights |= {"ptc": self.lambda1, "ctc": self.ctc_weight}
        if name == "expansion":
            weights["seg"] = self.lambda4
            name = name if step >= begin else "middle labels"
        return Stage(name, {loss: weight for loss, weight in weights.items() if weight}, self.networks)

    def memory(self, networks: Networks) -> dict[str, Tensor]:
        """The projector of the targets: at first a copy of the one that learns."""
        return {name: value.detach().clone() for name, value in networks["network"].projector.named_parameters()}

    # a step

    def passes(self, networks: Networks, part: Part, stage: Stage) -> Seen:
        """Of the mirrored images; for L_CTC also of the second crops, and of local crops where these passes say background."""
        network, mirrored = networks["network"], part.images.flip(-1)
        crop = network(mirrored)
        if "ctc" not in stage.weights:
            return Seen(crop, None, None)
        local, positive = self.look_closer(network, crop, mirrored, part)
        second = self.recoloured(part.second, part.seeds, "second crop", self.second_blur_share, self.solarised_share)
        near = network(local.flatten(0, 1)).class_token.unflatten(0, local.shape[:2])
        wide = torch.stack([crop.class_token, network(second).class_token], 1)
        return Seen(crop, torch.cat([wide, near], 1), F.pad(positive, (WHOLE, 0), value=True))

    def goals(self, networks: Networks, seen: Seen, part: Part, stage: Stage) -> Goals:
        network, made = networks["network"], None
        patch_labels = self.patch_labels(network, seen.crop, part.tags) if "ptc" in stage.weights else None
        if "seg" in stage.weights:
            if stage.name == "middle labels":
                maps = self.middle_cam(network, seen.crop).flip(-1)
            else:
                maps = self.over_scales(network, self.cam(network, seen.crop).flip(-1), part.images)
            made = self.initial_label(part.images, maps, part.tags)
        return Goals(patch_labels, seen.positive, made)

    def losses(
        self, networks: Networks, seen: Seen, goals: Goals, part: Part, stage: Stage, memory: State
    ) -> dict[str, Mean]:
        network, tokens = networks["network"], seen.crop.tokens
        found = {"cls": Mean(tag_losses(seen.crop, part.tags, self.TAGGED), len(part.tags))}
        if "ptc" in stage.weights:
            found["ptc"] = Mean(ptc.absolute_pull_and_push(tokens, goals.patch_labels), ptc.pairs(goals.patch_labels))
        if "ctc" in stage.weights:
            views = projected(network, seen.class_tokens)
            targets = projected(network, seen.class_tokens[:, :WHOLE].detach(), memory)
            contrasted = class_token_contrast(targets, views, goals.positive, self.ctc_temperature)
            found["ctc"] = Mean(contrasted.mean(), len(contrasted))
        if "seg" in stage.weights:
            found["seg"] = self.segmentation(network, tokens.flip(-1), goals.labels.labels)
        return found

    def watched(self, goals: Goals, memory: State) -> dict[str, Tensor]:
        """`labelled` as the baseline; `negative`: the share of the local crops that show background."""
        negative = {} if goals.positive is None else {"negative": (~goals.positive[:, WHOLE:]).float().mean()}
        return super().watched(goals, memory) | negative

    def follow(
        self, networks: Networks, watched: Mapping[str, Tensor], memory: State, step: int, steps: int, *, sound: bool
    ) -> dict[str, float]:
        """The targets' projector goes after the one that learns, so that the next step finds it moved."""
        if sound:
            with torch.no_grad():
                for name, value in networks["network"].projector.named_parameters():
                    memory[name].lerp_(value, 1 - self.projector_momentum)
        return {}

    # its parts

    def middle_cam(self, network: Network, output: Output) -> Tensor:
        """The CAM (B, C, h, w) of the middle tokens under the auxiliary classifier."""
        return labels.activation(output.middle, network.aux_classifier.weight, subtract_minimum=self.subtract_minimum)

    @torch.no_grad()
    def look_closer(self, network: Network, crop: Output, images: Tensor, part: Part) -> tuple[Tensor, Tensor]:
        """Local crops (B, n, 3, s, s) of images as a pass saw them, in other colours; and which show objects (B, n) bool."""
        patch, shortest = network.patch_size, min(images.shape[-2:])
        size = min(max(1, round(self.local_size / patch)), shortest // patch) * patch
        code = certainty(self.middle_cam(network, crop), part.tags, self.ptc_low, self.ptc_high, images.shape[-2:])
        keys = draws.uniform(part.seeds, "local crops", *(side - size + 1 for side in images.shape[-2:])).to(images.device)
        corners = crop_corners(code, keys, self.local_crops, size)
        positive = cut(code[:, None], corners, size).mean((-3, -2, -1)) > self.negative_share
        pictures = self.recoloured(images, part.seeds, "colours of the local crops", self.local_blur_share, 0.0)
        return cut(pictures, corners, size), positive

    def recoloured(self, images: Tensor, seeds: Tensor, purpose: str, blur_share: float, solarised_share: float) -> Tensor:
        """Images (B, 3, H, W) in other colours."""
        shares = {"jitter_share": self.jitter_share, "grey_share": self.grey_share}
        shares |= {"blur_share": blur_share, "solarised_share": solarised_share}
        return coloured(images, draws.uniform(seeds, purpose, NUMBERS), jitter=self.jitter, blur=self.blur, **shares)


def certainty(maps: Tensor, tags: Tensor, low: float, high: float, size: tuple[int, int]) -> Tensor:
    """What a CAM says of every pixel: 0 background, 1 uncertain, 2 an object.

    maps (B, C, h, w) in [0, 1], tags (B, C) in {0, 1} -> (B, H, W) float. The strongest tagged class counts: 0 up to `low`, 2 from
    `high` on.
    Source: Ru et al. 2023 (ToCo), its code.
    """
    strongest = F.interpolate(cam.tagged(maps, tags), tuple(size), mode="bilinear", align_corners=False).amax(1)
    return torch.where(strongest >= high, 2, (strongest > low).to(strongest.dtype))


def crop_corners(code: Tensor, keys: Tensor, count: int, size: int) -> Tensor:
    """Upper left corners of square crops whose centres are drawn, without return, among the pixels that are no object's for sure.

    Among all pixels where there are fewer such than crops; and where even these are too few, crops come more than once.

    Args:
        code: (B, H, W) in {0, 1, 2}, from `certainty`.
        keys: (B, H - s + 1, W - s + 1) random numbers in [0, 1), one for each corner of a crop within the image.
        count: crops of an image.
        size: their side s; the centre is s // 2 below and right of the corner.
    Returns:
        (B, count, 2) int64, row and column.
    Source: Ru et al. 2023 (ToCo), its code.
    """
    height, width = keys.shape[-2:]
    allowed = (code[:, size // 2 :, size // 2 :][:, :height, :width] <= 1).flatten(1)
    allowed |= allowed.sum(1, keepdim=True) < count
    keys = torch.where(allowed, keys.flatten(1), -1)
    best = keys.topk(min(count, height * width)).indices  # (B, n), which hardly changes where one pixel's code does
    best = best[:, torch.arange(count, device=best.device) % best.shape[1]]
    return torch.stack([best // width, best % width], -1)


def cut(maps: Tensor, corners: Tensor, size: int) -> Tensor:
    """Square parts of maps (B, K, H, W) at corners (B, n, 2), row and column: (B, n, K, s, s)."""
    along = torch.arange(size, device=maps.device)
    rows, columns = (corners[..., axis, None] + along for axis in (0, 1))  # (B, n, s)
    image = torch.arange(len(maps), device=maps.device)[:, None, None, None]
    return maps.movedim(1, -1)[image, rows[..., None], columns[..., None, :]].movedim(-1, 2)


def projected(network: Network, tokens: Tensor, weights: State | None = None) -> Tensor:
    """Class tokens (B, V, D) under the network's projector, or under one of the same form with other weights: (B, V, K)."""
    places = tokens.transpose(1, 2)[..., None]  # (B, D, V, 1)
    made = network.project(places) if weights is None else functional_call(network.projector, dict(weights), (places,))
    return made[..., 0].transpose(1, 2)


def class_token_contrast(targets: Tensor, views: Tensor, positive: Tensor, temperature: float) -> Tensor:
    """How little each image's global views tell its positive views from its negative ones.

    With e_gj = exp(q_g . p_j / T) and S_g the sum of e_gj over negative views j, the mean over g and positive j of
    -log(e_gj / (e_gj + S_g + epsilon)).

    Args:
        targets: q (B, G, K), projected global views; they take no gradient.
        views: p (B, V, K), projected views.
        positive: (B, V) bool, which of them show objects; at least one of each image.
        temperature: T > 0.
    Returns:
        (B,) float32, none negative; all but 0 where an image has no negative view.
    Source: Ru et al. 2023 (ToCo), its class token contrast, and its code; without a term that the code adds once an image after it.
    """
    scores = torch.einsum("bgk,bvk->bgv", targets.detach().float(), views.float()) / temperature
    against = scores.masked_fill(positive[:, None], -math.inf)
    against = F.pad(against, (0, 1), value=math.log(EPSILON)).logsumexp(-1, keepdim=True)  # (B, G, 1), log(S_g + epsilon)
    loss = torch.where(positive[:, None], F.softplus(against - scores), 0)
    return loss.sum((1, 2)) / (targets.shape[1] * positive.sum(1))
