"""Loading processes that die, stall or find no memory, however they are started, and where there is no shared memory at all."""

import contextlib
import ctypes
import multiprocessing
import os
import signal
import subprocess
import sys
import time

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
    return len(one) == len(two) and all(x.equal(y) for a, b in zip(one, two, strict=True) for x, y in zip(a, b, strict=True))


@pytest.fixture
def soon(monkeypatch):
    """A process counts as stalled after a moment."""
    monkeypatch.setattr(processes, "SILENCE", 0.4)


@pytest.fixture
def once(monkeypatch, tmp_path):
    """`once(what)`: something happens in the loading process that is the first to load item 4."""

    def prepare(what):
        def loads(crops, key, genuine=Crops.__getitem__):
            if key[1] == 4:
                with contextlib.suppress(FileExistsError):
                    (tmp_path / "marker").touch(exist_ok=False)
                    what()
            return genuine(crops, key)

        monkeypatch.setattr(Crops, "__getitem__", loads)

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
def test_a_process_that_is_lost_is_replaced(case, once, soon, shapes_folder, capfd):
    expected = batches(shapes_folder, 0)
    once(CASES[case])
    assert same(batches(shapes_folder, 2), expected)
    said = capfd.readouterr().err.strip()
    assert said.count("\n") == 0 and "others take its place" in said and "train_" in said
    assert ("died" if case in ("dies amid a message", "ends itself") else "stalled") in said
    assert not multiprocessing.active_children()


@promise(SUBJECT, "Where an image never comes, as from a share that does not answer, one line names it after a bounded wait.")
@pytest.mark.parametrize(("what", "said"), [(hang, "stalled"), (die, "died")])
def test_a_process_that_is_lost_each_time_is_one_line_with_the_image(what, said, soon, shapes_folder, monkeypatch):
    def loads(images, index, genuine=EvalImages.__getitem__):
        if index == 2:
            what()
        return genuine(images, index)

    monkeypatch.setattr(EvalImages, "__getitem__", loads)
    seen = []
    with pytest.raises(UserError, match=f"{said} .*{DEATHS} times in a row, the last at val_00002; .*") as caught:
        seen += eval_batches(EvalImages(open_split(shapes_folder, "val")), batch=1, workers=1)
    assert "\n" not in str(caught.value) and not multiprocessing.active_children()


def test_a_slow_process_is_waited_for(soon, shapes_folder, monkeypatch):
    """Two items of a batch, each of which takes more than half of the time that one may take."""
    def slowly(crops, key, genuine=Crops.__getitem__):
        time.sleep(0.25 if key[1] in (0, 1) else 0)
        return genuine(crops, key)

    expected = batches(shapes_folder, 0)
    monkeypatch.setattr(Crops, "__getitem__", slowly)
    monkeypatch.setattr("dsgc.data.loading.DEATHS", 1)
    assert same(batches(shapes_folder, 1), expected)


@promise("Bad input", "Where memory runs out for a picture, one line names it, and what needs less.")
@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")])
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


def in_full_shared_memory(words, there):
    """A command in a process whose /dev/shm has no room, as that of a container may have."""
    ctypes.CDLL(None).unshare(0x20000)  # CLONE_NEWNS: mounts of its own
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "none", "/dev/shm"], check=True)
    with open("/dev/shm/full", "wb") as file:
        file.write(b"0" * 4096)
    with open(there, "w") as file:
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
    torch.set_num_threads(1)
    sys.exit(main(words))


@promise(SUBJECT, "Where /dev/shm is full, as in a container, training, evaluation and prediction go on as elsewhere.")
def test_a_full_shared_memory(arguments, whole, tmp_path, small_disk):
    small_disk(1)  # skips where nothing can be mounted
    run = tmp_path / "run"
    commands = [arguments(out=str(run), **apart.SMALL | {"workers": 2}), ["evaluate", str(run)], ["predict", str(run), str(tmp_path / "p"), "--split", "val"]]
    for words in commands:
        process = apart.context.Process(target=in_full_shared_memory, args=(words, tmp_path / "said"))
        process.start()
        process.join()
        assert process.exitcode == 0, (tmp_path / "said").read_text()
    assert apart.outcome(run) == whole and len(list((tmp_path / "p").rglob("*.png"))) == 4


def test_processes_end_with_their_parent_however_it_ends(arguments, tmp_path):
    run = tmp_path / "run"
    process = apart.command(arguments(out=str(run), **apart.SMALL | {"steps": 4000, "workers": 2}), tmp_path)
    log = run / "log.jsonl"
    while not log.exists() or len(log.read_bytes().splitlines()) < 2:
        assert process.poll() is None
        time.sleep(0.02)
    process.kill()
    process.communicate(timeout=60)  # which comes back once nobody has its output open
