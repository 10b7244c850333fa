"""Labels on fixed maps, and decoders on frozen tokens: what a reading of the correction is worth, in seconds instead of a run.

A network is taken as it is. Its class activation maps become labels under several methods; a fresh decoder learns each of them
from the same tokens, from the same weights, on the same batches, and is scored on a split that it has not seen. So two
readings differ by nothing but their labels, and the pair has a fraction of the spread of two runs.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from dsgc import cam, objective
from dsgc.cam import IGNORE
from dsgc.config import Config
from dsgc.data.loading import EvalImages, eval_batches
from dsgc.methods.labels import by_threshold, nearest
from dsgc.metrics import ConfusionMatrix
from dsgc.network.vit import Decoder, Network, Output, fitted
from dsgc.scoring.evaluate import collate
from dsgc.scoring.looks import squeezed

AT_ONCE = 50  # images


class Frozen(NamedTuple):
    """Images of one size and what a network makes of them."""

    images: Tensor  # (N, 3, H, W) in [0, 1]
    tags: Tensor  # (N, C)
    masks: Tensor  # (N, H, W) int64
    output: Output


class Learnt(NamedTuple):
    """What a decoder came to, in per cent."""

    miou: float
    area: float  # foreground that it predicts, of the true foreground


@torch.no_grad()
def freeze(network: Network, dataset: EvalImages, images: int = 0, side: int = 0) -> Frozen:
    """What a network makes of a data set; of the first `images`, or of all for 0.

    side: of the squares that images and masks are squeezed to, so that all have one size; with 0 they must have one.
    """
    network.eval()
    parts = []
    for items in eval_batches(dataset, batch=AT_ONCE, workers=0, images=images):
        batch, tags, masks = collate(items, "cpu")
        if side:
            batch, masks = squeezed(batch, side), nearest(masks, (side, side))
        scaled = fitted(batch, network.patch_size)
        parts.append((scaled, tags, masks, *network(scaled)))
    scaled, tags, masks, *output = (torch.cat(part) for part in zip(*parts, strict=True))
    return Frozen(scaled, tags, masks, Output(*output))


@torch.no_grad()
def labels_of(config: Config, network: Network, frozen: Frozen) -> Tensor:
    """The labels (N, H', W') that a configuration's method would teach the decoder."""
    return torch.cat([config.method.examined(network, *part).corrected for part in _slices(frozen)])


def _slices(frozen: Frozen) -> Iterator[tuple[Output, Tensor, Tensor]]:
    for first in range(0, len(frozen.tags), AT_ONCE):
        some = slice(first, first + AT_ONCE)
        yield Output(*(part[some] for part in frozen.output)), frozen.images[some], frozen.tags[some]


def quality(labels: Tensor, masks: Tensor) -> dict[str, float]:
    """Labels (N, H', W') against true masks (N, H, W), in per cent.

    `coverage`: share of pixels with a label. `precision` and `recall`: of the pixels called foreground, how many have their true
    class; of the true foreground, how much is so called. `background_precision`, `background_recall`: likewise of label 0.
    """
    truth = nearest(masks, labels.shape[-2:])
    known = truth != IGNORE
    right = known & (labels == truth)
    called, true = known & (labels > 0) & (labels != IGNORE), known & (truth > 0)
    empty, background = known & (labels == 0), known & (truth == 0)
    shares = {
        "coverage": (known & (labels != IGNORE), known),
        "precision": (right & called, called),
        "recall": (right & true, true),
        "background_precision": (right & empty, empty),
        "background_recall": (right & background, background),
    }
    return {name: 100 * part.sum().item() / max(whole.sum().item(), 1) for name, (part, whole) in shares.items()}


def taught(config: Config, labels: Tensor, frozen: Frozen, *, seed: int, steps: int = 100) -> Decoder:
    """A fresh decoder taught `labels` (N, H', W') on frozen tokens.

    seed: of its weights and batches. The optimiser is the run's, its rate that of new layers, falling along half a cosine.
    """
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    tokens, classes = frozen.output.tokens, frozen.tags.shape[1]
    decoder = Decoder(tokens.shape[1], config.decoder_channels, config.decoder_dilation, classes + 1)
    optimiser = torch.optim.AdamW(decoder.parameters(), lr=config.lr * config.head_lr_factor, weight_decay=config.weight_decay)
    fall = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        some = torch.randint(len(tokens), (config.batch_size,), generator=generator)
        logits = F.interpolate(decoder(tokens[some]), labels.shape[-2:], mode="bilinear", align_corners=False)
        optimiser.zero_grad()
        objective.segmentation_loss(logits, labels[some], average=config.method.segmentation_average).backward()
        optimiser.step()
        fall.step()
    return decoder


@torch.no_grad()
def score(decoder: Decoder, scored: Frozen) -> Learnt:
    """What a decoder makes of frozen tokens, against the masks."""
    matrix, found, true = ConfusionMatrix(scored.tags.shape[1] + 1), 0, 0
    for tokens, masks in zip(scored.output.tokens.split(AT_ONCE), scored.masks.split(AT_ONCE), strict=True):
        predicted = F.interpolate(decoder(tokens), masks.shape[-2:], mode="bilinear", align_corners=False).argmax(1)
        matrix.update(predicted, masks)
        known = masks != IGNORE
        found += int(((predicted > 0) & known).sum())
        true += int(((masks > 0) & known).sum())
    return Learnt(100 * matrix.mean_iou(), 100 * found / max(true, 1))


@torch.no_grad()
def cam_iou(config: Config, network: Network, scored: Frozen) -> list[float]:
    """IoU of the class activation map with the masks, by class from the first on, in per cent; NaN for one that does not occur."""
    matrix = ConfusionMatrix(scored.tags.shape[1] + 1)
    for (output, _, tags), masks in zip(_slices(scored), scored.masks.split(AT_ONCE), strict=True):
        maps = cam.tagged(config.method.cam(network, output), tags)
        full = F.interpolate(maps, masks.shape[-2:], mode="bilinear", align_corners=False)
        matrix.update(by_threshold(full, config.background_threshold), masks)
    return [100 * value for value in matrix.iou().tolist()[1:]]


def compared(
    configs: Mapping[str, Config], network: Network, frozen: Frozen, scored: Mapping[str, Frozen], seeds: Sequence[int]
) -> dict[str, dict]:
    """Each configuration's labels and the decoders that learnt them: {name: {quality..., split: {"miou": [...], "area": [...]}}}.

    Lists are by the decoders' seeds, so that two configurations can be compared seed by seed.
    """
    found = {}
    for name, config in configs.items():
        labels = labels_of(config, network, frozen)
        decoders = [taught(config, labels, frozen, seed=seed) for seed in seeds]
        heads = {split: [score(decoder, part) for decoder in decoders] for split, part in scored.items()}
        lists = {split: {"miou": [one.miou for one in part], "area": [one.area for one in part]} for split, part in heads.items()}
        found[name] = quality(labels, frozen.masks) | lists
    return found
