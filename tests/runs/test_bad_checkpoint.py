"""Checkpoints that are damaged, of something else, or a stranger's: refused in one line, and the run folder left as it was."""

import json
import shutil

import pytest
from catalogue import CHECKPOINTS, STATES
from promises import promise
from refusal import refused, refused_by_both
from spoilt import newest

from dsgc.scoring.evaluate import score_run
from dsgc.scoring.predict import TestTime, predict
from dsgc.training.loop import resume

pytestmark = promise(
    "Bad input",
    "A checkpoint that is damaged, or of something else, is refused in one line, and its run stays as it was.",
)

TestTime.__test__ = False  # no test, though its name begins like one


@pytest.fixture
def stopped(run):
    """The same, but begun as a run of three steps, so that it can go on."""
    (run / "metrics.json").unlink()
    config = json.loads((run / "config.json").read_text()) | {"steps": 3}
    (run / "config.json").write_text(json.dumps(config))
    return run


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_it_is_not_scored(name, run, tmp_path, capsys):
    spoil, named = CHECKPOINTS[name]
    spoil(run)
    refused_by_both(["evaluate", run], lambda: score_run(run), tmp_path, capsys, str(run), *named)


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_nothing_is_predicted_with_it(name, run, tmp_path, capsys):
    spoil, named = CHECKPOINTS[name]
    spoil(run)
    words = ["predict", run, tmp_path / "out", "--split", "val"]
    refused_by_both(words, lambda: predict(run, tmp_path / "out", None, "val", TestTime()), tmp_path, capsys, *named)


@pytest.mark.parametrize("name", STATES)
def test_no_run_goes_on_with_a_state_that_cannot_be(name, stopped, tmp_path, capsys):
    spoil, named = STATES[name]
    spoil(stopped)
    refused_by_both(["resume", stopped], lambda: resume(stopped), tmp_path, capsys, str(stopped), *named)


def test_instead_of_a_checkpoint_with_a_nan_the_one_before_it_is_taken(run, capsys):
    spoil, _ = CHECKPOINTS["a NaN inside"]
    shutil.copytree(newest(run), run / "checkpoints/step_000002")
    spoil(run)
    assert score_run(run)["images"] == 4
    said = capsys.readouterr().err
    assert "step_000002/teacher.safetensors" in said and "not finite" in said and "the checkpoint before it is used" in said


def test_the_line_holds_with_the_folder_of_the_checkpoint_too(run, capsys):
    spoil, named = CHECKPOINTS["a forged header"]
    spoil(run)
    refused(["evaluate", newest(run)], capsys, *named)
