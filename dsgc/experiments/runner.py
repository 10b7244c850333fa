"""Training runs made: several at a time, each in a process of its own, and a warm-up that several share before these.

A run that was killed leaves nothing behind and is made again the next time. So is one whose result is damaged or of other code.
"""

import contextlib
import dataclasses
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from queue import SimpleQueue

from tqdm import tqdm

from dsgc.config import Config
from dsgc.errors import UserError, check_writable, printable
from dsgc.experiments import forks
from dsgc.experiments.plan import counted
from dsgc.experiments.provenance import provenance
from dsgc.experiments.schedule import Schedule, Task
from dsgc.experiments.stored import Result, described, digest, look_up, path_of
from dsgc.methods import configured


def make(config: Config, folder: Path, scratch: Path, trunk: Path | None = None) -> Path:
    """Train in `scratch` and write the result to the folder; from the trunk that a folder has, if one is given."""
    from dsgc.runs.parallel import accelerator_of
    from dsgc.runs.record import write_json
    from dsgc.runs.restore import load_networks
    from dsgc.scoring import diagnosis  # torch and timm are loaded by the process that trains
    from dsgc.scoring.pictures import encoded
    from dsgc.training.loop import train
    from dsgc.training.splits import open_data

    begun, about = time.monotonic(), provenance(config, 0)  # of the code that was loaded: files may change while it trains
    here, warm_up = dataclasses.replace(config, out=str(scratch / "run")), {}
    if trunk is None:
        run = train(here)
    else:
        run, grown = forks.go_on(trunk, here)
        warm_up = {"id": grown.id, "seconds": grown.seconds}
    scores = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    device = accelerator_of(config).device
    network, dataset = load_networks(run)[0][config.method.networks[0]].to(device), open_data(config).val
    counts = diagnosis.count(network, dataset, config, device)
    samples = encoded(network, dataset, config, device)
    about |= {"seconds": round(time.monotonic() - begun), "warm_up": warm_up}
    result = Result(described(config), scores, counts, samples, about)
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

    What is done is kept whatever happens. Processes are dealt out over the cards, or share the cores where there is none. Of the
    runs to make, those that share their warm-up (`forks.shared`) go on from one; each comes out as if it were made alone.

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
    say(counted(runs, waiting, jobs))
    with tempfile.TemporaryDirectory(prefix="dsgc-runs-") as scratch:
        return _Making(waiting, Path(folder), Path(scratch), jobs, say).run()


class _Making:
    """One call of `make_all` under way."""

    def __init__(self, waiting: Mapping[str, Config], folder: Path, scratch: Path, jobs: int, say: Callable[[str], None]):
        self.folder, self.scratch, self.jobs, self.say = folder, scratch, jobs, say
        self.schedule, self.runs = Schedule(waiting), len(waiting)
        self.running: dict[Future, tuple[Task, Path]] = {}
        self.begun = self.ended = self.failed = 0  # tasks; runs
        self.places: SimpleQueue[dict[str, str]] = SimpleQueue()
        self.stop = threading.Event()
        cards, threads = _cards(), max(1, (os.cpu_count() or 1) // jobs)
        for job in range(jobs):
            self.places.put({"CUDA_VISIBLE_DEVICES": cards[job % len(cards)]} if cards else {"OMP_NUM_THREADS": str(threads)})

    def run(self) -> int:
        """Make them; returns how many failed."""
        total = sum(task.steps for task in self.schedule.tasks())
        pool = ThreadPoolExecutor(self.jobs)
        try:
            with tqdm(total=total, unit="step", smoothing=0.05) as bar:
                while self._begin(pool):
                    done, _ = wait(self.running, timeout=1, return_when=FIRST_COMPLETED)
                    for future in done:
                        self._end(*self.running.pop(future), future.result())
                    ahead = sum(task.steps for task in self.schedule.tasks())
                    ahead += sum(task.last - max(_steps(scratch), task.first) for task, scratch in self.running.values())
                    bar.update(total - ahead - bar.n)
        finally:
            self.stop.set()
            pool.shutdown(cancel_futures=True)
        return self.failed

    def _begin(self, pool: ThreadPoolExecutor) -> bool:
        """Begin as many tasks as there is room for; whether any is under way."""
        while len(self.running) < self.jobs and (task := self.schedule.take()):
            scratch = self._trunk(task.trunk) if task.grows else self.scratch / str(self.begun)
            self.running[pool.submit(self._one, task, scratch)] = task, scratch
            self.begun += 1
        return bool(self.running)

    def _one(self, task: Task, scratch: Path) -> str | None:
        """What went wrong with a task, on one line, if it did."""
        place = self.places.get()
        try:
            trunk = None if task.trunk is None else self._trunk(task.trunk)
            return _apart(task.config, self.folder, scratch, place, self.stop, trunk, grows=task.grows)
        finally:
            self.places.put(place)

    def _end(self, task: Task, scratch: Path, problem: str | None) -> None:
        if (unused := self.schedule.end(task, well=problem is None)) is not None:
            shutil.rmtree(self._trunk(unused), ignore_errors=True)
        if task.grows and problem is None:
            return
        for label in task.labels:
            self.ended += 1
            self.failed += problem is not None
            what = label if problem is None else f"FAILED {label}: {'its shared warm-up: ' * task.grows}{problem}"
            self.say(f"{self.ended} of {self.runs}: {what}")

    def _trunk(self, key: str) -> Path:
        """Where a trunk lies."""
        return self.scratch / f"trunk-{key[:16]}"


def _cards() -> list[str]:
    """The cards by name, as CUDA_VISIBLE_DEVICES has them; where it is set, those that it names."""
    count = gpus()
    return (os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(count)))).split(",")[:count]


def _apart(
    config: Config, folder: Path, scratch: Path, place: dict[str, str], stop: threading.Event, trunk: Path | None, *, grows: bool
) -> str | None:
    """`make`, or `forks.grow` in the trunk's folder, in a process of its own; returns what went wrong, on one line, if it did.

    It is killed once `stop` is set. Of a run nothing but its result stays: the checkpoints of all together would fill a disk.
    """
    scratch.mkdir()
    words = ["grow", str(scratch)] if grows else ["make", str(scratch), str(folder), *([] if trunk is None else [str(trunk)])]
    with (scratch / "stderr").open("w") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "dsgc.experiments.runner", *words],
            env=os.environ | {"TQDM_DISABLE": "1"} | place,
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=said, text=True,
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
    if not grows:
        shutil.rmtree(scratch, ignore_errors=True)
    if code == 0:
        return None
    return f"killed by signal {-code}" if code < 0 else (printable(lines[-1]) if lines else f"exit code {code}")


def _child(what: str, scratch: str, *others: str) -> int:
    """What a process of `make_all` does: a configuration comes in on standard input."""
    values = json.loads(sys.stdin.readline())
    # This process ends with its parent. Not sys.stdin.read(): its lock, held, would stop the loading processes that fork.
    threading.Thread(target=_end_with_parent, args=[Path(scratch).parent], daemon=True).start()
    try:
        config, others = configured(values), [Path(other) for other in others]
        if what == "grow":
            forks.grow(config, Path(scratch))
        else:
            folder, *trunk = others
            make(config, folder, Path(scratch), *trunk)
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


if __name__ == "__main__":
    sys.exit(_child(*sys.argv[1:]))
