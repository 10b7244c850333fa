"""The training loop: schedule, forward, backward, step, EMA, log, evaluate, save."""

import contextlib
import copy
import dataclasses
import math
import signal
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import Tensor
from tqdm import tqdm

from dsgc import checkpoint, dskd, parallel, pictures, state
from dsgc.build import accelerator_of, build_network, load_weights
from dsgc.config import Config
from dsgc.data.loading import Crops, EvalImages, TrainBatch, train_batches
from dsgc.data.split import Split, open_split
from dsgc.errors import Stopped, UserError, resuming
from dsgc.evaluate import evaluate
from dsgc.network import Network
from dsgc.objective import stage_at, stage_weights
from dsgc.record import Log, read_config, refuse_used, run_folder, write_json
from dsgc.step import Part, Step, backward
from dsgc.stopping import Signals

PATIENCE = 10  # steps in a row without a finite loss, after which a run ends


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
    """Both splits: lists and annotations checked; the validation images that training looks at, and their masks, read."""
    folder, held_out = open_split(config.data, config.train_split), open_split(config.data, config.val_split)
    if folder.classes != held_out.classes:
        raise UserError(f"{held_out.origin}: its classes are not those of {folder.origin}; take both from one data set")
    both = sorted(set(folder.ids) & set(held_out.ids))
    if both:
        raise UserError(
            f"{held_out.origin}: {len(both)} of its images are trained on too, the first is {both[0]}, so its score would say "
            f"nothing; take them off this list or off {folder.origin}"
        )
    crops = Crops(
        folder,
        size=config.crop_size,
        scale=config.crop_scale,
        ratio=config.crop_ratio,
        flip=config.random_flip,
        seed=config.seed,
        masks=config.supervision == "masks",
    )
    if len(crops) < config.batch_size:
        raise UserError(f"{folder.origin}: {len(crops)} images, fewer than batch_size {config.batch_size}; choose a smaller batch")
    val = EvalImages(held_out)
    for index in range(min(config.eval_images or len(val), len(val))):  # a damaged one shows now, not after a night of training
        val[index]
    return Data(crops, val, folder)


def train(config: Config) -> Path:
    """Train as the config says and return the run folder: config.json, log.jsonl, metrics.json, checkpoints/, pictures/.

    Raises:
        UserError: a mistake in data, weights or configuration. Found before the first step, it leaves nothing behind; found
            later, or where training diverges, it leaves a run that can go on.
        Stopped: Ctrl-C or SIGTERM came; the step was finished, and `resume` goes on after it.
    """
    refuse_used(config.out)  # before minutes are spent on reading the data
    return _run(config, None)


def resume(run: Path, **changes: Any) -> Path:
    """Go on with a run that was stopped, from its newest sound checkpoint or from the start; it ends as if it had not been.

    changes: data, workers, accumulate, device, for another machine.
    Raises:
        UserError: no run there, or data, weights or processes that do not fit it. The run is left as it was.
    """
    config = dataclasses.replace(read_config(run), out=str(run), **changes)
    if (Path(run) / "metrics.json").is_file():
        raise UserError(f"{run}: this run has ended; `python -m dsgc evaluate {run}` scores it, `train` starts another")
    return _run(config, checkpoint.load(run, say=tqdm.write) if checkpoint.checkpoints(run) else None)


