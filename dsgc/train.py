"""The training loop: schedule, forward, backward, step, EMA, log, evaluate, save."""

import copy
import dataclasses
import json
import math
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import Tensor
from tqdm import tqdm

from dsgc import checkpoint, dskd, method, pictures
from dsgc.config import Config
from dsgc.data.loading import Crops, EvalImages, train_batches
from dsgc.data.voc import Folder, open_split
from dsgc.errors import UserError
from dsgc.evaluate import evaluate
from dsgc.network import Network, create_encoder
from dsgc.objective import stage_at, stage_weights, total_loss


def build_network(config: Config, num_classes: int) -> tuple[Network, str]:
    """A network as the config describes it, its encoder filled with the weights it names; and a line that reports them."""
    encoder = create_encoder(config.encoder, config.crop_size, pretrained=config.weights == "hub")
    if config.crop_size % encoder.patch_embed.patch_size[0]:
        raise UserError(
            f"crop_size {config.crop_size}: must be a multiple of {config.encoder}'s patch, {encoder.patch_embed.patch_size[0]}"
        )
    report = checkpoint.start_encoder(encoder, config)
    network = Network(
        encoder,
        num_classes,
        aux_block=config.aux_block,
        decoder_channels=config.decoder_channels,
        decoder_dilation=config.decoder_dilation,
        projector=config.projector,
        pool=config.tag_pool,
    )
    return network, report


def load_networks(run: Path) -> tuple[dict[str, Network], checkpoint.Checkpoint]:
    """The networks of a run's newest checkpoint, in evaluation mode."""
    saved = checkpoint.load(run)
    networks = {}
    for name, state in saved.states.items():
        network, _ = build_network(dataclasses.replace(saved.config, weights="none"), len(saved.classes))
        try:
            network.load_state_dict(state)
        except RuntimeError as error:
            raise UserError(f"{run}: {name} does not fit the network that about.json describes ({error})") from error
        networks[name] = network.eval()
    return networks, saved


def score_run(run: Path, data: str | None = None, split: str | None = None) -> dict:
    """Scores of a run's newest checkpoint, on its own validation split or on the data and split given."""
    networks, saved = load_networks(run)
    folder = open_split(data or saved.config.data, split or saved.config.val_split)
    if folder.classes != saved.classes:
        raise UserError(f"{folder.root}: its classes are not those that {run} was trained on ({', '.join(saved.classes)})")
    device = Accelerator(cpu=saved.config.device == "cpu").device
    for network in networks.values():
        network.to(device)
    return evaluate(networks, EvalImages(folder), saved.config, device)


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
    folder: Folder


def open_data(config: Config) -> Data:
    """Both splits, their lists and annotations checked."""
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
    return Data(crops, EvalImages(held_out), folder)


def train(config: Config) -> Path:
    """Train as the config says and return the run folder: config.json, log.jsonl, metrics.json, checkpoints/, pictures/.

    Raises:
        UserError: a mistake in data, weights or configuration. Found before the first step, it leaves nothing behind.
    """
    data = open_data(config)
    accelerator = Accelerator(cpu=config.device == "cpu", mixed_precision=config.precision)
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
            trained = networks if stage == "warm-up" else {"teacher": teacher}
            for name, network in trained.items():
                if config.gradient_clip:
                    torch.nn.utils.clip_grad_norm_(network.parameters(), config.gradient_clip)
                for group in optimisers[name].param_groups:
                    group["lr"] = group["base"] * learning_rate(step, config)
                optimisers[name].step()
                optimisers[name].zero_grad(set_to_none=True)

            momentum = 0.0
            if two and stage == "expansion":
                progress = (step - config.warmup_steps) / max(config.steps - config.warmup_steps, 1)
                momentum = dskd.momentum_at(progress, config.ema_momentum)
                dskd.ema_update(student, teacher, momentum)
                if result.projected is not None and config.centre_momentum < 1:
                    dskd.centre_update(centre, result.projected, config.centre_momentum)
            log.step(step, stage, result, loss, weights, momentum)

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


@contextmanager
def run_folder(config: Config) -> Iterator[Path]:
    """A new run folder with the resolved config in it; taken away again if a mistake ends the run before a checkpoint."""
    out = Path(config.out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out}: already there and not an empty folder; choose another with --out or delete it first")
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_json(out / "config.json", dataclasses.asdict(config))
    except OSError as error:
        raise UserError(f"{out}: cannot write here ({error.strerror}); choose another folder with --out") from error
    try:
        yield out
    except UserError:
        if not (out / "checkpoints").exists():
            shutil.rmtree(out)
        raise


def write_json(path: Path, value: object) -> None:
    """Write a JSON file whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(value, indent=1) + "\n")
    partial.replace(path)


class Log:
    """The JSON-lines log and the progress bar. Losses wait on the device until a line is due, so no step waits for them."""

    def __init__(self, file, bar: tqdm, config: Config):
        self.file, self.bar, self.config = file, bar, config
        self.waiting: list[dict[str, Tensor]] = []
        self.started = time.perf_counter()

    def step(
        self, step: int, stage: str, result: method.StepResult, loss: Tensor, weights: dict[str, float], momentum: float
    ) -> None:
        """Note one step; every `log_every` steps, and at a change of stage, write the means since the last line."""
        values = {"all": loss.detach()} | {name: value.detach() for name, value in result.losses.items()}
        if result.labels is not None:
            before, after = result.labels.initial, result.labels.corrected
            values["labelled"] = (after != 255).float().mean()
            values["corrected"] = (after != before).float().mean()
        if result.projected is not None:
            mean = (result.projected.float() / self.config.student_temperature).softmax(1).mean((0, 2, 3))  # (K,)
            values["projection_entropy"] = torch.special.entr(mean).sum()
        self.waiting.append(values)
        self.bar.update()
        if (step + 1) % self.config.log_every and step + 1 not in (self.config.steps, self.config.warmup_steps):
            return
        means = {key: float(torch.stack([v[key] for v in self.waiting]).mean()) for key in values}
        now = time.perf_counter()
        rate = len(self.waiting) * self.config.batch_size / (now - self.started)
        shown = {name: f"{means[name]:.3f}" for name in ("all", *weights)}
        self.bar.set_postfix({"stage": stage, "images/s": f"{rate:.0f}"} | shown)
        self._write(
            {
                "step": step + 1,
                "stage": stage,
                "losses": {name: means.pop(name) for name in ("all", *weights)},
                "lr": self.config.lr * learning_rate(step, self.config),
                "momentum": momentum,
                "images_per_second": round(rate, 2),
            }
            | means
        )
        self.waiting, self.started = [], now

    def scores(self, step: int, scores: dict) -> None:
        """Write an evaluation."""
        self._write({"step": step, "scores": scores})
        self.bar.write(f"step {step}: " + summary_line(scores))
        self.started = time.perf_counter()

    def _write(self, line: dict) -> None:
        self.file.write(json.dumps(line) + "\n")
        self.file.flush()


def summary_line(scores: dict) -> str:
    """The mIoU of every score of every network, in per cent, on one line."""
    parts = []
    for name in ("teacher", "student"):
        if name in scores:
            values = {key: value["miou"] for key, value in scores[name].items()}
            parts.append(f"{name} " + " ".join(f"{key} {'-' if v is None else f'{100 * v:.1f}'}" for key, v in values.items()))
    return f"mIoU % on {scores['images']} images: " + "; ".join(parts)
