"""What the README says can be done can be done: its commands run, its targets exist, its requirements agree."""

import re
import shlex
import shutil
import tomllib
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from PIL import Image
from required import requirements

import dsgc.scoring.crf
import dsgc.scoring.evaluate
import dsgc.scoring.labelling
import dsgc.scoring.predict
import dsgc.scoring.segmenter
import dsgc.training.loop
import dsgc.training.pretrain
from dsgc import __main__ as command_line
from dsgc.config import PRESETS, Config
from dsgc.data import shapes
from dsgc.data.check import Report
from dsgc.data.faults import Faults
from dsgc.data.split import open_split
from dsgc.training.pretrain import HeldOut

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def bash_lines(text: str) -> list[str]:
    """The command lines of every ```bash block, continuation lines joined, comments left out."""
    blocks = re.findall(r"^```bash\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [line for line in lines if shlex.split(line, comments=True)]


def package_commands(name: str) -> list[list[str]]:
    """The arguments of every `python -m dsgc NAME ...` of the README."""
    split = [shlex.split(line, comments=True) for line in bash_lines(README)]
    found = [words[3:] for words in split if words[:3] == ["python", "-m", "dsgc"] and words[3] == name]
    assert found, f"the README has no `python -m dsgc {name}`"
    return found


def targets() -> set[str]:
    return set(re.findall(r"^([a-z]+):", MAKEFILE, flags=re.MULTILINE))


def dependencies() -> list[Requirement]:
    """Every dependency of pyproject.toml, extras included but for that of the CRF, which is compiled: who wants it installs it, and
    for the package's own name, by which an extra takes in another."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    lists = [project["dependencies"], *(extras[name] for name in extras if name != "crf")]
    found = [Requirement(text) for texts in lists for text in texts]
    return [item for item in found if item.name != project["name"]]


def test_every_python_command_is_one_that_exists():
    words = [shlex.split(line, comments=True) for line in bash_lines(README) if line.startswith("python")]
    assert all(line[:3] == ["python", "-m", "dsgc"] for line in words)
    assert {line[3] for line in words} == set(command_line.COMMANDS)


def test_every_preset_is_named_and_every_preset_named_exists():
    named = {arguments[1] for arguments in package_commands("train")}
    assert named == set(PRESETS)


@pytest.mark.parametrize("arguments", package_commands("data"), ids=" ".join)
def test_data_commands_run(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    coco = arguments[1] == "shapes-coco"
    assert command_line.main([*arguments, "--train", "2", "--val", "1", *([] if coco else ["--dev", "1"])]) == 0
    assert len(open_split(capsys.readouterr().out.strip(), "train2014" if coco else "train").ids) == 2


@pytest.mark.parametrize("arguments", package_commands("train"), ids=" ".join)
def test_train_commands_reach_the_training_loop(arguments, tmp_path, monkeypatch, capsys):
    """Parsed for real; the loop is replaced by a look at the configuration that it is given."""
    seen: list[Config] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(dsgc.training.loop, "train", lambda config: seen.append(config) or Path(config.out))
    monkeypatch.setattr(shapes, "write", lambda out, **_: out)
    if "--help" in arguments:
        with pytest.raises(SystemExit) as stop:
            command_line.main(arguments)
        shown = capsys.readouterr().out
        assert not stop.value.code and "--label-low" in shown and ("--tau" in shown) == ("base" not in arguments)
        return
    assert command_line.main(arguments) == 0
    (config,) = seen
    for flag, value in zip(arguments[2::2], arguments[3::2], strict=True):
        assert str(config.flat()[flag.removeprefix("--").replace("-", "_")]) == value


@pytest.mark.parametrize("arguments", package_commands("resume"), ids=" ".join)
def test_resume_commands_reach_the_training_loop(arguments, monkeypatch):
    seen = []
    monkeypatch.setattr(dsgc.training.loop, "resume", lambda run, **changes: seen.append((run, changes)) or Path(run))
    assert command_line.main(arguments) == 0
    assert [(str(run), changes) for run, changes in seen] == [(arguments[1], {})]


@pytest.mark.parametrize("arguments", package_commands("evaluate"), ids=" ".join)
def test_evaluate_commands_reach_the_scores(arguments, monkeypatch):
    seen = []
    monkeypatch.setattr(dsgc.scoring.crf, "available", lambda: None)  # an optional package
    for module, name in ((dsgc.scoring.evaluate, "score_run"), (dsgc.scoring.predict, "score")):
        monkeypatch.setattr(module, name, lambda *given: seen.append(given) or {"images": 0})
    assert command_line.main(arguments) == 0
    assert str(seen[0][0]) == arguments[1]


@pytest.mark.parametrize("arguments", package_commands("predict"), ids=" ".join)
def test_predict_commands_reach_the_prediction(arguments, monkeypatch):
    seen = []
    monkeypatch.setattr(dsgc.scoring.crf, "available", lambda: None)
    monkeypatch.setattr(dsgc.scoring.predict, "predict", lambda *given: seen.append(given) or given[1])
    assert command_line.main(arguments) == 0
    assert [str(path) for path in seen[0][:2]] == arguments[1:3]


@pytest.mark.parametrize("arguments", package_commands("export"), ids=" ".join)
def test_export_commands_reach_the_export(arguments, monkeypatch):
    seen = []
    monkeypatch.setattr(dsgc.scoring.segmenter, "export", lambda *given, **_: seen.append(given))
    assert command_line.main(arguments) == 0
    assert [str(path) for path in seen[0][:2]] == arguments[1:3]


def test_the_lines_of_python_run_from_a_fresh_install(tmp_path, monkeypatch):
    """With no run and no data, on a picture that has just been drawn."""
    (code,) = re.findall(r"^```python\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)
    assert len(code.splitlines()) == 5
    monkeypatch.chdir(tmp_path)
    folder = shapes.write("drawn", sizes={"train": 1, "dev": 1, "val": 1})
    (folder / "JPEGImages/val_00000.jpg").rename("picture.jpg")
    shutil.rmtree(folder)
    found: dict = {}
    exec(code, found)
    with Image.open("labels.png") as image:
        assert (np.asarray(image) == found["result"].labels).all() and image.size == (128, 128)
    assert list(found["maps"]) == ["star", "moon"] and found["result"].probabilities.shape == (7, 128, 128)


def test_every_package_and_every_file_of_data_is_part_of_an_installation():
    setup = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    packages = {".".join(path.parent.relative_to(ROOT).parts) for path in ROOT.glob("dsgc/**/__init__.py")}
    assert set(setup["packages"]) == packages | {"dsgc.results"} and setup["package-dir"] == {"dsgc.results": "results"}
    results = {path for path in ROOT.glob("results/**/*") if path.is_file()}
    assert results == {path for pattern in setup["package-data"]["dsgc.results"] for path in (ROOT / "results").glob(pattern)}
    patterns = setup["package-data"]["dsgc"]
    files = [path for path in ROOT.glob("dsgc/**/*") if path.is_file() and path.suffix not in (".py", ".pyc")]
    assert {path.name for path in files} >= {"shapes.safetensors", "shapes_encoder.safetensors", "voc6_val.txt"}
    assert [path for path in files if not any(path.relative_to(ROOT / "dsgc").match(pattern) for pattern in patterns)] == []


@pytest.mark.parametrize("arguments", package_commands("labels"), ids=" ".join)
def test_labels_commands_reach_the_labelling(arguments, monkeypatch):
    seen = []
    monkeypatch.setattr(dsgc.scoring.labelling, "write_labels", lambda *given: seen.append(given) or given[1])
    assert command_line.main(arguments) == 0
    assert [str(path) for path in seen[0][:2]] == arguments[1:3] and seen[0][4].mirror == ("--mirror" in arguments)


@pytest.mark.parametrize("arguments", package_commands("check"), ids=" ".join)
def test_check_commands_reach_the_check(arguments, tmp_path, monkeypatch):
    seen = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command_line, "look_over", lambda *given: seen.append(given) or Report(given[0], [], Faults(), Faults()))
    assert command_line.main(arguments) == 0
    assert str(seen[0][0]) == arguments[1] and seen[0][3].tags == "tags.csv"


@pytest.mark.parametrize("arguments", package_commands("pretrain"), ids=" ".join)
def test_pretrain_commands_reach_the_pretraining(arguments, monkeypatch):
    seen = []
    monkeypatch.setattr(dsgc.training.pretrain, "pretrain", lambda out, recipe: seen.append(out) or HeldOut(0.8, 1.0))
    assert command_line.main(arguments) == 0
    assert seen == [Path(arguments[1])]


def test_every_make_target_that_is_named_exists_and_the_other_way_round():
    named = set(re.findall(r"(?:`|^)make ([a-z]+)", README, flags=re.MULTILINE))
    assert named == targets() - {"help"}


def test_the_notebooks_and_pages_that_are_named_exist():
    assert "papermill notebooks/05_train_voc.ipynb out.ipynb" in bash_lines(README)
    paths = set(re.findall(r"\b(?:notebooks|book|dsgc|tests)/[\w./]*", README))
    assert {path for path in paths if not (ROOT / path).exists()} == set()


def test_papermill_parameters_that_are_named_exist():
    lines = [line for line in bash_lines(README) if line.startswith("papermill")]
    assert lines
    for line in lines:
        source = Path(ROOT, shlex.split(line)[1]).with_suffix(".py").read_text(encoding="utf-8")
        cell = source.split('tags=["parameters"]')[1].split("\n# %%")[0]
        assert set(re.findall(r" -p (\w+)", line)) <= set(re.findall(r"^(\w+) =", cell, flags=re.MULTILINE))


def test_ci_runs_the_test_command_of_the_readme():
    script = (ROOT / ".ci/run").read_text()
    assert "make test" in bash_lines(README)
    assert script.startswith("#!/usr/bin/env bash\n") and "set -euo pipefail" in script
    assert [line for line in script.splitlines() if line.startswith("make")] == ["make test"]


def test_commands_of_the_book_are_those_of_the_readme():
    intro = (ROOT / "book/intro.md").read_text(encoding="utf-8")
    assert bash_lines(intro) and set(bash_lines(intro)) <= set(bash_lines(README))


def test_the_citation_has_the_package_s_version():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert f"version: {project['version']}\n" in (ROOT / "CITATION.cff").read_text()


def test_requirements_are_exact():
    for item in requirements().values():
        assert [spec.operator for spec in item.specifier] == ["=="], f"{item}: not an exact version"
        assert "*" not in str(item.specifier)


def test_pyproject_has_ranges_only_and_every_dependency_is_pinned_within_its_range():
    pins = requirements()
    for item in dependencies():
        operators = {spec.operator for spec in item.specifier}
        assert operators and operators <= {">=", "<", "!="}, f"{item}: not a range"
        pin = pins.get(canonicalize_name(item.name))
        assert pin is not None, f"{item.name}: not in requirements.txt"
        (version,) = pin.specifier
        assert item.specifier.contains(version.version), f"{pin} is outside {item.specifier}"
