"""The segmentation loss and the sum of all losses, stage by stage (Eq. 22-23)."""

from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Stage = Literal["warm-up", "expansion"]
Average = Literal["balanced", "pixels", "none"]


def labelled(labels: Tensor) -> Tensor:
    """How many labels (B, H, W) are background and how many foreground, 255 being neither: (2,) float64."""
    return torch.stack([(labels == 0).sum(), ((labels != 0) & (labels != 255)).sum()]).double()


def segmentation_loss(logits: Tensor, labels: Tensor, *, average: Average = "pixels") -> Tensor:
    """Pixel-wise cross-entropy of the decoder's prediction with the pseudo label; label 255 takes no part.

    Eq. (22), whose C classes count the background.

    Args:
        logits: (B, K, H, W), K classes with background first.
        labels: (B, H, W) int64, 0..K-1 or 255.
        average: "pixels" takes the mean over the labelled pixels of the batch; "balanced" half the mean over background pixels
            plus half the mean over foreground pixels (as ToCo does), so that the usual excess of background does not drown the
            objects; "none", as printed, the sum over an image's pixels, averaged over images.
    Returns:
        A scalar >= 0, in nats; 0 with zero gradient where no pixel is labelled.
    Source: the paper, Eq. 22; Ru et al. 2023 for the balanced form.
    """
    return segmentation_means(logits, labels, average=average)[0].sum()


def segmentation_means(
    logits: Tensor, labels: Tensor, *, average: Average, weights: Tensor | float = 1.0
) -> tuple[Tensor, Tensor]:
    """The means whose sum is `segmentation_loss`, and how many pixels, or images, each is over: (T,) each, T = 2 if balanced, else 1.

    weights: (B, H, W) of the pixels' losses. They make it smaller: it stays a mean over as many pixels, whatever these weigh.
    """
    loss = weights * F.cross_entropy(logits.float(), labels, ignore_index=255, reduction="none")  # (B, H, W), 0 at 255
    count = labelled(labels)
    if average == "none":
        images = count.new_full((1,), len(labels))
        return loss.sum()[None] / max(len(labels), 1), images
    if average == "pixels":
        count = count.sum(0, keepdim=True)
        return loss.sum()[None] / count.to(loss.dtype).clamp_min(1), count
    parts = torch.stack([labels == 0, (labels != 0) & (labels != 255)])
    sums = torch.stack([torch.where(part, loss, 0).sum() for part in parts])
    return sums / count.to(loss.dtype).clamp_min(1) / 2, count


def stage_at(step: int, warmup_steps: int) -> Stage:
    """The stage of a step: "warm-up" for the first `warmup_steps`, then "expansion" (the segmentation stage runs with it)."""
    return "warm-up" if step < warmup_steps else "expansion"


def stage_weights(
    stage: Stage, lambda1: float, lambda2: float, lambda3: float, lambda4: float, *, similarity_after_warmup: bool = False
) -> dict[str, float]:
    """The weight of each loss in a stage; a term that plays no part in it is left out, so that nobody computes it."""
    weights = {"cls": 1.0, "ptc": lambda1}
    if stage == "warm-up" or similarity_after_warmup:
        weights["sim"] = lambda2
    if stage == "expansion":
        weights |= {"punc": lambda3, "seg": lambda4}
    return {name: weight for name, weight in weights.items() if weight}


def total_loss(losses: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """The weighted sum that is minimised: L_cls + lambda1 L_PTC + lambda2 L_sim + lambda3 L_PUNC + lambda4 L_seg.

    Eq. (23).

    Args:
        losses: scalars by name.
        weights: what `stage_weights` gives; every name must be among the losses.
    Source: the paper, Eq. 23.
    """
    return torch.stack([weight * losses[name] for name, weight in weights.items()]).sum()
