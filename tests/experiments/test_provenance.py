"""Where a result comes from: a digest that changes with the code that makes results and with nothing else; the commit."""

import ast
import platform
import re
import shutil
import subprocess
from pathlib import Path

import PIL
import pytest

from dsgc.experiments import provenance


def changed_code(monkeypatch, tmp_path, file, old, new, method="dsgc"):
    """A method's code version with one text replaced in one file of a copy of the package."""
    package = tmp_path / "dsgc"
    shutil.copytree(provenance.PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__", "*.safetensors"))
    path = package / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    monkeypatch.setattr(provenance, "PACKAGE", package)
    return provenance.code_version.__wrapped__(method)


@pytest.mark.parametrize(
    ("file", "old", "new", "differs"),
    [
        ("training/learner.py", "gradient_clip or math.inf", "gradient_clip or 2 * math.inf", True),  # reached through train
        ("dskd.py", "1 - momentum", "1 - momentum + 0", True),  # reached through method
        ("data/transforms.py", "range(10)", "range(11)", True),
        ("metrics.py", "nanmean()", "nanmean() + 0", True),
        ("scoring/diagnosis.py", "BINS = 50", "BINS = 51", True),  # a result has its counts
        ("scoring/pictures.py", "* 255)", "* 254)", True),  # and its samples
        ("training/step.py", "# scalars by name", "# by name", False),
        ("ptc.py", "Eq. (4), whose", "Eq. (4), of which the", False),
        ("teaching/figures.py", "def style", "def look", False),
        ("experiments/paper.py", "74.8", "74.9", False),
        ("experiments/runner.py", "jobs < 1", "jobs <= 0", False),
        ("experiments/forks.py", "AFTER_THE_END = (", "AFTER_THE_END = (*[], ", False),
        ("experiments/grids.py", "PICTURES = 6", "PICTURES = 5", False),
        ("__init__.py", '"2000"', '"3000"', False),  # how threads wait
        ("scoring/segmenter.py", "value > 0.5", "value > 0.6", False),  # the library
        ("scoring/protocols.py", "0 < scale <= 8", "0 < scale <= 9", False),
    ],
)
def test_code_version_changes_with_what_a_run_depends_on_and_with_nothing_else(monkeypatch, tmp_path, file, old, new, differs):
    here = provenance.code_version("dsgc")  # kept from its first call on, so asked before the package is replaced
    assert (changed_code(monkeypatch, tmp_path, file, old, new) != here) == differs


@pytest.mark.parametrize(
    ("file", "old", "new", "changed"),
    [
        ("methods/masks.py", '{"seg": 1.0}', '{"seg": 2.0}', {"masks"}),
        ("methods/base.py", "found.clamp(max=1)", "found.clamp(max=2)", {"base", "dsgc"}),  # which inherits it
        ("methods/dsgc.py", "(maps + theirs) / 2", "(maps + theirs) / 3", {"dsgc"}),
        ("methods/labels.py", "side // stride", "side // stride + 1", {"base", "dsgc", "masks"}),
        ("methods/contract.py", ".clamp_min(1)  #", ".clamp_min(2)  #", {"base", "dsgc", "masks"}),
        ("binned.py", "BINS = 2048", "BINS = 2047", {"dsgc"}),
        ("training/step.py", ".double()", ".float()", {"base", "dsgc", "masks"}),
    ],
)
@pytest.mark.parametrize("method", ["base", "dsgc", "masks"])
def test_a_result_is_of_the_code_of_its_own_method(monkeypatch, tmp_path, file, old, new, changed, method):
    here = provenance.code_version(method)
    assert (changed_code(monkeypatch, tmp_path, file, old, new, method) != here) == (method in changed)


def test_code_version_is_the_same_wherever_the_package_lies(monkeypatch, tmp_path):
    here = provenance.code_version("dsgc")
    assert changed_code(monkeypatch, tmp_path, "errors.py", "", "") == here


def test_provenance_names_code_commit_date_time_and_machine(tiny):
    about = provenance.provenance(tiny(), 12.6)
    assert about["code"] == provenance.code_version("dsgc") and about["seconds"] == 13 and about["threads"] == 1
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", about["date"]) and about["machine"].endswith(" cores, cpu")
    assert set(about["versions"]) == {"python", "torch", "torchvision", "timm", "numpy", "pillow", "scipy"}
    assert about["versions"]["pillow"] == PIL.__version__ and about["processor"] and about["system"].startswith(platform.system())


def test_a_processor_has_a_name_where_the_system_tells_none(monkeypatch):
    monkeypatch.setattr(provenance, "Path", lambda *words: Path("nowhere", "cpuinfo"))
    monkeypatch.setattr(platform, "processor", lambda: "")
    assert provenance.processor() == platform.machine()


def git(folder, *words):
    identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", "-C", folder, *identity, *words], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_the_commit_is_marked_if_the_package_differs_from_it_and_unknown_outside_a_repository(monkeypatch, tmp_path):
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):  # set where a hook of git runs the tests
        monkeypatch.delenv(name, raising=False)
    package = tmp_path / "dsgc"
    package.mkdir()
    monkeypatch.setattr(provenance, "PACKAGE", package)
    assert provenance._commit() == "unknown"
    git(tmp_path, "init", "--quiet")
    for file in (package / "code", tmp_path / "result"):
        file.write_text("one")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message", "one")
    commit = git(tmp_path, "rev-parse", "HEAD")[:12]
    assert provenance._commit() == commit
    (tmp_path / "result").write_text("two")  # what runs write beside the package is no change of it
    assert provenance._commit() == commit
    (package / "code").write_text("two")
    assert provenance._commit() == f"{commit}-dirty"


def test_a_newer_python_that_has_more_fields_gives_the_same_digest():
    """As 3.12 has `type_params` where 3.11 has nothing: empty in code that both read."""
    plain = ast.parse("def f(x=None):\n    return x\n").body[0]
    newer = type("FunctionDef", (ast.FunctionDef,), {"_fields": (*ast.FunctionDef._fields, "type_params")})
    node = newer(**{name: getattr(plain, name) for name in plain._fields if hasattr(plain, name)})
    node.type_params = []
    assert provenance._parts(node) == provenance._parts(plain)
    node.type_params = [ast.Name("T")]
    assert provenance._parts(node) != provenance._parts(plain)
    assert provenance._parts(ast.parse("x = None")) != provenance._parts(ast.parse("x = 0"))
