"""The paper's claims one by one: what is printed, what was measured here, with what power, and the verdict.

`make claims` prints the table that the README and the book's page on this replication have. Verdicts follow one rule: a claim that is a
difference *held* or went *the other way round* if the difference is told from none after Holm's correction within its family
(`verdicts`), and is *open* otherwise; beside it stands the smallest difference that could have been told. A claim that nothing changes is
*held within* the farther end of its interval where none is told.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from dsgc.config import PRESETS
from dsgc.experiments import grids, paper, significance, stored, tables, verdicts
from dsgc.scoring import diagnosis

HELD, REVERSED, OPEN, UNTESTED = "held", "the other way round", "open", "not tested"
ADDS_UP, DIFFERS = "adds up", "does not add up"
Results = Mapping[tuple[str, int], stored.Result]


class Claim(NamedTuple):
    """A claim of the paper and what became of it."""

    words: str
    where: str  # in the paper
    printed: str
    here: str  # what was measured, with its interval
    could_tell: str  # the smallest true difference that would have been told from none, with a power of 80 %
    verdict: str


def claims(folder: Path = grids.RESULTS) -> list[Claim]:
    """All of them in the paper's order, by the results in a folder. What has no result is not tested.

    Raises:
        UserError: a result of Table 1 is missing or damaged.
    """
    modules = tables.read(folder, "shapes", {"modules": grids.SEEDS["modules"]})["modules"]
    return [*_table1(modules), *_shown(modules), *_settings(folder), *_others(folder), *_again(folder), *_arithmetic()]


def table(found: list[Claim]) -> pd.DataFrame:
    """The claims as a table, numbered from 1."""
    names = ["claim", "where", "in the paper", "here", "could tell", "verdict"]
    return pd.DataFrame(found, pd.RangeIndex(1, len(found) + 1, name="no."), names)


def judged(line: pd.Series, claimed: float = 1.0) -> tuple[str, str, str]:
    """Of a row of `verdicts.compared`: the difference in words, what could be told, the verdict on a difference of `claimed`'s sign."""
    ends = f"{line['from']:+.1f} to {line.to:+.1f}" if np.isfinite(line.to) else "no end"
    here = f"{line.difference:+.1f} ({ends}), {line.seeds:.0f} seeds"
    could = f"{line['could tell']:.1f}" if np.isfinite(line["could tell"]) else "none"
    if line["p (Holm)"] > significance.LEVEL:
        return here, could, OPEN
    return here, could, HELD if line.difference * claimed > 0 else REVERSED


def _table1(modules: Results) -> Iterator[Claim]:
    printed = tables.printed(paper.ABLATION, "mIoU")
    values = tables.scores(modules).loc[list(printed)]
    steps = {
        "GC raises the segmentation": (grids.METHOD, "+ DSKD"),
        "both modules raise it": (grids.METHOD, "baseline"),
        "DSKD alone leaves it as it is": ("+ DSKD", "baseline"),
    }
    family = verdicts.compared(pd.DataFrame({words: values.loc[a] - values.loc[b] for words, (a, b) in steps.items()}).T)
    for words, (a, b) in steps.items():
        claimed = printed[a] - printed[b]
        here, could, verdict = judged(family.loc[words], claimed)
        farthest = family.loc[words, ["from", "to"]].abs().max(skipna=False)
        if words.endswith("as it is") and verdict == OPEN and np.isfinite(farthest):
            verdict = f"held within {farthest:.1f} points"
        yield Claim(words, "Table 1", f"{claimed:+.2f}", here, could, verdict)


