"""The networks of a checkpoint."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from dsgc.errors import UserError
from dsgc.network.build import build_network
from dsgc.network.vit import Network
from dsgc.runs import checkpoint, exported


def load_networks(run: str | Path) -> tuple[dict[str, Network], checkpoint.Checkpoint]:
    """The networks of a run's newest checkpoint, or of whatever else `exported.saved` knows, in evaluation mode.

    Raises:
        UserError: there is none, it is not as it was written, or its weights are not of the network that its configuration describes.
    """
    saved = exported.saved(run)
    fresh = dataclasses.replace(saved.config, weights="none")
    try:
        with torch.device("meta"):  # without memory: a stranger's file may describe a network for which there is none
            planned = build_network(fresh, len(saved.classes))[0].state_dict()
        for name, tensors in saved.weights.items():
            if what := _misfit(planned, tensors):
                raise _other(run, name, what)
        networks = {name: build_network(fresh, len(saved.classes))[0].eval() for name in saved.weights}
    except _OtherError:
        raise
    except UserError as error:
        raise UserError(f"{run}: the network that its configuration describes cannot be made: {error}") from error
    load_weights(networks, saved, run)
    return networks, saved


class _OtherError(UserError):
    """Weights of another network than the one that is described."""


def _other(run: str | Path, name: str, what: str) -> _OtherError:
    return _OtherError(f"{run}: {name} does not fit the network that its configuration describes ({what}); take both from the same run")


def _misfit(planned: Mapping[str, Tensor], stored: Mapping[str, Tensor]) -> str | None:
    """Why tensors are not those of a network: the first that is missing, has no place there or is of another shape."""
    for name in sorted(planned.keys() | stored.keys()):
        if name not in stored:
            return f"{name} is missing"
        if name not in planned:
            return f"{name} has no place in it"
        if stored[name].shape != planned[name].shape:
            return f"{name} has shape {tuple(stored[name].shape)}, it needs {tuple(planned[name].shape)}"
    return None


def load_weights(networks: Mapping[str, Network], saved: checkpoint.Checkpoint, run: str | Path) -> None:
    """Fill networks from a checkpoint. Raises `UserError` if it is of other networks, or of another architecture."""
    if networks.keys() != saved.weights.keys():
        raise UserError(
            f"{run}: its checkpoint holds {' and '.join(saved.weights)}, its config asks for {' and '.join(networks)}; "
            "take both from the same run"
        )
    for name, network in networks.items():
        if what := _misfit(network.state_dict(), saved.weights[name]):
            raise _other(run, name, what)
        network.load_state_dict(saved.weights[name])
