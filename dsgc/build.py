"""Networks as a config describes them, fresh ones or those of a checkpoint, and the device they run on."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from accelerate import Accelerator
from accelerate.state import AcceleratorState

from dsgc import checkpoint
from dsgc.config import Config
from dsgc.errors import UserError, first_line
from dsgc.network import Network, create_encoder


def build_network(config: Config, num_classes: int) -> tuple[Network, str]:
    """A network as the config describes it, its encoder filled with the weights it names; and a line that reports them."""
    encoder = create_encoder(config.encoder, config.crop_size, pretrained=config.weights == "hub")
    if config.crop_size % encoder.patch_embed.patch_size[0]:
        raise UserError(
            f"crop_size {config.crop_size}: must be a multiple of {config.encoder}'s patch, {encoder.patch_embed.patch_size[0]}"
        )
    report = checkpoint.start_encoder(encoder, config)
    try:
        network = Network(
            encoder,
            num_classes,
            aux_block=config.aux_block,
            decoder_channels=config.decoder_channels,
            decoder_dilation=config.decoder_dilation,
            projector=config.projector,
            pool=config.tag_pool,
        )
    except RuntimeError as error:  # no memory for that many weights
        widths = f"decoder_channels {config.decoder_channels}, projector {config.projector}"
        raise UserError(f"{widths}: the network cannot be made ({first_line(error)}); choose smaller widths") from error
    return network, report


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


def accelerator_of(config: Config) -> Accelerator:
    """The device and the precision that a config asks for. Raises `UserError` where the device has no such precision.

    accelerate keeps both for the whole process; they are forgotten first, so that runs with others can follow each other.
    """
    AcceleratorState._reset_state(reset_partial_state=True)
    try:
        return Accelerator(cpu=config.device == "cpu", mixed_precision=config.precision)
    except ValueError as error:
        raise UserError(f"precision {config.precision}: {first_line(error)}; take --precision no") from error
