"""How much memory a training step of the `voc` preset needs, by batch size, precision and recomputation.

On a GPU the peak is measured. Without one it is computed: weights, gradients and AdamW's moments by their sizes, and what
the graph of a real step keeps for the backward pass, counted while a batch of 1 and of 2 passes on the CPU; both grow linearly with
the batch from there. Temporary buffers are not in the computed figure. Writes `benchmarks/memory.json`.

    python benchmarks/memory.py
"""

import copy
import dataclasses
import json
import platform
import time
from pathlib import Path

import torch

from dsgc.build import accelerator_of, build_network
from dsgc.config import PRESETS, Config
from dsgc.learner import loss_weights, optimiser
from dsgc.objective import Stage
from dsgc.provenance import provenance
from dsgc.step import Part, backward

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


def step(batch: int, stage: Stage, config: Config) -> dict[str, float]:
    """GiB of one step: what stays between steps, and the peak."""
    torch.manual_seed(0)
    accelerator = accelerator_of(config)
    device = accelerator.device
    teacher = build_network(config, 20)[0].to(device)
    teacher.encoder.set_grad_checkpointing(config.recompute)
    student = copy.deepcopy(teacher)
    part = Part(torch.rand(batch, 3, config.crop_size, config.crop_size, device=device), _tags(batch).to(device), None)
    centre, weights = torch.zeros(config.projector[2], device=device), loss_weights(stage, config)
    numbers = sum(p.numel() for p in teacher.parameters())
    trained = 2 if stage == "warm-up" else 1
    steady = 4 * numbers * (2 + trained + 2 * 2)  # weights of both; gradients; two moments of both, once the warm-up has made them
    if device.type == "cuda":
        optimisers = [optimiser(network, 1e-5, config) for network in (teacher, student)]
        for _ in range(3):
            torch.cuda.reset_peak_memory_stats()
            backward(teacher, student, [part], stage, weights, centre, config, accelerator)
            for adam in optimisers:
                adam.step()
                adam.zero_grad()
        return {"steady": steady / GIB, "peak": torch.cuda.max_memory_allocated() / GIB}
    kept = Kept({p.untyped_storage().data_ptr() for net in (teacher, student) for p in net.parameters()})
    with torch.autograd.graph.saved_tensors_hooks(kept.pack, lambda tensor: tensor):
        backward(teacher, student, [part], stage, weights, centre, config, accelerator)
    return {"steady": steady / GIB, "kept": kept.bytes / GIB}


def _tags(batch: int) -> torch.Tensor:
    return (torch.arange(20)[None] % 7 == torch.arange(batch)[:, None] % 7).float()


def main() -> None:
    base = dataclasses.replace(PRESETS["voc"], weights="none")
    measured, lines = torch.cuda.is_available(), []
    begun = time.monotonic()
    for precision, recompute in SETTINGS:
        config = dataclasses.replace(base, precision=precision, recompute=recompute)
        for stage in ("warm-up", "expansion"):
            if measured:
                found = {batch: step(batch, stage, config) for batch in BATCHES}
            else:
                one, two = step(1, stage, config), step(2, stage, config)
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
