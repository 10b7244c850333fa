"""Pre-training of the `shapes` encoder, in the place that ImageNet has in the paper.

Each picture shows one object of a kind that does not occur in the data set (`scenes.pretraining_kinds`), and has one label. A network
that need only say what a picture shows may keep the answer in any token; one that was trained so kept it mostly in tokens of the
background, and what learns from it then finds its objects there. So pictures are put side by side in mosaics of up to 3 x 3, and
the tokens of each tile are asked for that tile's label: what a token says must be of what is near it. For the same reason every
token has to tell the colours of its own patch.

`python -m dsgc pretrain dsgc/network/shapes_encoder.safetensors` makes the file that ships with the package.
"""

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

from dsgc.data import scenes
from dsgc.data.scenes import BODY, HEAD, SIDE
from dsgc.errors import UserError, check_writable, first_line
from dsgc.network.encoder import create_encoder
from dsgc.runs.disk import whole

ENCODER, CROP, PATCH = "dsgc_vit_nano_patch8", 96, 8  # pixels
GRID = CROP // PATCH  # tokens
COLOURS = 4  # a patch's colours are told on a grid of so many by so many
HELD_OUT = 500  # images on which accuracy is told
CHUNK = 100  # images a task of the pool
DIALS = scenes.Dials(
    body=0.4, grounds=0.2, touching=0.0, small=0.15, wrong_tags=0.0, radius=(0.24, 0.38), small_radius=(0.12, 0.17)
)


class Recipe(NamedTuple):
    """How the shipped weights were made."""

    kinds: int = 48
    """classes to learn, none of which `shapes` has"""
    images: int = 16_000
    """pictures to draw, each of one thing"""
    steps: int = 2_500
    """training steps"""
    batch: int = 64
    """mosaics a step"""
    lr: float = 1e-3
    """largest learning rate"""
    weight_decay: float = 0.05
    """AdamW weight decay"""
    label_smoothing: float = 0.05
    """share of a label that all classes have"""
    seed: int = 0
    """seed of pictures, weights and order"""


class HeldOut(NamedTuple):
    """What the encoder makes of images that it has not seen; shares in [0, 1]."""

    accuracy: float  # the class token names the object
    pointing: float  # the token that says the object's label the loudest lies on the object


class Heads(nn.Module):
    """What is read off the encoder's tokens while it is pre-trained, and not kept."""

    def __init__(self, dim: int, kinds: int):
        super().__init__()
        self.of_token, self.of_image, self.colours = nn.Linear(dim, kinds), nn.Linear(dim, kinds), nn.Linear(dim, 3 * COLOURS**2)


def pretrain(out: Path, recipe: Recipe = Recipe()) -> HeldOut:
    """Train the encoder and write it to `out` in float16; on a GPU where there is one.

    Raises:
        UserError: a recipe that cannot be, a file of another ending, or one that cannot be written.
    """
    _check(out, recipe)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    images, labels, parts = _images(recipe)
    images, labels = images.to(device), labels.to(device)
    torch.manual_seed(recipe.seed)
    rng = np.random.default_rng(recipe.seed)
    encoder = create_encoder(ENCODER, CROP).to(device)
    heads = Heads(encoder.embed_dim, recipe.kinds).to(device)
    learnt = [*encoder.parameters(), *heads.parameters()]
    optimiser = torch.optim.AdamW(learnt, lr=recipe.lr, weight_decay=recipe.weight_decay)
    found = HeldOut(0.0, 0.0)
    with tqdm(total=recipe.steps, unit="step", desc="pretrain") as bar:
        for step in range(recipe.steps):
            for group in optimiser.param_groups:
                group["lr"] = recipe.lr * min(1, step / 200) * 0.5 * (1 + math.cos(math.pi * step / recipe.steps))
            chosen = torch.from_numpy(rng.integers(HELD_OUT, len(images), recipe.batch)).to(device)
            loss = _loss(encoder, heads, *mosaic(images[chosen], labels[chosen], rng), recipe.label_smoothing)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(learnt, 1.0)
            optimiser.step()
            bar.update()
            if (step + 1) % 250 == 0 or step + 1 == recipe.steps:
                found = _held_out(encoder, heads, images[:HELD_OUT], labels[:HELD_OUT], parts[:HELD_OUT])
                bar.set_postfix(loss=f"{loss.item():.2f}", accuracy=f"{found.accuracy:.3f}", pointing=f"{found.pointing:.3f}")
    _write(out, encoder, recipe._asdict() | {f"held_out_{name}": f"{value:.3f}" for name, value in found._asdict().items()})
    return found


