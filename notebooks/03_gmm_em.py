# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A mixture of two Gaussians, fitted by EM
#
# A class activation map gives every pixel a confidence between 0 and 1, and where it is high enough the pixel gets
# a label. Some of these labels are wrong. Which? Nobody draws masks, so nothing tells directly. But a wrong label
# often comes with a confidence that is lower than that of the pixels around the middle of the object. If the
# confidences fall into two groups, a low and a high one, then a pixel of the low group is a suspect.
#
# That is the idea of the paper's *Gaussian correction*: describe the confidences of an image as a mixture of two
# Gaussians, fit it by *expectation-maximisation* (EM) {cite:p}`dempster1977em,xuan2001em`, and take the probability
# that a pixel belongs to the lower component as the probability that its label is noise. Mixtures have been used
# like this on the losses of classifiers trained with wrong labels, and by DuPL {cite:p}`wu2024dupl` on the loss of
# the segmentation.
#
# In this chapter: EM at work on a real map, its derivation from the likelihood with every step written out, why the
# likelihood never falls, what goes wrong with a component that collapses, and what the noise probability is worth.

# %% tags=["parameters"]
steps = 60  # training steps of the network, 20 to 2000
seed = 0
image = 22  # whose confidences are fitted, 0 to 199
iterations = 24  # of EM, that are shown, 2 to 60

# %% tags=["hide-input"]
import tempfile
import time
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from myst_nb import glue

warnings.filterwarnings("ignore", message="IProgress not found")  # progress bars are plain text here
from dsgc import binned, gmm
from dsgc.data.palette import coloured
from dsgc.runs.restore import load_networks
from dsgc.scoring import diagnosis
from dsgc.teaching import chapter, figures
from dsgc.teaching.player import Player
from dsgc.training.loop import train
from dsgc.training.splits import open_data

chapter.number_in("steps", steps, 20, 2000, whole=True)
chapter.number_in("seed", seed, 0, 2**32 - 1, whole=True)
chapter.number_in("image", image, 0, 199, whole=True)
chapter.number_in("iterations", iterations, 2, 60, whole=True)
figures.style()
begun = time.monotonic()

# %% [markdown]
# ## EM at work
#
# A network is trained on tags for a few steps, as in {doc}`01_ptc`, and makes pseudo labels of all validation
# images. The values $x_1,\dots,x_N$ are the confidences of those pixels of one image that its pseudo label calls
# foreground.

# %% tags=["nbval-ignore-output"]
config = chapter.embedded_data().changed(
    steps=steps, warmup_steps=steps, seed=seed, distillation=False, eval_every=0, log_every=10
)
scratch = tempfile.TemporaryDirectory()
run = train(config.changed(out=str(Path(scratch.name) / "run")))
network = load_networks(run)[0]["teacher"]

# %% tags=["hide-input"]
data = open_data(config)
images, tags, masks, output, made, truth = diagnosis.whole_split(network, data.val, config)
foreground = (made.initial > 0) & (made.initial != 255)  # (B, h, w)
wrong = foreground & (made.initial != truth) & (truth != 255)
x = made.confidence[image][foreground[image]][None]  # (1, N)
print(f"{x.shape[1]} foreground pixels; in all images {100 * float(wrong.sum() / foreground.sum()):.0f} % of them are labelled wrongly")

# %% [markdown]
# EM starts with two equal bells one standard deviation to either side of the mean. Each iteration first asks of
# every value how much each bell accounts for it, then moves the bells to the values they account for. Press *Play*,
# or drag:

# %% tags=["hide-input", "nbval-ignore-output"]
mean = x.mean() + x.std(correction=0) * torch.tensor([[-1.0, 1]])
variance, weight = x.var(correction=0).expand(1, 2), torch.full((1, 2), 0.5)
history, likelihoods = [], []
for _ in range(iterations + 1):
    posterior, evidence = gmm.e_step(x, mean, variance, weight)
    history.append((mean, variance, weight))
    likelihoods.append(float(evidence.mean()))
    mass = posterior.sum(-1)
    mean = gmm.update_mean(x, posterior, mass)
    variance = gmm.update_variance(x, posterior, mass, mean)
    weight = gmm.update_weight(mass, torch.tensor([x.shape[1]]))

fine = torch.linspace(float(x.min()) - 0.05, 1.05, 400)[None]


def frame(number):
    """Histogram, both bells and their sum, and the likelihood so far."""
    parts = gmm.log_joint(fine, *history[number]).exp()[0]
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.3), width_ratios=(2, 1), layout="constrained")
    left.hist(x[0].numpy(), bins=50, density=True, color="0.8", label="confidences")
    for part, name, colour in zip(parts, ("low component", "high component"), ("C1", "C0"), strict=True):
        left.plot(fine[0], part, color=colour, lw=2, label=name)
    left.plot(fine[0], parts.sum(0), color="black", lw=1, ls="--", label="sum, Eq. 12")
    left.set(xlabel="confidence $x$", ylabel="density", title=f"after {number} iterations")
    left.set(xlim=(fine.min(), fine.max()), ylim=(0, top))
    left.legend(loc="upper left", fontsize=8)
    right.plot(likelihoods[: number + 1], marker="o", ms=3, color="C2")
    right.set(xlabel="iteration", title="mean log-likelihood, nats", xlim=(-1, iterations + 1), ylim=heights)
    plt.close(figure)
    return figure


