"""Loading processes that die, stall or find no memory, however they are started, and where there is no shared memory at all."""

import contextlib
import ctypes
import multiprocessing
import os
import queue
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import apart
import pytest
import torch
from promises import promise

from dsgc.__main__ import main
from dsgc.data import processes
from dsgc.data.loading import DEATHS, Crops, EvalImages, eval_batches, train_batches
from dsgc.data.split import open_split
from dsgc.errors import UserError

SUBJECT = "Faults during training"


def batches(folder, workers):
    crops = Crops(open_split(folder, "train"), size=32, scale=(0.3, 1.0), ratio=(0.75, 1.3), flip=True, seed=0, masks=True)
    return list(train_batches(crops, batch=3, seed=0, start=0, stop=6, workers=workers))


def same(one, two):
    pairs = [pair for a, b in zip(one, two, strict=True) for pair in zip(a, b, strict=True)] if len(one) == len(two) else []
    return bool(pairs) and all(x is y if x is None else x.equal(y) for x, y in pairs)


@pytest.fixture
def noted(monkeypatch, tmp_path):
    """A file that a loading process makes before it stalls: only while it is there does waiting count, and then it is short."""
    note = tmp_path / "stalls"

    class Queue(queue.SimpleQueue):
        def get(self, timeout):
            while True:
                with contextlib.suppress(queue.Empty):
                    return super().get(timeout=0.003)
                if note.exists():
                    raise queue.Empty

    monkeypatch.setattr("dsgc.data.processes.queue.SimpleQueue", Queue)
    return note


@pytest.fixture
def at_item(monkeypatch, tmp_path, noted):
    """`at_item(owner, number, what, once)`: something happens in the loading process that is to load an item."""

    def prepare(owner, number, what, *, once):
        def loads(dataset, key, genuine=owner.__getitem__):
            noted.unlink(missing_ok=True)
            if (key if owner is EvalImages else key[1]) == number and not (once and (tmp_path / "was").exists()):
                (tmp_path / "was").touch()
                noted.touch()
                what()
            return genuine(dataset, key)

        monkeypatch.setattr(owner, "__getitem__", loads)

    return prepare


