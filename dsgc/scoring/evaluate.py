"""What trained networks are worth: mIoU of the segmentation and of the labels that their method makes, on a split with masks."""

import dataclasses
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor

from dsgc.config import Config
from dsgc.data.loading import EvalImages, EvalItem, eval_batches
from dsgc.data.own import UNTOLD, Source
from dsgc.data.parts import ALL
from dsgc.data.split import Split, named, open_split
from dsgc.errors import UserError, enough_memory
from dsgc.methods.contract import Views
from dsgc.metrics import ConfusionMatrix, PointingGame
from dsgc.network.vit import Network
from dsgc.runs import parallel
from dsgc.runs.checkpoint import Checkpoint
from dsgc.runs.parallel import accelerator_of
from dsgc.runs.record import note
from dsgc.runs.restore import load_networks
from dsgc.scoring import told
from dsgc.scoring.estimate import announced

SMALLER = "make the picture smaller, or use a machine with more memory"  # where memory runs out


def views(network: Network, images: Tensor, tags: Tensor, config: Config) -> Views:
    """What a network makes of images (B, 3, H, W) in [0, 1] of any size with tags (B, C), by the run's method."""
    with torch.no_grad():
        return config.method.views(network, images, tags, config.background_threshold)


def collate(items: list[EvalItem], device: torch.device | str) -> tuple[Tensor, Tensor, Tensor]:
    """Images (B, 3, H, W) in [0, 1], tags (B, C) and masks (B, H, W) on the device."""
    images = torch.stack([item.image for item in items]).to(device, non_blocking=True).float() / 255
    return images, torch.stack([item.tags for item in items]).to(device), torch.stack([item.mask for item in items]).to(device)


@torch.no_grad()
def evaluate(
    networks: dict[str, Network],
    dataset: EvalImages,
    config: Config,
    device: torch.device | str = "cpu",
    images: int = 0,
    watch: Callable[..., Iterable[list[EvalItem]]] | None = None,
) -> dict[str, dict]:
    """Scores by network: {network: {"seg": score, ...}, "images": n, "list", "masks"}; `Method.scores` says which scores there are.

    Each score holds `miou` and `per_class` (fractions in [0, 1], background first, None for a class that does not occur) over the
    pixels that have a label, `coverage`, the share of these, and `strict`, the mIoU where a pixel labelled 255 counts as missed;
    None where nothing was counted. Memory does not grow with the number of images; `images` > 0 looks at that many only. What
    `watch` is, as `estimate.announced`, the batches pass through.
    "pointing", where the method has `blocks`, holds by network and block the share of images whose loudest token of a tagged class
    lies on that class (`PointingGame`). Networks are put back in the mode they were in. Several processes share the images out, and
    all get the scores of all. `list` and `masks` say what the scores are of.

    Of a split without masks there is no mIoU, and the scores are those of `told.scores`.

    Raises:
        UserError: an image or a mask cannot be read, or the masks of the split do not say what its tags say.
    """
    if not dataset.folder.truth:
        return told.scores(networks, dataset, config, device, images)
    dataset.check_masks()
    classes = dataset.folder.classes
    method, seen, share = config.method, 0, parallel.rank_and_size()
    matrices = {name: {score: ConfusionMatrix(len(classes) + 1, device=device) for score in method.scores} for name in networks}
    games = {name: {block: PointingGame(len(classes), device) for block in method.blocks} for name in networks}
    training = {name: network.training for name, network in networks.items()}
    for network in networks.values():
        network.eval()
    batches = eval_batches(dataset, batch=config.eval_batch, workers=config.workers, images=images, share=share)
    if watch:
        batches = watch(batches, len(range(share[0], len(dataset), share[1])), share[0] == 0, len)
    for items in batches:
        batch, tags, masks = collate(items, device)
        seen += len(items)
        height, width = batch.shape[-2:]
        those = f"{items[0].image_id} ({width} x {height})" + (f" and {len(items) - 1} more" if len(items) > 1 else "")
        for name, network in networks.items():
            with enough_memory(f"{those}: cannot be evaluated", SMALLER if len(items) == 1 else "take a smaller --eval-batch"):
                seen_by = views(network, batch, tags, config)
            for score, labels in seen_by.scored.items():
                matrices[name][score].update(labels, masks)
            for block, maps in seen_by.evidence.items():
                games[name][block].update(maps, tags, masks)
    for name, network in networks.items():
        network.train(training[name])
    everything = [part for by_score in matrices.values() for matrix in by_score.values() for part in (matrix.counts, matrix.missed)]
    everything += [part for by_block in games.values() for game in by_block.values() for part in (game.hits, game.shown)]
    total = torch.tensor(seen, device=device)
    parallel.sum_tensors([*everything, total])
    result: dict = {
        name: {
            score: summary(matrix, classes) | {"strict": _known(matrix.mean_strict_iou()), "coverage": _known(matrix.coverage())}
            for score, matrix in by_score.items()
        }
        for name, by_score in matrices.items()
    }
    if method.blocks:
        result["pointing"] = {
            name: {block: _pointing(game, classes) for block, game in by_block.items()} for name, by_block in games.items()
        }
    return result | {"images": int(total)} | named(dataset.folder)


