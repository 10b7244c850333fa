"""The network: a timm vision transformer with the heads of the paper's Fig. 1.

`Network.forward` gives what every stage needs; the decoder and the projector are methods of their own, called only in
the stages that use them.
"""

from collections.abc import Collection, Sequence
from typing import Literal, NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dsgc import cam
from dsgc.errors import UserError
from dsgc.network.attention import given_to, queries_and_keys
from dsgc.network.encoder import Encoder, freeze
from dsgc.network.kept import Kept


class Output(NamedTuple):
    """What one forward pass gives. B images, D channels, C foreground classes, h x w patches."""

    tokens: Tensor  # (B, D, h, w) patch tokens of the last block, after the final norm
    middle: Tensor  # (B, D, h, w) patch tokens of block m
    class_token: Tensor  # (B, D) of the last block, after the final norm
    class_logits: Tensor  # (B, C) tags read off it
    patch_logits: Tensor  # (B, C) tags read off the pooled last tokens; its weights make the CAM of Eq. 1
    aux_logits: Tensor  # (B, C) tags read off the pooled middle tokens; its weights make the CAM of Eq. 2


def fitted(images: Tensor, patch: int) -> Tensor:
    """Images (B, 3, H, W) scaled so that both sides are the nearest multiple of the patch."""
    size = [max(1, round(side / patch)) * patch for side in images.shape[-2:]]
    return images if list(images.shape[-2:]) == size else F.interpolate(images, size, mode="bilinear", antialias=True)


def rescaled(images: Tensor, scale: float, patch: int) -> Tensor:
    """Images (B, 3, H, W) at a scale as ToCo and DuPL look at them: sides rounded down, pixels not smoothed, and the rows and
    columns at the end that fill no patch cut off. A side shorter than a patch becomes one patch."""
    height, width = (max(patch, int(scale * side)) for side in images.shape[-2:])
    if images.shape[-2:] != (height, width):
        images = F.interpolate(images, (height, width), mode="bilinear", align_corners=False)
    return images[..., : height // patch * patch, : width // patch * patch]


class Decoder(nn.Sequential):
    """DeepLab-LargeFOV on the patch grid: two dilated 3 x 3 convolutions and a 1 x 1 classifier; (B, D, h, w) -> (B, K, h, w)."""

    def __init__(self, dim: int, channels: int, dilation: int, num_labels: int):
        super().__init__(
            nn.Conv2d(dim, channels, 3, padding=dilation, dilation=dilation),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, num_labels, 1),
        )


class Projector(nn.Module):
    """DINO's head on every token: a 3-layer perceptron, unit length, a weight-normalised layer; (B, D, h, w) -> (B, K, h, w).

    An output is a cosine, in [-1, 1], times the layer's gain: 1, or a number an output that is learnt (`learnt_gain`).
    """

    def __init__(self, dim: int, hidden: int, bottleneck: int, outputs: int, *, learnt_gain: bool):
        super().__init__()
        self.perceptron = nn.Sequential(
            nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, bottleneck)
        )
        for layer in self.perceptron[::2]:
            nn.init.trunc_normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)
        self.direction = nn.Parameter(torch.randn(outputs, bottleneck))  # rows used at unit length
        self.gain = nn.Parameter(torch.ones(outputs)) if learnt_gain else None

    def forward(self, tokens: Tensor) -> Tensor:
        bottleneck = F.normalize(self.perceptron(tokens.permute(0, 2, 3, 1)), dim=-1)  # (B, h, w, bottleneck)
        cosines = bottleneck @ F.normalize(self.direction, dim=1).T  # (B, h, w, K)
        return (cosines if self.gain is None else cosines * self.gain).permute(0, 3, 1, 2)


