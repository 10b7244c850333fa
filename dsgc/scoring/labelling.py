"""Pseudo labels of a run, written for the pictures that it learnt from or others with tags, for a second network to learn from."""

import contextlib
import dataclasses
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from dsgc.config import Config
from dsgc.data import label_files
from dsgc.data.label_files import CocoFile, Format, Labelled
from dsgc.data.labels import IGNORE, read_labels
from dsgc.data.loading import Images, eval_batches
from dsgc.data.own import Source
from dsgc.data.parts import ALL
from dsgc.data.split import Split, open_images, open_split
from dsgc.data.taught import DESCRIPTION
from dsgc.errors import UserError, check_writable, enough_memory, printable
from dsgc.methods.labels import enlarged
from dsgc.network.vit import Network
from dsgc.runs import parallel
from dsgc.runs.checkpoint import Checkpoint
from dsgc.runs.disk import whole
from dsgc.runs.parallel import accelerator_of
from dsgc.runs.record import note, progress, write_json
from dsgc.scoring.evaluate import SMALLER, refuse_other_classes, source_of
from dsgc.scoring.looks import opened, told
from dsgc.scoring.output import UNFINISHED, first_new, kept, refuse_others

CAMS, CONFIDENCE, BEFORE = "cams", "confidence", "before"  # folders beside that of the labels
CONFIDENCE_IS = "activation of the strongest tagged class, of which the label was cut; 0 to 255 for 0 to 1, low where background is sure"


class Looks(NamedTuple):
    """How the CAM is made that labels are made of, and what is written of it."""

    scales: tuple[float, ...] = ()  # relative to the image's own size; none: those with which the run makes its labels
    mirror: bool = False  # the mirror image too; only with scales
    cams: bool = True  # write the CAMs, which take most of the room


class Made(NamedTuple):
    """What is written of one picture, at its own size."""

    image_id: str
    cam: np.ndarray  # (T, H, W) float16 in [0, 1], of its tagged classes
    numbers: np.ndarray  # (T,) uint8, which label 1..C each is
    confidence: np.ndarray  # (H, W) uint8
    before: np.ndarray | None  # (H, W) uint8, the label before correction
    labels: np.ndarray  # (H, W) uint8


@torch.no_grad()
def made(network: Network, images: Tensor, tags: Tensor, names: Sequence[str], looks: Looks, config: Config) -> Iterator[Made]:
    """Of images (B, 3, H, W) in [0, 1] of one size with tags (B, C) and ids `names`, what is written of each."""
    size = images.shape[-2:]
    found = config.method.pseudo(network, images, tags, looks.scales, mirror=looks.mirror)
    confidence = (255 * enlarged(found.confidence, size).clamp(0, 1)).round().byte().cpu().numpy()
    before = None if found.initial is None else enlarged(found.initial, size).byte().cpu().numpy()
    labels = enlarged(found.labels, size).byte().cpu().numpy()
    for row, name in enumerate(names):
        tagged = tags[row].nonzero().flatten()
        cam = np.zeros((0, *size), np.float16)
        if len(tagged):
            maps = found.maps[row : row + 1, tagged].float()
            cam = F.interpolate(maps, size, mode="bilinear", align_corners=False)[0].half().cpu().numpy()
        numbers = (tagged + 1).byte().cpu().numpy()
        yield Made(name, cam, numbers, confidence[row], None if before is None else before[row], labels[row])


@torch.no_grad()
def _refuse_without_labels(network: Network, looks: Looks, config: Config, classes: int) -> None:
    """Raise `UserError` where a method makes no label, or not with these looks: asked with a black picture, before data are opened."""
    black, tags = torch.zeros(1, 3, config.crop_size, config.crop_size), torch.ones(1, classes)
    if config.method.pseudo(network, black, tags, looks.scales, mirror=looks.mirror) is None:
        raise UserError(f"method {config.method.name}: makes no CAM and no pseudo label; `python -m dsgc predict` writes its segmentation")


