"""An encoder's weights among all that a file holds: under whichever prefix, of whichever of several networks, or why not."""

import inspect
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from dsgc.config import Config
from dsgc.errors import UserError, first_line
from dsgc.network.encoder import Encoder
from dsgc.network.tensor_files import read_weights, refuse_not_finite

MADE_WITH = "give all weights of this encoder, or choose the encoder that these were made with"
WRAPPERS = re.compile(r"\b(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")  # of torch.compile and others, at any place
CHUNK = re.compile(r"\bblocks\.\d+\.(\d+)\.")  # DINOv2 trains with its blocks in chunks; the second number counts through
PREFERRED = {  # where several networks of a file fit: those that their publishers say to use
    "teacher": "the teacher, as DINO publishes it",
    "ema": "the moving average",
    "base_encoder": "the base encoder, as MoCo publishes it",
}
OPTIONAL = re.compile(r"patch_embed\.proj\.bias|blocks\.\d+\.attn\.(qkv\.bias|[qv]_bias)")  # vision transformers are built with and without
TRUNK = re.compile(r"(blocks|patch_embed|norm_pre|cls_token|dist_token|reg_token|pos_embed)\b")  # all else is a head, or a decoder
OTHER_NAMES = {"class_embedding": "cls_token", "register_tokens": "reg_token", "storage_tokens": "reg_token"}  # CLIP's, DINOv2's, DINOv3's
STRANGERS = {  # tensors that other libraries' vision transformers have
    r"encoder\.layers?\.\d+\.attention\.attention\.|\blayer\.\d+\.attention\.(q|k|v|o)_proj": "transformers (Hugging Face)",
    r"vision_model\.encoder\.layers\.\d+\.self_attn": "transformers (Hugging Face)",
    r"encoder_layer_\d+\.": "torchvision",
    r"\blayers\.\d+\.ffn\.layers\.": "mmpretrain or mmsegmentation",
}


class Found(NamedTuple):
    """The encoder's tensors in a file."""

    tensors: dict[str, Tensor]  # by the encoder's own names, of its shapes
    others: tuple[str, ...]  # what else is in the file, by its names there
    where: str  # in words, where it is not the whole file


class Group(NamedTuple):
    """What stands under one prefix of a file."""

    under: str
    tensors: dict[str, Tensor]  # by timm's names, the encoder's and others
    fault: str | None  # why these are not the encoder's


def find(path: Path, encoder: Encoder) -> Found:
    """The tensors of an encoder in a file; position embedding and patch projection are resized to its grid and patch.

    Raises:
        UserError: no readable file, or it lacks tensors of the encoder, has them in another shape, or is of another one.
    """
    own = encoder.state_dict()
    state = {CHUNK.sub(r"blocks.\1.", WRAPPERS.sub("", name)): value for name, value in read_weights(path).items()}
    prefixes = _prefixes(state, own)
    if not prefixes:
        why = _other_library(state) or f"none of its {len(state)} tensors belongs to this encoder"
        raise UserError(f"{path}: {why}; choose weights made for it, with the names that timm has")
    groups = [_group(under, state, encoder) for under in prefixes]
    right = [group for group in groups if group.fault is None]
    if not right:
        raise UserError(f"{path}: {_other_library(state) or _under(groups[0].under) + str(groups[0].fault)}; {MADE_WITH}")
    chosen, why = _chosen(path, right)
    tensors = {name: value.float() for name, value in chosen.tensors.items() if name in own}
    refuse_not_finite(path, tensors)
    beside = [chosen.under + name for name in chosen.tensors if name not in own]
    beside += [name for name in state if not name.startswith(chosen.under)]
    return Found(tensors, tuple(sorted(beside)), why)


