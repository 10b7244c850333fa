"""Runs that share their warm-up: it is trained once, a trunk, and each goes on from a copy of its end.

A method says which of its numbers its first steps do not depend on (`Method.later`). Runs that agree in all others are the same
up to there, bit by bit, and as a run that goes on from a checkpoint ends as if it had never stopped, so is each of them
afterwards. What a trunk took is told once, beside the runs that went on from it.
"""

import dataclasses
import hashlib
import json
import shutil
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from dsgc.config import Config
from dsgc.errors import UserError
from dsgc.experiments.provenance import code_version

AFTER_THE_END = ("out", "pictures")  # what rows of the grids differ in and no step depends on; any other field of a run counts
ABOUT = "trunk.json"


class Trunk(NamedTuple):
    """What was trained once for several runs, as a folder has it; a result names it."""

    id: str  # of this training, so that its time is counted once
    seconds: int
    code: str


def shared(config: Config) -> str | None:
    """A digest of all that a run's warm-up depends on; runs with the same one share it. None where there is nothing to share.

    Nothing is shared by a run that is scored on the way, as what is scored may depend on numbers that training comes to later.
    """
    later = vars(type(config.method)).get("later", ())  # its own words: what it inherits was said of another class's steps
    if not later or config.eval_every or not 0 < config.method.shared_steps < config.steps:
        return None
    fields = {name: value for name, value in config.flat().items() if name not in (*later, *AFTER_THE_END)}
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def groups(runs: Mapping[str, Config]) -> dict[str, list[str]]:
    """The labels of runs that share a warm-up, two or more, by what they share."""
    found: dict[str, list[str]] = {}
    for label, config in runs.items():
        if (key := shared(config)) is not None:
            found.setdefault(key, []).append(label)
    return {key: labels for key, labels in found.items() if len(labels) > 1}


def name(config: Config) -> str:
    """What a run's trunk is called where several machines see it. That of other code is another one."""
    return hashlib.sha256(f"{shared(config)} {code_version(config.method.name)}".encode()).hexdigest()[:16]


def is_grown(folder: Path) -> bool:
    """Whether a folder has a whole trunk."""
    return (folder / ABOUT).is_file()


def remove(folder: Path) -> None:
    """Remove a trunk; one of which a part is left is none."""
    (folder / ABOUT).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def grow(config: Config, folder: Path) -> Trunk:
    """Train in a folder what runs share that have this configuration's `shared`, and write down what it took."""
    from dsgc.runs.record import write_json
    from dsgc.training.loop import train_until

    begun, code = time.monotonic(), code_version(config.method.name)
    train_until(dataclasses.replace(config, out=str(folder / "run")), config.method.shared_steps)
    trunk = Trunk(uuid.uuid4().hex[:12], round(time.monotonic() - begun), code)
    write_json(folder / ABOUT, trunk._asdict())
    return trunk


def go_on(folder: Path, config: Config) -> tuple[Path, Trunk]:
    """Train a run to its end, in its own folder, from the trunk that a folder has.

    Raises:
        UserError: the trunk was trained by other code: files of the package have changed since.
    """
    from dsgc.training.loop import resume

    trunk = Trunk(**json.loads((folder / ABOUT).read_text(encoding="utf-8")))
    if trunk.code != code_version(config.method.name):
        raise UserError(f"{folder}: the code has changed since this warm-up was trained; the same command makes both anew")
    fork(folder / "run", config.method.shared_steps, config)
    return resume(Path(config.out)), trunk


def stopped(run: Path, steps: int) -> Path:
    """Where a run's checkpoint of so many steps lies."""
    return run / "checkpoints" / f"step_{steps:06d}"


def fork(run: Path, steps: int, config: Config) -> None:
    """Make the configuration's folder a run that has come as far as another was after so many steps; `resume` goes on with it."""
    from dsgc.runs.record import write_json

    out = Path(config.out)
    shutil.copytree(stopped(run, steps), stopped(out, steps), dirs_exist_ok=True)
    shutil.copy(run / "log.jsonl", out)
    write_json(out / "config.json", config.flat())  # last: where it is, a fork is whole


def ended(config: Config) -> Path:
    """A run that has ended: it is made, or goes on where it was stopped, or is there."""
    from dsgc.training.loop import resume, train

    run = Path(config.out)
    if (run / "metrics.json").is_file():
        return run
    return resume(run) if (run / "config.json").is_file() else train(config)
