"""What the paper reports, as data: Tables 1 to 6 and the gains its text claims, each value with where it stands.

Bai et al. 2025, Journal of Image and Graphics 30(12), 3855-3869. All values are per cent. Nothing here was measured by
this code. The last part holds what peers publish of themselves, each value with the file it is in: beside it the paper's can be
judged.
"""

from collections.abc import Iterator
from typing import NamedTuple


class Cell(NamedTuple):
    """One printed value."""

    table: int
    row: str
    column: str
    value: float  # per cent


class Table(NamedTuple):
    """A table of the paper: rows by name, a value for each column."""

    number: int
    title: str
    columns: tuple[str, ...]
    rows: dict[str, tuple[float, ...]]

    def cells(self) -> Iterator[Cell]:
        """Every printed value, row by row."""
        for row, values in self.rows.items():
            for column, value in zip(self.columns, values, strict=True):
                yield Cell(self.number, row, column, value)

    def cell(self, row: str, column: str) -> Cell:
        """The value at a place. Raises `KeyError` where nothing is printed."""
        for cell in self.cells():
            if (cell.row, cell.column) == (row, column):
                return cell
        raise KeyError(f"table {self.number} prints nothing at row {row!r}, column {column!r}")


OURS = "this paper"
CLASSES = (
    "bkg", "aero", "bike", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "table", "dog", "horse", "mbk",
    "person", "plant", "sheep", "sofa", "train", "tv",
)  # fmt: skip

ABLATION = Table(
    1,
    "Pseudo-label ablation, VOC 2012 val",
    ("mIoU",),
    {"baseline": (68.57,), "+ DSKD": (68.53,), "+ DSKD + GC": (69.67,)},
)
THRESHOLDS = Table(
    2,
    "Noise thresholds (theta_h, theta_l), VOC 2012 val",
    ("segmentation", "CAM"),
    {"0.75, 0.35": (69.012, 70.966), "0.85, 0.25": (69.670, 71.429), "0.90, 0.20": (69.390, 70.892)},
)
WEIGHTS = Table(
    3,
    "Loss weights (lambda1, lambda2, lambda3), VOC 2012 val",
    ("mIoU",),
    {
        "0.1, 0.4, 0.1": (67.19,),
        "0.1, 0.5, 0.1": (67.18,),
        "0.1, 0.6, 0.1": (68.04,),
        "0.2, 0.4, 0.1": (68.82,),
        "0.2, 0.5, 0.1": (69.67,),
        "0.2, 0.5, 0.2": (68.95,),
        "0.2, 0.6, 0.1": (68.56,),
    },
)
VOC = Table(
    4,
    "Comparison, VOC 2012",
    ("val", "test"),
    {
        "SEAM": (64.5, 65.7),
        "SC-CAM": (66.1, 65.9),
        "AdvCAM": (68.1, 68.0),
        "ReCAM": (68.5, 68.4),
        "RIB": (68.3, 68.6),
        "AuxSegNet+": (70.7, 70.9),
        "URN": (69.5, 69.7),
        "BECO": (73.7, 73.5),
        "1Stage": (62.7, 62.9),
        "RRM": (62.7, 64.3),  # printed RPM
        "TSCD": (67.3, 67.5),
        "AFA": (66.0, 66.3),
        "DuPL": (73.3, 72.8),
        "ToCo": (71.1, 72.2),
        OURS: (74.8, 73.9),
    },
)
COCO = Table(
    5,
    "Comparison, COCO 2014 val",
    ("val",),
    {
        "SEAM": (31.9,),
        "MCTformer": (42.0,),
        "AuxSegNet+": (37.0,),
        "CDA": (33.2,),
        "URN": (40.7,),
        "SIPE": (40.6,),
        "TSCD": (39.2,),
        "TSCD + CRF": (40.1,),
        "AFA": (38.0,),
        "AFA + CRF": (38.9,),
        OURS: (42.3,),
    },
)
PER_CLASS = Table(
    6,
    "IoU by class, VOC 2012 val",
    ("mIoU", *CLASSES),
    {
        "TSCD": (67.3, 87.4, 70.6, 61.6, 75.2, 55.4, 62.8, 75.1, 57.7, 77.4, 39.4, 77.4, 71.7, 66.6, 69.1, 49.7, 76.8,
                 42.9, 60.1, 42.9, 60.5, 53.3),
        "AFA": (66.0, 85.8, 71.4, 58.8, 73.8, 57.7, 57.8, 77.8, 66.7, 77.7, 27.7, 79.5, 43.6, 74.1, 68.7, 64.2, 62.7,
                51.3, 75.6, 39.2, 59.2, 43.9),
        "ToCo": (71.1, 89.9, 81.7, 35.3, 68.2, 62.1, 76.3, 83.7, 80.4, 87.7, 24.6, 88.1, 54.8, 87.0, 84.1, 76.0, 68.1,
                 65.8, 85.7, 42.6, 57.8, 65.6),
        OURS: (74.8, 92.4, 86.5, 47.6, 80.5, 65.8, 80.3, 85.1, 82.1, 90.6, 42.1, 91.1, 65.1, 86.9, 88.2, 77.8, 82.7,
               66.7, 88.7, 51.7, 61.3, 57.1),
    },
)  # fmt: skip
TABLES = {table.number: table for table in (ABLATION, THRESHOLDS, WEIGHTS, VOC, COCO, PER_CLASS)}

