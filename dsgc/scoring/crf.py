"""Dense conditional random field after the network, in processes of its own; needs the optional package pydensecrf2."""

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import NamedTuple

import numpy as np

from dsgc.errors import UserError, enough_memory


class Settings(NamedTuple):
    """ToCo's, which the paper builds on and does not state itself."""

    iterations: int = 10
    position_weight: float = 1.0
    position_width: float = 1.0  # pixels
    colour_weight: float = 4.0
    colour_position_width: float = 121.0  # pixels
    colour_width: float = 5.0  # of 255


TOCO = Settings()


def available() -> None:
    """Raise `UserError` where pydensecrf2 is not installed."""
    try:
        import pydensecrf.densecrf  # noqa: F401
    except ImportError as error:
        raise UserError("pydensecrf2: not installed, and the CRF needs it; `pip install pydensecrf2`, or leave the CRF off") from error


def sharpen(image: np.ndarray, probabilities: np.ndarray, settings: Settings = TOCO) -> np.ndarray:
    """Labels that agree with the probabilities and change where the colours do (Krähenbühl and Koltun 2011).

    Args:
        image: (H, W, 3) uint8.
        probabilities: (K, H, W) in [0, 1].
    Returns:
        (H, W) uint8, 0..K-1.
    """
    from pydensecrf.densecrf import DenseCRF2D

    labels, height, width = probabilities.shape
    field = DenseCRF2D(width, height, labels)
    unary = -np.log(np.clip(probabilities.astype(np.float32), 1e-5, 1))
    field.setUnaryEnergy(np.ascontiguousarray(unary.reshape(labels, -1)))
    field.addPairwiseGaussian(sxy=settings.position_width, compat=settings.position_weight)
    field.addPairwiseBilateral(
        sxy=settings.colour_position_width,
        srgb=settings.colour_width,
        rgbim=np.ascontiguousarray(image),
        compat=settings.colour_weight,
    )
    return np.asarray(field.inference(settings.iterations)).reshape(labels, height, width).argmax(0).astype(np.uint8)


def processes(workers: int) -> int:
    """How many processes sharpen; 0 takes one for each core."""
    return workers or os.cpu_count() or 1


def sharpened(
    items: Iterable[tuple[str, np.ndarray, np.ndarray]], workers: int = 0, settings: Settings = TOCO
) -> Iterator[tuple[str, np.ndarray]]:
    """`sharpen` of a stream of (id, image, probabilities), in order; at most two images a process are held at a time.

    workers: processes; 0 takes one for each core.
    Raises:
        UserError: no pydensecrf2, processes that cannot be started or die, or no memory for an image.
    """
    available()
    workers = processes(workers)
    waiting: deque[tuple[str, Future]] = deque()
    try:
        pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"))  # fork is not safe beside a GPU
    except OSError as error:  # its semaphores lie in shared memory
        raise UserError(
            f"the CRF: its processes cannot be started ({error.strerror}); where /dev/shm is full give a container more of it "
            "(docker run --shm-size=1g), or leave the CRF off"
        ) from error
    with pool:
        for image_id, image, probabilities in items:
            waiting.append((image_id, pool.submit(sharpen, image, probabilities.astype(np.float16), settings)))
            if len(waiting) > 2 * workers:
                yield _result(*waiting.popleft())
        for name, future in waiting:
            yield _result(name, future)


def _result(name: str, future: Future) -> tuple[str, np.ndarray]:
    try:
        with enough_memory(f"{name}: cannot be sharpened by the CRF", "make the picture smaller, or leave the CRF off"):
            return name, future.result()
    except BrokenProcessPool as error:
        remedy = "make the picture smaller, or leave the CRF off"
        raise UserError(f"{name}: a process of the CRF died, memory may have run out; {remedy}") from error
