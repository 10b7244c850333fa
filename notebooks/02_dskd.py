# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Dual-stage knowledge distillation
#
# A class activation map is sure of some patches and unsure of others, and it changes when the image is mirrored,
# though the objects in it do not. Both are signs that the map rests on accidents. *Dual-stage knowledge
# distillation* (DSKD) puts a second network beside the first and makes the two agree, first on mirrored images,
# later on the patches where the map is unsure. The idea of learning from another network's soft answers is Hinton's
# {cite:p}`hinton2015distilling,gou2021distillation`, that of a network which follows another as a moving average is
# used as in DINO {cite:p}`caron2021dino`.
#
# The two networks are called *teacher* and *student*, and the names are easily misread:
#
# | method | trained by gradients | follows as a moving average | gives the target |
# |---|---|---|---|
# | DINO | student | teacher | teacher |
# | this paper, first stage: *warm-up* | **teacher** and **student** | neither | each for the other |
# | this paper, second stage: *expansion* | **teacher** | **student** | student |
#
# So in the expansion the paper's teacher is DINO's student. A line at the head of each section says again who is who there.
#
# In this chapter: both networks at work in pictures, Eq. 6 to 10 one after the other, whether they collapse, why Eq. 10
# has a softmax on one side and a log-softmax on the other, and why as printed it teaches next to nothing here.
#
# ```{admonition} Before you begin
# :class: frame
#
# **You should know**
#
# - the class activation map of {doc}`01_ptc` and what it misses
# - softmax, cross-entropy and the Kullback-Leibler divergence ([Dive into Deep
#   Learning](https://d2l.ai/chapter_linear-classification/softmax-regression.html), section 4.1)
# - why a target that a network makes for itself may become empty ({cite:t}`caron2021dino`, section 3.1, or
#   {doc}`../book/background`)
#
# **Afterwards you can**
#
# - say of each of the two networks, in each stage, whether it learns, follows or gives the target, under either paper's names;
# - compute how much of a moving average's start is left after any number of steps, and in how many steps half of it is gone;
# - tell by a matched, a mismatched and a centred cosine whether a loss of agreement collapses, and what of it does;
# - mark the uncertain region of a map (Eq. 9), and say why what a map misses is not in it;
# - derive the gradient of Eq. 10, and say from a temperature whether it has anything to teach.
#
# **It takes** about {reading}`02_dskd` minutes to read ([how that is counted](../book/exercises.md#how-the-minutes-are-counted));
# the run that made this page took {glue:text}`seconds:.0f` seconds.
# ```

# %% tags=["parameters"]
steps = 64  # training steps, 40 to 2000
warmup = 32  # steps of the warm-up, 20 to steps - 16
seed = 0
image = 20  # that is looked at, 0 to 199
roi_low = 0.2  # l_th of Eq. 9, 0 to 1; the paper's value
roi_high = 0.7  # h_th of Eq. 9, roi_low to 1; the paper's value

# %% tags=["hide-input"]
import copy
import tempfile
import time
import warnings
from pathlib import Path

import dsgc  # noqa: F401, isort: skip; before torch, whose threads then share the cores with others
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

warnings.filterwarnings("ignore", message="IProgress not found")  # progress bars are plain text here
from dsgc import cam, dskd
from dsgc.config import PRESETS
from dsgc.data.scenes import BODY
from dsgc.experiments import grids, tables
from dsgc.methods import preset
from dsgc.methods.base import tag_losses
from dsgc.network.build import build_network
from dsgc.network.tensor_files import read_weights
from dsgc.network.vit import Projector
from dsgc.runs.restore import load_networks
from dsgc.scoring.evaluate import collate
from dsgc.scoring.parts import PARTS, Pictures, held_out
from dsgc.teaching import chapter, figures
from dsgc.teaching.glue import glue
from dsgc.training.loop import train
from dsgc.training.splits import open_data

chapter.number_in("steps", steps, 40, 2000, whole=True)
chapter.number_in("warmup", warmup, 20, steps - 16, whole=True)
chapter.number_in("seed", seed, 0, 2**32 - 1, whole=True)
chapter.number_in("image", image, 0, 199, whole=True)
chapter.number_in("roi_low", roi_low, 0, 1)
chapter.number_in("roi_high", roi_high, 0, 1)
chapter.ordered("roi_low", roi_low, "roi_high", roi_high)
figures.style()
begun = time.monotonic()

# %% [markdown]
# ## Two networks, one image and its mirror
#
# A short run of the package's own loop with both stages, a checkpoint of both networks every four steps:

# %% tags=["nbval-ignore-output"]
config = chapter.embedded_data().changed(
    steps=steps, warmup_steps=warmup, seed=seed, roi_low=roi_low, roi_high=roi_high,
    eval_every=0, log_every=8, checkpoint_every=4, keep_checkpoints=steps,
)  # fmt: skip
scratch = tempfile.TemporaryDirectory()
run = train(config.changed(out=str(Path(scratch.name) / "run")))
networks = load_networks(run)[0]
data = open_data(config)

# %% [markdown]
# The teacher sees the mirrored image, the student the image as it is. Everything the teacher makes of it is
# mirrored back before the two are compared. Where their maps differ, at least one of them is wrong; where they agree both may be: neither
# finds the melon's orange body here. The last panel is the *uncertain region*: patches that the teacher's map calls neither background nor object.

# %% mystnb={"image": {"alt": "Six panels: an image, its mirror image, the teacher's map mirrored back, the student's map, the cosine of their middle tokens patch by patch, and the uncertain region in white."}} tags=["hide-input"]
item = data.val[image]
shown = item.image[None].float() / 255
with torch.no_grad():
    seen, following = networks["teacher"](shown.flip(-1)), networks["student"](shown)
    maps = {
        "teacher's map, mirrored back": config.method.cam(networks["teacher"], seen).flip(-1),
        "student's map": config.method.cam(networks["student"], following),
    }
    maps = {name: cam.tagged(map_, item.tags[None]) for name, map_ in maps.items()}
    agreement = F.cosine_similarity(seen.middle.flip(-1), following.middle, dim=1)[0]
    region = dskd.uncertain_region(maps["teacher's map, mirrored back"], roi_low, roi_high)[0]
figure, axes = plt.subplots(1, 6, figsize=(13, 2.5), layout="constrained")
axes[0].imshow(shown[0].permute(1, 2, 0))
axes[1].imshow(shown[0].flip(-1).permute(1, 2, 0))
for axis, map_ in zip(axes[2:4], maps.values(), strict=True):
    heat = axis.imshow(map_[0].amax(0), cmap="magma", vmin=0, vmax=1)