top = 1.15 * float(np.histogram(x[0].numpy(), bins=50, density=True)[0].max())
heights = min(likelihoods) - 0.05, max(likelihoods) + 0.05
numbers = range(iterations + 1)
alt = [
    f"Histogram of the confidences with two bells after {n} iterations: means {float(history[n][0][0, 0]):.2f} and "
    f"{float(history[n][0][0, 1]):.2f}; mean log-likelihood {likelihoods[n]:.3f}"
    for n in numbers
]
Player("em", [frame(n) for n in numbers], alt, "iteration", pause=400)

# %% [markdown]
# The right panel is the quantity that EM raises. It has never gone down; the reason follows. The iterations above
# were made of the package's single steps; the package's own fit ends at the same place:

# %%
mixture = gmm.fit(x, max_iter=iterations, tolerance=0.0)
assert torch.allclose(mixture.mean, history[-1][0], atol=2e-3)
assert all(after >= before - 1e-6 for before, after in zip(likelihoods, likelihoods[1:], strict=False)), "the likelihood fell"

# %% [markdown]
# ## The model
#
# A value that comes from component $k$ is normally distributed about the mean $\mu_k$ with variance $\sigma_k^2$:
#
# (eq-11)=
#
# $$
# \mathcal N(x\mid\mu,\sigma^2)=\frac1{\sqrt{2\pi}\,\sigma}\exp\Bigl(-\frac{(x-\mu)^2}{2\sigma^2}\Bigr)
# \tag{11}
# $$
#
# Which component it comes from is not observed. Call it $z_n\in\{1,\dots,K\}$ and let $\lambda_k$ be the probability of
# component $k$. Summing over what we do not know gives the density of a value, with $K=2$ here:
#
# (eq-12)=
#
# $$
# p(x_n)=\sum_{k=1}^{K}\lambda_k\,\mathcal N(x_n\mid\mu_k,\sigma_k^2),\qquad \lambda_k\ge0,\quad\sum_k\lambda_k=1
# \tag{12}
# $$
#
# Write $\psi$ for all parameters $\lambda_k,\mu_k,\sigma_k^2$. They are to make the observed values as probable as
# possible, that is, to maximise the log-likelihood
#
# $$
# \ell(\psi)=\sum_{n=1}^N\log\sum_{k}\lambda_k\,\mathcal N(x_n\mid\mu_k,\sigma_k^2).
# $$
#
# Setting its derivatives to zero leads nowhere at once: the sum inside the logarithm ties all parameters together.
# If the $z_n$ were known, the sum would have one term, the logarithm would reach the exponential, and each
# component would simply get the mean and variance of its own values. EM works with a guess of the $z_n$, made of
# probabilities instead of decisions.
#
# ## A bound from below
#
# For each $n$ let $q_n(1),\dots,q_n(K)$ be any probabilities. Multiply and divide by them:
#
# $$
# \begin{aligned}
# \ell(\psi)&=\sum_n\log\sum_k q_n(k)\,\frac{\lambda_k\mathcal N(x_n\mid\mu_k,\sigma_k^2)}{q_n(k)}\\
# &\ge\sum_n\sum_k q_n(k)\log\frac{\lambda_k\mathcal N(x_n\mid\mu_k,\sigma_k^2)}{q_n(k)}\;=:\;\mathcal F(q,\psi).
# \end{aligned}
# $$
#
# The step is *Jensen's inequality*: the logarithm is concave, so the logarithm of a mean is at least the mean of the
# logarithms. In $\mathcal F$ the logarithm stands inside the sum, where it is harmless. How much is given away? With
# $p(x_n,k)=\lambda_k\mathcal N(x_n\mid\mu_k,\sigma_k^2)=p(x_n)\,p(k\mid x_n)$,
#
# $$
# \begin{aligned}
# \ell(\psi)-\mathcal F(q,\psi)&=\sum_n\sum_k q_n(k)\Bigl[\log p(x_n)-\log\frac{p(x_n)\,p(k\mid x_n)}{q_n(k)}\Bigr]\\
# &=\sum_n\sum_kq_n(k)\log\frac{q_n(k)}{p(k\mid x_n)},
# \end{aligned}
# $$
#
# the Kullback-Leibler divergence from $p(\cdot\mid x_n)$ to $q_n$, summed over $n$. It is never negative, and zero
# exactly when $q_n(k)=p(k\mid x_n)$.
#
# ## The E-step
#
# Given parameters $\psi$, the bound is best, and touches the likelihood, if $q_n$ is the posterior, by Bayes' rule
#
# (eq-13)=
#
# $$
# \gamma_{nk}=p(k\mid x_n)=\frac{\lambda_k\,\mathcal N(x_n\mid\mu_k,\sigma_k^2)}{\sum_j\lambda_j\,\mathcal N(x_n\mid\mu_j,\sigma_j^2)}
# \tag{13}
# $$
#
# ## The M-step
#
# Now hold $\gamma$ fixed and raise $\mathcal F$ by the parameters. The term $-\sum\gamma\log\gamma$ does not depend
# on them, so what counts is
#
# $$
# Q(\psi)=\sum_n\sum_k\gamma_{nk}\Bigl[\log\lambda_k-\tfrac12\log(2\pi)-\tfrac12\log\sigma_k^2-\frac{(x_n-\mu_k)^2}{2\sigma_k^2}\Bigr].
# $$
#
# **The means.** Only the last term depends on $\mu_k$:
#
# (eq-14)=
#
# $$
# \frac{\partial Q}{\partial\mu_k}=\sum_n\gamma_{nk}\frac{x_n-\mu_k}{\sigma_k^2}=0
# \quad\Longrightarrow\quad
# \mu_k=\frac{\sum_n\gamma_{nk}x_n}{\sum_n\gamma_{nk}}
# \tag{14}
# $$
#
# The variance has dropped out. The second derivative is $-\sum_n\gamma_{nk}/\sigma_k^2<0$, so this is a maximum.
#
# **The variances.** Take $s=\sigma_k^2$ as the variable:
#
# (eq-15)=
#
# $$
# \begin{aligned}
# &\frac{\partial Q}{\partial s}=\sum_n\gamma_{nk}\Bigl[-\frac1{2s}+\frac{(x_n-\mu_k)^2}{2s^2}\Bigr]=0\\
# &\Longrightarrow\quad\sigma_k^2=\frac{\sum_n\gamma_{nk}(x_n-\mu_k)^2}{\sum_n\gamma_{nk}}
# \end{aligned}
# \tag{15}
# $$
#
# (multiply by $2s^2$ and solve for $s$). Below this value the derivative is positive, above it negative: a maximum. The
# $\mu_k$ in it is the new one, for the pair has to maximise $Q$ together.
#
# **The weights** must sum to 1. With a Lagrange multiplier $\alpha$ for that,
#
# (eq-16)=
#
# $$
# \begin{aligned}
# &\frac{\partial}{\partial\lambda_k}\Bigl[Q-\alpha\Bigl(\sum_j\lambda_j-1\Bigr)\Bigr]=\frac{\sum_n\gamma_{nk}}{\lambda_k}-\alpha=0\\
# &\Longrightarrow\quad\lambda_k=\frac1\alpha\sum_n\gamma_{nk}=\frac1N\sum_n\gamma_{nk}
# \end{aligned}
# \tag{16}
# $$
#
# since summing over $k$ gives $1=\frac1\alpha\sum_n\sum_k\gamma_{nk}=N/\alpha$.
#
# In the package each of these lines is a function. The E-step is computed with logarithms: far from both means, the
# densities of Eq. 13 underflow to $0/0$, while the difference of their logarithms is an ordinary number.

