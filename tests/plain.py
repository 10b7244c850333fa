"""The baseline once more, for tests of methods that add to it, and what several of them need to compare with it."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from steps import CLASSES, gradients, in_parts, uneven_batch

from dsgc import methods, ptc
from dsgc.methods.base import Base
from dsgc.methods.contract import Mean


@dataclass(frozen=True)
class Plain(Base):
    """The baseline under another name, as any method that inherits from it."""

    name: ClassVar = "plain"


@dataclass(frozen=True)
class Contrasted(Base):
    """The baseline with the tags and the patch token contrast that ToCo and DuPL have."""

    TAGGED: ClassVar = ("patch_logits", "aux_logits")

    def losses(self, networks, seen, goals, part, stage, memory):
        found = super().losses(networks, seen, goals, part, stage, memory)
        if "ptc" in found:
            found["ptc"] = Mean(ptc.absolute_pull_and_push(seen.tokens, goals.patch_labels), ptc.pairs(goals.patch_labels))
        return found


def make_mirror_symmetric(network):
    """Weights under which a mirrored image gives mirrored tokens: patch projection and position embedding symmetric."""
    encoder = network.encoder
    with torch.no_grad():
        weight, side = encoder.patch_embed.proj.weight, encoder.patch_embed.grid_size[0]
        weight.copy_((weight + weight.flip(-1)) / 2)
        grid = encoder.pos_embed[:, 1:].view(1, side, side, -1)
        encoder.pos_embed[:, 1:] = ((grid + grid.flip(2)) / 2).reshape(1, side * side, -1)
    return network


def check_true_label(method, network, seen, goals, stage, tokens, part):
    """Whatever label stands in the goals, L_seg of tokens in the frame of the pass is the baseline's of that label."""
    true = torch.randint(0, CLASSES + 1, goals.labels.labels.shape, generator=torch.Generator().manual_seed(0))
    goals = goals._replace(labels=goals.labels._replace(labels=true))
    made = method.losses({"network": network}, seen, goals, part, stage, {})["seg"]
    assert torch.equal(made.value, method.segmentation(network, tokens.flip(-1), true).value)


def check_off_is_off(monkeypatch, pair, fixed, config, stage, parts=1):
    """Losses and gradients of a method in a stage are the baseline's to the bit."""
    monkeypatch.setattr(methods, "_registered", methods._registered | {"plain": Plain})
    batch = in_parts(uneven_batch(), parts)
    made, found = gradients(pair, batch, stage, config)
    plain, expected = gradients(pair, batch, stage if stage == "warm-up" else "expansion", fixed("plain"))
    assert made.losses.keys() == plain.losses.keys()
    assert all(torch.equal(made.losses[name], plain.losses[name]) for name in plain.losses)
    found = {name: value for name, value in found.items() if ".more." not in name or value.any()}  # heads of its own rest
    assert found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)


def moved(network, loss):
    """The parameters of a network, by name, that a loss has a gradient in that is not 0."""
    names, parameters = zip(*network.named_parameters(), strict=True)
    found = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    return {name for name, value in zip(names, found, strict=True) if value is not None and value.any()}


def reached(network, loss):
    """Which parts of a network those of `moved` are in: encoder, decoder, more, ..."""
    return {name.split(".")[0] for name in moved(network, loss)}
