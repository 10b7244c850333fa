"""How torch's threads wait: the package says it before torch is loaded, in every way to it that a user has; what he says himself stays."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("notebooks/*.py"), *ROOT.glob("book/*.md"), *ROOT.glob("benchmarks/*.py")])
NAMES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")


def ran(code, **variables):
    """What a fresh process prints on both streams, in an environment without the variables that tell threads how to wait."""
    plain = {name: value for name, value in os.environ.items() if name not in NAMES}
    environment = plain | {"PYTHONPATH": str(ROOT)} | variables
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return done.stdout + done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="only there are torch's threads those of libgomp")
def test_what_the_package_says_reaches_the_threads():
    """libgomp tells what it has read."""
    found = ran("import dsgc, torch", OMP_DISPLAY_ENV="VERBOSE", GOMP_CPU_AFFINITY="")
    assert re.search(r"GOMP_SPINCOUNT = '2000'", found), found


SHOW = f"import dsgc, os; print([os.environ.get(name) for name in {NAMES}])"


@pytest.mark.parametrize(
    ("given", "left"),
    [
        ({}, [None, "2000"]),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, ["ACTIVE", None]),
        ({"OMP_WAIT_POLICY": "PASSIVE"}, ["PASSIVE", None]),
        ({"GOMP_SPINCOUNT": "7"}, [None, "7"]),
    ],
    ids=str,
)
def test_what_a_user_has_said_stays_and_processes_inherit_it(given, left):
    assert ran(SHOW, **given).split() == str(left).split()
    child = SHOW.replace("dsgc, ", "")
    parent = f"import dsgc, subprocess, sys; print(subprocess.check_output([sys.executable, '-c', {child!r}], text=True))"
    assert ran(parent, **given).split() == str(left).split()


def test_the_package_is_there_before_torch():
    assert ran("import dsgc, sys; print([name for name in sys.modules if name.split('.')[0] == 'torch'])").strip() == "[]"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_a_page_or_benchmark_imports_the_package_before_torch(path):
    imports = re.findall(r"^(?:import|from) (torch|timm|measure|mixture|dsgc)\b", path.read_text(encoding="utf-8"), re.MULTILINE)
    assert not imports or imports[0] == "dsgc"


def test_no_one_else_needs_to_say_it():
    assert not re.search("|".join(NAMES), (ROOT / "Makefile").read_text(encoding="utf-8"))
