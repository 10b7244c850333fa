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
# | this paper | **teacher** | **student** | student |
#
# So the paper's teacher is DINO's student. In the first stage, the *warm-up*, both are trained. In the second, the
# *expansion*, the student takes no gradient any more.
#
# In this chapter: both networks at work in pictures, Eq. 6 to 10 one after the other, what keeps each of them from
# collapsing, and why Eq. 10 has a softmax on one side and a log-softmax on the other.

# %% tags=["parameters"]
steps = 64  # training steps, 40 to 2000
warmup = 32  # steps of the warm-up, 20 to steps - 16
seed = 0
image = 11  # that is looked at, 0 to 199
roi_low = 0.2  # l_th of Eq. 9, 0 to 1; the paper's value
roi_high = 0.7  # h_th of Eq. 9, roi_low to 1; the paper's value

# %% tags=["hide-input"]
import copy
import tempfile
import time
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from myst_nb import glue

warnings.filterwarnings("ignore", message="IProgress not found")  # progress bars are plain text here
from dsgc import cam, dskd
from dsgc.config import PRESETS
from dsgc.methods import preset
from dsgc.methods.base import tag_losses
from dsgc.network.build import build_network
from dsgc.network.tensor_files import read_weights
from dsgc.runs.restore import load_networks
from dsgc.scoring.evaluate import collate
from dsgc.teaching import chapter, figures
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
# mirrored back before the two are compared. Where their maps differ, at least one of them is wrong. The last panel
# is the *uncertain region*: patches that the teacher's map calls neither background nor object.

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
# With $\theta_t$ the student's and $v_t$ the teacher's parameters after step $t$:
#
# (eq-6)=
#
# $$
# \theta_t=\beta\,v_t+(1-\beta)\,\theta_{t-1}
# \tag{6}
# $$
#
# The paper gives a *teacher momentum of 0.996, raised to 1.0 during training*. Is that $\beta$? Put it in and see:
# with $\beta=0.996$ the student keeps 0.4 % of itself in every step. It would be a copy of the teacher, and at
# $\beta=1$ nothing else. In DINO, where the numbers come from, the momentum $m$ weighs what is *kept*, so the
# sensible reading is $m=1-\beta$:
#
# $$
# \theta_t=m\,\theta_{t-1}+(1-m)\,v_t .
# $$
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
# with the teacher at rest, to $1.875$.

# %%
student, teacher = torch.nn.Linear(1, 1, bias=False), torch.nn.Linear(1, 1, bias=False)
torch.nn.init.constant_(student.weight, 1.0)
torch.nn.init.constant_(teacher.weight, 3.0)
trace = []
for _ in range(2):
    dskd.ema_update(student, teacher, momentum=0.75)
    trace.append(float(student.weight.detach()))
assert trace == [1.5, 1.875]
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
right_axis.semilogy(age, 0.004 * 0.996**age, label=r"$m=1-\beta=0.996$")
right_axis.semilogy(age[:4], 0.996 * 0.004 ** age[:4], label=r"$\beta=0.996$", marker=".")
right_axis.set(xlabel="how many steps ago", ylabel="weight in the student", ylim=(1e-8, 2))
right_axis.legend()
plt.close(figure)
figure

# %% [markdown]
# ## Agreement on mirrored images: Eq. 7
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
# The mean is over the $c$ channels; so, literally, what is compared is a channel, as a vector over the patches:
# *does this feature light up at the same places?* The alternative, a patch as a vector over channels, is an option
# of the function.

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
# ### Why it does not collapse
#
# If every image gave the same tokens, symmetric from left to right, $L_{sim}$ would be at its minimum, $-1$. There
# are no negative pairs that would forbid it. Losses of this kind are feared for that. Why does it not happen here?
#
# Look at the gradient first. For one channel, with unit vectors $\hat a,\hat b$ of the two sides,
#
# $$
# -\frac{\partial}{\partial a}\frac{a\cdot b}{\lVert a\rVert\lVert b\rVert}=-\frac1{\lVert a\rVert}\bigl(\hat b-(\hat a\cdot\hat b)\,\hat a\bigr).
# $$
#
# It turns $a$ towards $b$ and vanishes as soon as both agree, **whatever** they agree on. Constant tokens are one
# minimum. But every network for which *mirror, then encode* equals *encode, then mirror* is a minimum as well, and
# nothing in the loss prefers the empty one. Descent goes to what is near. A pre-trained encoder is nearly such a
# network already.
#
# And the loss is not alone. Eq. 8 asks for the tags, and equal tokens give every image the same tags. So a collapse
# would have to be paid for there. Both arguments can be tested: the loss alone, and with Eq. 8, from pre-trained
# weights. *Matched* is the cosine of Eq. 7; *mismatched* the same between the teacher's tokens of one image and the
# student's of another. In a collapse both go to 1.

