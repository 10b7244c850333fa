"""One step's batch over several processes, and in several parts within each: what is summed over all of them.

A mean over pairs, regions or pixels is a mean over those of the whole batch. So each process and each part divides its sums by
the counts of the batch, and gradients are summed, not averaged: any division of a batch gives the same step within
float error. (Averaging the means of the parts, as wrapping the model does, would weigh a pair in a poor part more.)
"""

from collections.abc import Iterable, Mapping, Sequence

import torch
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn

from dsgc.config import Config
from dsgc.errors import UserError, first_line


def accelerator_of(config: Config) -> Accelerator:
    """The device and the precision that a config asks for. Raises `UserError` where the device has no such precision.

    accelerate keeps both for the whole process; they are forgotten first, so that runs with others can follow each other.
    """
    AcceleratorState._reset_state(reset_partial_state=True)
    try:
        return Accelerator(cpu=config.device == "cpu", mixed_precision=config.precision)
    except ValueError as error:
        raise UserError(f"precision {config.precision}: {first_line(error)}; take --precision no") from error


def rank_and_size() -> tuple[int, int]:
    """This process's number and how many there are: (0, 1) where there is no process group."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_available() and dist.is_initialized() else (0, 1)


def part_size(batch: int, processes: int, accumulate: int) -> int:
    """Images in a part. Raises `UserError` unless all parts of the batch are of one size."""
    if batch % (processes * accumulate):
        raise UserError(
            f"batch_size {batch}: must be a multiple of processes x accumulate, {processes} x {accumulate} = {processes * accumulate}"
        )
    return batch // (processes * accumulate)


def total(parts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Counts of the batch by name, from those of this process's parts; every part and process has the same names and shapes."""
    flat = torch.stack([torch.cat([value.reshape(-1) for value in counts.values()]) for counts in parts]).sum(0)
    sum_tensors([flat])
    sizes = [value.numel() for value in parts[0].values()]
    return {name: value.view_as(parts[0][name]) for name, value in zip(parts[0], flat.split(sizes), strict=True)}


def sum_tensors(tensors: Iterable[Tensor]) -> None:
    """Replace tensors by their sums over all processes, in place and in one message."""
    tensors = list(tensors)
    if rank_and_size()[1] == 1 or not tensors:
        return
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
    dist.all_reduce(flat)
    for tensor, value in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(value.view_as(tensor))


def sum_gradients(network: nn.Module) -> None:
    """Sum the gradients of a network over all processes; a parameter without a gradient has none in any of them."""
    sum_tensors(p.grad for p in network.parameters() if p.grad is not None)


def same_everywhere(network: nn.Module) -> None:
    """Give every process the first one's weights."""
    if rank_and_size()[1] > 1:
        for tensor in network.state_dict().values():
            dist.broadcast(tensor, src=0)
