"""How long it will take, told once the first images are through: nobody should learn after a night that it takes a week."""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import numpy as np

from dsgc.runs.record import note
from dsgc.scoring import crf

T = TypeVar("T")
TIMED = 3.0  # seconds of work on which an estimate rests; the first item, slower than others, is not in them
LONG = 60.0  # seconds; of what takes less nothing is said
MANY = 20  # images, from which on the CRF is timed on one of them beforehand


def announced(stream: Iterable[T], total: int, main: bool, images: Callable[[T], int] = lambda _: 1) -> Iterator[T]:
    """What comes from a stream; on the way the `main` process says how long its `total` images will take.

    images: how many there are in an item.
    """
    begun, seen, silent = 0.0, 0, not main
    for item in stream:
        yield item
        now, seen = time.perf_counter(), seen + images(item)
        if not begun:
            begun, first = now, seen
        elif not silent and now - begun >= TIMED:
            silent, each = True, (now - begun) / (seen - first)
            _say(total, f"{each:.2g} s each", each * (total - seen))


def announced_of_crf(
    stream: Iterable[tuple[str, np.ndarray, np.ndarray]], total: int, main: bool, processes: int
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """As `announced`, of what `crf.sharpened` takes: the second image is sharpened here once more, to see how long that takes."""
    begun = time.perf_counter()
    for number, (name, image, found) in enumerate(stream):
        if number == 1 and main and total >= MANY:
            looked = time.perf_counter()
            crf.sharpen(image, found)
            each, sharpened = looked - begun, time.perf_counter() - looked
            words = f"{each:.2g} s each, and {sharpened:.2g} s for the CRF in {processes} process{'es' * (processes > 1)}"
            _say(total, words, (each + sharpened / processes) * total)
        yield name, image, found
        begun = time.perf_counter()


def _say(total: int, words: str, seconds: float) -> None:
    if seconds >= LONG:
        note([f"{total} images, {words}: about {lasting(seconds)}"], main=True)


def lasting(seconds: float) -> str:
    """A span of time in words: 40 min, 3 h 20 min, 2 d 5 h."""
    minutes = round(seconds / 60)
    hours, minutes = divmod(minutes, 60)
    days, rest = divmod(hours, 24)
    return f"{days} d {rest} h" if days else f"{hours} h {minutes} min" if hours else f"{minutes} min"
