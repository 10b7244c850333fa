"""The grids of runs behind the ablation tables: which method and fields each row has, on which scale, under which seeds."""

from collections.abc import Sequence
from pathlib import Path

from dsgc import methods
from dsgc.config import PRESETS, Config
from dsgc.experiments import paper

RESULTS = Path(__file__).parents[2] / "results"  # those that the repository holds
SEEDS = (0, 1, 2)
PICTURES = 6  # validation images kept from the runs of the first grid under the first seed, for Fig. 2 to 4
METHOD = "+ DSKD + GC"


def _fields(table: paper.Table, *names: str) -> dict[str, dict]:
    """The fields that the rows of a table of the paper state in their names."""
    return {row: dict(zip(names, map(float, row.split(", ")), strict=True)) for row in table.rows}


GRIDS: dict[str, dict[str, dict]] = {
    "modules": {  # Table 1, and the combination that it leaves out
        "baseline": {"method": "base"},
        "+ DSKD": {"correction": False},
        METHOD: {},
        "+ GC": {"distillation": False},
    },
    "thresholds": _fields(paper.THRESHOLDS, "theta_high", "theta_low"),  # Table 2
    "weights": _fields(paper.WEIGHTS, "lambda1", "lambda2", "lambda3"),  # Table 3
    "choices": {  # one change at a time from the preset; what the paper prints is marked so
        "preset": {},
        "mixture over all pixels (as printed)": {"mixture_pixels": "all"},
        "mixture over positive pixels": {"mixture_pixels": "positive"},
        "mixture on the patch grid": {"mixture_grid": "patch"},
        "all pixels of the patch grid": {"mixture_pixels": "all", "mixture_grid": "patch"},
        "tau 0.97": {"tau": 0.97},
        "Eq. 7 over tokens": {"similarity_axis": "tokens"},
        "Eq. 7 after warm-up too": {"similarity_after_warmup": True},
        "Eq. 10 without centre": {"centre_momentum": 1.0},
        "Eq. 10 with temperatures 1": {"student_temperature": 1.0, "teacher_temperature": 1.0},
        "Eq. 10 with neither (as printed)": {
            "centre_momentum": 1.0, "student_temperature": 1.0, "teacher_temperature": 1.0,
        },
        "Eq. 3 with two labels (as printed)": {"ptc_classes": False},
        "Eq. 1 without minimum (as printed)": {"subtract_minimum": False},
        "Eq. 22 unbalanced (as printed)": {"balanced_segmentation": False},
        "Eq. 8 on the mean of the 5 % highest": {"tag_pool": 0.05},
        "no refinement": {"refine_iterations": 0},
        "labels from the student's CAM": {"label_network": "student"},
        "lambda4 = 1": {"lambda4": 1.0},
        "learning rates 0.0003 and 0.00003": {"lr": 3e-4, "student_lr": 3e-5},
    },
    "precision": {"float32": {"precision": "no"}, "bfloat16": {"precision": "bf16"}},
}  # fmt: skip


def config_of(scale: str, changes: dict, seed: int, data: str = "") -> Config:
    """A row's configuration: a preset with the row's changes, scored on the preset's validation split at the end only."""
    config = _plain(scale, changes, seed, data)
    pictured = seed == SEEDS[0] and any(config == _plain(scale, row, seed, data) for row in GRIDS["modules"].values())
    return config.changed(pictures=PICTURES) if pictured else config


def _plain(scale: str, changes: dict, seed: int, data: str) -> Config:
    base = methods.preset(scale, changes.get("method", methods.DEFAULT))
    fields = {name: value for name, value in changes.items() if name != "method"}
    return base.changed(data=data or base.data, seed=seed, eval_every=0, pictures=0, **fields)


def runs(names: Sequence[str], scale: str, seeds: Sequence[int] = SEEDS, data: str = "") -> dict[str, Config]:
    """The runs of several grids by label, grid by grid and within it seed by seed; one that two grids share comes once."""
    found: dict[Config, str] = {}
    for name in names:
        for (row, seed), config in rows(name, scale, seeds, data).items():
            found.setdefault(config, f"{name}: {row}, seed {seed}")
    return {label: config for config, label in found.items()}


def rows(name: str, scale: str, seeds: Sequence[int] = SEEDS, data: str = "") -> dict[tuple[str, int], Config]:
    """All runs of one grid by row and seed."""
    return {(row, seed): config_of(scale, changes, seed, data) for seed in seeds for row, changes in GRIDS[name].items()}


def scales(folder: Path) -> list[str]:
    """The scales of which a folder holds results."""
    return [name for name in PRESETS if any(Path(folder, name).glob("*.json"))]
