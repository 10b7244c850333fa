"""What a step of training costs without a GPU: seconds and memory by frozen blocks, with tokens that are kept and without.

The preset voc6 (DINOv2's ViT-S/14, 12 blocks, crops of 168 pixels, 16 a step), with random weights and generated pictures: neither changes
what a step costs. A step with kept tokens is one whose crops have come before. Seconds are those that one core works on it, which is what
one core that does nothing else would take; so they can be measured beside other work. Writes `benchmarks/laptop.json`.

    python benchmarks/laptop.py
"""

import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import dsgc  # noqa: F401, isort: skip; before torch, whose threads then share the cores with others
import torch
from measure import compared, peak_memory, report_peak, write

from dsgc.data import shapes
from dsgc.data.loading import train_batches
from dsgc.methods import preset
from dsgc.runs.parallel import accelerator_of
from dsgc.training.learner import advance, begin, keep_frozen, parts_of
from dsgc.training.splits import open_data

ROUNDS = 2
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

    def work(self) -> float:
        """Seconds that one core works on a step."""
        begun = time.process_time()
        self.step()
        return time.process_time() - begun

    def mib_a_crop(self) -> float:
        """MiB that are kept of a crop."""
        kept = next(iter(self.learner.networks.values())).kept
        return 0.0 if kept is None else len(kept.places) / self.config.batch_size * kept.row / 2**20


def taken_in_turn(settings: dict[Case, Setting]) -> dict[Case, list[float]]:
    """Seconds of work of a step, a value a round."""
    found = {case: [] for case in settings}
    for _ in range(ROUNDS):
        for case, setting in settings.items():
            found[case].append(setting.work())
            print(case, f"{found[case][-1]:.2f} s", flush=True)
    return found


def main() -> None:
    torch.set_num_threads(1)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shapes.write(folder / "shapes", sizes={"train": 32, "dev": 2, "val": 2})
        if len(sys.argv) > 1:
            report_peak(Setting(CASES[int(sys.argv[1])], folder).step)
            return
        settings = {case: Setting(case, folder) for case in CASES}
        first = {case: setting.work() if case.views else 0.0 for case, setting in settings.items()}  # of crops that are new
        timed = compared(taken_in_turn(settings), to=CASES[0])
        rows = []
        for number, (case, setting) in enumerate(settings.items()):
            facts = {"first": max(0.0, first[case] - timed[case]["seconds"]) if case.views else 0.0, "disk": setting.mib_a_crop()}
            rows.append(asdict(case) | timed[case] | facts | {"memory": peak_memory(__file__, str(number))})
    write(__file__, {"question": "What does a step cost without a GPU?", "batch": 16, "cases": rows}, begun)


if __name__ == "__main__":
    main()
