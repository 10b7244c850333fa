"""The networks of a checkpoint."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from dsgc.errors import UserError
from dsgc.network.build import build_network
from dsgc.network.vit import Network
from dsgc.runs import checkpoint


def load_networks(run: Path) -> tuple[dict[str, Network], checkpoint.Checkpoint]:
    """The networks of a run's newest checkpoint, in evaluation mode."""
    saved = checkpoint.load(run)
    fresh = dataclasses.replace(saved.config, weights="none")
    try:
        networks = {name: build_network(fresh, len(saved.classes))[0].eval() for name in saved.weights}
    except UserError as error:
        raise UserError(f"{run}: the network that its about.json describes cannot be made: {error}") from error
    load_weights(networks, saved, run)
    return networks, saved


def load_weights(networks: Mapping[str, Network], saved: checkpoint.Checkpoint, run: Path) -> None:
    """Fill networks from a checkpoint. Raises `UserError` if it is of other networks, or of another architecture."""
    if networks.keys() != saved.weights.keys():
        raise UserError(
            f"{run}: its checkpoint holds {' and '.join(saved.weights)}, its config asks for {' and '.join(networks)}; "
            "take both from the same run"
        )
    for name, network in networks.items():
        try:
            network.load_state_dict(saved.weights[name])
        except RuntimeError as error:
            what = " ".join(str(error).splitlines()[1:2]).strip()[:120]  # below a line that says that there are errors
            raise UserError(
                f"{run}: {name} does not fit the network that its about.json describes ({what}); "
                "take both from the same run"
            ) from error
