"""Imported before all else by the command line: a Python without the packages that it needs is told so in one line. And the version."""

import contextlib
import importlib.metadata
import platform
import sys
from importlib.util import find_spec
from pathlib import Path

NEEDED = ("torch", "torchvision", "timm", "numpy", "PIL", "safetensors", "accelerate", "tyro", "tqdm", "pycocotools", "msgspec")
MISSING = [name for name in NEEDED if find_spec(name) is None]

if MISSING:
    print(
        f"dsgc: {', '.join(MISSING)}: not installed for {sys.executable}; after `make setup` take its Python, "
        "`source .venv/bin/activate`, or install the package, `pip install .`",
        file=sys.stderr,
    )
    sys.exit(2)


def version() -> str:
    """The package's version, where it lies, and under which Python; without the first where it is not installed."""
    number = ""
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        number = f"{importlib.metadata.version(__name__.partition('.')[0])}, "
    return f"{number}{Path(__file__).parents[1]}, Python {platform.python_version()}"
