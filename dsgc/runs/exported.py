"""A trained network as one file: safetensors with its configuration, its classes and a digest beside the weights.

Such a file holds nothing that is run when it is read, and needs no run folder beside it. Some come with the package.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path, PurePath, PureWindowsPath
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as as_bytes
from torch import Tensor

from dsgc.errors import UserError, check_writable, first_line
from dsgc.methods import UnknownMethodError, configured
from dsgc.network.tensor_files import not_finite, refuse_not_finite
from dsgc.runs import checkpoint
from dsgc.runs.checkpoint import Checkpoint
from dsgc.runs.disk import to_disk, whole

ENDING = ".safetensors"
KEY = "about"  # the one entry beside the tensors: several are written in any order, and a file would not be the same twice
FORMAT = 1
PLACES = ("data", "out", "weights")  # fields of a run that name folders of the machine it was made on
SHIPPED = Path(__file__).parents[1] / "weights"
COPY = "bring it back from a copy, or export it again"


def shipped() -> dict[str, Path]:
    """The files that come with the package, by the names under which they are taken."""
    return {path.stem: path for path in sorted(SHIPPED.glob(f"*{ENDING}"))}


def saved(run: str | Path) -> Checkpoint:
    """What is stored of a run: its folder, one of its checkpoints, a file of `write`, or a name of `shipped` where no file has it.

    Raises:
        UserError: there is none, or it is not as it was written.
    """
    path = Path(run)
    if not path.exists() and str(run) in shipped():
        path = shipped()[str(run)]
    if path.is_file():
        return read(path)
    if not path.exists():
        raise UserError(
            f"{run}: no checkpoint here, nor weights of this name in the package ({', '.join(shipped())}); give one of these, a run "
            "folder that `python -m dsgc train` wrote, or a file of `python -m dsgc export`"
        )
    return checkpoint.load(path)


def check_target(path: Path) -> None:
    """Raise `UserError` where a file cannot be written, or is there already."""
    if path.suffix != ENDING:
        raise UserError(f"{path}: the file's name must end in {ENDING}")
    if path.exists():
        raise UserError(f"{path}: already there; choose another name, or delete it first")
    if not path.parent.is_dir():
        raise UserError(f"{path}: there is no folder {path.parent}; make it first, or name a file in another one")
    check_writable(path.parent)


def write(path: Path, found: Checkpoint, network: str, dtype: torch.dtype = torch.float32) -> None:
    """Write one network of a checkpoint to a new file, whole or not at all; the same network gives the same bytes.

    dtype: float32 keeps every bit of a run; float16 takes half the space, and is computed with in float32 all the same.
    Of a folder elsewhere on this machine, its last name alone is kept.
    Raises:
        UserError: it cannot be written, is there already, or a weight is too large for float16.
    """
    check_target(path)
    weights = found.weights[network]
    tensors = {name: (value.to(dtype) if value.is_floating_point() else value).contiguous() for name, value in weights.items()}
    if name := not_finite(tensors):
        raise UserError(f"{path}: {name} has numbers that are not finite as {dtype}; export it in float32, without --half")
    config = found.config.flat()
    config |= {name: _last(config[name]) for name in PLACES}
    about = {"format": FORMAT, "network": network, "step": found.step, "images": found.images, "classes": found.classes, "config": config}
    about = json.loads(json.dumps(about))  # tuples become lists, as in what is read
    text = json.dumps(about | {"digest": digest(about, tensors)}, sort_keys=True)
    try:
        with whole(path) as partial:
            partial.write_bytes(as_bytes(tensors, {KEY: text}))  # `save_file` would let nobody else read it
            to_disk(partial)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: cannot be written ({first_line(error)}); make room, or name a file elsewhere") from error


def _last(place: str) -> str:
    """A place without the folders of this machine; a relative one, and a word, as it is."""
    absolute = PurePath(place).is_absolute() or PureWindowsPath(place).is_absolute()
    return PureWindowsPath(place).name if absolute else place  # this one knows both kinds of slashes


def digest(about: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of what stands beside the tensors, and of their names, types, shapes and bytes."""
    found = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name in sorted(tensors):
        value = tensors[name]
        found.update(f"\n{name} {value.dtype} {tuple(value.shape)}\n".encode())
        found.update(value.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def read(path: Path) -> Checkpoint:
    """A file of `write`, as a checkpoint of one network, in float32. Raises `UserError` unless it is as it was written."""
    try:
        with safe_open(path, "pt") as file:
            text, tensors = (file.metadata() or {}).get(KEY), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except Exception as error:  # damaged bytes make the reader raise almost anything
        raise UserError(f"{path}: not a readable file of weights ({first_line(error)}); {COPY}") from error
    if text is None:
        raise UserError(
            f"{path}: holds weights alone, not how the network is built nor what its classes are; give a run folder or a file that "
            "`python -m dsgc export` wrote (train starts from weights alone: --weights)"
        )
    try:
        about = json.loads(text)
        expected = about.pop("digest")
        if about["format"] != FORMAT:
            raise ValueError(f"format {about['format']!r}, this version reads {FORMAT}")
        if digest(about, tensors) != expected:
            raise ValueError("its digest is another: damaged, or changed by hand")
        config, network, classes = configured(about["config"]), about["network"], about["classes"]
        step, images = about["step"], about["images"]
        if network not in config.method.networks or type(step) is not int or step < 0 or not isinstance(images, str):
            raise ValueError(f"network {network!r} after step {step!r}")
        if not isinstance(classes, list) or not 1 <= len(classes) <= 254 or not all(isinstance(name, str) for name in classes):
            raise ValueError("its classes are no list of 1 to 254 names")
    except UnknownMethodError as error:
        raise UnknownMethodError(f"{path}: {error}") from error
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise UserError(f"{path}: not as `python -m dsgc export` wrote it ({first_line(error)}); {COPY}") from error
    refuse_not_finite(path, tensors)
    weights = {name: value.float() if value.is_floating_point() else value for name, value in tensors.items()}
    return Checkpoint(step, tuple(classes), images, config, {network: weights}, {}, {f"{network}{ENDING}": expected})
