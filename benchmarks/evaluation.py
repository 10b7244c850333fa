"""How long evaluation takes on a CPU: the confusion matrix and the prediction at several scales, each beside its alternatives.

The matrix stands beside torchmetrics' MulticlassJaccardIndex, which keeps the same matrix and is what one takes for a mIoU, and
beside NumPy's `bincount`, image by image, as most published code has it; all three are checked to count the same. The prediction
stands beside the same written plainly, a forward pass for each scale and mirror image, and beside a single look. How the matrix's
time grows with pixels, images and classes is fitted. Writes `benchmarks/evaluation.json`.

    python benchmarks/evaluation.py
    python benchmarks/evaluation.py --scales 0.5 1 --pictures 3
"""

import time
from functools import partial

import dsgc  # noqa: F401, isort: skip; before torch, whose threads then share the cores with others
import numpy as np
import torch
import torch.nn.functional as F
import tyro
from measure import Cases, alternate, compared, exponent, peak_memory, report_peak, write
from torch import Tensor
from torchmetrics.classification import MulticlassJaccardIndex

from dsgc.methods import preset
from dsgc.metrics import ConfusionMatrix
from dsgc.network.build import build_network
from dsgc.network.vit import Network, fitted
from dsgc.scoring.predict import TestTime, probabilities

SIZES = {"VOC": (16, 375, 500, 21), "COCO": (16, 480, 640, 81)}  # images of a batch, height, width, classes
LARGER = "COCO"
SIDES = (128, 256, 512, 1024, 2048)  # of one square map
IMAGES = (1, 4, 16, 64)
CLASSES = (5, 21, 81, 171, 255)


