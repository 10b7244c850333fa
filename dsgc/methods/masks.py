"""The upper bound: the same network and decoder, trained on the true label of every pixel instead of on tags; or on labels that
another run wrote, as a second network."""

from dataclasses import dataclass
from typing import Any, ClassVar

from dsgc import objective
from dsgc.methods import register
from dsgc.methods.contract import Mean, Method, Networks, Part, Stage, State
from dsgc.methods.labels import segmentation
from dsgc.network.vit import Output
from dsgc.settings import choice


@register
@dataclass(frozen=True)
class Masks(Method):
    """What the data and the network allow where nothing has to be guessed."""

    name: ClassVar = "masks"
    from_masks: ClassVar = True

    labels: str = choice("", "learn from the labels of this folder, as `python -m dsgc labels` wrote it; from true masks if empty")
    segmentation_average: objective.Average = choice("balanced", "Eq. 22 as half the background's mean plus half the foreground's")

    def stage(self, step: int, steps: int) -> Stage:
        return Stage("masks", {"seg": 1.0}, self.networks)

    def losses(
        self, networks: Networks, seen: Output, goals: Any, part: Part, stage: Stage, memory: State
    ) -> dict[str, Mean]:
        return {"seg": segmentation(networks["network"], seen.tokens, part.masks, average=self.segmentation_average)}
