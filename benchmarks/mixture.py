"""What does it cost to fit the mixture and to read the noise probability off it, and how exact is that?

16 maps of 448 x 448: `dsgc.binned`, which training uses, against scikit-learn fitted map by map with the settings of
published code (DuPL: two components, ten iterations), against `dsgc.gmm` (EM over all values at once), and against the floor,
one pass over the values. Noise probabilities are compared with those of EM in float64 over all values, run to its end.
Writes `benchmarks/mixture.json`.

    python benchmarks/mixture.py
"""

import time
from functools import partial
from statistics import median

import dsgc  # noqa: F401, isort: skip; before torch, whose threads then share the cores with others
import numpy as np
import torch
import torch.nn.functional as F
from measure import alternate, compared, exponent, write
from sklearn.mixture import GaussianMixture
from torch import Tensor

from dsgc import binned, gmm
from dsgc.gmm import Mixture

MAPS, SIDE = 16, 448
EXACT = 2  # maps of a kind for which EM runs to its end
END = {"max_iter": 10_000, "tolerance": 1e-13}


def maps(kind: str, count: int, side: int = SIDE) -> Tensor:
    """Drawn maps in [0, 1], (count, side * side)."""
    g = torch.Generator().manual_seed(0)
    if kind == "smooth":  # a map of patches, scaled up
        values = F.interpolate(torch.rand(count, 1, 14, 14, generator=g), (side, side), mode="bicubic").clamp(0, 1)
    elif kind == "cut off at 0":  # the same with a rectifier: half of the values are 0
        values = F.interpolate(torch.randn(count, 1, 28, 28, generator=g), (side, side), mode="bilinear").relu()
        values = values / values.amax((1, 2, 3), keepdim=True)
    else:  # two humps
        low = 0.2 + 0.05 * torch.randn(count, 1, side, side, generator=g)
        high = 0.65 + 0.1 * torch.randn(count, 1, side, side, generator=g)
        values = torch.where(torch.rand(count, 1, side, side, generator=g) < 0.3, low, high).clamp(0, 1)
    return values.flatten(1)


def ours(x: Tensor) -> Tensor:
    return gmm.noise_probability(x, binned.fit(x))


def plain(x: Tensor, **limits) -> Tensor:
    return gmm.noise_probability(x, gmm.fit(x, **limits))


def sklearn_per_map(x: Tensor) -> Tensor:
    found = np.empty(x.shape, np.float32)
    for row, values in zip(found, x.cpu().numpy(), strict=True):
        mixture = GaussianMixture(2, max_iter=10, tol=1e-2, reg_covar=5e-4).fit(values[:, None])
        row[:] = mixture.predict_proba(values[:, None])[:, mixture.means_[:, 0].argmin()]
    return torch.from_numpy(found)


def exactness() -> list[dict]:
    """The largest difference of a noise probability from that of float64 EM at its end, by kind of map."""
    lines = []
    for kind in ("smooth", "cut off at 0", "two humps"):
        x = maps(kind, EXACT)
        reference: Mixture = gmm.fit(x.double(), **END)
        exact = gmm.noise_probability(x.double(), reference)
        ways = {"binned": ours(x), "EM, 30 iterations": plain(x, max_iter=30, tolerance=1e-3), "scikit-learn": sklearn_per_map(x)}
        line = {"kind": kind, "em_iterations": reference.n_iter.tolist(), "em_converged": reference.converged.all().item()}
        line["looks"] = binned.fit(x).n_iter.tolist()
        lines.append(line | {"off": {name: float((noise - exact).abs().max()) for name, noise in ways.items()}})
        print(lines[-1], flush=True)
    return lines


def growth(device: torch.device) -> list[dict]:
    """Seconds of fit and noise probability by the number of maps and of pixels."""
    lines = []
    for against, inputs in {
        "images": {n: maps("smooth", n) for n in (4, 8, 16, 32)},
        "pixels": {side**2: maps("smooth", 4, side) for side in (112, 224, 448, 896)},
    }.items():
        found = alternate({count: partial(ours, x.to(device)) for count, x in inputs.items()})
        counts, seconds = list(found), [median(values) for values in found.values()]
        lines.append({"of": "mixture", "against": against, "sizes": counts, "seconds": seconds, "exponent": exponent(counts, seconds)})
    return lines


def main() -> None:
    begun = time.monotonic()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    x = maps("smooth", MAPS).to(device)
    fitted = binned.fit(x)
    seconds = alternate(
        {
            "binned": lambda: ours(x),
            "scikit-learn, map by map": lambda: sklearn_per_map(x),
            "EM over all values, 30 iterations": lambda: plain(x, max_iter=30, tolerance=0.0),
            "noise probability alone": lambda: gmm.noise_probability(x, fitted),
            "floor: one pass over the values": lambda: x.sum(1),
        }
    )
    cases = [{"name": name} | numbers for name, numbers in compared(seconds, to="binned").items()]
    result = {"question": "Fit of the mixture and noise probability, 16 maps of 448 x 448", "cases": cases}
    write(__file__, result | {"exactness": exactness(), "growth": growth(device)}, begun, ["scikit-learn"])


if __name__ == "__main__":
    main()