def maps(images: int, height: int, width: int, classes: int) -> tuple[Tensor, Tensor]:
    """A predicted and a true map (B, H, W) int64 of blocks of 25 x 25: most are background, a fifth are mistaken, 4% are 255."""
    generator, cells = torch.Generator().manual_seed(0), (images, height // 25 + 1, width // 25 + 1)

    def where(share: float, other: int | Tensor, labels: Tensor) -> Tensor:
        return torch.where(torch.rand(cells, generator=generator) < share, torch.as_tensor(other), labels)

    drawn = torch.randint(classes, (2, *cells), generator=generator)
    predicted = where(0.7, 0, drawn[0])
    true = where(0.04, 255, where(0.8, predicted, drawn[1]))
    grow = (slice(None), slice(height), slice(width))
    return tuple(m.repeat_interleave(25, 1).repeat_interleave(25, 2)[grow].contiguous() for m in (predicted, true))


def by_image(counts: np.ndarray, predicted: Tensor, true: Tensor) -> None:
    """Add the counts of each image, in NumPy; labels outside the range are left out unsaid."""
    classes = len(counts)
    for p, t in zip(predicted.numpy(), true.numpy(), strict=True):
        keep = (t >= 0) & (t < classes)
        counts += np.bincount(classes * t[keep] + p[keep], minlength=classes**2).reshape(classes, classes)


def updates(images: int, height: int, width: int, classes: int) -> Cases:
    """The ways to add a batch of maps to a matrix; refuses to time ways that do not count the same."""
    predicted, true = maps(images, height, width, classes)
    ours, counts = ConfusionMatrix(classes), np.zeros((classes, classes), np.int64)
    checked = MulticlassJaccardIndex(classes, ignore_index=255)
    trusting = MulticlassJaccardIndex(classes, ignore_index=255, validate_args=False)
    ways = {
        "dsgc": lambda p, t: ours.update(p, t),
        "torchmetrics": lambda p, t: checked.update(p, t),
        "torchmetrics, labels not checked": lambda p, t: trusting.update(p, t),
        "NumPy, labels not checked": lambda p, t: by_image(counts, p, t),
    }
    for way in ways.values():
        way(predicted[:1, :50], true[:1, :50])
    if not all(torch.equal(ours.counts, torch.as_tensor(other)) for other in (checked.confmat, trusting.confmat, counts)):
        raise SystemExit("the matrices differ")
    return {name: partial(way, predicted, true) for name, way in ways.items()}


def matrix_cases() -> list[dict]:
    """Seconds of a batch; of the larger one also MiB on top of the maps."""
    found = []
    for data, size in SIZES.items():
        facts = dict(zip(("images", "height", "width", "classes"), size, strict=True))
        for way, times in compared(alternate(updates(*size)), to="dsgc").items():
            memory = {"peak_MiB": peak_memory(__file__, "--peak", way)} if data == LARGER else {}
            found.append({"name": f"confusion matrix, {data}: {way}"} | times | memory | facts)
    return found


def matrix_growth() -> list[dict]:
    """How the time of `ConfusionMatrix.update` grows, one size changed at a time."""
    series = {
        "pixels": {side**2: (1, side, side, 21) for side in SIDES},
        "images": {images: (images, 375, 500, 21) for images in IMAGES},
        "classes": {classes: (4, 375, 500, classes) for classes in CLASSES},
    }
    found = []
    for against, batches in series.items():
        sizes = list(batches)
        cases = {str(size): updates(*batch)["dsgc"] for size, batch in batches.items()}
        seconds = [times["seconds"] for times in compared(alternate(cases), to=str(sizes[0])).values()]
        growth = {"of": "confusion matrix", "against": against, "sizes": sizes, "seconds": seconds}
        found.append(growth | {"exponent": exponent(sizes, seconds)})
    return found


@torch.no_grad()
def plainly(network: Network, image: Tensor, scales: tuple[float, ...]) -> Tensor:
    """Labels (H, W): logits of every scale and mirror image, each from a forward pass of its own, summed at full size."""
    size, total = image.shape[-2:], 0
    for scale in scales:
        side = [round(length * scale) for length in size]
        scaled = fitted(F.interpolate(image[None], side, mode="bilinear", antialias=True), network.patch_size)
        for view, back in ((scaled, lambda logits: logits), (scaled.flip(-1), lambda logits: logits.flip(-1))):
            logits = network.decode(network(view).tokens)
            total = total + back(F.interpolate(logits, size, mode="bilinear", align_corners=False))
    return total[0].argmax(0)


def prediction_cases(scales: tuple[float, ...], pictures: int) -> list[dict]:
    config = preset("voc").changed(weights="none", encoder="vit_small_patch16_224")
    torch.manual_seed(0)
    network = build_network(config, 20)[0].eval()
    images = torch.rand(pictures, 3, 375, 500)
    one, several = TestTime(), TestTime(scales, mirror=True)
    cases = {
        "dsgc": lambda: [probabilities(network, image, several).argmax(0) for image in images],
        "written plainly": lambda: [plainly(network, image, scales) for image in images],
        "one look": lambda: [probabilities(network, image, one).argmax(0) for image in images],
    }
    facts = {"images": pictures, "height": 375, "width": 500, "classes": 21, "scales": scales}
    return [
        {"name": f"prediction: {way}"} | times | {"images_per_second": pictures / times["seconds"]} | facts
        for way, times in compared(alternate(cases), to="dsgc").items()
    ]


def main(scales: tuple[float, ...] = (1.0, 1.25, 1.5), pictures: int = 1, peak: str | None = None) -> None:
    """Args:
    scales: of the prediction, each mirrored too; ToCo's by default.
    pictures: how many are predicted in a call.
    peak: a way to keep the matrix; print what a batch of the larger maps needs in MiB, and nothing else.
    """
    if peak:
        return report_peak(updates(*SIZES[LARGER])[peak])
    begun = time.monotonic()
    question = "How long do the confusion matrix and the prediction at several scales take, beside what one would take otherwise?"
    cases, growth = [*matrix_cases(), *prediction_cases(scales, pictures)], matrix_growth()
    write(__file__, {"question": question, "cases": cases, "growth": growth}, begun, packages=("torchmetrics",))


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
