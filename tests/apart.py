"""A training run in a process of its own that a test may kill at any moment, and what a run has to show at its end."""

import json
import multiprocessing
import os
import subprocess
import sys
import threading
from pathlib import Path

import torch
from tqdm import tqdm

from dsgc.config import Config
from dsgc.runs import checkpoint
from dsgc.training.loop import resume, train

ROOT = Path(__file__).resolve().parents[1]
SMALL = {"steps": 6, "checkpoint_every": 4, "eval_every": 3, "eval_images": 2}  # what `whole` of conftest changes in `tiny`
context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(["apart", "dsgc.training.loop", "pytest"])  # loaded once, in the process that the others are forked from


def start(what):
    """Start the run of a config, or go on with that of a folder; the process."""
    process = context.Process(target=_go, args=[what], daemon=True)
    process.start()
    return process


def _go(what: Config | Path) -> None:
    for descriptor in (1, 2):
        os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
    torch.set_num_threads(1)
    tqdm.set_lock(threading.RLock())  # its own is a semaphore of the system, which a killed process would leave behind
    train(what) if isinstance(what, Config) else resume(what)


def command(words, cwd, variables=None, *, own_group=False):
    """A command of the package, begun; the process, both of whose outputs come through one pipe."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"} | (variables or {})
    words = [sys.executable, "-m", "dsgc", *map(str, words)]
    return subprocess.Popen(
        words, cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=own_group
    )


def log_of(run):
    """The lines of a run's log."""
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def outcome(run):
    """All that a run has to show at its end, files by their digests; the log without the speed."""
    lines = log_of(run)
    for line in lines:
        line.pop("images_per_second", None)
    files = [*checkpoint.checkpoints(run)[-1].glob("*.safetensors"), *run.glob("pictures/*")]
    digests = {path.name: checkpoint.digest(path) for path in files}
    return {"log": lines, "metrics": json.loads((run / "metrics.json").read_text()), "digests": digests}
