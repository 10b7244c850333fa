"""What training changes, networks, optimisers and the method's memory, and one step of it: gradients, weights, what follows."""

import copy
import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from accelerate import Accelerator
from torch import Tensor

from dsgc.config import Config
from dsgc.data.loading import TrainBatch
from dsgc.data.split import Split
from dsgc.errors import UserError
from dsgc.methods.contract import Part, Stage
from dsgc.network.build import build_network
from dsgc.network.encoder import compile_blocks
from dsgc.network.kept import Kept
from dsgc.network.vit import Network
from dsgc.runs import checkpoint, parallel, state
from dsgc.runs.restore import load_weights
from dsgc.training.step import Step, backward


class Learner(NamedTuple):
    """What training changes."""

    networks: dict[str, Network]
    optimisers: dict[str, torch.optim.AdamW]
    memory: dict[str, Tensor]  # what the method remembers


def begin(config: Config, classes: int, device: torch.device) -> tuple[Learner, str]:
    """The learner before the first step, the same in every process, and what is to be said of its weights."""
    first, report = build_network(config, classes)
    first.encoder.set_grad_checkpointing(config.recompute)
    first.to(device)
    parallel.same_everywhere(first)
    name, *others = config.method.networks
    networks = {name: first} | {other: copy.deepcopy(first) for other in others}
    for other in config.method.heads_anew:
        networks[other] = _with_other_heads(first, config, classes).to(device)
    if config.compile:
        for network in networks.values():
            compile_blocks(network.encoder)
    rates = config.method.rates(config.lr)
    optimisers = {name: optimiser(network, rates[name], config) for name, network in networks.items()}
    return Learner(networks, optimisers, config.method.memory(networks)), report


def _with_other_heads(network: Network, config: Config, classes: int) -> Network:
    """A network with the same encoder, and with heads that are drawn anew; the same in every process."""
    found, _ = build_network(dataclasses.replace(config, weights="none"), classes)
    found.encoder.load_state_dict(network.encoder.state_dict())
    found.encoder.set_grad_checkpointing(config.recompute)
    parallel.same_everywhere(found)
    return found


def keep_frozen(learner: Learner, config: Config, images: int) -> None:
    """Let networks keep what frozen blocks make of the fixed views of so many pictures. Raises `UserError` if the disk is too small."""
    if not config.frozen_views:
        return
    crops = images * config.frozen_views * 2 * (2 if config.method.second_crop else 1)  # each also mirrored
    places = {"frozen": config.frozen_blocks, "middle": config.aux_block, "side": config.crop_size}
    first, *others = learner.networks.values()
    first.kept = Kept(Path(config.out), first.encoder, images=crops, **places)
    for other in others:
        other.kept = first.kept  # all began with the same encoder, and its frozen blocks stay what they are


def go_on(learner: Learner, saved: checkpoint.Checkpoint, config: Config, images: Split) -> None:
    """Put a checkpoint into the learner. Raises `UserError` if it is of other images, classes or networks, or damaged."""
    run = config.out
    if saved.classes != images.classes:
        raise UserError(f"{images.origin}: its classes are not those of {run}; resume on the data that it began with")
    if saved.images != checkpoint.images_of(images):
        raise UserError(f"{images.origin}: its images are not those of {run}; resume on the data that it began with")
    if saved.step > config.steps:
        raise UserError(f"{run}: its checkpoint is of step {saved.step} of {config.steps}; take it and config.json from one run")
    load_weights(learner.networks, saved, Path(run))
    try:
        state.restore(saved.state, *learner)
    except UserError as error:
        raise UserError(f"{run}: {error}; delete its checkpoint of step {saved.step} to go on from the one before it") from error


def learning_rate(step: int, config: Config) -> float:
    """The share of the base rate at a step: a linear rise, then half a cosine down to 0 at the last step."""
    ramp = min(1.0, (step + 1) / max(config.lr_ramp_steps, 1))
    return ramp * 0.5 * (1 + math.cos(math.pi * step / config.steps))


def optimiser(network: Network, rate: float, config: Config) -> torch.optim.AdamW:
    """AdamW with the encoder at the base rate and everything after it at `head_lr_factor` times that; what is frozen is in neither."""
    encoder = {id(parameter) for parameter in network.encoder.parameters()}
    learning = [p for p in network.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in learning if id(p) in encoder], "base_rate": rate},
        {"params": [p for p in learning if id(p) not in encoder], "base_rate": rate * config.head_lr_factor},
    ]
    fused = True if learning and learning[0].is_cuda else None  # one kernel for all; on a CPU torch's own choice stays
    return torch.optim.AdamW(groups, lr=rate, weight_decay=config.weight_decay, fused=fused)


def parts_of(batch: TrainBatch, size: int, device: torch.device) -> list[Part]:
    """A process's share of a batch on the device, in parts of `size` images."""
    images = batch.images.to(device, non_blocking=True)
    tags = batch.tags.to(device, non_blocking=True)
    masks = None if batch.masks is None else batch.masks.to(device, non_blocking=True)
    second = None if batch.second is None else batch.second.to(device, non_blocking=True)
    rows = [slice(first, first + size) for first in range(0, len(images), size)]
    return [
        Part(
            images[row].float() / 255,
            tags[row],
            batch.seeds[row],
            None if masks is None else masks[row],
            None if second is None else second[row].float() / 255,
        )
        for row in rows
    ]


def advance(
    learner: Learner, parts: Sequence[Part], step: int, config: Config, accelerator: Accelerator
) -> tuple[Step, Stage, dict[str, float], bool]:
    """One step of training: gradients, weights, what follows. Returns losses, stage, facts for the log, and whether it counts.

    Where a loss or a gradient is not finite the step is skipped: weights, optimisers and memory stay as they are.
    """
    networks, optimisers, memory = learner
    method, stage = config.method, config.method.stage(step, config.steps)
    made = backward(method, networks, parts, stage, memory, accelerator)
    rate, largest = learning_rate(step, config), config.gradient_clip or math.inf
    norms = [torch.nn.utils.clip_grad_norm_(networks[name].parameters(), largest) for name in stage.learning]
    sound = bool(torch.stack([made.losses["all"], *norms]).isfinite().all())
    for name in stage.learning:
        for group in optimisers[name].param_groups:
            group["lr"] = group["base_rate"] * rate
        if sound:
            optimisers[name].step()
        optimisers[name].zero_grad(set_to_none=True)
    facts = method.follow(networks, made.watched, memory, step, config.steps, sound=sound)
    return made, stage, {"lr": config.lr * rate} | facts, sound


def not_finite(losses: Mapping[str, Tensor]) -> str:
    """Which losses are not, in words; the gradient if all are."""
    names = [name for name, value in losses.items() if name != "all" and not value.isfinite()]
    if not names:
        return "the gradient was"
    return f"the loss {names[0]} was" if len(names) == 1 else f"the losses {', '.join(names)} were"
