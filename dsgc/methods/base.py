"""The baseline: tags, patch token contrast, and a decoder that learns the class activation map's own label."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from dsgc import cam, dskd, objective, ptc, refine
from dsgc.cam import IGNORE
from dsgc.errors import UserError
from dsgc.methods import labels, register
from dsgc.methods.contract import Mean, Method, Networks, Part, Pseudo, Stage, State, Views
from dsgc.methods.labels import Initial
from dsgc.network.vit import Network, Output, fitted
from dsgc.settings import choice, departs, paper


class Goals(NamedTuple):
    """What the losses are measured against."""

    patch_labels: Tensor | None  # (B, h, w) int64, of Eq. 3, in the frame of the pass; for L_PTC
    labels: Initial | None  # in the frame of the images; for L_seg


ALL_LOGITS = ("class_logits", "patch_logits", "aux_logits")  # of the class token, of the pooled last and middle tokens


@register
@dataclass(frozen=True)
class Base(Method):
    """The paper's baseline: one network, no correction. What peers share with it they inherit."""

    name: ClassVar = "base"
    scores: ClassVar[tuple[str, ...]] = ("seg", "cam", "pseudo")
    blocks: ClassVar[tuple[str, ...]] = ("last", "middle")
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "coco": {"warmup_steps": 5_000, "ptc_high": 0.65, "label_high": 0.65},
        "voc6": {"warmup_steps": 150, "refine_dilations": (1, 2, 4, 8)},
        "shapes": {"warmup_steps": 60, "ptc_low": 0.2, "ptc_high": 0.4, "label_high": 0.5, "refine_dilations": (1, 2, 4)},
    }

    later: ClassVar[tuple[str, ...]] = (  # the warm-up makes no label but that of Eq. 3, and trains no decoder
        "lambda4", "segmentation_average",
        "label_low", "label_high", "label_scales", "label_stride", "refine_dilations", "refine_iterations",
    )  # fmt: skip

    warmup_steps: int = paper(2_000, "iterations of the warm-up stage", coco=5_000)

    # losses (Eq. 23 and what it sums)
    lambda1: float = paper(0.2, "weight of L_PTC")
    lambda4: float = paper(0.1, "weight of L_seg")
    ptc_low: float = choice(0.25, "beta_l of Eq. 3")
    ptc_high: float = choice(0.7, "beta_h of Eq. 3")
    ptc_classes: bool = departs(True, "label patches by class; else foreground and background only", stated=False, where="Eq. 3")
    segmentation_average: objective.Average = departs(
        "balanced",
        "loss of the decoder: half the background's mean plus half the foreground's, the mean over all, or a sum over an image",
        stated="none",
        where="Eq. 22",
    )

    # pseudo labels
    subtract_minimum: bool = departs(True, "take each CAM's minimum off before it is divided", stated=False, where="Eq. 1")
    label_low: float = choice(0.25, "pseudo label: background below this confidence")
    label_high: float = choice(0.7, "pseudo label: the strongest class above this confidence, 255 between")
    label_scales: tuple[float, ...] = choice((1.0,), "scales of the CAM that makes labels; with any but 1 the mirror image is seen too")
    label_stride: int = choice(2, "pixels of the image to one pixel of the pseudo label")
    refine_dilations: tuple[int, ...] = choice((1, 2, 4, 8, 12, 24), "pixel-adaptive refinement: neighbour distances")
    refine_iterations: int = choice(10, "pixel-adaptive refinement: averagings; 0 for none")

    TAGGED: ClassVar[tuple[str, ...]] = ALL_LOGITS  # what learns the tags
    POSITIVE: ClassVar[tuple[str, ...]] = ("label_scales", "label_stride", "refine_dilations")
    NOT_NEGATIVE: ClassVar[tuple[str, ...]] = ("warmup_steps", "lambda1", "lambda4", "refine_iterations")
    ORDERED: ClassVar[tuple[tuple[str, str], ...]] = (("ptc_low", "ptc_high"), ("label_low", "label_high"))

    @property
    def shared_steps(self) -> int:
        return self.warmup_steps

    def check(self, steps: int) -> None:
        if self.warmup_steps > steps:
            raise UserError(f"warmup_steps {self.warmup_steps}: longer than the run, which has steps {steps}; lower --warmup-steps")

    def stage(self, step: int, steps: int) -> Stage:
        name = objective.stage_at(step, self.warmup_steps)
        return Stage(name, objective.stage_weights(name, self.lambda1, 0.0, 0.0, self.lambda4), self.networks)

    # a step

    def passes(self, networks: Networks, part: Part, stage: Stage) -> Output:
        """Of the mirrored images, as the paper's method has them: under one seed both see the same."""
        return networks[self.networks[0]](part.images.flip(-1))

    def goals(self, networks: Networks, seen: Output, part: Part, stage: Stage) -> Goals:
        network = networks[self.networks[0]]
        patch_labels = self.patch_labels(network, seen, part.tags) if "ptc" in stage.weights else None
        made = None
        if "seg" in stage.weights:
            maps = self.over_scales(network, self.cam(network, seen).flip(-1), part.images)
            made = self.initial_label(part.images, maps, part.tags)
        return Goals(patch_labels, made)

    def losses(
        self, networks: Networks, seen: Output, goals: Goals, part: Part, stage: Stage, memory: State
    ) -> dict[str, Mean]:
        found = {"cls": Mean(tag_losses(seen, part.tags, self.TAGGED), len(part.tags))}
        if "ptc" in stage.weights:
            found["ptc"] = contrast(seen.tokens, goals.patch_labels)
        if "seg" in stage.weights:
            found["seg"] = self.segmentation(networks[self.networks[0]], seen.tokens.flip(-1), goals.labels.labels)
        return found

    def watched(self, goals: Goals, memory: State) -> dict[str, Tensor]:
        """`labelled`: the share of the pseudo label's pixels that have a label."""
        return {} if goals.labels is None else {"labelled": (goals.labels.labels != IGNORE).float().mean()}

    # its parts

    def cam(self, network: Network, output: Output) -> Tensor:
        """Eq. 1 with the network's own classifier: (B, C, h, w)."""
        return labels.activation(output.tokens, network.patch_classifier.weight, subtract_minimum=self.subtract_minimum)

    def over_scales(self, network: Network, maps: Tensor, images: Tensor) -> Tensor:
        """What labels are made of: the CAM (B, C, h, w) of the images as it is, or one over several scales (B, C, H, W)."""
        if self.label_scales == (1.0,):
            return maps
        options = {"mirror": True, "subtract_minimum": self.subtract_minimum}
        return labels.activation_over_scales(network, images, self.label_scales, **options)

    def patch_labels(self, network: Network, output: Output, tags: Tensor) -> Tensor:
        """Eq. 3 on the middle tokens' CAM: (B, h, w) int64."""
        maps = labels.activation(output.middle, network.aux_classifier.weight, subtract_minimum=self.subtract_minimum)
        found = cam.patch_labels(maps, tags, self.ptc_low, self.ptc_high)
        return found if self.ptc_classes else torch.where(found == IGNORE, found, found.clamp(max=1))

    def initial_label(self, images: Tensor, maps: Tensor, tags: Tensor) -> Initial:
        """CAM (B, C, h, w) -> refinement (`refined`) -> label by two thresholds."""
        with torch.autocast(images.device.type, enabled=False):  # float32, for its products too
            return labels.initial(
                images,
                maps,
                tags,
                low=self.label_low,
                high=self.label_high,
                stride=self.label_stride,
                dilations=self.refine_dilations,
                iterations=self.refine_iterations,
                by=self.refined,
            )

    def refined(self, maps: Tensor, images: Tensor, **how: Any) -> Tensor:
        """What refines a label's maps (B, C, h, w) by images (B, 3, h, w), called as `refine.refine` is."""
        return refine.refine(maps, images, **how)

    def segmentation(self, network: Network, tokens: Tensor, made: Tensor) -> Mean:
        """Eq. 22 of the decoder's prediction from tokens (B, D, h, w), with a pseudo label (B, H', W')."""
        return labels.segmentation(network, tokens, made, average=self.segmentation_average)

    # evaluation

    def views(self, network: Network, images: Tensor, tags: Tensor, background: float) -> Views:
        size = images.shape[-2:]
        scaled = fitted(images, network.patch_size)
        output = network(scaled)
        maps = self.cam(network, output)
        made = self.initial_label(scaled, self.over_scales(network, maps, scaled), tags).labels
        full = F.interpolate(cam.tagged(maps, tags), size, mode="bilinear", align_corners=False)
        head, made = labels.segmented(network, output.tokens, size), labels.enlarged(made, size).long()
        scored = {"seg": head, "cam": labels.by_threshold(full, background), "pseudo": made}
        return Views(scored, {"cam": full.amax(1), "pseudo": made, "prediction": head}, self.evidence(network, output))

    def pseudo(
        self, network: Network, images: Tensor, tags: Tensor, scales: tuple[float, ...] = (), *, mirror: bool = False
    ) -> Pseudo:
        scaled = fitted(images, network.patch_size)
        output = network(scaled)
        if scales:
            how = {"mirror": mirror, "subtract_minimum": self.subtract_minimum}
            maps = labels.activation_over_scales(network, scaled, scales, **how)
        else:
            maps = self.over_scales(network, self.cam(network, output), scaled)
        return self.made(network, output, scaled, maps, tags)

    def made(self, network: Network, output: Output, images: Tensor, maps: Tensor, tags: Tensor) -> Pseudo:
        """The pseudo label of images (B, 3, H, W), of which the network gave `output`, from their CAM (B, C, h, w)."""
        label = self.initial_label(images, maps, tags)
        return Pseudo(maps, label.confidence, None, label.labels)

    def evidence(self, network: Network, output: Output) -> dict[str, Tensor]:
        """What each token adds to its image's tags, before any of Eq. 1 and 2 is divided: (B, C, h, w) of either block."""
        heads = {"last": (output.tokens, network.patch_classifier), "middle": (output.middle, network.aux_classifier)}
        return {block: cam.evidence(tokens, head.weight) for block, (tokens, head) in heads.items()}

    def activation(self, network: Network, images: Tensor, scales: tuple[float, ...], *, mirror: bool) -> Tensor:
        """As ToCo scores its CAM: each map without its minimum, whatever the run's labels are made with."""
        return labels.activation_over_scales(network, images, scales, mirror=mirror, subtract_minimum=True)


def contrast(tokens: Tensor, patch_labels: Tensor) -> Mean:
    """Eq. 4 of tokens (B, D, h, w) under patch labels (B, h, w): the two means, over the pairs of either kind."""
    return Mean(ptc.pull_and_push(tokens, patch_labels), ptc.pairs(patch_labels))


def tag_losses(output: Output, tags: Tensor, logits: tuple[str, ...] = ALL_LOGITS) -> Tensor:
    """Eq. 8 on the class token, and on the pooled last and middle tokens, without which no CAM would be trained; or on some of these."""
    return sum(dskd.tag_loss(getattr(output, name), tags) for name in logits)
