"""What is wrong with a data set, by kind: a line each tells how often, where and the remedy; the first one alone is a refusal."""

from dsgc.errors import UserError

SHOWN = 3  # of each kind, in one line
LONGEST = 160  # letters of an item


class Faults:
    """Kinds of faults in the order in which they were found, each with what has it and the remedy."""

    def __init__(self) -> None:
        self.items: dict[tuple[str, str, str], list[str]] = {}

    def add(self, where: str, what: str, item: str, remedy: str) -> None:
        """Note that `item` has the fault `what` (in the plural, as "names of no picture"), found in the file or folder `where`."""
        self.items.setdefault((where, what, remedy), []).append(item)

    def lines(self) -> list[str]:
        """A line a kind: where, how many, the first few, the remedy."""
        return [
            f"{where}: {len(items)} {what}: {listed(items)}; {remedy}" for (where, what, remedy), items in self.items.items()
        ]

    def count(self) -> int:
        """How many there are, of all kinds."""
        return sum(map(len, self.items.values()))

    def refuse(self) -> None:
        """Raise `UserError` with the first kind, if there is one."""
        for line in self.lines()[:1]:
            more = len(self.items) - 1
            check = f" (and {more} other kind{'s' * (more > 1)} of fault, which `python -m dsgc check` lists)" if more else ""
            raise UserError(line + check)


def listed(items: list[str]) -> str:
    """The first few of some names, in words."""
    shown = [item if len(item) <= LONGEST else f"{item[:LONGEST]}..." for item in items[:SHOWN]]
    return ", ".join(shown) + (", ..." if len(items) > SHOWN else "")