def _prefixes(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> list[str]:
    """Under which prefixes tensors of the encoder can lie, those with the most of its names first."""
    found: Counter[str] = Counter()
    for name in state:
        parts = name.split(".")
        if len(parts) > 32 or any(part.startswith("optim") for part in parts):  # as many numbers by the same names, of Adam
            continue
        for i in range(len(parts)):
            if ".".join(parts[i:]) in own:
                found[".".join([*parts[:i], ""])] += 1
        if parts[-1] == "class_embedding" and name.replace("class_embedding", "ln_pre.weight") in state:  # as CLIP has it
            found[name.removesuffix("class_embedding")] = len(own)
        if parts[0] in ("beit3", "radio_model"):
            found[""] = len(own)
    most = max(found.values(), default=0)
    return [under for under, count in sorted(found.items(), key=lambda item: (-item[1], item[0])) if 2 * count >= most][:16]


def _group(under: str, state: Mapping[str, Tensor], encoder: Encoder) -> Group:
    """What lies under a prefix by timm's names, and whether it is the encoder's."""
    own = encoder.state_dict()
    part = {name.removeprefix(under): value for name, value in state.items() if name.startswith(under)}
    if fault := _other_tokens(part, own) or _lost_bias(part, own):
        return Group(under, part, fault)
    if "class_embedding" in part:
        part = {f"visual.{name}": value for name, value in part.items()}
    if "register_tokens" in part or any(".mlp.w12." in name for name in part):
        part["mask_token"] = torch.zeros(1)  # by which timm knows DINOv2's names
    try:
        tensors = _by_timms_names(part, encoder)
    except (RuntimeError, KeyError, IndexError, AttributeError, ValueError, TypeError) as error:
        return Group(under, part, f"its tensors do not fit the encoder ({first_line(error)})")
    for name in ("norm.weight", "norm.bias"):  # of an encoder that was trained to average its tokens first
        if name in own and name not in tensors and f"fc_{name}" in tensors:
            tensors[name] = tensors.pop(f"fc_{name}")
    return Group(under, tensors, _fault(tensors, own, len(encoder.blocks)))


def _by_timms_names(part: dict[str, Tensor], encoder: Encoder) -> dict[str, Tensor]:
    """Tensors by the names that the encoder's family has in timm, its position embedding and patches resized."""
    convert = inspect.getmodule(type(encoder)).checkpoint_filter_fn
    return convert(part, encoder, **({"adapt_layer_scale": True} if isinstance(encoder, VisionTransformer) else {}))


def _other_tokens(part: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> str | None:
    """Why tokens beside the patches' are not the encoder's. The position embedding cannot be resized where they are others."""
    there = {OTHER_NAMES.get(name, name) for name in part}
    if not there & {"pos_embed", "positional_embedding"}:
        return None
    for name in ("cls_token", "reg_token", "dist_token"):
        if name in there and name not in own:
            return f"it has {name}, the encoder has none"
        if name in own and name not in there:
            return f"it has no {name}, the encoder has one"
    return None


def _lost_bias(part: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> str | None:
    """Why biases of queries and values are not the encoder's, which timm leaves aside where it has none (DINOv3 has some, all 0)."""
    for name in part:
        if re.fullmatch(r"blocks\.\d+\.attn\.qkv\.bias", name) and not {name, name.replace("qkv.bias", "q_bias")} & own.keys():
            queries, _, values = part[name].chunk(3)
            if queries.any() or values.any():
                return f"{name} has no place in the encoder; timm has another name for it with biases, for DINOv3 one that ends in _qkvb"
    return None


def _fault(tensors: Mapping[str, Tensor], own: Mapping[str, Tensor], depth: int) -> str | None:
    """Why tensors are not all that an encoder of `depth` blocks has, and nothing else; a head or a decoder may be there too."""
    for key in sorted(own.keys() & tensors.keys()):
        if own[key].shape != tensors[key].shape:
            return f"{key} has shape {tuple(tensors[key].shape)}, the encoder needs {tuple(own[key].shape)}"
        if tensors[key].layout != torch.strided or tensors[key].is_meta or not tensors[key].is_floating_point():
            return f"{key} holds {tensors[key].dtype} as {tensors[key].layout} on {tensors[key].device}, no plain real numbers"
    blocks = {int(found[1]) for key in tensors if (found := re.match(r"blocks\.(\d{1,4})\.", key))}
    if blocks and len(blocks) != depth:
        return f"has {len(blocks)} blocks, the encoder {depth}"
    missing = sorted(own.keys() - tensors.keys())
    if set(missing) - _without(tensors, own):
        first = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        return f"holds {len(own.keys() & tensors.keys())} of the encoder's {len(own)} tensors and lacks {len(missing)}: {first}"
    other = next((key for key in sorted(tensors) if key not in own and TRUNK.match(key)), None)
    return f"{other} has no place in the encoder, so that it would compute something else" if other else None


def _without(tensors: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> set[str]:
    """Biases that a file's network does without altogether: they are 0."""
    kinds = {re.sub(r"\d+", "", key) for key in tensors}
    return {key for key in own if OPTIONAL.fullmatch(key) and re.sub(r"\d+", "", key) not in kinds}


def _chosen(path: Path, right: list[Group]) -> tuple[Group, str]:
    """One of several groups that fit, and where it lies in words. Raises `UserError` if nothing tells which one is meant."""
    left, reason = right, ""
    for word, words in PREFERRED.items():
        if len(left) > 1 and (those := [group for group in left if re.search(rf"(^|[._]){word}[._]", group.under)]):
            left, reason = those, words
    first = left[0]
    for other in left[1:]:
        if not all(torch.equal(first.tensors[key], other.tensors[key]) for key in first.tensors.keys() & other.tensors.keys()):
            raise UserError(
                f"{path}: holds the encoder's tensors under {first.under!r} and under {other.under!r}, and they differ; "
                "save those that are meant to a file of their own"
            )
    rest = [repr(group.under) for group in right if group not in left]
    return first, (f", under {first.under}" if first.under else "") + (f" ({reason}; {', '.join(rest)} left aside)" if rest else "")


def _other_library(state: Iterable[str]) -> str | None:
    """Whose names tensors have, where they are not timm's but another known library's."""
    for pattern, library in STRANGERS.items():
        if any(re.search(pattern, name) for name in state):
            return f"its tensors have the names of {library}, not timm's; take timm's file of these weights, or convert it"
    return None


def _under(prefix: str) -> str:
    return f"what it holds under {prefix[:80]} is not the encoder's: " if prefix else ""


class LoadReport(NamedTuple):
    """What loading encoder weights did."""

    loaded: int
    missing: tuple[str, ...]  # biases that the file's network does without; they are 0
    unexpected: tuple[str, ...]  # tensors of the file that are not the encoder's: those of heads, decoders, other networks

    def __str__(self) -> str:
        parts = [f"{self.loaded} tensors loaded"]
        for name, keys in (("missing", self.missing), ("unexpected", self.unexpected)):
            if keys:
                parts.append(f"{len(keys)} {name} ({', '.join(keys[:4])}{', ...' if len(keys) > 4 else ''})")
        return ", ".join(parts)


def load_encoder(encoder: Encoder, path: Path) -> LoadReport:
    """Fill an encoder from a file, as `find` finds it there.

    Raises:
        UserError: no readable file, or its tensors are not all those of this encoder.
    """
    return _fill(encoder, find(path, encoder))


def _fill(encoder: Encoder, found: Found) -> LoadReport:
    own = encoder.state_dict()
    missing = own.keys() - found.tensors.keys()
    encoder.load_state_dict({name: found.tensors.get(name, torch.zeros_like(value)) for name, value in own.items()})
    return LoadReport(len(found.tensors), tuple(sorted(missing)), found.others)


def shipped_weights() -> Path:
    """The pre-trained encoder of the `shapes` preset, part of the package."""
    return Path(str(resources.files("dsgc") / "network" / "shapes_encoder.safetensors"))


def start_encoder(encoder: Encoder, config: Config) -> str:
    """Give a fresh encoder the weights that the config names (`hub` weights are there already); says what was done."""
    if config.weights in ("none", "hub"):
        return f"encoder weights: {'random' if config.weights == 'none' else 'from the hub, ' + config.encoder}"
    path = shipped_weights() if config.weights == "shipped" else Path(config.weights)
    found = find(path, encoder)
    return f"encoder weights: {path.name}{found.where}: {_fill(encoder, found)}"