cosine = axes[4].imshow(agreement, cmap="viridis", vmax=1)
axes[5].imshow(region, cmap="gray", vmin=0, vmax=1)
titles = ("image", "mirror image", *maps, "cosine of middle tokens", "uncertain region")
for axis, title in zip(axes, titles, strict=True):
    axis.set_title(title.replace(", ", ",\n"), fontsize=9.5)
    axis.set(xticks=[], yticks=[])
    axis.grid(False)
figure.colorbar(heat, ax=axes[3], shrink=0.75)
figure.colorbar(cosine, ax=axes[4], shrink=0.75)
plt.close(figure)
figure

# %% [markdown]
# And this is what following looks like: two of the network's parameters over the steps. In the warm-up (shaded)
# each network goes its own way, the student with a tenth of the learning rate. Then the teacher goes on by
# gradients, and the student follows, at a distance and ever more slowly.

# %% mystnb={"image": {"alt": "Two panels, a parameter each, over the training steps. After the shaded warm-up the student's value turns towards the teacher's and follows it at a distance."}} tags=["hide-input"]
saved = sorted((run / "checkpoints").glob("step_*"))
at = [int(path.name.removeprefix("step_")) for path in saved]
weights = {who: [read_weights(path / f"{who}.safetensors")["patch_classifier.weight"] for path in saved] for who in networks}
moved = (weights["teacher"][-1] - weights["teacher"][warmup // 4]).abs().flatten()
chosen = moved.argsort(descending=True)[[0, 40]]
figure, axes = plt.subplots(1, 2, figsize=(9.5, 3), layout="constrained")
for axis, index in zip(axes, chosen, strict=True):
    for who, colour in (("teacher", "C0"), ("student", "C1")):
        axis.plot(at, [float(w.flatten()[index]) for w in weights[who]], color=colour, label=who, marker=".")
    axis.axvspan(0, warmup, color="0.5", alpha=0.15, lw=0)
    axis.set(xlabel="step", ylabel="value of one weight", xlim=(0, steps))
axes[0].legend()
plt.close(figure)
figure

# %% [markdown]
# ## The student follows: Eq. 6
#
# > **Expansion.** Teacher (DINO's student): learns. Student (DINO's teacher): follows.
#
# With $\theta_t$ the student's and $v_t$ the teacher's parameters after step $t$:
#
# (eq-6)=
#
# $$
# \theta_t=\beta\,v_t+(1-\beta)\,\theta_{t-1}
# \tag{6}
# $$
#
# The paper's settings state the *momentum of the teacher as 0.996, raised to 1.0 during training, and that of the student
# as 0*. Beside Eq. 6 this can be read in three ways:
#
# | reading | the student becomes |
# |---|---|
# | literally: 0.996 is $\beta$, the teacher's weight, and 0 where the student's weight $1-\beta$ ends | a copy that keeps 0.4 % of itself in a step, at last nothing. Eq. 10 then asks for one answer to two views of an image, the second view without a gradient |
# | DINO's momentum, what a network *keeps* of itself, under this paper's names | a copy, since it keeps 0. The teacher would keep 99.6 %, at last everything: the one network that learns would come to rest |
# | DINO's momentum under DINO's names: the network that follows keeps 0.996, the one that learns has no momentum | a slow mean of the teacher's past, $m=1-\beta$ |
#
# The code takes the third, $\theta_t=m\,\theta_{t-1}+(1-m)\,v_t$. It is the most plausible one: 0.996 rising to 1 is what
# DINO's network that follows keeps {cite:p}`caron2021dino`, and the paper says of its average that it *smooths* and
# moves the student *gradually*, which a copy does not. It is an inference all the same; the first reading
# takes formula and settings at their word, and is the option `ema_weighs="teacher"`.
#
# Insert the equation into itself, with constant $m$:
#
# $$
# \theta_t=m^t\,\theta_0+(1-m)\sum_{s=1}^{t}m^{\,t-s}\,v_s .
# $$
#
# The student is a mean of the teacher's past with weights that fade geometrically. They add up to $1-m^t$; their
# half-life is $\ln2/(1-m)$, that is 173 steps for 0.996. Jerks of the teacher average out, which is what a target
# should do: not run after every batch. As $m$ goes to 1 the student comes to rest.
#
# How much of the student's own start is left after $T$ steps of a momentum that rises along half a cosine from
# $m_0$ to 1? It is $\prod_tm_t\approx\exp\bigl(-\sum_t(1-m_t)\bigr)=\exp\bigl(-\tfrac12(1-m_0)T\bigr)$, since the
# cosine's mean is a half.

# %%
chapter.source(dskd.momentum_at, dskd.ema_update)

# %% [markdown]
# By hand: a student at 1, a teacher at 3, momentum 0.75. The student moves a quarter of the way, to $1.5$; then,
# with the teacher at rest, to $1.875$. Under the first reading one step takes it to $0.996\cdot3+0.004\cdot1.875=2.9955$.

# %%
student, teacher = torch.nn.Linear(1, 1, bias=False), torch.nn.Linear(1, 1, bias=False)
torch.nn.init.constant_(student.weight, 1.0)
torch.nn.init.constant_(teacher.weight, 3.0)
trace = []
for _ in range(2):
    dskd.ema_update(student, teacher, momentum=0.75)
    trace.append(float(student.weight.detach()))
assert trace == [1.5, 1.875]
dskd.ema_update(student, teacher, momentum=1 - 0.996)  # beta = 0.996
assert np.isclose(float(student.weight.detach()), 2.9955)
left = {}
for name in PRESETS:
    length, momentum = preset(name).steps - preset(name).method.warmup_steps, preset(name).method.ema_momentum
    kept = np.prod([dskd.momentum_at(t / length, momentum) for t in range(length)])
    left[name] = 100 * kept
    assert np.isclose(kept, np.exp(-(1 - momentum) * length / 2), rtol=0.05, atol=1e-9)
    print(f"{name}: momentum {momentum} over {length} steps leaves {100 * kept:.2g} % of the student's start")

# %% mystnb={"image": {"alt": "Left: momentum over the course of training rises along half a cosine from 0.996 to 1. Right: the weight of the teacher's past in the student, for the two readings of Eq. 6: a long memory, or the last step alone."}} tags=["hide-input"]
figure, (left_axis, right_axis) = plt.subplots(1, 2, figsize=(9.5, 3), layout="constrained")
progress = np.linspace(0, 1, 200)
left_axis.plot(100 * progress, [dskd.momentum_at(p, 0.996) for p in progress])
left_axis.set(xlabel="share of the expansion stage done, %", ylabel="momentum $m$")
age = np.arange(0, 1000)
right_axis.semilogy(age, 0.004 * 0.996**age, label=r"$1-\beta=0.996$, a mean of the past")
right_axis.semilogy(age[:4], 0.996 * 0.004 ** age[:4], label=r"$\beta=0.996$, a copy", marker=".")
right_axis.set(xlabel="how many steps ago", ylabel="weight in the student", ylim=(1e-8, 2))
right_axis.legend()
plt.close(figure)
figure

# %% [markdown]
# Is the student the better or the worse network for it? That is not a matter of definition but of measurement. In the
# whole runs on the embedded data that the repository holds, student less teacher, in points of mIoU, by seed:

# %% tags=["nbval-ignore-output"]
results, complete = tables.read_some(grids.RESULTS, "shapes", "modules", grids.SEEDS["modules"])
with_student = ["+ DSKD", grids.METHOD]
lag = pd.concat(
    {
        name: (tables.scores(results, score, "student") - tables.scores(results, score, "teacher")).reindex(with_student)
        for name, score in {"segmentation head": "seg", "CAM": "cam"}.items()
    }
).rename_axis(["score", "run"])
print(complete)
head, maps_of = lag.loc["segmentation head"], lag.loc["CAM"]
for name, row in {"plain": "+ DSKD", "corrected": grids.METHOD}.items():
    glue(f"head_lead_{name}", float(head.loc[row].mean()), display=False)
glue("cam_lag", float(-maps_of.mean(axis=None)), display=False)
if results and lag.notna().all(axis=None):  # no result is missing
    assert (maps_of < -1).all(axis=None), "the student's CAM lags under every seed"
    assert (head.loc["+ DSKD"] > 0).sum() == head.shape[1] - 1 and head.loc["+ DSKD"].median() > 1, "its head leads under all but one"
    assert abs(head.loc[grids.METHOD].mean()) < 0.5 and head.loc[grids.METHOD].drop(head.loc[grids.METHOD].idxmin()).min() > -1
    assert (head.min(axis=1) < -3).all() and (head.idxmin(axis=1) == maps_of.idxmin(axis=1)).all(), "one seed lags in all"
chapter.Table(lag.dropna().round(1) + 0.0)  # no -0.0

# %% [markdown]
# Its CAM lags under every seed, by {glue:text}`cam_lag:.1f` points on average. Its head does not: without the correction it *leads* under all
# seeds but one, by {glue:text}`head_lead_plain:.1f` points on average, and with it the two heads differ by
# {glue:text}`head_lead_corrected:.1f` points on average. The seed that is the exception is the same in all four rows, the one whose maps lag most. A likely reading: the mean
# smooths, which serves a decoder that learns from labels of which many are wrong; but the student took its maps over from a warm-up at a
# tenth of the learning rate, and the printed share of that start is still in the mean at the end. Neither was tested.
#
# ## Agreement on mirrored images: Eq. 7
#
# > **Warm-up.** Both learn by gradients, each is the other's target. DINO has no such stage.
#
# Let $P_t$ be the teacher's middle tokens of the mirrored image, and $P_s$ the student's of the image itself.
# Mirroring $P_t$ back puts equal places on top of each other:
#
# (eq-7)=
#
# $$
# L_{sim}=-\frac1c\sum_c\frac{\mathrm{Flip}(P_t)_c\cdot P_{s,c}}{\lVert\mathrm{Flip}(P_t)_c\rVert\,\lVert P_{s,c}\rVert}
# \tag{7}
# $$
#
# The mean is over the $c$ channels; so, literally, what is compared is a channel, as a vector over the patches. A relative
# settles it: the discrepancy loss by which DuPL keeps two networks *apart* {cite:p}`wu2024dupl` is in its code this cosine of
# each channel over the places, averaged over channels, with the other sign. The alternative, a patch as a vector
# over channels, is an option of the function.
#
# *Does this feature light up at the same places?* is not quite what it asks. A channel has a mean over the places, and two
# channels that are constant agree completely. Only the *centred* cosine, that mean taken off, compares the places alone.

# %%
chapter.source(dskd.flip_similarity_loss)

# %% [markdown]
# By hand: one row of two patches, two channels. The student has $(1,0)$ in the first channel and $(0,1)$ in the
# second. The teacher has, on the mirrored image, $(0,2)$ and $(1,1)$. Mirrored back, that is $(2,0)$ and $(1,1)$.
# The cosines are 1 and $1/\sqrt2$, so $L_{sim}=-\tfrac12(1+0.7071)=-0.8536$.

# %%
student_tokens = torch.tensor([[1.0, 0], [0, 1]]).view(1, 2, 1, 2)  # (B, D, h, w)
teacher_tokens = torch.tensor([[0.0, 2], [1, 1]]).view(1, 2, 1, 2)
value = dskd.flip_similarity_loss(teacher_tokens, student_tokens)
assert torch.isclose(value, torch.tensor(-(1 + 2**-0.5) / 2))
round(value.item(), 4)

# %% [markdown]
# ### Does it collapse?
#
# If every image gave the same tokens, symmetric from left to right, $L_{sim}$ would be at its minimum, $-1$. There
# are no negative pairs that would forbid it. Losses of this kind are feared for that.
#
# Look at the gradient first. For one channel, with unit vectors $\hat a,\hat b$ of the two sides,
#
# $$
# -\frac{\partial}{\partial a}\frac{a\cdot b}{\lVert a\rVert\lVert b\rVert}=-\frac1{\lVert a\rVert}\bigl(\hat b-(\hat a\cdot\hat b)\,\hat a\bigr).
# $$
#
# It turns $a$ towards $b$ and vanishes as soon as both agree, **whatever** they agree on. Constant tokens are one
# minimum. But every network for which *mirror, then encode* equals *encode, then mirror* is a minimum as well, and
# nothing in the loss prefers the empty one. Which one descent finds depends on where it starts and how long its steps
# are. And the loss is not alone: Eq. 8 asks for the tags, and equal tokens would give every image the same tags.
#
# So it is tried: from pre-trained and from random weights, at the preset's learning rate and at five times as much, alone
# and with Eq. 8. *Matched* is the cosine of Eq. 7, *mismatched* the same between the teacher's tokens of one
# image and the student's of another, each also centred. Tokens that no longer depend on the image would make both mismatched
# ones 1, or the first alone if they are the same at all places.
#
# ````{admonition} Predict 1
# :class: predict
#
# Nothing in Eq. 7 forbids that all images become alike. Where will the mismatched cosine end: near 1, or where it began? Will it
# end lower if the tags have to be told as well? And what will the centred one do?
#
# ```{dropdown} Answer
# It rises everywhere and reaches 1 nowhere: from {glue:text}`mismatched_before:.2f` to {glue:text}`mismatched_slow:.2f` in small
# steps and to {glue:text}`mismatched_fast:.2f` in larger ones. The tags do not hold it down: with them it ends at
# {glue:text}`mismatched_tags:.2f`. The centred one stays near 0. So it is the means of the channels that become alike, and not the
# places.
# ```
# ````

# %% tags=["hide-input"]
small_images, small_tags, _ = collate([data.val[i] for i in range(8)], "cpu")
small_images = small_images[..., 16:112, 16:112]


def without_mean(tokens):
    """Tokens (B, D, h, w) less each channel's mean over the places."""
    return tokens - tokens.mean((2, 3), keepdim=True)


def minimise(rate, with_tags=False, weights="shipped", updates=30):
    """Both networks on eight images: the four cosines and the norm of the teacher's gradient at each update."""
    torch.manual_seed(seed)
    first, _ = build_network(config.changed(weights=weights), len(data.folder.classes))
    second = copy.deepcopy(first)
    optimiser = torch.optim.AdamW([*first.parameters(), *second.parameters()], lr=rate)
    trace = []
    for _ in range(updates):
        one, two = first(small_images.flip(-1)), second(small_images)
        loss = dskd.flip_similarity_loss(one.middle, two.middle)
        row = {"matched": -loss.item()}
        for name, (a, b) in {
            "mismatched": (one.middle, two.middle.roll(1, 0)),
            "matched, centred": (without_mean(one.middle), without_mean(two.middle)),
            "mismatched, centred": (without_mean(one.middle), without_mean(two.middle).roll(1, 0)),
        }.items():
            row[name] = -dskd.flip_similarity_loss(a.detach(), b.detach()).item()
        if with_tags:
            loss = config.method.lambda2 * loss + tag_losses(one, small_tags) + tag_losses(two, small_tags)
        optimiser.zero_grad()
        loss.backward()
        trace.append(row | {"gradient": norm(first.encoder)})
        optimiser.step()
    return pd.DataFrame(trace)


def norm(module):
    """Norm of the gradient of all parameters of a module."""
    return float(torch.stack([p.grad.norm() for p in module.parameters() if p.grad is not None]).norm())


traces = {
    "alone": minimise(config.lr),
    "alone, five times the rate": minimise(5 * config.lr),
    "with Eq. 8, five times the rate": minimise(5 * config.lr, with_tags=True),
    "alone, random weights": minimise(config.lr, weights="none"),
}

# %% mystnb={"image": {"alt": "Four panels, four cosines over the updates each. Matched ones rise towards 1 everywhere. The mismatched one rises in all four, to about four or five tenths, least from pre-trained weights in small steps; centred it stays at zero in all four."}} tags=["hide-input"]
figure, axes = plt.subplots(1, 4, figsize=(13, 3.3), layout="constrained", sharey=True)
looks = {"matched": "C0-", "matched, centred": "C0:", "mismatched": "C1--", "mismatched, centred": "C1-."}
for axis, (name, trace) in zip(axes, traces.items(), strict=True):
    for column, look in looks.items():
        axis.plot(trace[column], look, label=column, lw=2)
    axis.set(title=name, xlabel="update", ylim=(-0.1, 1.05))
axes[0].set_ylabel("mean cosine")
figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
plt.close(figure)
figure

# %% tags=["nbval-ignore-output"]
ends = pd.DataFrame({name: trace.iloc[-1] for name, trace in traces.items()}).T
starts = pd.DataFrame({"pre-trained, before": traces["alone"].iloc[0], "random weights, before": traces["alone, random weights"].iloc[0]}).T
for name, row in {"slow": "alone", "fast": "alone, five times the rate", "tags": "with Eq. 8, five times the rate",
                  "random": "alone, random weights"}.items():  # fmt: skip
    glue(f"mismatched_{name}", float(ends.mismatched[row]), display=False)
glue("mismatched_before", float(starts.mismatched.iloc[0]), display=False)
glue("mismatched_random_before", float(starts.mismatched.iloc[1]), display=False)
chapter.Table(pd.concat([starts, ends]).round(2), "cosine of Eq. 7")

# %% [markdown]
# Everywhere the two networks come to agree, and everywhere *different* images become more alike on the way: from pre-trained weights a
# little in small steps and more in steps five times as large, and most of all from random weights, where hardly anything was alike before.
# Eq. 8 does not hold against it: with the tags the mismatched cosine ends higher than without. (A likely reason, not looked
# into: the classifiers of tokens have no bias, so the *no* to the classes that most images do not show needs a direction that all tokens share.)
# Nowhere does the cosine go to 1, and once agreement is reached hardly any gradient is left to
# take it further. The centred cosine says what it is that became alike: not the places, where it stays near zero, but
# the means of the channels. So in these few updates Eq. 7 drifts towards constant channels, the more the larger a step is beside the
# weights, and no pattern collapses. It is no proof for longer runs.
#
# ## The tags: Eq. 8
#
# (eq-8)=
#
# $$
# L_{cls}=-\frac1C\sum_{c}\bigl[y_c\log\hat y_c+(1-y_c)\log(1-\hat y_c)\bigr]
# \tag{8}
# $$
#
# > **Warm-up:** both learn the tags. **Expansion:** the teacher (DINO's student) alone. DINO knows no tags.
#
# Binary cross-entropy for each class, since an image may have several. $\hat y$ is a sigmoid of logits; the paper
# takes them from the class token. With that alone, no gradient would reach the weights $\theta$ of Eq. 1, and no
# map would be learnt. So the code adds the same loss on the patches of the last and of the middle block, pooled to one logit a
# class. There are two ways to pool with a maximum. Take the largest *logit* over the places, and one patch a class learns
# (whether it lies on an object of the class, the {ref}`pointing game <loudest-token>` asks). Or
# take the largest value of each *channel* over the places, and then the classifier: so do ToCo {cite:p}`ru2023toco` and DuPL
# {cite:p}`wu2024dupl` in their code, and what learns is a token put together from up to $D$ patches. The option is `tag_pool_of`;
# the preset of the embedded data takes the first.

# %%
chapter.source(dskd.tag_loss, tag_losses)

# %% [markdown]
# By hand: two classes, logits $\ln3$ and $0$, tags $1$ and $0$. The probabilities are $\tfrac34$ and $\tfrac12$, so
# the loss is $\tfrac12(\ln\tfrac43+\ln2)=\tfrac12\ln\tfrac83=0.4904$.

# %%
value = dskd.tag_loss(torch.tensor([[3.0, 1]]).log(), torch.tensor([[1.0, 0]]))
assert torch.isclose(value, torch.tensor(8 / 3).log() / 2)
round(value.item(), 4)

# %% [markdown]
# And both ways to pool, for two patches $(1,0)$ and $(0,1)$ and a class with weights $(1,1)$: the largest logit is 1, the logit
# of the largest channels, a token $(1,1)$ that no patch has, is 2. In the picture above, that token comes from many patches:

# %%
patches, weight = torch.tensor([[1.0, 0], [0, 1]]), torch.tensor([1.0, 1])  # (D, N), (D,)
assert (weight @ patches).max() == 1 and weight @ patches.amax(1) == 2
sources = following.tokens[0].flatten(1).argmax(1).unique().numel()
assert sources > len(data.folder.classes)  # more places than one a class
print(f"{following.tokens.shape[1]} channels take their maximum at {sources} different patches")

# %% [markdown]
# ## Where the map is unsure: Eq. 9
#
# > **Expansion.** The map is the teacher's (DINO's student).
#
# (eq-9)=
#
# $$
# \mathrm{ROI}(i,j)=\begin{cases}1 & l_{th}<A(i,j)<h_{th}\\0&\text{otherwise}\end{cases},\qquad A=\max_c\mathrm{CAM}_c
# \tag{9}
# $$
#
# Both inequalities are strict. With the thresholds 0.2 and 0.7, activations $0.2, 0.3, 0.7, 0.9$ give $0,1,0,0$.

# %%
activations = torch.tensor([0.2, 0.3, 0.7, 0.9]).view(1, 1, 1, 4)
inside = dskd.uncertain_region(activations, low=0.2, high=0.7)
assert inside.flatten().tolist() == [False, True, False, False]
chapter.source(dskd.uncertain_region)

# %% [markdown]
# What does the region hold? Of drawn things the parts are known: the head, which tells the class, and the body, whose look two classes
# share. On the first validation images, the teacher's map by what a patch shows:
#
# ````{admonition} Predict 2
# :class: predict
#
# The map finds heads and misses most of the bodies ({doc}`01_ptc`). Which patches are in the uncertain region more often, those of
# heads or those of bodies?
#
# ```{dropdown} Answer
# Those of heads: {glue:text}`head_uncertain:.0f` % of them, and {glue:text}`body_uncertain:.0f` % of the bodies'. Where something
# is missed, the map is not uncertain: for {glue:text}`body_sure:.0f` % of the bodies' patches it lies below $l_{th}$ and says
# background.
# ```
# ````

# %% tags=["nbval-ignore-output"]
held = Pictures(*(of_all[:64] for of_all in held_out(data.val)))
with torch.no_grad():
    strongest = cam.tagged(config.method.cam(networks["teacher"], networks["teacher"](held.images)), held.tags).amax(1)  # (B, h, w)
shows = F.interpolate(held.parts[:, None].float(), strongest.shape[-2:], mode="nearest-exact")[:, 0]  # the patch's centre
wavers = dskd.uncertain_region(strongest[:, None], roi_low, roi_high)
states = {"sure: background": ~wavers & (strongest <= roi_low), "uncertain": wavers, "sure: a thing": ~wavers & (strongest > roi_low)}
by_part = pd.DataFrame(
    {state: {part: 100 * float(where[shows == value].float().mean()) for part, value in PARTS.items()}
     for state, where in states.items()}
)  # fmt: skip
glue("body_sure", float(by_part["sure: background"]["body"]), display=False)
glue("body_uncertain", float(by_part["uncertain"]["body"]), display=False)
glue("head_uncertain", float(by_part["uncertain"]["head"]), display=False)
chapter.Table(by_part.round(0).astype(int), "% of the patches of")

# %% [markdown]
# The region lies on heads ({glue:text}`head_uncertain:.0f` % of their patches), less on bodies ({glue:text}`body_uncertain:.0f` %), and
# hardly anywhere else. Of the bodies {glue:text}`body_sure:.0f` % lie *below* $l_{th}$: the map is sure of them, and wrong. Eq. 9
# finds where a map wavers, not where it is mistaken, and so what Eq. 10 asks for below is asked on the borders of what the map has found
# already.

# %% [markdown]
# ## Agreement where it is unsure: Eq. 10
#
# > **Expansion.** Teacher (DINO's student): learns. Student (DINO's teacher): gives the target.
#
# A *projector* after DINO turns every token into $K$ numbers without any given meaning: a perceptron of three layers, the
# result scaled to unit length, and the scalar product with $K$ learnt directions of unit length, the *weight-normalised* layer. So
# its outputs are cosines, and **lie in $[-1,1]$**. Keep that in mind.

# %%
chapter.source(Projector)

# %% [markdown]
# Which tokens? The paper says *the patch tokens processed by the warm-up stage*, and makes the CAM of those *put out by the
# warm-up stage*. That stage ties the middle tokens (Eq. 7), but it trains the last ones too. Here the last are projected
# (`punc_tokens`; the middle ones are the other reading), and the CAM is of the last, whose classifier is that of Eq. 1.
#
# A softmax over the $K$ numbers is a distribution over $K$ learnt prototypes. In the uncertain
# region, the teacher's distribution is to follow the student's:
#
# (eq-10)=
#
# $$
# L_{PUNC}=\frac1{\sum_i\mathrm{ROI}_i}\sum_i-\sigma_s(\hat P_s)_i\cdot\sigma_t(\hat P_t)_i\;\mathrm{ROI}_i
# \tag{10}
# $$
#
# with $\sigma_s$ a softmax and $\sigma_t$ a **log**-softmax over the $K$ outputs. It is the masked patch loss of iBOT
# {cite:p}`zhou2022ibot`, the region in the place of the mask; both are means over *one image's* region first. The option `punc_mean`
# also knows one mean over all regions of a batch, where an image with a larger one weighs more. Why one softmax of each kind? Write $p$ for
# the student's distribution, $z$ for the teacher's outputs and $r=\mathrm{softmax}(z)$. The summand is
#
# $$
# -\sum_kp_k\log r_k=H(p)+\mathrm{KL}(p\,\Vert\,r),
# $$
#
# a cross-entropy. The paper states that the student takes no gradient in this stage; so `detach` in the code saves work and
# changes nothing that is learnt. Then $H(p)$ is a constant, and the smallest value is reached exactly at $r=p$. That the student is
# the *target* is not stated; it is inferred, since only this side of a cross-entropy has a plain softmax. From $\log r_k=z_k-\log\sum_je^{z_j}$ and $\sum_kp_k=1$,
#
# $$
# \frac{\partial}{\partial z_k}\Bigl(-\sum_jp_j\log r_j\Bigr)=r_k-p_k .
# $$
#
# The gradient is what is missing, no more. (With a temperature $T$, that is $r=\mathrm{softmax}(z/T)$, it is $(r_k-p_k)/T$.) Now
# the alternatives.
#
# - *Softmax on both sides*, $-\sum_kp_kr_k$: linear in $r$, smallest where **all** of $r$ sits on the largest $p_k$. It does not make the two
#   agree, it makes the teacher overconfident. Its gradient is $-r_k(p_k-\sum_jp_jr_j)$; the factor $r_k$ silences it where the
#   teacher is confidently wrong.
# - *Logarithms on both sides*, $-\sum_k\log p_k\log r_k$: no cross-entropy of anything, and unbounded below.
# - *A logarithm taken after the softmax*: the same number in exact arithmetic, but softmax underflows to 0 and its logarithm is
#   $-\infty$. Log-softmax is computed as $z_k-\log\sum_je^{z_j}$, an ordinary number.
#
# By hand, for $K=2$: student outputs $(0,\ln3)$ give $p=(\tfrac14,\tfrac34)$, teacher outputs $(0,0)$ give
# $r=(\tfrac12,\tfrac12)$. The cross-entropy is $\ln2$ and its gradient $(\tfrac14,-\tfrac14)$; with $T=0.1$ ten times that.

# %%
student_out = torch.tensor([1.0, 3]).log().view(1, 2, 1, 1)  # (B, K, h, w)
teacher_out = torch.zeros(1, 2, 1, 1, requires_grad=True)
value = dskd.uncertain_region_loss(student_out, teacher_out, torch.ones(1, 1, 1, dtype=torch.bool))
(slope,) = torch.autograd.grad(value, teacher_out)
assert torch.isclose(value, torch.tensor(2.0).log()) and torch.allclose(slope.flatten(), torch.tensor([0.25, -0.25]))
value = dskd.uncertain_region_loss(student_out, teacher_out, torch.ones(1, 1, 1, dtype=torch.bool), teacher_temperature=0.1)
assert torch.allclose(torch.autograd.grad(value, teacher_out)[0], 10 * slope)
chapter.source(dskd.uncertain_region_loss, dskd.exchange_losses)

# %% [markdown]
# What the first two forms do to a teacher that starts with $r=(0.02,0.49,0.49)$ and should learn $p=(0.6,0.3,0.1)$,
# by plain descent:

# %% mystnb={"image": {"alt": "Two panels: the teacher's three probabilities under descent. With softmax against log-softmax they settle at the target; with softmax on both sides the second output takes all for a long time, although the first should be largest."}} tags=["hide-input"]
target = torch.tensor([0.6, 0.3, 0.1])
forms = {
    "softmax and log-softmax (Eq. 10)": lambda z: -(target * z.log_softmax(0)).sum(),
    "softmax on both sides": lambda z: -(target * z.softmax(0)).sum(),
}
descents = {}
for name, form in forms.items():
    z = torch.tensor([0.02, 0.49, 0.49]).log()
    steps_taken = []
    for _ in range(200):
        steps_taken.append(z.softmax(0).tolist())
        z.requires_grad_()
        (slope,) = torch.autograd.grad(form(z), z)
        z = (z - 0.5 * slope).detach()
    descents[name] = np.array(steps_taken)
figure, axes = plt.subplots(1, 2, figsize=(9.5, 3), layout="constrained", sharey=True)
for axis, (name, values) in zip(axes, descents.items(), strict=True):
    for k in range(3):
        axis.plot(values[:, k], color=f"C{k}", label=f"output {k + 1}")
        axis.axhline(float(target[k]), color=f"C{k}", ls=":", lw=1.2)
    axis.set(title=name, xlabel="update", ylim=(0, 1))
axes[0].set_ylabel("probability $r_k$ (dotted: target $p_k$)")
axes[0].legend()
plt.close(figure)
assert np.allclose(descents["softmax and log-softmax (Eq. 10)"][-1], target, atol=0.01)
assert descents["softmax on both sides"][-1].max() > 0.9  # one output takes nearly all: agreement is not what it asks for
figure

# %% [markdown]
# ### Temperature 1 is inert here
#
# Cosines lie in $[-1,1]$. At temperature 1 the softmax of $K$ of them is flat, whatever the network does: no output can have
# more than $e/(e+(K-1)e^{-1})$, which is 2.8 % for $K=256$ and 0.7 % for $K=1024$. All targets are nearly the
# uniform distribution, and so are all predictions; there is next to nothing to learn. DINO divides the outputs by a
# *temperature*, 0.04 for the target and 0.1 for the side that learns. Measured on eight images with the two networks from above:
#
# ````{admonition} Predict 3
# :class: predict
#
# A temperature of 0.1 on the side that learns divides the gradient $r-p$ by 0.1. By how much does the encoder's gradient grow with
# DINO's settings: by ten, by less, or by far more?
#
# ```{dropdown} Answer
# {glue:text}`ratio:.0f` times. Ten of it come from $1/T$. The rest comes from $r-p$ itself: at temperature 1 both sides are nearly
# flat, so that their difference is next to nothing; at 0.04 the target has a few large probabilities, and there is something to
# miss. The first column says so: as printed, the target's entropy is that of outputs which are all alike.
# ```
# ````

# %% tags=["nbval-ignore-output"]
K, leads, follows = config.projector[2], networks["teacher"], networks["student"]
assert [round(100 * np.e / (np.e + (k - 1) / np.e), 1) for k in (256, 1024)] == [2.8, 0.7]
with torch.no_grad():
    target_out = follows.project(follows(small_images).tokens)  # (B, K, h, w)
    map_ = config.method.cam(leads, leads(small_images.flip(-1))).flip(-1)
unsure = dskd.uncertain_region(cam.tagged(map_, small_tags), roi_low, roi_high)
assert target_out.abs().max() <= 1


def asked(gain=1.0, centre=0.0, *, target_temperature=1.0, temperature=1.0):
    """What Eq. 10 asks of the teacher: the target's entropy, its divergence from the prediction, the encoder's gradient."""
    leads.zero_grad()
    learning = leads.project(leads(small_images.flip(-1)).tokens.flip(-1))
    target = gain * target_out - centre
    options = {"student_temperature": target_temperature, "teacher_temperature": temperature}
    value = dskd.uncertain_region_loss(target, gain * learning, unsure, **options)
    value.backward()
    entropy = float(torch.special.entr((target / target_temperature).softmax(1)).sum(1)[unsure].mean())
    return {"entropy of target": entropy, "KL": float(value.detach()) - entropy, "encoder's gradient": norm(leads.encoder)}


dino = {"target_temperature": 0.04, "temperature": 0.1, "centre": target_out.mean((0, 2, 3), keepdim=True)}
asking = pd.DataFrame({"as printed": asked(), "DINO's temperatures, centre": asked(**dino), "as printed, gain 25": asked(25.0)}).T
leads.zero_grad()
tag_losses(leads(small_images.flip(-1)), small_tags).backward()
asking.loc["Eq. 8, for comparison", "encoder's gradient"] = norm(leads.encoder)
ratio = float(asking["encoder's gradient"].iloc[1] / asking["encoder's gradient"].iloc[0])
glue("ratio", ratio, display=False)
print(f"outputs from {target_out.min():.2f} to {target_out.max():.2f}; entropy if all are alike: log K = {np.log(K):.3f}")
chapter.Table(asking.round(4), "Eq. 10")

# %% mystnb={"image": {"alt": "The 256 target probabilities of one patch, sorted: flat at temperature 1, a few large ones at 0.04."}} tags=["hide-input"]
figure, axis = plt.subplots(figsize=(6.5, 2.6), layout="constrained")
one_patch = target_out.permute(0, 2, 3, 1)[unsure][0]  # (K,)
for temperature, look in ((1.0, "-"), (0.04, "--")):
    ranked = (one_patch / temperature).softmax(0).sort(descending=True).values
    axis.semilogy(range(1, K + 1), ranked, look, label=f"temperature {temperature:g}", lw=2)
axis.set(xlabel="outputs of one patch, ranked", ylabel="probability", ylim=(1e-8, 2))
axis.legend()
plt.close(figure)
figure

# %% [markdown]
# The encoder's gradient with DINO's settings is {glue:text}`ratio:.0f` times the printed formula's. Three things follow.
#
# - As printed, with unit rows, Eq. 10 is next to no loss at all: a run with it is nearly a run without $L_{PUNC}$. Temperatures
#   *depart* from the print; they are what makes it a loss.
# - They are not free. A temperature of 0.1 on the learning side divides the gradient by 0.1: it multiplies the printed
#   $\lambda_3=0.1$ by ten, and nobody knows against which temperatures the paper tuned it.
# - *Weight-normalised* does not say that the rows keep length 1. Weight norm has a gain; DINO's code holds it at 1 for its ViT-B and
#   trains it for its smaller one {cite:p}`caron2021dino`. A gain of 25 is a temperature of 0.04 on both sides, so
#   with a gain that is trained (`projector_gain`) the printed formula could teach.
#
# ### Collapse, once more: a matter of scale
#
# In Eq. 10 both sides move: the student becomes what the teacher was. If the projector gave every patch the same
# answer, the loss would be as small as the entropy of that answer allows. There are two such ends: one output takes
# all, or all outputs are alike. At temperature 1 the first is out of reach, and the second is where the loss already is. With a low
# temperature both are real, and DINO plays them against each other. A *centre*, the running mean of the target's
# outputs, is subtracted from them, so that no output can win everywhere; the sharp target cannot be flat everywhere. The
# paper mentions neither. The entropy of the mean target tells whether it holds:

# %% mystnb={"image": {"alt": "Entropy of the student's mean target in the expansion stage, between zero, where one output takes all, and the logarithm of the number of outputs."}} tags=["hide-input"]
figures.projection_entropy(run, config.projector[2])

# %% tags=["hide-input"]
size = float(region.float().mean())
assert 0 < size < 1, "the uncertain region of the image is empty or everything"
gap = [float((a - b).norm()) for a, b in zip(weights["teacher"], weights["student"], strict=True)]
expansion = [g for g, step in zip(gap, at, strict=True) if step > warmup]
if (steps, warmup, seed) == (64, 32, 0):  # what the text says holds for the run as shipped
    assert expansion[-1] < gap[at.index(warmup)], "the student has come closer to the teacher"
    alike, alone = ends.mismatched, ends.filter(like="alone", axis=0)
    slow, fast, tags_too, random = alike[["alone", "alone, five times the rate", "with Eq. 8, five times the rate", "alone, random weights"]]
    before, random_before = starts.mismatched
    assert (ends.matched > 0.9).all() and (ends["mismatched, centred"].abs() < 0.1).all(), "agreement, and no pattern collapses"
    assert slow > before + 0.05 and fast > slow + 0.03, "images become more alike, in larger steps more so"
    assert random - random_before > slow - before + 0.1, "and most from random weights"
    assert tags_too > fast, "the tags do not hold against it"
    assert alike.max() < 0.8 and alone.gradient.max() < 0.25 * traces["alone"].gradient.max(), "it ends before 1"
    if image == 20:
        orange = (held.parts[image] == BODY) & (held.masks[image] == 1)
        patches_of = F.interpolate(orange[None, None].float(), region.shape, mode="nearest-exact")[0, 0] == 1
        assert all(float(map_[0].amax(0)[patches_of].mean()) < 0.2 for map_ in maps.values()), "neither map finds this body"
    uncertain = by_part["uncertain"]
    assert by_part["sure: background"]["body"] > 60 and uncertain["head"] > uncertain["body"] + 5 > uncertain["rest"] + 10
    assert uncertain[["ground", "rest"]].max() < 3, "the region lies on things, on heads the most"
    assert ratio > 50 and np.log(K) - asking.loc["as printed", "entropy of target"] < 0.02, "at temperature 1 nothing is asked"

# %% [markdown]
# ## The paper, the code, our choice
#
# | question | in the paper | in the code | our choice and why |
# |---|---|---|---|
# | momentum | teacher 0.996 to 1.0, student 0; $\beta$ in Eq. 6 | `ema_momentum`, `ema_weighs` | $m=1-\beta$, the likeliest of three readings |
# | how it rises | not said | `dskd.momentum_at` | half a cosine, as in DINO |
# | vectors of Eq. 7 | a mean over channels | `similarity_axis` | channels, as printed and as in DuPL's code |
# | Eq. 7 after warm-up | not said | `similarity_after_warmup` | off; it is described for the warm-up |
# | $L_{PTC}$ of the student in the warm-up | not said | none | the teacher's maps are those that become labels |
# | cosine of the learning rates | named for the warm-up | over the whole run | the teacher learns on after it |
# | logits of Eq. 8 | the class token's | `tag_losses`, `tag_pool_of` | departs: and pooled patch logits, which train the maps |
# | tokens of Eq. 10 and of the CAM | those "of the warm-up stage" | `punc_tokens` | the last ones |
# | gradient of Eq. 10 | none for the student | `detach` | as stated; that the student is the target is inferred |
# | mean of Eq. 10 | over one image's region | `punc_mean` | as printed, and as in iBOT |
# | temperatures, centring | none | `student_temperature`, `teacher_temperature`, `centre_momentum` | departs: DINO's values, without which it teaches next to nothing here |
# | gain of the weight norm | not said | `projector_gain` | 1, as DINO's for ViT-B |
# | projector sizes | "after DINO" | `projector` | DINO's widths, ToCo's 1,024 outputs |
# | maximum of Eq. 9 | over channels | over tagged classes | a class that is not in the image says nothing |
#
# {doc}`../book/choices` gives the values, {doc}`07_ablations` what another choice does, for those that were run.
#
# | equation | function | a test that holds it |
# |---|---|---|
# | {ref}`Eq. 6 <eq-6>` | {py:func}`~dsgc.dskd.ema_update` | {py:func}`ema equals the formula and copies buffers <test_dskd.test_ema_equals_the_formula_and_copies_buffers>` |
# | the momentum | {py:func}`~dsgc.dskd.momentum_at` | {py:func}`momentum runs from start to one without falling <test_dskd.test_momentum_runs_from_start_to_one_without_falling>` |
# | {ref}`Eq. 7 <eq-7>` | {py:func}`~dsgc.dskd.flip_similarity_loss` | {py:func}`flip similarity equals the loop <test_dskd.test_flip_similarity_equals_the_loop>` |
# | {ref}`Eq. 8 <eq-8>` | {py:func}`~dsgc.dskd.tag_loss` | {py:func}`tag loss equals the loop <test_dskd.test_tag_loss_equals_the_loop>` |
# | {ref}`Eq. 9 <eq-9>` | {py:func}`~dsgc.dskd.uncertain_region` | {py:func}`uncertain region equals the loop <test_dskd.test_uncertain_region_equals_the_loop>` |
# | {ref}`Eq. 10 <eq-10>` | {py:func}`~dsgc.dskd.uncertain_region_loss` | {py:func}`uncertain region loss is the printed formula by default <test_dskd.test_uncertain_region_loss_is_the_printed_formula_by_default>` |
#
# ## Exercises
#
# ```{exercise} By hand: half of the way
# :label: ex-dskd-half-way
#
# Momentum 0.9, student at 0, teacher fixed at 1. After how many steps has the student gone half of the way, and how far has it gone
# after ten?
# ```
#
# ```{solution} ex-dskd-half-way
# After $t$ steps it is at $1-0.9^t$. Half of the way: $0.9^t=\tfrac12$, $t=\ln2/\ln(1/0.9)=6.58$, so after seven steps (the rule of
# thumb $\ln2/(1-m)$ gives 6.9). After ten: $1-0.9^{10}=0.651$.
# ```
#
# ```{exercise} In code: nothing from outside the region
# :label: ex-dskd-outside
#
# Verify that Eq. 10 takes nothing from outside the region: change the projections there at will, and neither the loss nor the
# gradient inside may move.
# ```
#
# ```{solution-start} ex-dskd-outside
# ```

# %%
generator = torch.Generator().manual_seed(2)
mine, theirs = torch.randn(2, 1, 6, 4, 4, generator=generator)
where = torch.rand(1, 4, 4, generator=generator) < 0.4
results = []
for noise in (0.0, 100.0):
    changed = (mine + noise * (~where)).detach(), (theirs - noise * (~where)).requires_grad_()
    value = dskd.uncertain_region_loss(*changed, where)
    results.append((value.detach(), torch.autograd.grad(value, changed[1])[0]))
assert torch.allclose(results[0][0], results[1][0]) and torch.allclose(results[0][1], results[1][1], atol=1e-7)
assert results[0][1].mul(~where).abs().max() == 0

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} What breaks: sharpening without a centre
# :label: ex-dskd-collapse
#
# Let the "projector" be a free table: one row of four outputs for each of five patches, all leaning to the first output. Teacher
# and student start apart, the student follows slowly, the step is the same throughout. Where does Eq. 10 lead as printed, with
# DINO's temperatures alone, with the centre alone, and with both?
# ```
#
# ```{solution-start} ex-dskd-collapse
# ```

# %%
everywhere, lean = torch.ones(1, 5, 1, dtype=torch.bool), torch.tensor([0.3, 0, 0, 0])[:, None, None]
sharp = {"student_temperature": 0.04, "teacher_temperature": 0.1}
chosen, largest = {}, {}
for name, rate, options in (
    ("as printed", 1.0, {}), ("temperatures alone", 1.0, sharp), ("centre alone", 0.9, {}), ("both", 0.9, sharp),
):  # fmt: skip
    noise = torch.randn(2, 1, 4, 5, 1, generator=torch.Generator().manual_seed(0))
    (learning, target), centre = lean + 0.05 * noise, torch.zeros(4)
    for _ in range(600):
        learning.requires_grad_()
        (slope,) = torch.autograd.grad(dskd.uncertain_region_loss(target, learning, everywhere, centre=centre, **options), learning)
        learning = (learning - 0.05 * slope).detach()
        target = 0.9 * target + 0.1 * learning
        dskd.centre_update(centre, target.mean((0, 2, 3)), rate)  # at 1 it stays 0
    given = ((target - centre[:, None, None]) / options.get("student_temperature", 1)).softmax(1)[0, :, :, 0]  # (4, 5)
    chosen[name], largest[name] = given.argmax(0).tolist(), float(given.amax(0).mean())
    print(f"{name}: largest probability {largest[name]:.2f} on average, of outputs {chosen[name]}")
assert len(set(chosen["temperatures alone"])) == 1 and largest["temperatures alone"] > 0.95  # one output takes all
assert largest["as printed"] < 0.4 and largest["centre alone"] < 0.4  # nearly flat, as at the start
assert len(set(chosen["both"])) > 2 and largest["both"] > 0.95  # each patch is sure, and they differ
# As printed the two meet, patch by patch, and stay: no collapse, and nothing learnt beyond that. Sharpening alone makes the output
# that all leaned to the choice of all. The centre alone takes the lean away and leaves all outputs alike. Both together turn the
# small differences between patches into different choices.

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Open-ended: the other network, no mirror
# :label: ex-dskd-roles
#
# The student is the target, though its CAM scored lower than the teacher's in the table of Eq. 6. What would change if the
# student's maps made the pseudo labels (`label_network="student"`)? Or if both networks saw the same image, without a mirror?
# ```
#
# ```{solution} ex-dskd-roles
# The average is smoother, so labels change less from step to step; but it lags behind, most at the start of the expansion stage,
# when the student has had a tenth of the learning rate. No table of this book has a run with it. Without the mirror, Eq. 7 starts at
# its minimum (both networks start from the same weights) and stays there: no signal at all. What other changes of an image could
# take the mirror's place? They must move patches in a way that can be undone: shifts by whole patches, rotations by a right angle,
# a change of colour.
# ```
#
# ## What was seen
#
# - The paper's teacher learns and its student follows. That 0.996 weighs what is kept is the likeliest of three readings.
# - Eq. 7 is content with any agreement. What becomes alike between different images is the channels' means, not the places:
#   the mismatched cosine went from {glue:text}`mismatched_before:.2f` to {glue:text}`mismatched_slow:.2f`, to
#   {glue:text}`mismatched_fast:.2f` in steps five times as large, to {glue:text}`mismatched_tags:.2f` with the tags, and from random weights from
#   {glue:text}`mismatched_random_before:.2f` to {glue:text}`mismatched_random:.2f`; centred it stayed near 0.
# - The uncertain region lies on the heads of things more than on their bodies. Of these {glue:text}`body_sure:.0f` % are taken for background by a
#   map that is sure of it.
# - Eq. 10 is a cross-entropy: softmax for the target, log-softmax for the side that learns, and the gradient is the difference of the two
#   distributions over the temperature. At temperature 1 it is inert, since the projector's outputs are cosines.
#
# The next chapter, {doc}`03_gmm_em`, turns to the pseudo labels and asks which of them are wrong.

# %% tags=["remove-cell", "nbval-ignore-output"]
glue("seconds", time.monotonic() - begun, display=False)  # how long the chapter took, for the page that lists them
