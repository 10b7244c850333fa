"""Mean intersection over union from a streaming confusion matrix (Eq. 24)."""

import torch
from torch import Tensor


class ConfusionMatrix:
    """Counts of (target, prediction) pairs, updated batch by batch; memory does not grow with the data.

    Eq. (24). Source: the paper; Everingham et al. 2015.

    Args:
        num_classes: K, background included.
        ignore_index: the target value whose pixels are left out.
    """

    def __init__(self, num_classes: int, ignore_index: int = 255, device: torch.device | str = "cpu"):
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.counts = torch.zeros(num_classes, num_classes, dtype=torch.int64, device=device)  # rows: target

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Add a batch. prediction and target: integer tensors of one shape, values 0..K-1; target may be `ignore_index`.

        Raises:
            ValueError: shapes differ, or a value is outside the range (the message names it).
        """
        if prediction.shape != target.shape:
            raise ValueError(f"prediction {tuple(prediction.shape)} and target {tuple(target.shape)} differ in shape")
        keep = target != self.ignore_index
        prediction, target = prediction[keep].long(), target[keep].long()
        for name, values in (("prediction", prediction), ("target", target)):
            low, high = (int(values.min()), int(values.max())) if values.numel() else (0, 0)
            if low < 0 or high >= self.num_classes:
                raise ValueError(f"{name} has labels {low}..{high}; allowed are 0..{self.num_classes - 1}")
        pairs = target * self.num_classes + prediction
        self.counts += torch.bincount(pairs, minlength=self.num_classes**2).view_as(self.counts)

    def iou(self) -> Tensor:
        """Intersection over union of each class (K,) float64 in [0, 1]; NaN for a class in neither target nor prediction."""
        intersection = self.counts.diagonal().double()
        union = self.counts.sum(0) + self.counts.sum(1) - self.counts.diagonal()
        return torch.where(union > 0, intersection / union.clamp_min(1), torch.nan)

    def mean_iou(self) -> float:
        """Mean of `iou` over the classes that occur, in [0, 1]; NaN if nothing was counted."""
        return float(self.iou().nanmean())
