"""What making runs would take: which results are there, and how long the rest would train."""

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from statistics import median

from dsgc.config import Config
from dsgc.experiments import forks
from dsgc.experiments.claims import Claims, Owner
from dsgc.experiments.schedule import Schedule
from dsgc.experiments.stored import alone, described, look_up, path_of

ALIKE = ("method", "steps", "encoder", "crop_size", "batch_size")  # runs that agree in these take about the same time


def durations(folder: Path) -> dict[tuple, float]:
    """Median seconds of a run that shares nothing, by values of `ALIKE`, of the runs that a folder has, whatever code made them."""
    known: dict[tuple, list[float]] = {}
    for path in Path(folder).glob("*.json"):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
            found = json.loads(path.read_text(encoding="utf-8"))  # what is no result `look_up` reports
            seconds, kind = float(alone(found["about"])), tuple(found["config"][name] for name in ALIKE)
            known.setdefault(kind, []).append(seconds)
    return {kind: median(seconds) for kind, seconds in known.items()}


def plan(runs: Mapping[str, Config], folder: Path, jobs: int) -> list[str]:
    """What `make_all` would do, line by line, with what others do just now, and the time that it would take."""
    states = {label: look_up(config, folder)[0] for label, config in runs.items()}
    waiting = {label: config for label, config in runs.items() if states[label] != "done"}
    claimed = others(waiting, folder)
    lines = [
        f"{states[label]:<10}  {path_of(config, folder).name}  {label}" + (f"  (made by {claimed[label]})" if label in claimed else "")
        for label, config in runs.items()
    ]
    time = f": {_needed(waiting, durations(folder), jobs)}" if waiting else ""
    return [*lines, counted(runs, waiting, jobs, claimed) + time]


def making(folder: Path) -> Path:
    """Where a folder of results has what is there only while runs are made: claims and shared warm-ups."""
    return Path(folder) / ".making"


def others(waiting: Mapping[str, Config], folder: Path) -> dict[str, Owner]:
    """Who makes which run just now."""
    claims = Claims(making(folder))
    owners = {label: claims.owner(path_of(config, folder).stem) for label, config in waiting.items()}
    return {label: owner for label, owner in owners.items() if owner}


def counted(runs: Mapping[str, Config], waiting: Mapping[str, Config], jobs: int, claimed: Mapping[str, Owner]) -> str:
    """How many runs are there and how many wait, how many of these share a warm-up, and how many others make just now."""
    groups = forks.groups(waiting).values()
    sharing = f" ({sum(map(len, groups))} of them from {len(groups)} shared warm-up{'s' * (len(groups) > 1)})" if groups else ""
    said = f"{len(runs) - len(waiting)} of {len(runs)} results are there, {len(waiting)} to make{sharing}, {jobs} at a time"
    makers = sorted({str(owner) for owner in claimed.values()})
    if not makers:
        return said
    return f"{said}; {len(claimed)} of them are being made by {'; '.join(makers[:3])}{'; and others' * (len(makers) > 3)}"


def _needed(waiting: Mapping[str, Config], known: Mapping[tuple, float], jobs: int) -> str:
    """The time that runs take, a shared warm-up counted once, by its steps. None is over before a run of its kind would be alone."""
    whole = {config: known.get(tuple(described(config)[name] for name in ALIKE)) for config in waiting.values()}
    if None in whole.values():
        return "no run to estimate from"
    schedule = Schedule(waiting)
    tasks = (*schedule.trunks.values(), *schedule.runs.values())
    seconds = sum(whole[task.config] * task.steps / task.config.steps for task in tasks)
    return f"about {max(seconds / jobs, *whole.values()) / 60:.0f} min"
