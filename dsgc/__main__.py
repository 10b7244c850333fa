"""`python -m dsgc check | train | resume | evaluate | predict | labels | export | grid | data | pretrain`: the command line.

A mistake in what the user gave ends in one line on standard error and exit code 2; with `--debug` the traceback stands above it.
Ctrl-C and SIGTERM end in one line too, with the exit codes 130 and 143.
"""

import dataclasses
import io
import json
import sys
import traceback
import typing
from collections.abc import Sequence
from pathlib import Path

from dsgc.command.installed import version  # isort: skip; before any module that needs packages of others
from dsgc import methods
from dsgc.command import launcher
from dsgc.command.launcher import FIRST
from dsgc.command.options import (
    ABOUT,
    CheckOptions,
    EvaluateOptions,
    ExportOptions,
    GridOptions,
    LabelsOptions,
    PredictOptions,
    ResumeOptions,
    ShapesCocoOptions,
    ShapesOptions,
    options_of,
)
from dsgc.command.parsing import PROGRAM, parse
from dsgc.config import PRESETS
from dsgc.data import shapes, shapes_coco, sheet
from dsgc.data.check import check as look_over
from dsgc.data.own import Source
from dsgc.data.split import open_split
from dsgc.errors import Stopped, UserError, check_writable, first_line, one_line, printable
from dsgc.experiments import grids, runner, slurm
from dsgc.experiments.plan import plan
from dsgc.scoring.protocols import TestTime, wanted


def train(arguments: Sequence[str]) -> None:
    """train PRESET [--method NAME]: train as a preset says, with any value changed, and write a run folder."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(f"usage: {PROGRAM} train PRESET [--method NAME] [options]\n\npresets, each a value for every option:")
        print("\n".join(f"  {name:<8}  {about}" for name, about in ABOUT.items()))
        print(f"\nmethods, {methods.DEFAULT} if none is named:")
        print("\n".join(f"  {name:<8}  {first_line(methods.find(name).__doc__)}" for name in methods.names()) + "\n")
        print(f"`{PROGRAM} train shapes --method {methods.DEFAULT} --help` lists the options of a method and those that every run")
        print("has, their defaults, and which of these are the paper's.")
        return
    if arguments[0].startswith("-"):
        first = f"name a preset first, as in `{PROGRAM} train shapes {arguments[0]} ...`"
        raise UserError(f"train {arguments[0]}: {first}; there are {', '.join(PRESETS)}")
    name, (method, rest) = arguments[0], _method(arguments[1:])
    base = methods.preset(name, method)
    command = f"train {name} --method {method}"
    kind = type(base.method)
    about = f"Train with the method `{method}`. {kind.__doc__}" + (f" Not here: {kind.left_out}" if kind.left_out else "")
    options = parse(options_of(base), rest, command, about)
    config = base.changed(**dataclasses.asdict(options))
    launcher.loading()
    from dsgc.training.loop import train  # torch and timm are loaded only once the options are known to be right

    _embedded(config.data)
    _say(f"{train(config)}: metrics.json, log.jsonl, checkpoints, pictures")


def _method(arguments: Sequence[str]) -> tuple[str, list[str]]:
    """The method that the arguments name, which decides what other options there are, and the other arguments."""
    name, rest, words = methods.DEFAULT, [], iter(arguments)
    for word in words:
        if word == "--method":
            name = next(words, "")
        elif word.startswith("--method="):
            name = word.removeprefix("--method=")
        else:
            rest.append(word)
    return name, rest


def resume(arguments: Sequence[str]) -> None:
    """resume RUN: go on with a run that was stopped, from its newest checkpoint."""
    options = dataclasses.asdict(parse(ResumeOptions, arguments, "resume"))
    run = options.pop("run")
    launcher.loading()
    from dsgc.training.loop import resume

    _say(f"{resume(run, **{name: value for name, value in options.items() if value is not None})}: ended as planned")


def evaluate(arguments: Sequence[str]) -> None:
    """evaluate RUN: score a run's newest checkpoint on a split that has masks."""
    options = parse(EvaluateOptions, arguments, "evaluate")
    if options.out and (options.out.is_dir() or not options.out.parent.is_dir()):
        raise UserError(f"{options.out}: cannot be written; --out takes a file in a folder that exists")
    if options.out:
        check_writable(options.out.parent)
    launcher.loading()
    from dsgc.runs.record import summary_line, write_json
    from dsgc.scoring.evaluate import score_run
    from dsgc.scoring.predict import score

    how, given = _test_time(options), (options.run, options.data, options.split)
    names = (options.network,) if options.network else ()
    changes = {name: value for name in ("workers", "eval_batch") if (value := getattr(options, name)) is not None}
    own = {name: value for name in Source._fields[:2] if (value := getattr(options, name)) is not None}
    scores = score(*given, how, changes, names, own) if how else score_run(*given, changes, names, own)
    if options.out and FIRST:
        write_json(options.out, scores)
    elif not options.out:
        _say(json.dumps(scores, indent=1))
    _say(summary_line(scores), sys.stderr)