BACKBONES = {  # of Tables 4 and 5; a method without an entry is not in them
    "SEAM": "ResNet38", "SC-CAM": "ResNet101", "AdvCAM": "ResNet101", "ReCAM": "ResNet101", "RIB": "ResNet101",
    "AuxSegNet+": "ResNet38", "URN": "ResNet101", "BECO": "MiT-B2", "MCTformer": "ResNet38", "CDA": "ResNet38",
    "SIPE": "ResNet101", "1Stage": "ResNet38", "RRM": "ResNet38", "TSCD": "MiT-B1", "TSCD + CRF": "MiT-B1",
    "AFA": "MiT-B1", "AFA + CRF": "MiT-B1", "DuPL": "ViT-B", "ToCo": "ViT-B", OURS: "ViT-B",
}  # fmt: skip
SINGLE_STAGE = {"1Stage", "RRM", "TSCD", "TSCD + CRF", "AFA", "AFA + CRF", "DuPL", "ToCo", OURS}


class Gain(NamedTuple):
    """A gain that the text claims, and the two cells whose difference it is."""

    claimed: float  # percentage points
    better: Cell
    worse: Cell

    @property
    def computed(self) -> float:
        """The difference of the two printed values."""
        return self.better.value - self.worse.value


GAINS = (
    Gain(1.14, ABLATION.cell("+ DSKD + GC", "mIoU"), ABLATION.cell("+ DSKD", "mIoU")),
    *(Gain(gain, VOC.cell(OURS, "val"), VOC.cell(row, "val")) for row, gain in (("ToCo", 3.7), ("AFA", 8.8), ("TSCD", 7.5))),
    *(Gain(gain, VOC.cell(OURS, "test"), VOC.cell(row, "test")) for row, gain in (("ToCo", 1.7), ("AFA", 7.6), ("TSCD", 6.4))),
)
WINS_IN_ABSTRACT, WINS_IN_TEXT = 16, 17  # classes of Table 6 in which the paper's method is said to be the best


def class_average(row: str) -> float:
    """The mean of a row of Table 6 over its 21 classes, per cent: what its printed mIoU should be."""
    return sum(PER_CLASS.cell(row, name).value for name in CLASSES) / len(CLASSES)


def best_classes(row: str) -> list[str]:
    """The classes of Table 6 in which a row has the highest value, alone."""
    rest = [other for other in PER_CLASS.rows if other != row]
    return [
        name for name in CLASSES
        if PER_CLASS.cell(row, name).value > max(PER_CLASS.cell(other, name).value for other in rest)
    ]  # fmt: skip


# Not the paper's: what peers publish of themselves, on GitHub in rulixiang/ToCo, Wu0409/DuPL and rulixiang/afa.


class Published(NamedTuple):
    """A peer's own result on VOC 2012 val with one backbone; of DuPL's two networks that with the better segmentation."""

    single: float  # segmentation of the image squeezed to 448 x 448 and seen once, at the last step of the training log
    cam: float  # the CAM at the same step: scales 0.5, 1 and 1.5, mirror images, background below 0.5
    scored: float  # segmentation at scales 1, 1.25 and 1.5, with mirror images and CRF
    source: str  # where the first two stand; the third is in the repository's README


PUBLISHED = {
    "ToCo, DeiT-B": Published(68.1, 70.5, 69.8, "ToCo: logs/toco_deit-b_voc_20k.log"),
    "ToCo, ViT-B": Published(69.2, 72.3, 71.1, "ToCo: logs/toco_vit-b_voc_20k.log"),
    "DuPL, DeiT-B": Published(69.9, 73.5, 72.2, "DuPL: logs/dupl_train_voc/train.log"),
    "DuPL, ViT-B": Published(70.4, 73.2, 73.3, "DuPL: logs/dupl_train_voc_21k/train.log"),
}
COCO_PUBLISHED = {"ToCo, DeiT-B": 41.3, "ToCo, ViT-B": 42.2, "DuPL": 43.5, "DuPL, ImageNet-21k": 44.6}  # val, scales and CRF: READMEs
TOCO_CURVE = {  # segmentation by step, in the same log as `PUBLISHED["ToCo, ViT-B"].single`
    2_000: 0.4, 4_000: 50.6, 6_000: 57.1, 8_000: 62.4, 10_000: 64.8, 12_000: 65.4, 14_000: 67.6, 16_000: 68.0, 18_000: 68.5,
    20_000: 69.2,
}  # fmt: skip
LOGGED = {  # IoU of the segmentation by class, in the order of `CLASSES`, at the last step of a log; AFA's: logs/voc_train.log
    "ToCo, DeiT-B": (89.339, 81.806, 34.040, 66.537, 59.409, 73.669, 83.178, 79.854, 86.704, 24.324, 85.134, 53.984, 85.761,
                     80.389, 75.853, 67.880, 57.935, 82.047, 41.461, 56.596, 64.129),
    "ToCo, ViT-B": (90.166, 77.287, 43.491, 65.749, 43.604, 77.186, 86.230, 81.186, 87.909, 35.639, 84.115, 60.362, 83.498,
                    81.230, 74.093, 80.789, 51.091, 85.415, 45.744, 57.999, 60.734),
    "AFA, MiT-B1": (87.803, 77.274, 30.080, 72.437, 65.737, 60.587, 79.920, 67.593, 77.419, 23.676, 80.090, 45.281, 76.117,
                    72.991, 69.133, 68.958, 46.322, 77.836, 41.960, 62.781, 41.346),
}  # fmt: skip


def apart(row: str, log: str) -> dict[str, float]:
    """How far a row of Table 6 is from a class of a log: the differences by class, percentage points."""
    return {name: PER_CLASS.cell(row, name).value - value for name, value in zip(CLASSES, LOGGED[log], strict=True)}
