"""Tables of measured values beside the paper's: results by grid, mean and spread over seeds, exports.

Values are per cent throughout. `scores` gives a frame with one row for each setting and one column for each seed; runs with
the same seed share data order, augmentation and first weights, so settings are compared seed by seed (`verdicts`).
"""

import base64
import html
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from dsgc.correction import RULES
from dsgc.errors import UserError
from dsgc.experiments import grids, paper, stored
from dsgc.experiments.stored import Result
from dsgc.methods import configured
from dsgc.scoring.diagnosis import STATES

ROUNDING = 1.0  # points of mIoU between runs of one seed that differ in rounding: seen were 0.00 to 0.02 (one thread or two)


def read(
    folder: Path, scale: str, seeds: Mapping[str, Sequence[int]], data: str = ""
) -> dict[str, dict[tuple[str, int], Result]]:
    """The results of grids on a scale by grid, row and seed.

    Args:
        seeds: of each grid that is wanted.
    Raises:
        UserError: a result is missing or damaged; says which command makes it.
    """
    found = {}
    for name, of_grid in seeds.items():
        runs = grids.rows(name, scale, of_grid, data)
        found[name] = stored.read(runs, Path(folder) / scale, _command(name, scale, of_grid, data))
    return found


def read_scales(
    folder: Path, scale: str, seeds: Mapping[str, Sequence[int]], data: str = ""
) -> tuple[dict[str, dict[str, dict[tuple[str, int], Result]]], list[str]]:
    """`read` of a scale and of every other scale that is complete, by scale; and for each scale a line on its sources.

    Raises:
        UserError: a result of the scale named is missing or damaged; says which command makes it.
    """
    found, lines = {scale: read(folder, scale, seeds, data)}, []
    for other in grids.scales(folder):
        if other == scale:
            continue
        try:
            found[other] = read(folder, other, seeds)
        except UserError as error:
            lines.append(f"`{other}` is left out: {error}.")
    return found, [f"`{name}`: {sources(part)}." for name, part in found.items()] + lines


def read_some(
    folder: Path, scale: str, name: str, seeds: Sequence[int], data: str = ""
) -> tuple[dict[tuple[str, int], Result], str]:
    """What there is of a grid by row and seed, and a line that says how many results are missing and what makes them."""
    runs = grids.rows(name, scale, seeds, data)
    found = {key: stored.look_up(config, Path(folder) / scale)[1] for key, config in runs.items()}
    found = {key: result for key, result in found.items() if result is not None}
    missing = f"{len(runs) - len(found)} of {len(runs)} results missing; `{_command(name, scale, seeds, data)}` makes them"
    return found, missing if len(found) < len(runs) else f"all {len(runs)} results are there"


def _command(name: str, scale: str, seeds: Sequence[int], data: str) -> str:
    command = f"python -m dsgc grid {name} --scale {scale} --seeds {' '.join(map(str, seeds))}"
    return command + (f" --data {data}" if data else "")


def sources(found: Mapping[str, Mapping[tuple[str, int], Result]]) -> str:
    """`stored.summary` of what `read` found, each run counted once."""
    results = {stored.digest(result): result for part in found.values() for result in part.values()}
    return stored.summary(results)


def reported(result: Result) -> str:
    """The network whose scores are reported: the method's first."""
    return configured(result.config).method.networks[0]


def scores(
    results: Mapping[tuple[str, int], Result], score: str = "seg", network: str = "", value: str = "miou"
) -> pd.DataFrame:
    """One value of a score of a network, in per cent: a row for each setting, a column for each seed.

    network: the one that is reported for "". value: "miou", "strict" or "coverage", as `evaluate.evaluate` gives them.
    """
    of = {key: result.scores.get(network or reported(result), {}) for key, result in results.items()}
    values = {key: by_score[score][value] for key, by_score in of.items() if score in by_score}
    series = pd.Series({key: 100 * value for key, value in values.items() if value is not None}, dtype=float)
    rows, seeds = (list(dict.fromkeys(key[part] for key in results)) for part in (0, 1))
    return pd.DataFrame([[series.get((row, seed), np.nan) for seed in seeds] for row in rows], rows, seeds)


def by_class(results: Mapping[tuple[str, int], Result], score: str = "seg") -> pd.DataFrame:
    """IoU of each class, mean over the seeds: a row for each setting; NaN for a class that occurs under no seed."""
    lines = [
        (row, name, np.nan if value is None else 100 * value)
        for (row, _), result in results.items()
        for name, value in result.scores[reported(result)][score]["per_class"].items()
    ]
    frame = pd.DataFrame(lines, columns=["row", "class", "iou"])
    return frame.groupby(["row", "class"], sort=False).iou.mean().unstack(sort=False)


def long(printed: Mapping[str, Mapping[str, float]], measured: Mapping[str, Mapping[str, pd.DataFrame]]) -> pd.DataFrame:
    """One line a value: what is scored, row, whose value, mean, standard deviation over seeds, number of seeds.

    Args:
        printed: the paper's values by score and row; a row or a score may be missing.
        measured: by scale and score, as `scores` gives them.
    """
    lines = [(score, row, "paper", value, np.nan, np.nan) for score, rows in printed.items() for row, value in rows.items()]
    for scale, by_score in measured.items():
        for score, values in by_score.items():
            n = values.count(axis=1)
            columns = zip(values.index, values.mean(axis=1), values.std(axis=1, ddof=1), n, strict=True)
            lines += [(score, row, scale, mean, sd, count) for row, mean, sd, count in columns if count]
    return pd.DataFrame(lines, columns=["score", "row", "source", "mean", "sd", "seeds"])


