# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Patch token contrast
#
# A vision transformer {cite:p}`dosovitskiy2021vit` cuts an image into patches and gives each of them a vector, its
# *token*. Each block lets every token look at every other and take over a part of what it sees. That is what makes
# the tokens meaningful, and it has a price: block after block the tokens become more alike. A classifier does not
# mind, for it needs to know only whether there is a dog. A segmentation does: if the tokens of the dog and of the
# lawn are nearly the same, no map made of them can tell where the dog ends. This is called *over-smoothing*.
#
# *Patch token contrast* (PTC), taken over from ToCo {cite:p}`ru2023toco`, is the first part of the method. It reads
# rough labels off a middle layer, where tokens still differ, and uses them to keep the last layer's tokens apart.
#
# In this chapter: the problem in one picture (trained here, in less than a minute), Eq. 1 to 5 with an example
# small enough for paper and pencil, the gradient of the loss, and the same picture with the loss switched on.

# %% tags=["parameters"]
steps = 64  # training steps of each run, 20 to 2000
seed = 0
lambda1 = 0.2  # weight of the loss, 0 to 10; the paper's value
ptc_low = 0.2  # beta_l of Eq. 3, in [0, 1]
ptc_high = 0.4  # beta_h of Eq. 3, in [0, 1], above ptc_low
image = 30  # that is looked at, 0 to 199

# %% tags=["hide-input"]
import json
import tempfile
import time
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from myst_nb import glue

warnings.filterwarnings("ignore", message="IProgress not found")  # progress bars are plain text here
from dsgc.cam import class_activation_map, patch_labels
from dsgc.data.palette import coloured
from dsgc.methods import preset
from dsgc.ptc import pairs, patch_token_contrast, pull_and_push
from dsgc.runs.restore import load_networks
from dsgc.scoring.evaluate import collate
from dsgc.teaching import chapter, figures
from dsgc.training.loop import train
from dsgc.training.splits import open_data

chapter.number_in("steps", steps, 20, 2000, whole=True)
chapter.number_in("seed", seed, 0, 2**32 - 1, whole=True)
chapter.number_in("lambda1", lambda1, 0, 10)
chapter.number_in("ptc_low", ptc_low, 0, 1)
chapter.number_in("ptc_high", ptc_high, 0, 1)
chapter.ordered("ptc_low", ptc_low, "ptc_high", ptc_high)
chapter.number_in("image", image, 0, 199, whole=True)
figures.style()
begun = time.monotonic()

# %% [markdown]
# ## The problem: tokens become alike
#
# Two networks are trained on the tags of the embedded data set, with the package's own loop and for a few steps
# only. They start from the same weights and see the same images in the same order. The method is the paper's baseline:
# one network, no correction. One run learns from the tags alone ($\lambda_1=0$ in Eq. 23), the other has patch token
# contrast as well.

# %% tags=["nbval-ignore-output"]
chapter.embedded_data()
config = preset("shapes", "base").changed(
    steps=steps, warmup_steps=steps, seed=seed, ptc_low=ptc_low, ptc_high=ptc_high, eval_every=0, log_every=10
)
scratch = tempfile.TemporaryDirectory()
runs = {
    name: train(config.changed(lambda1=weight, out=str(Path(scratch.name) / name)))
    for name, weight in {"tags only": 0.0, "with PTC": lambda1}.items()
}
networks = {name: load_networks(run)[0]["network"] for name, run in runs.items()}


# %% [markdown]
# Take one patch and compare its token with all others of the image, after each block. Bright is alike (cosine 1),
# dark is unrelated (cosine 0). In the first blocks the patch resembles its own object; in the last ones nearly
# everything.

# %% tags=["hide-input"]
def tokens_by_block(network, images):
    """Patch tokens (B, D, h, w) after each block; the last ones with the final norm, as the method uses them."""
    with torch.no_grad():
        blocks = range(len(network.encoder.blocks))
        normalised = (images - network.mean) / network.std
        _, maps = network.encoder.forward_intermediates(normalised, indices=list(blocks), norm=False)
        return [*maps[:-1], network(images).tokens]


