"""What every peer has to hold beside the contract: it goes on in each stage as if nothing had been, and two processes do what one does."""

import json
import shutil
from pathlib import Path

import apart
import pytest
import torch
from apart import outcome
from peers_of_two import one_of_two
from safetensors.torch import load_file
from steps import CLASSES, gradients, stages_of, uneven_batch

from dsgc import methods
from dsgc.config import PRESETS
from dsgc.methods.contract import Method
from dsgc.network.build import build_network
from dsgc.runs import checkpoint
from dsgc.training.loop import resume, train

peers = pytest.mark.parametrize("name", methods.PEERS)


@peers
def test_it_says_what_it_left_out(name):
    method = methods.find(name)
    assert issubclass(method, Method) and method.presets.keys() <= {*PRESETS}
    assert method.left_out[0].isupper() and method.left_out.endswith(".")


@peers
def test_its_numbers_have_their_sources_and_those_of_coco_are_those_that_it_names(name):
    """A preset for COCO that changes a published number takes the number that is published for COCO."""
    own, coco = methods.preset("voc", name).method, methods.preset("coco", name).method
    published = [field for field in own.names() if own.source_of(field) == "published"]
    assert published, "a peer without a number of its own"
    assert not [field for field in published if coco.source_of(field) != "published"]


@peers
def test_the_first_stage_is_the_warm_up_and_the_decoder_learns_after_it(name, tiny):
    config = tiny(name)
    stages = [config.method.stage(step, config.steps) for step in range(config.steps)]
    assert {stage.name for stage in stages[: config.method.warmup_steps]} == {"warm-up"}
    assert all(stage.name != "warm-up" for stage in stages[config.method.warmup_steps :])


@peers
def test_a_run_that_is_stopped_in_any_stage_ends_as_if_it_had_not_been(name, tiny, tmp_path):
    config = tiny(name, out=str(tmp_path / "whole"), checkpoint_every=1, keep_checkpoints=9)
    whole = outcome(train(config))
    for stop in range(1, config.steps):
        run = tmp_path / f"stopped after {stop}"
        shutil.copytree(config.out, run)
        (run / "metrics.json").unlink()
        shutil.rmtree(run / "pictures")
        for later in checkpoint.checkpoints(run)[stop:]:
            shutil.rmtree(later)
        assert outcome(resume(run)) == whole, f"{name}, stopped after step {stop} of stages {stages_of(config)}"


@pytest.fixture(scope="module")
def two(fixed, tmp_path_factory):
    """A folder with what two processes made of every peer's stages."""
    folder = tmp_path_factory.mktemp("two")
    for name in methods.PEERS:
        (folder / f"{name}.json").write_text(json.dumps(fixed(name).flat()))
    processes = [apart.context.Process(target=one_of_two, args=(folder, number), daemon=True) for number in (0, 1)]
    for process in processes:  # without a launcher, which test_step has: all is loaded in the process that they are forked from
        process.start()
    for process in processes:
        process.join(300)
    assert [process.exitcode for process in processes] == [0, 0]
    return folder


@peers
def test_two_processes_have_the_gradients_of_one(name, fixed, two):
    config = fixed(name)
    torch.manual_seed(0)
    pair = [build_network(config, CLASSES)[0] for _ in range(2)]
    for stage in stages_of(config):
        made, expected = gradients(pair, [uneven_batch()], stage, config)
        first, second = (load_file(Path(two) / f"{name}-{stage}-{number}.safetensors") for number in (0, 1))
        assert first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)
        for loss, value in made.losses.items():
            assert first.pop(f"losses.{loss}").item() == pytest.approx(value.item(), rel=1e-4, abs=1e-6), (stage, loss)
        assert first.keys() == expected.keys()
        for key, value in expected.items():
            assert (first[key] - value).abs().max() <= 1e-4 * value.abs().max() + 1e-8, (stage, key)
