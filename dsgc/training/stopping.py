"""A run that is asked to stop, by Ctrl-C or SIGTERM: the step is finished, and where nothing is being changed it stops at once."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

import torch

from dsgc.errors import Stopped
from dsgc.runs import parallel

ASKED = (signal.SIGINT, signal.SIGTERM)
SAID = b"\ndsgc: stopping after this step; press Ctrl-C again to stop without it\n"


class Signals:
    """Notes a signal that asks to stop, instead of dying of it. A second Ctrl-C has its usual effect; SIGTERM never has, since a
    launcher of several processes sends it after the terminal's Ctrl-C, and SIGKILL later."""

    def __init__(self, device: torch.device):
        self.device, self.process = device, os.getpid()
        self.number = 0
        self.waiting = False  # for something that can be broken off
        self.before: dict = {}

    def __enter__(self) -> "Signals":
        if threading.current_thread() is threading.main_thread():  # Python allows it there only
            heeded = [number for number in ASKED if signal.getsignal(number) != signal.SIG_IGN]  # not so behind nohup or a `&`
            self.before = {number: signal.signal(number, self._note) for number in heeded}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self.process:  # a loading process: Ctrl-C reaches it too, and the batch is still needed
            return
        self.number = self.number or number
        if number == signal.SIGINT:
            signal.signal(number, self.before.pop(number))
            if not self.waiting:
                os.write(2, SAID)  # print may be in the midst of a line
        if self.waiting:
            raise Stopped(self.number)

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """In here a signal raises `Stopped`, as it does for one noted before; of several processes none may run ahead."""
        if parallel.rank_and_size()[1] > 1:
            yield
            return
        self.waiting = True
        try:
            if self.number:
                raise Stopped(self.number)
            yield
        finally:
            self.waiting = False

    def received(self) -> int:
        """The signal's number, 0 for none; the same in every process, so that all stop after the same step."""
        if parallel.rank_and_size()[1] == 1:
            return self.number
        highest = torch.tensor([float(self.number)], device=self.device)
        torch.distributed.all_reduce(highest, op=torch.distributed.ReduceOp.MAX)
        return int(highest)
