"""What the command line says of itself: each argument has a name, each option words, and nothing of how it is read shows."""

import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from dsgc import methods
from dsgc.__main__ import COMMANDS, main
from dsgc.command import installed, launcher
from dsgc.config import PRESETS

ARGUMENTS = {"check": "DATA", "resume": "RUN", "evaluate": "RUN", "predict": "RUN OUT", "labels": "RUN OUT", "export": "RUN FILE"}
ARGUMENTS |= {"grid": "[NAME ...]", "data shapes": "OUT", "data shapes-coco": "OUT"}


def help_of(words, capsys):
    """What a command prints for --help."""
    with pytest.raises(SystemExit) as stop:
        main([*words.split(), "--help"])
    assert not stop.value.code
    return " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("command", ARGUMENTS)
def test_arguments_are_named_and_what_may_be_left_out_is_not_called_none(command, capsys):
    said = help_of(command, capsys)
    assert f" {ARGUMENTS[command]}" in said.split("╭")[0] and "PATH" not in said.split("options")[0]
    assert "None" not in said


@pytest.mark.parametrize("command", [*ARGUMENTS, "pretrain x"])
def test_every_option_has_words(command, capsys):
    said = re.sub(r"[│|] ", "", help_of(command, capsys))
    assert "--" in said and not re.findall(r"--[\w-]+ [A-Z. ]*\(default", said)


def test_presets_and_methods_have_words(capsys):
    assert main(["train"]) == 0
    said = capsys.readouterr().out
    for name in (*PRESETS, *methods.names()):
        assert re.search(rf"^  {name} +\S+ \S+", said, re.MULTILINE), name


@pytest.mark.parametrize("word", ["help", "--help", "-h"])
def test_help_lists_the_commands(word, capsys):
    assert main([word]) == 0
    said = capsys.readouterr().out
    assert all(f"  {name}" in said for name in COMMANDS) and "COMMAND --help" in said


def test_the_version_says_which_package_and_which_python(capsys):
    assert main(["--version"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("dsgc ") and str(Path(installed.__file__).parents[1]) in said and sys.version.split()[0] in said


def test_a_python_without_the_packages_is_told_so_in_one_line(tmp_path):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    words = [sys.executable, "-S", "-m", "dsgc", "train", "shapes"]  # -S: without what is installed
    done = subprocess.run(words, cwd=Path(__file__).parents[2], env=environment, capture_output=True, text=True, timeout=100)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert "numpy" in done.stderr and sys.executable in done.stderr and ".venv/bin/activate" in done.stderr


def test_needed_packages_are_those_of_the_project():
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    listed = re.findall(r'^    "([\w]+)[><=]', text.split("dependencies = [")[1].split("\n]")[0], re.MULTILINE)
    assert {{"pillow": "PIL"}.get(name, name) for name in listed} == {*installed.NEEDED}


def test_a_terminal_sees_that_torch_is_being_loaded_and_a_file_does_not(monkeypatch, capsys):
    launcher.loading()
    assert capsys.readouterr().err == ""
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", terminal)
    launcher.loading()
    assert "loading torch" in terminal.getvalue()
