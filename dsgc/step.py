"""The gradients of one training step, from a batch that comes in parts: several passes, several processes, one result.

What a loss is divided by (pairs, tokens of the uncertain region, labelled pixels) depends on what the networks see. With
one part a process that is known before the backward pass. With more, all parts are first looked at without a graph, and
then passed again one by one: memory is that of a part, and the price is one more pass of the teacher without a graph.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from accelerate import Accelerator
from torch import Tensor

from dsgc import method, parallel
from dsgc.config import Config
from dsgc.method import Goals
from dsgc.network import Network, Output
from dsgc.objective import Stage, labelled, total_loss


class Part(NamedTuple):
    images: Tensor  # (B, 3, S, S) in [0, 1]
    tags: Tensor  # (B, C)
    masks: Tensor | None  # (B, S, S), where masks supervise


class Step(NamedTuple):
    """Of the whole batch, the same in every process."""

    losses: dict[str, Tensor]  # scalars by name, "all" being their weighted sum
    monitors: dict[str, Tensor]  # as `method.monitors` has them, mean over the parts
    projected: Tensor | None  # (K,) mean of the student's projections, for the centre of Eq. 10


def backward(
    teacher: Network,
    student: Network | None,
    parts: Sequence[Part],
    stage: Stage,
    weights: method.Weights,
    centre: Tensor,
    config: Config,
    accelerator: Accelerator,
) -> Step:
    """Leave the gradients of the batch's loss in the networks. `parts` are this process's, all parts of all being of one size."""
    alone, looked = len(parts) == 1, [None] * len(parts)
    if not alone:
        with accelerator.autocast():  # a block of its own: weights cast here without a graph are not to be used below
            looked = [_look(teacher, student, part, stage, weights, config) for part in parts]
    total = None if alone else parallel.total([counts for counts, _, _ in looked])
    results = []
    for part, before in zip(parts, looked, strict=True):
        with accelerator.autocast():
            result = _losses(teacher, student, part, before, total, stage, weights, centre, config)
        loss = total_loss(result.losses, weights)
        loss.backward()
        results.append(({"all": loss} | result.losses, method.monitors(result, centre, config), result.projected))
    for network in [teacher] + [student] * (stage == "warm-up" and student is not None):
        parallel.sum_gradients(network)

    losses, monitors, projected = zip(*results, strict=True)
    share = 1 / (len(parts) * parallel.rank_and_size()[1])
    summed = {name: sum(part[name].detach() for part in losses) for name in losses[0]}
    means = {name: sum(part[name] for part in monitors) * share for name in monitors[0]}
    mean = None if projected[0] is None else sum(part.float().mean((0, 2, 3)) for part in projected) * share
    parallel.sum_tensors([*summed.values(), *means.values(), *([] if mean is None else [mean])])
    return Step(summed, means, mean)


@torch.no_grad()
def _look(
    teacher: Network, student: Network | None, part: Part, stage: Stage, weights: method.Weights, config: Config
) -> tuple[method.Counts, Goals | None, Output | None]:
    """A part's counts and goals, and the student's output where it is not passed again."""
    if part.masks is not None:
        return _mask_counts(part), None, None
    seen = teacher(part.images.flip(-1))
    following = None if stage == "warm-up" else method.follow(student, part.images, stage, weights, config)
    aims = method.goals(teacher, student, seen, following, part.images, part.tags, weights, config)
    return aims.counts(part.tags), aims, following


def _losses(
    teacher: Network,
    student: Network | None,
    part: Part,
    looked: tuple[method.Counts, Goals | None, Output | None] | None,
    total: method.Counts | None,
    stage: Stage,
    weights: method.Weights,
    centre: Tensor,
    config: Config,
) -> method.StepResult:
    """What a part adds to the losses of the batch."""
    if part.masks is not None:
        whole = parallel.total([_mask_counts(part)]) if total is None else total
        return method.mask_losses(teacher, part.images, part.masks, whole.labelled, config)
    _, aims, following = looked or (None, None, None)
    seen = teacher(part.images.flip(-1))
    if following is None:
        following = method.follow(student, part.images, stage, weights, config)
    if aims is None:
        aims = method.goals(teacher, student, seen, following, part.images, part.tags, weights, config)
    whole = parallel.total([aims.counts(part.tags)]) if total is None else total
    found = method.losses(teacher, seen, following, part.tags, aims, whole, stage, weights, centre, config)
    return method.StepResult(found, aims.labels, aims.projected)


def _mask_counts(part: Part) -> method.Counts:
    none = Goals(None, None, None, None).counts(part.tags)
    return none._replace(labelled=labelled(part.masks))