# %% tags=["hide-input"]
small_images, small_tags, _ = collate([data.val[i] for i in range(8)], "cpu")
small_images = small_images[..., 16:112, 16:112]


def minimise(with_tags, weights="shipped", updates=12):
    """Both networks on eight images; returns matched and mismatched similarity at each update."""
    torch.manual_seed(seed)
    first, _ = build_network(config.changed(weights=weights), len(data.folder.classes))
    second = copy.deepcopy(first)
    optimiser = torch.optim.AdamW([*first.parameters(), *second.parameters()], lr=1e-3)
    trace = []
    for _ in range(updates):
        one, two = first(small_images.flip(-1)), second(small_images)
        loss = dskd.flip_similarity_loss(one.middle, two.middle)
        other = dskd.flip_similarity_loss(one.middle, two.middle.roll(1, 0))
        trace.append((-loss.item(), -other.item()))
        if with_tags:
            loss = config.method.lambda2 * loss + tag_losses(one, small_tags) + tag_losses(two, small_tags)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return np.array(trace)


traces = {
    "Eq. 7 alone": minimise(False),
    "Eq. 7 and Eq. 8": minimise(True),
    "Eq. 7 alone, random weights": minimise(False, weights="none"),
}

# %% mystnb={"image": {"alt": "Three panels: matched and mismatched similarity while minimising Eq. 7 alone, with Eq. 8, and alone from random weights. In the first two the mismatched similarity stays low; from random weights it rises."}} tags=["hide-input"]
figure, axes = plt.subplots(1, 3, figsize=(11, 2.9), layout="constrained", sharey=True)
for axis, (name, trace) in zip(axes, traces.items(), strict=True):
    axis.plot(trace[:, 0], label="matched", lw=2)
    axis.plot(trace[:, 1], label="mismatched", lw=2, ls="--")
    axis.set(title=name, xlabel="update", ylim=(-0.02, 1.02))
axes[0].set_ylabel("mean cosine")
axes[0].legend(loc="center right")
plt.close(figure)
figure

# %% tags=["nbval-ignore-output"]
for name, trace in traces.items():
    print(f"{name}: matched {trace[0, 0]:.2f} to {trace[-1, 0]:.2f}, mismatched {trace[0, 1]:.2f} to {trace[-1, 1]:.2f}")
glue("mismatched_alone", float(traces["Eq. 7 alone"][-1, 1]), display=False)
glue("mismatched_random", float(traces["Eq. 7 alone, random weights"][-1, 1]), display=False)

# %% [markdown]
# From pre-trained weights the loss alone makes the networks agree on mirrored images without making different
# images alike: the nearest minimum is not the empty one. From random weights the cheap way is taken: within a few
# updates different images, too, become alike, and no gradient is left that would part them again. What protects
# this loss is its start and its company.
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
# Binary cross-entropy for each class, since an image may have several. $\hat y$ is a sigmoid of logits; the paper
# takes them from the class token. With that alone, no gradient would reach the weights $\theta$ of Eq. 1, and no
# map would be learnt. So the code adds the same loss on the pooled patch logits of the last and of the middle
# block, as ToCo does.

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
# ## Where the map is unsure: Eq. 9
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
# ## Agreement where it is unsure: Eq. 10
#
# A *projector* (three layers, then a weight-normalised linear one, after DINO) turns every token into $K$ numbers,
# without any given meaning. A softmax over them is a distribution over $K$ learnt prototypes. In the uncertain
# region, the teacher's distribution is to follow the student's:
#
# (eq-10)=
#
# $$
# L_{PUNC}=\frac1{\sum_i\mathrm{ROI}_i}\sum_i-\sigma_s(\hat P_s)_i\cdot\sigma_t(\hat P_t)_i\;\mathrm{ROI}_i
# \tag{10}
# $$
#
# with $\sigma_s$ a softmax and $\sigma_t$ a **log**-softmax over the $K$ outputs. Why one of each? Write $p$ for
# the student's distribution, $z$ for the teacher's outputs and $r=\mathrm{softmax}(z)$. The summand is
#
# $$
# -\sum_kp_k\log r_k=H(p)+\mathrm{KL}(p\,\Vert\,r),
# $$
#
# a cross-entropy. The student's side has no gradient, so $H(p)$ is a constant, and the smallest value is reached
# exactly at $r=p$. From $\log r_k=z_k-\log\sum_je^{z_j}$ and $\sum_kp_k=1$,
#
# $$
# \frac{\partial}{\partial z_k}\Bigl(-\sum_jp_j\log r_j\Bigr)=r_k-p_k .
# $$
#
# The gradient is what is missing, no more. Now the alternatives.
#
# - *Softmax on both sides*, $-\sum_kp_kr_k$: linear in $r$, smallest where **all** of $r$ sits on the largest $p_k$. It does not make the two
#   agree, it makes the teacher overconfident. Its gradient is $-r_k(p_k-\sum_jp_jr_j)$; the factor $r_k$ silences it where the
#   teacher is confidently wrong.
# - *Logarithms on both sides*, $-\sum_k\log p_k\log r_k$: no cross-entropy of anything, and unbounded below.
# - *A logarithm taken after the softmax*: the same number in exact arithmetic, but softmax underflows to 0 and its logarithm is
#   $-\infty$. Log-softmax is computed as $z_k-\log\sum_je^{z_j}$, an ordinary number.
#
# By hand, for $K=2$: student outputs $(0,\ln3)$ give $p=(\tfrac14,\tfrac34)$, teacher outputs $(0,0)$ give
# $r=(\tfrac12,\tfrac12)$. The cross-entropy is $\ln2$ and its gradient $(\tfrac14,-\tfrac14)$.

