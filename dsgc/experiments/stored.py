"""Results as files: one for each run, found again by its configuration, told apart by its code.

A result is one JSON file, named by a digest of the configuration and written whole when its run has ended. A file that is
damaged, or that other code made, is reported.
"""

import hashlib
import json
from collections.abc import Hashable, Iterable, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

from dsgc.config import Config
from dsgc.errors import UserError
from dsgc.experiments.provenance import code_version

MACHINE = ("data", "out", "workers", "accumulate", "recompute", "keep_checkpoints")  # fields that say where and how, and change no score
# fields that came after results, which do not name them
YOUNGER = {"labels": "", "tags": "", "masks": "", "val_share": 0.1, "frozen_views": 0, "compile": False}

State = Literal["done", "missing", "damaged", "other code"]


class Result(NamedTuple):
    """What a run gave, and where it comes from."""

    config: dict  # every field but those of `MACHINE`
    scores: dict  # as `evaluate.evaluate` gives them
    counts: dict  # of the network that is reported, as `diagnosis.count` gives them; empty where no label is corrected
    samples: dict  # image id -> {"cam", "pseudo", "prediction"}: that network's maps as PNG in base64
    about: dict  # as `provenance.provenance` gives it; `seconds` are the run's own, `warm_up` names the trunk that it went on from


ABOUT = {
    "code": str, "commit": str, "date": str, "seconds": int, "threads": int, "machine": str, "processor": str, "system": str,
    "versions": dict, "warm_up": dict,
}  # fmt: skip
WARM_UP = {"id": str, "seconds": int}  # of `warm_up`, which is empty where a run trained its own; one id is one training


def described(config: Config) -> dict:
    """The fields that decide a run's scores, as JSON has them; a file of weights by its name, wherever it lies. Fields that are younger
    than results are named where they change something."""
    fields = {name: value for name, value in config.flat().items() if name not in MACHINE and (name, value) not in YOUNGER.items()}
    return json.loads(json.dumps(fields | {"weights": Path(config.weights).name}))


def path_of(config: Config, folder: Path) -> Path:
    """The file that holds the result of a configuration."""
    digest = hashlib.sha256(json.dumps(described(config), sort_keys=True).encode()).hexdigest()[:16]
    return Path(folder) / f"{digest}.json"


def look_up(config: Config, folder: Path) -> tuple[State, Result | None]:
    """What the folder has of a run; a result of other code comes with its state, a damaged one does not come."""
    path = path_of(config, folder)
    if not path.is_file():
        return "missing", None
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        result = Result(**{name: stored[name] for name in Result._fields})
        whole = stored["digest"] == digest(result) and result.config == described(config)
        whole &= all(isinstance(part, dict) for part in result) and _sound(result.about)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        whole = False
    if not whole:
        return "damaged", None
    return ("done" if result.about["code"] == code_version(config.method.name) else "other code"), result


def _sound(about: dict) -> bool:
    """Whether facts about a run are of the kinds that they should be. Raises `KeyError` where one is missing."""
    trunk, spans = about["warm_up"], [about["seconds"]]
    typed = all(isinstance(about[key], kind) for key, kind in ABOUT.items())
    if trunk:
        typed &= all(isinstance(trunk[key], kind) for key, kind in WARM_UP.items())
        spans.append(trunk["seconds"])
    return typed and all(0 <= seconds < 1e9 for seconds in spans)


def alone(about: Mapping) -> int:
    """Seconds that a run takes that shares nothing: its own, and those of the warm-up that it went on from."""
    return about["seconds"] + about["warm_up"].get("seconds", 0)


def trained(abouts: Iterable[Mapping]) -> int:
    """Seconds of training behind several runs, a warm-up that they share counted once."""
    abouts = list(abouts)
    warm_ups = {about["warm_up"]["id"]: about["warm_up"]["seconds"] for about in abouts if about["warm_up"]}
    return sum(about["seconds"] for about in abouts) + sum(warm_ups.values())


def read(runs: Mapping[Hashable, Config], folder: Path, command: str) -> dict[Hashable, Result]:
    """The results of all runs by label, whatever it is, those of other code too: `summary` says how many these are.

    Raises:
        UserError: one is missing or damaged; says how many and which command makes them.
    """
    found = {label: look_up(config, folder) for label, config in runs.items()}
    lacking = [state for state, result in found.values() if result is None]
    if lacking:
        counts = ", ".join(f"{lacking.count(state)} {state}" for state in dict.fromkeys(lacking))
        raise UserError(f"{folder}: of {len(runs)} results {counts}; make them with `{command}`")
    return {label: result for label, (_, result) in found.items()}


def summary(results: Mapping[Hashable, Result]) -> str:
    """One paragraph on where results come from: how many, code, commits, dates, machines, versions, warm-ups shared, time."""
    abouts = [result.about for result in results.values()]
    today = {name: code_version(name) for name in sorted({result.config["method"] for result in results.values()})}
    others = {r.about["code"] for r in results.values() if r.about["code"] != today[r.config["method"]]}
    other = sum(result.about["code"] != today[result.config["method"]] for result in results.values())

    def several(name: str) -> str:
        return ", ".join(sorted({str(about[name]) for about in abouts}))

    kept = [result.about["confirmed"]["date"] for result in results.values() if "confirmed" in result.about]
    made = f"all by today's code, {', '.join(sorted(today.values()))}"
    whose = f"{other} of them by other code than today's ({', '.join(sorted(others))})" if other else made
    whose += f" (of {len(kept)} a shortened run shows that code since then left every bit: {', '.join(sorted({*kept}))})" if kept else ""
    versions = ", ".join(sorted({f"{package} {number}" for about in abouts for package, number in about["versions"].items()}))
    sharing = sum(bool(about["warm_up"]) for about in abouts)
    shared = f"warm-ups that {sharing} of them share counted once: " if sharing else ""
    return (
        f"{len(abouts)} runs, {whose}; commit {several('commit')}; {several('date')}; {several('machine')}; {several('processor')}; "
        f"{several('system')}; threads {several('threads')}; {versions}; {shared}{trained(abouts) / 3600:.1f} hours of training in all"
    )


def digest(result: Result) -> str:
    """A digest of a whole result, which its file holds too."""
    return hashlib.sha256(json.dumps(result._asdict(), sort_keys=True).encode()).hexdigest()
