"""Which readings of the correction are tried on which fixed maps: the rows of the noise ladders, that `ladder` climbs.

A row changes something of the scale's preset. The rungs are pairs of thresholds of the initial label: the lower they are, the
further such a label reaches, and the more of what it calls foreground is not. On each rung the correction is switched on and
nothing else is changed.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dsgc.config import Config
from dsgc.experiments import grids, trials
from dsgc.methods import preset

PLAIN = "no correction"
ON_PIXELS = "labelled foreground on the pixel grid"
WITHOUT_MIXTURE = "no mixture: noise is where the CAM is 0"
RUNGS = {  # thresholds of the initial label: the row with the correction, and that without
    "0.25 and 0.5": ("preset", PLAIN),
    "0.1 and 0.2": ("thresholds 0.1 and 0.2", "thresholds 0.1 and 0.2, no correction"),
    "0.05 and 0.1": ("thresholds 0.05 and 0.1", "thresholds 0.05 and 0.1, no correction"),
    "0.02 and 0.04": ("thresholds 0.02 and 0.04", "thresholds 0.02 and 0.04, no correction"),
}
ROWS = (  # the rungs, and readings and choices that labels and decoder alone depend on
    *(row for pair in RUNGS.values() for row in pair),
    "upper threshold 0.6, no correction",
    ON_PIXELS,
    "labelled foreground, a mixture for each class",
    "means 3 standard deviations apart",
    "tau 0.97",
    "Eq. 1 without minimum (as printed)",
    "Eq. 22 as a sum (as printed)",
    "Eq. 22 as a mean over all pixels",
    "Eq. 22 as a mean over all pixels, no correction",
)
CHANGES = grids.CHANGES["choices"] | grids.CHANGES["readings"]
TRIALS = {  # what a run has no setting for, and the row that it changes
    WITHOUT_MIXTURE: (trials.Zero, "preset"),
    "nothing above the higher mean is noise": (trials.Monotone, "preset"),
    "components of equal widths": (trials.EqualWidths, "preset"),
    f"{ON_PIXELS}, 5 % of it at least": (trials.Sampled, ON_PIXELS),
}
DETAILS = {  # a detail changed, and the row that differs in it alone: a family of its own, of all that ten seeds can decide
    "mixture over positive pixels": "preset",
    "mixture over labelled foreground": "preset",
    "mixture on the pixel grid": "preset",
    "x of the refined CAM": "preset",
    "a mixture for each class": "preset",
    "means 2 standard deviations apart": "preset",
    "EM as in DuPL": "preset",
    "EM as in scikit-learn": "preset",
    "tau 0.5": "preset",
    "tau 0.9": "preset",
    "tau the lowest 10 % of pairs": "preset",
    "F the middle tokens": "preset",
    "F the projected tokens": "preset",
    "255 filled from labelled neighbours": "preset",
    "255 filled, 10 rounds": "preset",
    "raster order": "preset",
    "255 filled, raster order": "preset",
    "CAM over three scales": "preset",
    "no refinement": "preset",
    "one threshold": "one threshold, no correction",
    "upper threshold 0.7, no correction": PLAIN,
} | {row: changed for row, (_, changed) in TRIALS.items()}
# Background keeps its label where the CAM is 0, or all of it does:
GENTLE = ("mixture over positive pixels", "mixture over labelled foreground", ON_PIXELS)
CHANGES |= {f"{on}, {reading}": CHANGES[on] | CHANGES[reading] for on, _ in RUNGS.values() if on != "preset" for reading in GENTLE}
CROSSED = {  # each of these and the preset's own on each rung: the row with it, and that without correction
    (thresholds, reading): (on if reading == "preset" else reading if on == "preset" else f"{on}, {reading}", off)
    for thresholds, (on, off) in RUNGS.items()
    for reading in ("preset", *GENTLE)
}
EVERY = tuple(dict.fromkeys((*ROWS, *DETAILS.values(), *DETAILS, *(row for row, _ in CROSSED.values()))))


class Ladder(NamedTuple):
    """Which readings are tried on the maps of which runs, and where what is found is kept."""

    scale: str
    fields: Mapping[str, Any]  # that all of its runs have
    changes: Mapping[str, Mapping[str, Any]]  # by row
    rungs: Mapping[str, tuple[str, str]]
    rows: Sequence[str]
    splits: Mapping[str, str]  # "train", "dev", "val": what they are called there
    side: int  # of the squares that pictures of many sizes are squeezed to; 0 leaves them as they are
    file: Path

    def config(self, row: str = "preset") -> Config:
        """A row's configuration."""
        trial, changed = TRIALS.get(row, (None, row))
        config = preset(self.scale).changed(**self.fields, **self.changes[changed])
        return trials.on_trial(config, trial) if trial else config

    def warm_up(self, seed: int, data: str, out: str) -> Config:
        """A run of which the warm-up alone is wanted."""
        return self.config().changed(data=data, out=out, seed=seed, eval_every=0, pictures=0)


