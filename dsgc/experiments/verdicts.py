"""What a family of comparisons tells: beside each difference its interval, its p-values, and the size that could have been told.

Rows are compared seed by seed (`significance`). A family is what one table or one sentence asks at once; its p-values are corrected
together by Holm, and a verdict rests on the corrected one alone. A difference that cannot be told from none says nothing without
the size that could have been: it stands in the same line. Values are points of per cent.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
import pandas as pd
from scipy import stats

from dsgc.experiments import significance

HELD, REVERSED, OPEN = "as in the paper", "the other way round", "cannot be told apart"
TOLD = "told apart"
COLUMNS = ("difference", "from", "to", "p (sign flip)", "p (Holm)", "could tell", "seeds")


def against(values: pd.DataFrame, reference: str) -> pd.DataFrame:
    """What each other row has more than a row, seed by seed: a row for each, a column for each seed."""
    return values.drop(index=reference) - values.loc[reference]


def compared(differences: pd.DataFrame) -> pd.DataFrame:
    """A family of differences by seed, a row each, as `COLUMNS`: mean, 95 % interval, p, p of the family, size that could be told.

    The interval is of one difference alone, not of the family. A difference of no seed is left out and does not count.
    """
    there = differences.dropna(how="all")
    chances = [significance.sign_flip(row) for _, row in there.iterrows()]
    lines = [
        (row.mean(), *significance.interval(row), chance, corrected, significance.detectable(row, len(there)), int(row.count()))
        for (_, row), chance, corrected in zip(there.iterrows(), chances, significance.holm(chances), strict=True)
    ]
    return pd.DataFrame(lines, there.index, list(COLUMNS))


def told(table: pd.DataFrame) -> pd.Series:
    """Which rows of `compared` can be told from no difference."""
    return table["p (Holm)"] <= significance.LEVEL


def pairs(values: pd.DataFrame, printed: Mapping[str, float], reference: str = "") -> pd.DataFrame:
    """Each two rows, the better one of the paper first: the paper's difference, the measured one seed by seed, a verdict.

    The pairs are one family. Two rows that the paper prints with the same value are left out.

    Args:
        reference: only pairs with this row; all for "".
    """
    ranked = sorted((row for row in values.index if row in printed), key=lambda row: -printed[row])
    of = [(a, b) for a, b in combinations(ranked, 2) if printed[a] != printed[b] and reference in ("", a, b)]
    names = pd.MultiIndex.from_tuples(of, names=["better in the paper", "than"]) if of else None
    differences = pd.DataFrame([values.loc[a] - values.loc[b] for a, b in of], names, values.columns)
    table = compared(differences)
    table.insert(0, "in the paper", [printed[a] - printed[b] for a, b in table.index])
    apart = np.where(table.difference > 0, HELD, REVERSED)
    return table.assign(order=np.where(told(table), apart, OPEN))


def rank_agreement(values: pd.DataFrame, printed: Mapping[str, float]) -> float:
    """Kendall's tau, in [-1, 1], between the paper's order of the rows and that of the means."""
    means = values.mean(axis=1)
    common = [row for row in means.index if row in printed]
    return float(stats.kendalltau([printed[row] for row in common], means[common]).statistic)


def reach(seeds: int, family: int) -> str:
    """In words: the smallest p that so many seeds can reach in a family, and whether that is enough for a verdict."""
    least = min(1.0, significance.smallest(seeds) * family)
    enough = "" if least <= significance.LEVEL else f", so nothing can be told apart at {100 * significance.LEVEL:g} %"
    of = f"{family} comparisons" if family > 1 else "one comparison"
    return f"{seeds} seeds and {of}: the smallest p that can be reached is {least:.2g}{enough}"


def sizes(could_tell: Sequence[float]) -> str:
    """In words: the smallest true differences that comparisons would have told, infinite where none."""
    every = np.asarray(could_tell, float)
    there = every[np.isfinite(every)]
    if not len(there):
        return "no difference, however large, could have been told"
    low, high = f"{there.min():.1f}", f"{there.max():.1f}"
    none = f", and none in {len(every) - len(there)} of them" if len(there) < len(every) else ""
    return f"a true difference of {low if low == high else f'{low} to {high}'} points could have been told{none}"


def verdict(values: pd.DataFrame, printed: Mapping[str, float], scale: str, reference: str = "") -> str:
    """An honest line: did the paper's order hold in the means, and which pairs can be told apart? Arguments as of `pairs`."""
    table = pairs(values, printed, reference)
    order = " > ".join(sorted(printed, key=lambda row: -printed[row]))
    means = values.mean(axis=1).loc[[row for row in values.index if row in printed]]
    ours = " > ".join(means.sort_values(ascending=False).index)
    counts = {kind: int((table.order == kind).sum()) for kind in (HELD, REVERSED, OPEN)}
    same = "The paper's order held" if order == ours else "The paper's order did not hold"
    of = f"pairs with {reference}" if reference else "pairs"
    unsure = f" ({sizes(table['could tell'][table.order == OPEN])})" if counts[OPEN] else ""
    return (
        f"{same} in the means on scale {scale} (Kendall's tau {rank_agreement(values, printed):.2f}). Paper: {order}. Here: {ours}. "
        f"Of {len(table)} {of} {counts[HELD]} can be told apart as in the paper, {counts[REVERSED]} the other way round, "
        f"{counts[OPEN]} cannot be told apart{unsure}. Sign-flip test, Holm's correction; {reach(values.shape[1], len(table))}."
    )


