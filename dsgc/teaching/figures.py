"""Curves, bars and heat maps that more than one notebook draws; this module and `panels` alone draw with matplotlib and seaborn.

Figures have a white ground, so that they stay legible on a dark page, and colours that colour-blind readers can tell
apart; masks use VOC's palette.
"""

import itertools
import json
import math
from collections.abc import Mapping
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from dsgc.experiments import significance
from dsgc.runs.record import read_config
from dsgc.scoring import diagnosis
from dsgc.teaching import legible

LOSSES = {
    "cls": "$L_{cls}$, tags",
    "ptc": "$L_{PTC}$, token contrast",
    "sim": "$L_{sim}$, flip similarity",
    "punc": "$L_{PUNC}$, uncertain region",
    "seg": "$L_{seg}$, segmentation",
}
SCORES = {
    "seg": "segmentation head",
    "cam": "CAM",
    "pseudo_initial": "pseudo label, initial",
    "pseudo": "pseudo label",
}
TOLD = {"map": "tags, mean average precision", "f1": "tags, F1"}
BESIDE = {"strict": "its strict score", "coverage": "labelled"}  # the pseudo label's score


def style() -> None:
    """Set the look of all figures; call once a notebook."""
    sns.set_theme(context="notebook", style="whitegrid", palette="colorblind")
    plt.rcParams.update({"figure.facecolor": "white", "savefig.facecolor": "white", "figure.dpi": 110, "axes.titlesize": 11})
    plt.switch_backend(plt.get_backend())  # loads it
    legible.in_notebooks(Figure)


