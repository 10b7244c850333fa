"""A network as a config describes it, its encoder filled with the weights that the config names."""

import torch

from dsgc.config import Config
from dsgc.errors import UserError, first_line
from dsgc.network.encoder import create_encoder
from dsgc.network.encoder_weights import start_encoder
from dsgc.network.vit import Network


def build_network(config: Config, num_classes: int) -> tuple[Network, str]:
    """A network as the config describes it, its encoder filled with the weights it names; and a line that reports them.

    Raises:
        UserError: an encoder, its weights, a crop size or widths that cannot be.
    """
    encoder = create_encoder(config.encoder, config.crop_size, pretrained=config.weights == "hub")
    if config.crop_size % encoder.patch_embed.patch_size[0]:
        raise UserError(
            f"crop_size {config.crop_size}: must be a multiple of {config.encoder}'s patch, {encoder.patch_embed.patch_size[0]}"
        )
    report = start_encoder(encoder, config)
    try:
        network = Network(
            encoder,
            num_classes,
            frozen_blocks=config.frozen_blocks,
            aux_block=config.aux_block,
            decoder_channels=config.decoder_channels,
            decoder_dilation=config.decoder_dilation,
            projector=config.projector,
            projector_gain=config.projector_gain,
            pool=config.tag_pool,
            pool_of=config.tag_pool_of,
        )
    except RuntimeError as error:  # no memory for that many weights
        widths = f"decoder_channels {config.decoder_channels}, projector {config.projector}"
        raise UserError(f"{widths}: the network cannot be made ({first_line(error)}); choose smaller widths") from error
    with torch.random.fork_rng(devices=()):  # all else is drawn as it is for a method that adds nothing
        network.more.update(config.method.heads(network, num_classes))
    return network, report
