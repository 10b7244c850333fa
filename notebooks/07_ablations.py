# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Ablations
#
# Which part of the method brings how much? The paper asks this in Tables 1 to 3 and in Figures 2 and 3, each number from
# one run. Here every setting is trained under several seeds, so that each number comes with its spread, and each
# statement with the answer to the question whether the spread allows it. Then come questions that the paper leaves out:
# which reading of the correction helps whom, whether the mixture finds the errors of the pseudo label, and what each rule
# of the correction does to them.
#
# ```{admonition} Two data sets, two scales
# :class: warning
# The paper's values are for ViT-B on PASCAL VOC 2012. What is measured here is on the scale named in the first cell:
# `shapes` is a small network on a small drawn data set. Values of the two cannot be compared, only differences and
# their order can, and even these need not agree.
# ```
#
# All runs are made by one command, `make ablations`, and kept in the repository under `results/`, one file a run, with
# configuration, code, commit, machine, versions and time. This notebook reads them. Those named `live` below it makes anew while
# it runs, to see whether they still come out the same.

# %% tags=["parameters"]
scale = "shapes"  # a preset of which results are there
seeds = [0, 1, 2]  # of all tables; 0 comes first: its runs keep pictures
data = ""  # folder in the VOC layout; empty for the preset's own
results = ""  # folder of the results; empty for the repository's
live = ["+ DSKD + GC"]  # rows of Table 1 that are made anew, under the first seed; [] for none
out = "runs/07_ablations"  # tables and figures are written here

# %% tags=["hide-input"]
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from IPython.display import Markdown, display
from myst_nb import glue

warnings.filterwarnings("ignore", message="IProgress not found")  # progress bars are plain text here
from dsgc.experiments import departures, grids, ladder, paper, provenance, runner, tables
from dsgc.scoring import diagnosis, pictures
from dsgc.teaching import chapter, figures, panels

folder = chapter.results_of(scale, seeds, live, results)
figures.style()
begun = time.monotonic()

# %% [markdown]
# ## Where the numbers come from
#
# A result belongs to a configuration and to the code that a run depends on. A file that is missing or damaged ends the
# notebook here, with the command that makes it. If code has changed since, the first line says so, and the runs made anew
# [at the end](#made-anew) say what that means.

# %% tags=["nbval-ignore-output"]
by_scale, lines = tables.read_scales(folder, scale, dict.fromkeys(("modules", "thresholds"), seeds), data)
found = by_scale[scale]
display(*map(Markdown, lines))
for name in by_scale:
    for grid in ("weights", "choices", "readings", "precision"):  # as far as they are there
        by_scale[name][grid], there = tables.read_some(folder, name, grid, seeds, data if name == scale else "")
        display(Markdown(f"`{name}`, {grid}: {there}."))
    rows = by_scale[name]["weights"]  # rows are compared under the seeds that all of them have
    whole = [seed for seed in seeds if all((row, seed) in rows for row in grids.GRIDS["weights"])]
    by_scale[name]["weights"] = {key: result for key, result in rows.items() if key[1] in whole}

# %% tags=["hide-input"]
SCORES = {
    "segmentation": ("seg",),
    "student's segmentation": ("seg", "student"),
    "CAM": ("cam",),
    "pseudo label": ("pseudo",),
    "its strict score": ("pseudo", "", "strict"),
    "its coverage": ("pseudo", "", "coverage"),
}


def side_by_side(grid, printed, scores, file, name="setting"):
    """A table: the paper's values and those of each scale; written to files too."""
    measured = {s: {score: tables.scores(part[grid], *SCORES[score]) for score in scores} for s, part in by_scale.items()}
    table = tables.long(printed, measured)
    return tables.Exported(tables.wide(table, name), out, file, table)


def spread(grid, score="segmentation"):
    """mIoU of each row under each seed."""
    return tables.scores(found[grid], *SCORES[score])


# %% [markdown]
# ## What these runs can tell apart
#
# Runs under one seed start from the same weights and see the same crops in the same order, so settings are compared seed by
# seed. Whether a difference can be told from none depends on how much it varies from seed to seed and on how many seeds there
# are. The smallest true difference to the method that so many runs would find in four of five cases:

# %% tags=["hide-input"]
method_runs = {score: spread("modules", score) for score in ("segmentation", "student's segmentation")}
power = pd.DataFrame(
    {
        f"{score}, points": {
            row: tables.detectable(values.loc[grids.METHOD] - values.loc[row])
            for row in values.index
            if row != grids.METHOD and values.loc[row].notna().any()
        }
        for score, values in method_runs.items()
    }
).rename_axis("method against")
tables.Exported(power.map(lambda value: "no student" if np.isnan(value) else value), out, "power")

