"""What a run leaves on disk and says on the way: its folder, its log, its progress bar."""

import dataclasses
import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from dsgc.config import Config
from dsgc.errors import UserError


def refuse_used(out: str) -> Path:
    """The run folder, if nothing is in it yet. Raises `UserError` otherwise."""
    folder = Path(out)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder}: already there and not an empty folder; choose another with --out or delete it first")
    return folder


@contextmanager
def run_folder(config: Config) -> Iterator[Path]:
    """A new run folder with the resolved config in it; taken away again if a mistake ends the run before a checkpoint."""
    out = refuse_used(config.out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_json(out / "config.json", dataclasses.asdict(config))
    except OSError as error:
        raise UserError(f"{out}: cannot write here ({error.strerror}); choose another folder with --out") from error
    try:
        yield out
    except UserError:
        if not (out / "checkpoints").exists():
            shutil.rmtree(out)
        raise


def write_json(path: Path, value: object) -> None:
    """Write a JSON file whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(value, indent=1) + "\n")
    partial.replace(path)


class Log:
    """The JSON-lines log and the progress bar. Losses wait on the device until a line is due, so no step waits for them."""

    def __init__(self, file, bar: tqdm, config: Config):
        self.file, self.bar, self.config = file, bar, config
        self.waiting: list[dict[str, Tensor]] = []
        self.started = time.perf_counter()

    def step(
        self, step: int, stage: str, losses: dict[str, Tensor], monitors: dict[str, Tensor], facts: dict[str, float]
    ) -> None:
        """Note one step; every `log_every` steps, and at a change of stage, write the means since the last line."""
        self.waiting.append({name: value.detach() for name, value in (losses | monitors).items()})
        self.bar.update()
        if (step + 1) % self.config.log_every and step + 1 not in (self.config.steps, self.config.warmup_steps):
            return
        means = {key: float(torch.stack([line[key] for line in self.waiting]).mean()) for key in self.waiting[-1]}
        now = time.perf_counter()
        rate = len(self.waiting) * self.config.batch_size / (now - self.started)
        shown = {name: means.pop(name) for name in losses}
        postfix = {"stage": stage, "images/s": f"{rate:.0f}"} | {name: f"{value:.3f}" for name, value in shown.items()}
        self.bar.set_postfix(postfix)
        self._write({"step": step + 1, "stage": stage, "losses": shown, "images_per_second": round(rate, 2)} | facts | means)
        self.waiting, self.started = [], now

    def scores(self, step: int, scores: dict) -> None:
        """Write an evaluation."""
        self._write({"step": step, "scores": scores})
        self.bar.write(f"step {step}: " + summary_line(scores))
        self.started = time.perf_counter()

    def _write(self, line: dict) -> None:
        self.file.write(json.dumps(line) + "\n")
        self.file.flush()


def summary_line(scores: dict) -> str:
    """The mIoU of every score of every network, in per cent, on one line."""
    parts = []
    for name in ("teacher", "student"):
        if name in scores:
            values = {key: value["miou"] for key, value in scores[name].items()}
            parts.append(f"{name} " + " ".join(f"{key} {'-' if v is None else f'{100 * v:.1f}'}" for key, v in values.items()))
    return f"mIoU % on {scores['images']} images: " + "; ".join(parts)
