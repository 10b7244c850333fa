"""Segmentation of images at test time: several scales and mirror images averaged, optionally a CRF, written as PNG or scored."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from dsgc import crf, parallel
from dsgc.build import accelerator_of, load_networks
from dsgc.data import voc
from dsgc.data.loading import EvalImages, Images, eval_batches
from dsgc.data.palette import voc_palette
from dsgc.data.split import open_images
from dsgc.errors import UserError, check_writable
from dsgc.evaluate import open_run, summary
from dsgc.metrics import ConfusionMatrix
from dsgc.network import Network, fitted
from dsgc.record import progress

SERVER = Path("results/VOC2012/Segmentation")  # below it, in comp6_SPLIT_cls, the VOC test server looks for the PNGs


class TestTime(NamedTuple):
    """How an image is looked at. The defaults are the network's plain prediction; ToCo takes 1, 1.25, 1.5, mirror and CRF."""

    scales: tuple[float, ...] = (1.0,)  # of the image's own size
    mirror: bool = False
    crf: bool = False
    workers: int = 0  # processes of the CRF; 0 for one a core


@torch.no_grad()
def probabilities(network: Network, image: Tensor, how: TestTime) -> Tensor:
    """Mean over scales and mirror images of the class probabilities: (3, H, W) in [0, 1] -> (K, H, W) at the image's size."""
    size, total = image.shape[-2:], None
    for scale in how.scales:
        side = [max(1, round(length * scale)) for length in size]
        scaled = fitted(F.interpolate(image[None], side, mode="bilinear", antialias=True), network.patch_size)
        views = torch.cat([scaled, scaled.flip(-1)]) if how.mirror else scaled
        logits = network.decode(network(views).tokens).float()
        if how.mirror:
            logits = torch.stack([logits[0], logits[1].flip(-1)])
        found = F.interpolate(logits, size, mode="bilinear", align_corners=False).softmax(1).mean(0)
        total = found if total is None else total + found
    return total / len(how.scales)


def segmented(
    network: Network, dataset: EvalImages | Images, how: TestTime, *, workers: int, device: torch.device | str
) -> Iterator[tuple[str, np.ndarray]]:
    """(id, labels (H, W) uint8 at the image's own size) of this process's share of a data set, one image after another."""

    def looked() -> Iterator[tuple[str, np.ndarray, Tensor]]:
        for (item,) in eval_batches(dataset, batch=1, workers=workers, share=parallel.rank_and_size()):
            image = item.image.to(device).float() / 255
            yield item.image_id, item.image.permute(1, 2, 0).numpy(), probabilities(network, image, how)

    if how.crf:
        yield from crf.sharpened(((name, image, found.cpu().numpy()) for name, image, found in looked()), how.workers)
    else:
        for name, _, found in looked():
            yield name, found.argmax(0).byte().cpu().numpy()


def predict(run: Path, out: Path, data: str | None, split: str, how: TestTime) -> Path:
    """Segment images and write each one's labels as PNG in VOC's palette; tags, annotations and masks are not needed.

    What to segment is a list of the VOC layout, images in COCO's, or a folder of pictures. For a VOC list, the PNGs lie
    where the VOC test server looks for them below `out`, else in `out` itself.

    Raises:
        UserError: no run, no split, or a folder `out` that holds something else.
    """
    networks, saved = load_networks(run)
    pictures = open_images(data or saved.config.data, split)
    out = Path(out) / SERVER / f"comp6_{split}_cls" if isinstance(pictures, voc.Folder) else Path(out)
    if out.is_dir() and any(out.iterdir()):
        raise UserError(f"{out}: already holds predictions; choose another folder or delete it first")
    accelerator = accelerator_of(saved.config)
    network, dataset = networks[saved.config.method.networks[0]].to(accelerator.device), Images(pictures)
    new = next((folder for folder in [*reversed(out.parents), out] if not folder.exists()), out)
    accelerator.wait_for_everyone()  # each has seen the folder empty
    check_writable(out)
    stream = segmented(network, dataset, how, workers=saved.config.workers, device=accelerator.device)
    try:
        for name, labels in progress(stream, main=accelerator.is_main_process, total=len(dataset), unit="image"):
            image = Image.fromarray(labels)
            image.putpalette(voc_palette().ravel().tolist())
            image.save(out / f"{name}.png")
    except BaseException as error:  # Ctrl-C among them
        shutil.rmtree(new, ignore_errors=True)  # a part of the predictions would pass for all
        if not isinstance(error, OSError):
            raise
        raise UserError(f"{out}: cannot be written ({error.strerror}); make room, or choose another folder") from error
    return out


def score(run: Path, data: str | None, split: str | None, how: TestTime) -> dict:
    """mIoU and IoU by class of the first network's segmentation under test-time settings, on a split that has masks."""
    networks, dataset, config, accelerator = open_run(run, data, split)
    folder = dataset.folder
    matrix = ConfusionMatrix(len(folder.classes) + 1, device=accelerator.device)
    seen = torch.zeros((), dtype=torch.int64, device=accelerator.device)
    name = config.method.networks[0]
    stream = segmented(networks[name], dataset, how, workers=config.workers, device=accelerator.device)
    for image_id, labels in progress(stream, main=accelerator.is_main_process, total=len(dataset), unit="image"):
        height, width = labels.shape
        truth = torch.from_numpy(np.array(folder.mask(image_id, (width, height)))).to(accelerator.device)
        matrix.update(torch.from_numpy(labels).to(accelerator.device), truth)
        seen += 1
    parallel.sum_tensors([matrix.counts, seen])
    return {name: {"seg": summary(matrix, folder.classes)}, "images": int(seen), "test_time": how._asdict()}
