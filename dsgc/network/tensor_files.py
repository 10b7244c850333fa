"""Files of tensors, a stranger's too: what lies in them by name. Nothing that a file holds is run."""

import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.serialization import safe_globals

from dsgc.errors import UserError, first_line

DEPTH = 16  # of dictionaries in dictionaries; a pickle may hold one that holds itself


class Unread:
    """Stands for an object that training writes beside weights, as its options; what the file says of it is dropped."""

    def __init__(self, *_: object, **__: object):
        pass

    def __setstate__(self, _: object) -> None:
        pass


DATA = {  # what `Unread` stands for; torch's reader refuses every other class and function, and then the file is refused
    "argparse.Namespace", "types.SimpleNamespace", "typing.Any", "_codecs.encode", "numpy.ndarray", "numpy.dtype",
    *(f"builtins.{kind}" for kind in ("bool", "int", "float", "str", "list", "tuple", "dict")),
    *(f"pathlib.{part}{name}" for part in ("", "_local.") for name in ("PosixPath", "PurePosixPath", "WindowsPath", "PureWindowsPath")),
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("scalar", "_reconstruct")),
    *(f"omegaconf.{name}" for name in (
        "dictconfig.DictConfig", "listconfig.ListConfig", "base.Metadata", "base.ContainerMetadata", "nodes.AnyNode",
        "nodes.StringNode", "nodes.IntegerNode", "nodes.FloatNode", "nodes.BooleanNode",
    )),
}  # fmt: skip


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors or .pth / .pt file; one in a dictionary of a dictionary is named `outer.inner.name`.

    Raises:
        UserError: no such file, damaged, more than data in it, or no tensors.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such weights file; give `hub`, `none`, `shipped` or the path of a .safetensors or .pth file")
    try:
        with path.open("rb") as file:
            start = file.read(9)
        if path.suffix == ".safetensors" or start[8:] == b"{":
            return load_file(path)
        with warnings.catch_warnings(action="ignore"), safe_globals([(Unread, name) for name in DATA]):
            # of what is odd about a stranger's file; if it matters, torch refuses the file
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged bytes make the readers raise almost anything: IndexError, struct.error, ...
        raise UserError(f"{path}: not a readable weights file ({_why(path, error)}); give a .safetensors or .pth of tensors") from error
    if not isinstance(state, dict):
        raise UserError(f"{path}: holds {type(state).__name__}, not a dictionary of tensors; choose another file")
    return _named(path, state)


def _why(path: Path, error: Exception) -> str:
    """What is wrong with a file that a reader did not read. torch's lines are long, and tell how to load it all the same."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
        if names and all(name.endswith(".npy") for name in names):
            return "it holds arrays of numpy under names of another framework, no tensors; timm has a .safetensors of most of these"
    if "TorchScript" in str(error):
        return "it is a TorchScript program, which is code and not loaded; save its state_dict() alone"
    if isinstance(error, pickle.UnpicklingError):
        named = re.search(r"GLOBAL ([\w.<>]+)", str(error))
        if named and re.search(r"\.nn\.|model|net|vit|__main__", named[1].lower()):
            return f"it holds a whole module, {named[1]}, which is code and not loaded; save its state_dict() alone where it was made"
        if named:
            return f"it holds {named[1]}, which could be code and is not loaded; save the state_dict() alone where it was made"
        return "it is damaged, or holds more than tensors, which could be code and is not loaded"
    return first_line(error)


def _named(path: Path, state: Mapping) -> dict[str, Tensor]:
    """All tensors in dictionaries of dictionaries, each by the keys that lead to it."""
    found: dict[str, Tensor] = {}
    others: set[str] = set()
    seen: set[int] = set()  # a few dictionaries, each twice in the next, are millions of names
    waiting: list[tuple[str, Mapping, int]] = [("", state, 1)]
    while waiting:
        under, part, depth = waiting.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        for key, value in part.items():
            name = f"{under}{key}"
            if isinstance(value, dict) and depth < DEPTH:
                waiting.append((f"{name}.", value, depth + 1))
            elif not isinstance(value, Tensor):
                others.add("arrays of numpy or options" if isinstance(value, Unread) else type(value).__name__)
            elif name in found and found[name] is not value:
                raise UserError(f"{path}: holds two tensors by the name {name}; save the one that is meant by itself")
            else:
                found[name] = value
    if not found:
        what = f"no tensors but {', '.join(sorted(others))}" if others else "nothing"
        raise UserError(f"{path}: holds {what}; give a file of the state_dict() of an encoder")
    return found


def not_finite(tensors: Mapping[str, Tensor]) -> str | None:
    """The name of a tensor with a number that is NaN or infinite, if there is one."""
    return next((key for key in sorted(tensors) if not tensors[key].isfinite().all()), None)


def refuse_not_finite(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Raise `UserError` if a number is not finite: every score and every step that came of it would be wrong."""
    if key := not_finite(tensors):
        raise UserError(f"{path}: {key} holds numbers that are not finite; choose another file, from before training diverged")
