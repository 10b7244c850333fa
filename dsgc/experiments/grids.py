"""The grids of runs behind the ablation tables: which method and fields each row has, on which scale, under which seeds."""

from collections.abc import Sequence
from pathlib import Path

from dsgc import methods
from dsgc.config import PRESETS, Config
from dsgc.experiments import paper

INSTALLED = Path(__file__).parents[1] / "results"  # a copy, which only an installation has
RESULTS = INSTALLED if INSTALLED.is_dir() else Path(__file__).parents[2] / "results"  # those that the repository holds
FIRST = 0  # the seed whose runs of Table 1, and of some peers, keep pictures
PICTURES = 6  # validation images kept from these, for Fig. 2 to 4
METHOD = "+ DSKD + GC"
POOLED = ("pooled tokens", "pooled tokens, no correction")  # the correction switched on and off where tokens are pooled as in ToCo
STRICTER = "pooled tokens, upper threshold 0.7, no correction"  # ToCo's own, which the correction has to beat on such maps
SALIENCY = {"weights": "vit_small_patch14_saliency_fp16.safetensors"}  # DINOv2's small encoder, which has seen saliency masks since
# 448 pixels of VOC's 500 are 287 of the 320 that pictures of `voc6` have at most
LARGE = SALIENCY | {"frozen_blocks": 0, "crop_size": 280, "decoder_dilation": 5, "refine_dilations": (1, 2, 4, 8, 12), "precision": "bf16"}


def _fields(table: paper.Table, *names: str) -> dict[str, dict]:
    """The fields that the rows of a table of the paper state in their names."""
    return {row: dict(zip(names, map(float, row.split(", ")), strict=True)) for row in table.rows}


CHANGES: dict[str, dict[str, dict]] = {  # all that the page on choices names; whole runs are made of some, labels on fixed maps of others
    "choices": {  # one change at a time from the preset; what the paper prints is marked so
        "preset": {},
        "Eq. 7 over tokens": {"similarity_axis": "tokens"},
        "Eq. 7 after warm-up too": {"similarity_after_warmup": True},
        "Eq. 10 without centre": {"centre_momentum": 1.0},
        "Eq. 10 with temperatures 1": {"student_temperature": 1.0, "teacher_temperature": 1.0},
        "Eq. 10 with neither (as printed)": {
            "centre_momentum": 1.0, "student_temperature": 1.0, "teacher_temperature": 1.0,
        },
        "Eq. 3 with two labels (as printed)": {"ptc_classes": False},
        "Eq. 1 without minimum (as printed)": {"subtract_minimum": False},
        "Eq. 22 as a mean over all pixels": {"segmentation_average": "pixels"},
        "Eq. 22 as a sum (as printed)": {"segmentation_average": "none"},
        "Eq. 8 on the mean of the 5 % highest": {"tag_pool": 0.05},
        "no refinement": {"refine_iterations": 0},
        "labels from the student's CAM": {"label_network": "student"},
        "lambda4 = 1": {"lambda4": 1.0},
        "Eq. 6 weighs the teacher": {"ema_weighs": "teacher"},
        "Eq. 10 on the middle tokens": {"punc_tokens": "middle"},
        "Eq. 10 over the batch": {"punc_mean": "batch"},
        "Eq. 10 with a learnt gain": {"projector_gain": True},
        "Eq. 10 with neither, gain learnt": {
            "centre_momentum": 1.0, "student_temperature": 1.0, "teacher_temperature": 1.0, "projector_gain": True,
        },
        "Eq. 8 on pooled tokens (ToCo)": {"tag_pool_of": "tokens"},
        "learning rates 0.0003 and 0.00003": {"lr": 3e-4, "student_lr": 3e-5},
    },
    "readings": {  # of the Gaussian correction, one change at a time from the preset, and what it has to beat
        "preset": {},
        "no correction": {"correction": False},
        "mixture over positive pixels": {"mixture_pixels": "positive"},
        "mixture over labelled foreground": {"mixture_pixels": "foreground"},
        "mixture on the pixel grid": {"mixture_grid": "pixel"},
        "labelled foreground on the pixel grid": {"mixture_pixels": "foreground", "mixture_grid": "pixel"},
        "CAM over three scales": {"label_scales": (1.0, 0.5, 1.5)},
        "x of the refined CAM": {"mixture_map": "refined"},
        "a mixture for each class": {"mixture_by": "class"},
        "labelled foreground, a mixture for each class": {"mixture_pixels": "foreground", "mixture_by": "class"},
        "means 2 standard deviations apart": {"mixture_gap": 2.0},
        "means 3 standard deviations apart": {"mixture_gap": 3.0},
        "EM as in DuPL": {"em_iterations": 10, "em_tolerance": 1e-2, "em_start": "kmeans", "variance_floor": 5e-4},
        "EM as in scikit-learn": {"em_iterations": 100, "em_tolerance": 1e-3, "em_start": "kmeans"},
        "tau 0.5": {"tau": 0.5},
        "tau 0.9": {"tau": 0.9},
        "tau 0.97": {"tau": 0.97},
        "tau the lowest 10 % of pairs": {"tau_of": "quantile", "tau": 0.1},
        "F the middle tokens": {"correction_features": "middle"},
        "F the projected tokens": {"correction_features": "projected"},
        "255 filled from labelled neighbours": {"copy_from": "labelled"},
        "255 filled, 10 rounds": {"copy_from": "labelled", "correction_rounds": 10},
        "raster order": {"correction_order": "raster"},
        "255 filled, raster order": {"copy_from": "labelled", "correction_order": "raster"},
        "one threshold": {"label_low": 0.4, "label_high": 0.4},
        "one threshold, no correction": {"label_low": 0.4, "label_high": 0.4, "correction": False},
        "GC in the last 60 % of the run": {"correction_from": 0.4},
        "GC in the first 60 % of the run": {"correction_until": 0.6},
        "upper threshold 0.6, no correction": {"label_high": 0.6, "correction": False},
        "upper threshold 0.7, no correction": {"label_high": 0.7, "correction": False},
        "thresholds 0.1 and 0.2": {"label_low": 0.1, "label_high": 0.2},
        "thresholds 0.1 and 0.2, no correction": {"label_low": 0.1, "label_high": 0.2, "correction": False},
        "thresholds 0.05 and 0.1": {"label_low": 0.05, "label_high": 0.1},
        "thresholds 0.05 and 0.1, no correction": {"label_low": 0.05, "label_high": 0.1, "correction": False},
        "thresholds 0.02 and 0.04": {"label_low": 0.02, "label_high": 0.04},
        "thresholds 0.02 and 0.04, no correction": {"label_low": 0.02, "label_high": 0.04, "correction": False},
        "Eq. 22 as a mean over all pixels, no correction": {"segmentation_average": "pixels", "correction": False},
    },
}  # fmt: skip


