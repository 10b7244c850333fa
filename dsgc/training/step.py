"""The gradients of one training step, from a batch that comes in parts: several passes, several processes, one result.

What a loss is a mean over (pairs, tokens of a region, labelled pixels) depends on what the networks see. With one part a
process that is known before the backward pass. With more, all parts are first looked at without a graph, and then passed
again one by one: memory is that of a part, and the price is one more pass without a graph of whatever learns.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from accelerate import Accelerator
from torch import Tensor

from dsgc.methods.contract import Method, Networks, Part, Stage, State, over_all
from dsgc.objective import total_loss
from dsgc.runs import parallel


class Step(NamedTuple):
    """Of the whole batch, the same in every process."""

    losses: dict[str, Tensor]  # scalars by name, "all" being their weighted sum
    watched: dict[str, Tensor]  # as `Method.watched` has them, mean over the parts


def backward(
    method: Method, networks: Networks, parts: Sequence[Part], stage: Stage, memory: State, accelerator: Accelerator
) -> Step:
    """Leave the gradients of the batch's loss in the networks. `parts` are this process's, all parts of all being of one size."""
    alone, whole = len(parts) == 1, {}
    looked = []
    if not alone:
        with torch.no_grad(), accelerator.autocast():  # a block of its own: weights cast here without a graph are not to be used below
            looked = [_look(method, networks, part, stage, memory) for part in parts]
        whole = parallel.total([counts for _, counts in looked])
    losses, watched = [], []
    for number, part in enumerate(parts):
        with accelerator.autocast():
            seen = method.passes(networks, part, stage)
            goals = _goals(method, networks, seen, part, stage) if alone else looked[number][0]
            means = method.losses(networks, seen, goals, part, stage, memory)
        found = over_all(means, parallel.total([_counts(means)]) if alone else whole)
        found = {"all": total_loss(found, stage.weights)} | found
        found["all"].backward()
        losses.append({name: value.detach() for name, value in found.items()})
        with torch.no_grad():
            watched.append(method.watched(goals, memory))
    for name in stage.learning:
        parallel.sum_gradients(networks[name])

    share = 1 / (len(parts) * parallel.rank_and_size()[1])
    summed = {name: sum(part[name] for part in losses) for name in losses[0]}
    mean = {name: sum(part[name] for part in watched) * share for name in watched[0]}
    parallel.sum_tensors([*summed.values(), *mean.values()])
    return Step(summed, mean)


@torch.no_grad()
def _goals(method: Method, networks: Networks, seen: object, part: Part, stage: Stage) -> object:
    return method.goals(networks, seen, part, stage)


def _look(method: Method, networks: Networks, part: Part, stage: Stage, memory: State) -> tuple[object, dict[str, Tensor]]:
    """A part's goals, and what its losses are means over."""
    seen = method.passes(networks, part, stage)
    goals = method.goals(networks, seen, part, stage)
    return goals, _counts(method.losses(networks, seen, goals, part, stage, memory))


def _counts(means: dict) -> dict[str, Tensor]:
    """What each loss is a mean over, in float64, so that parts add up exactly."""
    return {name: torch.as_tensor(over, device=value.device).double() for name, (value, over) in means.items()}