# %% [markdown]
# The gain that the paper reports for GC is 1.14 points. A verdict of *cannot be told apart* below is a property of this
# design, of its few seeds and of the classes that some of them lose, and says nothing for or against the paper. Runs that part
# only after the warm-up share it to the last bit, and so the classes that it lost: between such rows, with and without GC for
# example, differences vary less than between rows that part at the first step.
#
# ## Table 1: the modules
#
# The baseline is patch token contrast alone, whose pseudo label trains the decoder as it is. The paper adds the
# distillation between teacher and student (DSKD), then the Gaussian correction (GC). It does not show GC without DSKD;
# here it is the fourth row. The paper's last row is also the middle row of its Table 2, where it is called segmentation,
# so that is what stands beside it. Values are mIoU in per cent, measured ones as mean ± standard deviation over seeds;
# *segmentation* and everything after it, but for the second column, is of the network that gradients train: the teacher, or the
# baseline's only one. The pseudo label is scored after the correction, where there is one, over the pixels that it labels. A
# label that leaves out what is hard scores high so; hence its *strict score*, where a pixel left out counts as missed, and its
# *coverage*, the share of pixels that it labels.

# %%
modules = tables.printed(paper.ABLATION, "mIoU")
side_by_side("modules", {"segmentation": modules}, list(SCORES), "table1", "modules")

# %% mystnb={"image": {"alt": "Gain of each combination of modules over the baseline: one dot a seed, the mean with its interval, and the paper's gain."}} tags=["hide-input"]
figures.save(figures.gains(spread("modules"), "baseline", modules), out, "table1")

# %%
tables.Exported(tables.pairs(spread("modules"), modules).set_index("better in the paper"), out, "table1-pairs")

# %% tags=["hide-input"]
Markdown(tables.verdict(spread("modules"), modules, scale))

# %% [markdown]
# The paper does not say whether it scores the teacher or the student. So what a module changes is given for both, seed by seed:

# %% tags=["hide-input"]
STEPS = {"DSKD": ("+ DSKD", "baseline"), "GC, with DSKD": (grids.METHOD, "+ DSKD"), "GC alone": ("+ GC", "baseline")}


def module_changes(values):
    """Points that a module adds, by seed; NaN where one of the two has no such network."""
    return pd.DataFrame({name: values.loc[more] - values.loc[less] for name, (more, less) in STEPS.items()}).T


changes = {network: module_changes(spread("modules", score)) for network, score in
           (("teacher", "segmentation"), ("student", "student's segmentation"))}  # fmt: skip
told = {
    (name, network): {f"seed {seed}": gain for seed, gain in row.items()}
    | {"mean": row.mean(), "from": tables.interval(row)[0], "to": tables.interval(row)[1], "could tell": tables.detectable(row)}
    for network, table in changes.items()
    for name, row in table.iterrows()
    if row.notna().any()
}
frame = pd.DataFrame.from_dict(told, orient="index")
frame.index = [f"{name}, {network}" for name, network in told]
tables.Exported(frame.rename_axis("what it adds"), out, "modules-both")

# %% [markdown]
# *from*, *to*: the 95 % interval of the mean. *could tell*: the smallest true difference that these runs find in four of five
# cases. The spread is large, and the reason is not small differences everywhere. Below, for each seed, the classes that a run has
# *lost*: their IoU is below 20.

# %% tags=["hide-input"]
lost = {
    (row, seed): [name for name, iou in tables.by_class({(row, seed): result}).loc[row].items() if iou < 20]
    for (row, seed), result in found["modules"].items()
}
names = {row: {f"seed {seed}": ", ".join(lost[row, seed]) or "none" for seed in seeds} for row in grids.GRIDS["modules"]}
tables.Exported(pd.DataFrame.from_dict(names, orient="index").rename_axis("modules"), out, "lost")

# %% [markdown]
# ## Figure 2: pseudo labels
#
# The first images of the validation split, and the pseudo label that supervises the decoder at the end of training,
# from the runs under the first seed. Pale is 255: left out.

# %% tags=["hide-input"]
items, classes = chapter.pictured(grids.config_of(scale, {}, seeds[0], data))
truth = [item.mask.numpy() for item in items]
images = [item.image.permute(1, 2, 0).numpy() for item in items]


