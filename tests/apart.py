"""A training run in a process of its own that starts at once, and that a test may kill at any moment."""

import multiprocessing
import os
import threading
from pathlib import Path

import torch
from tqdm import tqdm

from dsgc.config import Config
from dsgc.train import resume, train

context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(["apart", "dsgc.train", "pytest"])  # loaded once, in the process that the others are forked from


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
