"""Pictures without a layout from the command line: trained, gone on with, scored, segmented."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image
from promises import promise
from refusal import refused

from dsgc.__main__ import main
from dsgc.runs import checkpoint
from dsgc.training.loop import train, train_until


@pytest.fixture(scope="module")
def run(mine, fields, tiny, tmp_path_factory):
    """A run of four steps without masks."""
    return train(tiny("base", **fields, out=str(tmp_path_factory.mktemp("runs") / "run"), pictures=2))


def test_without_masks_a_run_scores_tags_and_says_so(run, mine, capsys):
    scores = json.loads((run / "metrics.json").read_text())
    told = scores["told"]["network"]
    assert 0 <= told["map"] <= 1 and 0 <= told["f1"] <= 1 and len(told["per_class"]) == 6 and "no mIoU" in scores["said"]
    logged = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert logged[-1]["scores"] == scores and scores["masks"] == "" and scores["images"] >= 3
    assert len(list((run / "pictures").iterdir())) == 2
    config = json.loads((run / "config.json").read_text())
    assert config["tags"] == str(mine / "tags.csv") and config["val_share"] == 0.2
    assert list(checkpoint.load(run).classes) == (mine / "tags.csv").read_text().splitlines()[0].split(",")[1:]


def test_the_same_scores_come_of_evaluate_and_the_miou_with_masks(run, mine, capsys):
    assert main(["evaluate", str(run)]) == 0
    out, error = capsys.readouterr()
    assert json.loads(out)["told"] == json.loads((run / "metrics.json").read_text())["told"]
    assert "tags told" in error and "no masks, so no mIoU" in error
    assert main(["evaluate", str(run), "--masks", str(mine / "masks")]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert 0 < scores["network"]["seg"]["miou"] < 1 and scores["masks"] == str(mine / "masks")
    refused(["evaluate", run, "--protocol", "single"], capsys, "no masks", "--masks")


def test_other_pictures_are_scored_with_their_own_tags(run, mine, tmp_path, capsys):
    (tmp_path / "others").mkdir()
    Image.new("RGB", (64, 64)).save(tmp_path / "others/q.png")
    (tmp_path / "others.csv").write_text("q,star\n")
    words = ["evaluate", str(run), "--data", str(tmp_path / "others"), "--tags", str(tmp_path / "others.csv")]
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 1
    (tmp_path / "others.csv").write_text("q,yeti\n")
    refused(words, capsys, "'yeti'", "none of the run's classes")


def test_pictures_are_segmented_all_or_a_part(run, mine, tmp_path):
    assert main(["predict", str(run), str(tmp_path / "all")]) == 0
    assert len(list((tmp_path / "all").iterdir())) == 16
    assert main(["predict", str(run), str(tmp_path / "part"), "--split", "val"]) == 0
    assert 3 <= len(list((tmp_path / "part").iterdir())) < 16
    assert np.asarray(Image.open(tmp_path / "all/val_00001.png")).shape == (128, 128)


def test_a_second_network_learns_from_the_labels_of_a_run(run, mine, fields, tiny, tmp_path):
    assert main(["labels", str(run), str(tmp_path / "labels"), "--no-cams"]) == 0
    held_out = json.loads((run / "metrics.json").read_text())["images"]
    assert len(list((tmp_path / "labels/SegmentationClass").iterdir())) == 16 - held_out
    some = ["--data", str(mine / "pictures"), "--tags", str(mine / "tags.csv"), "--no-cams"]
    assert main(["labels", str(run), str(tmp_path / "others"), *some]) == 0
    assert len(list((tmp_path / "others/SegmentationClass").iterdir())) == 16
    label = np.full((128, 128), 1, np.uint8)
    for path in (tmp_path / "labels/SegmentationClass").iterdir():  # of the first class all over, whatever so few steps have found
        Image.fromarray(label).save(path)
    second = tiny("masks", **fields, labels=str(tmp_path / "labels"), out=str(tmp_path / "second"), steps=20, lr=1e-2, head_lr_factor=1.0)
    told = json.loads((train(second) / "metrics.json").read_text())["told"]["network"]
    scores = list(told["f1_per_class"].values())
    assert scores[0] > 0 and not any(scores[1:])  # read off its segmentation: a classifier of tags it does not train


@promise("Determinism", "A run that goes on after a stop ends as if it had not been stopped, on pictures without a layout too.")
def test_a_run_that_was_stopped_goes_on(run, mine, fields, tiny, tmp_path, capsys):
    stopped = train_until(tiny("base", **fields, out=str(tmp_path / "run"), pictures=2), 2)
    shutil.copytree(mine, tmp_path / "moved")
    data, tags = str(tmp_path / "moved/pictures"), str(tmp_path / "moved/tags.csv")
    assert main(["resume", str(stopped), "--data", data, "--tags", tags]) == 0
    assert json.loads((stopped / "metrics.json").read_text())["told"] == json.loads((run / "metrics.json").read_text())["told"]
    assert checkpoint.load(stopped).files["network.safetensors"] == checkpoint.load(run).files["network.safetensors"]


def test_a_run_goes_on_with_the_pictures_that_it_began_with_only(mine, fields, tiny, tmp_path, capsys):
    stopped = train_until(tiny("base", **fields, out=str(tmp_path / "run")), 2)
    lines = (mine / "tags.csv").read_text().splitlines()
    (tmp_path / "tags.csv").write_text("\n".join(lines).replace("star", "comet"))
    refused(["resume", stopped, "--tags", tmp_path / "tags.csv"], capsys, "its classes are not those of")


def test_with_masks_the_upper_bound_is_trained_and_scored(mine, fields, tiny, tmp_path):
    run = train(tiny("masks", **fields, masks=str(mine / "masks"), out=str(tmp_path / "run")))
    assert 0 < json.loads((run / "metrics.json").read_text())["network"]["seg"]["miou"] < 1


def test_folders_by_class_are_trained_without_a_tag_file(mine, tiny, tmp_path):
    for number, path in enumerate(sorted((mine / "pictures").rglob("*.*"))):
        folder = tmp_path / "classes" / ("cat", "dog")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder)
    run = train(tiny("base", data=str(tmp_path / "classes"), out=str(tmp_path / "run")))
    assert set(json.loads((run / "metrics.json").read_text())["told"]["network"]["per_class"]) == {"cat", "dog"}