# %%
chapter.source(gmm.log_density, gmm.log_joint, gmm.e_step, gmm.update_mean, gmm.update_variance, gmm.update_weight)

# %% [markdown]
# ## One iteration by hand
#
# Take the four values $0,0,1,1$. Their mean is $\tfrac12$ and their standard deviation $\tfrac12$, so EM starts with
# $\mu=(0,1)$, both variances $\tfrac14$, both weights $\tfrac12$.
#
# *E-step.* At $x=0$ the densities are in the ratio $1:e^{-1/(2\cdot1/4)}=1:e^{-2}$, so
# $\gamma=1/(1+e^{-2})\approx0.881$ for the component that sits there, and $0.119$ for the other. At $x=1$ it is the
# other way round.
#
# *M-step.* $\mu_1=(2\cdot0.881\cdot0+2\cdot0.119\cdot1)/2=0.119$, and by symmetry $\mu_2=0.881$. Component 1 sees
# the value 0 with weight $0.881$ and the value 1 with weight $0.119$, and the variance of that is
# $0.881\cdot0.119\approx0.105$. Both weights stay $\tfrac12$. The means have moved inwards; with the smaller
# variances they will move out again.

# %%
values = torch.tensor([[0.0, 0, 1, 1]])
start = torch.tensor([[0.0, 1]]), torch.full((1, 2), 0.25), torch.full((1, 2), 0.5)
posterior, _ = gmm.e_step(values, *start)
mass = posterior.sum(-1)
new_mean = gmm.update_mean(values, posterior, mass)
new_variance = gmm.update_variance(values, posterior, mass, new_mean)
gamma = 1 / (1 + np.exp(-2))
assert np.allclose(posterior[0], [[gamma, gamma, 1 - gamma, 1 - gamma], [1 - gamma, 1 - gamma, gamma, gamma]])
assert np.allclose(new_mean, [[1 - gamma, gamma]]) and np.allclose(new_variance, gamma * (1 - gamma))
assert np.allclose(gmm.update_weight(mass, torch.tensor([4])), 0.5)
one = gmm.fit(values, max_iter=1)  # the package's fit, cut off after one iteration, is where we are
assert torch.allclose(one.mean, new_mean) and torch.allclose(one.variance, new_variance)

