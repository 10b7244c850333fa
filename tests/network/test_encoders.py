"""Every vision transformer that timm names: it goes, tokens being timm's own, or one line says what it lacks.

Models are made small by timm's own options: 2 blocks of 48 channels, random weights.
"""

import functools

import pytest
import timm
import torch
import torch.nn.functional as F
from promises import promise
from torch.overrides import TorchFunctionMode

from dsgc.errors import UserError
from dsgc.network import encoder_weights
from dsgc.network.encoder import create_encoder
from dsgc.network.vit import Network

pytestmark = promise("Bad input", "Every network that timm names goes as an encoder, or one line says what it lacks.")

GENUINE = timm.create_model
SMALL = {"depth": 2, "embed_dim": 48, "num_heads": 3}
FAMILIES = ("vision_transformer", "deit", "eva")  # files of timm's that make encoders
SIDE = 64  # for which models are made; a multiple of no patch but 8, 16 and 32
HEADS = {"decoder_channels": 8, "decoder_dilation": 1, "projector": (8, 8, 8), "projector_gain": False, "pool": 0.0, "pool_of": "logits"}


def small(name, **options):
    """A model of timm's with few and narrow blocks; timm's options for keys that heads share go by the block."""
    if name.endswith("sapiens2"):
        options["num_kv_heads"] = 1
    return GENUINE(name, **options, **SMALL)


@pytest.fixture
def made_small(monkeypatch):
    monkeypatch.setattr("timm.create_model", small)


def network(name, seed=0):
    torch.manual_seed(seed)
    return Network(create_encoder(name, SIDE), 3, frozen_blocks=0, aux_block=1, **HEADS)


def other_values(module):
    """Weights of which none is a 0 or a 1 any more, so that a part that is not used, or not loaded, is noticed."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for value in module.parameters():
            value += 0.1 * torch.randn(value.shape, generator=generator)
    return module


def picture(net, rows=2, columns=3):
    """Of another size than the model was made for, and not square."""
    return torch.rand(2, 3, rows * net.patch_size, columns * net.patch_size, generator=torch.Generator().manual_seed(1))


class Compared(TorchFunctionMode):
    """Writes down what each attention of a pass is given."""

    def __init__(self):
        super().__init__()
        self.given = []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is F.scaled_dot_product_attention:
            assert not (kwargs or {}).keys() - {"attn_mask", "dropout_p", "is_causal"}, "another scale"
            self.given.append(args[:2])
        return function(*args, **(kwargs or {}))


@functools.cache
def kinds(module):
    """Names of a file of timm's, one for each kind of network; the others differ from it in sizes alone."""
    found = {}
    for name in timm.list_models(module=module):
        model = small(name, num_classes=0, img_size=SIDE, dynamic_img_size=True)
        sizes = model.num_prefix_tokens, model.cls_token is None, getattr(model, "no_embed_class", None), type(getattr(model, "rope", None))
        found.setdefault((str(model).partition("Conv2d")[0], str(model.blocks), str(model.norm), str(model.fc_norm), sizes), name)
    return tuple(found.values())


def goes(name):
    """Whether a small model has a class token; all else that timm's families differ in must not matter."""
    return small(name, num_classes=0, img_size=SIDE, dynamic_img_size=True).cls_token is not None


@pytest.mark.parametrize("module", FAMILIES)
def test_every_name_goes_or_is_refused_in_one_line(module, made_small):
    went = 0
    for name in timm.list_models(module=module):
        if goes(name):
            went += isinstance(create_encoder(name, SIDE), torch.nn.Module)
            continue
        with pytest.raises(UserError, match=f"^encoder '{name}': a vision transformer without a class token; .*DINOv3.*$"):
            create_encoder(name, SIDE)
    assert went >= 15


def test_of_every_other_family_a_line_says_what_it_lacks():
    lines, end = {}, "; a vision transformer with a class token and images of any size is needed: .*$"
    for module in sorted({*timm.list_modules()} - {*FAMILIES, "encoder"}):  # the last is our own
        with pytest.raises(UserError, match=f"^encoder .*{end}") as caught:
            create_encoder(timm.list_models(module=module)[0], 224)
        lines[module] = str(caught.value)
    assert "takes images of one size" in lines["beit"] and "takes images of one size" in lines["cait"]
    assert "another kind of network, of timm's convnext" in lines["convnext"] and "timm's SwinTransformer" in lines["swin_transformer"]


@pytest.mark.parametrize("module", FAMILIES)
@torch.no_grad()
def test_tokens_are_timms_own(module, made_small):
    """In training as in evaluation, so that a run that was stopped goes on with the same tokens."""
    for name in filter(goes, kinds(module)):
        net = other_values(network(name)).train()
        seen, prefix = picture(net), net.encoder.num_prefix_tokens
        normal = (seen - net.mean) / net.std
        last = net.encoder.forward_features(normal)
        middle = net.encoder.forward_intermediates(normal, indices=[0], norm=False, intermediates_only=True)[0]
        output = net(seen)
        assert output.tokens.shape == (2, 48, 2, 3), name
        torch.testing.assert_close(output.tokens.flatten(2).mT, last[:, prefix:], atol=1e-5, rtol=0, msg=name)
        torch.testing.assert_close(output.class_token, last[:, 0], atol=1e-5, rtol=0, msg=name)
        assert torch.equal(output.middle, middle), name
        assert all(torch.equal(*pair) for pair in zip(output, net(seen), strict=True)), f"{name}: drawn anew"


