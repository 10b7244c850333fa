"""Measured values beside the paper's: results by grid, spread, and the files that a table is written to."""

import base64
import csv
import io
import math
import re

import numpy as np
import pandas as pd
import pytest

from dsgc import correction
from dsgc.errors import UserError
from dsgc.experiments import grids, paper, tables
from dsgc.experiments.stored import Result
from dsgc.methods import find
from dsgc.scoring import diagnosis


def result(seg, student=None, per_class=None, method="dsgc"):
    """A result with the given mIoU of the segmentation of a method's first network, a fraction."""
    (first, *_) = find(method)().networks
    scores = {first: {"seg": {"miou": seg, "per_class": per_class or {}}}}
    if student is not None:
        scores["student"] = {"seg": {"miou": student, "per_class": {}}}
    return Result(
        {"method": method},
        scores,
        {},
        {},
        dict.fromkeys(("commit", "date", "machine", "processor", "system"), "x")
        | {"code": "c", "seconds": 3600, "threads": 1, "versions": {}, "warm_up": {}},
    )


RESULTS = {("a", 0): result(0.50), ("a", 1): result(0.54), ("b", 0): result(0.60, 0.3), ("b", 1): result(0.63, 0.4)}


def test_scores_are_per_cent_by_row_and_seed():
    values = tables.scores(RESULTS)
    assert list(values.index) == ["a", "b"] and list(values.columns) == [0, 1]
    np.testing.assert_allclose(values.to_numpy(), [[50, 54], [60, 63]])


def test_a_run_without_the_network_or_the_score_leaves_a_gap():
    values = tables.scores(RESULTS, network="student")
    assert values.loc["a"].isna().all() and values.loc["b"].tolist() == [30, 40]
    assert math.isnan(tables.scores({("a", 0): result(None)}).iloc[0, 0])


def test_the_network_that_is_reported_is_the_first_of_each_result_s_own_method():
    results = {("a", 0): result(0.5, 0.3), ("b", 0): result(0.4, method="base"), ("c", 0): result(0.7, method="masks")}
    assert [tables.reported(found) for found in results.values()] == ["teacher", "network", "network"]
    np.testing.assert_allclose(tables.scores(results)[0], [50, 40, 70])
    assert tables.scores(results, network="student")[0].tolist()[0] == 30
    per_class = {key: found.scores for key, found in results.items()}
    for (row, _), scores in per_class.items():
        next(iter(scores.values()))["seg"]["per_class"] = {"cat": {"a": 0.1, "b": 0.2, "c": 0.3}[row]}
    np.testing.assert_allclose(tables.by_class(results)["cat"], [10, 20, 30])


def test_a_score_that_a_method_does_not_have_leaves_a_gap():
    results = {("a", 0): result(0.5), ("b", 0): result(0.4, method="base")}
    results["a", 0].scores["teacher"]["pseudo_initial"] = {"miou": 0.6}
    values = tables.scores(results, "pseudo_initial")
    assert values.loc["a"].tolist() == [60] and values.loc["b"].isna().all()


def test_a_long_table_has_a_line_for_each_value_with_its_spread():
    table = tables.long({"seg": {"a": 70.5}}, {"small": {"seg": tables.scores(RESULTS)}})
    assert table.source.tolist() == ["paper", "small", "small"] and table.row.tolist() == ["a", "a", "b"]
    np.testing.assert_allclose(table["mean"], [70.5, 52, 61.5])
    np.testing.assert_allclose(table.sd[1:], [math.sqrt(8), math.sqrt(4.5)])
    assert table.seeds[1:].tolist() == [2, 2]


def test_a_wide_table_puts_sources_side_by_side_and_marks_what_is_not_there():
    one_seed = tables.scores({("b", 0): result(0.25)})
    table = tables.wide(
        tables.long({"seg": {"a": 70.5}}, {"small": {"seg": tables.scores(RESULTS)}, "big": {"seg": one_seed}}), "row"
    )
    assert list(table.columns) == ["seg, paper", "seg, small", "seg, big"] and table.index.name == "row"
    assert table.loc["a"].tolist() == ["70.5", "52.0 ± 2.8", "–"]
    assert table.loc["b"].tolist() == ["–", "61.5 ± 2.1", "25.0"]