# %% [markdown]
# ## Why the likelihood never falls
#
# Let $\psi$ be the parameters before an iteration and $\psi'$ after it. Then
#
# $$
# \ell(\psi')\;\ge\;\mathcal F(\gamma,\psi')\;\ge\;\mathcal F(\gamma,\psi)\;=\;\ell(\psi):
# $$
#
# the first because $\mathcal F$ is a bound for every $q$, the second because the M-step raised it, the last because
# the E-step made it touch. EM climbs by building a hill that touches the likelihood from below, walking to the top
# of the hill, and building the next one there. In one dimension this can be drawn: a few hundred values from two
# bells that overlap, everything held at its true value but the mean of the low bell, and the bounds at three
# successive places.

# %% mystnb={"image": {"alt": "The log-likelihood as a function of one mean and three bounds below it. Each bound touches the curve where it was made and has its top further up the hill, where the next one touches."}} tags=["hide-input"]
generator = torch.Generator().manual_seed(0)
drawn = (torch.randn(400, generator=generator) * 0.1 + torch.tensor([0.4, 0.65]).repeat(200))[None]
places = torch.linspace(0.05, 0.75, 300)


def with_low_mean(mu):
    """The two bells with another mean of the low one."""
    return torch.tensor([[float(mu), 0.65]]), torch.full((1, 2), 0.01), torch.full((1, 2), 0.5)


def bound(gamma, mu):
    """F(gamma, psi) per value."""
    return float(((gamma * gmm.log_joint(drawn, *with_low_mean(mu))).sum(1) + torch.special.entr(gamma).sum(1)).mean())


curve = [float(gmm.e_step(drawn, *with_low_mean(mu))[1].mean()) for mu in places]
figure, axis = plt.subplots(figsize=(7, 3.6), layout="constrained")
axis.plot(places, curve, color="black", lw=2, label=r"log-likelihood $\ell$")
here = 0.7
for number, colour in enumerate(("C0", "C1", "C2")):
    gamma_here, evidence = gmm.e_step(drawn, *with_low_mean(here))
    hill = [bound(gamma_here, mu) for mu in places]
    axis.plot(places, hill, color=colour, lw=1.5, label=rf"bound $\mathcal{{F}}$, iteration {number + 1}")
    axis.plot(here, float(evidence.mean()), "o", color=colour)
    assert all(low <= high + 1e-4 for low, high in zip(hill, curve, strict=True)), "the bound is above the likelihood"
    here = float(gmm.update_mean(drawn, gamma_here, gamma_here.sum(-1))[0, 0])
axis.set(xlabel=r"mean of the low component $\mu_1$", ylabel="nats per value", ylim=(min(curve) - 0.15, max(curve) + 0.1))
axis.legend(fontsize=8)
plt.close(figure)
figure

# %% [markdown]
# A likelihood that never falls and has a bound settles. It settles at a place where no direction goes up, which
# need not be the highest of all: EM is a local method, and where it starts matters. The package starts every row in
# the same symmetric way, without random numbers, so that the same map gives the same mixture. The likelihood of the
# run above:

# %% tags=["nbval-ignore-output"]
for number in (0, 1, 2, 4, 8, 16):
    if number < len(likelihoods) - 1:
        print(f"iteration {number:2d}: {likelihoods[number]:.5f}, then {likelihoods[number + 1] - likelihoods[number]:+.5f}")

# %% [markdown]
# The gains fade slowly, as is usual where the components overlap. The package stops a row at the first iteration
# that gains less than `tolerance`, and all rows of a batch go through the same tensors, each with its own stop:

# %%
chapter.source(gmm.fit)

# %% [markdown]
# ## To the end in a fraction of the looks
#
# How far is it to the end? Where the components overlap, EM may need hundreds of iterations or more, and each looks at
# every value. Training, which fits a mixture to each image of each step, therefore goes another way up the same hill. It brings
# the values together in bins, so that a look costs the same however many pixels there are. It lets EM make its first
# iterations there, which choose the hill. From then on it makes Newton's steps: with gradient $g$ and curvature $-H$ of the
# likelihood in the five free parameters $\theta=(\mu_1,\mu_2,\log\sigma_1^2,\log\sigma_2^2,\operatorname{logit}\lambda_2)$,
#
# $$
# \theta\leftarrow\theta+H^{-1}g .
# $$
#
# The curvature needs no second pass. With two components a log density is quadratic in $x$, so gradient and curvature
# are sums of $x^j$, $j\le4$, weighted by $\gamma_{n1}$, $\gamma_{n2}$ and $\gamma_{n1}\gamma_{n2}$. A step that would
# lower the likelihood is taken back and shortened. Forty validation images, each with the iterations that EM takes
# until one gains less than $10^{-10}$ nats:

