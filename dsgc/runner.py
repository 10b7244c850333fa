"""Training runs kept as results: made several at a time, each under a key of its configuration and its code.

A result is one JSON file, written whole when its run has ended. A run that was killed leaves nothing behind and is made
again the next time. A file that is damaged, or that other code made, is reported and never used.
"""

import ast
import dataclasses
import hashlib
import json
import os
import platform
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import cache
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Literal, NamedTuple

from dsgc.config import Config
from dsgc.errors import UserError, first_line
from dsgc.record import write_json

PACKAGE = Path(__file__).parent
MACHINE = ("data", "out", "workers")  # fields that say where and how, and change no score
State = Literal["done", "missing", "damaged", "other code"]


class Result(NamedTuple):
    """What a run gave, and where it comes from."""

    config: dict  # every field but those of `MACHINE`
    scores: dict  # as `evaluate.evaluate` gives them
    about: dict  # code, commit, date, seconds, threads, machine, versions


@cache
def code_version() -> str:
    """A digest of the modules that a training run depends on; comments and docstrings do not count."""
    waiting, trees = ["train"], {}
    while waiting:
        name = waiting.pop()
        path = PACKAGE.joinpath(*name.split(".")).with_suffix(".py")
        if name in trees or not path.is_file():
            continue
        trees[name] = tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "dsgc":
                below = node.module.removeprefix("dsgc").removeprefix(".")
                waiting += [below, *(f"{below}.{alias.name}".lstrip(".") for alias in node.names)]
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node, clean=False) is not None:
                node.body[0].value.value = ""
    text = json.dumps({name: ast.dump(trees[name]) for name in sorted(trees)})
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def described(config: Config) -> dict:
    """The fields that decide a run's scores, as JSON has them."""
    fields = {name: value for name, value in dataclasses.asdict(config).items() if name not in MACHINE}
    return json.loads(json.dumps(fields))


def provenance(config: Config, seconds: float) -> dict:
    """Where a result of this process comes from: code, commit, date, duration, threads, machine, versions."""
    import torch

    device = "cpu" if config.device == "cpu" or not torch.cuda.is_available() else torch.cuda.get_device_name()
    return {
        "code": code_version(),
        "commit": _commit(),
        "date": time.strftime("%Y-%m-%d"),
        "seconds": round(seconds),
        "threads": torch.get_num_threads(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {device}",
        "versions": {package: version(package) for package in ("torch", "timm", "numpy")},
    }


def path_of(config: Config, folder: Path, code: str | None = None) -> Path:
    """The file that holds the result of a configuration under a code version, today's if none is given."""
    digest = hashlib.sha256(json.dumps(described(config), sort_keys=True).encode()).hexdigest()[:12]
    return Path(folder) / f"{digest}-{code or code_version()}.json"


def look_up(config: Config, folder: Path) -> tuple[State, Result | None]:
    """What the folder has of a run: its result if that is whole and of today's code, else why not."""
    path = path_of(config, folder)
    if not path.is_file():
        others = sorted(path.parent.glob(path.name.replace(code_version(), "*")))
        return ("other code", None) if others else ("missing", None)
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        result = Result(stored["config"], stored["scores"], stored["about"])
        whole = stored["digest"] == _digest(result) and result.config == described(config)
    except (OSError, ValueError, KeyError, TypeError):
        whole = False
    return ("done", result) if whole else ("damaged", None)


def need(configs: Sequence[Config], folder: Path, command: str) -> list[Result]:
    """The results of all runs.

    Raises:
        UserError: one is missing, damaged or of other code; says how many and which command makes them.
    """
    found = [look_up(config, folder) for config in configs]
    lacking = [state for state, _ in found if state != "done"]
    if lacking:
        counts = ", ".join(f"{lacking.count(state)} {state}" for state in dict.fromkeys(lacking))
        raise UserError(f"{folder}: of {len(configs)} results {counts}; make them with `{command}`")
    return [result for _, result in found]


def seconds_expected(config: Config, folder: Path) -> float | None:
    """The median duration of the folder's runs of as many steps on the same encoder, whatever code made them."""
    known = []
    for path in Path(folder).glob("*.json"):
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
            if all(stored["config"][name] == getattr(config, name) for name in ("steps", "encoder", "crop_size", "batch_size")):
                known.append(stored["about"]["seconds"])
        except (ValueError, KeyError, TypeError):
            continue  # `look_up` reports it
    return median(known) if known else None


def make(config: Config, folder: Path) -> Path:
    """Train in a folder of its own that is gone afterwards, and write the result."""
    from dsgc.train import train  # torch and timm are loaded by the process that trains

    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="dsgc-run-") as scratch:
        run = train(dataclasses.replace(config, out=f"{scratch}/run"))
        scores = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    result = Result(described(config), scores, provenance(config, time.monotonic() - begun))
    path = path_of(config, folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, result._asdict() | {"digest": _digest(result)})
    return path


def make_all(configs: Sequence[Config], folder: Path, *, jobs: int, say: Callable[[str], None] = print) -> int:
    """Make what the folder lacks, `jobs` runs at a time; returns how many failed. What is done is kept whatever happens.

    Raises:
        UserError: `jobs` is less than 1.
    """
    if jobs < 1:
        raise UserError(f"jobs {jobs}: must be 1 or more")
    states = {config: look_up(config, folder)[0] for config in configs}
    waiting = [config for config, state in states.items() if state != "done"]
    for config in waiting:
        if states[config] != "missing":
            say(f"{path_of(config, folder).name}: {states[config]}, made again")
    say(f"{len(states) - len(waiting)} of {len(states)} results are there, {len(waiting)} to make, {jobs} at a time")
    os.environ["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // jobs))  # for the processes that start below
    failed, begun = 0, time.monotonic()
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        running = {pool.submit(make, config, folder): config for config in waiting}
        for done, future in enumerate(as_completed(running), 1):
            try:
                what = future.result().name
            except Exception as error:  # of any kind, a killed process included: the other runs go on
                failed += 1
                what = f"FAILED {path_of(running[future], folder).name}: {type(error).__name__}: {first_line(error)}"
            left = (time.monotonic() - begun) / done * (len(waiting) - done)
            say(f"{done} of {len(waiting)}: {what}; about {left / 60:.0f} min left")
    return failed


def _digest(result: Result) -> str:
    return hashlib.sha256(json.dumps(result._asdict(), sort_keys=True).encode()).hexdigest()


def _commit() -> str:
    """The repository's commit, with a mark if files differ from it; `unknown` outside a repository."""
    command = ["git", "-C", PACKAGE, "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"