def _run(config: Config, saved: checkpoint.Checkpoint | None) -> Path:
    accelerator = accelerator_of(config)
    with accelerator.main_process_first():  # it may write a cache that the others read
        data = open_data(config)
    device, main, share = accelerator.device, accelerator.is_main_process, parallel.rank_and_size()
    size = parallel.part_size(config.batch_size, share[1], config.accumulate)
    set_seed(config.seed)
    began = config if saved is None else dataclasses.replace(config, weights="none")  # those that it goes on with are the checkpoint's
    teacher, report = build_network(began, len(data.folder.classes))
    teacher.encoder.set_grad_checkpointing(config.recompute)
    teacher.to(device)
    parallel.same_everywhere(teacher)
    two = config.distillation and config.supervision == "tags"
    networks = {"teacher": teacher} | ({"student": copy.deepcopy(teacher)} if two else {})
    rates = {"teacher": config.lr, "student": config.student_lr}
    optimisers = {name: optimiser(network, rates[name], config) for name, network in networks.items()}
    centre, start = torch.zeros(config.projector[2], device=device), 0
    if saved is not None:
        if saved.classes != data.folder.classes:
            raise UserError(f"{data.folder.origin}: its classes are not those of {config.out}; resume on the data that it began with")
        if saved.images != checkpoint.images_of(data.folder):
            raise UserError(f"{data.folder.origin}: its images are not those of {config.out}; resume on the data that it began with")
        if saved.step > config.steps:
            raise UserError(f"{config.out}: its checkpoint is of step {saved.step} of {config.steps}; take it and config.json from one run")
        start, report = saved.step, f"going on after step {saved.step}"
        load_weights(networks, saved, Path(config.out))
        try:
            state.restore(saved.state, networks, optimisers, centre)
        except UserError as error:
            raise UserError(f"{config.out}: {error}; delete its checkpoint of step {start} to go on from the one before it") from error

    with run_folder(config, main) as out, Log(out / "log.jsonl", config, start, main) as log, Signals(device) as signals:
        for line in (f"{len(data.train)} training images from {data.folder.origin}", report):
            log.say(line)
        done = kept = start  # steps that are done, and those of them that a checkpoint has
        skipped = 0  # in a row

        def save() -> None:
            nonlocal kept
            kept = done  # whatever comes of it: a second attempt would fail alike
            if main:
                found = state.gather(networks, optimisers, centre)
                checkpoint.save(out / "checkpoints", networks, found, config, data.folder, done)

        @contextlib.contextmanager
        def reading() -> Iterator[None]:
            """Where images are read; one may be gone by now, or the processes that load them."""
            try:
                yield
            except UserError as error:
                raise UserError(f"{error}; {done} steps are kept, {resuming(out)} goes on" if done else str(error)) from error

        def score(images: int) -> dict:
            with reading(), signals.at_once():
                return evaluate(networks, data.val, config, device, images)

        try:
            if start and scored_during(start, config) and not log.has_scores(start):
                log.scores(start, score(config.eval_images))  # the run ended between the checkpoint and the evaluation after it
            batches = train_batches(
                data.train, batch=config.batch_size, seed=config.seed, start=start, stop=config.steps, workers=config.workers,
                share=share,
            )  # fmt: skip
            for step in range(start, config.steps):
                with reading():
                    batch = next(batches)
                parts = parts_of(batch, size, device)
                made, stage, facts, sound = advance(networks, optimisers, centre, parts, step, config, accelerator)
                done, skipped = step + 1, 0 if sound else skipped + 1
                asked = signals.received()
                log.step(step, stage, made.losses, made.monitors, facts, sound=sound, last=bool(asked))
                if not sound:
                    log.say(f"step {done} skipped, number {skipped} in a row: {not_finite(made.losses)} not finite")
                if skipped == PATIENCE:
                    raise UserError(
                        f"{out}: {not_finite(made.losses)} not finite in {skipped} steps in a row, {step + 2 - skipped} to {done}, which "
                        "changed no weight; train again with a smaller --lr, or weights and images that are not at fault"
                    )
                if asked or done % config.checkpoint_every == 0 or done == config.steps:
                    save()
                if asked:
                    raise Stopped(asked)
                if scored_during(done, config):
                    log.scores(done, score(config.eval_images))

            scores = score(0)
            if not log.has_scores(config.steps):  # it has where the run was killed while it drew the pictures
                log.scores(config.steps, scores)
            if main:
                with reading(), signals.at_once():
                    pictures.write(out / "pictures", networks, data.val, config, device)
                write_json(out / "metrics.json", scores)  # the last thing written: a run that has it has ended
        except (UserError, Stopped) as error:
            if done > kept:
                save()
            if isinstance(error, Stopped):
                name = signal.Signals(error.number).name
                raise Stopped(error.number, f"{out}: {name} after {done} of {config.steps} steps; {resuming(out)} goes on") from None
            raise
    accelerator.wait_for_everyone()
    return out


def advance(
    networks: Mapping[str, Network],
    optimisers: Mapping[str, torch.optim.Optimizer],
    centre: Tensor,
    parts: Sequence[Part],
    step: int,
    config: Config,
    accelerator: Accelerator,
) -> tuple[Step, str, dict[str, float], bool]:
    """One step of training: gradients, weights, student, centre. Returns the losses, the stage, rate and momentum, whether it counts.

    Where a loss or a gradient is not finite the step is skipped: weights, optimisers and centre stay as they are.
    """
    teacher, student = networks["teacher"], networks.get("student")
    stage = stage_at(step, 0 if config.supervision == "masks" else config.warmup_steps)
    made = backward(teacher, student, parts, stage, loss_weights(stage, config), centre, config, accelerator)
    rate = learning_rate(step, config)
    trained = networks if stage == "warm-up" else {"teacher": teacher}
    largest = config.gradient_clip or math.inf
    norms = [torch.nn.utils.clip_grad_norm_(network.parameters(), largest) for network in trained.values()]
    sound = bool(torch.stack([made.losses["all"], *norms]).isfinite().all())
    for name in trained:
        for group in optimisers[name].param_groups:
            group["lr"] = group["base"] * rate
        if sound:
            optimisers[name].step()
        optimisers[name].zero_grad(set_to_none=True)

    momentum = 0.0
    if student is not None and stage == "expansion":
        progress = (step - config.warmup_steps) / max(config.steps - config.warmup_steps, 1)
        momentum = dskd.momentum_at(progress, config.ema_momentum)
        if sound:
            dskd.ema_update(student, teacher, momentum)
        if sound and made.projected is not None and config.centre_momentum < 1:
            dskd.centre_update(centre, made.projected, config.centre_momentum)
    return made, stage, {"lr": config.lr * rate, "momentum": momentum}, sound


def not_finite(losses: Mapping[str, Tensor]) -> str:
    """Which losses are not, in words; the gradient if all are."""
    names = [name for name, value in losses.items() if name != "all" and not value.isfinite()]
    return f"the loss {' and '.join(names)} was" if names else "the gradient was"


def scored_during(done: int, config: Config) -> bool:
    """Whether an evaluation follows after so many steps, the one at the end left aside."""
    return bool(config.eval_every) and done % config.eval_every == 0 and done < config.steps


def parts_of(batch: TrainBatch, size: int, device: torch.device) -> list[Part]:
    """A process's share of a batch on the device, in parts of `size` images."""
    images = batch.images.to(device, non_blocking=True)
    tags = batch.tags.to(device, non_blocking=True)
    masks = None if batch.masks is None else batch.masks.to(device, non_blocking=True)
    rows = [slice(first, first + size) for first in range(0, len(images), size)]
    return [Part(images[row].float() / 255, tags[row], None if masks is None else masks[row]) for row in rows]


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