def kept(row, kind):
    """What a run of Table 1 under the first seed makes of these images."""
    samples = found["modules"][row, seeds[0]].samples
    return [pictures.decoded(samples[item.image_id][kind]) for item in items]


# %% mystnb={"image": {"alt": "Six images, and below each the pseudo label of the baseline, with DSKD, with DSKD and GC, with GC alone, and the truth."}} tags=["hide-input"]
rows = {"image": images} | {row: kept(row, "pseudo") for row in grids.GRIDS["modules"]} | {"truth": truth}
kinds = {row: "image" if row == "image" else "labels" for row in rows}
figures.save(panels.image_grid(rows, kinds, classes), out, "figure2")

# %% [markdown]
# ## Figure 3: class activation maps
#
# The strongest map among the classes that the tags name, of the same runs.

# %% mystnb={"image": {"alt": "The same six images, and below each the strongest class activation map of the four runs, from dark to bright."}} tags=["hide-input"]
rows = {"image": images} | {row: kept(row, "cam") for row in grids.GRIDS["modules"]}
kinds = {row: "image" if row == "image" else "map" for row in rows}
figures.save(panels.image_grid(rows, kinds), out, "figure3")

# %% [markdown]
# ## Table 2: the noise thresholds
#
# $(\theta_h,\theta_l)$: above the first a label is given up, between the two it is doubted.

# %%
thresholds = {score: tables.printed(paper.THRESHOLDS, score) for score in ("segmentation", "CAM")}
side_by_side("thresholds", thresholds, list(thresholds), "table2", "theta_h, theta_l")

# %% mystnb={"image": {"alt": "Gain of each pair of thresholds over the paper's own, by seed, with intervals and the paper's gains."}} tags=["hide-input"]
paper_thresholds = "0.85, 0.25"
figures.save(figures.gains(spread("thresholds"), paper_thresholds, thresholds["segmentation"]), out, "table2")

# %% tags=["hide-input"]
for score, printed in thresholds.items():
    display(Markdown(f"*{score}*: {tables.verdict(spread('thresholds', score), printed, scale)}"))

# %% [markdown]
# ## Table 3: the weights of the losses
#
# $(\lambda_1,\lambda_2,\lambda_3)$ of patch token contrast, flip similarity and uncertain region; $\lambda_4$ stays. Under the seeds
# under which every row is there.

# %%
weights = tables.printed(paper.WEIGHTS, "mIoU")
side_by_side("weights", {"segmentation": weights}, ["segmentation", "CAM"], "table3", "lambda1, lambda2, lambda3")

# %% mystnb={"image": {"alt": "Gain of each triple of loss weights over the paper's own, by seed, with intervals and the paper's gains."}} tags=["hide-input"]
paper_weights = "0.2, 0.5, 0.1"
figures.save(figures.gains(spread("weights"), paper_weights, weights), out, "table3")

# %% tags=["hide-input"]
Markdown(tables.verdict(spread("weights"), weights, scale))

# %% [markdown]
# ## The readings of the correction
#
# What the paper leaves open about the correction, and what can be read in another way, is an option of the method. Over whole runs
# their differences drown in the seeds' spread. So they are measured where all else is equal: a warm-up is stopped after some steps,
# its class activation maps are labelled under each reading, and a fresh decoder learns each of these labels from the same frozen
# tokens, from the same first weights, on the same batches ({py:mod}`dsgc.experiments.frozen`). {doc}`04_gc_rules` draws how
# the gain goes down as labels become better; here are all readings, over all stops and warm-ups, with what each has to beat: no
# correction, and no correction with a stricter threshold. Choices were made on `dev`; `val` is what is reported.

# %% tags=["hide-input"]
rungs = ladder.read()
of_split = {split: ladder.gains(rungs, split) for split in ("dev", "val")}
order = of_split["val"].gain.sort_values(ascending=False).index
readings = pd.DataFrame(
    {
        "gain on val, points": of_split["val"].gain,
        "its standard error": of_split["val"].error,
        "where no class is lost": of_split["val"].found,
        "where one is": of_split["val"].lost,
        "gain on dev": of_split["dev"].gain,
        "coverage of the label, %": rungs.groupby("row").coverage.mean(),
        "predicted of true foreground, %": rungs.groupby("row").area_val.mean(),
    }
).loc[order]
tables.Exported(readings.rename_axis("reading"), out, "readings")

