"""What a run leaves on disk and says on the way: its folder, its log, its progress bar."""

import contextlib
import json
import os
import shutil
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from dsgc.config import Config
from dsgc.errors import UserError, first_line, printable, resuming, writable
from dsgc.methods import UnknownMethodError, configured
from dsgc.runs.disk import rename, where_known


def refuse_used(out: str) -> Path:
    """The run folder, if nothing is in it yet. Raises `UserError` otherwise."""
    folder = Path(out)
    if (folder / "config.json").is_file():
        raise UserError(f"{folder}: holds a run; {resuming(folder)} goes on with it, --out names another folder")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder}: already there and not an empty folder; choose another with --out or delete it first")
    return folder


@contextmanager
def run_folder(config: Config, main: bool) -> Iterator[Path]:
    """The run folder, with the resolved config in it if it is new, written by the `main` process.

    A new one is taken away again if a mistake ends the run before a checkpoint. Raises `UserError` if it cannot be written.
    """
    out = Path(config.out)
    new = not (out / "config.json").is_file()
    if main and new:
        try:
            out.mkdir(parents=True, exist_ok=True)
            write_json(out / "config.json", config.flat())
        except OSError as error:
            raise UserError(f"{out}: cannot write here ({error.strerror}); choose another folder with --out") from error
        except UserError:
            with contextlib.suppress(OSError):
                out.rmdir()
            raise
    try:
        yield out
    except UserError:
        if main and new and not (out / "checkpoints").exists():
            shutil.rmtree(out, ignore_errors=True)
        raise


def read_config(run: Path) -> Config:
    """The config of a run folder. Raises `UserError` if there is none that can be read."""
    path = Path(run) / "config.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return configured(values)
    except UnknownMethodError as error:
        raise UnknownMethodError(f"{path}: {error}") from error
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(f"{path}: missing; give a run folder that `python -m dsgc train` began") from error
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{path}: not a run's config ({first_line(error)}); a checkpoint's about.json holds the same values") from error


