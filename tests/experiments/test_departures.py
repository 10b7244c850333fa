"""What departures from print do: a branch is the run that it would have been, and effects are pairs under one seed."""

import json

import pandas as pd
import pytest
import torch

from dsgc.experiments import departures, grids, ladder, ladders
from dsgc.runs import checkpoint
from dsgc.training.loop import train


def test_a_branch_ends_as_the_run_that_had_its_numbers_from_the_start(tiny, tmp_path):
    """The warm-up goes on in one run and ends in the other; what both have in common is the same to the last bit."""
    long = train(tiny(out=str(tmp_path / "long"), warmup_steps=4, steps=4, checkpoint_every=2, keep_checkpoints=3, pictures=0))
    direct = train(tiny(out=str(tmp_path / "direct"), warmup_steps=2, steps=4, pictures=0, tau=0.1))
    branched = departures.branch(long, 2, tmp_path / "branch", {"warmup_steps": 2, "tau": 0.1})
    mine, theirs = (checkpoint.load(run).weights for run in (branched, direct))
    for network, weights in theirs.items():
        assert all(torch.equal(mine[network][name], value) for name, value in weights.items())
    again = departures.branch(long, 2, tmp_path / "branch", {})
    assert again == branched and (branched / "metrics.json").is_file()


def test_effects_are_printed_less_ours_seed_by_seed(tmp_path):
    file = tmp_path / "departures.json"
    file.write_text(json.dumps({"found": {"ptc_classes": {"0": {"here": 50.0, "printed": 48.0}, "1": {"here": 60.0, "printed": 59.0}}}}))
    rows = ["preset", *departures.FIXED.values()]
    lines = [{"row": row, "seed": seed, "gain_dev": 10.0 * (row == "preset") + seed} for row in rows for seed in (0, 1)]
    table = departures.effects(pd.DataFrame(lines), file)
    assert table.loc["ptc_classes (CAM)", "difference"] == pytest.approx(-1.5) and table.loc["ptc_classes (CAM)", "seeds"] == 2
    assert table.loc["subtract_minimum (fixed maps)", "difference"] == pytest.approx(-10)
    alone = departures.effects(pd.DataFrame(lines), tmp_path / "none.json")
    assert list(alone.index) == [f"{name} (fixed maps)" for name in departures.FIXED]


def test_every_departure_of_a_method_is_measured_or_cannot_be():
    changed = {name for row in departures.DEPARTURES.values() for name in grids.CHANGES["choices"][row.row]}
    changed |= {name for row in departures.FIXED.values() for name in ladders.CHANGES[row]}
    assert changed == {
        "subtract_minimum", "ptc_classes", "segmentation_average", "student_temperature", "teacher_temperature", "centre_momentum",
    }  # fmt: skip


def test_what_is_committed_is_of_departures_that_there_are_and_pairs_are_whole():
    table = departures.effects(ladder.read())
    found = json.loads(departures.FILE.read_text(encoding="utf-8"))["found"] if departures.FILE.is_file() else {}
    assert set(found) <= set(departures.DEPARTURES) and len(table) == len(found) + len(departures.FIXED)
    assert table["difference"].notna().all()


MEASURED = {
    "subtract_minimum": "subtract_minimum (fixed maps)",
    "segmentation_average": "segmentation_average (fixed maps)",
}


@pytest.mark.parametrize("field", MEASURED)
def test_the_page_on_choices_has_the_committed_effects(field):
    page = (grids.RESULTS.parent / "book/choices.md").read_text(encoding="utf-8")
    (line,) = [line for line in page.splitlines() if line.startswith(f"| `{field}` |") and "Eq." in line.split("|")[3] + line.split("|")[2]]
    effect = departures.effects(ladder.read()).loc[MEASURED[field]]
    assert f"{effect['difference']:+.1f} ({effect['from']:+.1f} to {effect['to']:+.1f})" in line