def amid_a_message(what):
    """Something happens as a process has sent a part of the next item."""

    def begin():
        def send(connection, buffer):
            os.write(connection.fileno(), bytes(buffer[: len(buffer) // 2]))
            what()

        multiprocessing.connection.Connection._send = send  # of the loading process

    return begin


def stop():
    os.kill(os.getpid(), signal.SIGSTOP)


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def hang():
    time.sleep(1000)


CASES = {
    "stopped": stop,
    "waits for a disk": hang,
    "stopped amid a message": amid_a_message(stop),
    "dies amid a message": amid_a_message(die),
    "ends itself": lambda: os._exit(0),
}


@promise(SUBJECT, "A loading process that stalls, or ends amid what it hands over, is replaced; the batches are the same.")
@pytest.mark.parametrize("case", CASES)
def test_a_process_that_is_lost_is_replaced(case, at_item, shapes_folder, capfd):
    expected = batches(shapes_folder, 0)
    at_item(Crops, 4, CASES[case], once=True)
    assert same(batches(shapes_folder, 1), expected)
    (said,) = capfd.readouterr().err.strip().splitlines()
    assert "others take its place" in said and "at train_" in said
    assert ("died" if case in ("dies amid a message", "ends itself") else "stalled") in said
    assert not multiprocessing.active_children()


@promise(SUBJECT, "Where an image never comes, as from a share that does not answer, one line names it after a bounded wait.")
@pytest.mark.parametrize(("what", "said"), [(hang, "stalled"), (die, "died")])
def test_a_process_that_is_lost_each_time_is_one_line_with_the_image(what, said, at_item, shapes_folder):
    at_item(EvalImages, 2, what, once=False)
    with pytest.raises(UserError, match=f"{said} .*{DEATHS} times in a row, the last at val_00002; .*") as caught:
        list(eval_batches(EvalImages(open_split(shapes_folder, "val")), batch=1, workers=1))
    assert "\n" not in str(caught.value) and not multiprocessing.active_children()


@pytest.mark.parametrize(("late", "found"), [(99, "an item"), (100, None)])
def test_a_process_that_is_slow_is_waited_for(late, found):
    """It is given up after looks that take `SILENCE` together; a pause of the process that looks is not in them."""
    looks, slow = [], processes._Loader.__new__(processes._Loader)

    def get(timeout):
        looks.append(timeout)
        if len(looks) <= late:
            raise queue.Empty
        return found

    slow.items = SimpleNamespace(get=get)
    if found:
        assert slow.item(0) == found
    else:
        with pytest.raises(processes.LostError, match="stalled"):
            slow.item(0)
    assert sum(looks) == pytest.approx(processes.SILENCE) and max(looks) < 2


@promise("Bad input", "Where memory runs out for a picture, one line names it, and what needs less.")
@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to")])
def test_an_image_that_does_not_fit_into_memory_is_named(error, workers, shapes_folder, monkeypatch):
    def fails(*_):
        raise error

    monkeypatch.setattr(Crops, "__getitem__", fails)
    with pytest.raises(UserError, match=r"train_\d+: cannot be loaded, memory ran out \(.*\); take fewer --workers"):
        batches(shapes_folder, workers)


def test_a_fault_of_the_program_keeps_its_traceback(shapes_folder, monkeypatch):
    def fails(*_):
        raise KeyError("here")

    monkeypatch.setattr(Crops, "__getitem__", fails)
    with pytest.raises(RuntimeError, match="in fails(.|\n)*KeyError: 'here'"):
        batches(shapes_folder, 1)


@pytest.mark.parametrize("error", [OSError(12, "Cannot allocate memory"), OSError(24, "Too many open files")])
def test_processes_that_cannot_be_started_are_one_line(error, shapes_folder, monkeypatch):
    def fails(_):
        raise error

    monkeypatch.setattr(multiprocessing.Process, "start", fails)
    with pytest.raises(UserError, match=f"workers 2: loading processes cannot be started .*{error.strerror}.*; take fewer --workers"):
        batches(shapes_folder, 2)


# surroundings


@promise("Determinism", "However loading processes are started, by fork, spawn or a server that forks, the batches are the same.")
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_processes_of_another_kind_load_the_same(method, shapes_folder, monkeypatch):
    expected, before = batches(shapes_folder, 0), multiprocessing.get_start_method()
    assert apart.context.get_start_method() == "forkserver"  # its server is running, with torch in it
    multiprocessing.set_start_method(method, force=True)
    try:
        found = batches(shapes_folder, 1)
    finally:
        multiprocessing.set_start_method(before, force=True)
    assert same(found, expected)


def in_full_shared_memory(commands, there):
    """Commands in a process whose /dev/shm has no room, as that of a container may have."""
    ctypes.CDLL(None).unshare(0x20000)  # CLONE_NEWNS: mounts of its own
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "none", "/dev/shm"], check=True)
    with open("/dev/shm/full", "wb") as file:
        file.write(b"0" * 4096)
    with open(there, "w") as file:
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
    torch.set_num_threads(1)
    sys.exit(max(map(main, commands)))


@promise(SUBJECT, "Where /dev/shm is full, as in a container, training, evaluation and prediction go on as elsewhere.")
def test_a_full_shared_memory(arguments, whole, tmp_path, small_disk):
    small_disk(1)  # skips where nothing can be mounted
    run, out, said = tmp_path / "run", tmp_path / "p", tmp_path / "said"
    commands = [arguments(out=str(run), **apart.SMALL | {"workers": 2}), ["evaluate", str(run)]]
    commands += [["predict", str(run), str(out), "--split", "val"]]
    process = apart.context.Process(target=in_full_shared_memory, args=(commands, said))
    process.start()
    process.join()
    assert process.exitcode == 0, said.read_text()
    assert apart.outcome(run) == whole and len(list(out.rglob("*.png"))) == 4


def load_and_wait(folder, there):
    crops = Crops(open_split(folder, "train"), size=32, scale=(0.3, 1.0), ratio=(0.75, 1.3), flip=True, seed=0)
    waiting = train_batches(crops, batch=3, seed=0, start=0, stop=900, workers=2)
    there.send(len(next(waiting)))
    time.sleep(1000)


def test_processes_end_with_their_parent_however_it_ends(shapes_folder):
    here, there = multiprocessing.Pipe()
    process = apart.context.Process(target=load_and_wait, args=(shapes_folder, there))
    process.start()
    there.close()
    assert here.recv()
    process.kill()
    with pytest.raises((EOFError, ConnectionResetError)):
        here.recv()  # comes back once none of them is left that has the other end
