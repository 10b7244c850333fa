"""Segmentation of images at test time, by a protocol or by scales, mirror images and CRF of one's own: written as PNG or scored."""

import dataclasses
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dsgc.cam import tagged
from dsgc.config import Config
from dsgc.data import voc
from dsgc.data.loading import EvalImages, Images, eval_batches
from dsgc.data.split import named, open_images
from dsgc.errors import UserError, check_writable, enough_memory
from dsgc.methods.labels import by_threshold
from dsgc.metrics import ConfusionMatrix
from dsgc.network.vit import Network
from dsgc.runs import exported, parallel
from dsgc.runs.disk import whole
from dsgc.runs.parallel import accelerator_of
from dsgc.runs.record import note, progress, write_json
from dsgc.scoring import crf
from dsgc.scoring.estimate import announced, announced_of_crf
from dsgc.scoring.evaluate import SMALLER, evaluate, open_run, source_of, summary
from dsgc.scoring.looks import as_picture, labels_of, opened, probabilities, squeezed, told
from dsgc.scoring.output import UNFINISHED, first_new, kept, refuse_others
from dsgc.scoring.protocols import TestTime, protocol

SERVER = Path("results/VOC2012/Segmentation")  # below it, in comp6_SPLIT_cls, the VOC test server looks for the PNGs


def segmented(
    network: Network, dataset: EvalImages | Images, how: TestTime, *, workers: int, device: torch.device | str
) -> Iterator[tuple[str, np.ndarray]]:
    """(id, labels (H, W) uint8 at the image's own size) of this process's share of a data set, one image after another."""

    def looked() -> Iterator[tuple[str, np.ndarray, Tensor]]:
        batches = eval_batches(dataset, batch=1, workers=workers, share=parallel.rank_and_size())
        for (item,) in told(batches, network.patch_size, how.scales, speaks=rank == 0 and not how.square):
            height, width = item.image.shape[-2:]
            with enough_memory(f"{item.image_id} ({width} x {height}): cannot be segmented", SMALLER):
                found = probabilities(network, item.image.to(device).float() / 255, how)
            yield item.image_id, item.image.permute(1, 2, 0).numpy(), found

    rank, processes = parallel.rank_and_size()
    total = len(range(rank, len(dataset), processes))
    if how.crf:
        seen = ((name, image, found.cpu().numpy()) for name, image, found in looked())
        yield from crf.sharpened(announced_of_crf(seen, total, rank == 0, crf.processes(how.workers)), how.workers)
    else:
        yield from announced(((name, labels_of(found)) for name, _, found in looked()), total, rank == 0)


def located(
    network: Network, dataset: EvalImages, how: TestTime, config: Config, device: torch.device | str
) -> Iterator[tuple[str, np.ndarray]]:
    """(id, labels (H, W) uint8 at the image's own size) of the CAM of this process's share of a data set; nothing without a CAM."""
    for (item,) in eval_batches(dataset, batch=1, workers=config.workers, share=parallel.rank_and_size()):
        height, width = size = item.image.shape[-2:]
        images = squeezed(item.image[None].to(device).float() / 255, how.cam.square)
        with torch.no_grad(), enough_memory(f"{item.image_id} ({width} x {height}): cannot be segmented", SMALLER):
            maps = config.method.activation(network, images, how.cam.scales, mirror=how.cam.mirror)
            if maps is None:
                return
            maps = F.interpolate(maps, size, mode="bilinear", align_corners=False)
            labels = by_threshold(tagged(maps, item.tags[None].to(device)), how.cam.threshold)
        yield item.image_id, labels[0].byte().cpu().numpy()