@pytest.mark.parametrize(("live", "committed"), [(61.0, 61.0), (61.0, 61.5), (61.1, 62.0), (0.0, 1.0)])
def test_a_run_made_anew_is_compared_with_the_committed_one_of_its_seed(live, committed):
    line = tables.reproduced(live, committed)
    assert line.startswith(f"{live:.1f}, committed under the same seed {committed:.1f}: {abs(live - committed):.1f} points apart")


@pytest.mark.parametrize(("live", "committed"), [(61.0, 62.1), (70.0, 61.0), (float("nan"), 61.0), (0.0, 78.3)])
def test_a_run_that_rounding_does_not_explain_fails_the_build(live, committed):
    with pytest.raises(UserError, match="more than the 1 that rounding explains"):
        tables.reproduced(live, committed)


def test_by_class_averages_over_seeds_and_keeps_the_order_of_the_classes():
    results = {
        ("a", 0): result(0, per_class={"bkg": 0.5, "dog": None, "cat": 0.2}),
        ("a", 1): result(0, per_class={"bkg": 0.7, "dog": None, "cat": None}),
    }
    table = tables.by_class(results)
    assert list(table.columns) == ["bkg", "dog", "cat"]
    np.testing.assert_allclose(table.loc["a"], [60, math.nan, 20])


def test_rule_effects_account_for_every_pixel():
    counts = np.random.default_rng(0).integers(0, 50, (len(correction.RULES), 3, 3))
    table = tables.rule_effects(counts.tolist())
    assert list(table.index) == list(correction.RULES[1:])
    np.testing.assert_allclose(table.drop(columns="pixels").sum(axis=1), 100)
    assert table.pixels.tolist() == counts.sum((1, 2))[1:].tolist()
    one = np.zeros_like(counts)
    one[2, diagnosis.STATES.index("wrong"), diagnosis.STATES.index("left out")] = 3
    one[2, diagnosis.STATES.index("right"), diagnosis.STATES.index("wrong")] = 1
    row = tables.rule_effects(one).loc[correction.RULES[2]]
    assert (row.pixels, row["wrong, left out"], row.broken, row.repaired) == (4, 75, 25, 0)
    assert tables.rule_effects(one).loc[correction.RULES[1]].sum() == 0  # a rule that never applied


SHOWN = pd.DataFrame({"by, %": ["52.0 ± 2.8", "–"], "n_1": [1.26, 2.0]}, ["a & b", "c"]).rename_axis("set_up")


def test_a_table_is_written_as_csv_markdown_and_latex(tmp_path):
    table = tables.Exported(SHOWN, tmp_path / "new", "t")
    texts = {path.suffix: path.read_text(encoding="utf-8") for path in table.files}
    assert list(csv.reader(io.StringIO(texts[".csv"]))) == [
        ["set_up", "by, %", "n_1"],
        ["a & b", "52.0 ± 2.8", "1.26"],
        ["c", "–", "2"],
    ]
    assert "| a & b    | 52.0 ± 2.8 | 1.3   |" in texts[".md"]
    rows = [
        r"\toprule",
        r"set\_up & by, \% & n\_1 \\",
        r"\midrule",
        r"a \& b & 52.0 $\pm$ 2.8 & 1.3 \\",
        r"c & -- & 2.0 \\",
        r"\bottomrule",
    ]
    assert texts[".tex"].splitlines()[1:-1] == rows


def test_p_values_have_three_digits_and_what_has_no_value_or_bound_its_sign(tmp_path):
    frame = pd.DataFrame({"p (Holm)": [0.00195, math.nan], "could tell": [math.inf, 1.26], "from": [-math.inf, -0.04]}, ["a", "b"])
    table = tables.Exported(frame.rename_axis("row"), tmp_path, "t")
    assert table.shown.to_numpy().tolist() == [["0.002", "∞", "-∞"], ["–", "1.3", "0.0"]]
    assert r"a & 0.002 & $\infty$ & -$\infty$ \\" in (tmp_path / "t.tex").read_text()


