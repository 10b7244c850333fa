"""Results kept through a change of code that changes no number (`make confirm COMMIT=...`).

A digest of code differs with every change, and most changes are meant to leave each bit as it was. Whether one did is seen in far
less time than results take: each row that the commit's code has made is run again in a few steps through all its stages, with that
code and with today's, on this machine. Where weights, scores and counts are the same to the bit, the row's results count as today's;
they say whose they are, and since when they are confirmed. Where not, they stay results of other code, to be made anew.
"""

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tqdm import tqdm

from dsgc.config import Config
from dsgc.errors import UserError, check_writable, first_line, one_line
from dsgc.experiments import grids
from dsgc.experiments.provenance import PACKAGE
from dsgc.experiments.stored import YOUNGER, digest, look_up, path_of
from dsgc.runs.record import write_json

Found = dict[str, str]  # "code" and "bits", or "problem"


def rows(runs: Mapping[str, Config], folder: Path) -> dict[Config, list[str]]:
    """Of runs whose results other code made, the labels by what they run, the seed left aside."""
    found: dict[Config, list[str]] = {}
    for label, config in runs.items():
        if look_up(config, folder)[0] == "other code":
            found.setdefault(dataclasses.replace(config, seed=0, pictures=0), []).append(label)
    return found


def confirm(
    runs: Mapping[str, Config], folder: Path, before: Path, jobs: int = 1, say: Callable[[str], None] = tqdm.write
) -> dict[str, str]:
    """Name results anew that the code in the folder `before` made, where a shortened run leaves the same bits with both codes.

    Returns what became of each result of other code, by label: "confirmed", or why it is not.
    """
    check_writable(Path(folder))
    waiting, said = rows(runs, folder), {}
    with ThreadPoolExecutor(jobs) as pool:
        both = pool.map(_under(before), waiting), pool.map(_under(PACKAGE.parent), waiting)
        for labels, then, now in zip(waiting.values(), *both, strict=True):
            what = [(label, _name_anew(runs[label], folder, then, now)) for label in labels]
            said |= what
            for label, became in what:
                say(f"{label}: {became}")
    return said


def _under(package: Path) -> Callable[[Config], Found]:
    """A function that has a shortened run made, in a process of its own, with the package that a folder holds."""

    def run(config: Config) -> Found:
        known = {name: value for name, value in config.flat().items() if (name, value) not in YOUNGER.items()}  # as that code may have it
        done = subprocess.run(
            [sys.executable, "-P", Path(__file__).with_name("bits.py")],
            env=os.environ | {"PYTHONPATH": str(package), "TQDM_DISABLE": "1", "OMP_NUM_THREADS": "1"},
            input=json.dumps(known) + "\n", capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            return {"problem": first_line(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"exit {done.returncode}")}
        return json.loads(done.stdout.splitlines()[-1])

    return run


def _name_anew(config: Config, folder: Path, then: Found, now: Found) -> str:
    """Write down that a result is as today's code makes it, if it is. Returns what came of it."""
    for whose, found in (("that code", then), ("today's code", now)):
        if "problem" in found:
            return f"not confirmed, {whose} does not run it: {found['problem']}"
    result = look_up(config, folder)[1]
    if result.about["code"] != then["code"]:
        return f"not confirmed: made by code {result.about['code']} (commit {result.about['commit']}), not by that"
    if then["bits"] != now["bits"]:
        return "not confirmed: the bits differ, it has to be made anew"
    made_by = result.about.get("confirmed", {}).get("made_by", then["code"])
    about = {"code": now["code"], "confirmed": {"made_by": made_by, "date": time.strftime("%Y-%m-%d")}}
    named = result._replace(about=result.about | about)
    write_json(path_of(config, folder), named._asdict() | {"digest": digest(named)})
    return "confirmed"


def main(commit: str, scale: str = "shapes", data: str = "") -> None:
    """Confirm what a commit's code made of a scale's grids, in `results/`. Raises `UserError` for no commit of this repository."""
    runs, folder = grids.runs(grids.of(scale), scale, data=data), grids.RESULTS / scale
    root = PACKAGE.parent
    with tempfile.TemporaryDirectory(prefix="dsgc-before-") as scratch:
        before = Path(scratch) / "package"
        added = subprocess.run(
            ["git", "-C", root, "worktree", "add", "--detach", before, commit], capture_output=True, text=True, check=False
        )
        if added.returncode:
            raise UserError(f"{commit}: cannot be checked out ({one_line(added.stderr)}); name a commit of this repository")
        try:
            said = confirm(runs, folder, before, jobs=os.cpu_count() or 1)
        finally:
            subprocess.run(["git", "-C", root, "worktree", "remove", "--force", before], capture_output=True, check=False)
    kept = sum(became == "confirmed" for became in said.values())
    print(f"{kept} of {len(said)} results of other code confirmed")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except (UserError, TypeError) as error:
        sys.exit(one_line(error))
