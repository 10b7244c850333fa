"""Compiled blocks: what they give is what the blocks give, for hooks, attention and names too; a run with them goes on where it stopped."""

import copy
import shutil

import pytest
import torch
from safetensors.torch import load_file
from steps import CLASSES

from dsgc.errors import UserError
from dsgc.network.build import build_network
from dsgc.network.encoder import compile_blocks
from dsgc.training.loop import resume, train, train_until

needs_a_compiler = pytest.mark.skipif(not (shutil.which("g++") or shutil.which("c++")), reason="torch.compile needs a C++ compiler")
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


@needs_a_compiler
def test_passes_gradients_hooks_and_attention_are_those_of_the_blocks(tiny, images):
    torch.manual_seed(0)
    plain = build_network(tiny(), CLASSES)[0]
    compiled, seen = copy.deepcopy(plain), []
    compile_blocks(compiled.encoder)
    assert list(compiled.state_dict()) == list(plain.state_dict()), "a checkpoint of one would not fit the other"
    for network in (plain, compiled):
        output = network(images)
        sum(part.square().mean() for part in output).backward()
        seen.append((output, [value.grad for value in network.encoder.parameters()]))
    torch.testing.assert_close(seen[1], seen[0], **CLOSE)
    compiled.encoder.blocks[1].register_forward_hook(lambda *_: seen.append("hook"))
    with torch.no_grad():
        torch.testing.assert_close(compiled(images[..., :64]), plain(images[..., :64]), **CLOSE)
        torch.testing.assert_close(compiled.with_attention(images, [2])[1], plain.with_attention(images, [2])[1], **CLOSE)
    assert seen[2:] == ["hook"] * 2, "a hook that came after the first pass was not called"


@needs_a_compiler
def test_a_run_with_compiled_blocks_goes_on_and_ends_as_one_that_was_not_stopped(tiny, tmp_path):
    short = {"steps": 3, "warmup_steps": 1, "compile": True}
    whole = train(tiny(out=str(tmp_path / "whole"), **short))
    stopped = resume(train_until(tiny(out=str(tmp_path / "stopped"), **short), 2))
    one, two = (load_file(next((run / "checkpoints").glob("*3/teacher.safetensors"))) for run in (whole, stopped))
    torch.testing.assert_close(one, two, rtol=0, atol=0)


def test_without_a_compiler_one_line_says_so(tiny, monkeypatch, tmp_path):
    import torch._dynamo
    import torch._inductor.config as settings

    torch._dynamo.reset()
    monkeypatch.setattr(settings.cpp, "cxx", ("no-such-compiler",))
    monkeypatch.setattr(settings, "force_disable_caches", True)
    with pytest.raises(UserError, match="the encoder cannot be compiled here .*; leave out --compile$"):
        train(tiny(out=str(tmp_path / "run"), steps=1, warmup_steps=0, compile=True))
    torch._dynamo.reset()
