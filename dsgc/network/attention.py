"""Queries and keys of a block, as its attention takes them: with the encoder's own norms, rotations by place, and shared keys.

timm has an attention for each family of encoders. They have in common that they end in PyTorch's `scaled_dot_product_attention`;
so a block is run up to that call, and what it was about to be given is taken.
"""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from dsgc.errors import UserError


class _ReachedError(Exception):
    """Carries queries and keys out of a block; the rest of it is not needed."""


class _StopAtAttention(TorchFunctionMode):
    """Ends a block where its attention begins."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is F.scaled_dot_product_attention:
            raise _ReachedError(*args[:2])
        return function(*args, **(kwargs or {}))


def queries_and_keys(block: nn.Module, tokens: Tensor, **more: Any) -> tuple[Tensor, Tensor]:
    """What the attention of a block compares, two of (B, heads, P + N, width), when tokens (B, P + N, D) enter it.

    more: what else the encoder gives its blocks (`given_to`). Raises `UserError` if its attention is not PyTorch's.
    """
    attention = _attention(block)
    fused, attention.fused_attn = attention.fused_attn, True  # timm can be told to do without that function
    try:
        with _StopAtAttention():
            type(block).forward(block, tokens, **more)  # not compiled: a compiled block cannot be left midway
    except _ReachedError as reached:
        queries, keys = reached.args
        return queries, keys
    finally:
        attention.fused_attn = fused
    raise UserError(f"{type(block).__name__}: its attention is not PyTorch's, and gives no queries and keys; choose another encoder")


@contextlib.contextmanager
def given_to(blocks: Sequence[nn.Module]) -> Iterator[list[dict[str, Any]]]:
    """What an encoder gives each block beside tokens while it runs: the rotation of each place, where it has one."""
    given: list[dict[str, Any]] = [{} for _ in blocks]
    hooks = [
        block.register_forward_pre_hook(lambda _, __, named, more=more: more.update(named), with_kwargs=True)
        for block, more in zip(blocks, given, strict=True)
    ]
    try:
        yield given
    finally:
        for hook in hooks:
            hook.remove()


def heads_of(block: nn.Module) -> tuple[int, int]:
    """How many heads a block's attention has, and their width."""
    attention = _attention(block)
    return attention.num_heads, attention.head_dim


def _attention(block: nn.Module) -> nn.Module:
    """The part of a block that attends. Raises `UserError` if that is not one."""
    attention = getattr(block, "attn", block)
    if not hasattr(attention, "num_heads"):
        kind = type(block).__name__
        raise UserError(f"encoder: its blocks ({kind}) attend several times side by side, this method needs one attention; choose another")
    return attention