PEERS: dict[str, dict] = {  # each at the thresholds that all have, and under the paper's name for it
    "ToCo": {"method": "toco"},
    "AFA": {"method": "afa"},
    "TSCD": {"method": "tscd"},
    "DuPL": {"method": "dupl"},
    "URN": {"method": "urn"},
    "SEAM": {"method": "seam"},
    "SIPE": {"method": "sipe"},
    "ReCAM": {"method": "recam"},
    "CDA": {"method": "cda"},
    "1Stage": {"method": "onestage"},
    "RRM": {"method": "rrm"},
    "BECO": {"method": "beco"},
}
PICTURED = ("AFA", "TSCD", "ToCo", "DuPL")  # those whose runs keep pictures too, for Figure 4
OWN_THRESHOLDS: dict[str, dict] = {  # of labels, as their authors published them for VOC; the rows above have those of all methods
    "ToCo, own thresholds": PEERS["ToCo"] | {"ptc_low": 0.25, "ptc_high": 0.7, "label_high": 0.7},
    "AFA, own thresholds": PEERS["AFA"] | {"label_low": 0.35, "label_high": 0.55},
    "TSCD, own thresholds": PEERS["TSCD"] | {"label_low": 0.35, "label_high": 0.55},
    "DuPL, own thresholds": PEERS["DuPL"] | {"ptc_low": 0.25, "ptc_high": 0.7, "label_high": 0.7, "label_high_ends": (0.55,)},
}


def _some(name: str, *rows: str) -> dict[str, dict]:
    return {row: CHANGES[name][row] for row in ("preset", *rows)}


