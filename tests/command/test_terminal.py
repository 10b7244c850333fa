"""What is said reaches any terminal: letters that it does not know, folders in any script, several processes that fail alike."""

import io
import json
import os
import subprocess
import sys

import pytest
from promises import promise

from dsgc.__main__ import COMMANDS, main
from dsgc.command import launcher
from dsgc.data import coco, index, shapes_coco
from dsgc.runs import record

pytestmark = promise("Bad input", "Where terminal, home folder or launcher are odd, a command works, or says in one line why not.")

CHINESE = "数据"


SETTINGS = {"ascii": {"PYTHONIOENCODING": "ascii"}, "C": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_terminal_that_does_not_know_the_letters_of_a_folder_stops_nothing(name, tmp_path):
    words = [sys.executable, "-m", "dsgc", "data", "shapes", CHINESE, "--train", "1", "--dev", "1", "--val", "1"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)} | SETTINGS[name]
    done = subprocess.run([os.fsencode(word) for word in words], cwd=tmp_path, env=environment, capture_output=True, timeout=100)
    assert (done.returncode, done.stderr) == (0, b"") and len(done.stdout.splitlines()) == 1
    assert (tmp_path / CHINESE / "classes.txt").is_file()


def test_lines_of_a_run_are_written_with_what_the_terminal_has(tmp_path, monkeypatch):
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", terminal)
    record.say(f"{CHINESE}/\udcff")
    terminal.flush()
    assert terminal.buffer.getvalue() == rb"\u6570\u636e/?" + b"\n"


def test_a_run_in_a_folder_of_any_script_trains_and_is_scored(shapes_copy, tmp_path, arguments, monkeypatch):
    data, run = shapes_copy.rename(tmp_path / CHINESE), tmp_path / "跑"
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", terminal)
    assert main(arguments(data=str(data), out=str(run), steps=1, warmup_steps=0, pictures=0)) == 0
    assert main(["evaluate", str(run)]) == 0
    terminal.flush()
    assert rb"\u8dd1: metrics.json" in terminal.buffer.getvalue()


def test_a_user_without_a_home_reads_instances_without_a_cache(tmp_path, monkeypatch):
    data = shapes_coco.write(tmp_path / "coco", sizes={"train2014": 2, "val2014": 1})
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 54321)
    assert index.folder() is None
    assert len(coco.open_split(data, "train2014").ids) == 2


@pytest.fixture
def processes(tmp_path, monkeypatch):
    """`processes(n)`: from now on this is process n of two, as torch's launcher has them."""
    monkeypatch.setattr(launcher, "SEVERAL", True)

    def become(rank):
        (tmp_path / f"attempt_0/{rank}").mkdir(parents=True, exist_ok=True)
        monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(tmp_path / f"attempt_0/{rank}/error.json"))
        return tmp_path / f"attempt_0/{rank}/error.json"

    return become


def test_a_mistake_that_all_processes_find_is_said_once_and_quoted_by_the_launcher(processes, capsys):
    for rank, lines in ((0, 1), (1, 0)):
        place = processes(rank)
        assert main(["train", "mars"]) == 2
        said = capsys.readouterr().err
        assert len(said.splitlines()) == lines
        assert json.loads(place.read_text())["message"]["message"].startswith("dsgc: preset 'mars': unknown")
    assert main(["train", "venus"]) == 2
    assert "venus" in capsys.readouterr().err, "another mistake is said as well"


def test_a_process_that_is_left_alone_is_silent_if_another_said_why(processes, monkeypatch, capsys):
    def broken(_):
        raise RuntimeError("[gloo/transport/tcp/pair.cc:561] Connection closed by peer [127.0.0.1]:48804.")

    monkeypatch.setitem(COMMANDS, "train", broken)
    processes(1)
    assert main(["train"]) == 2
    assert "dsgc: another process of this run has ended ([gloo" in capsys.readouterr().err
    assert main(["train"]) == 2
    assert capsys.readouterr().err == ""


def test_any_other_error_of_a_process_is_no_word_of_the_others(processes, monkeypatch):
    def broken(_):
        raise RuntimeError("a mistake of ours")

    monkeypatch.setitem(COMMANDS, "train", broken)
    processes(1)
    with pytest.raises(RuntimeError, match="of ours"):
        main(["train"])
