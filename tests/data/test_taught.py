"""A second network: a split whose masks are labels that a run wrote, and what is wrong with labels."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image
from promises import promise
from refusal import refused

from dsgc.data.label_files import write_png
from dsgc.data.split import open_split
from dsgc.data.taught import relabelled
from dsgc.errors import UserError
from dsgc.experiments import stored
from dsgc.methods import preset
from dsgc.runs.record import read_config
from dsgc.training.loop import resume, train_until
from dsgc.training.splits import open_data


@pytest.fixture(scope="module")
def kept(shapes_folder, tmp_path_factory):
    """Labels of the training pictures that nobody could take for the true masks: the upper half is one tagged class, some of it 255."""
    folder, split = tmp_path_factory.mktemp("taught") / "labels", open_split(shapes_folder, "train")
    (folder / "labels").mkdir(parents=True)
    for image_id, tags in zip(split.ids, split.tags(), strict=True):
        label = np.zeros(split.image(image_id).size[::-1], np.uint8)
        label[: len(label) // 2] = np.flatnonzero(tags)[0] + 1
        label[:10, :10] = 255
        write_png(folder / f"labels/{image_id}.png", label)
    (folder / "labels.json").write_text(json.dumps({"classes": list(split.classes), "labels": "labels"}))
    return folder


@pytest.fixture
def labels(kept, tmp_path):
    """A copy that a test may damage."""
    return shutil.copytree(kept, tmp_path / "labels")


def test_the_loader_gives_labels_in_place_of_masks_and_all_else_as_it_was(tiny, labels):
    config = tiny("masks", labels=str(labels))
    taught, true = open_data(config), open_data(tiny("masks"))
    for name in ("root", "classes", "ids", "origin", "notes"):
        assert getattr(taught.folder, name) == getattr(true.folder, name)
    assert taught.folder.truth == str(labels / "labels") and (taught.train.tags == true.train.tags).all()
    for key in ((0, 0), (3, 7)):
        one, other = taught.train[key], true.train[key]
        assert (one.images == other.images).all() and (one.masks != other.masks).any()
    image_id = taught.folder.ids[0]
    mask = np.asarray(taught.folder.mask(image_id, taught.folder.image(image_id).size))
    with Image.open(labels / f"labels/{image_id}.png", formats=["PNG"]) as genuine:
        assert (mask == np.asarray(genuine)).all()
    assert taught.val.folder == true.val.folder, "what is scored is scored against true masks"


def test_a_run_on_labels_says_so_and_can_be_stopped(tiny, labels, tmp_path, capsys):
    run = train_until(tiny("masks", labels=str(labels), out=str(tmp_path / "run"), steps=2, pictures=0), 1)
    assert f"masks of {labels / 'labels'}" in capsys.readouterr().out
    assert read_config(run).method.labels == str(labels)
    resume(run)
    assert (run / "metrics.json").is_file()


def test_results_of_before_are_found_and_a_run_on_labels_is_another():
    config = preset("shapes", "masks")
    assert "labels" not in stored.described(config)
    assert stored.described(config.changed(labels="mine"))["labels"] == "mine"


# what is wrong with labels


def edit(folder, **changes):
    path = folder / "labels.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def first(labels):
    return sorted((labels / "labels").iterdir())[-1]


FAULTS = {  # what happens to the folder, and words of the line
    "not there": (shutil.rmtree, "no such folder"),
    "not finished": (lambda labels: (labels / "labels.json").unlink(), "not all yet"),
    "no JSON": (lambda labels: (labels / "labels.json").write_text("{"), "not a description of labels"),
    "deep JSON": (lambda labels: (labels / "labels.json").write_text("[" * 100_000), "not a description of labels"),
    "no classes": (lambda labels: edit(labels, classes=7), "its classes are no list of names"),
    "another folder": (lambda labels: edit(labels, labels="../SegmentationClass"), "its labels are in no folder beside it"),
    "other classes": (lambda labels: edit(labels, classes=["cat", "dog"]), "its labels are of the classes cat, dog"),
    "one is missing": (lambda labels: first(labels).unlink(), "missing, as are 0 more of the 12"),
    "damaged": (lambda labels: first(labels).write_bytes(first(labels).read_bytes()[:-40]), "not a readable mask"),
    "empty": (lambda labels: first(labels).write_bytes(b""), "not a readable mask"),
    "another size": (lambda labels: write_png(first(labels), np.ones((7, 9), np.uint8)), "label is 9 x 7, its picture"),
    "no such class": (lambda labels: write_png(first(labels), np.full((128, 128), 9, np.uint8)), "label 9, but there are 6 classes"),
    "nothing to learn": (
        lambda labels: [write_png(path, np.zeros((128, 128), np.uint8)) for path in (labels / "labels").iterdir()],
        "no label shows a class",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
@promise("Bad input", "Labels that are missing, damaged, or of other pictures or classes are one line before the first step.")
def test_labels_that_do_not_fit_are_one_line_and_nothing_is_left(fault, labels, arguments, tmp_path, capsys):
    damage, said = FAULTS[fault]
    damage(labels)
    refused(arguments("masks", labels=str(labels), out=str(tmp_path / "run")), capsys, str(labels), said)
    assert not (tmp_path / "run").exists()


def test_labels_of_another_split_are_told(labels, shapes_folder):
    with pytest.raises(UserError, match=r"val_00000\.png: missing, as are 3 more of the 4 .*--train-split"):
        relabelled(open_split(shapes_folder, "val"), labels)