def labelled(
    network: Network, dataset: Images, tags: Mapping[str, np.ndarray], looks: Looks, config: Config, batch: int, device: torch.device | str
) -> Iterator[Made]:
    """What is written of each picture of this process's share of a data set, with tags (C,) by id; up to `batch` of one size at once."""
    rank, processes = parallel.rank_and_size()
    batches = eval_batches(dataset, batch=batch, workers=config.workers, share=(rank, processes))
    for items in told(batches, network.patch_size, looks.scales or (1.0,), speaks=rank == 0):
        names, (height, width) = [item.image_id for item in items], items[0].image.shape[-2:]
        images = torch.stack([item.image for item in items]).to(device).float() / 255
        named = torch.from_numpy(np.stack([tags[name] for name in names])).to(device)
        those = f"{names[0]} ({width} x {height})" + (f" and {len(names) - 1} more" if len(names) > 1 else "")
        with enough_memory(f"{those}: cannot be labelled", SMALLER if len(names) == 1 else "take a smaller --eval-batch"):
            yield from made(network, images, named, names, looks, config)


def write_labels(
    run: Path,
    out: Path,
    data: str | None = None,
    split: str | None = None,
    looks: Looks = Looks(),  # noqa: B008
    layout: Format = "voc",
    network: str = "",
    batch: int = 1,
    changes: Mapping[str, int] | None = None,
    own: Mapping[str, str] | None = None,
) -> Path:
    """Write CAMs, pseudo labels before and after correction, and confidence of pictures with tags, at their own sizes. No mask is opened.

    Of each picture: `cams/ID.npz` (`cam` (T, H, W) float16 of its tagged classes, `labels` and `classes` (T,), which these are),
    `confidence/ID.png`, `before/ID.png` where the method corrects, and the label as a palette PNG, in the folder that
    `label_files.FOLDERS` names. What there is, and how much, stands in `labels.json` at the end; until then `unfinished.json` lies
    there, and the same call goes on with the pictures that are missing.

    split: the one that the run learnt from for None, or all of other pictures without a layout; network: one of the run's, the one that
    is reported for ""; batch: pictures of one size that pass together; changes: of the run's `workers`, for another machine;
    own: `tags` of pictures without a layout, as in `evaluate.open_run`.
    Raises:
        UserError: no run, no such network, a method that makes no labels, no split, one without tags or of other classes, a folder
            `out` that holds something else, or a picture that cannot be read. What is written by then stays.
    """
    network, labeller, saved = opened(run, network)
    config = dataclasses.replace(saved.config, **changes or {})
    _refuse_without_labels(labeller, looks, config, len(saved.classes))
    source = source_of(saved, data, own)
    split = split or (ALL if data and source.tags else config.train_split)
    data, out = data or config.data, Path(out)
    folder = _with_tags(data, split, source, saved, run)
    asked = {"weights": saved.files[f"{network}.safetensors"], "data": str(Path(data).resolve()), "split": split, "format": layout}
    asked |= {"scales": [*looks.scales], "mirror": looks.mirror, "cams": looks.cams}
    refuse_others(out, asked, "labels")
    tags = dict(zip(folder.ids, folder.tags(), strict=True))
    files = {image_id: out / label_files.FOLDERS[layout] / f"{image_id}.png" for image_id in folder.ids}
    missing = tuple(image_id for image_id, path in files.items() if not path.is_file())
    accelerator = accelerator_of(config)
    main, new = accelerator.is_main_process, first_new(out)
    note(folder.notes, main)
    accelerator.wait_for_everyone()  # each has seen what is there
    check_writable(out)
    labeller.to(accelerator.device)
    stream = labelled(labeller, Images(folder._replace(ids=missing)), tags, looks, config, batch, accelerator.device)
    with kept(out, new, files.values(), "labels"):
        if main:
            write_json(out / UNFINISHED, asked)
        with progress(main=main, total=len(missing), unit="image") as bar:
            for item in stream:
                _write(out, files[item.image_id], item, folder.classes, looks)
                bar.update(parallel.rank_and_size()[1])
        accelerator.wait_for_everyone()
        if main:
            of = {"run": str(run), "method": config.method.name, "network": network, "step": saved.step} | asked
            of |= {"scales": [*looks.scales] or "as the run makes its labels", "list": folder.origin}
            of |= {"settings": dataclasses.asdict(config.method), "confidence": CONFIDENCE_IS}
            write_json(out / DESCRIPTION, of | _surveyed(out, folder, files, layout, split))
    accelerator.wait_for_everyone()
    if main:
        (out / UNFINISHED).unlink()
    return out


