"""Training runs kept as results: several made at a time, each found again by its configuration and its code.

A result is one JSON file, named by a digest of the configuration and written whole when its run has ended. A run that was
killed leaves nothing behind and is made again the next time. A file that is damaged, or that other code made, is
reported and made again.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Hashable, Mapping
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path
from queue import SimpleQueue
from statistics import median
from typing import Literal, NamedTuple

from tqdm import tqdm

from dsgc.config import Config
from dsgc.errors import UserError, check_writable, printable
from dsgc.experiments.provenance import code_version, provenance
from dsgc.methods import configured

MACHINE = ("data", "out", "workers", "accumulate", "recompute", "keep_checkpoints")  # fields that say where and how, and change no score

State = Literal["done", "missing", "damaged", "other code"]


class Result(NamedTuple):
    """What a run gave, and where it comes from."""

    config: dict  # every field but those of `MACHINE`
    scores: dict  # as `evaluate.evaluate` gives them
    counts: dict  # of the network that is reported, as `diagnosis.count` gives them; empty where no label is corrected
    samples: dict  # image id -> {"cam", "pseudo", "prediction"}: that network's maps as PNG in base64
    about: dict  # as `provenance.provenance` gives it


ABOUT = {"code": str, "commit": str, "date": str, "machine": str, "threads": int, "seconds": int, "versions": dict}


def described(config: Config) -> dict:
    """The fields that decide a run's scores, as JSON has them; a file of weights by its name, wherever it lies."""
    fields = {name: value for name, value in config.flat().items() if name not in MACHINE} | {"weights": Path(config.weights).name}
    return json.loads(json.dumps(fields))


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
        whole &= all(isinstance(part, dict) for part in result) and all(isinstance(result.about[key], ABOUT[key]) for key in ABOUT)
        whole &= 0 <= result.about["seconds"] < 1e9
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        whole = False
    if not whole:
        return "damaged", None
    return ("done" if result.about["code"] == code_version(config.method.name) else "other code"), result


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
    """One paragraph on where results come from: how many, code, commits, dates, machines, time."""
    abouts = [result.about for result in results.values()]
    today = {name: code_version(name) for name in sorted({result.config["method"] for result in results.values()})}
    others = {r.about["code"] for r in results.values() if r.about["code"] != today[r.config["method"]]}
    other = sum(result.about["code"] != today[result.config["method"]] for result in results.values())

    def several(name: str) -> str:
        return ", ".join(sorted({str(about[name]) for about in abouts}))

    made = f"all by today's code, {', '.join(sorted(today.values()))}"
    whose = f"{other} of them by other code than today's ({', '.join(sorted(others))})" if other else made
    versions = ", ".join(sorted({f"{package} {number}" for about in abouts for package, number in about["versions"].items()}))
    return (
        f"{len(abouts)} runs, {whose}; commit {several('commit')}; {several('date')}; {several('machine')}; "
        f"threads {several('threads')}; {versions}; {sum(about['seconds'] for about in abouts) / 3600:.1f} hours of training in all"
    )


ALIKE = ("method", "steps", "encoder", "crop_size", "batch_size")  # runs that agree in these take about the same time


def durations(folder: Path) -> dict[tuple, float]:
    """Median seconds of the folder's runs by their values of `ALIKE`, whatever code made them."""
    known: dict[tuple, list[float]] = {}
    for path in Path(folder).glob("*.json"):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):  # `look_up` reports it
            stored = json.loads(path.read_text(encoding="utf-8"))
            seconds, kind = float(stored["about"]["seconds"]), tuple(stored["config"][name] for name in ALIKE)
            known.setdefault(kind, []).append(seconds)
    return {kind: median(seconds) for kind, seconds in known.items()}


def plan(runs: Mapping[str, Config], folder: Path, jobs: int) -> list[str]:
    """What `make_all` would do, line by line, with the time that it would take."""
    states = {label: look_up(config, folder)[0] for label, config in runs.items()}
    known = durations(folder)
    waiting = {
        label: known.get(tuple(described(runs[label])[name] for name in ALIKE)) for label, state in states.items() if state != "done"
    }
    lines = [f"{states[label]:<10}  {path_of(config, folder).name}  {label}" for label, config in runs.items()]
    seconds = [value for value in waiting.values() if value is not None]
    time_needed = "no run to estimate from"
    if waiting and len(seconds) == len(waiting):
        time_needed = f"about {max(sum(seconds) / jobs, *seconds) / 60:.0f} min"
    return [*lines, _counted(len(runs), len(waiting), jobs) + (f": {time_needed}" if waiting else "")]


def make(config: Config, folder: Path, scratch: Path) -> Path:
    """Train in `scratch` and write the result to the folder."""
    from dsgc.runs.parallel import accelerator_of
    from dsgc.runs.record import write_json
    from dsgc.runs.restore import load_networks
    from dsgc.scoring import diagnosis  # torch and timm are loaded by the process that trains
    from dsgc.scoring.pictures import encoded
    from dsgc.training.loop import train
    from dsgc.training.splits import open_data

    begun, about = time.monotonic(), provenance(config, 0)  # of the code that was loaded: files may change while it trains
    run = train(dataclasses.replace(config, out=str(scratch / "run")))
    scores = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    device = accelerator_of(config).device
    network, dataset = load_networks(run)[0][config.method.networks[0]].to(device), open_data(config).val
    counts = diagnosis.count(network, dataset, config, device)
    samples = encoded(network, dataset, config, device)
    result = Result(described(config), scores, counts, samples, about | {"seconds": round(time.monotonic() - begun)})
    path = path_of(config, folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, result._asdict() | {"digest": digest(result)})
    return path


