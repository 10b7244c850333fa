"""Training runs made: several at a time, each in a process of its own, and a warm-up that several share before these.

A run that was killed leaves nothing behind and is made again the next time. So is one whose result is damaged or of other code.
Runners of several machines may work on one folder that they share: what one has claimed (`claims`) the others leave alone.
"""

import contextlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple

from tqdm import tqdm

from dsgc.config import Config
from dsgc.errors import UserError, check_writable
from dsgc.experiments.apart import apart
from dsgc.experiments.claims import Claim, Claims
from dsgc.experiments.plan import counted, making, others
from dsgc.experiments.schedule import Schedule, Task
from dsgc.experiments.stored import look_up, path_of
from dsgc.experiments.trunks import Trunks


def gpus() -> int:
    """How many cards there are; torch, which knows, is not loaded for it where there is no driver."""
    if not (shutil.which("nvidia-smi") or shutil.which("rocm-smi")):
        return 0
    import torch

    return torch.cuda.device_count()


def jobs_here() -> int:
    """As many runs at a time as there are cards, or cores where there is no card."""
    return gpus() or os.cpu_count() or 1


def make_all(runs: Mapping[str, Config], folder: Path, *, jobs: int, say: Callable[[str], None] = tqdm.write, last: bool = True) -> int:
    """Make what the folder lacks, `jobs` runs at a time, each in a process of its own; returns how many failed.

    What is done is kept whatever happens. Processes are dealt out over the cards, or share the cores where there is none. Of the
    runs to make, those that share their warm-up (`forks.shared`) go on from one; each comes out as if it were made alone. What
    others make at the same time is theirs. The `last` to go waits for them, and makes what they leave; else this ends as soon
    as all that is left is in others' hands.

    Raises:
        UserError: `jobs` is less than 1, or the folder cannot be written to.
    """
    if jobs < 1:
        raise UserError(f"jobs {jobs}: must be 1 or more")
    check_writable(Path(folder))
    before = {label: _version(path_of(config, folder)) for label, config in runs.items()}  # before they are read: others write too
    states = {label: look_up(config, folder)[0] for label, config in runs.items()}
    waiting = {label: runs[label] for label, state in states.items() if state != "done"}
    for label in waiting:
        if states[label] != "missing":
            say(f"{label}: {path_of(runs[label], folder).name} {states[label]}, made again")
    say(counted(runs, waiting, jobs, others(waiting, folder)))
    with tempfile.TemporaryDirectory(prefix="dsgc-runs-") as scratch, Claims(making(folder)) as claims:
        return _Making(waiting, before, Path(folder), Path(scratch), jobs, claims, say).run(last)


class _Work(NamedTuple):
    """What a process is at."""

    task: Task
    scratch: Path
    claim: Claim
    trunk: Path | None  # that it goes on from, or grows