def _with_tags(data: str, split: str, source: Source, saved: Checkpoint, run: Path) -> Split:
    """The split, if it has tags and the run's classes."""
    try:
        folder = open_split(data, split, source)
    except UserError as error:
        if not source.tags and _has_pictures(data, split):
            raise UserError(f"{error}; labels are made of tags: `python -m dsgc predict` segments pictures without") from error
        raise
    refuse_other_classes(folder, saved, run)
    return folder


def _has_pictures(data: str, split: str) -> bool:
    """Whether all that a split lacks are tags."""
    with contextlib.suppress(UserError):
        return bool(open_images(data, split).ids)
    return False


def _write(out: Path, place: Path, item: Made, classes: Sequence[str], looks: Looks) -> None:
    """The files of a picture, each whole or not at all; the label last, which says that the others are there."""
    for path in (out / CAMS, out / CONFIDENCE, out / BEFORE, place.parent):
        if not ((path.name == CAMS and not looks.cams) or (path.name == BEFORE and item.before is None)):
            path.mkdir(exist_ok=True)
    if looks.cams:
        with whole(out / CAMS / f"{item.image_id}.npz") as partial, partial.open("wb") as file:
            names = np.array([classes[number - 1] for number in item.numbers], str)
            np.savez_compressed(file, cam=item.cam, labels=item.numbers, classes=names)
    with whole(out / CONFIDENCE / place.name) as partial:
        Image.fromarray(item.confidence).save(partial, "PNG")
    if item.before is not None:
        with whole(out / BEFORE / place.name) as partial:
            label_files.write_png(partial, item.before)
    with whole(place) as partial:
        label_files.write_png(partial, item.labels)


def _surveyed(out: Path, folder: Split, files: Mapping[str, Path], layout: Format, split: str) -> dict[str, Any]:
    """What lies in the folder, from its files: folders, classes, counts, a digest; what its layout needs besides is written."""
    digest, classes = hashlib.sha256(), folder.classes
    after, before = Counts(len(classes)), Counts(len(classes))
    base = os.path.commonpath([folder.file(image_id).parent for image_id in folder.ids])
    corrected = (out / BEFORE).is_dir()
    name = label_files.list_of(split)
    with contextlib.ExitStack() as stack:
        coco = None
        if layout == "coco":
            target = out / "annotations" / f"instances_{Path(name).stem}.json"
            target.parent.mkdir(exist_ok=True)
            coco = stack.enter_context(CocoFile(stack.enter_context(whole(target)), classes))
        for image_id, path in progress(files.items(), main=True, total=len(files), unit="label", desc="counting"):
            labels = np.asarray(read_labels(path, len(classes)))
            digest.update(f"{image_id} {labels.shape}".encode() + labels.tobytes())
            after.add(labels)
            if corrected:
                before.add(np.asarray(read_labels(out / BEFORE / path.name, len(classes))))
            if coco:
                coco.add(Labelled(image_id, folder.file(image_id).relative_to(base).as_posix(), labels))
    if layout == "voc":
        with whole(out / name) as partial:
            label_files.write_lines(partial, folder.ids)
    if layout != "coco":
        with whole(out / "classes.txt") as partial:
            label_files.write_lines(partial, [printable(name) for name in classes])
    counts = {"after": after.found(classes)} | ({"before": before.found(classes)} if corrected else {})
    names = {"labels": label_files.FOLDERS[layout], "classes": list(classes), "images": len(files)}
    return names | {"counts": counts, "digest": digest.hexdigest()}


class Counts:
    """Pixels and images of each label, over a split."""

    def __init__(self, classes: int):
        self.pixels, self.images = np.zeros(IGNORE + 1, np.int64), np.zeros(IGNORE + 1, np.int64)
        self.classes = classes

    def add(self, labels: np.ndarray) -> None:
        """Count a label (H, W) uint8."""
        found = np.bincount(labels.ravel(), minlength=IGNORE + 1)
        self.pixels += found
        self.images += found > 0

    def found(self, classes: Sequence[str]) -> dict[str, Any]:
        """`coverage`, the share of pixels with a label, and by class its share of these and in how many images it is."""
        known = self.pixels[:IGNORE].sum()
        shares = {
            name: {"share": float(self.pixels[label] / max(known, 1)), "images": int(self.images[label])}
            for label, name in enumerate(("background", *classes))
        }
        return {"coverage": float(known / max(self.pixels.sum(), 1)), "classes": shares}
