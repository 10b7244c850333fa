"""Random numbers of a step. An image's are its own: they do not depend on the part or process that it is in, nor on what ran before."""

import numpy as np
import torch
from torch import Tensor


def uniform(seeds: Tensor, purpose: str, *shape: int) -> Tensor:
    """Numbers in [0, 1) for images with seeds (B,): (B, ...) float32, of that shape, on the CPU.

    purpose: what they are for; another word gives other numbers.
    """
    word = int.from_bytes(purpose.encode(), "little")
    drawn = [np.random.default_rng((seed, word)).random(shape, dtype=np.float32) for seed in seeds.tolist()]
    return torch.from_numpy(np.stack(drawn)) if drawn else torch.empty(0, *shape)