# %%
student_out = torch.tensor([1.0, 3]).log().view(1, 2, 1, 1)  # (B, K, h, w)
teacher_out = torch.zeros(1, 2, 1, 1, requires_grad=True)
value = dskd.uncertain_region_loss(student_out, teacher_out, torch.ones(1, 1, 1, dtype=torch.bool))
(slope,) = torch.autograd.grad(value, teacher_out)
assert torch.isclose(value, torch.tensor(2.0).log()) and torch.allclose(slope.flatten(), torch.tensor([0.25, -0.25]))
chapter.source(dskd.uncertain_region_loss)

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
# ### Collapse, once more
#
# In Eq. 10 both sides move: the student becomes what the teacher was. If the projector gave every patch the same
# answer, the loss would be as small as the entropy of that answer allows. There are two such ends: one output takes
# all, or all outputs are alike. DINO plays them against each other. A *centre*, the running mean of the target's
# outputs, is subtracted from them, so that no output can win everywhere; a low *temperature* sharpens the target,
# so that it cannot be flat everywhere. The paper mentions neither. The code has both, and with both temperatures 1
# and no centre it is Eq. 10 as printed. The entropy of the mean target tells whether it holds:

# %% mystnb={"image": {"alt": "Entropy of the student's mean target in the expansion stage, between zero, where one output takes all, and the logarithm of the number of outputs."}} tags=["hide-input"]
figures.projection_entropy(run, config.projector[2])

# %% tags=["hide-input"]
size = float(region.float().mean())
assert 0 < size < 1, "the uncertain region of the image is empty or everything"
assert traces["Eq. 7 alone"][-1, 0] > 0.9 > 0.5 > traces["Eq. 7 alone"][-1, 1], "agreement without collapse"
assert traces["Eq. 7 alone, random weights"][-1, 1] > traces["Eq. 7 alone"][-1, 1] + 0.1, "from random weights images become alike"
gap = [float((a - b).norm()) for a, b in zip(weights["teacher"], weights["student"], strict=True)]
expansion = [g for g, step in zip(gap, at, strict=True) if step > warmup]
if (steps, warmup, seed) == (64, 32, 0):  # what the text says holds for the run as shipped
    assert expansion[-1] < gap[at.index(warmup)], "the student has come closer to the teacher"

