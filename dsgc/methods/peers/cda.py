"""CDA (Su et al. 2021): an object that the map has found is pasted elsewhere, so that a class is not known by what lies around it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from dsgc import cam
from dsgc.methods import draws, register
from dsgc.methods.base import Base
from dsgc.methods.contract import Mean, Networks, Part, Stage, State
from dsgc.methods.labels import Initial
from dsgc.network.vit import Network, Output
from dsgc.settings import choice, published

CODE = "Su et al. 2021, its code"


class Seen(NamedTuple):
    """What a step's passes gave."""

    plain: Output  # of the mirrored images
    pasted: Output | None  # of the other crops with an object pasted in
    counted: Tensor | None  # (B,) bool, which images had an object to paste


class Goals(NamedTuple):
    """What the losses are measured against."""

    patch_labels: Tensor | None  # as the baseline has them
    labels: Initial | None
    pasted: Tensor | None  # (B,) bool


@register
@dataclass(frozen=True)
class Cda(Base):
    """The baseline, which after the warm-up also learns the tags of a second crop with an object of the first pasted in.

    An object is where the map of one tag is above `label_high`. The tags of the crop and of the object are those of the picture.
    """

    name: ClassVar = "cda"
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = Base.presets
    left_out: ClassVar = (
        "Its objects are cut in a round of training before, by IRN, from pictures of one class, and pasted into pictures that lack "
        "that class: the tags grow by one. Here an object is cut in the step itself, by the map, and pasted into another crop of its "
        "own picture, so that no image depends on another: its surroundings, place, turn and size change, its company does not."
    )

    later: ClassVar[tuple[str, ...]] = (*Base.later, "paste_share", "object_least", "object_most", "object_side", "turn", "second_least")

    paste_share: float = published(0.5, "share of the pasted views in the loss of the tags; 0 pastes nothing", CODE)
    object_least: float = published(0.1, "least area of an object, as a share of the picture", CODE)
    object_most: float = published(0.7, "largest area of an object", CODE)
    object_side: float = published(0.7, "largest side of an object when it is pasted, as a share of the picture's", CODE)
    turn: float = published(90.0, "an object is turned by up to so many degrees to either side", CODE)
    second_least: float = choice(0.32, "least area of the crop that is pasted into, as a share of the picture; as crop_scale")

    POSITIVE: ClassVar = (*Base.POSITIVE, "object_side", "second_least")
    NOT_NEGATIVE: ClassVar = (*Base.NOT_NEGATIVE, "turn")
    SHARES: ClassVar = ("paste_share", "object_side", "second_least")
    ORDERED: ClassVar = (*Base.ORDERED, ("object_least", "object_most"))

    @property
    def second_crop(self) -> tuple[float, float] | None:
        return (self.second_least, 1.0) if self.paste_share else None

    def stage(self, step: int, steps: int) -> Stage:
        stage = super().stage(step, steps)
        if stage.name == "warm-up":
            return stage
        weights = stage.weights | {"cls": 1 - self.paste_share, "paste": self.paste_share}
        return stage._replace(weights={name: weight for name, weight in weights.items() if weight})

    def passes(self, networks: Networks, part: Part, stage: Stage) -> Seen:
        network = networks[self.networks[0]]
        plain = super().passes(networks, part, stage)
        if "paste" not in stage.weights:
            return Seen(plain, None, None)
        views, counted = self.pasted(network, plain, part)
        return Seen(plain, network(views), counted)

    def goals(self, networks: Networks, seen: Seen, part: Part, stage: Stage) -> Goals:
        return Goals(*super().goals(networks, seen.plain, part, stage), seen.counted)

    def losses(
        self, networks: Networks, seen: Seen, goals: Goals, part: Part, stage: Stage, memory: State
    ) -> dict[str, Mean]:
        found = super().losses(networks, seen.plain, goals, part, stage, memory)
        if "paste" in stage.weights:
            value = sum(counted_tag_loss(getattr(seen.pasted, name), part.tags, seen.counted) for name in self.TAGGED)
            found["paste"] = Mean(value, seen.counted.sum())
        return {name: mean for name, mean in found.items() if name in stage.weights}

    def watched(self, goals: Goals, memory: State) -> dict[str, Tensor]:
        """Beside the baseline's, `pasted`: the share of images with an object to paste."""
        found = super().watched(goals, memory)
        return found if goals.pasted is None else found | {"pasted": goals.pasted.float().mean()}

    @torch.no_grad()
    def pasted(self, network: Network, plain: Output, part: Part) -> tuple[Tensor, Tensor]:
        """The second crops (B, 3, S, S), each with an object of the first pasted in; and which of them had one, (B,) bool."""
        size = part.images.shape[-2:]
        maps = F.interpolate(self.cam(network, plain).flip(-1), size, mode="bilinear", align_corners=False)
        drawn = draws.uniform(part.seeds, "paste", 4).to(part.images.device)
        found = objects(maps, part.tags, drawn[:, 0], self.label_high, (self.object_least, self.object_most))
        turn, place = (2 * drawn[:, 1] - 1) * math.radians(self.turn), 2 * drawn[:, 2:] - 1
        with torch.autocast(part.images.device.type, enabled=False):  # places need more digits than bfloat16 has
            views = paste(part.images, found, part.second, turn, place, self.object_side)
        return views, found.flatten(1).any(1)


