"""Weights and checkpoints on disk: safetensors, written whole or not at all, never pickled code."""

import hashlib
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from dsgc.config import Config
from dsgc.data.split import Split
from dsgc.errors import UserError, first_line, resuming
from dsgc.methods import UnknownMethodError, configured
from dsgc.network.tensor_files import not_finite, read_weights, refuse_not_finite
from dsgc.runs.disk import rename, to_disk

STATE = "state"  # name of the file that holds what is no network's weights


def save(
    folder: Path, networks: dict[str, nn.Module], state: dict[str, Tensor], config: Config, data: Split, step: int
) -> Path:
    """Write weights and state to `folder`/step_NNNNNN and keep the newest `keep_checkpoints`.

    The folder gets its name once all of it is on the disk; its description holds a digest of every file.

    Raises:
        UserError: a number is not finite, or it cannot be written. Older checkpoints stay, and nothing half-written does.
    """
    run, target = folder.parent, folder / f"step_{step:06d}"
    partial = folder / f".{target.name}.partial"
    parts = {name: network.state_dict() for name, network in networks.items()} | {STATE: state}
    for name, tensors in parts.items():
        if bad := not_finite(tensors):
            raise UserError(
                f"{run}: after step {step} {bad} of the {name} is not finite: training diverged, and the checkpoints before it are "
                "kept; train again with a smaller --lr"
            )
    try:
        for stale in folder.glob(".step_*.partial"):  # of a process that was killed while it wrote
            shutil.rmtree(stale, ignore_errors=True)
        partial.mkdir(parents=True)
        for name, tensors in parts.items():
            save_file({key: value.detach().cpu().contiguous() for key, value in tensors.items()}, partial / f"{name}.safetensors")
        files = {path.name: digest(path) for path in sorted(partial.iterdir())}
        about = {"step": step, "classes": data.classes, "images": images_of(data), "config": config.flat(), "files": files}
        (partial / "about.json").write_text(json.dumps(about, indent=1), encoding="utf-8")
        for path in [*partial.iterdir(), partial]:
            to_disk(path)
        shutil.rmtree(target, ignore_errors=True)
        rename(partial, target, last="about.json")
        to_disk(folder)
        for old in checkpoints(run)[: -config.keep_checkpoints]:
            shutil.rmtree(old, ignore_errors=True)  # what another process has open may have to stay; this checkpoint is written
    except (OSError, SafetensorError) as error:
        shutil.rmtree(partial, ignore_errors=True)  # it would keep the disk full
        raise UserError(
            f"{run}: the checkpoint of step {step} cannot be written ({first_line(error)}); those before it are kept: "
            f"make room and go on with {resuming(run)}"
        ) from error
    return target


def images_of(data: Split) -> str:
    """The images that a run learns from, as a digest of their ids."""
    return hashlib.sha256("\n".join(data.ids).encode()).hexdigest()


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Checkpoint(NamedTuple):
    step: int
    classes: tuple[str, ...]
    images: str  # `images_of` the training split
    config: Config
    weights: dict[str, dict[str, Tensor]]  # by network
    state: dict[str, Tensor]  # as `state.gather` gives it
    files: dict[str, str]  # a digest of each, by name


def checkpoints(run: Path) -> list[Path]:
    """The checkpoints of a run folder, oldest first; those that were never finished are none."""
    found = [path for path in (run / "checkpoints").glob("step_*") if path.name.removeprefix("step_").isdecimal()]
    return sorted(found, key=lambda path: int(path.name.removeprefix("step_")))


def load(run: Path, say: Callable[[str], None] = lambda line: print(line, file=sys.stderr)) -> Checkpoint:
    """The newest sound checkpoint of a run, or the one whose folder is given; `say` is told of those that are damaged.

    Raises:
        UserError: there is none, or none is sound.
    """
    found = [run] if (run / "about.json").is_file() else checkpoints(run)
    if not found:
        raise UserError(f"{run}: no checkpoint here; give a run folder that `python -m dsgc train` wrote")
    for folder in reversed(found[1:]):
        try:
            return read(folder)
        except UnknownMethodError:  # so it is with the others
            raise
        except UserError as error:
            say(f"{error}; the checkpoint before it is used")
    try:
        return read(found[0])
    except UnknownMethodError:
        raise
    except UserError as error:
        raise UserError(f"{error}; no sound checkpoint is left here: bring one back from a copy, or train anew") from error


def read(folder: Path) -> Checkpoint:
    """One checkpoint. Raises `UserError` unless every file is there and as it was written."""
    try:
        about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
        config = configured(about["config"])
        step, classes, images, files = int(about["step"]), tuple(about["classes"]), str(about["images"]), dict(about["files"])
        if step < 0:
            raise ValueError(f"step {step}")
        if not classes or not isinstance(about["classes"], list) or not all(isinstance(name, str) for name in classes):
            raise ValueError("its classes are no list of names")
        if files.keys() != {f"{name}.safetensors" for name in (*config.method.networks, STATE)}:
            raise ValueError(f"its files are {', '.join(files) or 'none'}")
    except UnknownMethodError as error:
        raise UnknownMethodError(f"{folder / 'about.json'}: {error}") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise UserError(f"{folder / 'about.json'}: not a checkpoint's description ({first_line(error)})") from error
    tensors = {}
    for name, expected in files.items():
        path = folder / name
        if not path.is_file() or digest(path) != expected:
            raise UserError(f"{path}: not as it was written ({'damaged' if path.is_file() else 'missing'})")
        tensors[path.stem] = read_weights(path)
        refuse_not_finite(path, tensors[path.stem])
    state = tensors.pop(STATE, {})
    return Checkpoint(step, classes, images, config, tensors, state, files)
