"""bfloat16: how far a step may be from float32, what stays in float32, which attention runs, what the student keeps."""

import copy
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from steps import gradients, networks_of, stage_of, step

from dsgc import binned, cam, correction, gmm, objective, ptc, refine
from dsgc.data import shapes
from dsgc.data.loading import Crops, train_batches
from dsgc.data.split import open_split
from dsgc.errors import UserError
from dsgc.methods import preset
from dsgc.network.build import build_network
from dsgc.runs.parallel import accelerator_of
from dsgc.training.learner import parts_of
from dsgc.training.step import backward

STAGES = ("warm-up", "expansion")
LOSS = 0.005  # a loss in bfloat16 differs from the one in float32 by less than this share of it; measured 0.0015
GRADIENT = 0.08  # and a network's gradient by less than this share of its length; measured 0.045


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = shapes.write(tmp_path_factory.mktemp("precision") / "shapes", sizes={"train": 16, "dev": 1, "val": 1})
    return preset("shapes").changed(data=str(folder), device="cpu")


@pytest.fixture(scope="module")
def parts(config):
    """The first batch of the preset, in one part."""
    crops = Crops(
        open_split(config.data, "train"),
        size=config.crop_size, scale=config.crop_scale, ratio=config.crop_ratio, flip=True, seed=0, masks=False,
    )  # fmt: skip
    (batch,) = train_batches(crops, batch=16, seed=0, start=0, stop=1, workers=0, share=(0, 1))
    return parts_of(batch, 16, torch.device("cpu"))


@pytest.fixture(scope="module")
def pair(config):
    torch.manual_seed(0)
    teacher, _ = build_network(config, 6)  # with the pre-trained encoder
    return teacher, copy.deepcopy(teacher)


@pytest.fixture(scope="module")
def made(pair, parts, config):
    """By precision and stage: `backward`'s result and the gradients."""
    return {
        (precision, stage): gradients(pair, parts, stage, config.changed(precision=precision))
        for precision in ("no", "bf16")
        for stage in STAGES
    }


def stepped(pair, parts, stage, config):
    """`backward` of the networks themselves."""
    networks = networks_of(pair, config)
    return backward(
        config.method, networks, parts, stage_of(config, stage), config.method.memory(networks), accelerator_of(config)
    )


@pytest.mark.parametrize("stage", STAGES)
def test_losses_in_bfloat16_are_those_of_float32_within_the_stated_share(made, stage):
    exact, rounded = (made[precision, stage][0].losses for precision in ("no", "bf16"))
    assert exact.keys() == rounded.keys()
    for name, value in exact.items():
        assert rounded[name].item() == pytest.approx(value.item(), rel=LOSS), name
    assert any(not torch.equal(rounded[name], value) for name, value in exact.items()), "bfloat16 was not used"


@pytest.mark.parametrize("stage", STAGES)
def test_gradients_in_bfloat16_are_those_of_float32_within_the_stated_share(made, stage):
    exact, rounded = (made[precision, stage][1] for precision in ("no", "bf16"))
    assert exact.keys() == rounded.keys() and {value.dtype for value in rounded.values()} == {torch.float32}
    for network in ("teacher", "student") if stage == "warm-up" else ("teacher",):
        one, two = (torch.cat([found[name].flatten() for name in exact if name.startswith(network)]) for found in (exact, rounded))
        assert (one - two).norm() < GRADIENT * one.norm(), network


def test_maps_labels_mixture_and_losses_are_float32_under_bfloat16(pair, parts, config, monkeypatch):
    seen = {}

    def spied(module, name):
        original = getattr(module, name)

        def spy(*values, **options):
            made = original(*values, **options)
            returned = made if isinstance(made, tuple) else (made,)
            tensors = [value for value in (*values, *options.values(), *returned) if isinstance(value, torch.Tensor)]
            seen.setdefault(name, set()).update(tensor.dtype for tensor in tensors if tensor.is_floating_point())
            return made

        monkeypatch.setattr(module, name, spy)

    spies = [
        (refine, "refine"), (binned, "fit"), (gmm, "noise_probability"), (correction, "rules"), (correction, "neighbour_similarity"),
        (ptc, "pull_and_push"), (cam, "class_activation_map"), (objective, "segmentation_means"),
    ]  # fmt: skip
    for module, name in spies:
        spied(module, name)
    result = stepped(pair, parts, "expansion", config.changed(precision="bf16"))
    assert {name: found & {torch.float32, torch.bfloat16} for name, found in seen.items()} == {name: {torch.float32} for _, name in spies}
    assert {value.dtype for value in result.losses.values()} == {torch.float32}


@pytest.mark.parametrize("stage", STAGES)
def test_both_networks_run_fused_attention(pair, parts, config, monkeypatch, stage):
    calls, fused = [], F.scaled_dot_product_attention
    monkeypatch.setattr(F, "scaled_dot_product_attention", lambda *values, **options: (calls.append(1), fused(*values, **options))[1])
    stepped(pair, parts, stage, config)
    assert len(calls) == sum(len(network.encoder.blocks) for network in pair)


@pytest.mark.parametrize("stage", STAGES)
def test_the_student_keeps_nothing_for_a_gradient_once_it_only_follows(pair, parts, config, stage, monkeypatch):
    """Bytes that autograd keeps in the student's pass."""
    _, student = pair
    kept, passes, forward = [], [], student.forward

    def watched(images):
        passes.append(images)
        with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.nbytes) or tensor, lambda tensor: tensor):
            return forward(images)

    monkeypatch.setattr(student, "forward", watched)
    step(pair, parts[0].images, stage, config, tags=parts[0].tags)
    assert len(passes) == 1 and (sum(kept) > 0) == (stage == "warm-up")


def test_a_device_without_bfloat16_is_one_line(config, monkeypatch):
    def refuse(self, **_):
        raise ValueError("bf16 mixed precision requires a supported device.")

    monkeypatch.setattr(Accelerator, "__init__", refuse)
    with pytest.raises(UserError, match="precision bf16: .*supported device.*; take --precision no"):
        accelerator_of(config.changed(precision="bf16"))


def test_accelerate_launches_the_same_program(arguments, tmp_path):
    """The launcher of the README's commands; groups of two processes are in `test_step`."""
    words = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "1", "-m", "dsgc"]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}
    done = subprocess.run(
        [*words, *arguments(out=str(tmp_path / "run"), precision="bf16")], cwd=tmp_path, env=environment, capture_output=True,
        text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run/metrics.json").is_file() and str(tmp_path / "run") in done.stdout
