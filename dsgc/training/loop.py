"""The training loop: a batch, a step, log, save, score; until the last step, a fault, or a signal that asks to stop."""

import dataclasses
from pathlib import Path
from typing import Any

from accelerate.utils import set_seed

from dsgc.config import Config
from dsgc.data.loading import train_batches
from dsgc.errors import Stopped, UserError
from dsgc.runs import checkpoint, parallel, state
from dsgc.runs.parallel import accelerator_of
from dsgc.runs.record import Log, read_config, refuse_used, run_folder, say, write_json
from dsgc.scoring import pictures
from dsgc.scoring.evaluate import evaluate
from dsgc.training.faults import Progress
from dsgc.training.learner import advance, begin, go_on, keep_frozen, parts_of
from dsgc.training.splits import open_data
from dsgc.training.stopping import Signals


def train(config: Config) -> Path:
    """Train as the config says and return the run folder: config.json, log.jsonl, metrics.json, checkpoints/, pictures/.

    Raises:
        UserError: a mistake in data, weights or configuration. Found before the first step, it leaves nothing behind; found
            later, or where training diverges, it leaves a run that can go on.
        Stopped: Ctrl-C or SIGTERM came; the step was finished, and `resume` goes on after it.
    """
    refuse_used(config.out)  # before minutes are spent on reading the data
    return _run(config, None)


def train_until(config: Config, step: int) -> Path:
    """The first steps of a run, and a checkpoint of them; `resume` goes on, here or in a copy that has other numbers from there on.

    Raises: as `train`.
    """
    refuse_used(config.out)
    return _run(config, None, step)


def resume(run: Path, **changes: Any) -> Path:
    """Go on with a run that was stopped, from its newest sound checkpoint or from the start; it ends as if it had not been.

    changes: data, tags, masks, workers, accumulate, device, for another machine.
    Raises:
        UserError: no run there, or data, weights or processes that do not fit it. The run is left as it was.
    """
    config = dataclasses.replace(read_config(run), out=str(run), **changes)
    if (Path(run) / "metrics.json").is_file():
        raise UserError(f"{run}: this run has ended; `python -m dsgc evaluate {run}` scores it, `train` starts another")
    return _run(config, checkpoint.load(run, say=say) if checkpoint.checkpoints(run) else None)


def _run(config: Config, saved: checkpoint.Checkpoint | None, stop: int | None = None) -> Path:
    """Of a run, all that a checkpoint does not have; or up to the step `stop`, and then there are no scores."""
    accelerator, stop = accelerator_of(config), config.steps if stop is None else stop
    with accelerator.main_process_first():  # it may write a cache that the others read
        data = open_data(config)
    device, main, share = accelerator.device, accelerator.is_main_process, parallel.rank_and_size()
    size = parallel.part_size(config.batch_size, share[1], config.accumulate)
    set_seed(config.seed)
    fresh = config if saved is None else dataclasses.replace(config, weights="none")  # the checkpoint has its own
    learner, report = begin(fresh, len(data.folder.classes), device)
    start = 0
    if saved is not None:
        go_on(learner, saved, config, data.folder)
        start, report = saved.step, f"going on after step {saved.step}"

    def write_checkpoint(done: int) -> None:
        if main:
            checkpoint.save(out / "checkpoints", learner.networks, state.gather(*learner), config, data.folder, done)

    def score(images: int) -> dict:
        with progress.reading(), signals.at_once():
            return evaluate(learner.networks, data.val, config, device, images)

    with (
        run_folder(config, main) as out,
        Log(out / "log.jsonl", config, start, main) as log,
        Signals(device) as signals,
        Progress(out, start, config.steps, write_checkpoint) as progress,
    ):
        masks = f", masks of {data.folder.truth}" if config.method.from_masks else ""
        keep_frozen(learner, config, len(data.train))
        for line in (f"{len(data.train)} training images from {data.folder.origin}{masks}", *data.folder.notes, report):
            log.say(line)
        if start and scored_during(start, config) and not log.has_scores(start):
            log.scores(start, score(config.eval_images))  # the run ended between the checkpoint and the evaluation after it
        batches = train_batches(
            data.train, batch=config.batch_size, seed=config.seed, start=start, stop=stop, workers=config.workers, share=share
        )

        for step in range(start, stop):
            with progress.reading():
                parts = parts_of(next(batches), size, device)  # of `size` images (b, 3, S, S), their tags (b, C)
            with progress.stepping(device):
                made, stage, facts, sound = advance(learner, parts, step, config, accelerator)
            asked = signals.received()  # to stop; the same in every process
            log.step(step, stage.name, made.losses, made.watched, facts, sound=sound, last=bool(asked) or step + 1 == stop)
            progress.count(made, sound, log.say)
            if asked or progress.done % config.checkpoint_every == 0 or progress.done == stop:
                progress.save()
            if asked:
                raise Stopped(asked)
            if scored_during(progress.done, config):
                log.scores(progress.done, score(config.eval_images))

        if stop < config.steps:
            return out
        scores = score(0)
        if not log.has_scores(config.steps):  # it has where the run was killed while it drew the pictures
            log.scores(config.steps, scores)
        if main:
            with progress.reading(), signals.at_once():
                pictures.write(out / "pictures", learner.networks, data.val, config, device)
            write_json(out / "metrics.json", scores)  # the last thing written: a run that has it has ended
    accelerator.wait_for_everyone()
    return out


def scored_during(done: int, config: Config) -> bool:
    """Whether an evaluation follows after so many steps, the one at the end left aside."""
    return bool(config.eval_every) and done % config.eval_every == 0 and done < config.steps