def predict(
    run: Path,
    out: Path,
    data: str | None,
    split: str,
    how: TestTime | str,
    network: str = "",
    changes: Mapping[str, int] | None = None,
) -> Path:
    """Segment images and write each one's labels as PNG in VOC's palette; tags, annotations and masks are not needed. Returns the folder.

    What to segment is a list of the VOC layout, images in COCO's, or a folder of pictures; without `data` the run's own. Weights that
    come with the package have none: there `out` itself names the pictures, and what comes of them goes to a folder beside it, of its
    name and `_masks`. For a VOC list, the PNGs lie where the VOC test server looks for them below `out`, else in `out` itself. A file
    `unfinished.json` lies beside them until all are there; the same call then goes on with those that are missing.

    how: or the name of a protocol; network: one of the run's, the one that is reported for ""; changes: of the run's `workers`,
    for another machine.
    Raises:
        UserError: no run, no such network or protocol, no split, a folder `out` that holds something else, a picture that cannot
            be read or for which there is no memory. What is written by then stays.
    """
    network, seeing, saved = opened(run, network)
    config = dataclasses.replace(saved.config, **changes or {})
    how = protocol(how, config.crop_size) if isinstance(how, str) else how
    if data is None and str(run) in exported.shipped() and not Path(run).exists():
        pictures = Path(out).resolve()  # `predict shapes PICTURES` can mean nothing else
        data, out = str(out), pictures.parent / f"{pictures.name}_masks"
    if data is None and not Path(config.data).exists():
        raise UserError(f"{config.data}: no such folder, though the run is of it; name what to segment with --data, pictures or a data set")
    pictures = open_images(data or config.data, split, source_of(saved, data, None))
    out = Path(out) / SERVER / f"comp6_{split}_cls" if isinstance(pictures, voc.Folder) else Path(out)
    asked = {"weights": saved.files[f"{network}.safetensors"], "data": str(Path(data or config.data).resolve()), "split": split}
    asked |= dataclasses.asdict(dataclasses.replace(how, workers=0, cam=None)) | {"scales": [*how.scales]}
    refuse_others(out, asked, "predictions")
    missing = tuple(image_id for image_id in pictures.ids if not (out / f"{image_id}.png").is_file())
    accelerator = accelerator_of(config)
    new = first_new(out)
    note(pictures.notes, accelerator.is_main_process)
    accelerator.wait_for_everyone()  # each has seen what is there
    check_writable(out)
    dataset = Images(pictures._replace(ids=missing))
    stream = segmented(seeing.to(accelerator.device), dataset, how, workers=config.workers, device=accelerator.device)
    with kept(out, new, [out / f"{image_id}.png" for image_id in pictures.ids], "predictions"):
        if accelerator.is_main_process:
            write_json(out / UNFINISHED, asked)
        for name, labels in progress(stream, main=accelerator.is_main_process, total=len(dataset), unit="image"):
            with whole(out / f"{name}.png") as partial:
                as_picture(labels).save(partial, "PNG")
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        (out / UNFINISHED).unlink()
    return out


def score(
    run: Path,
    data: str | None,
    split: str | None,
    how: TestTime | str,
    changes: Mapping[str, int] | None = None,
    names: Collection[str] = (),
    own: Mapping[str, str] | None = None,
) -> dict:
    """mIoU and IoU by class of each network's segmentation, and by a protocol of its CAM, on a split that has masks.

    how: or the name of a protocol, which stands in the result; changes: of the run's `workers`, for another machine; names: of the
    networks to look at, fixed beforehand; all that the run has if none is named; own: as in `evaluate.open_run`.
    Raises:
        UserError: no run, network, protocol or split, an image or a mask that cannot be read, or masks that do not say what the tags say.
    """
    networks, dataset, config, accelerator = open_run(run, data, split, changes, names, own)
    if not dataset.folder.truth:
        raise UserError(
            f"{dataset.folder.origin}: has no masks to score a segmentation by; name their folder with --masks, or leave protocol, "
            "scales, mirror and CRF out: then it is scored how well tags are told"
        )
    named_by = {"protocol": how} if isinstance(how, str) else {}
    if how == "ours":
        return evaluate(networks, dataset, config, accelerator.device, watch=announced) | named_by
    how = protocol(how, config.crop_size) if isinstance(how, str) else how
    folder, scores, device = dataset.folder, {}, accelerator.device
    dataset.check_masks()
    for name, network in networks.items():
        streams = {"seg": segmented(network, dataset, how, workers=config.workers, device=device)}
        if how.cam:
            streams["cam"] = located(network, dataset, how, config, device)
        found = {}
        for scored, stream in streams.items():
            matrix = ConfusionMatrix(len(folder.classes) + 1, device=device)
            seen = torch.zeros((), dtype=torch.int64, device=device)
            main = accelerator.is_main_process
            for image_id, labels in progress(stream, main=main, total=len(dataset), unit="image", desc=f"{name} {scored}"):
                height, width = labels.shape
                truth = torch.from_numpy(np.array(folder.mask(image_id, (width, height)))).to(device)
                matrix.update(torch.from_numpy(labels).to(device), truth)
                seen += 1
            parallel.sum_tensors([matrix.counts, seen])
            if seen:
                found[scored] = summary(matrix, folder.classes)
                images = int(seen)
        scores |= {name: found, "images": images}
    return scores | named(folder) | named_by | {"test_time": dataclasses.asdict(how)}
