"""In which order runs are made: a warm-up that several share first, and they as soon as it is there."""

from collections.abc import Collection, Mapping
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
    """What is still to be made, by whomever.

    Runs whose trunk is there come before another trunk is begun, so that few trunks lie on the disk at a time; runs that share
    with none come last, since they can fill any gap.
    """

    def __init__(self, runs: Mapping[str, Config]):
        shared = forks.groups(runs)
        trunk = {label: key for key, labels in shared.items() for label in labels}
        self.runs: dict[str, Task] = {}
        for label, config in runs.items():
            first = config.method.shared_steps if label in trunk else 0
            self.runs[label] = Task((label,), config, first, config.steps, trunk.get(label))
        self.trunks: dict[str, Task] = {}
        for key, labels in shared.items():
            config = runs[labels[0]]
            self.trunks[key] = Task(tuple(labels), config, 0, config.method.shared_steps, key)

    def order(self, grown: Collection[str]) -> list[Task]:
        """What could be begun where these trunks are there, the most urgent first."""
        ready = [task for task in self.runs.values() if task.trunk in grown]
        trunks = [task for key, task in self.trunks.items() if key not in grown]
        return [*ready, *trunks, *(task for task in self.runs.values() if task.trunk is None)]

    def end(self, label: str) -> None:
        """Note that nothing is to be done for a run any more, and for its trunk if no other run needs it."""
        key = self.runs.pop(label).trunk
        if key is not None and all(task.trunk != key for task in self.runs.values()):
            del self.trunks[key]

    def steps(self, grown: Collection[str]) -> int:
        """Steps that are still to be trained where these trunks are there."""
        trunks = sum(task.steps for key, task in self.trunks.items() if key not in grown)
        return trunks + sum(task.steps for task in self.runs.values())
