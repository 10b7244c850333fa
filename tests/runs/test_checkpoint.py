"""Weights and checkpoints: what is loaded is reported, what cannot be loaded is one line, what is written is whole."""

import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from dsgc.data import voc
from dsgc.errors import UserError
from dsgc.network import encoder_weights
from dsgc.network.build import build_network
from dsgc.network.encoder import create_encoder
from dsgc.runs import checkpoint
from dsgc.runs.restore import load_networks

NANO = "dsgc_vit_nano_patch8"


def encoder(size=32, seed=0, name=NANO):
    torch.manual_seed(seed)
    return create_encoder(name, size)


def written(path, state):
    save_file(state, path) if path.suffix == ".safetensors" else torch.save(state, path)
    return path


def same(one, two):
    return one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)


@pytest.mark.parametrize("name", ["a.safetensors", "a.pth", "a.pt"])
def test_weights_come_back_as_they_were_saved(tmp_path, name):
    saved, fresh = encoder(seed=1), encoder(seed=2)
    report = encoder_weights.load_encoder(fresh, written(tmp_path / name, saved.state_dict()))
    assert same(fresh.state_dict(), saved.state_dict())
    assert report == (len(saved.state_dict()), (), ())


@pytest.mark.parametrize("wrapper", ["model", "state_dict", "teacher"])
def test_weights_inside_a_training_checkpoint_are_found(tmp_path, wrapper):
    saved, fresh = encoder(seed=1), encoder(seed=2)
    path = written(tmp_path / "a.pth", {wrapper: saved.state_dict(), "epoch": 3})
    assert encoder_weights.load_encoder(fresh, path).missing == ()
    assert same(fresh.state_dict(), saved.state_dict())


def test_half_precision_weights_are_widened(tmp_path):
    saved, fresh = encoder(seed=1), encoder(seed=2)
    encoder_weights.load_encoder(
        fresh, written(tmp_path / "a.safetensors", {k: v.half() for k, v in saved.state_dict().items()})
    )
    assert all(value.dtype == torch.float32 for value in fresh.state_dict().values())
    torch.testing.assert_close(fresh.state_dict(), saved.state_dict(), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", [NANO, "vit_tiny_patch16_224"])
def test_the_position_embedding_is_resized_to_another_grid(tmp_path, name):
    """A linear ramp over the patches stays one, the class token's embedding is not touched."""
    small, large = (encoder(size, name=name) for size in (64, 128))
    patch = small.patch_embed.patch_size[0]
    grids = [size // patch for size in (64, 128)]
    state = small.state_dict()
    ramp = torch.linspace(-1, 1, grids[0])[None, :, None].expand(grids[0], -1, small.embed_dim)
    state["pos_embed"] = torch.cat([torch.full((1, 1, small.embed_dim), 9.0), ramp.reshape(1, -1, small.embed_dim)], 1)
    report = encoder_weights.load_encoder(large, written(tmp_path / "a.safetensors", state))
    assert report.missing == report.unexpected == ()
    assert large.pos_embed.shape == (1, 1 + grids[1] ** 2, large.embed_dim)
    assert (large.pos_embed[0, 0] == 9).all()
    resized = large.pos_embed[0, 1:].view(grids[1], grids[1], -1)
    assert torch.allclose(resized, resized[:1], atol=1e-4), "rows alike"
    assert (resized[0].diff(dim=0) > 0).all(), "rising from left to right"


def test_missing_and_unexpected_keys_are_reported(tmp_path):
    """Vision transformers are built with and without biases of queries, keys and values; without is as good as 0."""
    state = encoder(seed=1).state_dict()
    gone = tuple(f"blocks.{block}.attn.qkv.bias" for block in range(5))
    for name in gone:
        del state[name]
    state["head.weight"] = torch.zeros(3, 128)
    fresh = encoder(seed=2)
    fresh.blocks[2].attn.qkv.bias.data.fill_(3)
    report = encoder_weights.load_encoder(fresh, written(tmp_path / "a.safetensors", state))
    assert report.missing == gone
    assert report.unexpected == ("head.weight",)
    assert report.loaded == len(state) - 1
    assert not fresh.state_dict()["blocks.2.attn.qkv.bias"].any()
    assert all(word in str(report) for word in ("5 missing", "blocks.0.attn.qkv.bias", "1 unexpected", "head.weight"))


WRONG = {
    "norm.weight": torch.zeros(64),
    "blocks.0.attn.qkv.weight": torch.zeros(3, 3),
    "pos_embed": torch.zeros(1, 17, 64),
    "patch_embed.proj.weight": torch.zeros(64, 3, 8, 8),
    "patch_embed.proj.bias": torch.zeros(64),
}


@pytest.mark.parametrize("key", WRONG)
def test_a_tensor_of_another_shape_is_refused_by_name_and_nothing_is_loaded(tmp_path, key):
    fresh = encoder(seed=2)
    before = {name: value.clone() for name, value in fresh.state_dict().items()}
    path = written(tmp_path / "a.safetensors", encoder(seed=1).state_dict() | {key: WRONG[key]})
    with pytest.raises(UserError, match=rf"a\.safetensors.*{key}.*shape"):
        encoder_weights.load_encoder(fresh, path)
    assert same(fresh.state_dict(), before)


@pytest.mark.parametrize("shape", [(128, 100), (7, 128), (7,)], ids=str)
def test_weights_that_timm_cannot_convert_are_one_line(tmp_path, shape):
    path = written(tmp_path / "a.pth", encoder().state_dict() | {"patch_embed.proj.weight": torch.zeros(shape)})
    with pytest.raises(UserError, match=r"a\.pth") as caught:
        encoder_weights.load_encoder(encoder(), path)
    assert "\n" not in str(caught.value)


def test_weights_of_something_else_are_refused(tmp_path):
    with pytest.raises(UserError, match="none of its 1 tensors"):
        encoder_weights.load_encoder(encoder(), written(tmp_path / "a.pth", {"conv1.weight": torch.zeros(3)}))


@pytest.mark.parametrize("name", ["a.safetensors", "a.pth"])
@pytest.mark.parametrize("share", [0, 0.0001, 0.3, 0.999])
def test_a_truncated_file_is_refused(tmp_path, name, share):
    path = written(tmp_path / name, encoder().state_dict())
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(UserError, match=name) as caught:
        checkpoint.read_weights(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content", [b"junk", b"\x80\x02.", b"\x80\x02N.", pickle.dumps([1, 2]), b"PK\x03\x04"], ids=range(5)
)
@pytest.mark.parametrize("name", ["a.safetensors", "a.pth"])
def test_a_file_that_holds_no_weights_is_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=name):
        checkpoint.read_weights(tmp_path / name)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(UserError, match="nowhere.pth: no such weights file"):
        checkpoint.read_weights(tmp_path / "nowhere.pth")


@pytest.fixture(scope="module")
def networks(tiny):
    torch.manual_seed(0)
    return {name: build_network(tiny(), 6)[0] for name in ("teacher", "student")}


DATA = voc.Folder(Path("data"), tuple("abcdef"), ("one", "two"), "train.txt")
STATE = {"memory.centre": torch.arange(3.0), "random.torch": torch.arange(5, dtype=torch.uint8)}


def save(run, networks, config, step):
    return checkpoint.save(run / "checkpoints", networks, STATE, config, DATA, step)


def damage(folder, name="teacher.safetensors"):
    """Cut the end off a file."""
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[:-100])


