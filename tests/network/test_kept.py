"""Tokens of frozen blocks that are kept: the same tokens, graph and run as without, and a pass through them once for each crop."""

import functools
import itertools
from collections import namedtuple

import pytest
import timm
import torch
from apart import outcome
from deaths import Killed, dying

import dsgc.training.learner
import dsgc.training.loop
from dsgc.data.loading import Crops, step_keys
from dsgc.data.split import open_split
from dsgc.errors import UserError
from dsgc.network.encoder import create_encoder
from dsgc.network.kept import Kept
from dsgc.network.vit import Network
from dsgc.training.loop import resume, train, train_until

RUN = {"frozen_blocks": 3, "frozen_views": 1, "aux_block": 4, "steps": 8, "checkpoint_every": 1, "keep_checkpoints": 99}  # 3 steps an epoch
HEADS = {"decoder_channels": 8, "decoder_dilation": 1, "projector": (8, 8, 8), "projector_gain": False, "pool": 0.0, "pool_of": "logits"}


def crops(shapes_folder, views, **changes):
    options = {"size": 32, "scale": (0.3, 1.0), "ratio": (0.75, 1.33), "flip": True, "seed": 0}
    return Crops(open_split(str(shapes_folder), "train"), **options | changes, views=views)


@pytest.mark.parametrize("views", [1, 2])
def test_views_of_a_picture_take_turns_from_epoch_to_epoch(shapes_folder, views):
    dataset = crops(shapes_folder, views, second=(0.1, 0.3))
    keys = [key for step in step_keys(12, 4, 0, 0, 15) for key in step]  # five epochs of 12 pictures
    seen = {}
    for index, draw in keys:
        seen.setdefault(index, []).append(dataset[index, draw])
    for items in seen.values():
        for (number, one), (other, two) in itertools.combinations(enumerate(items), 2):
            same = (number - other) % views == 0
            assert torch.equal(one.images, two.images) == torch.equal(one.second, two.second) == same
        assert len({item.seeds for item in items}) == 5, "what a step draws of an image is drawn anew"


def passes_of(monkeypatch):
    """How many images the first block of any network is given at a time, filled while training."""
    counted, genuine = [], dsgc.training.learner.build_network

    def built(config, classes):
        network, report = genuine(config, classes)
        network.encoder.blocks[0].register_forward_hook(lambda module, given, _: counted.append(len(given[0])))
        return network, report

    monkeypatch.setattr(dsgc.training.learner, "build_network", built)
    return counted


def test_a_crop_passes_the_frozen_blocks_once(tiny, tmp_path, monkeypatch):
    counted = passes_of(monkeypatch)
    train_until(tiny(out=str(tmp_path / "run"), **RUN | {"steps": 9}), 8)
    assert counted[1:] == [1] * 24  # 12 pictures, for the teacher mirrored; and one more, of which the rotations would be taken


@pytest.fixture(scope="module")
def kept_run(tiny, tmp_path_factory):
    return train(tiny(out=str(tmp_path_factory.mktemp("kept") / "run"), **RUN))


def weights(run):
    return torch.cat([value.flatten() for value in dsgc.runs.checkpoint.load(run).weights["teacher"].values()])


def test_a_run_is_the_one_that_keeps_nothing(tiny, kept_run, tmp_path, monkeypatch):
    """To the bit where each crop passes alone; nearly, where a whole batch passes at once."""
    monkeypatch.setattr(dsgc.training.learner, "Kept", lambda *given, **named: Kept(*given, **named | {"images": 0}))
    assert outcome(train(tiny(out=str(tmp_path / "none"), **RUN))) == outcome(kept_run)
    monkeypatch.setattr(dsgc.training.loop, "keep_frozen", lambda *_: None)
    plain = train(tiny(out=str(tmp_path / "plain"), **RUN))
    assert (weights(plain) - weights(kept_run)).norm() < 1e-4 * weights(plain).norm()


