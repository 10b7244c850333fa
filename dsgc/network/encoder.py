"""Encoders: vision transformers of timm's that give what the network needs, and a line for those that do not.

What is needed is asked of the model, not of a list of names: a class token, blocks of which any gives its tokens, patches cut out
by one projection, and images of any size. timm's `VisionTransformer` (ViT, DeiT, CLIP, DINO, DINOv2, RADIO) and `Eva` (EVA, EVA-02,
DINOv3, PE, RoPE-ViT) have it.
"""

import contextlib
import logging
from collections.abc import Iterator

import timm
import torch
from timm.layers import PatchEmbed
from timm.models import register_model
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from dsgc.errors import UserError, first_line

Encoder = VisionTransformer | Eva


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


NEEDED = (
    "a vision transformer with a class token and images of any size is needed: ViT, DeiT, CLIP, DINOv2, DINOv3, EVA-02, PE; for "
    "example vit_base_patch16_224, vit_small_patch14_dinov2 or vit_small_patch16_dinov3"
)


def create_encoder(name: str, image_size: int, *, pretrained: bool = False) -> Encoder:
    """A timm vision transformer by name, without its head, for images of any size divisible by its patch.

    Every token is normed at its end, also where timm's model norms the mean of all tokens; nothing in it is drawn at random.

    Raises:
        UserError: timm knows no such model, it lacks what is needed of an encoder, or the hub does not give it.
    """
    if ":" in name:  # a checkpoint names its encoder, and must not make timm read another folder or fetch from the hub
        raise UserError(f"encoder {name!r}: an address; give a name from timm.list_models('vit_*'), and other weights with --weights FILE")
    options = {"num_classes": 0, "img_size": image_size, "dynamic_img_size": True}
    if lack := _lack(name, options):  # before anything is fetched
        raise UserError(f"encoder {name!r}: {lack}; {NEEDED}")
    try:
        with _silent("huggingface_hub"):  # which would tell of each attempt
            return _fitted(timm.create_model(name, pretrained=pretrained, **options))
    except Exception as error:  # without weights it can be made: what the hub, the net, proxies and caches raise is of any kind
        remedy = "choose a smaller one, or free memory"
        if pretrained:
            remedy = (
                "is the hub within reach (net, proxies, HF_ENDPOINT, HF_HOME), has it weights of this name? else --weights FILE, none, "
                "or shipped for the small one"
            )
        raise UserError(f"encoder {name!r}: timm cannot make it ({first_line(_root(error))}); {remedy}") from error


def _lack(name: str, options: dict) -> str | None:
    """What a model of timm's lacks as an encoder, in words. Raises `UserError` if timm has none of that name."""
    model, _, tag = name.partition(".")
    try:
        with torch.device("meta"):  # without memory
            return lacking(timm.create_model(name, **options))
    except TypeError:  # a model that is no vision transformer takes other options
        return _of_one_size(name, options["img_size"]) or f"another kind of network, of timm's {_module(model)}"
    except Exception as error:  # and fails in its own way
        if timm.is_model(model) and not tag:
            return f"timm cannot make it as a vision transformer for images of {options['img_size']} ({first_line(error)})"
        known = timm.list_pretrained(f"{model}.*")[:5] or timm.list_models(f"*{model[:12]}*")[:5]
        remedy = f"try {', '.join(known)}" if known else "see timm.list_models('vit_*')"
        raise UserError(f"encoder {name!r}: timm cannot make it ({first_line(error)}); {remedy}") from error


def lacking(encoder: nn.Module) -> str | None:
    """What a model lacks as an encoder, in words."""
    if not all(hasattr(encoder, part) for part in ("blocks", "norm", "patch_embed", "cls_token", "forward_intermediates")):
        return f"another kind of network, timm's {type(encoder).__name__}"
    if type(encoder.patch_embed) is not PatchEmbed:
        return "a hybrid, which makes its tokens with a convolutional network"
    return "a vision transformer without a class token" if encoder.cls_token is None else None


def _of_one_size(name: str, image_size: int) -> str | None:
    """Of a model that does not take images of changing sizes: says so, if it lacks nothing else."""
    try:
        with torch.device("meta"):
            model = timm.create_model(name, num_classes=0, img_size=image_size)
    except Exception:  # not even images of another size
        return None
    if lacking(model):
        return None
    return f"timm's {type(model).__name__} takes images of one size (it has no dynamic_img_size), and pictures have their own"


def _module(model: str) -> str:
    """The file of timm's that a model stands in."""
    return timm.model_entrypoint(model).__module__.split(".")[-1]


def _fitted(encoder: Encoder) -> Encoder:
    """An encoder with the norm at the end of each token, without parts that only pooling uses, and with nothing random in it."""
    if isinstance(encoder.norm, nn.Identity):  # it norms the mean of the tokens instead; or has no norm at all
        encoder.norm, encoder.fc_norm = encoder.fc_norm, nn.Identity()
    encoder.attn_pool = None
    return encoder.eval()


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


def compile_blocks(encoder: Encoder) -> None:
    """Let `torch.compile` make the blocks' passes, when one first comes; they are alike, so that what it makes for one serves all.

    On a GPU a block at a time waits for dozens of small calls from the host, which become a few. Hooks stay outside, and names and
    weights are what they were. It needs a C++ compiler.
    """
    for block in encoder.blocks:
        block.forward = torch.compile(block.forward)


def freeze(encoder: Encoder, blocks: int) -> None:
    """Keep the first blocks and all that comes before them from learning; after the last block the final norm too.

    No graph is built up to there, so that these blocks cost a forward pass and keep no activations.
    """
    if blocks:
        encoder.requires_grad_(False)
    if 0 < blocks < len(encoder.blocks):
        encoder.blocks[blocks:].requires_grad_(True)
        encoder.norm.requires_grad_(True)