def _shown(modules: Results) -> Iterator[Claim]:
    """What the text and its figures say of the parts, without a number."""
    cam = tables.scores(modules, "cam")
    label = {
        value: tables.scores(modules, "pseudo", value=value).loc[grids.METHOD]
        - tables.scores(modules, "pseudo_initial", value=value).loc[grids.METHOD]
        for value in ("miou", "strict")
    }
    counts = {seed: modules[grids.METHOD, seed].counts for seed in cam.columns}
    detectors = {seed: of["detectors"] for seed, of in counts.items()}
    before, after = (np.mean([_right(np.sum(of["rules"], (0, other))) for of in counts.values()]) for other in (2, 1))
    auc = pd.DataFrame({seed: [100 * diagnosis.auc(np.array(part)) for part in parts] for seed, parts in detectors.items()})
    family = {
        "DSKD makes the CAM better, mIoU": ("text, Fig. 3", cam.loc["+ DSKD"] - cam.loc["baseline"]),
        "GC takes errors out of the label, mIoU of what it labels": ("text, Fig. 2", label["miou"]),
        "Eq. 17 finds wrong labels, AUC over chance": ("text, Eq. 17", auc.loc[0] - 50),
    }
    beside = {
        "GC takes errors out of the label, mIoU of what it labels": f"; {label['strict'].mean():+.1f} where no label is a miss; "
        f"{before:.0f} % of the labelled pixels are right before it, {after:.0f} % after",
        "Eq. 17 finds wrong labels, AUC over chance": f"; 1 - confidence has {auc.loc[1].mean() - 50:+.1f}",
    }
    compared = verdicts.compared(pd.DataFrame({words: values for words, (_, values) in family.items()}).T)
    for words, (where, _) in family.items():
        here, could, verdict = judged(compared.loc[words])
        yield Claim(words, where, "no number", here + beside.get(words, ""), could, verdict)


def _right(states: np.ndarray) -> float:
    """Per cent of the labelled pixels that are right, by their counts in `diagnosis.STATES`."""
    right, wrong, _ = states
    return 100 * right / (right + wrong)


def _settings(folder: Path) -> Iterator[Claim]:
    """That the paper's own settings are the best of those it tries."""
    of = {
        "thresholds": ("(0.85, 0.25) are the best noise thresholds", paper.THRESHOLDS, "segmentation", "0.85, 0.25"),
        "weights": ("(0.2, 0.5, 0.1) are the best weights of the losses", paper.WEIGHTS, "mIoU", "0.2, 0.5, 0.1"),
    }
    for grid, (words, printed, column, own) in of.items():
        known = tables.printed(printed, column)
        lead = known[own] - max(value for row, value in known.items() if row != own)
        yield _best(words, f"Table {printed.number}", f"{lead:+.2f} over the next", _rows(folder, grid, list(known)), known, own)


def _others(folder: Path) -> Iterator[Claim]:
    known = tables.printed(paper.VOC, "val")
    lead = known[paper.OURS] - max(value for row, value in known.items() if row != paper.OURS)
    values = _rows(folder, "peers", [grids.METHOD, *(row for row in grids.PEERS if row in known)]).rename({grids.METHOD: paper.OURS})
    yield _best("the method is ahead of all others", "Tables 4, 6", f"{lead:+.1f} over the next", values, known, paper.OURS)


def _rows(folder: Path, grid: str, rows: Sequence[str]) -> pd.DataFrame:
    """mIoU of rows of a grid under the seeds that all of them have."""
    found, _ = tables.read_some(folder, "shapes", grid, grids.SEEDS[grid])
    values = tables.scores(found) if found else pd.DataFrame()
    return values.reindex(list(rows)).dropna(axis=1)


def _best(words: str, where: str, printed: str, values: pd.DataFrame, known: Mapping[str, float], own: str) -> Claim:
    """That a row is the best of several: held if it is told to be ahead of each, refuted if any is told to be ahead of it."""
    others = [row for row in values.index if row in known and row != own]
    differences = pd.DataFrame({row: values.loc[own] - values.loc[row] for row in others}).T
    seeds = values.shape[1]
    if not seeds:
        return Claim(words, where, printed, "runs are missing", "–", UNTESTED)
    family = verdicts.compared(differences)
    told = [judged(line)[2] for _, line in family.iterrows()]
    counts = f"{told.count(HELD)} of {len(told)} told to be behind it, {told.count(REVERSED)} ahead; {seeds} seeds"
    could = family["could tell"].max()
    verdict = REVERSED if REVERSED in told else HELD if set(told) == {HELD} else OPEN
    return Claim(words, where, printed, counts, f"{could:.1f}" if np.isfinite(could) else "none", verdict)