def _pointing(game: PointingGame, classes: Iterable[str]) -> dict:
    """`mean` over the classes that occur and `per_class` of a pointing game, fractions; None where nothing was counted."""
    per_class = dict(zip(classes, map(_known, game.by_class()), strict=True))
    known = [value for value in per_class.values() if value is not None]
    return {"mean": sum(known) / len(known) if known else None, "per_class": per_class}


def summary(matrix: ConfusionMatrix, classes: Iterable[str]) -> dict:
    """`miou` and `per_class` of a matrix, fractions; None where nothing was counted."""
    per_class = [_known(value) for value in matrix.iou().tolist()]
    return {
        "miou": _known(matrix.mean_iou()),
        "per_class": dict(zip(("background", *classes), per_class, strict=True)),
    }


def _known(value: float) -> float | None:
    """JSON has no NaN."""
    return None if value != value else value


def chosen(run: Path, networks: Mapping[str, Network], names: Collection[str]) -> dict[str, Network]:
    """Those of a run's networks that are named, all if none is. Raises `UserError` for a name that is none of theirs."""
    for name in names:
        if name not in networks:
            raise UserError(f"{run}: has no {name}, only a {' and a '.join(networks)}; choose that with --network")
    return {name: networks[name] for name in names or networks}


def source_of(saved: Checkpoint, data: str | None, own: Mapping[str, str] | None) -> Source:
    """Where pictures without a layout have their tags and masks from: as given, else as in the run if they are the run's own."""
    mine = Source() if data else saved.config.pictures_of
    return mine._replace(classes=saved.classes, **own or {})


def refuse_other_classes(folder: Split, saved: Checkpoint, run: Path) -> None:
    """Raise `UserError` where a split does not have the classes, in their order, that a run was trained on."""
    if folder.classes != saved.classes:
        raise UserError(
            f"{folder.root}: its classes are not those that {run} was trained on ({', '.join(saved.classes)}); "
            "give a data set with the same classes.txt"
        )


def open_run(
    run: Path,
    data: str | None,
    split: str | None,
    changes: Mapping[str, int] | None = None,
    names: Collection[str] = (),
    own: Mapping[str, str] | None = None,
) -> tuple[dict[str, Network], EvalImages, Config, Accelerator]:
    """A run's networks on its device, and the split to score them on: its own validation split, or of the data given.

    changes: of the run's `workers` and `eval_batch`, for another machine; names: as in `chosen`; own: `tags` and `masks` of pictures
    without a layout, the run's own if neither these nor the data are given.
    Raises:
        UserError: no run, no such network, no such split, or one of other classes.
    """
    networks, saved = load_networks(run)
    networks = chosen(run, networks, names)
    source = source_of(saved, data, own)
    everything = ALL if data and source.tags else saved.config.val_split
    folder = open_split(data or saved.config.data, split or everything, source)
    refuse_other_classes(folder, saved, run)
    config = dataclasses.replace(saved.config, **changes or {})
    accelerator = accelerator_of(config)
    note((line for line in folder.notes if line != UNTOLD), accelerator.is_main_process)  # that the scores say themselves
    return {name: network.to(accelerator.device) for name, network in networks.items()}, EvalImages(folder), config, accelerator


def score_run(
    run: Path,
    data: str | None = None,
    split: str | None = None,
    changes: Mapping[str, int] | None = None,
    names: Collection[str] = (),
    own: Mapping[str, str] | None = None,
) -> dict:
    """Scores of a run's newest checkpoint, on its own validation split or on the data and split given, of all its networks or of
    those that are named; `changes` and `own` as in `open_run`."""
    networks, dataset, config, accelerator = open_run(run, data, split, changes, names, own)
    return evaluate(networks, dataset, config, accelerator.device, watch=announced)
