"""What a builder shows while notebooks run: which one, which cell of how many, since when, and how long all may still take.

On a terminal that is one line, written again every second. Elsewhere a notebook has a line as it begins and one as it ends, and
between them a cell that runs for long has one after half a minute, and another each time that it has run for twice as long.

The time left is what the cells took the last time, times how much longer those of this notebook take that have ended by now. It is
shown once everything ahead has run before; until then there is the time so far.
"""

import contextlib
import itertools
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

FIRST_WORD = 30  # seconds that a cell runs before a line tells of it
PACE_FROM = 5  # seconds of cells that have ended before their pace is believed


class Progress:
    """Notebooks that run one after the other.

    who: the program that shows it.
    names: the notebooks, in their order; `after` those that something else runs later.
    path: where the seconds of each cell are kept, by notebook, from one time to the next.
    """

    def __init__(self, who: str, names: Sequence[str], path: Path, after: Sequence[str] = ()):
        self.who, self.names, self.path, self.after = who, list(names), path, list(after)
        self.times = _read(path)
        self.name, self.cells, self.begun, self.marks, self.said = "", 0, 0.0, [], 0  # marks: when each cell began

    @contextlib.contextmanager
    def running(self, name: str, cells: int) -> Iterator[Callable[..., None]]:
        """Show a notebook of so many code cells; gives what has to be called as each of them begins."""
        self.name, self.cells, self.begun, self.marks, self.said = name, cells, time.monotonic(), [], 0
        terminal, ended = sys.stderr.isatty(), threading.Event()
        if not terminal:
            left = self.left(self.begun)
            print(f"{self.who}: running {name}{_about(left)}", flush=True)
        shown = threading.Thread(target=self._show, args=(ended, terminal), daemon=True)
        shown.start()
        try:
            yield self._begin
        finally:
            ended.set()
            shown.join()
        now = time.monotonic()
        print(f"{self.who}: {name} done in {_words(now - self.begun)}", flush=True)
        self.times[name] = [round(end - begin, 1) for begin, end in itertools.pairwise([*self.marks, now])]
        self.keep()

    def left(self, now: float) -> float | None:
        """Seconds until all have ended; None if something ahead has not run before, or had other cells."""
        ahead = [self.times.get(name, []) for name in self.names[self.names.index(self.name) :] + self.after]
        if not all(ahead) or len(ahead[0]) != self.cells:
            return None
        here, ended = ahead[0], min(max(len(self.marks) - 1, 0), self.cells - 1)
        before = sum(here[:ended])
        pace = (self.marks[-1] - self.marks[0]) / before if before >= PACE_FROM else 1.0
        current = now - self.marks[-1] if self.marks else 0.0
        return max(pace * here[ended] - current, 0) + pace * (sum(here[ended + 1 :]) + sum(map(sum, ahead[1:])))

    def line(self, now: float) -> str:
        """Where it stands."""
        place = f" ({self.names.index(self.name) + 1} of {len(self.names)})" if len(self.names) > 1 else ""
        cell = f"cell {len(self.marks)} of {self.cells} for {_words(now - self.marks[-1])}" if self.marks else "starting"
        return f"{self.who}: {self.name}{place}, {cell}, {_words(now - self.begun)} in all{_about(self.left(now))}"

    def keep(self) -> None:
        """Write the times for the next build; a place that cannot be written ends none."""
        with contextlib.suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            part = self.path.with_suffix(".part")
            part.write_text(json.dumps(self.times), encoding="utf-8")
            os.replace(part, self.path)

    def _begin(self, **_: object) -> None:
        self.marks.append(time.monotonic())
        self.said = 0

    def _show(self, ended: threading.Event, terminal: bool) -> None:
        while not ended.wait(1):
            now = time.monotonic()
            if terminal:
                print(f"\r\x1b[K{self.line(now)}", end="", file=sys.stderr, flush=True)
            elif self.marks and now - self.marks[-1] >= FIRST_WORD * 2**self.said:
                self.said += 1
                print(self.line(now), flush=True)
        if terminal:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def code_cells(notebook) -> int:
    """How many cells of a notebook are run."""
    return sum(cell.cell_type == "code" and bool(cell.source.strip()) for cell in notebook.cells)


def _read(path: Path) -> dict[str, list[float]]:
    """The times that a file holds; none if it is not there or not whole."""
    with contextlib.suppress(OSError, ValueError, AttributeError, TypeError):
        return {str(name): [float(value) for value in values] for name, values in json.loads(path.read_text(encoding="utf-8")).items()}
    return {}


def _about(left: float | None) -> str:
    return "" if left is None else f"; about {_words(left)} left"


def _words(seconds: float) -> str:
    """A duration as one would say it: 45 s, 3 min, 1 h 20 min."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
