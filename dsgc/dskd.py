"""Dual-stage knowledge distillation: what ties the student to the teacher, and both to the tags (Eq. 6-10).

The paper's teacher is trained by gradients and its student follows; DINO uses the two words the other way round.
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


def momentum_at(progress: float, start: float) -> float:
    """EMA momentum, `start` at progress 0, raised along half a cosine to 1 at progress 1 (Caron et al. 2021)."""
    return 1 - (1 - start) * (1 + math.cos(math.pi * min(max(progress, 0.0), 1.0))) / 2


@torch.no_grad()
def ema_update(student: nn.Module, teacher: nn.Module, momentum: float) -> None:
    """Move the student's parameters towards the teacher's, in place.

    Eq. (6) with beta = 1 - momentum: student = momentum * student + (1 - momentum) * teacher. Buffers are copied.

    Args:
        student, teacher: modules with the same parameters in the same order.
        momentum: in [0, 1]; 1 leaves the student's parameters as they are, 0 copies the teacher's.
    Source: the paper, Eq. 6; momentum 0.996 raised to 1 from its settings.
    """
    get_ema_multi_avg_fn(momentum)(list(student.parameters()), list(teacher.parameters()), 0)
    for mine, theirs in zip(student.buffers(), teacher.buffers(), strict=True):
        mine.copy_(theirs)


def flip_similarity_loss(
    teacher_tokens: Tensor, student_tokens: Tensor, *, axis: Literal["channels", "tokens"] = "channels"
) -> Tensor:
    """Minus the mean cosine between the teacher's tokens of the mirrored image, mirrored back, and the student's.

    Eq. (7).

    Args:
        teacher_tokens: middle-layer tokens (B, D, h, w) of the horizontally flipped image.
        student_tokens: middle-layer tokens (B, D, h, w) of the image as it is.
        axis: "channels" compares each channel as a vector over the h * w tokens and averages over the D channels, as
            the paper writes it (1/c, c the number of channels); "tokens" compares each token as a vector over channels.
            Lengths do not matter from 1e-8 to 1e19; a shorter vector fades to zero, a longer one counts as zero.
    Returns:
        A scalar in [-1, 1]; -1 when both agree up to scale.
    Source: the paper, Eq. 7.
    """
    teacher = teacher_tokens.flip(-1).flatten(2).float()  # (B, D, N)
    student = student_tokens.flatten(2).float()
    return -F.cosine_similarity(teacher, student, dim=2 if axis == "channels" else 1).mean()


def tag_loss(logits: Tensor, tags: Tensor) -> Tensor:
    """Binary cross-entropy between the predicted and the given tags, averaged over images and classes.

    Eq. (8). Computed from logits, so that no logarithm of 0 is taken.

    Args:
        logits: (B, C), before the sigmoid.
        tags: (B, C) in {0, 1}.
    Returns:
        A scalar >= 0, in nats.
    Source: the paper, Eq. 8.
    """
    return F.binary_cross_entropy_with_logits(logits.float(), tags.float())


def uncertain_region(cam: Tensor, low: float, high: float) -> Tensor:
    """Where the strongest activation is neither background nor foreground for sure.

    Eq. (9): low < max_c A_c < high.

    Args:
        cam: (B, C, h, w) in [0, 1]; to look at the tagged classes only, pass `cam.tagged(...)`.
        low, high: l_th and h_th in [0, 1]; at equality with either a token is not in the region.
    Returns:
        (B, h, w) bool.
    Raises:
        ValueError: unless 0 <= low <= high <= 1.
    Source: the paper, Eq. 9.
    """
    if not 0 <= low <= high <= 1:
        raise ValueError(f"thresholds must satisfy 0 <= low <= high <= 1, got low={low}, high={high}")
    strongest = cam.amax(1)
    return (strongest > low) & (strongest < high)


def uncertain_region_loss(
    student: Tensor,
    teacher: Tensor,
    region: Tensor,
    *,
    centre: Tensor | None = None,
    student_temperature: float = 1.0,
    teacher_temperature: float = 1.0,
) -> Tensor:
    """Cross-entropy from the student's softmax to the teacher's log-softmax, averaged over the uncertain region.

    Eq. (10), over the regions of a batch as one (`exchange_losses` and `region_means` give it by image). With both
    temperatures 1 and no centre this is the paper's formula as printed; DINO's centring and sharpening of the target
    keep the projections from collapsing to one output.

    Args:
        student, teacher: projected tokens (B, K, h, w).
        region: (B, h, w) bool, from `uncertain_region`.
        centre, student_temperature, teacher_temperature: as in `exchange_losses`.
    Returns:
        A scalar >= 0, in nats; 0 with zero gradient when the region is empty.
    Source: the paper, Eq. 10; Caron et al. 2021 for centring and temperatures.
    """
    losses = exchange_losses(
        student, teacher, centre=centre, student_temperature=student_temperature, teacher_temperature=teacher_temperature
    )
    return torch.where(region, losses, 0).sum() / region.sum().to(losses.dtype).clamp_min(1)


def exchange_losses(
    student: Tensor, teacher: Tensor, *, centre: Tensor | None, student_temperature: float, teacher_temperature: float
) -> Tensor:
    """What Eq. 10 averages: at each token the cross-entropy from the student's softmax to the teacher's log-softmax.

    The student's side is the target and takes no gradient: after warm-up it only follows by EMA.

    Args:
        student, teacher: projected tokens (B, K, h, w).
        centre: (K,) subtracted from the student's outputs, or None.
        student_temperature, teacher_temperature: > 0; a lower one sharpens.
    Returns:
        (B, h, w) >= 0, in nats.
    """
    student = student.detach().float()
    if centre is not None:
        student = student - centre[:, None, None]
    target = (student / student_temperature).softmax(1)
    log_prediction = (teacher.float() / teacher_temperature).log_softmax(1)
    return -(target * log_prediction).sum(1)


def region_means(losses: Tensor, region: Tensor) -> Tensor:
    """The mean of losses (R,), those of the places of a region (B, h, w) in their order, in each image that has some: (I,)."""
    image = region.nonzero()[:, 0]  # (R,)
    counts = region.flatten(1).sum(1)
    sums = losses.new_zeros(len(region)).index_add(0, image, losses)
    return (sums / counts.to(losses.dtype).clamp_min(1))[counts > 0]


@torch.no_grad()
def centre_update(centre: Tensor, mean: Tensor, momentum: float) -> None:
    """Move the centre (K,) towards the mean (K,) of the student's projections, in place (Caron et al. 2021)."""
    centre.lerp_(mean, 1 - momentum)