def predict(arguments: Sequence[str]) -> None:
    """predict RUN OUT: segment images with a run's newest checkpoint and write them as PNG."""
    options = parse(PredictOptions, arguments, "predict")
    how = _test_time(options)
    launcher.loading()
    from dsgc.scoring.predict import predict

    changes = {} if options.workers is None else {"workers": options.workers}
    _say(predict(options.run, options.out, options.data, options.split, how or TestTime(), options.network, changes))


def labels(arguments: Sequence[str]) -> None:
    """labels RUN OUT: write CAMs, pseudo labels and confidence of the pictures that a run learnt from, for a second network."""
    options = parse(LabelsOptions, arguments, "labels")
    wanted("", options.scales, mirror=options.mirror, crf=False)  # refuses what scales cannot be
    if options.eval_batch < 1:
        raise UserError(f"eval_batch {options.eval_batch}: must be 1 or more")
    launcher.loading()
    from dsgc.scoring.labelling import Looks, write_labels

    looks = Looks(options.scales or ((1.0,) if options.mirror else ()), options.mirror, options.cams)
    changes = {} if options.workers is None else {"workers": options.workers}
    given = (options.run, options.out, options.data, options.split)
    own = {"tags": options.tags} if options.tags else {}
    _say(write_labels(*given, looks, options.format, options.network, options.eval_batch, changes, own))


def _test_time(options: EvaluateOptions | PredictOptions) -> TestTime | str | None:
    """What the options ask for beyond the plain prediction."""
    return wanted(options.protocol or "", options.scales, mirror=options.mirror, crf=options.crf)


def export(arguments: Sequence[str]) -> None:
    """export RUN FILE: write a run's network, with all that is needed to use it, into one file."""
    options = parse(ExportOptions, arguments, "export")
    launcher.loading()
    from dsgc.scoring.segmenter import export

    export(options.run, options.file, options.network, half=options.half)
    _say(options.file)


def data(arguments: Sequence[str]) -> None:
    """data shapes | shapes-coco OUT: write the embedded data set in the layout of PASCAL VOC or of COCO."""
    name = arguments[0] if arguments else "--help"
    if name in ("-h", "--help"):
        print(f"usage: {PROGRAM} data shapes|shapes-coco OUT [options]; `{PROGRAM} data shapes --help` lists them")
        return
    if name == "shapes":
        options = parse(ShapesOptions, arguments[1:], "data shapes")
        sizes = {split: getattr(options, split) for split in shapes.SPLITS}
        print(shapes.write(options.out, seed=options.seed, sizes=sizes, dials=options.dials))
    elif name == "shapes-coco":
        options = parse(ShapesCocoOptions, arguments[1:], "data shapes-coco")
        sizes = {"train2014": options.train, "val2014": options.val}
        print(shapes_coco.write(options.out, seed=options.seed, sizes=sizes, dials=options.dials))
    else:
        raise UserError(f"data {name}: no such data set to write; there are: shapes, shapes-coco")


def check(arguments: Sequence[str]) -> None:
    """check DATA: look a data set over before a night is spent on it; all faults at once."""
    options = parse(CheckOptions, arguments, "check")
    if options.sheet:
        sheet.refuse_file(options.sheet)
    source = Source(options.tags, options.masks, options.val_share)
    found = look_over(options.data, options.train_split, options.val_split, source)
    print("\n".join(map(printable, found.lines())))
    if options.sheet and found.parts:
        sheet.write(options.sheet, found.parts)
    if found.faults:
        raise UserError(f"{options.data}: training would refuse it; mend the faults listed ({len(found.faults)}) and check again")