# %% tags=["hide-input"]
by_warmup, stops = rungs.groupby("seed").lost.first(), sorted(rungs.steps.unique())
Markdown(
    f"{len(by_warmup)} warm-ups, each stopped after {', '.join(map(str, stops))} steps; {(by_warmup > 0).sum()} of them have lost a class "
    f"by the last stop: its CAM has an IoU below {ladder.LOST:.0f} on `dev`, wherever its evidence went. *Its standard error* is of the "
    "mean over warm-ups. The preset of the method is the row *preset*."
)

# %% [markdown]
# ## The departures from print
#
# {doc}`../book/choices` has the table of where the code departs from what is printed. What the printed value in its place changes,
# on `dev`, each under the same warm-ups' seeds:

# %% tags=["hide-input"]
effects = departures.effects(rungs)
tables.Exported(effects.rename_axis("printed instead"), out, "departures")

# %% [markdown]
# *CAM* is that of the teacher at the end of the warm-up, *whole run* the teacher's segmentation at the end of runs that share the
# warm-up, *fixed maps* the decoder's mIoU as in the table of readings. A negative number speaks for the departure. *could tell* is
# the smallest true difference that so many seeds would find in four of five cases.
#
# ## The choices
#
# What {doc}`../book/choices` decides, one change at a time from the preset, over whole runs. The list at the top says which of
# these are there.

# %% mystnb={"image": {"alt": "What each changed choice gains or loses against the preset in the teacher's segmentation, by seed, with intervals."}} tags=["hide-input"]
for grid in ("choices", "readings"):
    values = spread(grid).dropna(how="all")
    if len(values) > 2:
        display(side_by_side(grid, {}, list(SCORES), grid, "changed"))
        display(figures.save(figures.gains(values, "preset"), out, grid))

# %% [markdown]
# ## Precision
#
# The presets for GPUs let the networks compute in bfloat16, which keeps 8 of float32's 24 binary digits; CAM, mixture and losses
# stay in float32. One step's losses then differ by less than half a per cent ({py:mod}`test_precision`). What 300 such steps
# make of that, with the full method:

# %% tags=["hide-input"]
side_by_side("precision", {}, list(SCORES), "precision", "networks in") if found["precision"] else None

# %% tags=["hide-input"]
both = spread("precision").reindex(["float32", "bfloat16"]).dropna(axis=1)
rounding = both.loc["bfloat16"] - both.loc["float32"]
each = ", ".join(f"{value:+.1f} (seed {seed})" for seed, value in rounding.items())
Markdown(f"bfloat16 changes the segmentation by {each} points." if each else "No run in bfloat16 is there.")

# %% [markdown]
# Where a seed reacts to it, it reacts to any rounding. {doc}`05_train_voc` makes the run of seed 0 in float32 too, on as many
# threads as the machine has instead of one, so that sums are taken in another order: it ends at
# {glue:text}`../notebooks/05_train_voc.ipynb::miou_method:.1f` %.

# %% [markdown]
# ## Does the mixture find the errors?
#
# Eq. 17 calls its posterior a noise probability. If it were one, then of all labels with probability 0.7, seven in ten
# would be wrong. Counted over all foreground pixels of the initial pseudo labels of the validation split, after training
# with the full method, beside the plainest detector there is: one minus the confidence itself. Each seed has lines of its own,
# since the more labels are wrong, the higher every curve lies; a curve's right end is what chance would give.

# %% mystnb={"image": {"alt": "Left: share of wrong labels against what the noise probability and one minus the confidence say, with the diagonal. Right: precision over recall of both detectors."}} tags=["hide-input"]
method = [found["modules"][grids.METHOD, seed] for seed in seeds]
names = ("noise probability, Eq. 17", "1 - confidence")
counts = {
    name: {s: np.array(r.counts["detectors"][i]) for s, r in zip(seeds, method, strict=True)} for i, name in enumerate(names)
}
figures.save(figures.detectors(counts), out, "detectors")

# %%
lines = [
    (name, seed, 100 * part[:, 1].sum() / part.sum(), 100 * diagnosis.auc(part), 100 * diagnosis.calibration_error(part))
    for name, parts in counts.items()
    for seed, part in parts.items()
]
detectors = pd.DataFrame(lines, columns=["detector", "seed", "labels wrong, %", "AUC, %", "calibration error, points"])
tables.Exported(detectors.set_index("detector"), out, "detectors")

# %% [markdown]
# *AUC*: how often a wrong label is given a higher value than a right one; 50 is chance. *Calibration error*: how far, on
# average over pixels, what the detector says is from the share of labels that are wrong.
#
# ## What each rule repairs and breaks
#
# The same pixels, by the rule that applied ({doc}`04_gc_rules` derives them): wrong before and right after (*repaired*),
# right before and wrong after (*broken*), and what was left out. In per cent of each rule's pixels, for each seed.
# *Other* are pixels that had no label before.