def similarity_to(tokens, row, column):
    """Cosine of every token of one image (D, h, w) with the token at a place: (h, w)."""
    unit = F.normalize(tokens, dim=0)
    return torch.einsum("dhw,d->hw", unit, unit[:, row, column])


def compare(names, title):
    """One row a run: the image with the patch marked, then the similarity of all patches to it, by block."""
    figure, axes = plt.subplots(len(names), blocks + 1, figsize=(1.75 * (blocks + 1), 1.95 * len(names) + 0.5),
                                layout="constrained", squeeze=False)  # fmt: skip
    for k in range(blocks):
        axes[0, k + 1].set_title(f"block {k + 1}")
    for row, name in zip(axes, names, strict=True):
        row[0].imshow(shown.permute(1, 2, 0))
        row[0].add_patch(plt.Rectangle((8 * px, 8 * py), 8, 8, fill=False, ec="white", lw=2.2))
        row[0].add_patch(plt.Rectangle((8 * px, 8 * py), 8, 8, fill=False, ec="black", lw=1))
        row[0].set_ylabel(name)
        for k, tokens in enumerate(tokens_by_block(networks[name], shown[None])):
            heat = row[k + 1].imshow(similarity_to(tokens[0], py, px), cmap="magma", vmin=0, vmax=1)
    axes[0, 0].set_title("image")
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.grid(False)
    figure.colorbar(heat, ax=axes[:, -1], label="cosine", shrink=0.9)
    figure.suptitle(title)
    plt.close(figure)
    return figure