def objects(maps: Tensor, tags: Tensor, which: Tensor, high: float, area: tuple[float, float]) -> Tensor:
    """Where the object of one tag is: its map is the strongest of the tagged ones and above a threshold.

    Args:
        maps: (B, C, H, W) in [0, 1].
        tags: (B, C).
        which: (B,) in [0, 1), which of its tags an image takes.
        high: the threshold.
        area: least and largest share of the image; an object beyond either is none.
    Returns:
        (B, H, W) bool.
    Source: Su et al. 2021, its code, with the map in place of IRN's segmentation.
    """
    number = (which * tags.sum(1)).long()  # from 0
    chosen = (tags.cumsum(1) == number[:, None] + 1) & (tags > 0)  # (B, C), the one tag with as many before it; none without tags
    confidence, winner = cam.tagged(maps, tags).max(1)
    found = chosen.gather(1, winner.flatten(1)).view_as(winner) & (confidence > high)
    share = found.flatten(1).float().mean(1)
    return found & ((share >= area[0]) & (share <= area[1]))[:, None, None]


def moves(found: Tensor, turn: Tensor, place: Tensor, side: float) -> Tensor:
    """From where a place of the view takes its pixel: matrices (B, 2, 3) for `F.affine_grid`, in coordinates from -1 to 1.

    An object is turned about the middle of its box, made smaller if its turned box is larger than `side`, and put where that box fits.

    Args:
        found: (B, S, S) bool, the objects; an image without one gets numbers that are finite.
        turn: (B,) radians.
        place: (B, 2) in [-1, 1], x before y: where among all places that fit.
        side: largest side of the turned box, as a share of the image's.
    """
    size = found.shape[-1]
    first, last = [], []
    for axis in (1, 2):  # columns, then rows
        taken = found.any(axis).float()  # (B, S)
        first.append(taken.argmax(1))
        last.append(size - taken.flip(1).argmax(1))
    low, high = (2 * torch.stack(ends, 1) / size - 1 for ends in (first, last))  # (B, 2)
    middle, half = (low + high) / 2, (high - low) / 2
    cosine, sine = turn.cos(), turn.sin()
    across = torch.stack([cosine.abs(), sine.abs(), sine.abs(), cosine.abs()], 1).view(-1, 2, 2)
    box = (across @ half[:, :, None])[:, :, 0]  # half sides of the turned box
    shrink = (side / box.amax(1)).clamp_max(1)  # (B,)
    target = place * (1 - shrink[:, None] * box)
    back = torch.stack([cosine, sine, -sine, cosine], 1).view(-1, 2, 2) / shrink[:, None, None]
    return torch.cat([back, middle[:, :, None] - back @ target[:, :, None]], 2)


def paste(images: Tensor, found: Tensor, second: Tensor, turn: Tensor, place: Tensor, side: float) -> Tensor:
    """Other crops (B, 3, S, S), over each the object found (B, S, S) in an image (B, 3, S, S); arguments as in `moves`.

    Source: Su et al. 2021, its code.
    """
    grid = F.affine_grid(moves(found, turn, place, side), list(images.shape), align_corners=False)
    moved = F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
    inside = F.grid_sample(found[:, None].float(), grid, mode="nearest", padding_mode="zeros", align_corners=False)
    return torch.where(inside > 0.5, moved, second)


def counted_tag_loss(logits: Tensor, tags: Tensor, counted: Tensor) -> Tensor:
    """`dskd.tag_loss` over some images: logits (B, C), tags (B, C), counted (B,) bool -> a scalar, 0 where none is."""
    losses = F.binary_cross_entropy_with_logits(logits.float(), tags.float(), reduction="none").mean(1)
    return torch.where(counted, losses, 0).sum() / counted.sum().clamp_min(1)
