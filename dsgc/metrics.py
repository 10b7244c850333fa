"""Mean intersection over union from a streaming confusion matrix (Eq. 24), the pointing game, and how well tags are told."""

import torch
import torch.nn.functional as F
from torch import Tensor

PIXELS = 2**18  # counted at a time, as many as a core's cache holds from one operation to the next


class ConfusionMatrix:
    """Counts of (target, prediction) pairs, updated batch by batch; memory does not grow with the data.

    Eq. (24). Source: the paper; Everingham et al. 2015.

    A prediction may leave pixels out, as a pseudo label does. `iou` is over those that it labels, so that leaving out what is
    hard raises it; `strict_iou` counts the others as missed, and `coverage` says how many are labelled.

    Args:
        num_classes: K, background included.
        ignore_index: the target value whose pixels do not count; as a prediction, that the pixel is left out.
    """

    def __init__(self, num_classes: int, ignore_index: int = 255, device: torch.device | str = "cpu"):
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.counts = torch.zeros(num_classes, num_classes, dtype=torch.int64, device=device)  # rows: target
        self.missed = torch.zeros(num_classes, dtype=torch.int64, device=device)  # by target class, left out by the prediction

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Add a batch. prediction and target: integer tensors of one shape, values 0..K-1 or `ignore_index`.

        Raises:
            ValueError: shapes differ, or a value is outside the range (the message names it).
        """
        if prediction.shape != target.shape:
            raise ValueError(f"prediction {tuple(prediction.shape)} and target {tuple(target.shape)} differ in shape")
        classes, first = self.num_classes, min(0, self.ignore_index)
        rows = max(classes, self.ignore_index + 1) - first  # one for each value up to `ignore_index`: no pixel need be left out
        table = self.counts.new_zeros(rows * classes)
        for p, t in zip(prediction.flatten().split(PIXELS), target.flatten().split(PIXELS), strict=True):
            if not (_within(p, 0, classes) and _within(t, first, first + rows)):  # refused, unless it is ignored or left out
                return self.update(*self._that_count(prediction, target))
            pairs = torch.add(p.int(), t.int(), alpha=classes).sub_(first * classes)
            table += torch.bincount(pairs, minlength=len(table))
        table = table.view(rows, classes)
        table[self.ignore_index - first] = 0
        counts = table[-first : classes - first]
        if counts.sum() < table.sum():  # a target between the last class and `ignore_index`
            self._that_count(prediction, target)
        self.counts += counts

    def _that_count(self, prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """The pixels that are not ignored and have a label; counts those that have none, and refuses labels outside the range."""
        keep = target != self.ignore_index
        prediction, target = prediction[keep], target[keep]
        left_out = (prediction == self.ignore_index) & (not 0 <= self.ignore_index < self.num_classes)
        labelled = prediction[~left_out]
        for name, values in (("prediction", labelled), ("target", target)):
            if not _within(values, 0, self.num_classes):
                low, high = int(values.min()), int(values.max())
                raise ValueError(f"{name} has labels {low}..{high}; allowed are 0..{self.num_classes - 1}")
        self.missed += torch.bincount(target[left_out], minlength=self.num_classes)
        return labelled, target[~left_out]

    def iou(self) -> Tensor:
        """Intersection over union of each class (K,) float64 in [0, 1]; NaN for a class in neither target nor prediction."""
        return self._iou(missed=torch.zeros_like(self.missed))

    def strict_iou(self) -> Tensor:
        """`iou` where a pixel that is left out belongs to the union of its true class, never to the intersection."""
        return self._iou(self.missed)

    def _iou(self, missed: Tensor) -> Tensor:
        intersection = self.counts.diagonal().double()
        union = self.counts.sum(0) + self.counts.sum(1) - self.counts.diagonal() + missed
        return torch.where(union > 0, intersection / union.clamp_min(1), torch.nan)

    def mean_iou(self) -> float:
        """Mean of `iou` over the classes that occur, in [0, 1]; NaN if nothing was counted."""
        return float(self.iou().nanmean())

    def mean_strict_iou(self) -> float:
        """Mean of `strict_iou` over the classes that occur, in [0, 1]; NaN if nothing was counted."""
        return float(self.strict_iou().nanmean())

    def coverage(self) -> float:
        """Share of the pixels that the prediction labels, in [0, 1]; NaN if nothing was counted."""
        return float(self.counts.sum() / (self.counts.sum() + self.missed.sum()))


def _within(values: Tensor, first: int, end: int) -> bool:
    if not values.numel():
        return True
    low, high = values.aminmax()
    return first <= int(low) and int(high) < end


class PointingGame:
    """How often the place where a class is said the loudest lies on an object of that class, updated batch by batch.

    Source: Zhang et al. 2018; here without their tolerance of 15 pixels, since a token stands for its whole patch.
    """

    def __init__(self, classes: int, device: torch.device | str = "cpu"):
        self.hits = torch.zeros(classes, dtype=torch.int64, device=device)  # images, by class
        self.shown = torch.zeros(classes, dtype=torch.int64, device=device)

    def update(self, maps: Tensor, tags: Tensor, masks: Tensor) -> None:
        """Add a batch: scores (B, C, h, w) of classes at places, tags (B, C), masks (B, H, W) with labels 1..C.

        A place is a hit where any pixel of it has the class. A tag of which no pixel has the class does not count.
        """
        image, label = tags.nonzero(as_tuple=True)  # (P,) pairs of an image and one of its tags
        on_object = (masks[image] == label[:, None, None] + 1).float()
        on_object = F.adaptive_max_pool2d(on_object[:, None], maps.shape[-2:]).flatten(1) > 0  # (P, h w)
        shown = on_object.any(1)
        hit = on_object.gather(1, maps[image, label].flatten(1).argmax(1, keepdim=True))[:, 0]
        self.hits += torch.bincount(label[hit], minlength=len(self.hits))
        self.shown += torch.bincount(label[shown], minlength=len(self.shown))

    def by_class(self) -> list[float]:
        """Share of hits of each class, in [0, 1]; NaN for one that was not shown."""
        return (self.hits / self.shown).tolist()


def average_precision(scores: Tensor, tags: Tensor) -> Tensor:
    """How well images that have a tag are ranked before those that have not: the area under precision over recall, by steps.

    scores (N, C) of any range, tags (N, C) in {0, 1} -> (C,) float64 in [0, 1]; NaN for a class that no image has. Images of equal
    scores count together, in whatever order they stand.
    """
    found = []
    for score, tag in zip(scores.double().T, tags.double().T, strict=True):
        order = score.argsort(descending=True)
        score, hits = score[order], tag[order].cumsum(0)
        last = torch.cat([score[1:] != score[:-1], score.new_ones(min(len(score), 1), dtype=torch.bool)])  # of each group of equals
        hits, seen = hits[last], torch.arange(1, len(score) + 1, device=score.device)[last]
        gained = torch.diff(hits, prepend=hits.new_zeros(1))
        found.append((gained * hits / seen).sum() / tag.sum())
    return torch.stack(found)


def f1_scores(told: Tensor, tags: Tensor) -> Tensor:
    """The harmonic mean of precision and recall of tags that are told: (N, C) and (N, C) in {0, 1} -> (C,) float64 in [0, 1]; NaN for a
    class that no image has."""
    told, tags = told.double(), tags.double()
    found = 2 * (told * tags).sum(0) / (told.sum(0) + tags.sum(0)).clamp_min(1)
    return torch.where(tags.sum(0) > 0, found, torch.nan)
