"""What methods of two networks share: losses of both, and logits on the grid of a label."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from dsgc.methods.contract import Mean


def at(logits: Tensor, made: Tensor) -> Tensor:
    """Logits (B, K, h, w) at the resolution of labels (B, H, W), float32."""
    return F.interpolate(logits.float(), made.shape[-2:], mode="bilinear", align_corners=False)


def summed(means: Sequence[Mean]) -> Mean:
    """The sum of several losses (T,), each with counts of its own."""
    return Mean(torch.cat([mean.value for mean in means]), torch.cat([mean.over for mean in means]))
