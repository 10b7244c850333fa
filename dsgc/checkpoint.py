"""Weights and checkpoints on disk: safetensors, written whole or not at all, never pickled code."""

import dataclasses
import json
import os
import shutil
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import load_file, save_file
from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn
from torch import Tensor, nn

from dsgc.config import Config
from dsgc.errors import UserError, first_line


class LoadReport(NamedTuple):
    """What loading encoder weights did."""

    loaded: int
    missing: tuple[str, ...]  # parameters of the encoder that the file lacks; they keep their random start
    unexpected: tuple[str, ...]  # entries of the file that the encoder has no place for

    def __str__(self) -> str:
        parts = [f"{self.loaded} tensors loaded"]
        for name, keys in (("missing", self.missing), ("unexpected", self.unexpected)):
            if keys:
                parts.append(f"{len(keys)} {name} ({', '.join(keys[:4])}{', ...' if len(keys) > 4 else ''})")
        return ", ".join(parts)


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors or .pth / .pt file. A pickle is read without running what it holds."""
    if not path.is_file():
        raise UserError(f"{path}: no such weights file; give `hub`, `none`, `shipped` or the path of a .safetensors or .pth file")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged bytes make the readers raise almost anything: IndexError, struct.error, ...
        raise UserError(
            f"{path}: not a readable weights file ({first_line(error)}); give a .safetensors or .pth of tensors"
        ) from error
    if not isinstance(state, dict):
        raise UserError(f"{path}: holds {type(state).__name__}, not a dictionary of tensors; choose another file")
    for wrapper in ("model", "state_dict", "teacher"):
        if isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    return {key: value for key, value in state.items() if isinstance(value, Tensor)}


def load_encoder(encoder: VisionTransformer, path: Path) -> LoadReport:
    """Fill an encoder from a file; position embedding and patch projection are resized to the encoder's grid and patch.

    Raises:
        UserError: unreadable file, a tensor of another shape, or a file without any tensor of this encoder.
    """
    try:
        state = checkpoint_filter_fn(read_weights(path), encoder)
    except (RuntimeError, KeyError, IndexError, AttributeError) as error:
        raise UserError(
            f"{path}: its tensors do not fit the encoder ({first_line(error)}); "
            "choose the encoder that these weights were made with"
        ) from error
    own = encoder.state_dict()
    for key in own.keys() & state.keys():
        if own[key].shape != state[key].shape:
            raise UserError(
                f"{path}: {key} has shape {tuple(state[key].shape)}, the encoder needs {tuple(own[key].shape)}; "
                "choose the encoder that these weights were made with"
            )
    if not own.keys() & state.keys():
        raise UserError(f"{path}: none of its {len(state)} tensors belongs to this encoder; choose weights made for it")
    missing, unexpected = encoder.load_state_dict(state, strict=False)
    return LoadReport(len(own.keys() & state.keys()), tuple(sorted(missing)), tuple(sorted(unexpected)))


def shipped_weights() -> Path:
    """The pre-trained encoder of the `shapes` preset, part of the package."""
    return Path(str(resources.files("dsgc") / "weights" / "shapes_encoder.safetensors"))


def start_encoder(encoder: VisionTransformer, config: Config) -> str:
    """Give a fresh encoder the weights that the config names (`hub` weights are there already); says what was done."""
    if config.weights in ("none", "hub"):
        return f"encoder weights: {'random' if config.weights == 'none' else 'from the hub, ' + config.encoder}"
    path = shipped_weights() if config.weights == "shipped" else Path(config.weights)
    return f"encoder weights: {path.name}: {load_encoder(encoder, path)}"


def save(folder: Path, networks: dict[str, nn.Module], config: Config, classes: tuple[str, ...], step: int) -> Path:
    """Write the networks' weights to `folder`/step_NNNNNN; the folder appears only once it is complete."""
    target = folder / f"step_{step:06d}"
    partial = folder / f".{target.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for name, network in networks.items():
        save_file({key: value.contiguous() for key, value in network.state_dict().items()}, partial / f"{name}.safetensors")
    about = {"step": step, "classes": classes, "config": dataclasses.asdict(config)}
    (partial / "about.json").write_text(json.dumps(about, indent=1))
    shutil.rmtree(target, ignore_errors=True)
    os.replace(partial, target)
    return target


class Checkpoint(NamedTuple):
    step: int
    classes: tuple[str, ...]
    config: Config
    states: dict[str, dict[str, Tensor]]  # by network: teacher, student


def latest(run: Path) -> Path:
    """The newest checkpoint of a run folder, or the folder itself if it is a checkpoint."""
    if (run / "about.json").is_file():
        return run
    found = sorted((run / "checkpoints").glob("step_*"), key=lambda path: int(path.name.removeprefix("step_")))
    if not found:
        raise UserError(f"{run}: no checkpoint here; give a run folder that `python -m dsgc train` wrote")
    return found[-1]


def load(run: Path) -> Checkpoint:
    """Read the newest checkpoint of a run."""
    folder = latest(Path(run))
    try:
        about = json.loads((folder / "about.json").read_text())
        values = {key: tuple(value) if isinstance(value, list) else value for key, value in about["config"].items()}
        config = Config(**values)
        step, classes = int(about["step"]), tuple(about["classes"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder / 'about.json'}: not a checkpoint's description ({error})") from error
    states = {path.stem: read_weights(path) for path in sorted(folder.glob("*.safetensors"))}
    return Checkpoint(step, classes, config, states)
