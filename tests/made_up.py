"""Made-up results of grids: files as runs leave them, with scores that a test chooses."""

import base64
import io
import json

import numpy as np
from PIL import Image

from dsgc.correction import RULES
from dsgc.data.shapes import KINDS
from dsgc.experiments import grids, stored
from dsgc.experiments.provenance import code_version
from dsgc.scoring.diagnosis import BINS, DETECTORS

NAMES = ("background", *(kind.name for kind in KINDS))


def picture():
    """A map as a result keeps it."""
    buffer = io.BytesIO()
    Image.fromarray(np.eye(128, dtype=np.uint8)).save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def scores(config, miou, lost):
    """Of every network and score of a run: the same mIoU, per cent; classes that are lost have 5."""
    found = dict.fromkeys(NAMES, miou / 100) | dict.fromkeys(lost, 0.05)
    one = {"miou": miou / 100, "per_class": found, "strict": miou / 100, "coverage": 0.9}
    return {network: dict.fromkeys(config.method.scores, one) for network in config.method.networks}


def result(config, miou, lost, images):
    """A whole result; a run whose labels are corrected has counts, one that keeps pictures has them of these images."""
    rng = np.random.default_rng(config.seed)
    detectors, rules = rng.integers(1, 50, (len(DETECTORS), BINS, 2)), rng.integers(0, 50, (len(RULES), 3, 3))
    about = {"code": code_version(config.method.name), "commit": "made up", "date": "2025-01-01", "seconds": 100, "threads": 1}
    return stored.Result(
        stored.described(config),
        scores(config, miou, lost),
        {"detectors": detectors.tolist(), "rules": rules.tolist()} if config.method.corrects else {},
        {image: dict.fromkeys(("cam", "pseudo", "prediction"), picture()) for image in images[: config.pictures]},
        about | {"machine": "none", "versions": {}, "processor": "none", "system": "none", "warm_up": {}},
    )


def write(folder, names, seeds, images, score, lost=lambda row, seed: ()):
    """Results of some grids of the scale `shapes`.

    score, lost: of a row's name and a seed the mIoU in per cent, and the classes that are lost. Where grids share a run it is the
    first one's.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for label, config in grids.runs(names, "shapes", seeds).items():
        row = label.partition(": ")[2].rpartition(", seed ")[0]
        made = result(config, score(row, config.seed), lost(row, config.seed), images)
        stored.path_of(config, folder).write_text(json.dumps(made._asdict() | {"digest": stored.digest(made)}))
