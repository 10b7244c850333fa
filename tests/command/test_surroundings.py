"""File systems and systems that refuse what is not essential: nothing that was written is lost, and runs end as elsewhere."""

import errno
import multiprocessing
import os
import shutil
import signal
from pathlib import Path

import apart
import pytest
from promises import promise
from refusal import refused, tree

from dsgc.__main__ import main
from dsgc.errors import UserError
from dsgc.runs import checkpoint, disk
from dsgc.runs.record import write_json
from dsgc.training.loop import resume, train

SUBJECT = "Faults during training"


def refuses(number):
    return OSError(getattr(errno, number), os.strerror(getattr(errno, number)))


@pytest.fixture
def fsync(monkeypatch):
    """`fsync(folders=error, files=error)`: what the file system answers who asks for it; None for nothing unusual."""
    genuine = os.fsync

    def prepare(folders=None, files=None):
        def answer(descriptor):
            error = folders if os.path.isdir(f"/proc/self/fd/{descriptor}") else files
            if error:
                raise error
            genuine(descriptor)

        monkeypatch.setattr(os, "fsync", answer)

    return prepare


@pytest.mark.parametrize("number", ["EINVAL", "ENOTSUP", "EACCES", "EBADF", "EPERM", "ENOSYS", "EISDIR", "EIO"])
def test_a_folder_that_cannot_be_synced_costs_nothing(number, fsync, tmp_path):
    fsync(folders=refuses(number))
    disk.to_disk(tmp_path)


@pytest.mark.parametrize("number", ["EINVAL", "ENOSYS", "ENOTSUP", "EOPNOTSUPP"])
def test_a_file_whose_system_knows_no_fsync_is_left_to_it(number, fsync, tmp_path):
    (tmp_path / "file").touch()
    fsync(files=refuses(number))
    disk.to_disk(tmp_path / "file")


@pytest.mark.parametrize("number", ["EIO", "ENOSPC", "EDQUOT", "EBADF", "EACCES"])
def test_a_file_that_cannot_be_written_is_no_matter_of_taste(number, fsync, tmp_path):
    (tmp_path / "file").touch()
    fsync(files=refuses(number))
    with pytest.raises(OSError, match=os.strerror(getattr(errno, number))):
        disk.to_disk(tmp_path / "file")


@promise(SUBJECT, "Where a share refuses to sync a folder, to rename one or to let one go, no checkpoint is lost, and the run is the same.")
def test_a_share_that_refuses_what_is_not_essential(fsync, tiny, tmp_path, monkeypatch, whole):
    def replace(one, other, genuine=os.replace):
        if os.path.isdir(one) or os.path.exists(other):
            raise refuses("EPERM")
        genuine(one, other)

    def rmtree(folder, ignore_errors=False, **_):
        if not ignore_errors:
            raise refuses("ENOTEMPTY")  # a file in it is open elsewhere

    fsync(folders=refuses("EINVAL"), files=refuses("ENOTSUP"))
    monkeypatch.setattr(os, "replace", replace)
    monkeypatch.setattr(shutil, "rmtree", rmtree)
    for name in ("chmod", "utime", "link", "symlink"):
        monkeypatch.setattr(os, name, lambda *_, **__: (_ for _ in ()).throw(refuses("EPERM")))
    run = train(tiny(out=str(tmp_path / "run"), **apart.SMALL))
    assert [path.name for path in sorted((run / "checkpoints").iterdir())] == ["step_000004", "step_000006"]
    assert apart.outcome(run) == whole


@promise(SUBJECT, "A disk that fails while a checkpoint is synced is one line; the older one stays.")
def test_a_disk_that_fails_while_a_file_is_synced(fsync, arguments, tmp_path, monkeypatch, capsys, whole):
    run, saved = tmp_path / "run", checkpoint.to_disk

    def fails(path):
        if path.name == "state.safetensors" and "000006" in str(path):
            raise refuses("EIO")
        saved(path)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "to_disk", fails)
        refused(arguments(out=str(run), **apart.SMALL), capsys, "step 6 cannot be written", "Input/output error", "make room")
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["step_000004"]
    assert apart.outcome(resume(run)) == whole


def test_a_file_is_replaced_where_nothing_can_be_renamed_onto_it(tmp_path, monkeypatch):
    target = tmp_path / "scores.json"
    write_json(target, 1)
    calls = []

    def replace(one, other, genuine=os.replace):
        calls.append(other)
        if os.path.exists(other) or (fails and len(calls) == 3):
            raise refuses("EACCES")
        genuine(one, other)

    monkeypatch.setattr(os, "replace", replace)
    for fails, kept in ((False, "2\n"), (True, "2\n")):
        calls.clear()
        if fails:
            with pytest.raises(UserError, match=r"scores\.json: cannot be written"):
                write_json(target, 3)
        else:
            write_json(target, 2)
        assert tree(tmp_path) == {"scores.json": kept.encode()}


@pytest.mark.parametrize("number", ["ENOSPC", "EIO", "EROFS", "EDQUOT"])
def test_trouble_with_the_disk_is_not_worked_round(number, tmp_path, monkeypatch):
    (tmp_path / "made").mkdir()
    (tmp_path / "made/file").touch()
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(refuses(number)))
    with pytest.raises(OSError, match=os.strerror(getattr(errno, number))):
        disk.rename(tmp_path / "made", tmp_path / "target")
    assert (tmp_path / "made/file").exists() and not (tmp_path / "target").exists()


@promise(SUBJECT, "Where a system has no SIGCHLD, starts processes anew and opens no folders, as Windows, a run is the same.")
def test_a_system_like_windows(arguments, tmp_path, monkeypatch, whole, capsys):
    """Simulated: what Windows lacks is taken away."""
    opens, syncs, before = os.open, os.fsync, multiprocessing.get_start_method()

    def no_folders(path, flags, *given, **named):
        if isinstance(path, (str, Path)) and os.path.isdir(path):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return opens(path, flags, *given, **named)

    def only_what_is_written(descriptor):
        flags = next(line for line in Path(f"/proc/self/fdinfo/{descriptor}").read_text().splitlines() if line.startswith("flags"))
        if not int(flags.split()[1], 8) & (os.O_WRONLY | os.O_RDWR):
            raise refuses("EBADF")
        syncs(descriptor)

    for name in ("SIGCHLD", "SIGHUP", "SIGSTOP"):  # SIGKILL is needed by Python itself, on this system
        monkeypatch.delattr(signal, name)
    for name in ("O_DIRECTORY", "getuid", "geteuid", "sched_getaffinity"):
        monkeypatch.delattr(os, name)
    monkeypatch.setattr(os, "open", no_folders)
    monkeypatch.setattr(os, "fsync", only_what_is_written)
    multiprocessing.set_start_method("spawn", force=True)
    try:
        run = tmp_path / "run"
        assert main(arguments(out=str(run), **apart.SMALL | {"workers": 1})) == 0
        assert main(["evaluate", str(run), "--workers", "0"]) == 0
        assert main(["predict", str(run), str(tmp_path / "out"), "--split", "val", "--workers", "0"]) == 0
    finally:
        multiprocessing.set_start_method(before, force=True)
    assert apart.outcome(run) == whole, capsys.readouterr().err
