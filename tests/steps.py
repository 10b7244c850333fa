"""One step of a method on a small batch, for the tests that look into it."""

import copy
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from dsgc.cam import class_activation_map
from dsgc.methods.contract import Mean, Part, Stage, over_all
from dsgc.objective import total_loss
from dsgc.runs.parallel import accelerator_of
from dsgc.training.step import backward

CLASSES = 6
TAGS = torch.tensor([[1, 0, 1, 0, 0, 0], [0, 1, 0, 0, 0, 0], [0, 0, 0, 1, 1, 1]], dtype=torch.float32)


class Taken(NamedTuple):
    """What a method makes of one batch in one piece."""

    losses: dict[str, Tensor]  # scalars by name, with their graph
    stage: Stage
    goals: Any

    def backward(self) -> None:
        """Leave the gradients of the weighted sum in the networks."""
        total_loss(self.losses, self.stage.weights).backward()


def smooth(seed, tags):
    """Smooth images, their activations, tags (B, 5) and tokens, as a method makes labels of them."""
    generator = torch.Generator().manual_seed(seed)
    images = F.interpolate(torch.rand(len(tags), 3, 6, 6, generator=generator), (48, 48), mode="bilinear")
    tokens = F.interpolate(torch.randn(len(tags), 8, 3, 3, generator=generator), (6, 6), mode="bilinear")
    activation = class_activation_map(tokens, torch.randn(5, 8, generator=generator))
    return images, activation, torch.tensor(tags).float(), tokens


def stage_of(config, name):
    """The first stage of a run that has this name."""
    stages = (config.method.stage(number, config.steps) for number in range(config.steps))
    return next(stage for stage in stages if stage.name == name)


def stages_of(config):
    """The names of a run's stages, in their order."""
    return tuple(dict.fromkeys(config.method.stage(number, config.steps).name for number in range(config.steps)))


def networks_of(pair, config):
    """The networks of a method, by name: as many of the two as it has, with the heads that it adds, the same each time."""
    networks = dict(zip(config.method.networks, pair, strict=False))
    for number, network in enumerate(networks.values()):
        with torch.random.fork_rng():
            torch.manual_seed(number)
            if not network.more:
                network.more.update(config.method.heads(network, CLASSES))
    return networks


def step(pair, images, stage, config, tags=TAGS, masks=None, memory=None):
    """One step in the first stage of this name; the memory is that of the start, unless another is given."""
    method, networks = config.method, networks_of(pair, config)
    part, stage = Part(images, tags, torch.arange(len(images)), masks, images.flip(-2)), stage_of(config, stage)
    seen = method.passes(networks, part, stage)
    with torch.no_grad():
        goals = method.goals(networks, seen, part, stage)
    means = method.losses(networks, seen, goals, part, stage, method.memory(networks) if memory is None else memory)
    return Taken(over_all(means, counted(means)), stage, goals)


def counted(*parts):
    """What the means of a batch are over, all its parts together; by name."""
    return {name: sum(torch.as_tensor(means[name].over).double() for means in parts) for name in parts[0]}


def added(means):
    """What each part of a batch adds to the batch's loss, from the mean of each part (a pair of value and count)."""
    parts = [{"loss": Mean(*mean)} for mean in means]
    return [over_all(part, counted(*parts))["loss"] for part in parts]


def uneven_batch(masks=False):
    """Eight images that differ in how many tags, labelled pixels and pairs of tokens they have; the first has no tag."""
    generator = torch.Generator().manual_seed(3)
    images = torch.nn.functional.interpolate(torch.rand(8, 3, 5, 5, generator=generator), (32, 32), mode="bilinear")
    tags = (torch.rand(8, CLASSES, generator=generator) < 0.3).float()
    true = torch.randint(0, CLASSES + 1, (8, 32, 32), generator=generator)
    true[:3], true[3] = 255, 0
    return Part(images, tags, torch.arange(8), true if masks else None, images.flip(-2))


def in_parts(batch, parts, share=(0, 1)):
    """Those parts of a batch that process number `share[0]` of `share[1]` has, each process having as many."""
    number, processes = share
    columns = [[None] * parts * processes if column is None else column.chunk(parts * processes) for column in batch]
    return [Part(*rows) for rows in zip(*columns, strict=True)][number * parts : (number + 1) * parts]


def gradients(pair, parts, stage, config):
    """What `backward` gives for copies of the networks, and the gradients that it leaves, by network and parameter."""
    networks = networks_of(copy.deepcopy(pair), config)
    memory = config.method.memory(networks)
    memory = {name: torch.linspace(-0.1, 0.1, value.numel()).view(value.shape) for name, value in memory.items()}
    made = backward(config.method, networks, parts, stage_of(config, stage), memory, accelerator_of(config))
    named = ((f"{name}.{key}", value) for name, network in networks.items() for key, value in network.named_parameters())
    return made, {name: value.grad for name, value in named if value.grad is not None}
