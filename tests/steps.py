"""One step of the method on a small batch, for the tests that look into it."""

import torch

from dsgc import method
from dsgc.train import loss_weights

CLASSES = 6
TAGS = torch.tensor([[1, 0, 1, 0, 0, 0], [0, 1, 0, 0, 0, 0], [0, 0, 0, 1, 1, 1]], dtype=torch.float32)


def step(pair, images, stage, config):
    """The result of one step and the weights of its losses."""
    weights = loss_weights(stage, config)
    centre = torch.zeros(config.projector[2])
    result = method.step_losses(*pair, images, TAGS, stage=stage, weights=weights, centre=centre, config=config)
    return result, weights