def test_a_checkpoint_comes_back_as_it_was_saved(tmp_path, networks, tiny):
    config = tiny(refine_dilations=(1, 3), out=str(tmp_path))
    folder = save(tmp_path, networks, config, 12)
    assert sorted(path.name for path in folder.iterdir()) == [
        "about.json",
        "state.safetensors",
        "student.safetensors",
        "teacher.safetensors",
    ]
    saved = checkpoint.load(tmp_path)
    assert (saved.step, saved.classes, saved.config) == (12, tuple("abcdef"), config)
    assert saved.images == checkpoint.images_of(DATA) != checkpoint.images_of(DATA._replace(ids=("one", "too")))
    assert same(saved.state, STATE) and all(saved.state[name].dtype == value.dtype for name, value in STATE.items())
    restored, _ = load_networks(tmp_path)
    for name, network in networks.items():
        assert same(restored[name].state_dict(), network.state_dict()) and not restored[name].training


def test_the_newest_checkpoint_is_taken_or_the_one_given(tmp_path, networks, tiny):
    config = tiny(keep_checkpoints=4)
    folders = [save(tmp_path, networks, config, step) for step in (20, 3, 1_000_000, 999_999)]
    assert checkpoint.load(tmp_path).step == 1_000_000
    assert checkpoint.load(folders[1]).step == 3


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_only_the_newest_checkpoints_are_kept(tmp_path, networks, tiny, keep):
    for step in (9, 10, 100, 1_000_000):
        save(tmp_path, {"teacher": networks["teacher"]}, tiny(keep_checkpoints=keep), step)
    kept = [path.name for path in checkpoint.checkpoints(tmp_path)]
    assert kept == ["step_000009", "step_000010", "step_000100", "step_1000000"][-keep:]
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == sorted(kept)


