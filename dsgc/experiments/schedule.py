"""In which order runs are made: a warm-up that several share first, and they as soon as it is there."""

from collections import deque
from collections.abc import Mapping
from typing import NamedTuple

from dsgc.config import Config
from dsgc.experiments import forks


class Task(NamedTuple):
    """What one process trains: a run, whole or from a trunk on, or a trunk."""

    labels: tuple[str, ...]  # the run's; of a trunk those of all that wait for it
    config: Config
    first: int  # step that it begins with
    last: int  # step that it ends with
    trunk: str | None  # what it shares with others, as `forks.shared` has it

    @property
    def grows(self) -> bool:
        """Whether it is the trunk that it trains."""
        return self.last < self.config.steps

    @property
    def steps(self) -> int:
        return self.last - self.first


class Schedule:
    """What is still to be begun.

    Runs whose trunk is there come before another trunk is begun, so that few trunks lie on the disk at a time; runs that share
    with none come last, since they can fill any gap.
    """

    def __init__(self, runs: Mapping[str, Config]):
        shared = forks.groups(runs)
        self.behind: dict[str, list[Task]] = {}  # runs that wait for a trunk
        self.trunks: deque[Task] = deque()
        self.ready: deque[Task] = deque()
        self.alone: deque[Task] = deque()
        self.users: dict[str, int] = {}  # runs that still need a trunk's files
        for key, labels in shared.items():
            config, fork = runs[labels[0]], runs[labels[0]].method.shared_steps
            self.trunks.append(Task(tuple(labels), config, 0, fork, key))
            self.behind[key] = [Task((label,), runs[label], fork, config.steps, key) for label in labels]
            self.users[key] = len(labels)
        sharing = {label for labels in shared.values() for label in labels}
        self.alone += [Task((label,), config, 0, config.steps, None) for label, config in runs.items() if label not in sharing]

    def take(self) -> Task | None:
        """The task to begin next; None where there is none, or none whose trunk is there."""
        return next((tasks.popleft() for tasks in (self.ready, self.trunks, self.alone) if tasks), None)

    def end(self, task: Task, *, well: bool) -> str | None:
        """Note that a task has ended, well or not; returns the trunk that nobody needs from here on, if there is one."""
        if task.trunk is None:
            return None
        if task.grows:
            waiting = self.behind.pop(task.trunk)
            self.ready += waiting if well else []
            return None if well else task.trunk
        self.users[task.trunk] -= 1
        return None if self.users[task.trunk] else task.trunk

    def tasks(self) -> list[Task]:
        """All that is not begun."""
        return [*self.ready, *self.trunks, *self.alone, *(task for waiting in self.behind.values() for task in waiting)]
