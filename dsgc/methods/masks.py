"""The upper bound: the same network and decoder, trained on the true label of every pixel instead of on tags."""

from dataclasses import dataclass
from typing import Any, ClassVar

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

    balanced_segmentation: bool = choice(True, "Eq. 22 as half background mean plus half foreground mean")

    def stage(self, step: int, steps: int) -> Stage:
        return Stage("masks", {"seg": 1.0}, self.networks)

    def losses(
        self, networks: Networks, seen: Output, goals: Any, part: Part, stage: Stage, memory: State
    ) -> dict[str, Mean]:
        return {"seg": segmentation(networks["network"], seen.tokens, part.masks, balanced=self.balanced_segmentation)}
