"""The training loop: a batch, a step, log, evaluate, save; until the last step, a fault, or a signal that asks to stop."""

import contextlib
import dataclasses
import filecmp
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from accelerate.utils import set_seed

from dsgc import checkpoint, parallel, pictures, state
from dsgc.build import accelerator_of
from dsgc.config import Config
from dsgc.data import agreement
from dsgc.data.loading import Crops, EvalImages, train_batches
from dsgc.data.split import Split, open_split
from dsgc.errors import Stopped, UserError, out_of_memory, resuming
from dsgc.evaluate import evaluate
from dsgc.learner import advance, begin, go_on, not_finite, parts_of
from dsgc.record import Log, read_config, refuse_used, run_folder, say, write_json
from dsgc.stopping import Signals

PATIENCE = 10  # steps in a row without a finite loss, after which a run ends


class Data(NamedTuple):
    train: Crops
    val: EvalImages
    folder: Split


def open_data(config: Config) -> Data:
    """Both splits: lists and annotations checked; the validation images that training looks at, and their masks, read.

    Raises:
        UserError: what training needs is missing or damaged, a picture is in both splits, or masks do not say what tags say.
    """
    folder, held_out = open_split(config.data, config.train_split), open_split(config.data, config.val_split)
    if folder.classes != held_out.classes:
        raise UserError(f"{held_out.origin}: its classes are not those of {folder.origin}; take both from one data set")
    both = [name for name in sorted({*folder.ids} & {*held_out.ids}) if filecmp.cmp(folder.file(name), held_out.file(name), shallow=False)]
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
    agreement.check(held_out, val.tags)
    if crops.masks:
        agreement.check(folder, crops.tags)
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
    return _run(config, checkpoint.load(run, say=say) if checkpoint.checkpoints(run) else None)


def _run(config: Config, saved: checkpoint.Checkpoint | None) -> Path:
    accelerator = accelerator_of(config)
    with accelerator.main_process_first():  # it may write a cache that the others read
        data = open_data(config)
    device, main, share = accelerator.device, accelerator.is_main_process, parallel.rank_and_size()
    size = parallel.part_size(config.batch_size, share[1], config.accumulate)
    set_seed(config.seed)
    fresh = config if saved is None else dataclasses.replace(config, weights="none")  # the checkpoint has its own
    learner, report = begin(fresh, len(data.folder.classes), device)
    networks, start = learner.networks, 0
    if saved is not None:
        go_on(learner, saved, config, data.folder)
        start, report = saved.step, f"going on after step {saved.step}"

    with run_folder(config, main) as out, Log(out / "log.jsonl", config, start, main) as log, Signals(device) as signals:
        masks = f", masks of {data.folder.truth}" if config.supervision == "masks" else ""
        for line in (f"{len(data.train)} training images from {data.folder.origin}{masks}", *data.folder.notes, report):
            log.say(line)
        done = kept = start  # steps that are done, and those of them that a checkpoint has
        skipped = 0  # in a row

        def save() -> None:
            nonlocal kept
            kept = done  # whatever comes of it: a second attempt would fail alike
            if main:
                checkpoint.save(out / "checkpoints", networks, state.gather(*learner), config, data.folder, done)

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
                try:
                    made, stage, facts, sound = advance(learner, parts, step, config, accelerator)
                except (MemoryError, RuntimeError) as error:
                    if not out_of_memory(error):
                        raise
                    kept = done  # what is there may be half a step
                    raise UserError(
                        f"{out}: no memory left on {device} in step {done + 1}; a larger --accumulate or --recompute True needs less"
                    ) from error
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


def scored_during(done: int, config: Config) -> bool:
    """Whether an evaluation follows after so many steps, the one at the end left aside."""
    return bool(config.eval_every) and done % config.eval_every == 0 and done < config.steps
