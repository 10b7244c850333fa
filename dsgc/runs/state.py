"""All that the next step of a run depends on, as named tensors: optimisers, what the method remembers, random generators.

The networks' weights are kept beside it, in files of their own. Data order, augmentation, learning rate, momentum and stage
need no state: they are functions of the seed and of the step.
"""

import random
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from dsgc.errors import UserError, first_line


def gather(
    networks: Mapping[str, nn.Module], optimisers: Mapping[str, torch.optim.Optimizer], memory: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The state by name, ready to be written."""
    found = {f"memory.{name}": value for name, value in memory.items()}
    for name, network in networks.items():
        for parameter, value in network.named_parameters():
            for key, tensor in optimisers[name].state.get(value, {}).items():
                found[f"optimiser.{name}.{key}.{parameter}"] = tensor
    return found | _generators()


def restore(
    found: Mapping[str, Tensor],
    networks: Mapping[str, nn.Module],
    optimisers: Mapping[str, torch.optim.Optimizer],
    memory: Mapping[str, Tensor],
) -> None:
    """Put everything back that `gather` took. Raises `UserError` if it belongs to other networks."""
    remembered = {f"memory.{name}": value for name, value in memory.items()}
    lacking = {*remembered, *_generators()} - {"random.cuda"} - set(found)
    if lacking:
        raise UserError(f"the state has no {min(lacking)}: it was not written by a training run")
    left = {name for name in found if name not in remembered and not name.startswith("random.")}
    for name, network in networks.items():
        for parameter, value in network.named_parameters():
            entries = {key: found.get(f"optimiser.{name}.{key}.{parameter}") for key in ("step", "exp_avg", "exp_avg_sq")}
            if entries["step"] is None:  # it had no gradient yet
                continue
            shapes = {"step": torch.Size(), "exp_avg": value.shape, "exp_avg_sq": value.shape}
            if any(entries[key] is None or entries[key].shape != shape for key, shape in shapes.items()):
                raise UserError(f"the optimiser's state of {name}'s {parameter} is of another network")
            places = {"step": value.device if optimisers[name].defaults["fused"] else "cpu"}  # where AdamW keeps its counter
            optimisers[name].state[value] = {
                key: tensor.to(places.get(key, value.device), copy=True) for key, tensor in entries.items()
            }
            left -= {f"optimiser.{name}.{key}.{parameter}" for key in entries}
    if left:
        raise UserError(f"the state holds {len(left)} tensors that these networks have no place for, as {min(left)}")
    for name, value in remembered.items():
        if found[name].shape != value.shape:
            raise UserError(f"the state's {name} has {found[name].numel()} numbers, this network's {value.numel()}: it is of another")
        value.copy_(found[name])
    words, (kind, keys, _, *rest) = found["random.numpy"].numpy(), np.random.get_state()
    try:
        if words.shape != (len(keys) + 1,) or not 0 <= words[-1] <= len(keys):  # numpy itself would read on beyond its words
            raise ValueError("numpy's is of another size")
        torch.set_rng_state(found["random.torch"])
        if "random.cuda" in found and torch.cuda.is_available():
            torch.cuda.set_rng_state(found["random.cuda"])
        np.random.set_state((kind, words[:-1].astype(np.uint32), int(words[-1]), *rest))
        version, _, gauss = random.getstate()
        random.setstate((version, tuple(found["random.python"].tolist()), gauss))
    except (RuntimeError, TypeError, ValueError, OverflowError) as error:
        raise UserError(f"the state of the random generators cannot be put back ({first_line(error)}): it is damaged") from error


def _generators() -> dict[str, Tensor]:
    _, keys, position, *_ = np.random.get_state()
    found = {
        "random.torch": torch.get_rng_state(),
        "random.numpy": torch.from_numpy(np.append(keys.astype(np.int64), position)),
        "random.python": torch.tensor(random.getstate()[1], dtype=torch.int64),
    }
    return found | ({"random.cuda": torch.cuda.get_rng_state()} if torch.cuda.is_available() else {})