def read_log(run: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A run's log as two long tables: losses (step, stage, loss, value) and scores (step, network, score, miou in %)."""
    losses, scores = [], []
    for line in map(json.loads, (Path(run) / "log.jsonl").read_text(encoding="utf-8").splitlines()):
        for name, value in line.get("losses", {}).items():
            losses.append((line["step"], line["stage"], name, value))
        for network, values in line.get("scores", {}).items():
            if isinstance(values, dict):
                scores += [(line["step"], network, name, 100 * v["miou"]) for name, v in values.items() if v.get("miou") is not None]
    return (
        pd.DataFrame(losses, columns=["step", "stage", "loss", "value"]),
        pd.DataFrame(scores, columns=["step", "network", "score", "miou"]),
    )


def reported(run: Path) -> str:
    """The network of a run that is reported: its method's first."""
    return read_config(Path(run)).method.networks[0]


def score_table(runs: Mapping[str, Path]) -> pd.DataFrame:
    """mIoU in % on the run's validation split: one row a run and network, one column a score.

    A pseudo label is scored over the pixels that it labels, so its strict score, where the others count as missed, and its
    coverage stand beside it.
    """
    rows = {}
    for name, run in runs.items():
        metrics = json.loads((Path(run) / "metrics.json").read_text(encoding="utf-8"))
        for network, scores in metrics.items():
            if not isinstance(scores, dict) or "seg" not in scores:
                continue
            row = {SCORES[key]: np.nan if value["miou"] is None else 100 * value["miou"] for key, value in scores.items()}
            label = scores.get("pseudo", {})
            rows[name, network] = row | {
                title: np.nan if label.get(key) is None else 100 * label[key] for key, title in BESIDE.items()
            }
    columns = [*SCORES.values(), *BESIDE.values()]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis(["run", "network"])


def told_table(runs: Mapping[str, Path]) -> pd.DataFrame:
    """How well tags are told, in %, where there are no masks: one row a run and network."""
    rows = {(name, network): scores for name, run in runs.items() for network, scores in _told(run).items()}
    means = {key: {title: scores[of] for of, title in TOLD.items()} for key, scores in rows.items()}
    return 100 * pd.DataFrame.from_dict(means, orient="index", columns=TOLD.values(), dtype=float).rename_axis(["run", "network"])


def told_per_class(runs: Mapping[str, Path]) -> Figure:
    """Average precision of each tag as a heat map, one row a run, of the network that is reported."""
    rows = {name: _told(run)[reported(run)]["per_class"] for name, run in runs.items()}
    return class_heat(100 * pd.DataFrame.from_dict(rows, orient="index", dtype=float), "tags told", "average precision, %")


def _told(run: Path) -> dict:
    return json.loads((Path(run) / "metrics.json").read_text(encoding="utf-8"))["told"]


def losses_by_stage(run: Path, warmup_steps: int) -> Figure:
    """Each loss over the steps, in a panel of its own; the warm-up stage is shaded."""
    losses, _ = read_log(run)
    names = [name for name in LOSSES if name in set(losses.loss)]
    columns, rows = min(3, len(names)), math.ceil(len(names) / 3)
    figure, axes = plt.subplots(rows, columns, figsize=(3 * columns, 2.5 * rows), layout="constrained", squeeze=False)
    for axis in axes.flat[len(names) :]:
        axis.remove()
    for axis, name, colour in zip(axes.flat, names, sns.color_palette("colorblind"), strict=False):
        part = losses[losses.loss == name]
        axis.plot(part.step, part.value, color=colour)
        axis.axvspan(0, warmup_steps, color="0.5", alpha=0.15, lw=0)
        axis.set(title=LOSSES[name], xlabel="step", xlim=(0, losses.step.max()))
    for axis in axes[:, 0]:
        axis.set_ylabel("loss")
    axes[0, 0].text(0.97, 0.95, "warm-up shaded", transform=axes[0, 0].transAxes, ha="right", va="top", fontsize=9, color="0.35")
    return closed(figure)


def projection_entropy(run: Path, outputs: int) -> Figure:
    """Entropy of the mean target of Eq. 10 over the steps: 0 would be a collapse to one output, log K to a uniform one."""
    lines = [json.loads(line) for line in (Path(run) / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    points = [(line["step"], line["projection_entropy"]) for line in lines if "projection_entropy" in line]
    figure, axis = plt.subplots(figsize=(6.5, 2.6), layout="constrained")
    axis.plot(*zip(*points, strict=True))
    for level, label in ((0, "one output takes all"), (np.log(outputs), f"uniform over {outputs} outputs")):
        axis.axhline(level, color="0.4", ls="--", lw=1)
        axis.text(points[0][0], level, label, va="bottom", fontsize=9, color="0.35")
    axis.set(xlabel="step", ylabel="entropy, nats", ylim=(-0.4, np.log(outputs) + 0.9))
    return closed(figure)


def learning_curve(run: Path, warmup_steps: int, reference: Mapping[int, float] | None = None) -> Figure:
    """mIoU of head, CAM and pseudo labels over the steps, as evaluated during the run, of the network that is reported.

    reference: a published run's segmentation, in % by step, drawn beside it: other steps and other data, the same scale of mIoU.
    """
    _, scores = read_log(run)
    columns = 1 if reference is None else 2
    figure, axes = plt.subplots(1, columns, figsize=(3.5 + 3 * columns, 3.4), layout="constrained", sharey=True, squeeze=False)
    axis = axes[0, 0]
    for (key, label), marker in zip(SCORES.items(), "osv^", strict=True):
        curve = scores[(scores.network == reported(run)) & (scores.score == key)]
        axis.plot(curve.step, curve.miou, marker=marker, label=label)
    axis.axvspan(0, warmup_steps, color="0.5", alpha=0.15, lw=0, label="warm-up")
    axis.set(xlabel="step", ylabel="mIoU, %", xlim=(0, None), ylim=(0, 100))
    axis.legend(loc="lower right", fontsize=9)
    if reference is not None:
        axis.set_title("this run")
        axes[0, 1].plot(list(reference), list(reference.values()), marker="o")
        axes[0, 1].set(title="ToCo's log: PASCAL VOC, ViT-B", xlabel="step", xticks=np.linspace(0, max(reference), 5))
    return closed(figure)


def per_class(runs: Mapping[str, Path], score: str = "seg") -> Figure:
    """IoU of each class as a heat map, one row a run, of the network that is reported."""
    rows = {}
    for name, run in runs.items():
        metrics = json.loads((Path(run) / "metrics.json").read_text(encoding="utf-8"))
        rows[name] = {key: np.nan if v is None else 100 * v for key, v in metrics[reported(run)][score]["per_class"].items()}
    return class_heat(pd.DataFrame.from_dict(rows, orient="index"), SCORES[score])


def gains(
    values: pd.DataFrame, reference: str, printed: Mapping[str, float] | None = None, *, measure: str = "segmentation"
) -> Figure:
    """What each row gains over the reference row: a dot for each seed, the mean with its 95 % interval, the paper's gain.

    values: per cent, a row for each setting and a column for each seed, as `tables.scores` gives them; printed: the paper's, by row.
    """
    rows = [row for row in values.index if row != reference]
    figure, axis = plt.subplots(figsize=(7.2, 1.3 + 0.42 * len(rows)), layout="constrained")
    colours = sns.color_palette("colorblind")
    for place, row in enumerate(rows):
        gain = (values.loc[row] - values.loc[reference]).dropna()
        low, high = significance.interval(gain)
        if np.isfinite(low):
            axis.plot([low, high], [place, place], color=colours[0], lw=6, alpha=0.25, solid_capstyle="butt")
        axis.plot(gain, [place] * len(gain), "o", color=colours[0], ms=5, mec="white", mew=0.6)
        axis.plot([gain.mean()] * 2, [place - 0.28, place + 0.28], color=colours[0], lw=2)
        if printed and row in printed:
            axis.plot(printed[row] - printed[reference], place, "D", mfc="none", mec=colours[3], mew=1.8, ms=8)
    axis.axvline(0, color="0.3", lw=1)
    axis.set(yticks=range(len(rows)), yticklabels=rows, ylim=(len(rows) - 0.5, -0.5))
    axis.set_xlabel(f"{measure}, difference to {reference}, points of mIoU")
    axis.grid(axis="y", visible=False)
    handles = [
        Line2D([], [], marker="o", ls="", color=colours[0], label="measured, one seed"),
        Line2D([], [], marker="|", ls="", ms=12, mew=2, color=colours[0], label="mean"),
        Patch(facecolor=colours[0], alpha=0.25, label="its 95 % interval"),
    ]
    if printed:
        handles.append(Line2D([], [], marker="D", ls="", mfc="none", mec=colours[3], mew=1.8, ms=8, label="the paper"))
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), fontsize=9, frameon=False)
    return closed(figure)


def ladder(table: pd.DataFrame) -> Figure:
    """What the correction gains, and what it does to the area that a decoder predicts, on each rung: `ladder.switched`.

    A dot is one warm-up; large marks are means.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 4.6), layout="constrained")
    rungs = list(dict.fromkeys(table.thresholds))
    means = table.groupby("thresholds")[["area", "corrected_area", "gain"]].mean().loc[rungs]
    left.axhline(0, color="0.3", lw=1)
    left.plot(means["area"], means["gain"], color="0.6", lw=1.5, zorder=1)
    span = [0.95 * table[["area", "corrected_area"]].min().min(), 1.05 * table[["area", "corrected_area"]].max().max()]
    right.plot(span, span, color="0.3", lw=1)
    for axis in (left, right):
        axis.axvline(100, color="0.5", lw=1, ls=":")
    right.axhline(100, color="0.5", lw=1, ls=":")
    for rung, colour, marker in zip(rungs, sns.color_palette("colorblind"), itertools.cycle("os^DvP"), strict=False):
        part = table[table.thresholds == rung]
        for axis, value in ((left, "gain"), (right, "corrected_area")):
            axis.plot(part["area"], part[value], marker, color=colour, ms=5, alpha=0.45, mew=0)
            axis.plot(means.loc[rung, "area"], means.loc[rung, value], marker, color=colour, ms=9, label=rung if axis is left else None)
    left.set(xlabel="foreground that is predicted without GC, % of the true", ylabel="GC's gain, points of mIoU")
    right.set(xlabel="without GC, % of the true", ylabel="with GC, % of the true")
    figure.legend(loc="outside lower center", ncols=len(rungs), fontsize=9, frameon=False, title="thresholds of the initial label")
    return closed(figure)


def detectors(counts: Mapping[str, Mapping[int, np.ndarray]]) -> Figure:
    """Reliability and precision over recall of what is asked whether a label is wrong: a colour each, a line style a seed.

    counts: by detector and seed, (bins, 2) pixels whose label is right and wrong. Seeds are not added up: where more labels
    are wrong every curve lies higher, and a sum would show that instead of the detector.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 4.4), layout="constrained")
    left.plot([0, 1], [0, 1], color="0.4", lw=1)
    left.text(0.72, 0.74, "says what is so", rotation=38, fontsize=9, color="0.35", ha="center", va="bottom")
    seeds = list(next(iter(counts.values())))
    styles = dict(zip(seeds, itertools.cycle(("-", "--", ":", "-.")), strict=False))
    handles = [Line2D([], [], color="0.3", ls=styles[seed], label=f"seed {seed}") for seed in seeds]
    for (name, by_seed), colour in zip(counts.items(), sns.color_palette("colorblind"), strict=False):
        handles.append(Line2D([], [], color=colour, marker="o", ms=4, label=name))
        for seed, part in by_seed.items():
            wrong, share = diagnosis.reliability(part)
            middles = (np.arange(len(wrong)) + 0.5) / len(wrong)
            seen = share >= 0.001  # a bin with hardly any pixel says nothing
            left.plot(middles[seen], wrong[seen], marker="o", ms=4, ls=styles[seed], color=colour, gid=f"{name}, {seed}")
            precision, recall = diagnosis.precision_recall(part)
            right.plot(recall, precision, ls=styles[seed], color=colour, gid=f"{name}, {seed}")
    left.set(xlabel="what the detector says", ylabel="share of labels that are wrong", title="reliability")
    right.set(xlabel="recall: wrong labels found", ylabel="precision: found labels wrong", title="precision and recall")
    for axis in (left, right):
        axis.set(xlim=(0, 1), ylim=(0, 1))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=9, frameon=False)
    return closed(figure)