def pretrain(arguments: Sequence[str]) -> None:
    """pretrain OUT: make the shapes encoder's weights from images of classes that `shapes` does not have."""
    if arguments and not arguments[0].startswith("-"):
        out, arguments = Path(arguments[0]), arguments[1:]
    elif any(flag in arguments for flag in ("-h", "--help")):
        out = Path()
    else:
        raise UserError("pretrain: name the .safetensors file to write first")
    from dsgc.training.pretrain import Recipe, pretrain

    recipe = parse(Recipe, arguments, "pretrain OUT", "Pre-train the encoder of the shapes preset.")
    found = pretrain(out, recipe)
    print(f"{out}: held-out accuracy {found.accuracy:.3f}, pointing {found.pointing:.3f}")


def grid(arguments: Sequence[str]) -> None:
    """grid [NAME ...]: make the runs behind the ablation tables, several at a time, and keep their results."""
    options = parse(GridOptions, arguments, "grid")
    known = tuple(grids.GRIDS)
    for name in options.names:
        if name not in known:
            raise UserError(f"grid {name!r}: unknown; there are {', '.join(name if name.isalpha() else repr(name) for name in known)}")
    if options.seeds == ():
        raise UserError("seeds: none given; name one or more")
    runs = grids.runs(list(options.names or grids.of(options.scale)), options.scale, options.seeds or (), options.data)
    folder = options.out / options.scale
    if options.on == "slurm" and options.jobs is None:
        raise UserError("jobs: with --on slurm say how many jobs are to share the runs, as in `--jobs 8`")
    if options.on != "slurm" and (options.slurm or options.no_wait):
        raise UserError("--slurm and --no-wait: of jobs in a queue; give them with --on slurm")
    jobs = runner.jobs_here() if options.jobs is None else options.jobs
    if jobs < 1:
        raise UserError(f"jobs {jobs}: must be 1 or more")
    if options.dry_run:
        print("\n".join(plan(runs, folder, jobs)))
        return
    first = next(iter(runs.values()))
    _embedded(first.data)
    for split in (first.train_split, first.val_split):
        open_split(first.data, split)  # said once here, not by each run
    if options.on == "slurm":
        failed = slurm.make_all(runs, folder, jobs=jobs, given=options.slurm, to_the_end=not options.no_wait)
    else:
        failed = runner.make_all(runs, folder, jobs=jobs)
    if failed:
        raise UserError(f"{folder}: {failed} of {len(runs)} runs failed; the others are kept, the same command makes the rest")


def _embedded(data: str) -> None:
    """Write the embedded data set where a run of the `shapes` preset looks for it, if it is not there."""
    if data == PRESETS["shapes"]["data"] and not Path(data).exists():
        _say(f"{data}: writing the embedded data set")
        shapes.ensure(data)


def _say(text: object, file: typing.TextIO | None = None) -> None:
    """Print what all processes of a launcher would say alike, once."""
    if FIRST:
        print(text, file=file)


COMMANDS = {
    "check": check, "train": train, "resume": resume, "evaluate": evaluate, "predict": predict, "labels": labels, "export": export,
    "grid": grid, "data": data, "pretrain": pretrain,
}  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    for stream in (sys.stdout, sys.stderr):  # a terminal need not know all letters of a path
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    debug = "--debug" in arguments
    arguments = [word for word in arguments if word != "--debug"]
    if arguments[:1] == ["--version"]:
        print(f"dsgc {version()}")
        return 0
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(f"usage: {PROGRAM} COMMAND ...\n")
        print("\n".join(f"  {command.__doc__}" for command in COMMANDS.values()))
        print(f"\n  `{PROGRAM} COMMAND --help` lists the options of one; `{PROGRAM} --version` says which package this is")
        print("  --debug behind any of them: where in the code a mistake was found, the traceback above the line that names it")
        return 0
    try:
        if arguments[0] not in COMMANDS:
            raise UserError(f"command {arguments[0]!r}: unknown; there are {', '.join(COMMANDS)}")
        COMMANDS[arguments[0]](arguments[1:])
    except (UserError, OSError) as error:  # OSError: a file or folder that nothing above expected trouble from
        if debug:
            traceback.print_exc()
        launcher.fail(f"dsgc: {one_line(error)}")
        return 2
    except RuntimeError as error:
        if debug or not launcher.left_alone(error):
            raise
        if not launcher.another_spoke():
            launcher.fail(f"dsgc: another process of this run has ended ({first_line(error)}); see what it or the launcher says")
        return 2
    except KeyboardInterrupt as stop:
        print(f"dsgc: {str(stop) or 'interrupted'}", file=sys.stderr)
        return stop.code if isinstance(stop, Stopped) else 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