def test_folders_of_other_names_are_no_checkpoints(tmp_path, networks, tiny):
    first = save(tmp_path, networks, tiny(), 1)
    (tmp_path / "checkpoints/step_of_mine").mkdir()
    assert checkpoint.checkpoints(tmp_path) == [first] and checkpoint.load(tmp_path).step == 1


@pytest.mark.parametrize("name", ["about.json", "teacher.safetensors", "student.safetensors", "state.safetensors"])
def test_instead_of_a_damaged_checkpoint_the_one_before_it_is_used_and_that_is_said(tmp_path, networks, tiny, name):
    folders, said = [save(tmp_path, networks, tiny(), step) for step in (1, 2)], []
    damage(folders[1], name)
    assert checkpoint.load(tmp_path, said.append).step == 1
    (line,) = said
    assert str(folders[1] / name) in line and line.endswith("; the checkpoint before it is used") and "\n" not in line


def test_a_changed_bit_is_noticed(tmp_path, networks, tiny):
    """One in the middle of the weights, where safetensors itself reads on without a word."""
    path = save(tmp_path, networks, tiny(), 1) / "teacher.safetensors"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert len(checkpoint.read_weights(path)) == len(networks["teacher"].state_dict())
    with pytest.raises(UserError, match=r"teacher\.safetensors: not as it was written \(damaged\)"):
        checkpoint.load(tmp_path)


def test_a_missing_file_of_a_checkpoint_is_noticed(tmp_path, networks, tiny):
    (save(tmp_path, networks, tiny(), 1) / "student.safetensors").unlink()
    with pytest.raises(UserError, match=r"student\.safetensors: not as it was written \(missing\)"):
        checkpoint.load(tmp_path)


def test_where_no_checkpoint_is_sound_one_line_says_so(tmp_path, networks, tiny):
    said = []
    for step in (1, 2):
        damage(save(tmp_path, networks, tiny(), step))
    with pytest.raises(UserError, match=r"step_000001/teacher\.safetensors.*no sound checkpoint") as caught:
        checkpoint.load(tmp_path, said.append)
    assert "\n" not in str(caught.value) and len(said) == 1 and "step_000002/teacher.safetensors" in said[0]


def test_a_checkpoint_can_be_written_again(tmp_path, networks, tiny):
    first, second = (save(tmp_path, networks, tiny(seed=seed), 5) for seed in (1, 2))
    assert first == second and checkpoint.load(tmp_path).config.seed == 2


def test_only_complete_checkpoints_are_seen(tmp_path, networks, tiny, monkeypatch):
    """The write breaks off after the first network: the older checkpoint stays the newest, nothing else is left, the next try succeeds."""
    save(tmp_path, networks, tiny(), 1)
    calls = []

    def break_off(state, path):
        calls.append(path)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        save_file(state, path)

    monkeypatch.setattr(checkpoint, "save_file", break_off)
    with pytest.raises(UserError, match="step 2 cannot be written .*No space left.*; those before it are kept: make room and go on"):
        save(tmp_path, networks, tiny(), 2)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step_000001"]
    assert checkpoint.load(tmp_path).step == 1
    save(tmp_path, networks, tiny(), 2)
    assert checkpoint.load(tmp_path).step == 2


def test_a_folder_without_checkpoint_is_refused(tmp_path):
    with pytest.raises(UserError, match="no checkpoint here"):
        checkpoint.load(tmp_path)


@pytest.mark.parametrize("text", [None, "", "{}", '{"step": 1, "classes": [], "config": {"stepz": 1}}'])
def test_a_damaged_description_is_refused(tmp_path, networks, tiny, text):
    about = save(tmp_path, networks, tiny(), 1) / "about.json"
    about.unlink() if text is None else about.write_text(text)
    with pytest.raises(UserError, match="about.json"):
        checkpoint.load(tmp_path)


def test_weights_that_do_not_fit_the_description_are_refused(tmp_path, networks, tiny):
    about = save(tmp_path, networks, tiny(), 1) / "about.json"
    content = json.loads(about.read_text())
    content["config"]["decoder_channels"] = 24
    about.write_text(json.dumps(content))
    with pytest.raises(UserError, match="teacher|student") as caught:
        load_networks(tmp_path)
    assert "\n" not in str(caught.value)


def test_the_shipped_weights_fit_the_shapes_encoder_and_are_small():
    path = encoder_weights.shipped_weights()
    report = encoder_weights.load_encoder(encoder(96), path)
    assert report.missing == report.unexpected == () and report.loaded > 50
    assert path.stat().st_size <= 5e6
