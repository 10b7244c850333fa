"""How much memory a training step of the `voc` preset needs, by batch size, precision and recomputation.

On a GPU the peak is measured. Without one it is computed: weights, gradients and AdamW's moments by their sizes, and what
the graph of a real step keeps for the backward pass, counted while a batch of 1 and of 2 passes on the CPU; both grow linearly with
the batch from there. Temporary buffers are not in the computed figure. Writes `benchmarks/memory.json`.

    python benchmarks/memory.py
"""

import json
import platform
import time
from pathlib import Path

import dsgc  # noqa: F401, isort: skip; before torch, whose threads then share the cores with others
import torch

from dsgc.config import Config
from dsgc.experiments.provenance import provenance
from dsgc.methods import preset
from dsgc.methods.contract import Part
from dsgc.runs.parallel import accelerator_of
from dsgc.training.learner import begin
from dsgc.training.step import backward

GIB = 2**30
SETTINGS = [("no", False), ("bf16", False), ("bf16", True)]  # precision, recompute
BATCHES = (1, 2, 4, 8, 16)


class Kept:
    """Counts the bytes that autograd keeps for the backward pass, each storage once; weights are counted elsewhere."""

    def __init__(self, known: set[int]):
        self.seen, self.bytes = set(known), 0

    def pack(self, tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self.seen:
            self.seen.add(storage.data_ptr())
            self.bytes += storage.nbytes()
        return tensor


def step(batch: int, first: int, config: Config) -> dict[str, float]:
    """GiB of one step of the stage that begins with step number `first`: what stays between steps, and the peak."""
    torch.manual_seed(0)
    accelerator = accelerator_of(config)
    device = accelerator.device
    (networks, optimisers, memory), _ = begin(config, 20, device)
    part = Part(torch.rand(batch, 3, config.crop_size, config.crop_size, device=device), _tags(batch).to(device), torch.arange(batch))
    method, stage = config.method, config.method.stage(first, config.steps)
    numbers = {name: sum(p.numel() for p in network.parameters()) for name, network in networks.items()}
    gradients = sum(numbers[name] for name in stage.learning)
    steady = 4 * (3 * sum(numbers.values()) + gradients)  # weights, and two moments of all, once the warm-up has made them
    if device.type == "cuda":
        for _ in range(3):
            torch.cuda.reset_peak_memory_stats()
            backward(method, networks, [part], stage, memory, accelerator)
            for adam in optimisers.values():
                adam.step()
                adam.zero_grad()
        return {"steady": steady / GIB, "peak": torch.cuda.max_memory_allocated() / GIB}
    kept = Kept({p.untyped_storage().data_ptr() for network in networks.values() for p in network.parameters()})
    with torch.autograd.graph.saved_tensors_hooks(kept.pack, lambda tensor: tensor):
        backward(method, networks, [part], stage, memory, accelerator)
    return {"steady": steady / GIB, "kept": kept.bytes / GIB}


def _tags(batch: int) -> torch.Tensor:
    return (torch.arange(20)[None] % 7 == torch.arange(batch)[:, None] % 7).float()


def main() -> None:
    base = preset("voc").changed(weights="none")
    measured, lines = torch.cuda.is_available(), []
    begun = time.monotonic()
    for precision, recompute in SETTINGS:
        config = base.changed(precision=precision, recompute=recompute)
        for first in (0, base.method.warmup_steps):
            stage = base.method.stage(first, base.steps).name
            if measured:
                found = {batch: step(batch, first, config) for batch in BATCHES}
            else:
                one, two = step(1, first, config), step(2, first, config)
                each = two["kept"] - one["kept"]
                found = {b: {"steady": one["steady"], "peak": one["steady"] + one["kept"] + (b - 1) * each} for b in BATCHES}
            for batch, value in found.items():
                line = {"precision": precision, "recompute": recompute, "stage": stage, "batch": batch} | value
                lines.append({name: round(v, 3) if isinstance(v, float) else v for name, v in line.items()})
                print(lines[-1], flush=True)
    about = provenance(base, round(time.monotonic() - begun)) | {"system": platform.platform()}
    result = {"how": "measured" if measured else "computed", "unit": "GiB", "about": about, "steps": lines}
    Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
