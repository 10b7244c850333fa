"""Segmentation from image tags: dual-stage distillation and Gaussian correction, equation by equation.

Start at `dsgc.methods` for the methods, at `dsgc.training.loop` for the loop, at `dsgc.config` for every number.
"""

import os

# How long one of torch's threads that waits for the others spins before it sleeps. libgomp's own 300,000 rounds, milliseconds, take the
# core from a neighbour that has work, and on a shared machine a step takes several times as long; to sleep at once costs an idle machine a
# fifth (book/performance.md). Read as torch is loaded, so here, before any module imports it; what a user has set stays.
if not os.environ.keys() & {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"}:
    os.environ["GOMP_SPINCOUNT"] = "2000"
