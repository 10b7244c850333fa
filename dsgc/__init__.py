"""Segmentation from image tags: dual-stage distillation and Gaussian correction, equation by equation.

Start at `dsgc.load` to use a trained network, at `dsgc.methods` for the method, at `dsgc.training.loop` for the loop, at
`dsgc.config` for every number.
"""

import os
import typing
from pathlib import Path

# How long one of torch's threads that waits for the others spins before it sleeps. libgomp's own 300,000 rounds, milliseconds, take the
# core from a neighbour that has work, and on a shared machine a step takes several times as long; to sleep at once costs an idle machine
# time instead (book/performance.md). Read as torch is loaded, so here, before any module imports it; what a user has set stays.
if not os.environ.keys() & {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"}:
    os.environ["GOMP_SPINCOUNT"] = "2000"

if typing.TYPE_CHECKING:  # torch is loaded with the first network
    from dsgc.scoring.segmenter import Segmenter


def load(run: str | Path, *, network: str = "", device: str = "auto") -> "Segmenter":
    """A trained network, ready for pictures: `dsgc.load("shapes").segment("picture.jpg").labels`.

    Args:
        run: a run folder, one of its checkpoints, a file that `python -m dsgc export` wrote, or the name of weights that come with
            the package: `shapes` and `shapes-dsgc`, on its drawn pictures.
        network: one of the run's networks; that of which results are reported if not given.
        device: `auto` takes a GPU where there is one; `cpu`, `cuda:1`, ... as torch has them.
    Raises:
        UserError: no run or weights, damaged ones, no such network or device.
    """
    from dsgc.scoring.segmenter import load as load_segmenter

    return load_segmenter(run, network, device)
