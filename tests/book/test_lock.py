"""requirements.lock: all that is installed, at one version, with the digest of every file; and `make setup` installs just that."""

import re
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from required import requirements

ROOT = Path(__file__).resolve().parents[2]
ENTRY = re.compile(r"^(?P<pin>[A-Za-z0-9][^\\\n]*?) \\\n(?P<files>(?:    --hash=\S+(?: \\)?\n)+)", re.MULTILINE)
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
ENTRIES = [(Requirement(found["pin"]), found["files"].split()) for found in ENTRY.finditer(LOCK)]
ASKED = list(requirements().values())
HERE = {canonicalize_name(pin.name): pin for pin, _ in ENTRIES if pin.marker is None or pin.marker.evaluate()}


def version(pin: Requirement) -> str:
    (only,) = pin.specifier
    assert only.operator == "==", f"{pin}: not one version"
    return only.version


def needs(name: str, extras: set[str]) -> list[Requirement]:
    """What a package that is installed here asks for, on this system, with some of its extras."""
    wanted = [Requirement(line) for line in requires(name) or []]
    return [item for item in wanted if item.marker is None or any(item.marker.evaluate({"extra": extra}) for extra in {"", *extras})]


def test_every_entry_is_read():
    lines = [line for line in LOCK.splitlines() if line and not line.startswith((" ", "#"))]
    assert len(ENTRIES) == len(lines) > 100


def test_every_package_has_one_version_and_the_digests_of_its_files():
    for pin, files in ENTRIES:
        assert version(pin)
        digests = [word for word in files if word != "\\"]
        assert digests and all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", digest) for digest in digests), pin


def test_no_address_of_the_machine_that_made_it_stands_in_it():
    assert not re.search(r"://|^--(?!hash)|file:", LOCK, flags=re.MULTILINE)


@pytest.mark.parametrize("asked", ASKED, ids=str)
def test_what_is_required_is_locked_at_the_same_version(asked):
    assert version(HERE[canonicalize_name(asked.name)]) == version(asked), "run make lock"


def test_what_the_locked_packages_need_is_locked_too():
    """Followed through what is installed here, from the package's own requirements on."""
    waiting, seen = list(ASKED), set()
    while waiting:
        asked = waiting.pop()
        name, extras = canonicalize_name(asked.name), frozenset(asked.extras)
        assert name in HERE, f"{name}: not in requirements.lock; run make lock"
        assert asked.specifier.contains(version(HERE[name]), prereleases=True), f"{asked}, but {HERE[name]} is locked; run make lock"
        if (name, extras) not in seen:
            seen.add((name, extras))
            try:
                waiting += needs(name, set(extras))
            except PackageNotFoundError:
                pytest.fail(f"{name} is locked but not installed; run make setup")
    assert len(seen) > 100


def test_setup_installs_the_lock_by_its_digests_then_the_package_and_nothing_else():
    lock, package = re.findall(r"pip install (.*)$", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    assert lock.endswith("--require-hashes -r requirements.lock")
    assert package.endswith("--no-deps --no-build-isolation -e .")
