"""How fast training is on a GPU: images/s of both stages, what of the device they use, what waits for the host, what loading costs.

Pictures of 512 x 512 are generated, read and cropped as in training. Each batch size is measured with the blocks as they are and
compiled (`--compile`), each stage with batches from the loader and with one that is there: the difference is what loading costs. The
device is busy while a kernel runs, as torch's profiler has it; else it waits for the host. Operations are counted by torch; the
device's peak is what a large matrix product reaches on it. Writes `benchmarks/step.json`.

    python benchmarks/step.py                                                  the preset voc, on a GPU
    python benchmarks/step.py --encoder vit_tiny_patch16_224 --crop-size 96 --steps 3 --batches 2
"""

import itertools
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import dsgc  # noqa: F401, isort: skip; before torch, whose threads then share the cores with others
import torch
import tyro
from measure import wait, write
from PIL import Image
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from dsgc import binned, correction, refine
from dsgc.config import Config
from dsgc.data import shapes
from dsgc.data.loading import train_batches
from dsgc.methods import preset
from dsgc.runs.parallel import accelerator_of
from dsgc.training.learner import advance, begin, parts_of
from dsgc.training.splits import open_data

WARM = 6  # steps before any that is timed
PROFILED = 4  # steps under the profiler


def pictures(folder: Path, side: int = 512) -> Path:
    """The embedded data set's pictures, some of them, enlarged."""
    shapes.write(folder, sizes={"train": 64, "dev": 1, "val": 1})
    for path in [*folder.glob("JPEGImages/*.jpg"), *folder.glob("SegmentationClass/*.png")]:
        with Image.open(path) as image:
            method = Image.Resampling.NEAREST if image.mode == "P" else Image.Resampling.BICUBIC
            image.resize((side, side), method).save(path, **({"quality": 95} if path.suffix == ".jpg" else {}))
    return folder


def seconds(steps: Iterable, take: Callable[[object], object]) -> float:
    """Of a step, on average; the device has done all of them by then."""
    wait()
    begun = time.perf_counter()
    count = len([take(batch) for batch in steps])
    wait()
    return (time.perf_counter() - begun) / count


def busy(take: Callable[[object], object], batch: object) -> dict[str, float]:
    """Of a step: seconds in which a kernel runs on the card, kernels, and seconds under the profiler; nothing where there is no card."""
    if not torch.cuda.is_available():
        return {}
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        whole = seconds([batch] * PROFILED, take)
    spans = sorted((e.time_range.start, e.time_range.end) for e in profiler.events() if e.device_type == torch.autograd.DeviceType.CUDA)
    total, end = 0.0, 0.0
    for first, last in spans:
        total, end = total + max(0.0, last - max(first, end)), max(end, last)
    return {"busy_seconds": total / 1e6 / PROFILED, "kernels": len(spans) / PROFILED, "profiled_seconds": whole}


def stages(config: Config) -> dict[str, dict[str, float]]:
    """What each stage takes, of a network that the config describes."""
    accelerator, data, found = accelerator_of(config), open_data(config), {}
    learner, _ = begin(config, len(data.folder.classes), accelerator.device)
    loader = {"batch": config.batch_size, "seed": 0, "workers": config.workers}
    (ready,) = train_batches(data.train, **loader | {"workers": 0}, start=0, stop=1)
    warm_up = config.method.warmup_steps
    for name, first in (("warm-up", 0), ("expansion", warm_up)):

        def take(batch: object, first: int = first) -> None:
            advance(learner, parts_of(batch, config.batch_size, accelerator.device), first, config, accelerator)

        begun = time.perf_counter()
        seconds([ready] * WARM, take)
        found[name] = {"first_steps_seconds": time.perf_counter() - begun}
        found[name]["seconds"] = seconds([ready] * config.steps, take)
        batches = train_batches(data.train, **loader, start=0, stop=WARM + config.steps)
        seconds(itertools.islice(batches, WARM), take)
        found[name]["seconds_with_loading"] = seconds(batches, take)
        found[name] |= busy(take, ready)
        if not config.compile:
            with FlopCounterMode(display=False) as counter:
                take(ready)
            found[name]["operations"] = float(counter.get_total_flops())
    return found


def parts(config: Config) -> dict[str, float]:
    """Seconds of what makes a label beside the network, of random maps: the mixture is fitted on the host, all else on the card."""
    device, side = accelerator_of(config).device, config.crop_size // config.method.label_stride
    maps, images = (torch.rand(config.batch_size, n, side, side, device=device) for n in (2, 3))
    patches = config.crop_size // 16
    confidence = torch.rand(config.batch_size, patches**2, device=device) ** 3
    features = torch.randn(config.batch_size, 768, patches, patches, device=device)
    cases = {
        "the mixture": lambda _: binned.fit(confidence),
        "the refinement": lambda _: refine.refine(maps, images, dilations=config.method.refine_dilations),
        "the similarities": lambda _: correction.neighbour_similarity(features),
    }
    for case in cases.values():
        case(None)  # the first call may allocate or compile, so it does not count
    return {name: seconds([None] * config.steps, case) for name, case in cases.items()}


def peak(precision: str) -> float:
    """Operations a second of a large matrix product in a precision: the best of five rounds."""
    cuda = torch.cuda.is_available()
    side, dtype = (8192 if cuda else 1024), (torch.bfloat16 if precision == "bf16" else torch.float32)
    one = torch.randn(side, side, device="cuda" if cuda else "cpu", dtype=dtype)
    return max(2 * side**3 / seconds(range(10), lambda _: one @ one) for _ in range(5))


def main(encoder: str = "", crop_size: int = 448, batches: tuple[int, ...] = (4, 16), steps: int = 30, workers: int = 8) -> None:
    """Measure the preset `voc`, or another encoder and crop, with these batch sizes, `steps` steps a number."""
    base, begun, cases = preset("voc").changed(weights="none", warmup_steps=steps // 2, steps=steps, workers=workers), time.monotonic(), []
    with tempfile.TemporaryDirectory(prefix="dsgc-step-") as scratch:
        base = base.changed(data=str(pictures(Path(scratch) / "data")), encoder=encoder or base.encoder, crop_size=crop_size)
        for batch, compiled in itertools.product(batches, (False, True)):
            torch.cuda.reset_peak_memory_stats() if torch.cuda.is_available() else None
            found = stages(base.changed(batch_size=batch, compile=compiled))
            memory = torch.cuda.max_memory_allocated() / 2**30 if torch.cuda.is_available() else None
            cases.append({"images": batch, "compile": compiled, "peak_GiB": memory, "stages": found})
            if not compiled:
                cases[-1]["parts"] = parts(base.changed(batch_size=batch))
            print(cases[-1], flush=True)
    about = {"encoder": base.encoder, "crop": crop_size, "precision": base.precision, "workers": workers, "steps": steps}
    about["peak_operations_per_second"] = peak(base.precision)
    write(__file__, {"question": "How fast training is on a GPU", **about, "cases": cases}, begun)


if __name__ == "__main__":
    tyro.cli(main)
