"""How images are looked at when a run is scored, and the protocols that have a name: what a number needs to be comparable."""

import typing
from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Real
from typing import Literal

from dsgc.errors import UserError

Name = Literal[
    "ours", "single", "training", "training-coco", "published", "published-no-crf", "published-coco", "published-coco-no-crf"
]  # fmt: skip


@dataclass(frozen=True)
class CamTime:
    """How the CAM is made that is scored: over scales as ToCo makes it, then background where no class is above the threshold."""

    scales: tuple[float, ...]
    mirror: bool
    square: int  # side of the square that the image is squeezed to first, pixels; 0: it keeps its size
    threshold: float


@dataclass(frozen=True)
class TestTime:
    """How an image is looked at. The defaults are the network's plain prediction.

    patches: what becomes of a side that is no multiple of the patch. `nearest`: the image is scaled, smoothed, to the nearest
        multiple. `whole`: as in ToCo and DuPL it is scaled without smoothing, the rows and columns that fill no patch are cut
        off, and what the network says of the rest is stretched over the whole image.
    merge: what is made of the looks. `mean`: the mean of their probabilities. `maximum`: the logits of image and mirror image
        added, then the largest over the scales. `sum`: the larger logits of image and mirror image, added over the scales.
    """

    scales: tuple[float, ...] = (1.0,)  # of the image's own size, or of the square's
    mirror: bool = False
    crf: bool = False
    workers: int = 0  # processes of the CRF; 0 for one a core
    square: int = 0  # side of the square that the image is squeezed to first, pixels; 0: it keeps its size
    patches: Literal["nearest", "whole"] = "nearest"
    merge: Literal["mean", "maximum", "sum"] = "mean"
    cam: CamTime | None = None  # None: the segmentation alone is scored

    def __post_init__(self) -> None:
        if not (self.scales and all(isinstance(scale, Real) and 0 < scale <= 8 for scale in self.scales)):
            raise UserError(f"scales {self.scales}: name one or more factors, greater than 0 and at most 8")


def wanted(name: str, scales: Iterable[float] | float | None, *, mirror: bool, crf: bool) -> TestTime | str | None:
    """What a user asks for beyond the plain prediction: a protocol's name, or a way of one's own; None if nothing.

    Raises:
        UserError: both, scales that cannot be, or a CRF without the package for it.
    """
    if name and (scales is not None or mirror or crf):
        raise UserError(f"protocol {name}: says how images are looked at; take it without --scales, --mirror and --crf")
    if crf or name and protocol(name, 1).crf:
        from dsgc.scoring.crf import available

        available()
    several = (1.0,) if scales is None else tuple(scales) if isinstance(scales, Iterable) else (scales,)
    how = TestTime(several, mirror, crf)
    return name or (None if how == TestTime() else how)


def protocol(name: str, crop_size: int) -> TestTime:
    """The protocol of a name for a run with training crops of so many pixels.

    - `ours`: the image at the nearest multiple of the patch, one look; what every evaluation of this package does by itself.
    - `single`: one look at the image's own size, without the incomplete patches at its end.
    - `training`: one look at the image squeezed to the training crop, as in ToCo's and DuPL's logs on PASCAL VOC.
    - `published`: three scales, mirror, CRF, as ToCo and DuPL report on PASCAL VOC.
    - `training-coco`, `published-coco`: the same of ToCo on COCO, where the CAM's threshold is lower, and where the image is
      squeezed to the crop, the larger of image and mirror image counts, and scales are added.
    - `...-no-crf`: without the last step.

    The CAM of all but `ours` and `single` is made at the crop, with scales 1, 0.5, 1.5 and mirror; `ours` has the method's own.

    Raises:
        UserError: a name that is none.
    Source: Ru et al. 2023 and Wu et al. 2024, code.
    """
    cam = CamTime((1.0, 0.5, 1.5), mirror=True, square=crop_size, threshold=0.5)
    cam_coco = CamTime((1.0, 0.5, 1.5), mirror=True, square=crop_size, threshold=0.45)
    voc = {"scales": (1.0, 1.25, 1.5), "mirror": True, "patches": "whole", "merge": "maximum", "cam": cam}
    coco = {"scales": (1.0, 1.25, 1.5), "mirror": True, "square": crop_size, "patches": "whole", "merge": "sum", "cam": cam_coco}
    protocols = {
        "ours": TestTime(),
        "single": TestTime(patches="whole", merge="maximum", cam=CamTime((1.0,), mirror=False, square=0, threshold=0.5)),
        "training": TestTime(square=crop_size, patches="whole", merge="maximum", cam=cam),
        "training-coco": TestTime(square=crop_size, patches="whole", merge="maximum", cam=cam_coco),
        "published": TestTime(**voc, crf=True),
        "published-no-crf": TestTime(**voc),
        "published-coco": TestTime(**coco, crf=True),
        "published-coco-no-crf": TestTime(**coco),
    }
    if name not in protocols:
        raise UserError(f"protocol {name!r}: unknown; there are {', '.join(typing.get_args(Name))}")
    return protocols[name]
