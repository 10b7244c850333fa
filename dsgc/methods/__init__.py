"""Methods: what one is (`contract`), and one module for each; they import the network, the settings and the maths below."""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dsgc.config import PRESETS, Config
from dsgc.errors import UserError

if TYPE_CHECKING:  # torch is loaded with the first method that is asked for
    from dsgc.methods.contract import Method

PEERS = sorted(file.stem for file in Path(__file__).with_name("peers").glob("[a-z]*.py"))  # a file there is a method of its name
MODULES = {name: name for name in ("base", "dsgc", "masks")} | {name: f"peers.{name}" for name in PEERS}  # where each class stands
DEFAULT = "dsgc"
_registered: dict[str, "type[Method]"] = {}


class UnknownMethodError(UserError):
    """A configuration that names no method, as those of earlier versions, or one that is not known here."""


def register(method: "type[Method]") -> "type[Method]":
    """Make a class known by its name, so that runs of it can be read again. To be used as a decorator."""
    _registered[method.name] = method
    return method


def names() -> list[str]:
    """The names of all methods there are."""
    return [*MODULES, *(name for name in _registered if name not in MODULES)]


def find(name: str) -> "type[Method]":
    """The class of a method. Raises `UserError` for a name that is none."""
    if name not in names():
        raise UnknownMethodError(f"method {name!r}: unknown; there are {', '.join(names())}")
    if name not in _registered:
        import_module(f"dsgc.methods.{MODULES[name]}")
    return _registered[name]


def preset(name: str, method: str = DEFAULT) -> Config:
    """The configuration of a preset for a method. Raises `UserError` for a name that is none."""
    if name not in PRESETS:
        raise UserError(f"preset {name!r}: unknown; there are {', '.join(PRESETS)}")
    found = find(method)
    return Config(method=found(**found.presets.get(name, {})), **PRESETS[name])


def configured(values: Mapping[str, Any]) -> Config:
    """A configuration from what `Config.flat` gave, perhaps by way of JSON. Raises `UserError` if it names no method."""
    if "method" not in values:
        raise UnknownMethodError("its config names no method: an earlier version wrote it; read it with that version, or train anew")
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    method = find(values.pop("method"))
    theirs = {name: values.pop(name) for name in method.names() if name in values}
    return Config(method=method(**theirs), **values)
