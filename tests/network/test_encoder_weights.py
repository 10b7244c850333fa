"""Where an encoder's weights lie in the files of others: under a prefix, among several networks, by other names, beside options."""

import argparse
import re
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from promises import promise
from safetensors.torch import save_file

from dsgc.__main__ import main
from dsgc.errors import UserError
from dsgc.network import encoder_weights
from dsgc.runs import checkpoint

pytestmark = promise("Bad input", "Weights are found wherever a file has them, and the line says where they were taken from.")


def nano(seed=1, **options):
    torch.manual_seed(seed)
    return timm.create_model("dsgc_vit_nano_patch8", num_classes=0, img_size=32, dynamic_img_size=True, **options)


W, OTHER = nano().state_dict(), nano(2).state_dict()
HEAD = {"head.weight": torch.zeros(3, 128), "head.bias": torch.zeros(3)}


def under(prefix, tensors=W):
    return {prefix + name: value for name, value in tensors.items()}


def renamed(*pairs, tensors=W):
    found = dict(tensors)
    for pattern, name in pairs:
        found = {re.sub(pattern, name, key): value for key, value in found.items()}
    return found


PREFIXES = (
    "module.", "backbone.", "encoder.", "model.", "vit.", "visual.", "image_encoder.", "network.encoder.", "module.backbone.",
    "_orig_mod.", "module._orig_mod.", "teacher.backbone.", "visual.trunk.", "module.visual.trunk.", "vision_encoder.", "net.0.vit.",
)  # fmt: skip
FILES = {  # what is in a file whose encoder has the weights W, and words of the line that reports it
    **{f"prefix {prefix}": (under(prefix) | {"decoder.weight": torch.zeros(3)}, "1 unexpected (decoder.weight)") for prefix in PREFIXES},
    "timm's, with a head": (W | HEAD, "2 unexpected (head.bias, head.weight)"),
    "MAE: decoder, mask token, options": (
        {"model": W | {"mask_token": torch.zeros(1, 1, 64), "decoder_embed.weight": torch.zeros(3)}, "args": argparse.Namespace(lr=1)},
        "under model.: 66 tensors loaded, 1 unexpected",
    ),
    "DINO: student, teacher, optimiser, options": (
        {
            "student": under("module.backbone.", OTHER) | under("module.head.", {"mlp.0.weight": torch.zeros(3)}),
            "teacher": under("backbone.") | under("head.", {"mlp.0.weight": torch.zeros(3)}),
            "optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 1.0}]},
            "args": argparse.Namespace(data_path=Path("imagenet"), lr=1),
            "epoch": 3,
        },
        "under teacher.backbone. (the teacher, as DINO publishes it; 'student.module.backbone.' left aside)",
    ),
    "DINOv2: blocks in chunks": ({"teacher": under("backbone.", renamed((r"blocks\.(\d)", r"blocks.0.\1")))}, "66 tensors"),
    "MoCo": (under("module.base_encoder.") | under("module.momentum_encoder.", OTHER), "the base encoder, as MoCo"),
    "Lightning": ({"state_dict": under("model."), "hyper_parameters": {"lr": 1}, "callbacks": {}}, "under state_dict.model.:"),
    "timm's training: moving average, a score": (
        {"state_dict": OTHER, "state_dict_ema": W, "metric": np.float64(77), "args": argparse.Namespace()},
        "under state_dict_ema. (the moving average",
    ),
    "model and moving average": ({"model": OTHER | HEAD, "model_ema": W | HEAD}, "under model_ema. (the moving average; 'model.' left"),
    "two that are the same": (under("a.") | under("b."), "under a.:"),
    "an optimiser that goes by names": ({"model": W, "optimizer": {"exp_avg": OTHER}}, "under model.:"),
    "recomputed and compiled blocks": (renamed((r"(blocks\.\d)\.", r"\1._checkpoint_wrapped_module.")), "66 tensors loaded"),
    "trained to average tokens: fc_norm": (renamed((r"^norm\.", "fc_norm.")) | HEAD, "66 tensors loaded, 2 unexpected (head.bias"),
    "without biases of q, k, v": ({name: value for name, value in W.items() if "qkv.bias" not in name}, "61 tensors loaded, 5 missing"),
    "half precision": ({name: value.bfloat16() for name, value in W.items()}, "66 tensors loaded"),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_the_weights_are_found(name, tmp_path, tiny):
    content, said = FILES[name]
    torch.save(content, tmp_path / "w.pth")
    fresh = nano(3)
    report = encoder_weights.start_encoder(fresh, tiny(weights=str(tmp_path / "w.pth")))
    assert said in report
    for key, value in fresh.state_dict().items():
        torch.testing.assert_close(value, W[key], atol=1e-2 if "half" in name else 0, rtol=0)


CLIP = (
    (r"patch_embed\.proj", "conv1"), ("norm_pre", "ln_pre"), ("^norm", "ln_post"), (r"blocks\.", "transformer.resblocks."), ("norm", "ln_"),
    (r"mlp\.fc1", "mlp.c_fc"), (r"mlp\.fc2", "mlp.c_proj"), (r"attn\.qkv\.", "attn.in_proj_"), (r"attn\.proj", "attn.out_proj"),
    ("cls_token", "class_embedding"), ("pos_embed", "positional_embedding"),
)  # fmt: skip


@pytest.mark.parametrize("prefix", ["visual.", "", "module.visual.", "clip.visual."])
def test_the_names_of_clip_are_read(prefix, tmp_path):
    saved, fresh = nano(pre_norm=True), nano(3, pre_norm=True)
    found = renamed(*CLIP, tensors=saved.state_dict())
    found |= {"class_embedding": found["class_embedding"][0, 0], "positional_embedding": found["positional_embedding"][0]}
    words = {"transformer.resblocks.0.ln_1.weight": torch.zeros(9), "logit_scale": torch.zeros(())} if prefix else {}
    torch.save(under(prefix, found) | words, tmp_path / "w.pth")
    assert len(encoder_weights.load_encoder(fresh, tmp_path / "w.pth").unexpected) == len(words)
    torch.testing.assert_close(fresh.state_dict(), saved.state_dict(), atol=0, rtol=0)


@pytest.mark.parametrize("prefix", ["", "teacher.backbone."])
@pytest.mark.parametrize("masked", [True, False])
def test_the_names_of_dinov2s_registers_are_read(prefix, masked, tmp_path):
    options = {"reg_tokens": 4, "no_embed_class": True, "init_values": 1.0}
    saved, fresh = nano(**options), nano(3, **options)
    found = renamed(("reg_token", "register_tokens"), tensors=saved.state_dict())
    found["pos_embed"] = torch.cat([torch.ones(1, 1, 128), found["pos_embed"]], 1)
    found |= {"cls_token": found["cls_token"] - 1} | ({"mask_token": torch.zeros(1, 128)} if masked else {})
    torch.save(under(prefix, found), tmp_path / "w.pth")
    assert encoder_weights.load_encoder(fresh, tmp_path / "w.pth").missing == ()
    torch.testing.assert_close(fresh.state_dict(), saved.state_dict())


def test_safetensors_by_another_name_are_read(tmp_path):
    save_file(W, tmp_path / "pytorch_model.bin")
    assert encoder_weights.load_encoder(nano(3), tmp_path / "pytorch_model.bin") == (66, (), ())


def test_the_weights_of_a_run_begin_another(one_step, tmp_path, arguments, capsys):
    path = one_step / "checkpoints/step_000001/teacher.safetensors"
    assert main(arguments(out=str(tmp_path / "run"), weights=str(path), steps=1, warmup_steps=0)) == 0
    assert "teacher.safetensors, under encoder.: 66 tensors loaded, 1" in capsys.readouterr().out
    fresh = nano(3)
    encoder_weights.load_encoder(fresh, path)
    assert torch.equal(fresh.norm.weight, checkpoint.read_weights(path)["encoder.norm.weight"])


@pytest.mark.parametrize(
    ("options", "other", "said"),
    [
        ({}, {"pre_norm": True}, "norm_pre"),
        ({}, {"reg_tokens": 4, "no_embed_class": True}, "it has reg_token, the encoder has none"),
        ({"reg_tokens": 4, "no_embed_class": True}, {}, "it has no reg_token, the encoder has one"),
        ({}, {"init_values": 1e-5}, "blocks.0.ls1.gamma has no place"),
        ({"init_values": 1e-5}, {}, "lacks 10: blocks.0.ls1.gamma"),
        ({}, {"qk_norm": True}, "blocks.0.attn.k_norm.bias has no place"),
        ({}, {"class_token": False, "global_pool": "avg"}, "it has no cls_token"),
        ({}, {"depth": 4}, "has 4 blocks, the encoder 5"),
        ({}, {"mlp_ratio": 3}, "fc1.bias has shape (384,)"),
    ],
    ids=str,
)
def test_an_encoder_that_would_compute_something_else_is_refused(options, other, said, tmp_path):
    torch.save(nano(**other).state_dict(), tmp_path / "w.pth")
    with pytest.raises(UserError, match=re.escape(said)):
        encoder_weights.load_encoder(nano(3, **options), tmp_path / "w.pth")