def class_heat(table: pd.DataFrame, title: str, unit: str = "IoU, %") -> Figure:
    """A score in % as a heat map: a row for each method, a column for each class."""
    size = (max(6.0, 1.9 + 0.42 * table.shape[1]), 1.3 + 0.45 * len(table))
    figure, axis = plt.subplots(figsize=size, layout="constrained")
    sns.heatmap(
        table,
        annot=True,
        fmt=".0f",
        vmin=0,
        vmax=100,
        cmap="viridis",
        annot_kws={"fontsize": 9},
        cbar_kws={"label": unit},
        ax=axis,
    )
    axis.set(title=title, xlabel="", ylabel="")
    axis.tick_params(axis="x", rotation=45)
    axis.tick_params(axis="y", rotation=0)
    return closed(figure)


def save(figure: Figure, folder: Path, name: str) -> Figure:
    """Write a figure as SVG and PNG and hand it on."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    with plt.rc_context({"svg.hashsalt": "dsgc"}):  # the same figure gives the same file
        figure.savefig(Path(folder) / f"{name}.svg", metadata={"Date": None})
    figure.savefig(Path(folder) / f"{name}.png", dpi=200)
    return figure


def closed(figure: Figure) -> Figure:
    """Taken out of pyplot's hands, so that a notebook shows it once: as the value of the cell."""
    plt.close(figure)
    return figure