def test_the_csv_holds_the_numbers_where_cells_join_several(tmp_path):
    data = pd.DataFrame({"row": ["a", "b"], "mean": [52.123, 1 / 3]})
    table = tables.Exported(SHOWN, tmp_path, "t", data)
    assert table.files[0].read_text() == "row,mean\na,52.123\nb,0.3333333333\n"


def test_a_notebook_shows_the_table_with_its_files_as_downloads(tmp_path):
    table = tables.Exported(SHOWN, tmp_path, "t")
    page = table._repr_html_()
    links = re.findall(r'<a download="([^"]+)" href="data:[^"]*base64,([^"]+)">(\w+)</a>', page)
    assert [(name, kind) for name, _, kind in links] == [("t.csv", "CSV"), ("t.md", "Markdown"), ("t.tex", "LaTeX")]
    assert all(base64.b64decode(data) == (tmp_path / name).read_bytes() for name, data, _ in links)
    assert page.count("<th>") == 3 and "a &amp; b" in page and "1.3" in page


def test_a_name_of_the_columns_makes_no_empty_header(tmp_path):
    page = tables.Exported(SHOWN.rename_axis(columns="class"), tmp_path, "t")._repr_html_()
    assert "<th></th>" not in page and page.count("<th>") == 3


def test_a_missing_result_names_the_command_that_makes_it(tmp_path):
    with pytest.raises(
        UserError, match=r"of 8 results 8 missing; make them with `python -m dsgc grid modules --scale shapes --seeds 0 7`"
    ):
        tables.read(tmp_path, "shapes", {"modules": (0, 7)})
    with pytest.raises(UserError, match="--data here`"):
        tables.read(tmp_path, "voc", {"modules": (0,)}, "here")


def test_scales_that_are_complete_are_read_too_and_the_others_named(tmp_path, monkeypatch):
    def read(runs, folder, command):
        if folder.name == "voc":
            raise UserError(f"{folder}: 1 missing; make them with `{command}`")
        return {key: result(0.5) for key in runs}

    monkeypatch.setattr(tables.stored, "read", read)
    monkeypatch.setattr(tables.grids, "scales", lambda folder: ["shapes", "voc"])
    found, lines = tables.read_scales(tmp_path, "shapes", {"modules": (0, 1)})
    assert set(found) == {"shapes"} and set(found["shapes"]["modules"]) == set(grids.rows("modules", "shapes", (0, 1)))
    assert lines[0].startswith("`shapes`: ") and "runs" in lines[0]
    assert lines[1].startswith("`voc` is left out: ") and "grid modules --scale voc" in lines[1]
    with pytest.raises(UserError, match="1 missing"):
        tables.read_scales(tmp_path, "voc", {"modules": (0, 1)})


def test_what_there_is_of_a_grid_is_read_and_the_rest_is_counted_with_its_command(tmp_path):
    found, line = tables.read_some(tmp_path, "voc", "modules", (0, 1), "here")
    assert found == {} and line == (
        "8 of 8 results missing; `python -m dsgc grid modules --scale voc --seeds 0 1 --data here` makes them"
    )


def test_sources_count_a_run_once_that_two_grids_share():
    line = tables.sources({"x": RESULTS, "y": {("preset", 0): RESULTS["a", 0]}})
    assert line.startswith("4 runs, 4 of them by other code than today's (c)") and "4.0 hours" in line


def test_printed_takes_a_column_of_the_paper():
    assert tables.printed(paper.THRESHOLDS, "CAM") == {"0.75, 0.35": 70.966, "0.85, 0.25": 71.429, "0.90, 0.20": 70.892}
    assert set(tables.printed(paper.ABLATION, "mIoU")) < set(grids.GRIDS["modules"])
