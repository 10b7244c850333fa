"""ReCAM (Chen et al. 2022): what lies under each class's map is classified once more, by a softmax in which classes compete."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dsgc import cam
from dsgc.methods import labels, register
from dsgc.methods.base import Base, Goals
from dsgc.methods.contract import Mean, Networks, Part, Stage, State
from dsgc.network.vit import Network, Output
from dsgc.settings import choice, published

CODE = "Chen et al. 2022, its code"


@register
@dataclass(frozen=True)
class Recam(Base):
    """The baseline, and from the middle of the run on a second classifier, whose weights make the map together with the first's.

    A map over several scales is the first classifier's alone.
    """

    name: ClassVar = "recam"
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "coco": {**Base.presets["coco"], "lambda_softmax": 0.1},
        "voc6": {**Base.presets["voc6"], "pooled_over": "map"},  # few steps: the second classifier must learn fast
        "shapes": {**Base.presets["shapes"], "pooled_over": "map"},
    }
    left_out: ClassVar = (
        "The lower learning rates of its second training (here one run has both), scales and mirror images of its maps, and IRN and "
        "the separate segmentation network that learn from them."
    )

    later: ClassVar[tuple[str, ...]] = (
        *Base.later, "softmax_from", "lambda_softmax", "pooled_over", "map_weights", "both_from"
    )  # fmt: skip

    softmax_from: float = published(5 / 9, "share of the run after which the second classifier learns: 5 of 9 epochs", CODE)
    lambda_softmax: float = published(1.0, "weight of the second classifier's loss", CODE, coco=0.1)
    pooled_over: Literal["places", "map"] = published(
        "places", "what lies under a map is a mean over all places, or over the map: then small objects speak as loud as large ones", CODE
    )
    map_weights: Literal["agreeing", "product", "second"] = choice(
        "agreeing", "weights of the map: the product (published, of features that are not negative), with signs kept, or the second's"
    )
    both_from: float = choice(
        0.75, "share of the run after which both classifiers' weights make labels; no label is made before the end of its trainings"
    )

    NOT_NEGATIVE: ClassVar = (*Base.NOT_NEGATIVE, "lambda_softmax")
    ORDERED: ClassVar = (*Base.ORDERED, ("softmax_from", "both_from"))

    def heads(self, network: Network, classes: int) -> dict[str, nn.Module]:
        """The second classifier. It begins at zero, and while it is there the map is the first's."""
        layer = nn.Linear(network.encoder.embed_dim, classes, bias=False)
        nn.init.zeros_(layer.weight)
        return {"softmax": layer}

    def stage(self, step: int, steps: int) -> Stage:
        stage = super().stage(step, steps)._replace(progress=step / steps)
        if step < self.warmup_steps or stage.progress < self.softmax_from or not self.lambda_softmax:
            return stage
        return stage._replace(name="second classifier", weights=stage.weights | {"softmax": self.lambda_softmax})

    def goals(self, networks: Networks, seen: Output, part: Part, stage: Stage) -> Goals:
        network = networks[self.networks[0]]
        patch_labels = self.patch_labels(network, seen, part.tags) if "ptc" in stage.weights else None
        made = None
        if "seg" in stage.weights:
            maps = self.cam(network, seen, both=stage.progress >= self.both_from)
            made = self.initial_label(part.images, self.over_scales(network, maps.flip(-1), part.images), part.tags)
        return Goals(patch_labels, made)

    def losses(
        self, networks: Networks, seen: Output, goals: Goals, part: Part, stage: Stage, memory: State
    ) -> dict[str, Mean]:
        found = super().losses(networks, seen, goals, part, stage, memory)
        if "softmax" in stage.weights:
            network = networks[self.networks[0]]
            with torch.autocast(part.tags.device.type, enabled=False):  # in float32, whatever precision the network has
                features = under_maps(seen.tokens.float(), network.patch_classifier.weight.float(), over=self.pooled_over)
                logits = network.more["softmax"](features)
            found["softmax"] = Mean(softmax_loss(logits, part.tags), part.tags.amax(1).gt(0).sum())
        return found

    def cam(self, network: Network, output: Output, *, both: bool = True) -> Tensor:
        """The baseline's map, or where the second classifier has learnt, that of both classifiers' weights: (B, C, h, w)."""
        second = network.more["softmax"].weight
        if not both or not second.any():
            return super().cam(network, output)
        weight = joint(network.patch_classifier.weight, second, self.map_weights)
        return labels.activation(output.tokens, weight, subtract_minimum=self.subtract_minimum)


def joint(first: Tensor, second: Tensor, how: Literal["agreeing", "product", "second"]) -> Tensor:
    """The weights (C, D) of a map from those of both classifiers.

    A product of two negative weights is positive. Behind a rectifier, as published, that makes a channel that speaks against a class
    speak for it; where features have either sign it also turns round what a low value says. `agreeing` keeps the first's sign, and
    takes the channels on which both agree.
    Source: Chen et al. 2022, its code, for the product.
    """
    if how == "second":
        return second
    return first * second if how == "product" else first.sign() * (first * second).relu()


def under_maps(tokens: Tensor, weight: Tensor, *, over: Literal["places", "map"]) -> Tensor:
    """What lies under each class's map: a token times the map's value at its place, as a mean over places or over the map.

    tokens (B, D, h, w), weight (C, D) of the classifier that makes the map, without taking its minimum off -> (B, C, D).
    Source: Chen et al. 2022, its code.
    """
    maps = cam.class_activation_map(tokens, weight)
    total = torch.einsum("bchw,bdhw->bcd", maps, tokens)
    return total / (maps[0, 0].numel() if over == "places" else maps.sum((-2, -1)).clamp_min(1)[:, :, None])


def softmax_loss(logits: Tensor, tags: Tensor) -> Tensor:
    """Cross-entropy of what lies under each tagged map with the map's own class: a mean over an image's tags, then over images.

    logits (B, C, C), row c of what lies under map c; tags (B, C) -> a scalar; images without a tag take no part.
    Source: Chen et al. 2022, its code.
    """
    classes = tags.shape[1]
    own = torch.arange(classes, device=tags.device).expand(len(tags), -1)
    loss = F.cross_entropy(logits.flatten(0, 1), own.flatten(), reduction="none").view(-1, classes)
    count = tags.sum(1)
    means = (loss * tags).sum(1) / count.clamp_min(1)
    return means.sum() / (count > 0).sum().clamp_min(1)
