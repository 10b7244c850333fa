"""Tokens of frozen blocks, kept on disk: what blocks that do not learn make of a crop is computed when it comes for the first time.

That pays where the same crops come again (`Config.frozen_views`): a step then costs the blocks that learn, and the heads. An image is
known by its pixels, so that it does not matter which network looks at it, mirrored or not, and for which loss.
"""

import hashlib
import shutil
import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from dsgc.errors import UserError
from dsgc.network.attention import given_to
from dsgc.network.encoder import Encoder

Passed = tuple[Tensor, list[tuple[Tensor, Tensor]]]  # as timm's `forward_intermediates` gives it


class Kept:
    """Tokens of images of one size after the last of `frozen` blocks, and after the block of the middle tokens where that is frozen.

    They are float32, in a file without a name that ends with the process. Each image is passed alone when it is new, so that its tokens
    do not depend on which others came with it, nor on where a run was stopped. Networks that have the same frozen blocks share them.

    Args:
        folder: where the file lies.
        images: how many are kept, at most; those that come later are computed each time.
        side: of the images, pixels.
    Raises:
        UserError: there is no room for them.
    """

    def __init__(self, folder: Path, encoder: Encoder, *, images: int, side: int, frozen: int, middle: int):
        self.side, self.frozen, self.images = side, frozen, images
        self.blocks = sorted({min(middle, frozen), frozen})
        self.grid = side // encoder.patch_embed.patch_size[0]
        self.shape = len(self.blocks), encoder.num_prefix_tokens + self.grid**2, encoder.embed_dim  # K, P + N, D
        self.places: dict[bytes, int] = {}  # of each image in the file
        self.more: Sequence[dict[str, Any]] | None = None  # what the other blocks get beside tokens; it depends on the size alone
        self.row = 4 * int(np.prod(self.shape))  # bytes of an image
        free = shutil.disk_usage(folder).free
        if images * self.row > free:
            size, there = (f"{value / 2**30:.1f} GiB" for value in (images * self.row, free))
            raise UserError(f"frozen_views: tokens of {images} crops take {size}, and {folder} has {there} left; take fewer views, or 0")
        self.file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (it ends with this object)

    def passed(self, encoder: Encoder, images: Tensor, normal: Tensor, middle: int, blocks: Collection[int]) -> Passed | None:
        """What an encoder gives, with a graph of the blocks that learn; None where it is to be passed as usual.

        Args:
            images: (B, 3, H, W) in [0, 1]; another size, or pixels that no picture has, are not kept.
            normal: the same, normalised.
            middle, blocks: which blocks' tokens are asked for; of the frozen ones only those that are kept can be.
        """
        pixels = (255 * images).round()
        known = images.shape[-2:] == (self.side, self.side) and torch.equal(pixels / 255, images)
        if not known or any(block < self.frozen for block in blocks):
            return None
        with torch.no_grad():
            if self.more is None:
                with given_to(encoder.blocks[self.frozen :]) as self.more:
                    encoder.forward_features(normal[:1])
            names = [hashlib.sha256(image.numpy()).digest() for image in pixels.byte().cpu()]
            rows = [self._tokens(encoder, name, image[None]) for name, image in zip(names, normal, strict=True)]
        kept = torch.stack(rows).to(images.device)  # (B, K, P + N, D)
        given = dict(zip(self.blocks, kept.unbind(1), strict=True))
        last = given[self.frozen]
        for number, (block, more) in enumerate(zip(encoder.blocks[self.frozen :], self.more, strict=True), self.frozen + 1):
            last = checkpoint(block, last, use_reentrant=False, **more) if encoder.grad_checkpointing else block(last, **more)
            given[number] = last
        first = encoder.num_prefix_tokens
        found = [given[number] for number in sorted({middle, *blocks})]
        return encoder.norm(last), [(part[:, first:].mT.unflatten(2, (self.grid, self.grid)), part[:, :first]) for part in found]

    def _tokens(self, encoder: Encoder, name: bytes, normal: Tensor) -> Tensor:
        """Tokens (K, P + N, D) of an image (1, 3, S, S), from the file or for it."""
        if name in self.places:
            self.file.seek(self.places[name] * self.row)
            return torch.from_numpy(np.frombuffer(bytearray(self.file.read(self.row)), np.float32).reshape(self.shape))
        found = encoder.forward_intermediates(
            normal, indices=[number - 1 for number in self.blocks], return_prefix_tokens=True, stop_early=True, intermediates_only=True
        )
        tokens = torch.cat([torch.cat([prefix, map_.flatten(2).mT], 1) for map_, prefix in found]).float().cpu()
        if len(self.places) < self.images:
            self._write(name, tokens)
        return tokens

    def _write(self, name: bytes, tokens: Tensor) -> None:
        try:
            self.file.seek(len(self.places) * self.row)
            self.file.write(tokens.numpy())
            self.file.flush()
        except OSError:  # the disk is full: what is there is used, the others are computed
            self.images = len(self.places)
        else:
            self.places[name] = len(self.places)