def write_json(path: Path, value: object) -> None:
    """Write a JSON file whole or not at all. Raises `UserError` where that is not possible."""
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
        rename(partial, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise UserError(f"{path}: cannot be written ({error.strerror}); make room, or choose another place with --out") from error


def progress(of: Iterable | None = None, *, main: bool, **options: Any) -> tqdm:
    """A progress bar of the `main` process."""
    silent = {} if main else {"disable": True}  # where it is not given, TQDM_DISABLE decides
    return tqdm(of, **options, **silent)


def say(line: str) -> None:
    """A line on standard output, above the progress bars; it may name tensors of a stranger's file, and folders in any script."""
    tqdm.write(writable(printable(line), sys.stdout))


def note(lines: Iterable[str], main: bool) -> None:
    """Lines of the `main` process that are no result: the same on standard error."""
    for line in lines if main else ():
        tqdm.write(writable(printable(line), sys.stderr), file=sys.stderr)


class Log:
    """The JSON-lines log and the progress bar. Losses wait on the device until a line is due, so no step waits for them.

    The log of a run that goes on after `start` loses what the stopped run wrote beyond it. Processes other than the `main`
    one keep silent and write nothing.
    """

    def __init__(self, path: Path, config: Config, start: int, main: bool):
        self.path, self.config, self.main = path, config, main
        self.bar = progress(main=main, total=config.steps, initial=start, unit="step")
        self.waiting: list[tuple[dict[str, Tensor], dict[str, Tensor]]] = []
        self.skipped = 0  # steps since the last line
        self.started = time.perf_counter()
        if main:
            kept = [line for line in self._lines() if line["step"] <= start]
            partial = path.with_name(path.name + ".partial")
            partial.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
            rename(partial, path)

    def __enter__(self) -> "Log":
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def say(self, line: str) -> None:
        """A line on the terminal."""
        if self.main:
            say(line)

    def has_scores(self, step: int) -> bool:
        """Whether an evaluation after `step` is written down."""
        return any(line["step"] == step and "scores" in line for line in self._lines())

    def step(
        self,
        step: int,
        stage: str,
        losses: dict[str, Tensor],
        watched: dict[str, Tensor],
        facts: dict[str, float],
        *,
        sound: bool = True,
        last: bool = False,
    ) -> None:
        """Note one step; every `log_every` steps, at a checkpoint, a change of stage and the `last` one, write the means since
        the last line. A step that is not `sound` was skipped: it is counted, and left out of the means."""
        self.skipped += not sound
        if sound:
            self.waiting.append((losses, {name: value for name, value in watched.items() if value.ndim == 0}))
        self.bar.update()
        steps, due = self.config.steps, (self.config.log_every, self.config.checkpoint_every)  # so that none waits when a run goes on
        last = last or step + 1 == steps or stage != self.config.method.stage(step + 1, steps).name
        if not last and all((step + 1) % every for every in due):
            return
        now = time.perf_counter()
        line: dict = {"step": step + 1, "stage": stage}
        if self.waiting:
            shown, means = (_means(parts) for parts in zip(*self.waiting, strict=True))
            rate = len(self.waiting) * self.config.batch_size / max(now - self.started, 1e-9)
            postfix = {"stage": stage, "images/s": f"{rate:.0f}"} | {name: f"{value:.3f}" for name, value in shown.items()}
            self.bar.set_postfix(postfix)
            line |= {"losses": shown, "images_per_second": round(rate, 2)} | facts | means
        self._write(line | ({"skipped": self.skipped} if self.skipped else {}))
        self.waiting, self.skipped, self.started = [], 0, now

    def scores(self, step: int, scores: dict) -> None:
        """Write an evaluation."""
        self._write({"step": step, "scores": scores})
        self.say(f"step {step}: " + summary_line(scores))
        self.started = time.perf_counter()

    def _lines(self) -> list[dict]:
        """What is written so far; a last line that was cut off is none, nor is anything else that `_write` does not write."""
        found = []
        for text in self.path.read_text(encoding="utf-8", errors="replace").splitlines() if self.path.is_file() else []:
            with contextlib.suppress(ValueError, RecursionError):
                found.append(json.loads(text))
        return [line for line in found if isinstance(line, dict) and isinstance(line.get("step"), int)]

    def _write(self, line: dict) -> None:
        if not self.main:
            return
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
                file.flush()
                with where_known():
                    os.fsync(file.fileno())  # a checkpoint that is on the disk has its log there too
        except OSError as error:
            remedy = f"make room and go on with {resuming(self.config.out)}"
            raise UserError(f"{self.path}: cannot be written ({error.strerror}); {remedy}") from error


def _means(found: Sequence[dict[str, Tensor]]) -> dict[str, float]:
    """The mean of each value over several steps."""
    return {key: float(torch.stack([values[key] for values in found]).mean()) for key in found[-1]}


def _per_cent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def summary_line(scores: dict) -> str:
    """The mIoU of every score of every network, in per cent, and what they are scores of, on one line; how well tags are told where
    there are no masks."""
    parts = []
    if "told" in scores:
        found = (f"{name} mAP {_per_cent(of['map'])}, F1 {_per_cent(of['f1'])}" for name, of in scores["told"].items())
        return f"tags told, %, on {scores['images']} images of {scores['list']}: {'; '.join(found)}; {scores['said']}"
    for name, by_score in scores.items():
        if isinstance(by_score, dict) and all(isinstance(value, dict) and "miou" in value for value in by_score.values()):
            values = {key: value["miou"] for key, value in by_score.items()}
            parts.append(f"{name} " + " ".join(f"{key} {_per_cent(v)}" for key, v in values.items()))
    of = f" of {scores['list']}, masks of {scores['masks']}" if "list" in scores else ""  # older scores do not say it
    return f"mIoU % on {scores['images']} images{of}: " + "; ".join(parts)