# %% mystnb={"image": {"alt": "For forty images in the order of EM's iterations, which grow from some dozens to a thousand and more, the looks at the bins that training's fit takes, about fifty for every one."}} tags=["hide-input", "nbval-ignore-output"]
some, inside = made.confidence[:40].flatten(1).double(), foreground[:40].flatten(1)
slow, cut = gmm.fit(some, inside, max_iter=1000, tolerance=1e-10), gmm.fit(some, inside, max_iter=30, tolerance=0.0)
quick = binned.fit(some, inside)
order = slow.n_iter.argsort()
figure, axis = plt.subplots(figsize=(7, 3.2), layout="constrained")
axis.semilogy(slow.n_iter[order].clamp_min(1), "o", ms=4, color="C0", label="EM: iterations over all values (at most 1000)")
axis.semilogy(quick.n_iter[order].clamp_min(1), "o", ms=4, color="C3", label="EM, then Newton: looks at the bins")
axis.set(xlabel="image, in the order of EM's iterations", ylabel="iterations or looks")
axis.legend(loc="upper left")
plt.close(figure)
noise = [gmm.noise_probability(some, fitted, inside) for fitted in (quick, slow, cut)]
settled = slow.converged & (slow.n_iter > 0)
assert quick.converged.all() and not (quick.log_likelihood < slow.log_likelihood - 1e-3).any()
off = (noise[0] - noise[1]).abs().amax(1)[settled]
early = (noise[0] - noise[2]).abs().amax(1)[slow.n_iter > 0]
print(f"noise probabilities of both agree to {float(off.median()):.0e} in the median image in which EM has come to its end;")
print(f"cut off after 30 iterations, EM is off by more than 0.1 at some pixel in {int((early > 0.1).sum())} of {len(early)} images")
figure

# %%
chapter.source(binned.sums, binned.newton_step)

# %% [markdown]
# What that is worth in seconds, against scikit-learn and against EM over all pixels, is measured in
# {doc}`../book/performance`.

# %% [markdown]
# ## A component that collapses
#
# The likelihood of a mixture has no maximum. Put one mean exactly on a value and let its variance go to 0: the
# density at that value grows without bound, while the other component takes care of the rest. Maps invite this. The
# ReLU of Eq. 1 makes many confidences exactly 0, all on one point. A floor under the variance keeps the likelihood
# finite; it stands inside the M-step, where the best admissible variance is the larger of Eq. 15 and the floor, so
# that the likelihood still never falls.

# %% mystnb={"image": {"alt": "Left: the mean log-likelihood grows with every smaller variance floor if many values are equal. Right: the two bells fitted to them, one a needle at zero."}} tags=["hide-input"]
spike = torch.cat([torch.zeros(200), torch.linspace(0.3, 1, 200)])[None]
floors = [10.0**-k for k in range(2, 9)]
heights = [float(gmm.fit(spike, variance_floor=floor, tolerance=0.0).log_likelihood) for floor in floors]
needle = gmm.fit(spike, variance_floor=1e-3, tolerance=0.0)
figure, (left, right) = plt.subplots(1, 2, figsize=(8.5, 3), layout="constrained")
left.semilogx(floors, heights, marker="o")
left.invert_xaxis()
left.set(xlabel="variance floor", ylabel="mean log-likelihood, nats")
right.hist(spike[0].numpy(), bins=50, density=True, color="0.8")
grid = torch.linspace(-0.2, 1.2, 1000)[None]
for part, colour in zip(gmm.log_joint(grid, needle.mean, needle.variance, needle.weight).exp()[0], ("C1", "C0"), strict=True):
    right.plot(grid[0], part, color=colour, lw=2)
right.set(xlabel="$x$", ylabel="density", title="floor 0.001")
plt.close(figure)
assert all(b > a for a, b in zip(heights, heights[1:], strict=False))
figure

# %% [markdown]
# At the other end, all values may be equal, or there may be a single one, or none. Then there is nothing to split.
# The package says so with weights $(0,1)$ and calls nothing noise:

# %%
flat = gmm.fit(torch.full((1, 5), 0.7))
assert flat.weight.tolist() == [[0, 1]] and gmm.noise_probability(torch.full((1, 5), 0.7), flat).eq(0).all()
for field in ("weight", "n_iter", "converged"):
    print(f"{field:10} {getattr(flat, field)[0].tolist()}")

# %% [markdown]
# ## The noise probability
#
# (eq-17)=
#
# $$
# \hat G_n=\gamma_{nk^*},\qquad k^*=\arg\min_k\mu_k
# \tag{17}
# $$
#
# This is the posterior of the component with the smaller mean.

