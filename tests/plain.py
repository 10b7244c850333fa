"""The baseline once more, for tests of methods that add to it, and what they need to compare with it."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from steps import gradients, in_parts, uneven_batch

from dsgc import methods
from dsgc.methods.base import Base


@dataclass(frozen=True)
class Plain(Base):
    """The baseline under another name, as any method that inherits from it."""

    name: ClassVar = "plain"


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


def reached(network, loss):
    """Which parts of a network a loss has a gradient in, that is not 0: encoder, decoder, more, ..."""
    names, parameters = zip(*network.named_parameters(), strict=True)
    found = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    return {name.split(".")[0] for name, value in zip(names, found, strict=True) if value is not None and value.any()}