def test_a_stopped_run_goes_on_to_the_same_bits(tiny, kept_run, tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(Killed):
        dying(patch, dsgc.training.loop, "advance", call=5)
        train(tiny(out=str(tmp_path / "run"), **RUN))
    assert outcome(resume(tmp_path / "run")) == outcome(kept_run)
    assert not [path for path in (tmp_path / "run").iterdir() if "tmp" in path.name]


def test_a_disk_that_fills_up_costs_time_alone(tiny, kept_run, tmp_path, monkeypatch):
    genuine, written = Kept._write, []

    def full(self, name, tokens):
        written.append(name)
        if len(written) > 5:
            self.file = namedtuple("Full", ["seek", "read", "write"])(self.file.seek, self.file.read, _full)
        genuine(self, name, tokens)

    def _full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Kept, "_write", full)
    assert outcome(train(tiny(out=str(tmp_path / "run"), **RUN))) == outcome(kept_run)


def test_a_disk_that_is_too_small_is_one_line(tiny, tmp_path, monkeypatch):
    Usage = namedtuple("Usage", ["total", "used", "free"])
    monkeypatch.setattr("shutil.disk_usage", lambda _: Usage(10**6, 10**6, 1000))
    with pytest.raises(UserError, match=r"^frozen_views: tokens of 24 crops take 0\.\d GiB, and .* take fewer views, or 0$"):
        train(tiny(out=str(tmp_path / "run"), **RUN))


def test_views_without_frozen_blocks_are_refused(tiny):
    with pytest.raises(UserError, match="^frozen_views 2: no block is frozen"):
        tiny(frozen_views=2)


NAMES = ("vit_tiny_patch16_224", "vit_small_patch16_dinov3", "vit_small_patch16_rope_mixed_224", "eva02_tiny_patch14_224")


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize(("frozen", "middle"), [(2, 3), (2, 2), (3, 2), (3, 1), (1, 3)])
@pytest.mark.parametrize("name", NAMES)
def test_outputs_and_gradients_are_those_of_a_pass(name, frozen, middle, recompute, monkeypatch, tmp_path):
    monkeypatch.setattr("timm.create_model", functools.partial(timm.create_model, depth=3, embed_dim=48, num_heads=3))
    torch.manual_seed(0)
    side = 42 if "14" in name else 48
    net = Network(create_encoder(name, side), 3, frozen_blocks=frozen, aux_block=middle, **HEADS)
    net.encoder.set_grad_checkpointing(recompute)
    images = torch.randint(0, 256, (2, 3, side, side)).float() / 255

    def found():
        net.zero_grad()
        output, blocks = net.with_blocks(images, [3])
        sum(value.square().sum() for value in (*output, *blocks.values())).backward()
        return [*output, *blocks.values(), *(value.grad for value in net.parameters() if value.grad is not None)]

    plain = found()
    net.kept = Kept(tmp_path, net.encoder, images=4, side=side, frozen=frozen, middle=middle)
    new, again = found(), found()
    assert len(net.kept.places) == 2 and len(plain) == len(new)
    for one, two, three in zip(plain, new, again, strict=True):
        assert torch.equal(two, three)
        assert (one - two).abs().max() <= 1e-5 * max(1, one.abs().max())


def test_what_is_no_crop_of_the_data_passes_as_usual(monkeypatch, tmp_path):
    """Other sizes, changed colours, evaluation; and queries and keys of a frozen block."""
    monkeypatch.setattr("timm.create_model", functools.partial(timm.create_model, depth=3, embed_dim=48, num_heads=3))
    net = Network(create_encoder(NAMES[1], 48), 3, frozen_blocks=2, aux_block=1, **HEADS)
    images = torch.randint(0, 256, (2, 3, 48, 48)).float() / 255
    plain = net.with_attention(images, [2])[1]
    net.kept = Kept(tmp_path, net.encoder, images=4, side=48, frozen=2, middle=1)
    for changed in (images[..., :32, :32], images * 0.999):
        net(changed)
    net.eval()(images)
    assert torch.equal(net.train().with_attention(images, [2])[1], plain)
    assert not net.kept.places
    torch.testing.assert_close(net.with_attention(images, [3])[1], Network.with_attention(net.eval(), images, [3])[1])
    assert len(net.kept.places) == 2