data = open_data(config)
item = data.val[image]
shown = item.image.float() / 255  # (3, 128, 128)
blocks = len(networks["tags only"].encoder.blocks)
inside = F.avg_pool2d((item.mask[None].float() > 0).float(), 8)[0] == 1  # patches that lie within an object
py, px = (int(v) for v in inside.nonzero()[len(inside.nonzero()) // 2])

# %% mystnb={"image": {"alt": "An image with one patch marked, and five maps of the similarity of all patches to it, one after each block: the bright area grows from the object to nearly the whole image."}} tags=["hide-input"]
compare(["tags only"], "trained on tags only: similarity of all patches to the marked one")

# %% [markdown]
# One image may mislead, so here is the mean over many: the cosine of two patches that show the same thing and of
# two that do not, by block. (True masks are used for this diagnosis, never for training.) With depth, different
# things come to look alike as well, and the distance between the two lines is what a map has to live on.

# %% tags=["hide-input"]
images, tags, masks = collate([data.val[i] for i in range(64)], "cpu")
labels16 = F.interpolate(masks[:, None].float(), (16, 16), mode="nearest-exact").flatten(1)  # (B, N), the patch's centre
alike = labels16[:, :, None] == labels16[:, None, :]  # (B, N, N)
apart = ~torch.eye(labels16.shape[1], dtype=torch.bool)  # a patch makes no pair with itself


def mean_cosines(network):
    """Mean cosine of patches of one label and of different labels, a row a block."""
    rows = []
    for tokens in tokens_by_block(network, images):
        unit = F.normalize(tokens.flatten(2), dim=1)
        cosine = torch.einsum("bdn,bdm->bnm", unit, unit)
        rows.append((float(cosine[alike & apart].mean()), float(cosine[~alike].mean())))
    return np.array(rows)


cosines = {name: mean_cosines(network) for name, network in networks.items()}


def draw_cosines(names):
    """Both means over the blocks: one panel a run."""
    figure, axes = plt.subplots(1, len(names), figsize=(4.2 * len(names), 2.9), layout="constrained", sharey=True, squeeze=False)
    for axis, name in zip(axes[0], names, strict=True):
        for column, (label, marker) in enumerate((("same label", "o"), ("different labels", "s"))):
            axis.plot(range(1, blocks + 1), cosines[name][:, column], marker=marker, label=label)
        axis.set(title=name, xlabel="block", xticks=range(1, blocks + 1), ylim=(0, 1))
    axes[0, 0].set_ylabel("mean cosine")
    axes[0, -1].legend(loc="lower right")
    plt.close(figure)
    return figure


# %% mystnb={"image": {"alt": "Mean cosine over the blocks for the network trained on tags only: patches of different labels become nearly as alike as patches of the same label."}} tags=["hide-input"]
draw_cosines(["tags only"])

# %% [markdown]
# ## Where a class is seen: the class activation map
#
# Let $P\in\mathbb R^{D\times N}$ hold the patch tokens of an image, one column $P_{:,i}$ a patch, and let
# $\theta\in\mathbb R^{C\times D}$ be the weights of a linear classifier, one row a class. Applied to a single
# token, row $c$ says how much this patch speaks for class $c$. All patches together make a map $M_c$, and scaled to
# its own maximum it is the *class activation map* (CAM) {cite:p}`zhou2016cam`:
#
# (eq-1)=
#
# $$
# M_c=\sum_{d}\theta_{c,d}\,P_{d,:}\,,\qquad
# \mathrm{CAM}(P,\theta)_c=\frac{\mathrm{ReLU}(M_c)}{\max(\mathrm{ReLU}(M_c))}
# \tag{1}
# $$
#
# The same can be done with the tokens $P_m$ of a middle block $m$ and a classifier $\theta_m$ of their own. This
# *auxiliary* map is what PTC starts from:
#
# (eq-2)=
#
# $$
# A_m=\mathrm{CAM}(P_m,\theta_m)
# \tag{2}
# $$
#
# The package has one function for both. Its docstring says what goes in and out; the body is three lines.

# %%
chapter.source(class_activation_map)

# %% [markdown]
# By hand: a grid of two by two patches with $D=2$ channels, and two classes with weights $\theta_1=(1,-1)$ and
# $\theta_2=(0,1)$. The tokens are $(1,0)$, $(2,0)$, $(0,1)$, $(1,1)$, row by row. Class 1 gives
# $M_1=(1,2,-1,0)$; ReLU makes the $-1$ a 0; divided by the maximum 2 that is $(\tfrac12,1,0,0)$. Class 2 gives
# $M_2=(0,0,1,1)$, which stays as it is.

# %%
P = torch.tensor([[1.0, 2, 0, 1], [0, 0, 1, 1]]).view(1, 2, 2, 2)  # (B, D, h, w)
theta = torch.tensor([[1.0, -1], [0, 1]])  # (C, D)
cam = class_activation_map(P, theta)
assert cam.flatten(2).tolist() == [[[0.5, 1, 0, 0], [0, 0, 1, 1]]]
cam

# %% [markdown]
# ## Labels that are sure of themselves
#
# A patch whose auxiliary activation is high surely shows the object, one whose activation is low surely does not, and
# nothing is said of those between. With $0<\beta_l<\beta_h<1$:
#
# (eq-3)=
#
# $$
# Y_{m,i}=\begin{cases}1 & A_{m,i}>\beta_h\\ 0 & A_{m,i}<\beta_l\\ \text{none} & \text{otherwise}\end{cases}
# \tag{3}
# $$
#
# The paper writes the case of two labels. With several classes in an image that would pull the tokens of a dog and
# of a sofa together, so the code departs from the print and does what ToCo does: label 0 is background, label $c+1$ the
# strongest tagged class $c$ (classes are counted from 0), and 255 stands for *none*.

# %%
chapter.source(patch_labels)

# %% [markdown]
# The example goes on, with both classes tagged, $\beta_l=0.25$ and $\beta_h=0.7$: the first patch has $\tfrac12$,
# which lies between, the second belongs to the first class, the other two to the second. If only the first class is
# tagged, the second map does not count, and its patches are background.

# %%
both = patch_labels(cam, torch.tensor([[1, 1]]), low=0.25, high=0.7)
first = patch_labels(cam, torch.tensor([[1, 0]]), low=0.25, high=0.7)
assert both.flatten().tolist() == [255, 1, 2, 2]
assert first.flatten().tolist() == [255, 1, 0, 0]

# %% [markdown]
# On a real image: the auxiliary map of the network trained with PTC, the labels read off it, and the truth. The
# labels are incomplete, which does no harm, and mostly right, which is what counts.

# %% mystnb={"image": {"alt": "Four panels: an image, its auxiliary class activation map, the patch labels read off it with the undecided patches marked, and the true mask."}} tags=["hide-input"]
network = networks["with PTC"]
with torch.no_grad():
    output = network(shown[None])
    weight = network.aux_classifier.weight
    auxiliary = class_activation_map(output.middle, weight, subtract_minimum=config.method.subtract_minimum)
patches = patch_labels(auxiliary, item.tags[None], ptc_low, ptc_high)[0]
figure, axes = plt.subplots(1, 4, figsize=(9.6, 2.8), layout="constrained")
axes[0].imshow(shown.permute(1, 2, 0))
heat = axes[1].imshow((auxiliary[0] * item.tags[:, None, None]).amax(0), cmap="magma", vmin=0, vmax=1)
axes[2].imshow(coloured(patches))
axes[3].imshow(coloured(item.mask))
for axis, title in zip(axes, ("image", "auxiliary map $A_m$", "labels $Y_m$ (pale: none)", "truth"), strict=True):
    axis.set(title=title, xticks=[], yticks=[])
    axis.grid(False)
figure.colorbar(heat, ax=axes[1], shrink=0.8)
plt.close(figure)
figure

# %% tags=["nbval-ignore-output"]
with torch.no_grad():
    middle = network(images).middle
all_labels = patch_labels(class_activation_map(middle, weight, subtract_minimum=True), tags, ptc_low, ptc_high).flatten(1)
decided = all_labels != 255
right = float((all_labels == labels16)[decided].float().mean())
print(f"decided: {100 * float(decided.float().mean()):.0f} % of the patches; right among them: {100 * right:.0f} %")

# %% [markdown]
# ## The loss
#
# Two patches of one label should have like tokens, two patches of different labels unlike ones. *Like* is measured
# by the cosine, and the tokens are those of the **last** layer, the smooth ones:
#
# (eq-4)=
#
# $$
# \begin{aligned}
# L_{PTC}={}&\frac1{N^+}\sum_{Y_i=Y_j}\bigl(1-\mathrm{CosSim}(P_i,P_j)\bigr)\\
# &+\frac1{N^-}\sum_{Y_i\neq Y_j}\mathrm{CosSim}(P_i,P_j)
# \end{aligned}
# \tag{4}
# $$
#
# (eq-5)=
#
# $$
# \mathrm{CosSim}(P_i,P_j)=\frac{P_i\cdot P_j}{\lVert P_i\rVert\,\lVert P_j\rVert}
# \tag{5}
# $$
#
# $N^+$ and $N^-$ count the pairs of either kind. Each sum has its own mean, so the pairs of equal labels together
# weigh as much as the pairs of different ones. Among those of equal labels, nearly all lie within the **background**:
# with 100 patches of an object and 600 of background $N^+=100\cdot99+600\cdot599=369\,300$, and $9\,900$ of them, 2.7 %,
# lie within the object. The pull is mostly a pull on the background; the push acts on every pair across its border.

# %%
def within_objects(labels):
    """Of the pairs of equal labels (B, N), the share that lies within objects."""
    everywhere, background = (int(pairs(of[:, None])[0]) for of in (labels, torch.where(labels == 0, 0, 255)))
    return 1 - background / everywhere


example = torch.tensor([[1] * 100 + [0] * 600])
assert int(pairs(example[:, None])[0]) == 369_300 and round(100 * within_objects(example), 1) == 2.7
share = within_objects(all_labels)
assert share < 0.2 or (steps, seed) != (64, 0), "on the validation images too the pull is mostly on the background"

# %% [markdown]
# By hand: three tokens $P_1=(1,0)$, $P_2=(3,4)$, $P_3=(0,2)$ with labels $1,1,0$. Their unit vectors are $(1,0)$,
# $(\tfrac35,\tfrac45)$ and $(0,1)$. The only pair of one label has cosine $\tfrac35$, so the first term is
# $1-\tfrac35=\tfrac25$. The pairs of different labels have $0$ and $\tfrac45$, mean $\tfrac25$. The loss is
# $\tfrac25+\tfrac25=\tfrac45$.

# %%
three = torch.tensor([[1.0, 3, 0], [0, 4, 2]]).view(1, 2, 1, 3).requires_grad_()  # (B, D, h, w)
three_labels = torch.tensor([[[1, 1, 0]]])
loss = patch_token_contrast(three, three_labels)
assert torch.allclose(loss, torch.tensor(0.8))
round(loss.item(), 4)

# %% [markdown]
# ## What pulls and what pushes: the gradient
#
# Write $u_i=P_i/\lVert P_i\rVert$. Each unordered pair occurs twice in the sums, as $(i,j)$ and as $(j,i)$, so
#
# $$
# \frac{\partial L}{\partial u_i}
# =-\frac2{N^+}\sum_{j\neq i,\;Y_j=Y_i}u_j\;+\;\frac2{N^-}\sum_{Y_j\neq Y_i}u_j\;=:\;g_i .
# $$
#
# From $u_i$ to $P_i$: with $r=\lVert P_i\rVert$ we have $\partial u_i/\partial P_i=\tfrac1r(I-u_iu_i^\top)$, since
# $\partial r/\partial P_i=u_i$ and $u_i=P_i/r$. Hence
#
# $$
# \frac{\partial L}{\partial P_i}=\frac1{\lVert P_i\rVert}\,(I-u_iu_i^\top)\,g_i .
# $$
#
# Descent goes against it, and three things can be read off:
#
# - A token is **pulled** towards the sum of the tokens that share its label and **pushed** away from the sum of those that
#   do not. Nothing else matters, in particular not which of them is near in the image.
# - The matrix $I-u_iu_i^\top$ takes out the part along the token itself: tokens turn, they do not grow or shrink to first
#   order. A longer token has a smaller gradient, by $1/\lVert P_i\rVert$, and the same step turns it by a smaller angle: together,
#   the angle of plain descent falls with $1/\lVert P_i\rVert^2$. AdamW {cite:p}`loshchilov2019adamw` divides a gradient by its own
#   size, so its angle would fall with $1/\lVert P_i\rVert$. In training neither matters much: what moves are weights, and the last
#   norm gives all tokens nearly one length.
# - The pull ends when all tokens of a label point the same way. The push does **not** end at a right angle: as printed, the
#   cosine enters with its sign, and the loss goes on falling down to opposite directions. ToCo's published code takes the
#   absolute value, which stops at a right angle, and halves both terms {cite:p}`ru2023toco`: the same $\lambda_1=0.2$ weighs the
#   contrast here twice as much as there.
#
# For the first of the three tokens above: $N^+=2$ and $N^-=4$, counted as ordered pairs, so
# $g_1=-u_2+\tfrac12u_3=(-\tfrac35,-\tfrac45+\tfrac12)=(-\tfrac35,-\tfrac3{10})$. Without its part along $u_1=(1,0)$
# this is $(0,-\tfrac3{10})$: a step against it turns $P_1$ upwards, towards $P_2$, held back a little by $P_3$.

# %%
(gradient,) = torch.autograd.grad(loss, three)
gradient = gradient[0, :, 0].T  # (3 tokens, D)
assert torch.allclose(gradient[0], torch.tensor([0.0, -0.3]), atol=1e-6)
assert torch.allclose((gradient * three[0, :, 0].T).sum(1), torch.zeros(3), atol=1e-6)  # each is at a right angle to its token
np.round(gradient.numpy(), 3) + 0.0  # no -0.0

# %% [markdown]
# The first of the three tokens at lengths 1, 2 and 4: the norm of its gradient, and the angle by which one step turns it.

# %%
rows = []
for length in (1.0, 2.0, 4.0):
    row = {"length": length}
    for kind in (torch.optim.SGD, torch.optim.AdamW):
        token = torch.tensor([length, 0.0]).requires_grad_()
        optimiser = kind([token], lr=1e-3, weight_decay=0)
        patch_token_contrast(torch.cat([token.view(1, 2, 1, 1), three.detach()[..., 1:]], -1), three_labels).backward()
        optimiser.step()
        row |= {"gradient": float(token.grad.norm()), f"angle, {kind.__name__}": float((token[1] / token[0]).detach().atan())}
    rows.append(row)
turned = pd.DataFrame(rows).set_index("length")
assert np.allclose(turned.iloc[0] / turned, [[1, 1, 1], [2, 4, 2], [4, 16, 4]], rtol=0.01)
with torch.no_grad():
    lengths = network(images).tokens.norm(dim=1)
assert lengths.std() < 0.05 * lengths.mean(), "after the last norm tokens have nearly one length"
chapter.Table(turned.round(6))

# %% [markdown]
# Following the gradient shows where it leads. Six tokens in the plane, two labels, plain gradient descent:

# %% mystnb={"image": {"alt": "Six arrows in the plane before and after gradient descent on the loss: the arrows of each label end together, those of the two labels point in opposite directions."}} tags=["hide-input"]
angles = torch.tensor([5.0, 35, 62, 48, 80, 95]).deg2rad()
plane = torch.stack([angles.cos(), angles.sin()]).view(1, 2, 1, 6)
plane_labels = torch.tensor([[[1, 1, 1, 2, 2, 2]]])
path = [plane]
for _ in range(60):
    here = path[-1].clone().requires_grad_()
    (slope,) = torch.autograd.grad(patch_token_contrast(here, plane_labels), here)
    path.append((here - 0.5 * slope).detach())
figure, axes = plt.subplots(1, 3, figsize=(9, 3.2), layout="constrained")
for axis, step in zip(axes, (0, 10, 60), strict=True):
    for (x, y), label in zip(F.normalize(path[step][0, :, 0], dim=0).T, plane_labels.flatten(), strict=True):
        axis.annotate("", (x, y), (0, 0), arrowprops={"arrowstyle": "-|>", "color": f"C{int(label) - 1}", "lw": 2})
    axis.set(xlim=(-1.15, 1.15), ylim=(-1.15, 1.15), aspect="equal", title=f"after {step} steps" if step else "before")
for k in (1, 2):
    axes[0].plot([], [], color=f"C{k - 1}", lw=2, label=f"label {k}")
axes[0].legend(loc="lower left")
plt.close(figure)
figure

# %% [markdown]
# ## No matrix of all pairs
#
# An image of 448 pixels has 784 patches and 614,656 ordered pairs. Published code builds that matrix. It is not
# needed. For the unit vectors $u_1,\dots,u_n$ of one label
#
# $$
# \sum_{i\neq j}u_i\cdot u_j=\Bigl\lVert\sum_i u_i\Bigr\rVert^2-\sum_i\lVert u_i\rVert^2 ,
# $$
#
# and the pairs of different labels are all pairs less those of one label. One sum of vectors a label is enough, so
# time and memory grow with the number of patches, not with its square. The package gives the two means of Eq. 4 by
# themselves, for training weighs each by its number of pairs where a batch comes in parts; the loss is their sum.

# %%
chapter.source(patch_token_contrast, pull_and_push)

# %% [markdown]
# ## The same picture with the loss switched on
#
# Both networks, the same image, the same patch:

# %% mystnb={"image": {"alt": "Two rows of similarity maps by block. Trained on tags only, the last maps are bright everywhere; with patch token contrast the object stays bright and the rest dark."}} tags=["hide-input"]
compare(list(networks), "similarity of all patches to the marked one")

# %% mystnb={"image": {"alt": "Mean cosines over the blocks for both networks: with patch token contrast, patches of different labels stay apart in the last blocks."}} tags=["hide-input"]
draw_cosines(list(networks))

# %% tags=["nbval-ignore-output"]
cam_miou = {}
for name, run in runs.items():
    cam_miou[name] = 100 * json.loads((run / "metrics.json").read_text())["network"]["cam"]["miou"]
    same, other = cosines[name][-1]
    print(f"{name}: last block, cosine of same labels {same:.2f}, of different labels {other:.2f}; CAM {cam_miou[name]:.1f} % mIoU")
print(f"pairs of equal patch labels that lie within an object: {100 * share:.1f} %")
glue("other_without", float(cosines["tags only"][-1, 1]), display=False)
glue("other_with", float(cosines["with PTC"][-1, 1]), display=False)
glue("cam_without", float(cam_miou["tags only"]), display=False)
glue("cam_with", float(cam_miou["with PTC"]), display=False)

# %% tags=["hide-input"]
if (steps, seed, lambda1, ptc_low, ptc_high) == (64, 0, 0.2, 0.2, 0.4):  # what the text says holds for the run as shipped
    assert cosines["tags only"][-1, 1] > cosines["tags only"][0, 1] + 0.2, "over-smoothing grows with depth"
    assert cosines["with PTC"][-1, 1] < cosines["tags only"][-1, 1] - 0.1, "PTC keeps different labels apart"
    assert cosines["with PTC"][-1, 0] > 0.8, "and leaves equal labels alike"
    assert cam_miou["with PTC"] > cam_miou["tags only"] and right > 0.7

# %% [markdown]
# ## The paper, the code, our choice
#
# | question | in the paper | in the code | our choice and why |
# |---|---|---|---|
# | which middle layer | the $m$-th | `aux_block` | ToCo's 10th of 12; for the small encoder the 3rd of 5 |
# | thresholds $\beta_l,\beta_h$ | $0<\beta_l<\beta_h<1$ | `ptc_low`, `ptc_high` | ToCo's for VOC; lower for the small encoder, whose middle map separates lower |
# | labels of Eq. 3 | two: 1 and 0 | `ptc_classes` | departs: one for each class, so that objects of two classes are not pulled together |
# | minimum of a map | stays | `subtract_minimum` | departs, as ToCo does: a map that is positive everywhere would have no background |
# | sign and scale of Eq. 4 | cosine as it is, factor 1 | likewise | as printed; ToCo takes the absolute value, and half of each term |
# | pairs across images | not said | none | an image's tags say nothing of another image's patches |
# | $N^+$, $N^-$ | of one image | of the batch | an image with more labelled patches weighs more |
# | a token with itself | not said | no pair | its cosine is 1 whatever is learnt |
# | no pair at all | not said | 0, gradient 0 | a crop without any sure patch must not stop a run |
#
# {doc}`../book/choices` gives the values and, where it was measured, what another choice does.
#
# | equation | function | a test that holds it |
# |---|---|---|
# | {ref}`Eq. 1 <eq-1>`, {ref}`Eq. 2 <eq-2>` | {py:func}`~dsgc.cam.class_activation_map` | {py:func}`map equals the loop <test_cam.test_map_equals_the_loop>` |
# | {ref}`Eq. 3 <eq-3>` | {py:func}`~dsgc.cam.patch_labels` | {py:func}`patch labels equal the loop <test_cam.test_patch_labels_equal_the_loop>` |
# | {ref}`Eq. 4 <eq-4>`, {ref}`Eq. 5 <eq-5>` | {py:func}`~dsgc.ptc.patch_token_contrast` | {py:func}`value equals the loop over all pairs <test_ptc.test_value_equals_the_loop_over_all_pairs>` |
# | the gradient | {py:func}`~dsgc.ptc.patch_token_contrast` | {py:func}`gradient equals finite differences of the loop <test_ptc.test_gradient_equals_finite_differences_of_the_loop>` |
#
# ## Exercises
#
# **1. By hand.** Three labels, many tokens each. All tokens of a label already point the same way, along $u$, $v$
# and $w$. How low can the loss go?
#
# ```{dropdown} Solution
# The first term is 0. With equally many tokens a label, the second is the mean of $u\cdot v$, $v\cdot w$ and $w\cdot u$. From
# $0\le\lVert u+v+w\rVert^2=3+2(u\cdot v+v\cdot w+w\cdot u)$ the sum of the three is at least $-\tfrac32$, so their mean, and
# the loss, is at least $-\tfrac12$. It is reached by three directions in a plane, 120° apart. With two labels the bound is
# $-1$, with $K$ labels $-1/(K-1)$: the more labels, the closer to right angles, and the less the sign matters.
# ```
#
# **2. In code.** Compute Eq. 4 the slow way, with the full matrix of cosines, and compare it with the package on random
# tokens of two images with four label values, 255 among them.

# %% mystnb={"code_prompt_hide": "Hide the solution", "code_prompt_show": "Solution in code"} tags=["hide-cell"]
generator = torch.Generator().manual_seed(1)
tokens = torch.randn(2, 8, 5, 6, generator=generator)
labels = torch.tensor([0, 1, 2, 255])[torch.randint(4, (2, 5, 6), generator=generator)]
unit = F.normalize(tokens.flatten(2), dim=1)
cosine = torch.einsum("bdn,bdm->bnm", unit, unit)
flat = labels.flatten(1)
usable = (flat[:, :, None] != 255) & (flat[:, None, :] != 255) & ~torch.eye(30, dtype=torch.bool)
same = flat[:, :, None] == flat[:, None, :]
slow = (1 - cosine)[usable & same].mean() + cosine[usable & ~same].mean()
assert torch.allclose(slow, patch_token_contrast(tokens, labels), atol=1e-6)
round(slow.item(), 4)

# %% [markdown]
# **3. What breaks.** Take Eq. 3 literally, with two labels, on an image that shows two classes. What becomes of
# their tokens? Use the six tokens in the plane from above, give all six the label 1 and add two background tokens
# at $150°$ and $170°$.

# %% mystnb={"code_prompt_hide": "Hide the solution", "code_prompt_show": "Solution in code"} tags=["hide-cell"]
spread = {}
background = torch.tensor([150.0, 170]).deg2rad()
start = torch.stack([torch.cat([angles, background]).cos(), torch.cat([angles, background]).sin()]).view(1, 2, 1, 8)
for name, values in {"by class": [1, 1, 1, 2, 2, 2, 0, 0], "two labels": [1, 1, 1, 1, 1, 1, 0, 0]}.items():
    here, values = start, torch.tensor([[values]])
    for _ in range(400):
        here = here.clone().requires_grad_()
        (slope,) = torch.autograd.grad(patch_token_contrast(here, values), here)
        here = (here - 0.5 * slope).detach()
    unit = F.normalize(here[0, :, 0], dim=0)
    spread[name] = float((unit[:, :3].T @ unit[:, 3:6]).mean())
    print(f"{name}: mean cosine between the two classes {spread[name]:.2f}")
assert spread["two labels"] > 0.99 and spread["by class"] < 0
# The two classes end as one direction: a CAM made of these tokens could no longer tell the dog from the sofa.

# %% [markdown]
# **4. Open-ended.** The labels come from block $m$ and act on the last block. Run this notebook with another
# `aux_block` (add it to `changed` above) and with other thresholds. When $m$ is early, the labels are
# poor; when it is late, they are smooth already. Which of the two hurts more on this data, and would you expect the
# same on photographs?
#
# ```{dropdown} A hint at what to look for
# Print the line *decided … right among them* for each setting and plot it against the CAM's mIoU. Wrong labels do harm
# twice: they push apart what belongs together and pull together what does not. Undecided patches do no harm, so a narrow
# choice of labels that are right usually beats a generous one. Photographs differ in that objects have parts: an early block
# sees the wheel, not the car.
# ```
#
# ## What was seen
#
# - Trained on tags alone, the tokens of different things become alike with depth: mean cosine
#   {glue:text}`other_without:.2f` in the last block. With PTC it is {glue:text}`other_with:.2f`, and patches of the same
#   label stay alike.
# - A better separated last layer went with a better map here: {glue:text}`cam_without:.1f` % and {glue:text}`cam_with:.1f` % mIoU
#   of the CAM after these few steps. That is one run each, and whole runs that differ in nothing but the seed lie as far apart
#   ({doc}`07_ablations`).
# - The loss pulls towards the sum of a token's own label and pushes away from the sum of the others; it turns tokens and does
#   not scale them; most of its pull is on the background; it costs no matrix of pairs.
#
# The next chapter, {doc}`02_dskd`, puts a second network beside the first.

# %% tags=["remove-cell", "nbval-ignore-output"]
glue("seconds", time.monotonic() - begun, display=False)  # how long the chapter took, for the page that lists them
