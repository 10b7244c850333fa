"""The training loop: schedule, forward, backward, step, EMA, log, evaluate, save."""

import copy
import math
from pathlib import Path
from typing import NamedTuple

import torch
from accelerate.utils import set_seed
from tqdm import tqdm

from dsgc import checkpoint, dskd, method, pictures
from dsgc.build import accelerator_of, build_network
from dsgc.config import Config
from dsgc.data.loading import Crops, EvalImages, train_batches
from dsgc.data.split import Split, open_split
from dsgc.errors import UserError
from dsgc.evaluate import evaluate
from dsgc.network import Network
from dsgc.objective import stage_at, stage_weights, total_loss
from dsgc.record import Log, refuse_used, run_folder, write_json


def learning_rate(step: int, config: Config) -> float:
    """The share of the base rate at a step: a linear rise, then half a cosine down to 0 at the last step."""
    ramp = min(1.0, (step + 1) / max(config.lr_ramp_steps, 1))
    return ramp * 0.5 * (1 + math.cos(math.pi * step / config.steps))


def optimiser(network: Network, rate: float, config: Config) -> torch.optim.AdamW:
    """AdamW with the encoder at the base rate and everything after it at `head_lr_factor` times that."""
    encoder = {id(parameter) for parameter in network.encoder.parameters()}
    groups = [
        {"params": [p for p in network.parameters() if id(p) in encoder], "base": rate},
        {"params": [p for p in network.parameters() if id(p) not in encoder], "base": rate * config.head_lr_factor},
    ]
    return torch.optim.AdamW(groups, lr=rate, weight_decay=config.weight_decay)


class Data(NamedTuple):
    train: Crops
    val: EvalImages
    folder: Split


def open_data(config: Config) -> Data:
    """Both splits: lists and annotations checked, validation images and masks read."""
    folder, held_out = open_split(config.data, config.train_split), open_split(config.data, config.val_split)
    crops = Crops(
        folder,
        size=config.crop_size,
        scale=config.crop_scale,
        ratio=config.crop_ratio,
        flip=config.random_flip,
        seed=config.seed,
        masks=config.supervision == "masks",
    )
    val = EvalImages(held_out)
    for index in range(len(val)):  # each image and mask is read once: a damaged one shows now, not after a night of training
        val[index]
    return Data(crops, val, folder)


def train(config: Config) -> Path:
    """Train as the config says and return the run folder: config.json, log.jsonl, metrics.json, checkpoints/, pictures/.

    Raises:
        UserError: a mistake in data, weights or configuration. Found before the first step, it leaves nothing behind.
    """
    refuse_used(config.out)  # before minutes are spent on reading the data
    data = open_data(config)
    accelerator = accelerator_of(config)
    if accelerator.num_processes > 1:
        raise UserError(f"{accelerator.num_processes} processes: training runs in one; start it without a launcher")
    set_seed(config.seed)
    device = accelerator.device
    teacher, report = build_network(config, len(data.folder.classes))
    teacher.to(device)
    two = config.distillation and config.supervision == "tags"
    student = copy.deepcopy(teacher) if two else None
    networks = {"teacher": teacher} | ({"student": student} if two else {})
    optimisers = {"teacher": optimiser(teacher, config.lr, config)}
    if two:
        optimisers["student"] = optimiser(student, config.student_lr, config)
    centre = torch.zeros(config.projector[2], device=device)

    with run_folder(config) as out, (out / "log.jsonl").open("w") as log_file, tqdm(total=config.steps, unit="step") as bar:
        for line in (f"{len(data.train)} training images from {data.folder.origin}", report):
            bar.write(line)
        log = Log(log_file, bar, config)
        batches = train_batches(
            data.train, batch=config.batch_size, seed=config.seed, start=0, stop=config.steps, workers=config.workers
        )
        for step, batch in enumerate(batches):
            images = batch.images.to(device, non_blocking=True).float() / 255  # (B, 3, S, S)
            stage = stage_at(step, 0 if config.supervision == "masks" else config.warmup_steps)
            weights = loss_weights(stage, config)

            with accelerator.autocast():
                if config.supervision == "masks":
                    result = method.mask_losses(teacher, images, batch.masks.to(device), config)
                else:
                    tags = batch.tags.to(device, non_blocking=True)  # (B, C)
                    result = method.step_losses(teacher, student, images, tags, stage, weights, centre, config)
            loss = total_loss(result.losses, weights)
            loss.backward()
            rate = learning_rate(step, config)
            trained = networks if stage == "warm-up" else {"teacher": teacher}
            for name, network in trained.items():
                if config.gradient_clip:
                    torch.nn.utils.clip_grad_norm_(network.parameters(), config.gradient_clip)
                for group in optimisers[name].param_groups:
                    group["lr"] = group["base"] * rate
                optimisers[name].step()
                optimisers[name].zero_grad(set_to_none=True)

            momentum = 0.0
            if two and stage == "expansion":
                progress = (step - config.warmup_steps) / max(config.steps - config.warmup_steps, 1)
                momentum = dskd.momentum_at(progress, config.ema_momentum)
                dskd.ema_update(student, teacher, momentum)
                if result.projected is not None and config.centre_momentum < 1:
                    dskd.centre_update(centre, result.projected, config.centre_momentum)
            facts = {"lr": config.lr * rate, "momentum": momentum}
            log.step(step, stage, {"all": loss} | result.losses, method.monitors(result, centre, config), facts)

            done = step + 1
            if config.eval_every and done % config.eval_every == 0 and done < config.steps:
                log.scores(done, evaluate(networks, data.val, config, device, config.eval_images))
            if done % config.checkpoint_every == 0 or done == config.steps:
                checkpoint.save(out / "checkpoints", networks, config, data.folder.classes, done)

        scores = evaluate(networks, data.val, config, device)
        log.scores(config.steps, scores)
        write_json(out / "metrics.json", scores)
        pictures.write(out / "pictures", networks, data.val, config, device)
    return out


def loss_weights(stage: str, config: Config) -> dict[str, float]:
    """The losses of a stage under this config, each with its weight."""
    if config.supervision == "masks":
        return {"seg": 1.0}
    distil = config.distillation
    return stage_weights(
        stage,
        config.lambda1,
        config.lambda2 if distil else 0.0,
        config.lambda3 if distil else 0.0,
        config.lambda4,
        similarity_after_warmup=config.similarity_after_warmup,
    )
