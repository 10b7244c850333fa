"""What a method is: a value, with its own numbers, that the loop asks for networks, stages, goals and losses.

Of a method the loop, the step, checkpoints, evaluation and the command line know what stands here, and nothing else.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dsgc.network.vit import Network, Output, fitted
from dsgc.settings import Settings

Networks = Mapping[str, Network]
State = Mapping[str, Tensor]  # what a method remembers beside the weights; changed in place, by `follow` alone


class Part(NamedTuple):
    """A batch, or a part of one."""

    images: Tensor  # (B, 3, S, S) in [0, 1]
    tags: Tensor  # (B, C)
    seeds: Tensor  # (B,) int64, on the CPU: of each image's random numbers in this step, whatever part it is in (`draws`)
    masks: Tensor | None = None  # (B, S, S) int64, only for a method that learns from true masks
    second: Tensor | None = None  # (B, 3, S, S) other crops of the same pictures, only for a method with a `second_crop`


class Stage(NamedTuple):
    """What a step does."""

    name: str
    weights: dict[str, float]  # of the losses; one that is not here is not computed
    learning: tuple[str, ...]  # the networks that take gradients
    progress: float = 0.0  # for a method whose goals change as the run goes on: where the step stands, in [0, 1]


class Mean(NamedTuple):
    """A loss as what it is: a mean over something, or a sum of several such means.

    A batch may come in parts, and over several processes. The mean over the batch is the mean of the parts, each weighed by
    its share of what is counted; whoever writes a loss says what that is, and thinks of parts no more.
    """

    value: Tensor  # () or (T,) means over what this part has; 0 where it has nothing
    over: Tensor | int  # of the same shape: how many images, pairs, tokens, pixels, ... these are


class Views(NamedTuple):
    """What a network sees in a batch of images of one size, at that size."""

    scored: dict[str, Tensor]  # (B, H, W) int64 labels by the names in `Method.scores`, 255 for none; `seg` is the segmentation
    drawn: dict[str, Tensor]  # (B, H, W) maps for a picture, in its order: labels (int64), or values in [0, 1]
    evidence: Mapping[str, Tensor] = MappingProxyType({})  # (B, C, h, w) how loud each token says each class, by `Method.blocks`


class Pseudo(NamedTuple):
    """Pseudo labels of images of one size, and what they are made of. Each has a grid of its own, over the whole image."""

    maps: Tensor  # (B, C, h, w) in [0, 1], the CAM
    confidence: Tensor  # (B, H', W') how sure it is of the strongest tagged class, in [0, 1], or a little beyond after some refinements
    initial: Tensor | None  # (B, H', W') int64, the label before what corrects it; None where nothing does
    labels: Tensor  # (B, H', W') int64: 0, 1..C, 255


class Examined(NamedTuple):
    """A pseudo label that was corrected, and why. H' x W' is its grid."""

    confidence: Tensor  # (B, H', W') in [0, 1]
    initial: Tensor  # (B, H', W') int64, before
    noise: Tensor  # (B, h, w) or (B, H', W') in [0, 1], how likely a label is wrong
    corrected: Tensor  # (B, H', W') int64, after
    rule: Tensor  # (B, H', W') int64, number in `correction.RULES`


@dataclass(frozen=True)
class Method(Settings):
    """A way to train networks. Its fields are its numbers; each has a default for PASCAL VOC and says where it is from.

    `passes`, `goals` and `losses` make a step: passes with a graph, then what the losses are measured against, without one,
    then the losses. Nothing of it changes anything; `follow` does, after the step.
    """

    name: ClassVar[str]
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}  # which numbers a preset changes, by the preset's name
    scores: ClassVar[tuple[str, ...]] = ("seg",)  # the names of what `views` gives to be scored
    blocks: ClassVar[tuple[str, ...]] = ()  # the names of what `views` gives as evidence
    corrects: ClassVar[bool] = False  # whether it corrects its pseudo label, and `examined` says how
    from_masks: ClassVar[bool] = False  # whether it learns from true masks; else no mask is opened for training
    labels: ClassVar[str] = ""  # a folder of labels that it learns from in place of true masks; "" for these
    heads_anew: ClassVar[tuple[str, ...]] = ()  # networks that begin with the others' encoder and heads of their own
    left_out: ClassVar[str] = ""  # what of a published method is not here, and why; its --help says so
    later: ClassVar[tuple[str, ...]] = ()  # fields on which the first `shared_steps` do not depend; a subclass says it anew, or has none

    @property
    def networks(self) -> tuple[str, ...]:
        """The networks by name; all begin with the same weights but for `heads_anew`. The first one's results are reported."""
        return ("network",)

    @property
    def second_crop(self) -> tuple[float, float] | None:
        """The area, as a share of the picture, of the second crop that `Part.second` has; None if it wants none."""
        return None

    @property
    def has_cam(self) -> bool:
        """Whether there is an `activation`, and so a classifier of tags behind it."""
        return type(self).activation is not Method.activation

    def heads(self, network: Network, classes: int) -> dict[str, nn.Module]:
        """What it adds to a network's heads: modules by name, found again in `Network.more`. They learn at the heads' rate."""
        return {}

    def check(self, steps: int) -> None:
        """Refuse numbers that do not fit a run of so many steps. Raises `UserError`."""

    @property
    def shared_steps(self) -> int:
        """How many steps runs have in common that differ in `later` alone."""
        return 0

    def rates(self, lr: float) -> dict[str, float]:
        """The base learning rate of each network."""
        return dict.fromkeys(self.networks, lr)

    def stage(self, step: int, steps: int) -> Stage:
        """The stage of step number `step`, from 0, of `steps`."""
        raise NotImplementedError

    def memory(self, networks: Networks) -> dict[str, Tensor]:
        """What it remembers beside the weights, before the first step; kept in checkpoints."""
        return {}

    def passes(self, networks: Networks, part: Part, stage: Stage) -> Any:
        """The passes whose gradients are wanted."""
        return networks[self.networks[0]](part.images)

    def goals(self, networks: Networks, seen: Any, part: Part, stage: Stage) -> Any:
        """Labels and targets, made of `passes` and of further passes if need be; called without a graph."""

    def losses(self, networks: Networks, seen: Any, goals: Any, part: Part, stage: Stage, memory: State) -> dict[str, Mean]:
        """The losses that have a weight in this stage, by name."""
        raise NotImplementedError

    def watched(self, goals: Any, memory: State) -> dict[str, Tensor]:
        """What is averaged over the batch beside the losses: scalars go to the log, everything to `follow`."""
        return {}

    def follow(
        self, networks: Networks, watched: Mapping[str, Tensor], memory: State, step: int, steps: int, *, sound: bool
    ) -> dict[str, float]:
        """What happens after the optimiser's step, in place, unless the step was skipped (`sound` is false); facts for the log."""
        return {}

    def views(self, network: Network, images: Tensor, tags: Tensor, background: float) -> Views:
        """What a network makes of images (B, 3, H, W) in [0, 1] of any size, with tags (B, C), at that size.

        background: a CAM is background below it. Called without a graph.
        """
        tokens = network(fitted(images, network.patch_size)).tokens
        logits = F.interpolate(network.decode(tokens).float(), images.shape[-2:], mode="bilinear", align_corners=False)
        return Views({"seg": logits.argmax(1)}, {"prediction": logits.argmax(1)})

    def activation(self, network: Network, images: Tensor, scales: tuple[float, ...], *, mirror: bool) -> "Tensor | None":
        """The CAM (B, C, H, W) in [0, 1] of images (B, 3, H, W) over several scales, as others score theirs; None without a CAM.

        Called without a graph.
        """
        return None

    def pseudo(
        self, network: Network, images: Tensor, tags: Tensor, scales: tuple[float, ...] = (), *, mirror: bool = False
    ) -> "Pseudo | None":
        """The pseudo label of images (B, 3, H, W) in [0, 1] of any size, with tags (B, C); None for a method that makes none.

        scales: of the images, for the CAM; none for those of training, and then without `mirror`. Called without a graph.
        Raises:
            UserError: the label of this method is made of one look alone, and scales or the mirror image are asked for.
        """
        return None

    def examined(self, network: Network, output: Output, images: Tensor, tags: Tensor) -> "Examined | None":
        """How the pseudo label of images (B, 3, H, W), of which the network gave `output`, came about; None if nothing corrects it."""
        return None


def over_all(means: Mapping[str, Mean], whole: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What a part adds to each loss of the batch, which has `whole` of what the means are over: scalars by name."""
    found = {}
    for name, (value, over) in means.items():
        share = torch.as_tensor(over, device=value.device).double() / whole[name].clamp_min(1)  # 1 where the part is the batch
        found[name] = (share.to(value.dtype) * value).sum().float()
    return found
