"""The bits that a shortened run leaves, as one digest: what `confirm` compares.

Run by its path in a process of its own, so that PYTHONPATH says of which copy of the package.
"""

import dataclasses
import hashlib
import json
import sys
import tempfile
from pathlib import Path

from dsgc.config import Config
from dsgc.experiments.provenance import code_version
from dsgc.methods import configured
from dsgc.runs.parallel import accelerator_of
from dsgc.runs.restore import load_networks
from dsgc.scoring import diagnosis
from dsgc.scoring.evaluate import evaluate
from dsgc.training.loop import train_until
from dsgc.training.splits import open_data

WARM_UP, STEPS, BATCH = 2, 12, 4
IMAGES = 8  # that are scored


def shortened(config: Config) -> Config:
    """The same run in a few steps of small batches, through all its stages.

    Raises:
        ValueError: it has stages that so few steps do not reach.
    """
    warm_up = {"warmup_steps": WARM_UP} if "warmup_steps" in config.method.names() else {}
    short = config.changed(steps=STEPS, batch_size=BATCH, lr_ramp_steps=1, workers=0, pictures=0, **warm_up)
    left = _stages(config) - _stages(short)
    if left:
        raise ValueError(f"{STEPS} steps do not reach the stages {', '.join(sorted(left))} of {config.method.name}")
    return short


def _stages(config: Config) -> set[str]:
    return {config.method.stage(step, config.steps).name for step in range(config.steps)}


def bits(config: Config) -> str:
    """A digest of the weights of all networks after the shortened run's last step but one, their scores and the counts of corrections."""
    with tempfile.TemporaryDirectory(prefix="dsgc-bits-") as folder:
        short = dataclasses.replace(shortened(config), out=str(Path(folder) / "run"))
        networks, saved = load_networks(train_until(short, STEPS - 1))
    weights = [saved.files[f"{name}.safetensors"] for name in sorted(networks)]  # a digest of each network's file
    device, dataset = accelerator_of(short).device, open_data(short).val
    networks = {name: network.to(device) for name, network in networks.items()}
    scores = evaluate(networks, dataset, short, device, IMAGES)
    counts = diagnosis.count(networks[short.method.networks[0]], dataset, short, device)
    return hashlib.sha256(json.dumps([weights, scores, counts], sort_keys=True).encode()).hexdigest()


if __name__ == "__main__":  # a configuration comes in on standard input
    asked = configured(json.loads(sys.stdin.readline()))
    print(json.dumps({"code": code_version(asked.method.name), "bits": bits(asked)}))
