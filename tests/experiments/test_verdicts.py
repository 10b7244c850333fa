"""What tables may say: verdicts rest on the corrected p alone, and what cannot be told apart says how much could have been."""

import math

import numpy as np
import pandas as pd
import pytest

from dsgc.experiments import significance, verdicts

SEEDS = range(8)
NOISE = np.array(  # no row can be told from none
    [
        [1.5, -0.5, 0.8, -1.2, 0.3, -0.9, 1.1, -1.0],
        [-0.7, 1.3, -1.6, 0.4, 0.9, -0.2, -1.1, 1.2],
        [0.6, 0.2, -1.4, 1.0, -0.8, 1.7, -0.3, -0.9],
    ]
)


def frame(**rows):
    return pd.DataFrame.from_dict(rows, orient="index")


def steady(mean):
    """Values under eight seeds that lie far apart, alike in every row but for half a point."""
    return [mean + 10 * seed + 0.5 * (seed % 2) for seed in SEEDS]


BASE = np.array(steady(60))
VALUES = frame(a=list(BASE + 1), b=list(BASE), c=list(BASE + 5), d=list(BASE + 1 + NOISE[0]))
PRINTED = {"a": 3.0, "b": 2.0, "c": 1.0}


def test_rows_are_compared_seed_by_seed_and_the_reference_not_with_itself():
    differences = verdicts.against(VALUES, "b")
    assert list(differences.index) == ["a", "c", "d"] and list(differences.columns) == list(SEEDS)
    assert differences.loc["a"].tolist() == [1] * 8 and differences.loc["c"].tolist() == [5] * 8


def test_a_family_is_corrected_together_and_its_power_is_that_of_a_family():
    differences = frame(one=NOISE[0] + 3, two=NOISE[1], none=[math.nan] * 8, three=[*NOISE[2][:7], math.nan])
    table = verdicts.compared(differences)
    assert list(table.columns) == list(verdicts.COLUMNS) and list(table.index) == ["one", "two", "three"]  # no seed has `none`
    chances = [significance.sign_flip(differences.loc[row]) for row in table.index]
    assert table["p (sign flip)"].tolist() == chances and table["p (Holm)"].tolist() == list(significance.holm(chances))
    alone, in_family = (significance.detectable(differences.loc["one"], family) for family in (1, 3))
    assert table.loc["one", "could tell"] == in_family > alone
    assert tuple(table.loc["two", ["from", "to"]]) == significance.interval(differences.loc["two"])
    assert table.seeds.tolist() == [8, 8, 7] and verdicts.told(table).tolist() == [True, False, False]


def test_nothing_to_compare_is_an_empty_table():
    table = verdicts.compared(pd.DataFrame())
    assert len(table) == 0 and list(table.columns) == list(verdicts.COLUMNS)
    assert len(verdicts.pairs(VALUES, {"a": 1.0, "b": 1.0})) == 0  # a tie in the paper
    assert len(verdicts.pairs(VALUES.loc[["a"]], PRINTED)) == 0


def test_pairs_are_judged_by_the_paper_s_order():
    table = verdicts.pairs(VALUES, PRINTED | {"d": 0.0})
    assert table.loc[("a", "b"), "order"] == verdicts.HELD and table.loc[("a", "c"), "order"] == verdicts.REVERSED
    assert table.loc[("a", "d"), "order"] == verdicts.OPEN and table.loc[("a", "d"), "could tell"] > 1
    assert table.loc[("a", "c"), "in the paper"] == 2.0 and table.loc[("a", "b"), "difference"] == pytest.approx(1.0)
    assert len(table) == 6 and table.index.names == ["better in the paper", "than"]
    some = verdicts.pairs(VALUES, PRINTED, "b")
    assert list(some.index) == [("a", "b"), ("b", "c")]  # a smaller family
    assert some.loc[("a", "b"), "p (Holm)"] < table.loc[("a", "b"), "p (Holm)"]


def test_an_uncorrected_p_below_the_level_is_no_verdict():
    values = frame(a=[1.0] * 6, b=[0.0] * 6, c=[2.0] * 6)  # six seeds: p .03 each, three times that after Holm
    table = verdicts.pairs(values, PRINTED)
    assert (table["p (sign flip)"] < significance.LEVEL).all() and set(table.order) == {verdicts.OPEN}


