"""What continuous integration does: the tests with a browser, the book as `make book` builds it, published from main."""

import os
import platform
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import launch
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
WORKFLOW = yaml.safe_load((ROOT / ".github/workflows/book.yml").read_text(encoding="utf-8"))
JOBS = WORKFLOW["jobs"]
FROM_MAIN = "github.ref == 'refs/heads/main' && github.event_name == 'push'"


def commands(job):
    return [step["run"] for step in JOBS[job]["steps"] if "run" in step]


def step(job, action):
    """The one step of a job that uses an action."""
    (found,) = [step for step in JOBS[job]["steps"] if step.get("uses", "").startswith(f"{action}@")]
    return found


def test_the_tests_run_on_push_and_pull_request_and_need_a_browser():
    assert set(WORKFLOW[True]) == {"push", "pull_request"}  # YAML reads the key `on` as a truth value
    assert commands("test") == ["make test"]
    assert JOBS["test"]["env"]["DSGC_BROWSER"] == "required"


def test_the_book_is_what_make_book_builds_and_has_a_font_for_its_figures():
    font, build = commands("book")
    assert build == "make book LANGUAGE=zh_CN" and "apt-get install" in font and "fonts-noto-cjk" in font
    assert step("book", "actions/upload-pages-artifact")["with"]["path"] == "_build/html"


def test_only_main_is_published_and_only_after_the_tests_and_the_notebooks_that_it_leads_to():
    assert JOBS["publish"]["needs"] == ["test", "book", "launch"] and JOBS["launch"]["needs"] == ["test", "book"]
    assert JOBS["publish"]["if"] == JOBS["launch"]["if"] == FROM_MAIN
    assert step("publish", "actions/deploy-pages")
    for action in ("actions/configure-pages", "actions/upload-pages-artifact", "actions/upload-artifact"):
        assert step("book", action)["if"] == FROM_MAIN


def test_only_the_publishing_jobs_may_write():
    assert WORKFLOW["permissions"] == {"contents": "read"}
    assert {name for name, job in JOBS.items() if "permissions" in job} == {"publish", "launch"}
    assert JOBS["publish"]["permissions"] == {"pages": "write", "id-token": "write"}
    assert JOBS["launch"]["permissions"] == {"contents": "write"}


def git(*words, cwd):
    identity = ["-c", "user.name=x", "-c", "user.email=x@y"]
    return subprocess.run(["git", *identity, *words], cwd=cwd, check=True, capture_output=True, text=True).stdout.strip()


def test_plain_notebooks_go_to_the_branch_that_the_buttons_lead_to_upon_the_commit_that_they_are_of(tmp_path):
    """The job's own lines, in a repository with a remote; twice, since the branch is made anew."""
    given, taken = step("book", "actions/upload-artifact")["with"], step("launch", "actions/download-artifact")["with"]
    assert given["path"] == "_build/html/_sources/notebooks" and taken == {"name": given["name"], "path": "notebooks"}
    (line,) = commands("launch")
    there, here = tmp_path / "there.git", tmp_path / "here"
    git("init", "--bare", there, cwd=tmp_path)
    git("clone", there, here, cwd=tmp_path)
    for text in ("first", "second"):
        (here / "notebooks").mkdir(exist_ok=True)
        (here / "notebooks/a.ipynb").write_text(f"{{ref}} {text}")
        git("add", "--all", cwd=here)
        git("commit", "--message", text, cwd=here)
        main = git("rev-parse", "HEAD", cwd=here)
        (here / "notebooks/a.ipynb").write_text(f"plain {text}")
        subprocess.run(["bash", "-e", "-c", line], cwd=here, check=True, capture_output=True)
        assert git("show", f"{launch.BRANCH}:notebooks/a.ipynb", cwd=there) == f"plain {text}"
        assert git("rev-parse", f"{launch.BRANCH}~1", cwd=there) == main
        git("reset", "--hard", main, cwd=here)


