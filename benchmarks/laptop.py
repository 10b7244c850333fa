"""What a step of training costs without a GPU: seconds and memory by frozen blocks, with tokens that are kept and without, on two threads.

The preset voc6 (DINOv2's ViT-S/14, 12 blocks, crops of 168 pixels, 16 a step), with random weights and generated pictures: neither changes
what a step costs. A step with kept tokens is one whose crops have come before. Writes `benchmarks/laptop.json`.

    python benchmarks/laptop.py
"""

import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from measure import alternate, compared, peak_memory, report_peak, write

from dsgc.data import shapes
from dsgc.data.loading import train_batches
from dsgc.methods import preset
from dsgc.runs.parallel import accelerator_of
from dsgc.training.learner import advance, begin, keep_frozen, parts_of
from dsgc.training.splits import open_data

THREADS = 2
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Case:
    """A way to train."""

    method: str
    frozen: int
    views: int
    crop: int = 168


CASES = [
    Case("base", 0, 0),
    Case("base", 9, 0),
    Case("base", 9, 1),
    Case("base", 12, 0),
    Case("base", 12, 1),
    Case("base", 12, 1, crop=112),
    Case("dsgc", 9, 0),
    Case("dsgc", 9, 1),
    Case("dsgc", 12, 1),
]


class Setting:
    """Networks and a batch; `step` makes one of the run's last steps, in which every loss is there."""

    def __init__(self, case: Case, folder: Path):
        changes = {"data": str(folder / "shapes"), "out": str(folder), "train_split": "train", "val_split": "dev", "weights": "none"}
        size = {"frozen_blocks": case.frozen, "frozen_views": case.views, "crop_size": case.crop, "device": "cpu"}
        self.config = preset("voc6", case.method).changed(**changes, **size)
        torch.manual_seed(0)
        data = open_data(self.config)
        self.learner, _ = begin(self.config, len(data.folder.classes), CPU)
        keep_frozen(self.learner, self.config, len(data.train))
        batch = next(train_batches(data.train, batch=self.config.batch_size, seed=0, start=0, stop=1, workers=0))
        self.parts = parts_of(batch, self.config.batch_size, CPU)
        self.accelerator = accelerator_of(self.config)

    def step(self) -> None:
        advance(self.learner, self.parts, self.config.steps - 1, self.config, self.accelerator)


def main() -> None:
    torch.set_num_threads(THREADS)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shapes.write(folder / "shapes", sizes={"train": 32, "dev": 2, "val": 2})
        if len(sys.argv) > 1:
            setting = Setting(CASES[int(sys.argv[1])], folder)
            setting.step()
            report_peak(setting.step)
            return
        settings = {case: Setting(case, folder) for case in CASES}
        timed = compared(alternate({case: setting.step for case, setting in settings.items()}, rounds=3), to=CASES[0])
        rows = []
        for number, case in enumerate(CASES):
            kept = settings[case].learner.networks[settings[case].config.method.networks[0]].kept
            disk = 0 if kept is None else 2 * 1000 * kept.row / 2**20  # each picture as it is and mirrored
            memory = peak_memory(__file__, str(number))
            rows.append(asdict(case) | timed[case] | {"memory": memory, "disk": disk})
    write(__file__, {"batch": 16, "cases": rows}, begun)


if __name__ == "__main__":
    main()