GRIDS: dict[str, dict[str, dict]] = {
    "modules": {  # Table 1, and the combination that it leaves out
        "baseline": {"method": "base"},
        "+ DSKD": {"correction": False},
        METHOD: {},
        "+ GC": {"distillation": False},
    },
    "peers": {"baseline": {"method": "base"}, METHOD: {}} | PEERS | OWN_THRESHOLDS,  # Tables 4 and 6, Figure 4
    "stability": {"baseline": {"method": "base"}},  # is the scale an instrument: does a class get lost, how far do seeds spread?
    "thresholds": _fields(paper.THRESHOLDS, "theta_high", "theta_low"),  # Table 2
    "weights": _fields(paper.WEIGHTS, "lambda1", "lambda2", "lambda3"),  # Table 3
    "choices": _some(  # what only a whole run shows, and what the paper prints
        "choices",
        "Eq. 10 with neither (as printed)",
        "Eq. 3 with two labels (as printed)",
        "Eq. 1 without minimum (as printed)",
        "Eq. 22 as a sum (as printed)",
        "Eq. 6 weighs the teacher",
        "Eq. 8 on pooled tokens (ToCo)",
    ),
    "readings": _some(  # those that differ most in what they do to a label, and what a correction has to beat
        "readings",
        "no correction",
        "upper threshold 0.6, no correction",
        "labelled foreground on the pixel grid",
        "a mixture for each class",
        "means 3 standard deviations apart",
    ),
    "reach": _some(  # does it go with how far the label reaches whether a correction helps? it is switched on and off on three rungs
        "readings",
        "no correction",
        "thresholds 0.1 and 0.2",
        "thresholds 0.1 and 0.2, no correction",
        "thresholds 0.02 and 0.04",
        "thresholds 0.02 and 0.04, no correction",
    )
    | {  # the other way that Eq. 8 pools, ToCo's, moves the maps more than anything else here: does the correction help on those?
        POOLED[0]: {"tag_pool_of": "tokens"},
        POOLED[1]: {"tag_pool_of": "tokens", "correction": False},
        STRICTER: {"tag_pool_of": "tokens", "label_high": 0.7, "correction": False},
    },
    "precision": {"float32": {"precision": "no"}, "bfloat16": {"precision": "bf16"}},
    "real": {  # photographs: what tags and what masks teach, the method's parts, readings of GC, and the controls that it has to beat
        "baseline": SALIENCY | {"method": "base"},
        "+ DSKD": SALIENCY | {"correction": False},
        METHOD: SALIENCY,
        "true masks": SALIENCY | {"method": "masks"},
        "linear probe": SALIENCY | {"method": "base", "frozen_blocks": 12},
        "+ DSKD + GC, labelled foreground": SALIENCY | {"mixture_pixels": "foreground"},
        "+ DSKD + GC, a mixture for each class": SALIENCY | {"mixture_by": "class"},
        "+ DSKD, upper threshold 0.5": SALIENCY | {"label_high": 0.5, "correction": False},
        "+ DSKD, upper threshold 0.6": SALIENCY | {"label_high": 0.6, "correction": False},
        "+ DSKD, upper threshold 0.8": SALIENCY | {"label_high": 0.8, "correction": False},
    },
    "real, peers": {row: SALIENCY | changes for row, changes in PEERS.items()},
    "real, all blocks": {  # larger crops and the whole encoder, where a GPU is at hand
        "baseline": LARGE | {"method": "base"},
        "+ DSKD": LARGE | {"correction": False},
        METHOD: LARGE,
    },
}
OF_SCALE = {"real": "voc6", "real, peers": "voc6", "real, all blocks": "voc6"}  # grids of one scale alone

# With n seeds no p is below 2 of 2^n, and Holm multiplies the first by the size of its family (`significance`): a grid needs as many
# seeds as its family asks for a verdict at 5 %. That is 6 for one comparison, 8 for four to six.
SEEDS: dict[str, tuple[int, ...]] = dict.fromkeys(GRIDS, tuple(range(8))) | {
    "modules": tuple(range(10)),  # they find 1.1 points if differences have a standard deviation of 1
    "peers": tuple(range(10)),  # those of Table 1, whose rows it shares
    "stability": tuple(range(20)),
    "reach": tuple(range(10)),  # those of Table 1, whose rows it shares
    "precision": tuple(range(6)),
    "real": tuple(range(6)),
    "real, peers": tuple(range(6)),
    "real, all blocks": (0, 1, 2),
}


def config_of(scale: str, changes: dict, seed: int, data: str = "") -> Config:
    """A row's configuration: a preset with the row's changes, scored on the preset's validation split at the end only."""
    config = _plain(scale, changes, seed, data)
    rows = [*GRIDS["modules"].values(), *(PEERS[row] for row in PICTURED)]
    pictured = seed == FIRST and any(config == _plain(scale, row, seed, data) for row in rows)
    return config.changed(pictures=PICTURES) if pictured else config


def _plain(scale: str, changes: dict, seed: int, data: str) -> Config:
    base = methods.preset(scale, changes.get("method", methods.DEFAULT))
    fields = {name: value for name, value in changes.items() if name != "method"}
    return base.changed(data=data or base.data, seed=seed, eval_every=0, pictures=0, **fields)


def of(scale: str) -> list[str]:
    """The grids that are made on a scale where none is named: its own if it has any, else those that are of none."""
    own = [name for name in GRIDS if OF_SCALE.get(name) == scale]
    return own or [name for name in GRIDS if name not in OF_SCALE]


def runs(names: Sequence[str], scale: str, seeds: Sequence[int] = (), data: str = "") -> dict[str, Config]:
    """The runs of several grids by label, grid by grid and within it seed by seed; one that two grids share comes once.

    seeds: of all these grids; each grid's own, `SEEDS`, if none is named.
    """
    found: dict[Config, str] = {}
    for name in names:
        for (row, seed), config in rows(name, scale, seeds, data).items():
            found.setdefault(config, f"{name}: {row}, seed {seed}")
    return {label: config for config, label in found.items()}


def rows(name: str, scale: str, seeds: Sequence[int] = (), data: str = "") -> dict[tuple[str, int], Config]:
    """All runs of one grid by row and seed; under its own seeds, `SEEDS`, if none is named."""
    seeds = seeds or SEEDS[name]
    return {(row, seed): config_of(scale, changes, seed, data) for seed in seeds for row, changes in GRIDS[name].items()}


def scales(folder: Path) -> list[str]:
    """The scales of which a folder holds results of grids that are made on every scale."""
    return [name for name in PRESETS if name not in OF_SCALE.values() and any(Path(folder, name).glob("*.json"))]
