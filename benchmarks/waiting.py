"""What does it cost how torch's threads wait for each other, on an idle machine and on one that others use too?

A step of training of the preset `shapes` and the mixture of 16 maps of 448 x 448, in processes that differ in how long a thread spins
before it sleeps: as `dsgc` says it, libgomp's own 300,000 rounds, not at all; and a process of one thread, which waits for none. A
process reads this once, so each way has one, and they take turns: first alone, then with one and two neighbours a core that never rest.

Started as root on Linux, the processes go before all others on the machine, so that alone means alone and the neighbours are those
started here; else whatever runs counts too, and the result says so. Writes `benchmarks/waiting.json`.

    python benchmarks/waiting.py
"""

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import dsgc  # noqa: F401, isort: skip; before torch, whose threads then share the cores with others
from measure import Cases, alternate, compared, write
from mixture import maps, ours

from dsgc.data import shapes
from dsgc.data.loading import train_batches
from dsgc.methods import preset
from dsgc.runs.parallel import accelerator_of
from dsgc.training.learner import begin, parts_of
from dsgc.training.splits import open_data
from dsgc.training.step import backward

VARIABLES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OMP_NUM_THREADS")
WAYS = {
    "dsgc": {},
    "libgomp's own": {"GOMP_SPINCOUNT": "300000"},
    "no spinning": {"OMP_WAIT_POLICY": "PASSIVE"},
    "one thread": {"OMP_NUM_THREADS": "1"},
}
WORK = ("a step of training", "the mixture of 16 maps")
ROUNDS = {0: 15, 1: 9, 2: 7}  # by neighbours on every core
NEIGHBOUR = "import os, sys\nif len(sys.argv) == 2: open('/proc/self/autogroup', 'w').write('-20')\nwhile True: pass"


def work(folder: str) -> Cases:
    """What is timed."""
    config = preset("shapes").changed(data=folder, workers=0, device="cpu")
    accelerator, data = accelerator_of(config), open_data(config)
    (networks, _, memory), _ = begin(config, len(data.folder.classes), accelerator.device)
    batch = next(iter(train_batches(data.train, batch=config.batch_size, seed=0, start=0, stop=1, workers=0)))
    parts = parts_of(batch, config.batch_size, accelerator.device)
    stage = config.method.stage(config.method.warmup_steps, config.steps)
    step = partial(backward, config.method, networks, parts, stage, memory, accelerator)
    return dict(zip(WORK, (step, partial(ours, maps("smooth", 16))), strict=True))


def serve(folder: str) -> None:
    """Do what each line of the input names, and say so."""
    cases = work(folder)
    print("ready", flush=True)
    for line in sys.stdin:
        cases[line.strip()]()
        print("done", flush=True)


def process(folder: str, variables: dict[str, str]) -> subprocess.Popen:
    plain = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    words = [sys.executable, __file__, folder]
    return subprocess.Popen(words, env=plain | variables, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def ask(server: subprocess.Popen, what: str) -> None:
    server.stdin.write(f"{what}\n")
    server.stdin.flush()
    if server.stdout.readline() != "done\n":
        sys.exit(f"{server.args}: has ended")


def before_all_others(neighbours: int) -> bool:
    """Let what starts from here go first, if the system allows it: in real time if nothing else is to run, else as processes share."""
    with contextlib.suppress(OSError, AttributeError):
        os.sched_setscheduler(0, os.SCHED_OTHER if neighbours else os.SCHED_RR, os.sched_param(0 if neighbours else 1))
        if neighbours:
            os.setpriority(os.PRIO_PROCESS, 0, -20)
            Path("/proc/self/autogroup").write_text("-20")  # the processes of a session share as one
        return True
    return False


def measured(folder: str, neighbours: int) -> list[dict]:
    """Each work in each way, with so many neighbours on every core."""
    first = before_all_others(neighbours)
    with contextlib.ExitStack() as stack:
        servers = {name: stack.enter_context(process(folder, variables)) for name, variables in WAYS.items()}
        for server in servers.values():
            stack.callback(server.kill)
            server.stdout.readline()  # it is ready
        for _ in range(neighbours * os.cpu_count()):
            words = [sys.executable, "-c", NEIGHBOUR, *["first"] * first]
            stack.callback(stack.enter_context(subprocess.Popen(words, start_new_session=True)).kill)  # another user's
        lines = []
        for what in WORK:
            seconds = alternate({name: partial(ask, server, what) for name, server in servers.items()}, ROUNDS[neighbours], least=0)
            cases = [{"name": name} | numbers for name, numbers in compared(seconds, to="dsgc").items()]
            lines.append({"of": what, "neighbours": neighbours, "before_all_others": first, "cases": cases})
            print(lines[-1], flush=True)
    return lines


def main() -> None:
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="dsgc-waiting-") as scratch:
        folder = str(shapes.write(Path(scratch) / "shapes", sizes={"train": 32, "dev": 1, "val": 1}))
        lines = [line for neighbours in ROUNDS for line in measured(folder, neighbours)]
    write(__file__, {"question": "How threads wait", "measured": lines}, begun)


if __name__ == "__main__":
    serve(sys.argv[1]) if len(sys.argv) == 2 else main()