def _again(folder: Path) -> Iterator[Claim]:
    """The gain of GC where something else is not as in the runs of Table 1."""
    claimed = paper.GAINS[0].computed
    for where, scale, grid, (on, off) in (
        ("tokens pooled as in ToCo", "shapes", "reach", grids.POOLED),
        ("on photographs", "voc6", "real", (grids.METHOD, "+ DSKD")),
    ):
        claim = f"GC raises the segmentation, {where}", "Table 1", f"{claimed:+.2f}"
        found, _ = tables.read_some(folder, scale, grid, grids.SEEDS[grid])
        values = tables.scores(found) if found else pd.DataFrame()
        if {on, off} <= set(values.index):
            yield Claim(*claim, *judged(verdicts.compared(values.loc[[on]] - values.loc[off]).iloc[0], claimed))
        else:
            yield Claim(*claim, "runs are missing", "–", UNTESTED)


def _arithmetic() -> Iterator[Claim]:
    """What needs no run: the printed numbers among themselves."""
    wins = len(paper.best_classes(paper.OURS))
    said = (paper.WINS_IN_ABSTRACT, paper.WINS_IN_TEXT)
    agree = ADDS_UP if set(said) == {wins} else DIFFERS
    yield Claim("classes in which the method is best", "abstract; text", "{}; {}".format(*said), f"{wins} in Table 6", "–", agree)
    right = [gain for gain in paper.GAINS if abs(gain.computed - gain.claimed) < 0.006]
    yield Claim(
        "the gains that the text names", "text", f"{len(paper.GAINS)} gains", f"{len(right)} are differences of printed values", "–",
        ADDS_UP if len(right) == len(paper.GAINS) else DIFFERS,
    )  # fmt: skip
    off = {row: paper.PER_CLASS.cell(row, "mIoU").value - paper.class_average(row) for row in paper.PER_CLASS.rows}
    wrong = {row: value for row, value in off.items() if abs(value) > 0.06}
    yield Claim(
        "mIoU is the mean over the classes", "Table 6", f"{len(off)} rows", f"{len(off) - len(wrong)} are; "
        + ", ".join(f"{row} is {value:+.1f} off" for row, value in wrong.items()), "–", DIFFERS if wrong else ADDS_UP,
    )  # fmt: skip


def effort(folder: Path = grids.RESULTS) -> pd.DataFrame:
    """Runs and hours of training behind the results in a folder, by scale and kind of device; a warm-up that runs share counts once."""
    lines = {}
    for scale in sorted(path.name for path in Path(folder).iterdir() if path.name in PRESETS):
        found = [tables.read_some(folder, scale, grid, grids.SEEDS[grid])[0] for grid in grids.GRIDS]
        abouts = {stored.digest(result): result.about for part in found for result in part.values()}
        for device in sorted({_device(about) for about in abouts.values()}):
            there = [about for about in abouts.values() if _device(about) == device]
            lines[scale, device] = {"runs": len(there), "hours": stored.trained(there) / 3600}
    return pd.DataFrame.from_dict(lines, orient="index").rename_axis(["scale", "device"])


def _device(about: Mapping) -> str:
    return "CPU, one core a run" if about["machine"].endswith("cpu") else "GPU, shared by several runs"


def printed(found: list[Claim]) -> str:
    """The claims as a table in Markdown."""
    return table(found).reset_index().to_markdown(index=False, disable_numparse=True)


def main() -> None:
    print(printed(claims()))


if __name__ == "__main__":
    main()