def test_binder_has_the_python_of_the_package_and_the_versions_of_the_book():
    """What `repo2docker` reads where there is a folder `binder`: that folder alone."""
    oldest = re.search(r'requires-python = ">=([\d.]+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"))[1]
    assert (ROOT / "binder/runtime.txt").read_text() == f"python-{oldest}\n"
    lines = (ROOT / "binder/requirements.txt").read_text(encoding="utf-8").splitlines()
    words = dict(line.split() for line in lines if not line.startswith("#"))
    assert (ROOT / "binder" / words["-c"]).resolve() == ROOT / "requirements.txt" and words["-e"] == ".[notebooks]"
    assert {path.name for path in (ROOT / "binder").iterdir()} == {"runtime.txt", "requirements.txt"}


@pytest.mark.parametrize("job", ["test", "book"])
def test_the_python_is_the_oldest_that_the_package_supports(job):
    given = step(job, "actions/setup-python")["with"]
    assert f'requires-python = ">={given["python-version"]}"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert given["cache"] == "pip" and (ROOT / given["cache-dependency-path"]).is_file()


# once a week

WEEKLY = yaml.safe_load((ROOT / ".github/workflows/weekly.yml").read_text(encoding="utf-8"))


def weekly(job):
    return [step["run"] for step in WEEKLY["jobs"][job]["steps"] if "run" in step]


def test_the_calendar_starts_it_and_it_may_write_nothing():
    assert re.fullmatch(r"\d+ \d+ \* \* \d", WEEKLY[True]["schedule"][0]["cron"]) and "push" not in WEEKLY[True]
    assert WEEKLY["permissions"] == {"contents": "read"} and not any("permissions" in job for job in WEEKLY["jobs"].values())


def test_the_newest_versions_are_tested_without_the_lock():
    install, run = weekly("newest")
    extras = re.search(r'-e "\.\[(.*)\]"', install)[1].split(",")
    assert set(extras) >= {"book", "test"} and "requirements" not in install
    assert install.endswith("touch .venv/.installed") and run == "make test"  # so that `make` does not install the lock over it


def test_another_processor_and_an_older_instruction_set_are_tried():
    assert WEEKLY["jobs"]["arm"]["runs-on"].endswith("-arm") and weekly("arm") == [".ci/run"]
    assert weekly("older") == ["make older"]


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the instruction sets of x86")
def test_older_takes_the_newer_instructions_away():
    """Of what `make older` would run, the settings before the command, given to another command."""
    recipe = subprocess.run(["make", "-n", "older", f"VENV={tempfile.gettempdir()}/none"], cwd=ROOT, capture_output=True, text=True).stdout
    line = next(line for line in recipe.splitlines() if "ATEN_CPU_CAPABILITY" in line)
    settings = dict(word.split("=", 1) for word in shlex.split(line) if re.match(r"[A-Z_]+=", word))
    say = "import numpy._core._multiarray_umath as n, torch; print(torch.backends.cpu.get_cpu_capability(), n.__cpu_features__['X86_V3'])"
    done = subprocess.run([sys.executable, "-c", say], env=os.environ | settings, capture_output=True, text=True)
    assert done.stdout.split() == ["DEFAULT", "False"], done.stderr


# .ci/run, in a folder whose programs only say that they were called


def run(tmp_path, programs, **environment):
    """The lines that .ci/run's programs write."""
    log, folder = tmp_path / "log", tmp_path / "bin"
    folder.mkdir()
    for name in programs:
        (folder / name).write_text(f'#!/bin/sh\necho "{name} $* [$DSGC_BROWSER]" >> {log}\n')
        (folder / name).chmod(0o755)
    for name in ("bash", "dirname"):
        (folder / name).symlink_to(next(p for p in (Path("/bin") / name, Path("/usr/bin") / name) if p.exists()))
    clean = {key: value for key, value in os.environ.items() if key not in ("CI", "DSGC_BROWSER")}
    subprocess.run([folder / "bash", ROOT / ".ci/run"], env=clean | {"PATH": str(folder)} | environment, check=True)
    return log.read_text().splitlines()


def test_ci_installs_a_browser_where_there_is_none(tmp_path):
    update, install, make = run(tmp_path, ["make", "apt-get"])
    assert re.match(r"apt-get update ", update) and re.match(r"apt-get install .*\bchromium\b", install)
    assert make == "make test [required]"


@pytest.mark.parametrize("name", ["chromium", "chromium-browser", "google-chrome"])
def test_ci_takes_the_browser_that_is_there(tmp_path, name):
    assert run(tmp_path, ["make", "apt-get", name]) == ["make test [required]"]


def test_ci_takes_the_browser_that_is_named(tmp_path):
    assert run(tmp_path, ["make", "apt-get"], DSGC_BROWSER="/opt/chrome") == ["make test [/opt/chrome]"]
