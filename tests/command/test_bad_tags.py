"""Tag files that are wrong, and what cannot be of pictures without a layout: one line each, exit code 2, nothing left behind."""

import pytest
from promises import promise
from refusal import refused, refused_by_both

from dsgc.training.loop import train

pytestmark = promise("Bad input", "A tag file that is wrong is refused in one line: what, where, the remedy. Nothing is left behind.")


SPOILT = {
    "a picture that is not there": (lambda text: text + "\nq.jpg,1,0,0,0,0,0", ("'q.jpg' (line 18)",)),
    "a cell that is neither 0 nor 1": (lambda text: text.replace("val_00001.png,0", "val_00001.png,7"), ("'7' in line", "0 or 1")),
    "a picture without a row": (lambda text: text.rpartition("\n")[0], ("no row there (1)",)),
    "a row that contradicts": (lambda text: text + "\ntrain_00000,1,1,1,1,1,1", ("contradict",)),
    "nothing": (lambda text: "", ("is empty",)),
}


@pytest.mark.parametrize("name", SPOILT)
def test_a_spoilt_tag_file_is_refused_and_leaves_no_run(name, mine, fields, arguments, tiny, tmp_path, capsys):
    spoil, words = SPOILT[name]
    (tmp_path / "tags.csv").write_text(spoil((mine / "tags.csv").read_text()))
    changes = fields | {"tags": str(tmp_path / "tags.csv"), "out": str(tmp_path / "run")}
    refused_by_both(arguments(**changes), lambda: train(tiny(**changes)), tmp_path, capsys, "tags.csv", *words)


@pytest.mark.parametrize(
    ("method", "changes", "words"),
    [
        ("masks", {}, ("masks", "--masks")),
        ("base", {"val_share": 0.0}, ("val_share",)),
        ("base", {"val_share": 1.0}, ("val_share",)),
        ("base", {"tags": "nowhere.csv"}, ("nowhere.csv",)),
        ("base", {"masks": "nowhere"}, ("nowhere", "masks")),
        ("base", {"val_split": "nowhere.txt"}, ("nowhere.txt", "no part of")),
        ("base", {"tags": ""}, ("lie in no folder of a class",)),
    ],
)
def test_what_cannot_be_is_refused_and_leaves_no_run(method, changes, words, fields, arguments, tmp_path, capsys):
    refused(arguments(method=method, **(fields | changes), out=str(tmp_path / "run")), capsys, *words)
    assert not (tmp_path / "run").exists()


def test_a_tag_file_for_a_layout_is_refused(shapes_folder, fields, arguments, tmp_path, capsys):
    changes = fields | {"data": str(shapes_folder), "out": str(tmp_path / "run")}
    refused(arguments(**changes), capsys, "leave out --tags")
    assert not (tmp_path / "run").exists()