# %% [markdown]
# ## The paper, the code, our choice
#
# | question | in the paper | in the code | our choice and why |
# |---|---|---|---|
# | momentum | 0.996 to 1.0; $\beta$ in Eq. 6 | `ema_momentum` | $m=1-\beta$; the other reading makes a copy |
# | how it rises | not said | `dskd.momentum_at` | half a cosine, as in DINO |
# | vectors of Eq. 7 | a mean over channels | `similarity_axis` | channels, as printed |
# | Eq. 7 after warm-up | not said | `similarity_after_warmup` | off; it is described for the warm-up |
# | logits of Eq. 8 | the class token's | `base.tag_losses` | and the pooled patch logits, which train the maps |
# | gradient of Eq. 10 | teacher only, one infers | the student's side is detached | it follows, and does not learn |
# | temperatures, centring | not said | `student_temperature`, `teacher_temperature`, `centre_momentum` | DINO's values, against collapse |
# | projector sizes | "after DINO" | `projector` | DINO's widths, ToCo's 1,024 outputs |
# | maximum of Eq. 9 | over channels | over tagged classes | a class that is not in the image says nothing |
#
# {doc}`../book/choices` gives the values, {doc}`07_ablations` what another choice does.
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
# **1. By hand.** Momentum 0.9, student at 0, teacher fixed at 1. After how many steps has the student gone half of
# the way, and how far has it gone after ten?
#
# ```{dropdown} Solution
# After $t$ steps it is at $1-0.9^t$. Half of the way: $0.9^t=\tfrac12$, $t=\ln2/\ln(1/0.9)=6.58$, so after seven steps (the rule of thumb
# $\ln2/(1-m)$ gives 6.9). After ten: $1-0.9^{10}=0.651$.
# ```
#
# **2. In code.** Verify that Eq. 10 takes nothing from outside the region: change the projections there at will,
# and neither the loss nor the gradient inside may move.

# %% mystnb={"code_prompt_hide": "Hide the solution", "code_prompt_show": "Solution in code"} tags=["hide-cell"]
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
# **3. What breaks.** Take the temperatures and the centre away, and let the "projector" be a free table: one row of
# four outputs for each of five patches, and the student a slow copy. Where does Eq. 10 lead? And with DINO's
# settings?

# %% mystnb={"code_prompt_hide": "Hide the solution", "code_prompt_show": "Solution in code"} tags=["hide-cell"]
everywhere = torch.ones(1, 5, 1, dtype=torch.bool)
ends = {}
for name, options in {
    "as printed": {},
    "centre and temperatures": {"student_temperature": 0.04, "teacher_temperature": 0.1},
}.items():
    learning = torch.randn(1, 4, 5, 1, generator=torch.Generator().manual_seed(0)) * 0.1 + torch.tensor([0.3, 0, 0, 0])[:, None, None]
    target, centre = learning.clone(), torch.zeros(4)
    for _ in range(300):
        learning.requires_grad_()
        loss = dskd.uncertain_region_loss(target, learning, everywhere, centre=centre if options else None, **options)
        (slope,) = torch.autograd.grad(loss, learning)
        learning = (learning - (0.05 if options else 1.0) * slope).detach()
        target = 0.9 * target + 0.1 * learning
        if options:
            dskd.centre_update(centre, target.mean((0, 2, 3)), 0.9)
    ends[name] = (target - (centre[:, None, None] if options else 0)).argmax(1).flatten().tolist()
    print(f"{name}: the five patches choose outputs {ends[name]}")
assert len(set(ends["as printed"])) < len(set(ends["centre and temperatures"]))
# As printed nothing happens at all once both sides agree, so what all patches shared at the start stays the choice of all.
# The centre takes away what they share; the sharp target makes the small differences that are left into different choices.

# %% [markdown]
# **4. Open-ended.** The student is the target, though it knows less than the teacher, being an average of the
# teacher's past. What would change if the student's maps made the pseudo labels (`label_network="student"`)? Or if
# both networks saw the same image, without a mirror?
#
# ```{dropdown} Some directions
# The average is smoother, so labels change less from step to step; but it lags behind, most at the start of the expansion stage, when the
# student has had a tenth of the learning rate. {doc}`07_ablations` has a row for it. Without the mirror, Eq. 7 starts at its minimum (both
# networks start from the same weights) and stays there: no signal at all. What other changes of an image could take the mirror's place? They
# must move patches in a way that can be undone: shifts by whole patches, rotations by a right angle, a change of colour.
# ```
#
# ## What was seen
#
# - The paper's teacher learns and its student follows. Momentum 0.996 must weigh what is kept.
# - Eq. 7 is content with any agreement. From pre-trained weights it does not make different images alike (mismatched similarity
#   {glue:text}`mismatched_alone:.2f` at the end); from random weights they do become alike
#   ({glue:text}`mismatched_random:.2f`), and only the tags could part them.
# - Eq. 10 is a cross-entropy: softmax for the target, log-softmax for the side that learns, and the gradient is the difference of the two
#   distributions. Centre and temperatures keep it from the two ways to collapse.
#
# The next chapter, {doc}`03_gmm_em`, turns to the pseudo labels and asks which of them are wrong.

# %% tags=["remove-cell", "nbval-ignore-output"]
glue("seconds", time.monotonic() - begun, display=False)  # how long the chapter took, for the page that lists them
