"""What the benchmarks share: cases timed in turn, peak memory of a case, a JSON file that says where it was measured.

The machines are shared and noisy, so no time stands alone: every question is asked of several cases in one process, a round
takes each of them once, and what is compared is the median of the ratios of a round.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Hashable, Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import median

import dsgc  # noqa: F401, isort: skip; before torch, whose threads then share the cores with others
import torch

from dsgc.experiments.provenance import provenance
from dsgc.methods import preset

Cases = dict[Hashable, Callable[[], object]]


def alternate(cases: Cases, rounds: int = 5, least: float = 0.02) -> dict[Hashable, list[float]]:
    """Seconds of one call of each case, a value a round; all cases take turns, each called for at least `least` seconds."""
    calls, seconds = {}, {name: [] for name in cases}
    for name, case in cases.items():
        took = _timed(case, 1)  # the first call may allocate or compile, so it does not count
        took = min(took, _timed(case, 1)) if took < 1 else took
        calls[name] = max(1, round(least / max(took, 1e-9)))
    for number in range(rounds):
        names = list(cases)[:: 1 if number % 2 else -1]  # nobody always comes after the same neighbour
        for name in names:
            seconds[name].append(_timed(cases[name], calls[name]))
    return seconds


def _timed(case: Callable[[], object], calls: int) -> float:
    wait()
    begun = time.perf_counter()
    for _ in range(calls):
        case()
    wait()
    return (time.perf_counter() - begun) / calls


def wait() -> None:
    """Until the card has done all that it was sent."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def compared(seconds: dict[Hashable, list[float]], to: Hashable) -> dict[Hashable, dict[str, float]]:
    """Of each case the median of its seconds, and of how many times as long as `to` it took in the same round."""
    return {
        name: {"seconds": median(values), "ratio": median(a / b for a, b in zip(values, seconds[to], strict=True))}
        for name, values in seconds.items()
    }


def peak_memory(script: str, *arguments: str) -> float:
    """MiB that a call needs beyond what there is before it, in a fresh process: the script is run with the arguments, and is to
    call `report_peak`."""
    given_back = {"MALLOC_MMAP_THRESHOLD_": "65536"}  # what is freed leaves the process at once, so that its size is what is in use
    done = subprocess.run([sys.executable, script, *arguments], capture_output=True, text=True, env=os.environ | given_back)
    if done.returncode:
        sys.exit(f"{script} {' '.join(arguments)} failed:\n{done.stderr}")
    return float(done.stdout.splitlines()[-1])


def report_peak(case: Callable[[], object]) -> None:
    """Print by how many MiB the process grows, at its largest, while the case runs."""
    if torch.cuda.is_available():
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        case()
        print((torch.cuda.max_memory_allocated() - before) / 2**20)
        return
    print(grown(case))


def grown(case: Callable[[], object]) -> float:
    """By how many MiB the process grows, at its largest, while the case runs."""
    Path("/proc/self/clear_refs").write_text("5")  # the largest size so far is forgotten
    before = _status("VmRSS")
    case()
    return (_status("VmHWM") - before) / 1024


def resident() -> float:
    """MiB that the process has in memory now."""
    return _status("VmRSS") / 1024


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """The slope of a straight line through the logarithms: 1 where twice the size costs twice as much."""
    x, y = (torch.tensor(list(numbers), dtype=torch.float64).log() for numbers in (sizes, values))
    return float(((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum())


def write(script: str, result: dict, begun: float, packages: Sequence[str] = ()) -> None:
    """Put a result beside its script, NAME.py -> NAME.json, with machine, versions and date, and print it."""
    about = provenance(preset("voc"), time.monotonic() - begun)
    about["versions"] |= {package: version(package) for package in packages}
    text = json.dumps({"about": about} | result, indent=1)
    Path(script).with_suffix(".json").write_text(text + "\n")
    print(text)
