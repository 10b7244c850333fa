"""The paper's claims and what became of them: verdicts follow one rule, what is missing is not tested, the README has today's table."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dsgc.errors import UserError
from dsgc.experiments import account, grids, paper, verdicts

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def found():
    return account.claims()


def line(values):
    return verdicts.compared(pd.DataFrame([values], ["row"])).iloc[0]


@pytest.mark.parametrize("sign", [1, -1])
def test_a_difference_that_is_told_holds_or_goes_the_other_way_by_the_sign_of_the_claim(sign):
    apart = line([2.0, 2.2, 1.9, 2.1, 2.0, 1.8, 2.1, 1.9])
    assert account.judged(apart, sign)[2] == (account.HELD if sign > 0 else account.REVERSED)
    assert account.judged(line([-value for value in [2.0, 2.2, 1.9, 2.1, 2.0, 1.8, 2.1, 1.9]]), sign)[2] != account.judged(apart, sign)[2]


def test_a_difference_that_is_not_told_is_open_and_says_what_could_have_been():
    here, could, verdict = account.judged(line([1.0, -1.2, 0.8, -0.9, 1.1, -0.7, 0.6, -0.8]))
    assert verdict == account.OPEN and float(could) > 0.5 and "8 seeds" in here


def test_few_seeds_tell_nothing_however_far_apart():
    assert account.judged(line([9.0, 9.1, 8.9])) == ("+9.0 (no end), 3 seeds", "none", account.OPEN)


def best(rows, known=None):
    values = pd.DataFrame.from_dict(rows, orient="index")
    return account._best("words", "Table 0", "+1", values, known or dict.fromkeys(rows, 1.0), "own")


STEADY = np.array([50.0, 52.0, 49.0, 51.0, 50.5, 48.0, 53.0, 50.2])
JITTER = np.array([0.1, -0.1, 0.2, 0.0, -0.2, 0.1, 0.0, -0.1])


def test_the_best_of_several_holds_if_each_other_is_told_to_be_behind():
    assert best({"own": STEADY, "a": STEADY - 2 + JITTER, "b": STEADY - 3 - JITTER}).verdict == account.HELD
    one_close = best({"own": STEADY, "a": STEADY - 2 + JITTER, "b": STEADY + 0.01 * JITTER - 0.001})
    assert one_close.verdict == account.OPEN and "1 of 2 told to be behind" in one_close.here


def test_one_row_that_is_told_to_be_ahead_is_enough_against_it():
    found = best({"own": STEADY, "a": STEADY - 2 + JITTER, "b": STEADY + 3 + JITTER})
    assert found.verdict == account.REVERSED and "1 ahead; 8 seeds" in found.here


def test_rows_that_the_paper_does_not_name_do_not_count():
    assert "of 1 told" in best({"own": STEADY, "a": STEADY - 2, "ours": STEADY + 5}, {"own": 2.0, "a": 1.0}).here


def test_what_has_no_run_is_not_tested(tmp_path):
    """With the results of Table 1 alone."""
    rows = grids.rows("modules", "shapes", grids.SEEDS["modules"])
    (tmp_path / "shapes").mkdir()
    for config in rows.values():
        path = account.stored.path_of(config, grids.RESULTS / "shapes")
        shutil.copy(path, tmp_path / "shapes" / path.name)
    untested = {claim.where for claim in account.claims(tmp_path) if claim.verdict == account.UNTESTED}
    assert {"Table 2", "Table 3", "Table 1"} <= untested  # the last of these on photographs


def test_without_table_1_there_is_no_account(tmp_path):
    with pytest.raises(UserError, match="dsgc grid modules"):
        account.claims(tmp_path)


def test_every_claim_of_table_1_is_there_with_the_printed_difference(found):
    ablation = {row: values[0] for row, values in paper.ABLATION.rows.items()}
    steps = (("+ DSKD + GC", "+ DSKD"), ("+ DSKD + GC", "baseline"), ("+ DSKD", "baseline"))
    assert [claim.printed for claim in found[:3]] == [f"{ablation[a] - ablation[b]:+.2f}" for a, b in steps]


def test_beside_the_label_of_what_it_leaves_stands_how_much_of_that_is_right(found):
    assert account._right(np.array([3, 1, 6])) == 75
    (line,) = (claim.here for claim in found if "errors out of the label" in claim.words)
    modules = account.tables.read(grids.RESULTS, "shapes", {"modules": (grids.FIRST,)})["modules"]
    right, wrong, _ = np.sum(modules[grids.METHOD, grids.FIRST].counts["rules"], (0, 2))  # before the correction
    assert abs(100 * right / (right + wrong) - int(line.split("; ")[-1].split(" %")[0])) < 5


def test_the_hours_are_those_of_the_results_each_run_once():
    spent = account.effort()
    files = [json.loads(path.read_text()) for path in grids.RESULTS.glob("*/*.json")]
    assert spent.runs.sum() == len(files)
    own = sum(result["about"]["seconds"] for result in files) / 3600
    assert own < spent.hours.sum() < 3 * own  # warm-ups that runs share come on top


def test_the_readme_has_the_table_as_it_is_today(found):
    """If not: `make claims` prints it."""
    assert account.printed(found) in (ROOT / "README.md").read_text(encoding="utf-8")
