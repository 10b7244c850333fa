"""Bad data, values and weights: one line that names file or field and the remedy, from the command line and from Python."""

import shutil

import pytest
from catalogue import CHECKPOINTS, COCO, OPTIONS, STATES, VOC, WEIGHTS
from catalogue_exports import EXPORTS, FOLDERS
from catalogue_voc import UNDERSTOOD_NOT
from promises import promise
from refusal import refused, refused_by_both
from spoilt import cut, every, grey

from dsgc.training.loop import train

pytestmark = promise(
    "Bad input",
    "Spoilt data, values and weights are refused in one line: what, where, the remedy. Nothing is left behind.",
)


def flags(fields):
    """The options that set these fields."""
    words = []
    for name, value in fields.items():
        words += ["--" + name.replace("_", "-"), *map(str, value if isinstance(value, tuple) else [value])]
    return words


def test_the_catalogue_is_long_enough():
    rows = (VOC, FOLDERS, UNDERSTOOD_NOT, COCO, EXPORTS, OPTIONS, WEIGHTS, CHECKPOINTS, STATES)
    assert sum(map(len, rows)) >= 120


DATA = VOC | FOLDERS | UNDERSTOOD_NOT


@pytest.mark.parametrize("name", DATA)
def test_spoilt_data_are_refused_and_leave_no_run(name, shapes_copy, tmp_path, arguments, tiny, capsys):
    spoil, named = DATA[name]
    spoil(shapes_copy)
    fields = {"data": str(shapes_copy), "out": str(tmp_path / "run")}
    refused_by_both(arguments(**fields), lambda: train(tiny(**fields)), tmp_path, capsys, *named)


@pytest.fixture(scope="module")
def drawn(coco_folder):
    return coco_folder


@pytest.mark.parametrize("name", COCO | EXPORTS)
def test_spoilt_instances_are_refused_and_leave_no_run(
    name, drawn, tmp_path, tmp_path_factory, arguments, tiny, capsys, monkeypatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    data, (spoil, named) = shutil.copytree(drawn, tmp_path / "coco"), (COCO | EXPORTS)[name]
    spoil(data)
    fields = {"data": str(data), "out": str(tmp_path / "run"), "train_split": "train2014", "val_split": "val2014"}
    where = "COCO_train2014_" if "is not there" in name else "instances_train2014.json" if name in COCO else ""
    refused_by_both(arguments(**fields), lambda: train(tiny(**fields)), tmp_path, capsys, where, *named)


@pytest.mark.parametrize("name", OPTIONS)
def test_values_that_cannot_be_are_refused_and_leave_no_run(name, tmp_path, arguments, tiny, capsys):
    fields, named = OPTIONS[name]
    out = str(tmp_path / "run")
    refused_by_both([*arguments(out=out), *flags(fields)], lambda: train(tiny(out=out, **fields)), tmp_path, capsys, *named)


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_that_cannot_be_are_refused_and_leave_no_run(name, tmp_path, arguments, tiny, capsys):
    ending, make, named = WEIGHTS[name]
    make(tmp_path / f"w{ending}")
    fields = {"out": str(tmp_path / "run"), "weights": str(tmp_path / f"w{ending}")}
    refused_by_both(arguments(**fields), lambda: train(tiny(**fields)), tmp_path, capsys, f"w{ending}", *named)


def test_an_unreadable_image_is_one_line_from_a_loading_process_too(shapes_copy, tmp_path, arguments, capsys):
    every("JPEGImages/train*", cut)(shapes_copy)
    refused(arguments(data=str(shapes_copy), out=str(tmp_path / "run"), workers=1), capsys, "train_", "truncated")
    assert not (tmp_path / "run").exists()


def test_masks_that_supervise_are_checked_as_well(shapes_copy, tmp_path, arguments, capsys):
    every("SegmentationClass/train*", grey(9))(shapes_copy)
    changes = {"data": str(shapes_copy), "out": str(tmp_path / "run"), "method": "masks"}
    refused(arguments(**changes), capsys, "SegmentationClass/train_", "label 9")
    assert not (tmp_path / "run").exists()