# %%
chapter.source(gmm.noise_probability)

# %% [markdown]
# Below, the image from above and one more, each with
# the noise probability as a function of the confidence, and as a map beside the label's true errors:

# %% mystnb={"image": {"alt": "Two rows, an image each: the noise probability as a curve over the histogram of confidences, the image, its pseudo label, the noise probability as a map, and the label's true errors."}} tags=["hide-input"]
fits = binned.fit(made.confidence.flatten(1), foreground.flatten(1))


def draw_noise(axes, index):
    """One row: the curve of Eq. 17, the image, its label, the noise probability and the true errors."""
    values = made.confidence[index][foreground[index]]
    one = gmm.Mixture(*(field[index : index + 1] for field in fits))
    axes[0].hist(values.numpy(), bins=40, color="0.8", density=True)
    axes[0].set(xlabel="confidence $x$", yticks=[], xlim=(float(values.min()), 1))
    twin = axes[0].twinx()
    twin.plot(fine[0], gmm.noise_probability(fine, one)[0], color="C3", lw=2)
    twin.set(ylim=(-0.02, 1.05), title=r"noise probability $\hat G(x)$")
    twin.grid(False)
    axes[1].imshow(images[index].permute(1, 2, 0))
    axes[2].imshow(coloured(made.initial[index]))
    heat = axes[3].imshow(torch.where(foreground[index], made.noise[index], torch.nan), cmap="viridis", vmin=0, vmax=1)
    axes[4].imshow(torch.where(foreground[index], wrong[index].float(), torch.nan), cmap="viridis", vmin=0, vmax=1)
    for axis, title in zip(axes[1:], ("image", "pseudo label", r"$\hat G$ of its foreground", "its errors (yellow)"), strict=True):
        axis.set(title=title, xticks=[], yticks=[])
        axis.grid(False)
    plt.colorbar(heat, ax=axes[3], shrink=0.8)


figure, axes = plt.subplots(2, 5, figsize=(12.5, 5.2), layout="constrained", width_ratios=(1.5, 1, 1, 1.12, 1))
for row, index in zip(axes, (image, 11), strict=True):
    draw_noise(row, index)
plt.close(figure)
figure

# %% [markdown]
# In the first image the noise lies where most errors lie: at the right, where there is no star at all, and inside
# the ring. The second shows what else can tell two groups of confidences apart: one mixture sees all objects of an
# image, and one object may simply be recognised with less confidence than another. Its label is right, and it is
# called noise.
#
# Which of the two is the rule can be counted. Over all validation images, how many labels are wrong where $\hat G$
# is small, between the paper's thresholds, and large? And, as a detector of errors, how does $\hat G$ compare with
# the plain confidence it is made of? (The measure is the probability that a wrong label ranks before a right one,
# the area under the ROC curve: 0.5 is guessing.)

# %% tags=["nbval-ignore-output"]
noise = made.noise[foreground]
errors = wrong[foreground]
bands = {"below 0.25": noise < 0.25, "0.25 to 0.85": (noise >= 0.25) & (noise <= 0.85), "above 0.85": noise > 0.85}
share = {}
for name, band in bands.items():
    share[name] = 100 * float(errors[band].float().mean())
    part = 100 * float(band.float().mean())
    print(f"noise probability {name}: {part:4.1f} % of the foreground labels, {share[name]:4.1f} % of these wrong")


def ranking(score):
    """Area under the ROC curve of a score as a detector of wrong labels (ties count half)."""
    _, group, size = score.unique(return_inverse=True, return_counts=True)
    rank = (size.cumsum(0) - (size - 1) / 2)[group]  # mean rank of equal scores
    ones = int(errors.sum())
    return float((rank[errors].sum() - ones * (ones + 1) / 2) / (ones * (len(errors) - ones)))


by_noise, by_confidence = ranking(noise.double()), ranking(-made.confidence[foreground].double())
print(f"area under the ROC curve: noise probability {by_noise:.2f}, low confidence {by_confidence:.2f}")
glue("wrong_low", share["below 0.25"], display=False)
glue("wrong_high", share["above 0.85"], display=False)
glue("by_noise", by_noise, display=False)
glue("by_confidence", by_confidence, display=False)

# %% [markdown]
# The noise probability does find errors. In this run it does not find them better than a plain threshold on the
# confidence would: the mixture splits every image in two, also one whose labels are all right or all wrong, and
# confidences lose their meaning across images. This is one short run on one data set, not a verdict;
# {doc}`07_ablations` has the effect of the whole correction on training.
#
# One thing in Eq. 17 deserves a second look. Nothing in it says that the noise probability falls as the confidence
# rises. Where the low component is the *wider* one, its tail overtakes the other far out on both sides, and the
# **most** confident pixels are called noise again. (The exercise by hand derives where.) The curves of real maps do
# that, though few pixels may be sure enough to get there:

