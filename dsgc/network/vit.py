"""The network: a timm vision transformer with the heads of the paper's Fig. 1.

`Network.forward` gives what every stage needs; the decoder and the projector are methods of their own, called only in
the stages that use them.
"""

import contextlib
import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, NamedTuple

import timm
import torch
import torch.nn.functional as F
from timm.layers import PatchEmbed
from timm.models import register_model
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from dsgc import cam
from dsgc.errors import UserError, first_line


class Output(NamedTuple):
    """What one forward pass gives. B images, D channels, C foreground classes, h x w patches."""

    tokens: Tensor  # (B, D, h, w) patch tokens of the last block, after the final norm
    middle: Tensor  # (B, D, h, w) patch tokens of block m
    class_token: Tensor  # (B, D) of the last block, after the final norm
    class_logits: Tensor  # (B, C) tags read off it
    patch_logits: Tensor  # (B, C) tags read off the pooled last tokens; its weights make the CAM of Eq. 1
    aux_logits: Tensor  # (B, C) tags read off the pooled middle tokens; its weights make the CAM of Eq. 2


@register_model
def dsgc_vit_nano_patch8(pretrained: bool = False, **kwargs) -> VisionTransformer:
    """The encoder of the `shapes` preset: 5 blocks of 128 channels on 8 x 8 patches, 0.7 M parameters."""
    if pretrained:
        raise RuntimeError("its weights are not on the hub but shipped with the package")
    sizes = {"img_size": 96, "patch_size": 8, "embed_dim": 128, "depth": 5, "num_heads": 4, "mlp_ratio": 2}
    options = {key: value for key, value in kwargs.items() if key not in ("pretrained_cfg", "pretrained_cfg_overlay", "cache_dir")}
    encoder = VisionTransformer(**(sizes | options))
    encoder.pretrained_cfg = {"mean": (0.5,) * 3, "std": (0.5,) * 3}  # how images are normalised
    return encoder


PLAIN = (
    "a plain vision transformer with a class token is needed, for example vit_base_patch16_224, deit_base_patch16_224 or "
    "vit_small_patch14_dinov2"
)


def create_encoder(name: str, image_size: int, *, pretrained: bool = False) -> VisionTransformer:
    """A timm vision transformer by name, without its head, for images of any size divisible by its patch.

    Raises:
        UserError: timm knows no such model, it is not a plain vision transformer with a class token, or the hub does not give it.
    """
    if ":" in name:  # a checkpoint names its encoder, and must not make timm read another folder or fetch from the hub
        raise UserError(f"encoder {name!r}: an address; give a name from timm.list_models('vit_*'), and other weights with --weights FILE")
    options = {"num_classes": 0, "img_size": image_size, "dynamic_img_size": True}
    try:
        with torch.device("meta"):  # without memory, and before anything is fetched
            kind = _not_plain(timm.create_model(name, **options))
    except Exception as error:  # a model that is no vision transformer takes other options, and fails in its own way
        model, _, tag = name.partition(".")
        if timm.is_model(model) and not tag or isinstance(error, TypeError):
            kind = f"timm cannot make it as a vision transformer for images of {image_size} ({first_line(error)})"
            if isinstance(error, TypeError):
                kind = f"another kind of network, of timm's {timm.model_entrypoint(model).__module__.split('.')[-1]}"
        else:
            known = timm.list_pretrained(f"{model}.*")[:5] or timm.list_models(f"*{model[:12]}*")[:5]
            remedy = f"try {', '.join(known)}" if known else "see timm.list_models('vit_*')"
            raise UserError(f"encoder {name!r}: timm cannot make it ({first_line(error)}); {remedy}") from error
    if kind:
        raise UserError(f"encoder {name!r}: {kind}; {PLAIN}")
    try:
        with _silent("huggingface_hub"):  # which would tell of each attempt
            return timm.create_model(name, pretrained=pretrained, **options)
    except Exception as error:  # without weights it can be made: what the hub, the net, proxies and caches raise is of any kind
        remedy = "choose a smaller one, or free memory"
        if pretrained:
            remedy = (
                "is the hub within reach (net, proxies, HF_ENDPOINT, HF_HOME), has it weights of this name? else --weights FILE, none, "
                "or shipped for the small one"
            )
        raise UserError(f"encoder {name!r}: timm cannot make it ({first_line(_root(error))}); {remedy}") from error


@contextlib.contextmanager
def _silent(library: str) -> Iterator[None]:
    """Without a library's warnings."""
    logger = logging.getLogger(library)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _root(error: BaseException) -> BaseException:
    """What an exception was raised for in the first place."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _not_plain(encoder: nn.Module) -> str | None:
    """What an encoder of timm is instead of a plain vision transformer with a class token."""
    if not isinstance(encoder, VisionTransformer):
        return f"another kind of network, timm's {type(encoder).__name__}"
    if type(encoder.patch_embed) is not PatchEmbed:
        return "a hybrid, which makes its tokens with a convolutional network"
    return None if encoder.has_class_token else "a vision transformer without a class token"


def freeze(encoder: VisionTransformer, blocks: int) -> None:
    """Keep the first blocks and all that comes before them from learning; after the last block the final norm too.

    No graph is built up to there, so that these blocks cost a forward pass and keep no activations.
    """
    if blocks:
        encoder.requires_grad_(False)
    if 0 < blocks < len(encoder.blocks):
        encoder.blocks[blocks:].requires_grad_(True)
        encoder.norm.requires_grad_(True)


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


def _products(block: nn.Module, tokens: Tensor) -> Tensor:
    """q k' of every pair of the tokens (B, P + N, D) that enter a block: (B, heads, P + N, P + N)."""
    attention = block.attn
    made = attention.qkv(block.norm1(tokens)).unflatten(-1, (3, attention.num_heads, -1))  # (B, P + N, 3, heads, width)
    queries, keys, _ = made.permute(2, 0, 3, 1, 4)
    return attention.q_norm(queries) @ attention.k_norm(keys).transpose(-2, -1)


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
        encoder: from `create_encoder`.
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
        encoder: VisionTransformer,
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
        for name in ("mean", "std"):  # of the pixels, as the encoder's weights expect them
            self.register_buffer(name, torch.tensor(encoder.pretrained_cfg[name])[:, None, None], persistent=False)

    @property
    def patch_size(self) -> int:
        return self.encoder.patch_embed.patch_size[0]

    def forward(self, images: Tensor) -> Output:
        """images (B, 3, H, W) in [0, 1], H and W multiples of the patch."""
        return self.with_blocks(images, ())[0]

    def with_blocks(self, images: Tensor, blocks: Iterable[int]) -> tuple[Output, dict[int, Tensor]]:
        """Of images (B, 3, H, W) the output, and the tokens (B, P + N, D) that some blocks gave, the P before the patches among
        them, by the block's number, from 1."""
        wanted = sorted({self.aux_block, *blocks})
        last, found = self.encoder.forward_intermediates(
            (images - self.mean) / self.std, indices=[block - 1 for block in wanted], return_prefix_tokens=True, norm=False
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
        output, entering = self.with_blocks(images, [block - 1 for block in blocks])
        found = [_products(self.encoder.blocks[block - 1], entering[block - 1]) for block in blocks]
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
