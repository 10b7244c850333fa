"""The package as a library: load a trained network, segment a picture, see its class activation maps."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from dsgc.config import Config
from dsgc.data.given import Given, as_rgb, named
from dsgc.data.transforms import to_tensor
from dsgc.errors import UserError, enough_memory, first_line
from dsgc.network.vit import Network, fitted
from dsgc.runs import exported
from dsgc.scoring import crf as dense
from dsgc.scoring.evaluate import SMALLER
from dsgc.scoring.looks import as_picture, labels_of, opened, probabilities
from dsgc.scoring.protocols import TestTime, protocol, wanted


class Segmentation(NamedTuple):
    """What a network makes of a picture of H x W pixels."""

    labels: np.ndarray  # (H, W) uint8, the place of a pixel's class in `classes`
    probabilities: np.ndarray  # (1 + C, H, W) float32 in [0, 1], of sum 1 at each pixel; before the CRF, where one is asked for
    classes: tuple[str, ...]  # "background" and the C classes

    def shares(self) -> dict[str, float]:
        """The share of the pixels that each class has, in [0, 1], of those that have any."""
        counts = np.bincount(self.labels.ravel(), minlength=len(self.classes)) / self.labels.size
        return {name: float(count) for name, count in zip(self.classes, counts, strict=True) if count}

    def picture(self) -> Image.Image:
        """The labels as a picture in VOC's palette; saved as PNG it is the file that `python -m dsgc predict` writes."""
        return as_picture(self.labels)


class Segmenter:
    """A trained network, ready for pictures. `dsgc.load` makes one.

    Nothing of it changes while it is used, so that several threads may share it; no gradient is kept.
    """

    def __init__(self, network: Network, classes: Sequence[str], config: Config, device: torch.device):
        self.network = network.eval().requires_grad_(False).to(device)
        self.classes = ("background", *classes)
        self.config, self.device = config, device

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of method {self.config.method.name} on {self.device}: {', '.join(self.classes)}>"

    def segment(
        self,
        picture: Given,
        *,
        scales: Sequence[float] | None = None,
        mirror: bool = False,
        crf: bool = False,
        protocol: str = "",
    ) -> Segmentation:
        """The class of each pixel, as `python -m dsgc predict` finds it.

        Args:
            picture: a path, a picture of Pillow's, or an array (H, W, 3) uint8; (H, W) is grey, of (H, W, 4) alpha is dropped.
            scales: sizes at which it is looked at, relative to its own; the probabilities of all looks are averaged.
            mirror: look at the mirror image too.
            crf: a dense CRF afterwards; needs pydensecrf2.
            protocol: how others look at a picture, by name, without the three above (`protocols.protocol`).
        Raises:
            UserError: no picture that is understood, no such protocol or scales, no memory for a picture of this size.
        """
        how = self._how(protocol, scales, mirror=mirror, crf=crf)
        image = as_rgb(picture)
        with self._memory(picture, image):
            found = probabilities(self.network, self._tensor(image), how)
            kept = found.cpu().numpy()
            # in float16, as the processes of `crf.sharpened` get it, so that the labels are the same
            labels = dense.sharpen(np.asarray(image), kept.astype(np.float16)) if how.crf else labels_of(found)
        return Segmentation(labels, kept, self.classes)

    def tags(self, picture: Given) -> dict[str, float]:
        """How probable it is that each class is in a picture, in [0, 1]: the sigmoid of the classifier whose weights make the CAM.

        Raises:
            UserError: no picture that is understood, or a method without a CAM.
        """
        self._check_cam()
        image = as_rgb(picture)
        with torch.no_grad(), self._memory(picture, image):
            found = self.network(fitted(self._tensor(image)[None], self.network.patch_size)).patch_logits[0].float().sigmoid()
        return dict(zip(self.classes[1:], found.tolist(), strict=True))

    def cam(
        self, picture: Given, tags: Sequence[str] | None = None, *, scales: Sequence[float] | None = None, mirror: bool = False
    ) -> dict[str, np.ndarray]:
        """Class activation maps by class: (H, W) float32 in [0, 1] at the picture's size, 1 where the class is seen most.

        Args:
            picture: as for `segment`.
            tags: the classes to look for; those that are more probable than not (`tags`) if none are given.
            scales, mirror: as ToCo makes its CAM over several scales (`Method.activation`); at 1 alone if none are given.
        Raises:
            UserError: no picture that is understood, no such class, or a method without a CAM.
        """
        self._check_cam()
        how = self._how("", scales, mirror=mirror, crf=False)
        names = [name for name, value in self.tags(picture).items() if value > 0.5] if tags is None else self._known(tags)
        image = as_rgb(picture)
        with torch.no_grad(), self._memory(picture, image):
            images = fitted(self._tensor(image)[None], self.network.patch_size)
            maps = self.config.method.activation(self.network, images, how.scales, mirror=mirror)
            maps = F.interpolate(maps, image.size[::-1], mode="bilinear", align_corners=False)[0].float().cpu().numpy()  # (C, H, W)
        return {name: maps[self.classes.index(name) - 1] for name in names}

    def _how(self, name: str, scales: Sequence[float] | None, *, mirror: bool, crf: bool) -> TestTime:
        how = wanted(name, scales, mirror=mirror, crf=crf) or TestTime()
        return protocol(how, self.config.crop_size) if isinstance(how, str) else how

    def _tensor(self, image: Image.Image) -> Tensor:
        """(3, H, W) in [0, 1] on the device, as prediction has it."""
        return to_tensor(image).to(self.device).float() / 255

    def _memory(self, picture: Given, image: Image.Image) -> AbstractContextManager[None]:
        return enough_memory(f"{named(picture)} ({image.width} x {image.height}): cannot be segmented", SMALLER)

    def _check_cam(self) -> None:
        if not self.config.method.has_cam:
            raise UserError(f"method {self.config.method.name}: has no class activation map, nor a classifier of tags; load another run")

    def _known(self, tags: Sequence[str]) -> list[str]:
        """The tags, if all are classes of the run."""
        if isinstance(tags, str):
            raise UserError(f"tags {tags!r}: give a list of classes, [{tags!r}]")
        for name in tags:
            if name not in self.classes[1:]:
                raise UserError(f"tags: {name!r} is no class of this run; there are {', '.join(self.classes[1:])}")
        return list(tags)


def load(run: str | Path, network: str = "", device: str = "auto") -> Segmenter:
    """A trained network. Raises `UserError` where there is none, it is damaged, or has no such network or device; see `dsgc.load`."""
    _, found, saved = opened(run, network)
    return Segmenter(found, saved.classes, saved.config, device_of(device))


def device_of(name: str) -> torch.device:
    """The device of a name, that of the GPU for `auto` where there is one. Raises `UserError` where there is no such device."""
    if name == "auto":
        return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError, TypeError) as error:
        raise UserError(f"device {name!r}: not here ({first_line(error)}); take auto or cpu") from error


def export(run: str | Path, file: str | Path, network: str = "", *, half: bool = False) -> None:
    """Write a run's network, the reported one for "", into one file (`exported.write`), in float16 if `half`.

    Raises:
        UserError: no run or network, one whose weights do not fit its configuration, or a file that cannot be written.
    """
    exported.check_target(Path(file))
    name, _, saved = opened(run, network)
    exported.write(Path(file), saved, name, torch.float16 if half else torch.float32)
