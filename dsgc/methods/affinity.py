"""Affinity of tokens, read off the encoder's attention: how likely two of them show the same. What AFA and TSCD have in common.

A pair (i, j) is a cell of an N x N matrix, N = h w tokens of an image, row by row.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from dsgc.cam import IGNORE
from dsgc.errors import UserError
from dsgc.methods.contract import Mean
from dsgc.network.attention import heads_of
from dsgc.network.vit import Network, Output
from dsgc.settings import Settings, choice, published


@dataclass(frozen=True)
class AttentionAffinity(Settings):
    """The head that learns an affinity from attention, and its loss."""

    affinity_weight: float = published(0.1, "weight of the affinity's loss", "Ru et al. 2022, its code")
    affinity_radius: float = choice(
        0.29, "a pair counts up to this share of the grid's shorter side away, down or across: 8 of 28 tokens; they: 8, of 32"
    )
    affinity_blocks: tuple[int, ...] = published(
        (2, 1), "blocks whose attention is used, counted from the last one, which is 1", "Ru et al. 2022, its code"
    )
    affinity_scaled: bool = choice(
        True, "divide the products q k' by the square root of a head's width; they do not, but a plain encoder's products are larger"
    )

    POSITIVE: ClassVar[tuple[str, ...]] = ("affinity_blocks",)
    NOT_NEGATIVE: ClassVar[tuple[str, ...]] = ("affinity_weight",)
    SHARES: ClassVar[tuple[str, ...]] = ("affinity_radius",)

    SYMMETRIC: ClassVar[bool] = True  # whether a product and its mirror image are added: (i, j) and (j, i) are one

    def heads(self, network: Network, classes: int) -> dict[str, nn.Module]:
        """One number a head of the attention, and a bias; they begin small, so that at first no pair is likely or unlikely.

        Raises:
            UserError: the encoder has not that many blocks.
        """
        blocks = network.encoder.blocks
        if max(self.affinity_blocks) >= len(blocks):
            given = f"the encoder has {len(blocks)} blocks, and of the first one no attention is taken"
            raise UserError(f"affinity_blocks {self.affinity_blocks}: {given}")
        head = nn.Conv2d(sum(heads_of(blocks[-back])[0] for back in self.affinity_blocks), 1, 1)
        nn.init.trunc_normal_(head.weight, std=0.02)
        nn.init.zeros_(head.bias)
        return {"affinity": head}

    def with_affinity(self, network: Network, images: Tensor) -> tuple[Output, Tensor]:
        """Of images (B, 3, H, W) the output, and the affinity (B, N, N) of its tokens; both with a graph."""
        blocks = network.encoder.blocks
        output, products = network.with_attention(images, [len(blocks) + 1 - back for back in self.affinity_blocks])
        head, width = network.more["affinity"], heads_of(blocks[-1])[1]
        with torch.autocast(images.device.type, enabled=False):  # float32: the sum of many heads' products is to keep its digits
            weight = head.weight.flatten() / width**0.5 if self.affinity_scaled else head.weight.flatten()
            return output, affinity(products.float(), weight, head.bias, symmetric=self.SYMMETRIC)

    def near(self, size: Sequence[int], device: torch.device, radius: float | None = None) -> Tensor:
        """The pairs (N, N) of a grid h x w that lie within a share of its shorter side, that of the loss or another; at least one token."""
        share = self.affinity_radius if radius is None else radius
        return window(size, max(1, round(share * min(size))), device)


def affinity(products: Tensor, weight: Tensor, bias: Tensor, *, symmetric: bool) -> Tensor:
    """How likely two tokens are of one label: the sigmoid of a weighted sum of attention's products, and a bias.

    Args:
        products: q k' of each head (B, K, N, N).
        weight: (K,).
        bias: (1,).
        symmetric: add each head's products transposed first, so that both directions of a pair are alike.
    Returns:
        (B, N, N) in [0, 1].
    Source: Ru et al. 2022 (AFA), its code; Xu et al. 2023 (TSCD), its code, which does not make them alike.
    """
    summed = torch.einsum("bknm,k->bnm", products, weight)  # a sum of transposed maps is the transposed sum
    return torch.sigmoid((summed + summed.transpose(1, 2) if symmetric else summed) + bias)


def window(size: Sequence[int], radius: int, device: torch.device) -> Tensor:
    """Which pairs of a grid h x w lie at most `radius` apart, down and across: (N, N) bool.

    Source: Ru et al. 2022 (AFA), its code.
    """
    down, across = (torch.arange(side, device=device) for side in size)
    place = torch.cartesian_prod(down, across)  # (N, 2)
    return ((place[:, None] - place[None]).abs() <= radius).all(-1)


def pair_labels(labels: Tensor, near: Tensor) -> Tensor:
    """Which pairs are of one label, the background among them: 1 if they are, 0 if not, 255 if one has none or they lie too far apart.

    Args:
        labels: (B, h, w) int64, 0..254, or 255 for no label.
        near: (N, N) bool, pairs that count. A token makes a pair with itself.
    Returns:
        (B, N, N) uint8.
    Source: Ru et al. 2022 (AFA), its code.
    """
    flat = labels.flatten(1)
    known = flat != IGNORE
    counts = known[:, :, None] & known[:, None, :] & near
    return (flat[:, :, None] == flat[:, None, :]).to(torch.uint8).masked_fill(~counts, IGNORE)


def pair_means(affinity: Tensor, pairs: Tensor) -> Mean:
    """Half the mean of what like pairs lack of an affinity of 1, and half the mean of what unlike pairs have.

    Args:
        affinity: (B, N, N) in [0, 1].
        pairs: (B, N, N), of `pair_labels`.
    Returns:
        (2,) means, each in [0, 1/2], over as many pairs of either kind (they divide by one more); 0 with zero gradient where there is
        none.
    Source: Ru et al. 2022 (AFA), its code.
    """
    kinds = ((pairs == 1, 1 - affinity), (pairs == 0, affinity))
    count = torch.stack([chosen.sum() for chosen, _ in kinds])
    sums = torch.stack([torch.where(chosen, value, 0).sum() for chosen, value in kinds])
    return Mean(sums / count.clamp_min(1) / 2, count.double())


def mirrored(affinity: Tensor, size: Sequence[int]) -> Tensor:
    """The affinity (B, N, N) of the mirrored grid h x w, as that of the grid itself; and the other way round."""
    return affinity.unflatten(2, tuple(size)).flip(-1).flatten(2).unflatten(1, tuple(size)).flip(2).flatten(1, 2)


def transitions(affinity: Tensor, near: Tensor, power: float) -> Tensor:
    """Where a random walk over tokens goes: each column is what its token takes from those near it, a little less than 1 in all.

    Args:
        affinity: (B, N, N) in [0, 1].
        near: (N, N) bool, pairs that a step can join.
        power: of the affinity; above 1 it makes likely steps likelier.
    Returns:
        (B, N, N), not negative. A column of sum s has s / (s + 0.1), so that one without any affinity stays finite.
    Source: Ru et al. 2022 (AFA), its code.
    """
    steps = torch.where(near, affinity, 0).pow(power)
    return steps / (steps.sum(1, keepdim=True) + 0.1)


def walk(maps: Tensor, transitions: Tensor, rounds: int) -> Tensor:
    """Maps (B, K, h, w) after so many steps of a random walk with `transitions` (B, N, N); 0 rounds leave them as they are.

    Source: Ru et al. 2022 (AFA), its code.
    """
    found = maps.flatten(2)
    for _ in range(rounds):
        found = found @ transitions
    return found.view_as(maps)