def said(line: pd.Series) -> str:
    """A row of `compared` in words: the difference, its interval, p, and the verdict with what could have been told."""
    ends = f"{line['from']:+.1f} to {line.to:+.1f}" if np.isfinite(line.to) else "an interval without end"
    found = f"{line.difference:+.1f} points ({ends}; p {line['p (Holm)']:.2g} after Holm), "
    if line["p (Holm)"] <= significance.LEVEL:
        return found + "which can be told from none"
    return found + f"which cannot be told from none: {sizes([line['could tell']])}"


def overview(families: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """All comparisons of a page, family by family: what was measured, p after Holm, what could have been told, the verdict.

    families: of `compared` or `pairs`, by name; empty ones leave no row.
    """
    lines = [
        (family, " against ".join(name) if isinstance(name, tuple) else name, line.difference, line["p (Holm)"], line["could tell"],
         TOLD if line["p (Holm)"] <= significance.LEVEL else OPEN)
        for family, table in families.items()
        for name, line in table.iterrows()
    ]  # fmt: skip
    return pd.DataFrame(lines, columns=["family", "comparison", "difference", "p (Holm)", "could tell", "verdict"]).set_index("family")


def balance(families: Mapping[str, pd.DataFrame]) -> str:
    """`overview` in words: how many comparisons of each family can be told apart, and what the others could have told."""
    table, whole = overview(families), {name: found for name, found in families.items() if len(found)}
    unsure = table[table.verdict == OPEN]
    by_family = "; ".join(f"{name}: {told(found).sum()} of {len(found)}" for name, found in whole.items())
    of_which = f" ({by_family})" if by_family else ""
    rest = f" {len(unsure)} cannot be told apart; {sizes(unsure['could tell'])}." if len(unsure) else ""
    return f"Of {len(table)} comparisons in {len(whole)} families {len(table) - len(unsure)} can be told apart{of_which}.{rest}"


def lost(by_run: Mapping[tuple[str, int], Sequence[str]]) -> pd.DataFrame:
    """How often runs lose a class: of each row the runs, those that lost one or more, this rate with its 95 % interval, the classes.

    by_run: the names of lost classes, by row and seed.
    """
    lines = {}
    for row in dict.fromkeys(row for row, _ in by_run):
        of_row = [names for (other, _), names in by_run.items() if other == row]
        cases = sum(bool(names) for names in of_row)
        counts = pd.Series([name for names in of_row for name in names], dtype=object).value_counts()
        which = ", ".join(f"{name} ({count})" for name, count in counts.items()) or "none"
        lines[row] = (len(of_row), cases, *significance.rate(cases, len(of_row)), which)
    names = ["runs", "lost a class", "rate, %", "from", "to", "which (runs)"]
    return pd.DataFrame.from_dict(lines, orient="index", columns=names)