def wide(table: pd.DataFrame, name: str = "setting") -> pd.DataFrame:
    """A long table as it is read: a row for each setting, a column for each score and source, mean and spread in a cell."""

    def cell(line: pd.Series) -> str:
        if line.source == "paper":
            return f"{line['mean']:g}"
        return f"{line['mean']:.1f} ± {line.sd:.1f}" if line.seeds > 1 else f"{line['mean']:.1f}"

    heads = table.score + ", " + table.source
    cells = {(row, head): cell(line) for (_, line), row, head in zip(table.iterrows(), table.row, heads, strict=True)}
    rows, columns = list(dict.fromkeys(table.row)), list(dict.fromkeys(heads))
    frame = pd.DataFrame([[cells.get((row, head), "–") for head in columns] for row in rows], rows, columns)
    return frame.rename_axis(name)


def reproduced(live: float, committed: float) -> str:
    """That a run made now comes to what is committed of the same seed, but for rounding, in words.

    Raises:
        UserError: it does not; the difference is more than `ROUNDING`.
    """
    apart = abs(live - committed)
    said = f"{live:.1f}, committed under the same seed {committed:.1f}: {apart:.1f} points apart"
    if not apart <= ROUNDING:
        raise UserError(
            f"{said}, more than the {ROUNDING:g} that rounding explains; where the code was changed on purpose, make the results anew"
        )
    return f"{said}, where rounding explains up to {ROUNDING:g}" if apart else f"{said}"


def rule_effects(counts: Sequence) -> pd.DataFrame:
    """What the rules that change labels did: pixels of each, and in per cent of these what became of them.

    counts: (rule, state before, state after), as `diagnosis.count` gives them under "rules".
    """
    right, wrong, out = range(len(STATES))
    rows = {}
    for name, table in zip(RULES, np.asarray(counts), strict=True):
        parts = {
            "repaired": table[[wrong, out], right].sum(),
            "broken": table[right, wrong],
            "wrong, left out": table[wrong, out],
            "right, left out": table[right, out],
            "right as before": table[right, right],
            "wrong as before": table[wrong, wrong],
            "other": table[out, wrong] + table[out, out],
        }
        rows[name] = {"pixels": int(table.sum())} | {key: 100.0 * value / max(table.sum(), 1) for key, value in parts.items()}
    return pd.DataFrame.from_dict(rows, orient="index").iloc[1:].rename_axis("rule")


class Exported:
    """A table as a notebook shows it, written as CSV, Markdown and LaTeX, with these files as downloads below it.

    Args:
        table: what is shown; strings, or numbers that are shown with one decimal, p-values with three.
        data: what the CSV holds instead, for a table whose cells join several numbers.
    """

    def __init__(self, table: pd.DataFrame, folder: Path, name: str, data: pd.DataFrame | None = None):
        self.shown = table.apply(lambda column: column.map(partial(_shown, digits=3 if str(column.name).startswith("p (") else 1)))
        digits = "%.10g"  # the last ones of a double differ from machine to machine
        texts = {
            "csv": table.to_csv(float_format=digits) if data is None else data.to_csv(index=False, float_format=digits),
            "md": self.shown.to_markdown(disable_numparse=True) + "\n",
            "tex": _latex(self.shown),
        }
        Path(folder).mkdir(parents=True, exist_ok=True)
        self.files = [Path(folder) / f"{name}.{suffix}" for suffix in texts]
        for path, text in zip(self.files, texts.values(), strict=True):
            path.write_text(text, encoding="utf-8")

    def __repr__(self) -> str:
        return self.shown.to_string()

    def _repr_html_(self) -> str:
        links = []
        for path, kind in zip(self.files, ("CSV", "Markdown", "LaTeX"), strict=True):
            data = base64.b64encode(path.read_bytes()).decode("ascii")
            address = f"data:text/plain;charset=utf-8;base64,{data}"  # works without a connection
            links.append(f'<a download="{html.escape(path.name)}" href="{address}">{kind}</a>')
        table = self.shown.reset_index().rename_axis(columns=None).to_html(index=False, border=0, justify="left")
        return f"{table}<p>This table as {' · '.join(links)}</p>"


LATEX = str.maketrans({"±": "$\\pm$", "–": "--", "∞": "$\\infty$"})


def _shown(value: object, digits: int) -> object:
    """A cell as it is read: a number rounded, without a negative zero; no value and no bound as signs."""
    if not isinstance(value, float):
        return value
    if np.isfinite(value):
        return f"{round(value, digits) + 0.0:.{digits}f}"
    return "–" if np.isnan(value) else "∞" if value > 0 else "-∞"


def _latex(table: pd.DataFrame) -> str:
    style = table.reset_index().rename_axis(columns=None).style.hide(axis="index").format(escape="latex")
    return style.format_index(escape="latex", axis=1).to_latex(hrules=True).translate(LATEX)


def printed(table: paper.Table, column: str) -> dict[str, float]:
    """A column of a table of the paper by row."""
    return {row: table.cell(row, column).value for row in table.rows}
