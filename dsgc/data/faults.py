"""What is wrong with a data set, by kind: a line each tells how often, where and the remedy; the first one alone is a refusal."""

import contextlib
from collections.abc import Iterator
from typing import NamedTuple

from dsgc.errors import UserError

SHOWN = 3  # of each kind
LONGEST = 240  # letters of an item


class Kind(NamedTuple):
    where: str  # file or folder; empty where the items say it
    what: str  # in the plural
    remedy: str  # empty where the items say it


class Faults:
    """Kinds of faults in the order in which they were found, each with all that has it."""

    def __init__(self) -> None:
        self.kinds: dict[Kind, dict[str, None]] = {}  # what has the fault, in order and once

    def add(self, where: str, what: str, item: str, remedy: str) -> None:
        """Note that `item` has the fault `what`, found in the file or folder `where`."""
        self.kinds.setdefault(Kind(where, what, remedy), {})[item] = None

    @contextlib.contextmanager
    def kept(self, what: str) -> Iterator[None]:
        """Note a `UserError` that is raised in here, instead of ending with it."""
        try:
            yield
        except UserError as error:
            self.add("", what, str(error), "")

    def __len__(self) -> int:
        return sum(map(len, self.kinds.values()))

    def lines(self) -> list[str]:
        """Of each kind where, what and how many, and below it the first few and the remedy."""
        found = []
        for (where, what, remedy), items in self.kinds.items():
            found.append(f"{where}: {what} ({len(items)})" if where else f"{what} ({len(items)})")
            found += [f"  {short(item)}" for item in [*items][:SHOWN]] + ["  ..."] * (len(items) > SHOWN)
            found += [f"  remedy: {remedy}"] * bool(remedy)
        return found

    def refuse(self) -> None:
        """Raise `UserError` with the first kind in one line, if there is any."""
        for (where, what, remedy), items in [*self.kinds.items()][:1]:
            more = len(self.kinds) - 1
            others = f"; `python -m dsgc check` lists {more} more kind{'s' * (more > 1)} of fault" if more else ""
            raise UserError(f"{where}: {what} ({len(items)}): {listed([*items])}; {remedy}{others}" if where else [*items][0])


def short(item: str) -> str:
    return item if len(item) <= LONGEST else f"{item[:LONGEST]}..."


def listed(items: list[str]) -> str:
    """The first few of some names, in words."""
    return ", ".join(map(short, items[:SHOWN])) + (", ..." if len(items) > SHOWN else "")
