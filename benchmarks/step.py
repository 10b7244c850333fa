"""How fast training is: images/s of the real loop, what of the device it uses, its peak memory, what it loses to data loading.

Trains on generated pictures of 512 x 512, read and cropped as in training, through warm-up and expansion alike long. Then once
more with one batch that is there from the start: the difference is what loading costs. Operations are counted by torch; the
device's peak is what a large matrix product reaches on it. Writes `benchmarks/step.json`.

    python benchmarks/step.py --steps 400                      the preset voc, on a GPU
    python benchmarks/step.py --encoder vit_tiny_patch16_224 --crop-size 96 --steps 8 --log-every 2
"""

import dataclasses
import itertools
import json
import tempfile
import time
from pathlib import Path
from statistics import median

import dsgc  # noqa: F401, isort: skip; before torch, whose threads then share the cores with others
import torch
import tyro
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from dsgc.command.options import options_of
from dsgc.config import Config
from dsgc.data import shapes
from dsgc.data.loading import train_batches
from dsgc.experiments.provenance import provenance
from dsgc.methods import preset
from dsgc.runs.parallel import accelerator_of
from dsgc.training import loop as training
from dsgc.training.learner import begin, parts_of
from dsgc.training.splits import open_data
from dsgc.training.step import backward

STAGES = ("warm-up", "expansion")


def pictures(folder: Path, side: int = 512) -> Path:
    """The embedded data set's pictures, some of them, enlarged."""
    shapes.write(folder, sizes={"train": 64, "dev": 1, "val": 1})
    for path in [*folder.glob("JPEGImages/*.jpg"), *folder.glob("SegmentationClass/*.png")]:
        with Image.open(path) as image:
            method = Image.Resampling.NEAREST if image.mode == "P" else Image.Resampling.BICUBIC
            image.resize((side, side), method).save(path, **({"quality": 95} if path.suffix == ".jpg" else {}))
    return folder


def rates(config: Config, fixed: bool) -> dict[str, float]:
    """Images/s of each stage in the real loop, medians over the log's lines; `fixed` gives it one batch again and again."""

    def one_batch(*given, stop, **options):
        return itertools.repeat(next(iter(train_batches(*given, stop=stop, **options))), stop)

    training.train_batches = one_batch if fixed else train_batches
    log = (training.train(config) / "log.jsonl").read_text().splitlines()
    training.train_batches = train_batches
    lines = [line for line in map(json.loads, log) if "losses" in line]
    found = {stage: [line["images_per_second"] for line in lines if line["stage"] == stage][1:] for stage in STAGES}
    return {stage: median(values) for stage, values in found.items()}


def operations(config: Config) -> dict[str, float]:
    """Floating-point operations of a step of each stage, forward and backward, as torch counts them."""
    accelerator, data, found = accelerator_of(config), open_data(config), {}
    (networks, _, memory), _ = begin(config.changed(recompute=False), len(data.folder.classes), accelerator.device)
    batch = next(iter(train_batches(data.train, batch=config.batch_size, seed=0, start=0, stop=1, workers=0)))
    parts = parts_of(batch, config.batch_size, accelerator.device)
    for first in (0, config.method.warmup_steps):
        stage = config.method.stage(first, config.steps)
        with FlopCounterMode(display=False) as counter:
            backward(config.method, networks, parts, stage, memory, accelerator)
        found[stage.name] = float(counter.get_total_flops())
    return found


def peak(config: Config) -> float:
    """Operations a second of a large matrix product in the config's precision: the best of five rounds."""
    device = accelerator_of(config).device
    side, dtype = (8192 if device.type == "cuda" else 1024), (torch.bfloat16 if config.precision == "bf16" else torch.float32)
    one, best = torch.randn(side, side, device=device, dtype=dtype), 0.0
    for _ in range(5):
        begun = time.perf_counter()
        for _ in range(10):
            two = one @ one
        two.sum().item()  # waits for it
        best = max(best, 10 * 2 * side**3 / (time.perf_counter() - begun))
    return best


def main() -> None:
    base = preset("voc").changed(weights="none", steps=200, warmup_steps=0, eval_every=0, pictures=0, checkpoint_every=10**6)
    chosen = tyro.cli(options_of(base), description=__doc__)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="dsgc-step-") as scratch:
        folder = pictures(Path(scratch) / "data")
        values = dataclasses.asdict(chosen) | {"data": str(folder), "warmup_steps": chosen.steps // 2}
        config, found = base.changed(**values | {"out": str(Path(scratch) / "run")}), {}
        loaded, ready = (rates(config.changed(out=f"{config.out}-{fixed}"), fixed) for fixed in (False, True))
        memory = torch.cuda.max_memory_allocated() / 2**30 if torch.cuda.is_available() else None
        counted, fastest = operations(config), peak(config)
    for stage in STAGES:
        used = counted[stage] / config.batch_size * loaded[stage]  # operations a second
        found[stage] = {
            "images_per_second": loaded[stage],
            "with_a_batch_that_is_there": ready[stage],
            "lost_to_loading": 1 - loaded[stage] / ready[stage],
            "operations_per_step": counted[stage],
            "share_of_peak": used / fastest,
        }
    fields = ("encoder", "crop_size", "batch_size", "precision", "recompute", "workers", "steps")
    about = provenance(config, time.monotonic() - begun)
    result = {"config": {name: getattr(config, name) for name in fields}, "about": about}
    result |= {"peak_operations_per_second": fastest, "peak_memory_GiB": memory, "stages": found}
    Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
