"""One step of the method on a small batch, for the tests that look into it."""

import copy

import torch

from dsgc import method
from dsgc.build import accelerator_of
from dsgc.learner import loss_weights
from dsgc.step import Part, backward

CLASSES = 6
TAGS = torch.tensor([[1, 0, 1, 0, 0, 0], [0, 1, 0, 0, 0, 0], [0, 0, 0, 1, 1, 1]], dtype=torch.float32)


def step(pair, images, stage, config):
    """The result of one step and the weights of its losses."""
    weights = loss_weights(stage, config)
    centre = torch.zeros(config.projector[2])
    result = method.step_losses(*pair, images, TAGS, stage=stage, weights=weights, centre=centre, config=config)
    return result, weights


def uneven_batch(masks=False):
    """Eight images that differ in how many tags, labelled pixels and pairs of tokens they have; the first has no tag."""
    generator = torch.Generator().manual_seed(3)
    images = torch.nn.functional.interpolate(torch.rand(8, 3, 5, 5, generator=generator), (32, 32), mode="bilinear")
    tags = (torch.rand(8, CLASSES, generator=generator) < 0.3).float()
    true = torch.randint(0, CLASSES + 1, (8, 32, 32), generator=generator)
    true[:3], true[3] = 255, 0
    return Part(images, tags, true if masks else None)


def in_parts(batch, parts, share=(0, 1)):
    """Those parts of a batch that process number `share[0]` of `share[1]` has, each process having as many."""
    number, processes = share
    columns = [[None] * parts * processes if column is None else column.chunk(parts * processes) for column in batch]
    return [Part(*rows) for rows in zip(*columns, strict=True)][number * parts : (number + 1) * parts]


def gradients(pair, parts, stage, config):
    """What `backward` gives for copies of the networks, and the gradients that it leaves, by network and parameter."""
    teacher, student = copy.deepcopy(pair)
    if not config.distillation or config.supervision == "masks":
        student = None
    centre = torch.linspace(-0.1, 0.1, config.projector[2])
    made = backward(teacher, student, parts, stage, loss_weights(stage, config), centre, config, accelerator_of(config))
    networks = {"teacher": teacher} | ({} if student is None else {"student": student})
    named = ((f"{name}.{key}", value) for name, network in networks.items() for key, value in network.named_parameters())
    return made, {name: value.grad for name, value in named if value.grad is not None}
