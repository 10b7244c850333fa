"""An empty environment with the package in it: the repository's wheel, what it declares to need, and nothing else.

Nothing is fetched: what the wheel needs is found among the packages installed here, one by one from what each declares, and linked.
"""

import shutil
import subprocess
import sys
import tomllib
import venv
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ("dsgc", "results", "pyproject.toml", "README.md", "LICENSE")
PIP = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]


def wheel(to: Path) -> Path:
    """A wheel of the repository, made of a copy: setuptools leaves folders where it works."""
    copy = to / "repository"
    copy.mkdir()
    for name in SOURCES:
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, copy / name)
    subprocess.run([*PIP, "wheel", "--no-index", "--no-deps", "--no-build-isolation", "--wheel-dir", to, copy], check=True)
    return next(to.glob("*.whl"))


def needed(texts: Iterable[str]) -> dict[str, metadata.Distribution]:
    """What requirements ask for, and what that asks for, by name."""
    waiting, found, seen = [Requirement(text) for text in texts], {}, set()
    while waiting:
        item = waiting.pop()
        for extra in {"", *item.extras} - {extra for name, extra in seen if name == item.name}:
            seen.add((item.name, extra))
            found[item.name] = metadata.distribution(item.name)
            asked = map(Requirement, found[item.name].requires or [])
            waiting += [other for other in asked if other.marker is None or other.marker.evaluate({"extra": extra})]
    return found


def environment(to: Path, extra: str) -> Path:
    """An environment into which the package has been installed with one of its extras; its Python."""
    venv.create(to, with_pip=False)
    python = to / "bin/python"
    (site,) = (to / "lib").glob("python*/site-packages")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for distribution in needed([*project["dependencies"], *project["optional-dependencies"][extra]]).values():
        for top in {path.parts[0] for path in distribution.files} - {"..", "__pycache__"}:
            if not (site / top).exists():
                (site / top).symlink_to(distribution.locate_file(top))
    subprocess.run([*PIP, "--python", python, "install", "--no-index", "--no-deps", wheel(to)], check=True)
    return python
