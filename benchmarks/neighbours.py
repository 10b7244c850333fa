"""What do the neighbour rules of the correction cost (Eq. 18-21)?

`dsgc.correction.correct` on the pixel grid, 16 x 448 x 448 with 64 channels, and on the patch grid, 16 x 28 x 28 with 768,
against a NumPy loop over pixels and against the four shifted products alone, which any way of doing it needs. The loop runs
over one map, and its time is multiplied by their number. Memory is what a process grows by. Writes `benchmarks/neighbours.json`.

    python benchmarks/neighbours.py
"""

import sys
import time
from statistics import median

import dsgc  # noqa: F401, isort: skip; before torch, whose threads then share the cores with others
import numpy as np
import torch
from measure import alternate, compared, peak_memory, report_peak, write
from torch import Tensor

from dsgc import correction

GRIDS = {"pixel": (16, 64, 448, 448), "patch": (16, 768, 28, 28)}  # B, D, h, w
THRESHOLDS = {"high": 0.85, "low": 0.25, "tau": 0.5}
Inputs = tuple[Tensor, Tensor, Tensor]


def inputs(grid: str) -> Inputs:
    """Labels, noise probabilities and features, as a network gives them: channels last in memory."""
    images, channels, height, width = GRIDS[grid]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    g = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 21, (images, height, width), generator=g).to(device)
    features = torch.randn(images, height, width, channels, generator=g).to(device).permute(0, 3, 1, 2)
    return labels, torch.rand(images, height, width, generator=g).to(device), features


def ours(labels: Tensor, noise: Tensor, features: Tensor) -> Tensor:
    return correction.correct(labels, noise, features, **THRESHOLDS)


def shifted_products(features: Tensor) -> list[Tensor]:
    """Each place times its neighbour above, below, left and right, summed over channels; nothing else."""
    above, left = (features[:, :, 1:], features[:, :, :-1]), (features[..., 1:], features[..., :-1])
    return [(a * b).sum(1) for a, b in (above, above[::-1], left, left[::-1])]


def loop(labels: np.ndarray, noise: np.ndarray, features: np.ndarray) -> np.ndarray:
    """The rules for one map (h, w), pixel by pixel as the equations are written, from features (h, w, D)."""

    def similarity(a: np.ndarray, b: np.ndarray) -> float:
        return a @ b / (np.linalg.norm(a) * np.linalg.norm(b))

    corrected, (height, width) = labels.copy(), labels.shape
    for y in range(height):
        for x in range(width):
            if noise[y, x] <= THRESHOLDS["low"] or noise[y, x] == THRESHOLDS["high"]:
                continue
            around = [(y + dy, x + dx) for dy, dx in ((-1, 0), (1, 0), (0, -1), (0, 1))]
            around = [(v, u) for v, u in around if 0 <= v < height and 0 <= u < width]
            alike = [similarity(features[y, x], features[place]) for place in around]
            if min(alike) < THRESHOLDS["tau"]:
                corrected[y, x] = 0
            elif noise[y, x] > THRESHOLDS["high"]:
                corrected[y, x] = 255
            else:
                corrected[y, x] = labels[around[int(np.argmax(alike))]]
    return corrected


def loop_seconds(given: Inputs, rounds: int = 3) -> float:
    """Of the loop over all maps, from its time over the first; checks that both ways give the same labels there."""
    labels, noise, features = (part[:1].cpu() for part in given)
    one = (labels[0].numpy(), noise[0].numpy(), features[0].permute(1, 2, 0).numpy())
    found = loop(*one)
    same = float((torch.from_numpy(found) == ours(labels, noise, features)[0]).double().mean())
    assert same > 0.9999, f"the loop agrees at {same:.4f} of the pixels only"  # sums in another order may tip a tie
    seconds = alternate({"loop": lambda: loop(*one)}, rounds)["loop"]
    return median(seconds) * len(given[0])


def measured(grid: str) -> dict:
    given = inputs(grid)
    seconds = alternate({"dsgc.correction": lambda: ours(*given), "four shifted products": lambda: shifted_products(given[2])})
    cases = [{"name": name} | numbers for name, numbers in compared(seconds, to="dsgc.correction").items()]
    looped = loop_seconds(given)
    cases.append({"name": "NumPy loop over pixels", "seconds": looped, "ratio": looped / cases[0]["seconds"]})
    features = given[2].numel() * given[2].element_size() / 2**20
    memory = {name: peak_memory(__file__, grid, name) for name in ("ours", "products")}
    return {"grid": grid, "shape": GRIDS[grid], "cases": cases, "features_MiB": features, "peak_MiB": memory}


def main() -> None:
    begun = time.monotonic()
    result = {"question": "The neighbour rules of the correction", "grids": [measured(grid) for grid in GRIDS]}
    write(__file__, result, begun)


if __name__ == "__main__":
    if len(sys.argv) == 3:  # a process of `peak_memory`
        arguments = inputs(sys.argv[1])
        report_peak(lambda: ours(*arguments) if sys.argv[2] == "ours" else shifted_products(arguments[2]))
    else:
        main()
