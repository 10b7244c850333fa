"""The paper's tables as data: whole, consistent where they can be checked, and inconsistent where the paper is."""

import re
from pathlib import Path

import pytest

from dsgc.experiments import paper
from dsgc.methods import preset

CELLS = [cell for table in paper.TABLES.values() for cell in table.cells()]


def test_all_six_tables_are_there_with_every_cell():
    counts = {number: sum(cell.table == number for cell in CELLS) for number in paper.TABLES}
    assert counts == {1: 3, 2: 6, 3: 7, 4: 30, 5: 11, 6: 88}
    assert all(0 < cell.value < 100 for cell in CELLS)


@pytest.mark.parametrize("number", paper.TABLES)
def test_a_cell_is_found_again_at_its_place(number):
    table = paper.TABLES[number]
    assert table.number == number
    for cell in table.cells():
        assert table.cell(cell.row, cell.column) == cell


def test_a_place_where_nothing_is_printed_says_so():
    with pytest.raises(KeyError, match="table 1 prints nothing at row 'GC alone', column 'mIoU'"):
        paper.ABLATION.cell("GC alone", "mIoU")


@pytest.mark.parametrize("gain", paper.GAINS, ids=lambda gain: f"{gain.better.column} against {gain.worse.row}")
def test_a_gain_of_the_text_is_the_difference_of_two_cells(gain):
    assert gain.claimed == pytest.approx(gain.computed, abs=0.051 if gain.better.table == 4 else 0.0051)


def test_the_same_result_is_printed_alike_wherever_it_stands():
    assert paper.ABLATION.cell("+ DSKD + GC", "mIoU").value == paper.THRESHOLDS.cell("0.85, 0.25", "segmentation").value
    assert paper.ABLATION.cell("+ DSKD + GC", "mIoU").value == paper.WEIGHTS.cell("0.2, 0.5, 0.1", "mIoU").value
    for row in paper.PER_CLASS.rows:
        assert paper.PER_CLASS.cell(row, "mIoU").value == paper.VOC.cell(row, "val").value


def test_the_settings_are_those_of_the_best_rows():
    voc = preset("voc").method
    best = max(paper.WEIGHTS.cells(), key=lambda cell: cell.value).row
    assert best == f"{voc.lambda1}, {voc.lambda2}, {voc.lambda3}"
    segmentation = [cell for cell in paper.THRESHOLDS.cells() if cell.column == "segmentation"]
    high, low = map(float, max(segmentation, key=lambda cell: cell.value).row.split(", "))
    assert (high, low) == (voc.theta_high, voc.theta_low)


def test_class_averages_agree_with_the_printed_miou_for_the_paper_s_own_row_alone():
    """Not a slip of ours: the other three rows do not average to their printed value."""
    averages = {row: round(paper.class_average(row), 1) for row in paper.PER_CLASS.rows}
    assert averages == {"TSCD": 63.5, "AFA": 62.7, "ToCo": 69.8, paper.OURS: 74.8}
    printed = {row: paper.PER_CLASS.cell(row, "mIoU").value for row in paper.PER_CLASS.rows}
    assert [row for row in averages if averages[row] == printed[row]] == [paper.OURS]


def test_the_winning_classes_are_as_many_as_the_text_says_not_the_abstract():
    wins = paper.best_classes(paper.OURS)
    assert len(wins) == paper.WINS_IN_TEXT != paper.WINS_IN_ABSTRACT
    assert set(paper.CLASSES) - set(wins) == {"bike", "table", "dog", "tv"}
    assert sum(len(paper.best_classes(row)) for row in paper.PER_CLASS.rows) == len(paper.CLASSES)  # no tie


def test_every_method_compared_has_a_backbone_and_the_other_way_round():
    methods = {cell.row for cell in CELLS if cell.table in (4, 5)}
    assert methods == set(paper.BACKBONES) and methods > paper.SINGLE_STAGE


@pytest.mark.parametrize(("name", "row"), [("ToCo, ViT-B", "ToCo"), ("DuPL, ViT-B", "DuPL")])
def test_what_peers_publish_is_what_table_4_prints_of_them(name, row):
    assert paper.PUBLISHED[name].scored == paper.VOC.cell(row, "val").value and paper.BACKBONES[row] == "ViT-B"


@pytest.mark.parametrize("name", [name for name in paper.LOGGED if name in paper.PUBLISHED])
def test_the_classes_of_a_log_average_to_its_miou(name):
    assert len(paper.LOGGED[name]) == len(paper.CLASSES)
    assert sum(paper.LOGGED[name]) / len(paper.CLASSES) == pytest.approx(paper.PUBLISHED[name].single, abs=0.05)


def test_a_curve_ends_where_its_log_does():
    assert paper.TOCO_CURVE[max(paper.TOCO_CURVE)] == paper.PUBLISHED["ToCo, ViT-B"].single


def test_the_row_of_toco_in_table_6_is_its_deit_b_and_not_its_vit_b():
    assert round(paper.class_average("ToCo"), 1) == paper.PUBLISHED["ToCo, DeiT-B"].scored
    largest = {name: max(map(abs, paper.apart("ToCo", name).values())) for name in ("ToCo, DeiT-B", "ToCo, ViT-B")}
    assert largest["ToCo, DeiT-B"] < 8 < 18 < largest["ToCo, ViT-B"]


def test_the_values_stand_nowhere_else_in_the_package():
    """One place: a table's value that is typed in again elsewhere would go its own way."""
    values = {f"{cell.value:.2f}" for cell in CELLS if cell.table in (1, 3)}
    for path in Path(paper.__file__).parent.rglob("*.py"):
        if path.name != "paper.py":
            assert not set(re.findall(r"\d\d\.\d\d", path.read_text())) & values, path.name


def test_the_page_on_protocols_prints_the_same_numbers():
    """And says of each that was seen once that it is of `training`, of each with scales and CRF that it is of `published`."""
    page = (Path(__file__).resolve().parents[2] / "book/reproduce.md").read_text(encoding="utf-8")
    rows = [line for line in page.split("### Which printed number")[1].splitlines() if line.startswith("|")]
    for run in paper.PUBLISHED.values():
        assert sum(f"| {run.single} segmentation, {run.cam} CAM |" in row and "`training` | stated" in row for row in rows) == 1
        assert sum(f"| {run.scored} val, " in row and "`published` | stated" in row for row in rows) == 1
    ours = paper.VOC.cell(paper.OURS, "val").value, paper.VOC.cell(paper.OURS, "test").value
    assert any(f"| {ours[0]} val, {ours[1]} test |" in row and "not stated" in row for row in rows)
    steps = ", ".join(str(cell.value) for cell in paper.ABLATION.cells())
    assert any(f"| {steps} |" in row and "| `training` | inferred |" in row for row in rows)
    best = [round(paper.THRESHOLDS.cell("0.85, 0.25", column).value, 2) for column in ("segmentation", "CAM")]
    assert any(f"| {best[0]} segmentation, {best[1]} CAM |" in row and "| `training` | inferred |" in row for row in rows)
    printed = [paper.COCO.cell(name, "val").value for name in ("TSCD", "TSCD + CRF", "AFA", "AFA + CRF", paper.OURS)]
    for value in [*paper.COCO_PUBLISHED.values(), *printed]:
        assert any(re.search(rf"^\|[^|]*\b{value}\b", row) and "COCO" in row for row in rows), value