class Network(nn.Module):
    """Encoder, three tag classifiers, projector and decoder.

    Args:
        encoder: from `encoder.create_encoder`.
        num_classes: C, foreground classes.
        frozen_blocks: how many blocks do not learn, the first ones, nor what lies before them; with all of them only heads learn.
        aux_block: m, 1-based: the block whose tokens are the middle ones.
        decoder_channels, decoder_dilation: of the LargeFOV decoder.
        projector: hidden width, bottleneck width, outputs.
        projector_gain: whether the gain of its last layer is learnt.
        pool: how tokens become image logits: the mean of this share of them, the highest; 0 takes the maximum alone.
        pool_of: the highest of what: a class's logits, or each channel of the tokens, which are classified then.
    """

    def __init__(
        self,
        encoder: Encoder,
        num_classes: int,
        *,
        frozen_blocks: int,
        aux_block: int,
        decoder_channels: int,
        decoder_dilation: int,
        projector: tuple[int, int, int],
        projector_gain: bool,
        pool: float,
        pool_of: Literal["logits", "tokens"],
    ):
        super().__init__()
        if not 1 <= aux_block <= len(encoder.blocks):
            raise UserError(f"aux_block {aux_block}: the encoder has blocks 1 to {len(encoder.blocks)}")
        if frozen_blocks > len(encoder.blocks):
            raise UserError(f"frozen_blocks {frozen_blocks}: the encoder has {len(encoder.blocks)} blocks")
        freeze(encoder, frozen_blocks)
        self.encoder, self.aux_block, self.pool, self.pool_of = encoder, aux_block, pool, pool_of
        dim = encoder.embed_dim
        self.class_classifier = nn.Linear(dim, num_classes)
        self.patch_classifier = nn.Linear(dim, num_classes, bias=False)
        self.aux_classifier = nn.Linear(dim, num_classes, bias=False)
        self.projector = Projector(dim, *projector, learnt_gain=projector_gain)
        self.decoder = Decoder(dim, decoder_channels, decoder_dilation, num_classes + 1)
        self.more = nn.ModuleDict()  # heads that a method adds
        self.kept: Kept | None = None  # tokens of the frozen blocks, where training keeps them
        for name in ("mean", "std"):  # of the pixels, as the encoder's weights expect them
            self.register_buffer(name, torch.tensor(encoder.pretrained_cfg[name])[:, None, None], persistent=False)

    @property
    def patch_size(self) -> int:
        return self.encoder.patch_embed.patch_size[0]

    def train(self, mode: bool = True) -> Self:
        """Heads learn or not; the encoder passes as it will later. It has no batch norm, and the rotations that some encoders draw anew
        at each pass in training would not be those of a run that was stopped."""
        super().train(mode)
        self.encoder.eval()
        return self

    def forward(self, images: Tensor) -> Output:
        """images (B, 3, H, W) in [0, 1], H and W multiples of the patch."""
        return self.with_blocks(images, ())[0]

    def with_blocks(self, images: Tensor, blocks: Collection[int]) -> tuple[Output, dict[int, Tensor]]:
        """Of images (B, 3, H, W) the output, and the tokens (B, P + N, D) that some blocks gave, the P before the patches among
        them, by the block's number, from 1."""
        wanted = sorted({self.aux_block, *blocks})
        normal = (images - self.mean) / self.std
        kept = self.kept.passed(self.encoder, images, normal, self.aux_block, blocks) if self.kept and self.training else None
        last, found = kept or self.encoder.forward_intermediates(
            normal, indices=[block - 1 for block in wanted], return_prefix_tokens=True, norm=False
        )  # (B, P + N, D), one of (B, D, h, w) and (B, P, D) for each block
        given = dict(zip(wanted, found, strict=True))
        middle = given[self.aux_block][0]
        tokens = last[:, self.encoder.num_prefix_tokens :].transpose(1, 2).reshape(middle.shape)
        output = Output(
            tokens=tokens,
            middle=middle,
            class_token=last[:, 0],
            class_logits=self.class_classifier(last[:, 0]),
            patch_logits=self._pooled(tokens, self.patch_classifier.weight),
            aux_logits=self._pooled(middle, self.aux_classifier.weight),
        )
        return output, {block: torch.cat([given[block][1], given[block][0].flatten(2).transpose(1, 2)], 1) for block in blocks}

    def with_attention(self, images: Tensor, blocks: Sequence[int]) -> tuple[Output, Tensor]:
        """Of images (B, 3, H, W) the output, and the products q k' of the patches in some blocks, from 2 on: (B, K, N, N), K heads in all.

        They are before the scale and the softmax, and have a graph. Fused attention does not give them, so queries and keys
        are made once more, from what enters the block.
        """
        attending = [self.encoder.blocks[block - 1] for block in blocks]
        with given_to(attending) as given:
            output, entering = self.with_blocks(images, [block - 1 for block in blocks])
        found = []
        for block, module, more in zip(blocks, attending, given, strict=True):
            queries, keys = queries_and_keys(module, entering[block - 1], **more)
            found.append(queries @ keys.transpose(-2, -1))  # (B, heads, P + N, P + N)
        patches = slice(self.encoder.num_prefix_tokens, None)
        return output, torch.cat(found, 1)[..., patches, patches]

    def _pooled(self, tokens: Tensor, weight: Tensor) -> Tensor:
        """Tag logits (B, C) of tokens (B, D, h, w) under a classifier (C, D)."""
        if self.pool_of == "tokens":
            return self._highest(tokens) @ weight.T
        return self._highest(cam.evidence(tokens, weight))

    def _highest(self, maps: Tensor) -> Tensor:
        """(B, K, h, w) -> (B, K), the mean of each map's highest values."""
        values = maps.flatten(2)
        return values.topk(max(1, int(self.pool * values.shape[-1])), -1).values.mean(-1)

    def decode(self, tokens: Tensor) -> Tensor:
        """Segmentation logits (B, 1 + C, h, w) of the last tokens."""
        return self.decoder(tokens)

    def project(self, tokens: Tensor) -> Tensor:
        """Projected tokens (B, K, h, w) of the last tokens."""
        return self.projector(tokens)
