"""Pre-training of the `shapes` encoder, in the place that ImageNet has in the paper.

One object an image, one class label an image, and classes (`shapes.pretraining_kinds`) that do not occur in the data set.
`python -m dsgc pretrain dsgc/network/shapes_encoder.safetensors` makes the file that ships with the package.
"""

import contextlib
import math
from multiprocessing import Pool
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm import tqdm

from dsgc.data import shapes
from dsgc.errors import UserError, check_writable, first_line
from dsgc.network.vit import create_encoder
from dsgc.runs.disk import rename

ENCODER, CROP = "dsgc_vit_nano_patch8", 96  # pixels
HELD_OUT = 500  # images on which accuracy is told
CHUNK = 100  # images a task of the pool


class Recipe(NamedTuple):
    """How the shipped weights were made."""

    kinds: int = 48
    images: int = 12_000
    steps: int = 3_000
    batch: int = 32
    lr: float = 1e-3
    weight_decay: float = 0.05
    label_smoothing: float = 0.05
    seed: int = 0


def pretrain(out: Path, recipe: Recipe = Recipe()) -> float:
    """Train the encoder to name the one object of each image and write it to `out` in float16; returns held-out accuracy.

    Raises:
        UserError: a recipe that cannot be, a file of another ending, or one that cannot be written.
    """
    _check(out, recipe)
    images, labels = _images(recipe)
    torch.manual_seed(recipe.seed)
    rng = np.random.default_rng(recipe.seed)
    encoder = create_encoder(ENCODER, CROP)
    head = nn.Linear(2 * encoder.embed_dim, recipe.kinds)
    optimiser = torch.optim.AdamW([*encoder.parameters(), *head.parameters()], lr=recipe.lr, weight_decay=recipe.weight_decay)
    accuracy = 0.0
    with tqdm(total=recipe.steps, unit="step", desc="pretrain") as bar:
        for step in range(recipe.steps):
            for group in optimiser.param_groups:
                group["lr"] = recipe.lr * min(1, step / 200) * 0.5 * (1 + math.cos(math.pi * step / recipe.steps))
            chosen = torch.from_numpy(rng.integers(HELD_OUT, len(images), recipe.batch))
            logits = _logits(encoder, head, _crop(images[chosen], rng))
            loss = F.cross_entropy(logits, labels[chosen], label_smoothing=recipe.label_smoothing)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(encoder.parameters(), 1.0)
            optimiser.step()
            bar.update()
            if (step + 1) % 250 == 0 or step + 1 == recipe.steps:
                accuracy = _accuracy(encoder, head, images[:HELD_OUT], labels[:HELD_OUT])
                bar.set_postfix(loss=f"{loss.item():.2f}", held_out_accuracy=f"{accuracy:.3f}")
    partial = out.with_name(out.name + ".partial")
    about = {key: str(value) for key, value in recipe._asdict().items()} | {"held_out_accuracy": f"{accuracy:.3f}"}
    try:
        save_file({key: value.half().contiguous() for key, value in encoder.state_dict().items()}, partial, metadata=about)
        rename(partial, out)
    except (OSError, SafetensorError) as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise UserError(f"{out}: cannot be written ({first_line(error)}); make room, or name another file") from error
    return accuracy


def _check(out: Path, recipe: Recipe) -> None:
    """Refuse, before hours of training, what cannot be trained or kept."""
    if out.suffix != ".safetensors" or out.is_dir():
        raise UserError(f"{out}: must be the name of a .safetensors file")
    least = Recipe(kinds=2, images=HELD_OUT + 1, steps=1, batch=1, lr=0, weight_decay=0, label_smoothing=0, seed=0)
    most = dict.fromkeys(Recipe._fields, 10**9) | {"kinds": len(shapes.pretraining_kinds(10**9)), "label_smoothing": 1}
    for name, value in recipe._asdict().items():
        if not getattr(least, name) <= value <= most[name]:
            raise UserError(f"{name} {value}: must be from {getattr(least, name)} to {most[name]}")
    check_writable(out.parent)


def _draw(task: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    seed, first, kinds = task
    known = shapes.pretraining_kinds(kinds)
    scenes = [shapes.scene(np.random.default_rng((seed, 99, i)), known, 1) for i in range(first, first + CHUNK)]
    scenes = [scene for scene in scenes if scene[2]]  # now and then no place is found for the object
    return np.stack([image for image, _, _ in scenes]), np.array([placed[0] for _, _, placed in scenes])


def _images(recipe: Recipe) -> tuple[Tensor, Tensor]:
    """Images (N, 3, 128, 128) uint8 and labels (N,)."""
    tasks = [(recipe.seed, first, recipe.kinds) for first in range(0, recipe.images, CHUNK)]
    with Pool() as pool:
        parts = list(tqdm(pool.imap(_draw, tasks), total=len(tasks), desc="images", unit="chunk"))
    images, labels = (np.concatenate(column) for column in zip(*parts, strict=True))
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(labels)


def _crop(images: Tensor, rng: np.random.Generator) -> Tensor:
    """A random square, the same for the whole batch, scaled to the crop; mirrored every second time."""
    side = int(rng.integers(72, shapes.SIDE + 1))
    top, left = rng.integers(0, shapes.SIDE - side + 1, 2)
    square = images[..., top : top + side, left : left + side].float() / 255
    square = F.interpolate(square, size=(CROP, CROP), mode="bilinear", antialias=True)
    return square.flip(-1) if rng.random() < 0.5 else square


def _logits(encoder: nn.Module, head: nn.Module, images: Tensor) -> Tensor:
    """From the class token and the mean patch token, so that both kinds of token carry the class."""
    features = encoder.forward_features((images - 0.5) / 0.5)
    return head(torch.cat([features[:, 0], features[:, 1:].mean(1)], 1))


@torch.no_grad()
def _accuracy(encoder: nn.Module, head: nn.Module, images: Tensor, labels: Tensor) -> float:
    whole = F.interpolate(images.float() / 255, size=(CROP, CROP), mode="bilinear", antialias=True)
    return float((_logits(encoder, head, whole).argmax(1) == labels).float().mean())
