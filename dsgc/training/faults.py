"""What can go wrong while a run is under way: what is done is kept, and the line that ends the run says how to go on."""

import contextlib
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType

import torch

from dsgc.errors import Stopped, UserError, first_line, out_of_memory, resuming
from dsgc.training.learner import not_finite
from dsgc.training.step import Step

PATIENCE = 10  # steps in a row without a finite loss, after which a run ends


class Progress:
    """How many steps of a run are done, and how many of these a checkpoint has.

    A mistake in what the user gave (`UserError`) or a signal (`Stopped`) that passes through leaves a checkpoint of what is done.
    """

    def __init__(self, out: Path, start: int, steps: int, write: Callable[[int], None]):
        self.out, self.done, self.kept, self.steps, self.write = out, start, start, steps, write
        self.skipped = 0  # in a row

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if not isinstance(error, UserError | Stopped):
            return
        if self.done > self.kept:
            self.save()
        if isinstance(error, Stopped):
            name = signal.Signals(error.number).name
            where = f"{self.out}: {name} after {self.done} of {self.steps} steps; {resuming(self.out)} goes on"
            raise Stopped(error.number, where) from None

    def save(self) -> None:
        """Write a checkpoint."""
        self.kept = self.done  # whatever comes of it: a second attempt would fail alike
        self.write(self.done)

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Where images are read; one may be gone by now, or the processes that load them."""
        try:
            yield
        except UserError as error:
            gone = f"{error}; {self.done} steps are kept, {resuming(self.out)} goes on"
            raise UserError(gone if self.done else str(error)) from error

    @contextlib.contextmanager
    def stepping(self, device: torch.device) -> Iterator[None]:
        """Where a step is taken, which is done from there on; the memory of the card may not do for it."""
        try:
            yield
        except (MemoryError, RuntimeError) as error:
            if _of_the_compiler(error):
                raise UserError(f"{self.out}: the encoder cannot be compiled here ({first_line(error)}); leave out --compile") from error
            if not out_of_memory(error):
                raise
            self.kept = self.done  # what is there may be half a step
            raise UserError(
                f"{self.out}: no memory left on {device} in step {self.done + 1}; a larger --accumulate or --recompute True needs less"
            ) from error
        self.done += 1  # before anything else can fail: weights that have learnt are kept as of this step

    def count(self, made: Step, sound: bool, say: Callable[[str], None]) -> None:
        """Whether the step counts. Raises `UserError` where too many in a row were skipped because something was not finite."""
        self.skipped = 0 if sound else self.skipped + 1
        if sound:
            return
        what = not_finite(made.losses)
        say(f"step {self.done} skipped, number {self.skipped} in a row: {what} not finite")
        if self.skipped == PATIENCE:
            raise UserError(
                f"{self.out}: {what} not finite in {self.skipped} steps in a row, {self.done + 1 - self.skipped} to {self.done}, "
                "which changed no weight; train again with a smaller --lr, or weights and images that are not at fault"
            )


def _of_the_compiler(error: BaseException) -> bool:
    """Whether `torch.compile` failed, as it does where there is no C++ compiler."""
    return any(kind.__module__.startswith("torch._dynamo.exc") for kind in type(error).__mro__)