def mosaic(images: Tensor, labels: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor, list[slice]]:
    """Crops of pictures (B, 3, SIDE, SIDE) uint8 side by side: (B, 3, CROP, CROP) in [0, 1], the tiles' labels (B, n, n), their bounds.

    There is one tile, or 2 x 2 or 3 x 3; bounds are in tokens, the same in both directions.
    """
    count = int(rng.integers(1, 4))
    borders = {1: [0, GRID], 2: [0, int(rng.integers(GRID // 3, 2 * GRID // 3 + 1)), GRID], 3: [0, GRID // 3, 2 * GRID // 3, GRID]}[count]
    bounds = [slice(*pair) for pair in zip(borders, borders[1:], strict=False)]
    made = images.new_empty((len(images), 3, CROP, CROP), dtype=torch.float32)
    names = labels.new_empty((len(labels), count, count))
    for number, (row, column) in enumerate((row, column) for row in range(count) for column in range(count)):
        which = [slice(PATCH * side.start, PATCH * side.stop) for side in (bounds[row], bounds[column])]
        shift = 7 * number % len(images)  # each tile has another picture of the batch
        size = [side.stop - side.start for side in which]
        made[:, :, which[0], which[1]] = F.interpolate(_crop(images.roll(shift, 0), rng), size, mode="bilinear", antialias=True)
        names[:, row, column] = labels.roll(shift, 0)
    return made, names, bounds


def _loss(encoder: nn.Module, heads: Heads, images: Tensor, names: Tensor, bounds: list[slice], smoothing: float) -> Tensor:
    features = encoder.forward_features((images - 0.5) / 0.5)
    tokens = features[:, encoder.num_prefix_tokens :].unflatten(1, (GRID, GRID))  # (B, GRID, GRID, D)
    logits = heads.of_token(tokens)
    loss = features.new_zeros(())
    for row, rows in enumerate(bounds):
        for column, columns in enumerate(bounds):
            tile = logits[:, rows, columns].flatten(1, 2)  # (B, t, K)
            loudest = tile.topk(tile.shape[1] // 4, 1).values.mean(1)
            loss = loss + F.cross_entropy(loudest, names[:, row, column], label_smoothing=smoothing) / len(bounds) ** 2
    shares = F.one_hot(names.flatten(1), logits.shape[-1]).float().mean(1)  # (B, K) of the tiles
    loss = loss + F.cross_entropy(heads.of_image(features[:, 0]), shares, label_smoothing=smoothing)
    coarse = F.adaptive_avg_pool2d(images, COLOURS * GRID).unflatten(2, (GRID, COLOURS)).unflatten(4, (GRID, COLOURS))
    wanted = coarse.permute(0, 2, 4, 1, 3, 5).flatten(3)  # (B, 3, GRID, C, GRID, C) -> (B, GRID, GRID, 3 C C)
    return loss + F.l1_loss(heads.colours(tokens), 4 * wanted)  # stretched, so that colours weigh about as much as labels


def _write(out: Path, encoder: nn.Module, about: dict) -> None:
    weights = {key: value.half().cpu().contiguous() for key, value in encoder.state_dict().items()}
    try:
        with whole(out) as partial:
            save_file(weights, partial, metadata={key: str(value) for key, value in about.items()})
    except (OSError, SafetensorError) as error:
        raise UserError(f"{out}: cannot be written ({first_line(error)}); make room, or name another file") from error


def _check(out: Path, recipe: Recipe) -> None:
    """Refuse, before hours of training, what cannot be trained or kept."""
    if out.suffix != ".safetensors" or out.is_dir():
        raise UserError(f"{out}: must be the name of a .safetensors file")
    least = Recipe(kinds=2, images=HELD_OUT + 1, steps=1, batch=1, lr=0, weight_decay=0, label_smoothing=0, seed=0)
    most = dict.fromkeys(Recipe._fields, 10**9) | {"kinds": len(scenes.pretraining_kinds(10**9)), "label_smoothing": 1}
    for name, value in recipe._asdict().items():
        if not getattr(least, name) <= value <= most[name]:
            raise UserError(f"{name} {value}: must be from {getattr(least, name)} to {most[name]}")
    check_writable(out.parent)


def _draw(task: tuple[int, int, int]) -> list[np.ndarray]:
    seed, first, kinds = task
    known = scenes.pretraining_kinds(kinds)
    drawn = [scenes.scene(np.random.default_rng((seed, 99, i)), known, 1, DIALS) for i in range(first, first + CHUNK)]
    drawn = [one for one in drawn if one.placed]  # now and then no place is found for the object
    return [np.stack(column) for column in zip(*((one.image, one.placed[0], one.parts) for one in drawn), strict=True)]


def _images(recipe: Recipe) -> tuple[Tensor, Tensor, Tensor]:
    """Images (N, 3, SIDE, SIDE) uint8, labels (N,) and parts (N, SIDE, SIDE)."""
    tasks = [(recipe.seed, first, recipe.kinds) for first in range(0, recipe.images, CHUNK)]
    with Pool() as pool:
        drawn = list(tqdm(pool.imap(_draw, tasks), total=len(tasks), desc="images", unit="chunk"))
    images, labels, parts = (torch.from_numpy(np.concatenate(column)) for column in zip(*drawn, strict=True))
    return images.permute(0, 3, 1, 2).contiguous(), labels, parts


def _crop(images: Tensor, rng: np.random.Generator) -> Tensor:
    """A random square, the same for the whole batch, in [0, 1]; mirrored every second time."""
    side = int(rng.integers(72, SIDE + 1))
    top, left = rng.integers(0, SIDE - side + 1, 2)
    square = images[..., top : top + side, left : left + side].float() / 255
    return square.flip(-1) if rng.random() < 0.5 else square


@torch.no_grad()
def _held_out(encoder: nn.Module, heads: Heads, images: Tensor, labels: Tensor, parts: Tensor) -> HeldOut:
    whole = F.interpolate(images.float() / 255, size=(CROP, CROP), mode="bilinear", antialias=True)
    features = encoder.forward_features((whole - 0.5) / 0.5)
    named = heads.of_image(features[:, 0]).argmax(1) == labels
    logits = heads.of_token(features[:, encoder.num_prefix_tokens :])  # (N, GRID GRID, K)
    loudest = logits[torch.arange(len(labels)), :, labels].argmax(1).cpu()
    thing = ((parts == HEAD) | (parts == BODY)).float()
    on_thing = F.adaptive_max_pool2d(thing[:, None], GRID).flatten(1)  # (N, GRID GRID)
    return HeldOut(float(named.float().mean()), float(on_thing[torch.arange(len(labels)), loudest].mean()))