def test_the_verdict_says_whether_the_order_held_and_what_can_be_told_and_what_could_have_been():
    values = VALUES.loc[["a", "b"]].pipe(lambda rows: pd.concat([rows, frame(c=list(VALUES.loc["b"] + 2 * NOISE[1] + 0.2))]))
    line = verdicts.verdict(values, PRINTED, "small")
    open_ = verdicts.pairs(values, PRINTED).query("order == @verdicts.OPEN")
    assert len(open_) == 2
    sizes = " to ".join(f"{size:.1f}" for size in sorted({round(size, 1) for size in open_["could tell"]}))
    assert line.endswith(
        "Of 3 pairs 1 can be told apart as in the paper, 0 the other way round, 2 cannot be told apart "
        f"(a true difference of {sizes} points could have been told). "
        "Sign-flip test, Holm's correction; 8 seeds and 3 comparisons: the smallest p that can be reached is 0.023."
    )
    assert line.startswith("The paper's order ") and "on scale small (Kendall's tau " in line and "Paper: a > b > c. Here: " in line
    held = verdicts.verdict(VALUES, {"c": 3.0, "a": 2.0, "b": 1.0}, "small", "b")
    assert held.startswith("The paper's order held in the means on scale small (Kendall's tau 1.00).")
    assert "Of 2 pairs with b 2 can be told apart as in the paper, 0 the other way round, 0 cannot be told apart. Sign" in held


@pytest.mark.parametrize("seeds", [1, 2, 3])
def test_few_seeds_tell_nothing_apart_and_the_verdict_says_why(seeds):
    line = verdicts.verdict(frame(a=[70.0] * seeds, b=[10.0] * seeds), {"a": 2.0, "b": 1.0}, "small")
    assert "0 can be told apart as in the paper, 0 the other way round, 1 cannot" in line
    least = f"the smallest p that can be reached is {significance.smallest(seeds):.2g}, so nothing can be told apart at 5 %."
    assert line.endswith(f"{seeds} seeds and one comparison: {least}") and "no difference, however large, could have been told" in line


def test_a_comparison_in_words_has_its_verdict_and_what_could_have_been_told():
    table = verdicts.compared(frame(sure=NOISE[0] + 3, unsure=NOISE[1]))
    sure, unsure = (verdicts.said(table.loc[row]) for row in ("sure", "unsure"))
    assert sure.startswith("+3.0 points (") and sure.endswith("p 0.016 after Holm), which can be told from none")
    size = f"{table.loc['unsure', 'could tell']:.1f}"
    assert unsure.endswith(f"which cannot be told from none: a true difference of {size} points could have been told")


def test_sizes_in_words_leave_out_what_could_tell_nothing_but_count_it():
    table = [1.24, 2.0, math.inf]
    assert verdicts.sizes(table) == "a true difference of 1.2 to 2.0 points could have been told, and none in 1 of them"
    assert verdicts.sizes(table[:1]) == "a true difference of 1.2 points could have been told"
    assert verdicts.sizes(table[2:]) == "no difference, however large, could have been told"
    few = verdicts.compared(frame(few=[1.0, 1.0, 1.0])).loc["few"]
    assert verdicts.said(few) == (
        "+1.0 points (an interval without end; p 0.25 after Holm), which cannot be told from none: "
        "no difference, however large, could have been told"
    )


def test_all_comparisons_of_a_page_stand_in_one_table_and_one_sentence():
    one, two = verdicts.pairs(VALUES, PRINTED), verdicts.compared(frame(change=NOISE[1], other=NOISE[2]))
    families = {"Table 1": one, "Table 2": two, "Table 3": verdicts.compared(pd.DataFrame())}
    table = verdicts.overview(families)
    assert table.index.tolist() == ["Table 1"] * 3 + ["Table 2"] * 2
    assert table.comparison.tolist() == ["a against b", "a against c", "b against c", "change", "other"]
    assert table.verdict.tolist() == [verdicts.TOLD] * 3 + [verdicts.OPEN] * 2
    line = verdicts.balance(families)
    assert line.startswith("Of 5 comparisons in 2 families 3 can be told apart (Table 1: 3 of 3; Table 2: 0 of 2). 2 cannot be told ")
    assert verdicts.balance({"Table 1": one}) == "Of 3 comparisons in 1 families 3 can be told apart (Table 1: 3 of 3)."
    assert verdicts.balance({}) == "Of 0 comparisons in 0 families 0 can be told apart."


def test_lost_classes_are_counted_by_row_with_the_rate_s_interval():
    by_run = {("a", 0): ["ring", "moon"], ("a", 1): [], ("a", 2): ["ring"], ("b", 0): [], ("b", 1): [], ("b", 2): []}
    table = verdicts.lost(by_run)
    assert table.loc["a", ["runs", "lost a class", "which (runs)"]].tolist() == [3, 2, "ring (2), moon (1)"]
    assert tuple(table.loc["b", ["rate, %", "from", "to"]]) == significance.rate(0, 3) and table.loc["b", "which (runs)"] == "none"
