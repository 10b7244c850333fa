"""Training end to end on tiny data: run folder, log, the same weights from the same seed, tags without masks."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from apart import log_of
from PIL import Image
from safetensors.torch import load_file

from dsgc.data import scenes, shapes
from dsgc.data.loading import EvalImages
from dsgc.data.split import open_split
from dsgc.methods.dsgc import Dsgc
from dsgc.runs.restore import load_networks
from dsgc.scoring.evaluate import evaluate, score_run
from dsgc.training.learner import learning_rate
from dsgc.training.loop import train

ROOT = Path(__file__).resolve().parents[2]
SCORES = ("seg", "cam", "pseudo_initial", "pseudo")


def dsgc(*words, cwd):
    environment = {key: value for key, value in os.environ.items() if key != "TQDM_DISABLE"}
    environment |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8"}
    command = [sys.executable, "-m", "dsgc", *map(str, words)]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, encoding="utf-8", timeout=300)


def weights_of(run):
    """The bytes of every weights file of a run, by path."""
    return {str(path.relative_to(run)): path.read_bytes() for path in sorted(run.rglob("*.safetensors"))}


@pytest.fixture(scope="module")
def finished(arguments, tmp_path_factory):
    """A run that the command line made, in a process of its own, and what that process said."""
    folder = tmp_path_factory.mktemp("train")
    done = dsgc(*arguments(out=str(folder / "run"), eval_every=3, checkpoint_every=3), cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "run", done


def test_a_run_folder_holds_everything(finished):
    run, _ = finished
    files = {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}
    tensors = {f"{name}.safetensors" for name in ("teacher", "student", "state")}
    checkpoints = {f"checkpoints/step_{n:06d}/{name}" for n in (3, 4) for name in ("about.json", *tensors)}
    assert files == {"config.json", "log.jsonl", "metrics.json", "pictures/val_00000.png"} | checkpoints


def test_the_resolved_config_is_kept(finished, tiny):
    run, _ = finished
    kept = json.loads((run / "config.json").read_text())
    wanted = tiny(out=str(run), eval_every=3, checkpoint_every=3).flat()
    assert kept == json.loads(json.dumps(wanted))


def test_the_log_has_stages_and_loss_terms(finished):
    steps = [line for line in log_of(finished[0]) if "losses" in line]
    assert [line["step"] for line in steps] == [1, 2, 3, 4]
    assert [line["stage"] for line in steps] == 2 * ["warm-up"] + 2 * ["expansion"]
    for line in steps:
        names = {"ptc", "sim"} if line["stage"] == "warm-up" else {"ptc", "punc", "seg"}
        assert line["losses"].keys() == {"all", "cls", *names}
        assert np.isfinite(list(line["losses"].values())).all() and line["images_per_second"] > 0


def test_the_logged_sum_is_the_weighted_sum_of_the_terms(finished, tiny):
    method = tiny().method
    weights = {"cls": 1, "ptc": method.lambda1, "sim": method.lambda2, "punc": method.lambda3, "seg": method.lambda4}
    for line in log_of(finished[0]):
        if "losses" in line:
            terms = {name: value for name, value in line["losses"].items() if name != "all"}
            assert line["losses"]["all"] == pytest.approx(
                sum(weights[name] * value for name, value in terms.items()), rel=1e-4
            )


def test_momentum_belongs_to_the_expansion(finished, tiny):
    momenta = [line["momentum"] for line in log_of(finished[0]) if "losses" in line]
    assert momenta[:2] == [0, 0] and momenta[2] == pytest.approx(tiny().method.ema_momentum)
    assert momenta[2] < momenta[3] < 1


def test_metrics_have_every_score_of_both_networks(finished):
    metrics = json.loads((finished[0] / "metrics.json").read_text())
    assert metrics["images"] == 4 and metrics.keys() == {"teacher", "student", "pointing", "images", "list", "masks"}
    for network in ("teacher", "student"):
        assert tuple(metrics[network]) == SCORES
        for score in SCORES:
            found = metrics[network][score]
            assert list(found["per_class"]) == ["background", *(kind.name for kind in shapes.KINDS)]
            known = [value for value in found["per_class"].values() if value is not None]
            assert all(0 <= value <= 1 for value in known)
            assert found["miou"] == pytest.approx(sum(known) / len(known))
        for block in ("last", "middle"):
            found = metrics["pointing"][network][block]
            assert list(found["per_class"]) == [kind.name for kind in shapes.KINDS]
            known = [value for value in found["per_class"].values() if value is not None]
            assert all(0 <= value <= 1 for value in known) and found["mean"] == pytest.approx(sum(known) / len(known))


def test_evaluations_during_training_are_logged(finished):
    scored = [line for line in log_of(finished[0]) if "scores" in line]
    assert [line["step"] for line in scored] == [3, 4]
    assert scored[-1]["scores"] == json.loads((finished[0] / "metrics.json").read_text())


def test_progress_shows_rate_time_left_and_losses(finished):
    said = finished[1].stderr
    assert all(
        word in said for word in ("4/4", "step/s", "images/s=", "stage=expansion", "cls=", "ptc=", "punc=", "seg=")
    )
    assert "Traceback" not in said and "Warning" not in said


def test_training_says_where_ids_and_weights_come_from(finished):
    said = finished[1].stdout
    assert "12 training images from" in said and "train.txt" in said and "encoder weights: random" in said


def test_pictures_show_both_networks(finished):
    picture = Image.open(finished[0] / "pictures/val_00000.png")
    assert picture.height == 2 * scenes.SIDE and picture.width % scenes.SIDE == 0
    assert len(np.unique(np.asarray(picture).reshape(-1, 3), axis=0)) > 100


def test_evaluate_gives_the_scores_of_the_run(finished, tmp_path):
    run, _ = finished
    done = dsgc("evaluate", run, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == json.loads((run / "metrics.json").read_text())
    assert not list(tmp_path.iterdir())


def test_another_split_gives_other_scores(finished):
    scores = score_run(finished[0], split="dev")
    assert scores["images"] == 4 and scores != score_run(finished[0])


@pytest.fixture(scope="module")
def repeated(tiny, tmp_path_factory):
    """The run of `finished` once more, in this process, without its evaluation on the way."""
    return train(tiny(out=str(tmp_path_factory.mktemp("again") / "run"), checkpoint_every=3))


def test_the_same_seed_gives_the_same_weights_and_state_bit_by_bit(finished, repeated):
    first, second = weights_of(finished[0]), weights_of(repeated)
    assert first.keys() == second.keys() and len(first) == 6
    assert all(first[name] == second[name] for name in first)


CHANGES = [
    {"seed": 1},
    {"lr": 1e-4},
    {"lr_ramp_steps": 3},
    {"head_lr_factor": 3.0},
    {"lambda4": 1.0},
    {"student_lr": 1e-5},
]
CHANGES += [{"centre_momentum": 0.5}]


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_a_changed_value_changes_the_weights(repeated, tiny, tmp_path, change):
    name = "checkpoints/step_000004/teacher.safetensors"
    other = train(tiny(out=str(tmp_path / "run"), pictures=0, **change))
    if "student_lr" in change:
        name = name.replace("teacher", "student")
    assert weights_of(other)[name] != weights_of(repeated)[name]


def test_the_student_follows_the_teacher_by_ema_in_the_expansion(repeated):
    before, after, teacher = (
        load_file(repeated / f"checkpoints/step_{step:06d}/{name}.safetensors")
        for step, name in ((3, "student"), (4, "student"), (4, "teacher"))
    )
    momentum = [line["momentum"] for line in log_of(repeated) if "losses" in line][-1]
    for name, value in after.items():
        torch.testing.assert_close(
            value, momentum * before[name] + (1 - momentum) * teacher[name], rtol=1e-5, atol=1e-7
        )
    assert not torch.equal(after["decoder.0.weight"], before["decoder.0.weight"])


def test_above_the_background_threshold_the_cam_scores_a_class(repeated, tiny):
    networks, saved = load_networks(repeated)
    data = EvalImages(open_split(saved.config.data, "val"))
    share = {}
    for threshold in (0.0, 0.5, 1.0):
        found = evaluate(networks, data, saved.config.changed(background_threshold=threshold))["teacher"]["cam"]
        share[threshold] = sum(value or 0 for name, value in found["per_class"].items() if name != "background")
    assert share[1.0] == 0 != share[0.5] != share[0.0] != 0


def test_training_needs_no_mask_of_a_training_image(shapes_copy, repeated, tiny, tmp_path):
    for path in (shapes_copy / "SegmentationClass").glob("train_*"):
        path.unlink()
    run = train(tiny(data=str(shapes_copy), out=str(tmp_path / "run"), checkpoint_every=3))
    assert weights_of(run) == weights_of(repeated)


ALONE = {  # changes, terms of the loss in the last stage, scores
    "baseline": ({"method": "base"}, {"cls", "ptc", "seg"}, ("seg", "cam", "pseudo")),
    "without student": ({"distillation": False}, {"cls", "ptc", "seg"}, SCORES),
    "with neither": ({"distillation": False, "correction": False}, {"cls", "ptc", "seg"}, SCORES),
    "masks": ({"method": "masks"}, {"seg"}, ("seg",)),
}


@pytest.mark.parametrize("name", ALONE)
def test_what_has_no_student_trains_one_network(name, tiny, tmp_path):
    changes, terms, scores = ALONE[name]
    config = tiny(out=str(tmp_path / "run"), **changes)
    run, (network,) = train(config), config.method.networks
    metrics, last = (
        json.loads((run / "metrics.json").read_text()),
        [line for line in log_of(run) if "losses" in line][-1],
    )
    pointing = ["pointing"] * bool(config.method.blocks)
    assert metrics.keys() == {network, *pointing, "images", "list", "masks"} and tuple(metrics[network]) == scores
    assert network == "teacher" if isinstance(config.method, Dsgc) else network == "network"
    assert last["losses"].keys() == {"all", *terms}
    files = {path.name for path in (run / "checkpoints/step_000004").glob("*.safetensors")}
    assert files == {f"{network}.safetensors", "state.safetensors"}


@pytest.mark.parametrize("name", ["baseline", "masks"])
def test_a_run_of_any_method_keeps_its_name_is_scored_again_and_logs_its_stages(name, arguments, tmp_path):
    """From the command line; the paper's method in the tests above."""
    changes = ALONE[name][0]
    run = tmp_path / "run"
    done = dsgc(*arguments(out=str(run), **changes), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    metrics = json.loads((run / "metrics.json").read_text())
    assert json.loads((run / "config.json").read_text())["method"] == changes["method"]
    assert score_run(run) == metrics and load_networks(run)[1].config.method.name == changes["method"]
    stages = [line["stage"] for line in log_of(run) if "losses" in line]
    assert stages == (4 * ["masks"] if name == "masks" else 2 * ["warm-up"] + 2 * ["expansion"])
    picture = Image.open(run / "pictures/val_00000.png")
    assert picture.height == scenes.SIDE


VARIANTS = {
    "loading processes": {"workers": 1},
    "no pictures": {"pictures": 0},
    "all warm-up": {"warmup_steps": 4},
    "no warm-up": {"warmup_steps": 0},
    "labels of the student": {"label_network": "student"},
    "batch of all the data": {"batch_size": 12, "steps": 2, "warmup_steps": 1},
    "patch 16": {"encoder": "vit_tiny_patch16_224", "aux_block": 10},
    "patch 14": {"encoder": "vit_small_patch14_dinov2", "crop_size": 28, "steps": 1, "warmup_steps": 0, "pictures": 0},
}


@pytest.mark.parametrize("name", VARIANTS)
def test_other_settings_train_too(name, tiny, tmp_path):
    run = train(tiny(out=str(tmp_path / "run"), **VARIANTS[name]))
    assert json.loads((run / "metrics.json").read_text())["teacher"]["seg"]["miou"] is not None


def test_half_precision_can_follow_full_precision_in_one_process(repeated, tiny, tmp_path):
    """As in a notebook."""
    assert train(tiny(out=str(tmp_path / "run"), precision="bf16")).is_dir()


def test_the_learning_rate_rises_and_falls_to_nothing(tiny):
    config = tiny(steps=100, warmup_steps=0, lr_ramp_steps=10)
    rates = [learning_rate(step, config) for step in range(100)]
    assert 0 < rates[0] < 0.11 and max(rates) > 0.95 and rates[-1] < 0.001
    assert np.argmax(rates) == 9 and all(np.diff(rates[9:]) < 0)