# %% mystnb={"image": {"alt": "Noise probability over confidence for twelve images: in some it falls, in others it falls and rises again towards confidence 1."}} tags=["hide-input", "nbval-ignore-output"]
axis_x = torch.linspace(config.method.label_high, 1, 200)[None].expand(len(images), -1)
curves = gmm.noise_probability(axis_x, fits)  # (B, 200)
usable = (foreground.flatten(1).sum(1) > 100) & (fits.weight[:, 0] > 0)
rising = usable & (curves[:, -1] > curves.amin(1) + 0.05)
above = made.confidence > fits.mean[:, 1, None, None]  # more confident than the high component's mean
tail = float((foreground & above & (made.noise > 0.85)).sum() / (foreground & (made.noise > 0.85)).sum())
figure, axis = plt.subplots(figsize=(7, 3.2), layout="constrained")
for up, colour in ((False, "0.55"), (True, "C3")):
    for index in (usable & (rising == up)).nonzero().flatten()[:6]:
        axis.plot(axis_x[0], curves[index], color=colour, lw=1.4)
axis.plot([], [], color="0.55", label="small at confidence 1")
axis.plot([], [], color="C3", label="rises again towards 1")
axis.set(xlabel="confidence $x$", ylabel=r"noise probability $\hat G(x)$", ylim=(-0.02, 1.02))
axis.legend(loc="lower left")
plt.close(figure)
print(f"the curve rises again by more than 0.05 in {int(rising.sum())} of {int(usable.sum())} images (six of each kind are drawn);")
print(f"of the pixels called noise (above 0.85), {100 * tail:.1f} % lie above the mean of the high component")
figure

# %% tags=["hide-input"]
assert usable.sum() > 100 and torch.isfinite(curves[usable]).all()
wider = fits.variance[:, 0] > fits.variance[:, 1]
assert not (rising & ~wider).any(), "without a wider low component the curve cannot rise"
if (steps, seed) == (60, 0):  # what the text says holds for the run as shipped
    assert share["below 0.25"] < share["above 0.85"] and rising.any()

# %% [markdown]
# ## The paper, the code, our choice
#
# | question | in the paper | in the code | our choice and why |
# |---|---|---|---|
# | one mixture of what | not said | `gmm.fit(x, mask)`, one row an image | one an image, of the strongest tagged activation; DuPL fits one an image, too |
# | which pixels | all, it seems | `mixture_pixels` | the pseudo label's foreground; over all pixels the low component is the background |
# | which grid | pixels | `mixture_grid` | pixels, at half the image's resolution |
# | the start of EM | not said | `gmm.fit` | symmetric about the mean; no random numbers |
# | the end of EM | convergence or a limit | `binned.fit` | the maximum itself, so that no limit decides |
# | smallest variance | not said | `variance_floor` | a millionth: a needle, but a finite one |
# | equal values | not said | weights (0, 1) | no second component, so no noise |
#
# {doc}`../book/choices` has the reasons, {doc}`07_ablations` what another choice does.
#
# | equation | function | a test that holds it |
# |---|---|---|
# | {ref}`Eq. 11 <eq-11>` | {py:func}`~dsgc.gmm.log_density` | {py:func}`log density is the logarithm of the normal density <test_gmm.test_log_density_is_the_logarithm_of_the_normal_density>` |
# | {ref}`Eq. 12 <eq-12>` | {py:func}`~dsgc.gmm.log_joint` | {py:func}`one round of estimates equals the loop <test_gmm.test_one_round_of_estimates_equals_the_loop>` |
# | {ref}`Eq. 13 <eq-13>` | {py:func}`~dsgc.gmm.e_step` | {py:func}`one round of estimates equals the loop <test_gmm.test_one_round_of_estimates_equals_the_loop>` |
# | {ref}`Eq. 14 <eq-14>` | {py:func}`~dsgc.gmm.update_mean` | {py:func}`one round of estimates equals the loop <test_gmm.test_one_round_of_estimates_equals_the_loop>` |
# | {ref}`Eq. 15 <eq-15>` | {py:func}`~dsgc.gmm.update_variance` | {py:func}`fit equals scikit learn from the same start <test_gmm.test_fit_equals_scikit_learn_from_the_same_start>` |
# | {ref}`Eq. 16 <eq-16>` | {py:func}`~dsgc.gmm.update_weight` | {py:func}`fit equals the loop <test_gmm.test_fit_equals_the_loop>` |
# | never falls | {py:func}`~dsgc.gmm.fit` | {py:func}`likelihood never falls <test_gmm.test_likelihood_never_falls>` |
# | {ref}`Eq. 17 <eq-17>` | {py:func}`~dsgc.gmm.noise_probability` | {py:func}`noise is the hump of smaller values <test_gmm.test_noise_is_the_hump_of_smaller_values>` |
#
# ## Exercises
#
# **1. By hand.** For which confidence is the noise probability exactly one half? How many such places are there?
#
# ```{dropdown} Solution
# $\hat G=\tfrac12$ means $\lambda_1\mathcal N(x\mid\mu_1,\sigma_1^2)=\lambda_2\mathcal N(x\mid\mu_2,\sigma_2^2)$. Taking
# logarithms,
#
# $$
# \frac{(x-\mu_2)^2}{2\sigma_2^2}-\frac{(x-\mu_1)^2}{2\sigma_1^2}+\log\frac{\lambda_1\sigma_2}{\lambda_2\sigma_1}=0 .
# $$
#
# With equal variances the squares of $x$ cancel and there is one place,
# $x=\frac{\mu_1+\mu_2}2+\frac{\sigma^2}{\mu_2-\mu_1}\log\frac{\lambda_1}{\lambda_2}$: the midpoint, moved towards the lighter component.
# Otherwise it is a quadratic equation, with two places or none. If the low component is the wider one, the left side is
# positive (noise) beyond **both** of them: below the lower one, as one would like, and above the upper one as well.
# ```
#
# **2. In code.** Write EM for two components in plain NumPy, without logarithms, in at most ten lines; start as the
# package does and compare after five iterations.