class _Making:
    """One call of `make_all` under way."""

    def __init__(
        self, waiting: Mapping[str, Config], before: Mapping[str, object], folder: Path, scratch: Path, jobs: int, claims: Claims,
        say: Callable[[str], None],
    ):  # fmt: skip
        self.folder, self.scratch, self.jobs, self.claims, self.say = folder, scratch, jobs, claims, say
        self.schedule, self.runs = Schedule(waiting), len(waiting)
        self.trunks = Trunks(claims, {key: task.config for key, task in self.schedule.trunks.items()})
        self.paths = {label: path_of(config, folder) for label, config in waiting.items()}
        self.before = before
        self.running: dict[Future, _Work] = {}
        self.begun = self.ended = self.failed = 0  # processes; runs
        self.places: SimpleQueue[dict[str, str]] = SimpleQueue()
        cards, threads = _cards(), max(1, _cores() // jobs)
        for job in range(jobs):
            self.places.put({"CUDA_VISIBLE_DEVICES": cards[job % len(cards)]} if cards else {"OMP_NUM_THREADS": str(threads)})

    def run(self, last: bool) -> int:
        """Make them; returns how many failed."""
        total = self.schedule.steps(())
        pool = ThreadPoolExecutor(self.jobs)
        try:
            with tqdm(total=total, unit="step", smoothing=0.05) as bar:
                while self.schedule.runs:
                    self._begin(pool)
                    if not (self.running or last or self._wanted()):
                        break
                    self._wait()
                    ahead = self.schedule.steps(self.trunks.grown()) - sum(map(_progress, self.running.values()))
                    bar.update(total - ahead - bar.n)
        finally:
            for work in self.running.values():
                work.claim.lost.set()
            pool.shutdown(cancel_futures=True)
            for work in self.running.values():
                self.claims.release(work.claim)
            self.trunks.close()
        return self.failed

    def _begin(self, pool: ThreadPoolExecutor) -> None:
        """Begin as many tasks as there is room for."""
        busy = {work.task for work in self.running.values()}
        for label, task in list(self.schedule.runs.items()):
            if task not in busy and self._made(task):
                self._count(label, ", made by another")
        for task in self.schedule.order(self.trunks.grown()):
            if len(self.running) == self.jobs:
                return
            if task not in busy and (claim := self.claims.take(self._key(task))):
                self._submit(pool, task, claim)

    def _submit(self, pool: ThreadPoolExecutor, task: Task, claim: Claim) -> None:
        """Begin a task; not one that another has ended since it was looked at."""
        check_writable(self.folder)  # a network file system remembers that a file was missing until this machine writes beside it
        if self.trunks.has(task.trunk) if task.grows else self._made(task):
            self.claims.release(claim)
            return
        scratch, trunk = self.scratch / str(self.begun), None
        if task.trunk is not None:
            trunk = self.trunks.growing(task.trunk, claim) if task.grows else self.trunks.path(task.trunk)
        work = _Work(task, scratch, claim, trunk)
        self.running[pool.submit(self._one, work)] = work
        self.begun += 1

    def _wait(self) -> None:
        """Wait a moment, or until a process ends."""
        if not self.running:
            time.sleep(1)
        for future in wait(self.running, timeout=1, return_when=FIRST_COMPLETED).done:
            self._end(self.running.pop(future), future.result())

    def _one(self, work: _Work) -> str | None:
        """What went wrong with a task, on one line, if it did."""
        place = self.places.get()
        try:
            return apart(work.task.config, self.folder, work.scratch, place, work.claim.lost, work.trunk, grows=work.task.grows)
        finally:
            self.places.put(place)

    def _end(self, work: _Work, problem: str | None) -> None:
        task = work.task
        if task.grows and (problem or work.claim.lost.is_set()):
            shutil.rmtree(work.trunk, ignore_errors=True)
        if work.claim.lost.is_set():
            self.say(f"{', '.join(map(str, task.labels))}: taken over by another, to whom this machine seemed gone")
        elif task.grows and problem is None:
            self.trunks.add(task.trunk, work.trunk)
            self.claims.release(work.claim)
        elif problem is None:
            self.claims.release(work.claim)
            self._count(task.labels[0])
        else:  # its claim is kept to the end, so that nobody tries the same at the same time
            for label in task.labels:
                self._count(label, f": {'its shared warm-up: ' * task.grows}{problem}", failed=True)

    def _count(self, label: str, how: str = "", *, failed: bool = False) -> None:
        """Note that a run has come to its end here, or somewhere else."""
        self.ended += 1
        self.failed += failed
        self.say(f"{self.ended} of {self.runs}: {'FAILED ' * failed}{label}{how}")
        self.schedule.end(label)
        self.trunks.keep(self.schedule.trunks)

    def _key(self, task: Task) -> str:
        """What is claimed for a task."""
        return self.trunks.key(task.trunk) if task.grows else self.paths[task.labels[0]].stem

    def _made(self, task: Task) -> bool:
        """Whether a run's result has come since this began."""
        label = task.labels[0]
        return _version(self.paths[label]) != self.before[label] and look_up(task.config, self.folder)[0] == "done"

    def _wanted(self) -> bool:
        """Whether something is still to be begun by anybody: runs wait for a warm-up that another trains."""
        return any(self.claims.owner(self._key(task)) is None for task in self.schedule.runs.values())


def _version(path: Path) -> tuple[int, ...] | None:
    """What tells one version of a file from another."""
    with contextlib.suppress(OSError):
        found = path.stat()
        return found.st_mtime_ns, found.st_ino, found.st_size
    return None


def _cores() -> int:
    """The cores that runs share; of a job of Slurm's those that it was given."""
    given = os.environ.get("SLURM_CPUS_PER_TASK", "")
    return int(given) if given.isdecimal() else os.cpu_count() or 1


def _cards() -> list[str]:
    """The cards by name, as CUDA_VISIBLE_DEVICES has them; where it is set, those that it names."""
    count = gpus()
    return (os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(count)))).split(",")[:count]


def _progress(work: _Work) -> int:
    """How many steps a process has trained."""
    try:
        run = (work.trunk if work.task.grows else work.scratch) / "run"
        step = json.loads((run / "log.jsonl").read_text(encoding="utf-8").splitlines()[-1])["step"]
        return max(0, step - work.task.first)
    except (OSError, ValueError, IndexError):
        return 0
