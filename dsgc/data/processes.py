"""Loading processes: items come back over a pipe of each one's own, so that one which dies or stalls is seen, and replaced.

torch's `DataLoader` hands batches over in shared memory, of which a container has 64 MB, and waits for ever where that is full,
where a process is stopped, or where one ends in the midst of a message. Nothing here lies in shared memory.
"""

import atexit
import multiprocessing
import os
import queue
import signal
import threading
import traceback
import weakref
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from typing import Any

import torch

from dsgc.errors import UserError, first_line

SILENCE = 120.0  # seconds without an item, after which a process counts as stalled: four times what a slow share may need for one
AHEAD = 2  # batches of each process that are asked for before they are due
_RUNNING: "weakref.WeakSet[multiprocessing.Process]" = weakref.WeakSet()


class LostError(Exception):
    """A loading process is gone, died or ended because it had stalled, when it was to load `key`."""

    def __init__(self, what: str, key: Any, remedy: str):
        super().__init__(what)
        self.key, self.remedy = key, remedy


def _died(key: Any) -> LostError:
    return LostError("died", key, "memory may have run out, or the file kills its reader: take fewer --workers, or 0 to see")


def loaded(load: Callable[[Any], Any], batches: Sequence[Sequence], count: int) -> Iterator[list]:
    """`load` of every key of each batch, in order, made by `count` processes; the items travel by value.

    Raises:
        LostError: one of the processes is gone; the others are ended too.
        UserError: they cannot be started. What `load` raises is raised here as well.
    """
    running: list[_Loader] = []
    try:
        try:
            for _ in range(min(count, len(batches))):
                running.append(_Loader(load))
        except (OSError, RuntimeError) as error:  # no memory, too many processes or open files
            raise UserError(f"workers {count}: loading processes cannot be started ({first_line(error)}); take fewer --workers") from error
        for number, keys in enumerate(batches[: AHEAD * len(running)]):
            running[number % len(running)].ask(keys)
        for number, keys in enumerate(batches):
            loader, later = running[number % len(running)], number + AHEAD * len(running)
            items = [loader.item(key) for key in keys]
            if later < len(batches):
                loader.ask(batches[later])
            yield items
    finally:
        for loader in running:
            loader.end()


class _Loader:
    """One process, and a thread of this one that takes what comes from it."""

    def __init__(self, load: Callable[[Any], Any]):
        self.pipe, far = multiprocessing.Pipe()
        self.items: queue.SimpleQueue = queue.SimpleQueue()
        self.process = multiprocessing.Process(target=_serve, args=(load, far), daemon=True)
        self.process.start()
        _RUNNING.add(self.process)
        far.close()  # so that the pipe ends when the process does
        threading.Thread(target=_receive, args=(self.pipe, self.items), daemon=True).start()

    def ask(self, keys: Sequence) -> None:
        """Have the items of a batch loaded."""
        try:
            self.pipe.send(keys)
        except OSError as error:
            raise _died(keys[0]) from error

    def item(self, key: Any) -> Any:
        """The next item, that of `key`. Time in which this process itself is stopped does not count as silence."""
        looks = 100
        for _ in range(looks):
            try:
                found = self.items.get(timeout=SILENCE / looks)
            except queue.Empty:
                continue
            if found is None:
                raise _died(key)
            if isinstance(found, Exception):
                raise found
            return found
        remedy = "the disk or share that holds it may not answer: see to it, or copy the images to another"
        raise LostError(f"stalled ({SILENCE:g} s without a sign)", key, remedy)

    def end(self) -> None:
        """End the process, stopped or not; it asks for nothing that it could lose."""
        self.process.kill()
        self.process.join(5)


def _receive(pipe: Connection, items: queue.SimpleQueue) -> None:
    try:
        while True:
            items.put(pipe.recv())
    except (EOFError, OSError):
        items.put(None)
    except Exception as error:  # no memory for it, for example
        items.put(error)


def _serve(load: Callable[[Any], Any], pipe: Connection) -> None:
    """What a loading process does, until its parent ends it or is gone."""
    for number in (signal.SIGINT, signal.SIGTERM):  # meant for the parent, which still needs the batch
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)  # as many processes as cores are at work
    try:
        while True:
            for key in pipe.recv():
                pipe.send(_loaded(load, key))
    except (EOFError, OSError):
        pass


def _loaded(load: Callable[[Any], Any], key: Any) -> Any:
    """An item, or what was raised in its place."""
    try:
        return load(key)
    except (UserError, OSError, MemoryError) as error:
        return error
    except Exception:  # it may not survive the pipe, and its traceback would not
        return RuntimeError(traceback.format_exc())


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)


@atexit.register  # before multiprocessing, which would ask them to end and wait for it
def _end_all() -> None:
    for process in list(_RUNNING):
        process.kill()