# %%
rules = {seed: tables.rule_effects(result.counts["rules"]) for seed, result in zip(seeds, method, strict=True)}
by_seed = pd.concat([table.assign(seed=seed) for seed, table in rules.items()]).loc[list(rules[seeds[0]].index)]
tables.Exported(by_seed[["seed", *rules[seeds[0]].columns]], out, "rules")

# %% [markdown]
# ## What was seen
#
# On the scale `shapes`, with the results as committed:

# %% tags=["hide-input"]
def change_in_words(values):
    """Mean of a change with its interval and what could have been told apart."""
    low, high = tables.interval(values)
    return f"{values.mean():+.1f} points ({low:+.1f} to {high:+.1f}; a true change of {tables.detectable(values):.1f} would have been found)"


def means_in_words(table, rows):
    named = (table.loc[row] for row in rows if row in table.index)
    return ", ".join(f"*{line.name}* {line.found:+.1f} where no class is lost and {line.lost:+.1f} where one is" for line in named)


deviation = spread("modules").loc[grids.METHOD].std(ddof=1)
foreground = counts[names[0]]
wrong = [100 * part[:, 1].sum() / part.sum() for part in foreground.values()]
noise = [100 * rules[seed]["pixels"].filter(like="R_h").sum() / max(rules[seed]["pixels"].sum(), 1) for seed in foreground]
controls = ["upper threshold 0.6, no correction", "upper threshold 0.7, no correction"]
by_found = of_split["val"].found.sort_values(ascending=False).index
best = [row for row in by_found if row not in (*controls, ladder.PLAIN, "preset")][:2]
Markdown(
    f"""
- **The seed decides more than any module.** The method's mIoU has a standard deviation of {deviation:.1f} points over the seeds.
  Classes are lost early, in the warm-up, and mostly the same ones under every setting of a seed.
- **DSKD** changes the segmentation by {change_in_words(changes["teacher"].loc["DSKD"])}.
- **GC** changes the teacher of the full method by {change_in_words(changes["teacher"].loc["GC, with DSKD"])} and its student by
  {change_in_words(changes["student"].loc["GC, with DSKD"])}. The paper reports +1.14, of one of the two.
- **On fixed maps**, in points of the decoder's mIoU: {means_in_words(of_split["val"], ["preset", *controls])}. The readings that bring most
  where no class is lost: {means_in_words(of_split["val"], best)}.
- **The mixture** always finds two groups, also where nearly all labels are right: of the pixels that a rule decides,
  {min(noise):.0f} to {max(noise):.0f} % lie above $\\theta_h$, whether {min(wrong):.0f} or {max(wrong):.0f} % of the foreground labels are wrong.
"""
)

# %% tags=["remove-cell"]
if (scale, seeds, data, results) == ("shapes", list(grids.SEEDS), "", ""):  # else what other pages say of these numbers is not about them
    assert set(rungs.row) >= {"preset", ladder.PLAIN, *controls}
    assert of_split["val"].found["preset"] > 0 > of_split["val"].lost["preset"]

# %% [markdown]
# (made-anew)=
# ## Made anew
#
# The runs named in the first cell, trained while this notebook runs, with the code as it is. They are kept in `runs/live`
# and made again when code or configuration change. On the same kind of machine a run comes out the same as the committed one of
# its seed; elsewhere sums are taken in another order, and what that has been seen to change is `tables.ROUNDING`
# points. A larger difference ends the notebook here.

# %% tags=["nbval-ignore-output"]
again = {row: grids.config_of(scale, grids.GRIDS["modules"][row], seeds[0], data) for row in live}
failed = runner.make_all(again, Path("runs/live") / scale, jobs=runner.jobs_here())
assert not failed

# %% tags=["hide-input", "nbval-ignore-output"]
fresh = runner.read(again, Path("runs/live") / scale, "this notebook")
for row, result in fresh.items():
    value, committed = tables.scores({(row, seeds[0]): result}).iloc[0, 0], spread("modules").loc[row, seeds[0]]
    display(Markdown(f"*{row}*: {tables.reproduced(value, committed)}."))
    assert result.about["code"] == provenance.code_version(result.config["method"])

# %% tags=["remove-cell", "nbval-ignore-output"]
glue("seconds", time.monotonic() - begun, display=False)  # how long the page took, for the page that lists them
