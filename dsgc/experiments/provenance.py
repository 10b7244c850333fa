"""Where a result comes from: a digest of the code that made it, commit, date, duration, machine, system, versions."""

import ast
import contextlib
import hashlib
import inspect
import json
import os
import platform
import subprocess
import time
from functools import cache
from importlib.metadata import version
from pathlib import Path

from dsgc.config import Config
from dsgc.methods import DEFAULT, MODULES, find

PACKAGE = Path(__file__).parents[1]
PACKAGES = ("torch", "torchvision", "timm", "numpy", "pillow", "scipy")  # pillow decodes every picture and makes every crop of training
ENTRIES = ("training.loop", "scoring.diagnosis")  # the modules that make a result, beside its method; what they import makes it too


@cache
def code_version(method: str) -> str:
    """A digest of the modules that a result of a method depends on. Comments and docstrings do not count, nor does the package's own
    `__init__`, which is the way in for others; of a method that stands outside the package its source counts as it is, if it has any."""
    waiting, modules = [*ENTRIES, f"methods.{MODULES.get(method, DEFAULT)}"], {}
    while waiting:
        name = waiting.pop()
        places = (PACKAGE.joinpath(*name.split(".")).with_suffix(".py"), PACKAGE.joinpath(*name.split("."), "__init__.py"))
        path = next((path for path in places if path.is_file()), None)
        if name not in modules and path is not None:
            modules[name], imported = _module(path)
            waiting += imported
    text = json.dumps({name: modules[name] for name in sorted(modules)})
    if method not in MODULES:
        with contextlib.suppress(OSError, TypeError):
            text += inspect.getsource(find(method))
    return hashlib.sha256(text.encode()).hexdigest()[:10]


@cache
def _module(path: Path) -> tuple[object, list[str]]:
    """A module without its docstrings, as `_parts`; and what of the package it may import, modules or what is in them."""
    tree, imported = ast.parse(path.read_text(encoding="utf-8")), []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "dsgc":
            below = node.module.removeprefix("dsgc").removeprefix(".")
            imported += [*filter(None, [below]), *(f"{below}.{alias.name}".lstrip(".") for alias in node.names)]
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node, clean=False) is not None:
            node.body[0].value.value = ""
    return _parts(tree), imported


def _parts(node: object) -> object:
    """A syntax tree as lists and strings. What is empty is left out: of that each version of Python has more."""
    if isinstance(node, ast.AST):
        fields = [[name, _parts(value)] for name, value in ast.iter_fields(node) if value is not None and value != []]
        return [type(node).__name__, *fields]
    return [_parts(value) for value in node] if isinstance(node, list) else repr(node)


def provenance(config: Config, seconds: float) -> dict:
    """Where a result of this process comes from: code, commit, date, seconds, threads, machine, processor, system, versions."""
    import torch

    device = "cpu" if config.device == "cpu" or not torch.cuda.is_available() else torch.cuda.get_device_name()
    return {
        "code": code_version(config.method.name),
        "commit": _commit(),
        "date": time.strftime("%Y-%m-%d"),
        "seconds": round(seconds),
        "threads": torch.get_num_threads(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {device}",
        "processor": processor(),
        "system": " ".join([platform.system(), *filter(None, platform.libc_ver())]),  # the C library has the functions of single numbers
        "versions": {"python": platform.python_version()} | {package: version(package) for package in PACKAGES},
    }


def processor() -> str:
    """The processor's name, as its maker gives it where the system tells it."""
    lines = []
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return next(iter(names), platform.processor() or platform.machine())


def _commit() -> str:
    """The repository's commit, with a mark if the package's files differ from it; `unknown` outside a repository."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", PACKAGE, *words], capture_output=True, check=True, timeout=10)
        return done.stdout.decode(errors="replace").strip()

    try:
        return git("describe", "--always", "--abbrev=12") + "-dirty" * bool(git("status", "--porcelain", "--", "."))
    except (OSError, subprocess.SubprocessError):
        return "unknown"