SPLITS = ("train", "dev", "val")
DRAWN = Ladder("shapes", {}, CHANGES, RUNGS, EVERY, dict(zip(SPLITS, SPLITS, strict=True)), 0, grids.RESULTS / "ladder.json")
EARLY = DRAWN._replace(  # the paper's warm-up is a tenth of its run, that of `shapes` three tenths
    fields={"warmup_steps": 20}, rows=tuple(row for pair in RUNGS.values() for row in pair), file=grids.RESULTS / "ladder_early.json"
)
POOLED = DRAWN._replace(  # where Eq. 8 pools tokens as ToCo does, on whose maps whole runs gain by the correction
    fields={"tag_pool_of": "tokens"},
    rungs={thresholds: RUNGS[thresholds] for thresholds in ("0.25 and 0.5", "0.1 and 0.2")},
    rows=(
        *RUNGS["0.25 and 0.5"],
        *RUNGS["0.1 and 0.2"],
        "upper threshold 0.7, no correction",
        WITHOUT_MIXTURE,
        "mixture over positive pixels",
        "mixture over labelled foreground",
    ),
    file=grids.RESULTS / "ladder_pooled.json",
)
HALF = {"label_low": 0.25, "label_high": 0.5}  # what `shapes` has
PHOTOGRAPHS = Ladder(
    "voc6",
    grids.SALIENCY,
    CHANGES | {"thresholds 0.25 and 0.5": HALF, "thresholds 0.25 and 0.5, no correction": HALF | {"correction": False}},
    rungs={
        "0.25 and 0.7": RUNGS["0.25 and 0.5"],  # the preset here
        "0.25 and 0.5": ("thresholds 0.25 and 0.5", "thresholds 0.25 and 0.5, no correction"),
        "0.1 and 0.2": RUNGS["0.1 and 0.2"],
        "0.05 and 0.1": RUNGS["0.05 and 0.1"],
    },
    rows=(
        *RUNGS["0.25 and 0.5"],
        "thresholds 0.25 and 0.5",
        "thresholds 0.25 and 0.5, no correction",
        *RUNGS["0.1 and 0.2"],
        *RUNGS["0.05 and 0.1"],
        "upper threshold 0.6, no correction",
        WITHOUT_MIXTURE,
        "mixture over positive pixels",
        "mixture over labelled foreground",
        "a mixture for each class",
        "labelled foreground, a mixture for each class",
        ON_PIXELS,
        "means 3 standard deviations apart",
    ),
    splits={name: f"voc6_{name}" for name in SPLITS},
    side=168,  # the crop of that scale
    file=grids.RESULTS / "ladder_voc6.json",
)
LADDERS = {"drawn": DRAWN, "early": EARLY, "pooled": POOLED, "photographs": PHOTOGRAPHS}