# %% tags=["hide-cell"] mystnb={"code_prompt_show": "Solution in code", "code_prompt_hide": "Hide the solution"}
v = x[0].double().numpy()
m, s2, lam = v.mean() + v.std() * np.array([-1.0, 1]), np.full(2, v.var()), np.full(2, 0.5)
for _ in range(5):
    density = lam * np.exp(-((v[:, None] - m) ** 2) / (2 * s2)) / np.sqrt(2 * np.pi * s2)  # (N, 2)
    g = density / density.sum(1, keepdims=True)
    m = (g * v[:, None]).sum(0) / g.sum(0)
    s2 = (g * (v[:, None] - m) ** 2).sum(0) / g.sum(0)
    lam = g.mean(0)
five = gmm.fit(x.double(), max_iter=5, tolerance=0.0)
assert np.allclose(five.mean, m) and np.allclose(five.variance, s2) and np.allclose(five.weight, lam)

# %% [markdown]
# **3. What breaks.** What happens if EM starts with two equal components?

# %% tags=["hide-cell"] mystnb={"code_prompt_show": "Solution in code", "code_prompt_hide": "Hide the solution"}
twins = x.mean().expand(1, 2), x.var(correction=0).expand(1, 2), torch.tensor([[0.3, 0.7]])
for _ in range(3):
    posterior, evidence = gmm.e_step(x, *twins)
    mass = posterior.sum(-1)
    moved = gmm.update_mean(x, posterior, mass)
    twins = moved, gmm.update_variance(x, posterior, mass, moved), gmm.update_weight(mass, torch.tensor([x.shape[1]]))
assert torch.allclose(twins[0], x.mean().expand(1, 2), atol=1e-5) and torch.allclose(twins[2], torch.tensor([[0.3, 0.7]]), atol=1e-5)
# Both have the same density, so the posterior is the weight, whatever the value. Both then get the mean and the variance of
# all values, and nothing ever changes: a place where no direction goes up that is not a maximum. A start must break the tie.

# %% [markdown]
# **4. Open-ended.** A Gaussian reaches beyond 0 and 1, a confidence does not, and the tail that calls the surest
# pixels noise is an artefact of that. What would you fit instead, and how would you find out whether it is better?
#
# ```{dropdown} Some directions
# A mixture of two Beta distributions lives on $[0,1]$; its M-step has no closed form (one matches moments, or takes Newton
# steps). Or keep the Gaussians and force one variance for both: the posterior then falls with confidence, always. Or work with
# $\log\frac{x}{1-x}$, which has no ends. A higher likelihood is no proof that errors are found. With true masks one can ask the
# right question: of the pixels called noise, how many are wrong, and how many of the wrong ones are called noise? Compare
# precision at equal recall, on images that took no part in the choice.
# ```
#
# ## What was seen
#
# - EM replaces what is not known by its posterior (E-step, Eq. 13) and then solves the easy problem (M-step, Eq. 14 to 16). It
#   climbs under a bound from Jensen's inequality, so the likelihood never falls.
# - A component can collapse onto equal values; a floor under the variance keeps it finite. Rows with nothing to split are not
#   split.
# - Labels that the mixture calls noise were wrong more often: {glue:text}`wrong_high:.0f` % of those above 0.85 against
#   {glue:text}`wrong_low:.0f` % of those below 0.25, in this run. As a detector of errors the noise probability was no better than
#   the confidence itself ({glue:text}`by_noise:.2f` against {glue:text}`by_confidence:.2f`), and it can call the surest pixels noise.
#
# What is done with the noisy pixels is the subject of {doc}`04_gc_rules`.

# %% tags=["remove-cell", "nbval-ignore-output"]
glue("seconds", time.monotonic() - begun, display=False)  # how long the chapter took, for the page that lists them