@pytest.mark.parametrize("module", FAMILIES)
@torch.no_grad()
def test_queries_and_keys_are_those_that_attention_compared(module, made_small):
    for name in filter(goes, kinds(module)):
        net = other_values(network(name))
        seen, patches = picture(net), slice(net.encoder.num_prefix_tokens, None)
        if not hasattr(getattr(net.encoder.blocks[1], "attn", net.encoder.blocks[1]), "num_heads"):
            with pytest.raises(UserError, match="attend several times side by side"):
                net.with_attention(seen, [2])
            continue
        with Compared() as compared:
            plain = net(seen)
        output, products = net.with_attention(seen, [2])
        queries, keys = compared.given[1]
        torch.testing.assert_close(products, (queries @ keys.mT)[..., patches, patches], atol=1e-5, rtol=1e-5, msg=name)
        assert products.shape == (2, 3, 6, 6) and all(torch.equal(*pair) for pair in zip(output, plain, strict=True)), name


@pytest.mark.parametrize("module", FAMILIES)
def test_a_gradient_reaches_every_weight_of_the_encoder(module, made_small):
    for name in filter(goes, kinds(module)):
        net = network(name)
        output = net(picture(net))
        (output.tokens.square().sum() + output.class_token.square().sum()).backward()
        missed = [key for key, value in net.encoder.named_parameters() if value.grad is None]
        assert not missed, f"{name}: {missed}"


@pytest.mark.parametrize("module", FAMILIES)
@torch.no_grad()
def test_weights_that_were_saved_make_the_same_network(module, made_small, tmp_path):
    """From a checkpoint, and from a file with timm's names."""
    for name in filter(goes, kinds(module)):
        net, fresh, read = other_values(network(name)), network(name, 1), network(name, 2)
        fresh.load_state_dict(net.state_dict())
        torch.save(net.encoder.state_dict(), tmp_path / "w.pth")
        assert encoder_weights.load_encoder(read.encoder, tmp_path / "w.pth").missing == (), name
        tokens = net(picture(net, 4, 3)).tokens
        assert torch.equal(fresh(picture(net, 4, 3)).tokens, tokens), name
        assert torch.equal(read(picture(net, 4, 3)).tokens, tokens), name


@torch.no_grad()
def test_tokens_are_normed_where_timm_norms_their_mean(made_small, monkeypatch):
    torch.manual_seed(0)
    timms = other_values(small("eva02_tiny_patch14_224", num_classes=0, img_size=SIDE, dynamic_img_size=True)).eval()
    monkeypatch.setattr("timm.create_model", lambda *_, **__: timms)
    images = torch.rand(1, 3, 28, 28)
    expected = timms.fc_norm(timms.forward_features(images))
    assert not torch.allclose(expected, timms.forward_features(images))
    torch.testing.assert_close(create_encoder("eva02_tiny_patch14_224", SIDE).forward_features(images), expected)


def as_meta_has_it(state, bias):
    """DINOv3's tensors by the names of its publisher."""
    found = {"storage_tokens": state["reg_token"], "mask_token": torch.zeros(1, 48), "rope_embed.periods": torch.ones(4)}
    for name, value in state.items():
        if name != "reg_token":
            found[name.replace("gamma_1", "ls1.gamma").replace("gamma_2", "ls2.gamma")] = value
    return found | {f"blocks.{i}.attn.qkv.bias": torch.full((3 * 48,), bias) for i in range(2)}


def test_dinov3_is_read_as_its_publisher_has_it(made_small, tmp_path, capsys):
    """But not without its biases, which timm would leave aside without a word."""
    name = "vit_small_patch16_dinov3"
    state = other_values(create_encoder(name, SIDE)).state_dict()
    fresh = create_encoder(name, SIDE)
    torch.save(as_meta_has_it(state, 0.0), tmp_path / "w.pth")
    encoder_weights.load_encoder(fresh, tmp_path / "w.pth")
    torch.testing.assert_close(fresh.state_dict(), state, atol=0, rtol=0)
    torch.save(as_meta_has_it(state, 0.5), tmp_path / "biased.pth")
    with pytest.raises(UserError, match="qkv.bias has no place in the encoder.*_qkvb"):
        encoder_weights.load_encoder(fresh, tmp_path / "biased.pth")
    with_bias = create_encoder(f"{name}_qkvb", SIDE)
    encoder_weights.load_encoder(with_bias, tmp_path / "biased.pth")
    assert (with_bias.blocks[0].attn.q_bias == 0.5).all()


NORMALISED = ("vit_small_patch16_dinov3", "eva02_tiny_patch14_224", "vit_pe_spatial_tiny_patch16_512", "vit_small_patch16_224")


@pytest.mark.parametrize("name", NORMALISED)
def test_pixels_are_normalised_as_the_weights_of_each_name_were_made(name, made_small):
    config = GENUINE(name, num_classes=0).pretrained_cfg
    net = network(name)
    assert net.mean.flatten().tolist() == pytest.approx(config["mean"]) and net.std.flatten().tolist() == pytest.approx(config["std"])