def gpus() -> int:
    """How many cards there are; torch, which knows, is not loaded for it where there is no driver."""
    if not (shutil.which("nvidia-smi") or shutil.which("rocm-smi")):
        return 0
    import torch

    return torch.cuda.device_count()


def jobs_here() -> int:
    """As many runs at a time as there are cards, or cores where there is no card."""
    return gpus() or os.cpu_count() or 1


def make_all(runs: Mapping[str, Config], folder: Path, *, jobs: int, say: Callable[[str], None] = tqdm.write) -> int:
    """Make what the folder lacks, `jobs` runs at a time, each in a process of its own; returns how many failed.

    What is done is kept whatever happens. Processes are dealt out over the cards, or share the cores where there is none.

    Raises:
        UserError: `jobs` is less than 1, or the folder cannot be written to.
    """
    if jobs < 1:
        raise UserError(f"jobs {jobs}: must be 1 or more")
    check_writable(Path(folder))
    states = {label: look_up(config, folder)[0] for label, config in runs.items()}
    waiting = {label: runs[label] for label, state in states.items() if state != "done"}
    for label in waiting:
        if states[label] != "missing":
            say(f"{label}: {path_of(runs[label], folder).name} {states[label]}, made again")
    say(_counted(len(runs), len(waiting), jobs))
    places: SimpleQueue[dict[str, str]] = SimpleQueue()
    cards, threads = _cards(), max(1, (os.cpu_count() or 1) // jobs)
    for job in range(jobs):
        places.put({"CUDA_VISIBLE_DEVICES": cards[job % len(cards)]} if cards else {"OMP_NUM_THREADS": str(threads)})
    stop = threading.Event()

    def one(label: str, scratch: Path) -> str | None:
        place = places.get()
        try:
            return _make_apart(waiting[label], folder, scratch, place, stop)
        finally:
            places.put(place)

    failed, total = 0, sum(config.steps for config in waiting.values())
    with tempfile.TemporaryDirectory(prefix="dsgc-runs-") as scratch, tqdm(total=total, unit="step", smoothing=0.05) as bar:
        folders = {label: Path(scratch, str(number)) for number, label in enumerate(waiting)}
        pool = ThreadPoolExecutor(jobs)
        try:
            running = {pool.submit(one, label, place): label for label, place in folders.items()}
            while running:
                done, _ = wait(running, timeout=1, return_when=FIRST_COMPLETED)
                for future in done:
                    label = running.pop(future)
                    problem = future.result()
                    failed += problem is not None
                    left = f"{len(waiting) - len(running)} of {len(waiting)}"
                    say(f"{left}: {label}" if problem is None else f"{left}: FAILED {label}: {problem}")
                ahead = sum(waiting[label].steps - _steps(folders[label]) for label in running.values())
                bar.update(total - ahead - bar.n)
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)
    return failed


def _cards() -> list[str]:
    """The cards by name, as CUDA_VISIBLE_DEVICES has them; where it is set, those that it names."""
    count = gpus()
    return (os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(count)))).split(",")[:count]


def _make_apart(config: Config, folder: Path, scratch: Path, place: dict[str, str], stop: threading.Event) -> str | None:
    """`make` in a process of its own, killed once `stop` is set; returns what went wrong, on one line, if it did."""
    scratch.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "dsgc.experiments.runner", str(folder), str(scratch)],
        env=os.environ | {"TQDM_DISABLE": "1"} | place,
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=(scratch / "stderr").open("w"), text=True,
    )  # fmt: skip
    with contextlib.suppress(BrokenPipeError):  # it has ended already; its exit code says why
        process.stdin.write(json.dumps(config.flat()) + "\n")
        process.stdin.flush()  # and stays open: its end tells the process that this one is gone
    while (code := process.poll()) is None:
        if stop.wait(0.2):
            process.kill()
    with contextlib.suppress(BrokenPipeError):
        process.stdin.close()
    lines = (scratch / "stderr").read_text(encoding="utf-8", errors="replace").strip().splitlines()
    shutil.rmtree(scratch, ignore_errors=True)  # now: the checkpoints of all runs together would fill a disk
    if code == 0:
        return None
    return f"killed by signal {-code}" if code < 0 else (printable(lines[-1]) if lines else f"exit code {code}")


def _child(folder: str, scratch: str) -> int:
    """What a process of `make_all` does: a configuration comes in on standard input."""
    values = json.loads(sys.stdin.readline())
    # This process ends with its parent. Not sys.stdin.read(): its lock, held, would stop the loading processes that fork.
    threading.Thread(target=_end_with_parent, args=[Path(scratch).parent], daemon=True).start()
    try:
        make(configured(values), Path(folder), Path(scratch))
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _end_with_parent(scratch: Path) -> None:
    os.read(0, 1)
    shutil.rmtree(scratch, ignore_errors=True)  # nobody else is left to do it
    os._exit(1)


def _steps(scratch: Path) -> int:
    """How far a run has come."""
    try:
        last = (scratch / "run" / "log.jsonl").read_text(encoding="utf-8").splitlines()[-1]
        return json.loads(last)["step"]
    except (OSError, ValueError, IndexError):
        return 0


def _counted(all_runs: int, waiting: int, jobs: int) -> str:
    return f"{all_runs - waiting} of {all_runs} results are there, {waiting} to make, {jobs} at a time"


def digest(result: Result) -> str:
    """A digest of a whole result, which its file holds too."""
    return hashlib.sha256(json.dumps(result._asdict(), sort_keys=True).encode()).hexdigest()


if __name__ == "__main__":
    sys.exit(_child(*sys.argv[1:]))
