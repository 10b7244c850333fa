"""The network with encoders of several kinds: shapes, which token comes from where, heads, image sizes."""

import functools
import logging

import pytest
import timm
import torch
from huggingface_hub.errors import LocalEntryNotFoundError

from dsgc.errors import UserError
from dsgc.network.encoder import create_encoder
from dsgc.network.vit import Decoder, Network, Projector

# name: (image size, patch, prefix tokens)
ENCODERS = {
    "dsgc_vit_nano_patch8": (32, 8, 1),
    "vit_tiny_patch16_224": (64, 16, 1),
    "vit_small_patch14_dinov2": (56, 14, 1),
    "vit_small_patch14_reg4_dinov2": (28, 14, 5),
    "deit_tiny_patch16_224": (32, 16, 1),
    "deit_tiny_distilled_patch16_224": (32, 16, 2),
    "vit_xsmall_patch16_clip_224": (32, 16, 1),
    "deit3_small_patch16_224": (32, 16, 1),
}
CLASSES = 3


@functools.cache
def network(name="dsgc_vit_nano_patch8", pool=0.0, aux_block=2, pool_of="logits"):
    torch.manual_seed(0)
    encoder = create_encoder(name, ENCODERS[name][0])
    heads = {"decoder_channels": 16, "decoder_dilation": 2, "projector": (32, 16, 24), "projector_gain": False}
    return Network(encoder, CLASSES, frozen_blocks=0, aux_block=aux_block, pool=pool, pool_of=pool_of, **heads).eval()


def images(height, width, batch=2):
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", ENCODERS)
@torch.no_grad()
def test_outputs_have_the_promised_shapes(name):
    size, patch, _ = ENCODERS[name]
    net = network(name)
    output, dim, grid = net(images(size, size)), net.encoder.embed_dim, (size // patch, size // patch)
    assert net.patch_size == patch
    assert output.tokens.shape == output.middle.shape == (2, dim, *grid)
    assert output.class_logits.shape == output.patch_logits.shape == output.aux_logits.shape == (2, CLASSES)
    assert net.decode(output.tokens).shape == (2, 1 + CLASSES, *grid)
    assert net.project(output.tokens).shape == (2, 24, *grid)


@pytest.mark.parametrize("name", ENCODERS)
@torch.no_grad()
def test_images_of_any_multiple_of_the_patch_go_through(name):
    _, patch, _ = ENCODERS[name]
    output = network(name)(images(3 * patch, 5 * patch, batch=1))
    assert output.tokens.shape[2:] == output.middle.shape[2:] == (3, 5)
    assert all(value.isfinite().all() for value in output)


@pytest.mark.parametrize("name", ENCODERS)
@torch.no_grad()
def test_tokens_stand_where_their_patch_stands(name):
    """Tokens are the patches in row-major order; class, register and distillation tokens are not among them."""
    size, patch, prefix = ENCODERS[name]
    net, picture = network(name), images(2 * patch, 3 * patch, batch=1)
    last = net.encoder.forward_features((picture - net.mean) / net.std)  # (1, prefix + 6, D)
    tokens = net(picture).tokens
    assert last.shape[1] == prefix + 6
    for i in range(6):
        torch.testing.assert_close(tokens[0, :, i // 3, i % 3], last[0, prefix + i])


@pytest.mark.parametrize("block", [1, 3, 5])
@torch.no_grad()
def test_middle_tokens_are_the_output_of_block_m(block):
    net, seen = network(aux_block=block), []
    hook = net.encoder.blocks[block - 1].register_forward_hook(lambda module, given, made: seen.append(made))
    output = net(images(32, 32))
    hook.remove()
    expected = seen[0][:, 1:].transpose(1, 2).reshape(output.middle.shape)
    assert torch.equal(output.middle, expected)


@torch.no_grad()
def test_one_forward_runs_the_encoder_once():
    net, calls = network(), []
    hook = net.encoder.blocks[0].register_forward_hook(lambda *_: calls.append(1))
    net(images(32, 32))
    hook.remove()
    assert len(calls) == 1


@pytest.mark.parametrize("name", ["dsgc_vit_nano_patch8", "vit_small_patch14_dinov2", "vit_tiny_patch16_224"])
@torch.no_grad()
def test_pixels_are_normalised_as_the_encoder_expects(name):
    net, seen = network(name), []
    config = net.encoder.pretrained_cfg
    hook = net.encoder.patch_embed.register_forward_hook(lambda module, given, made: seen.append(given[0]))
    picture = images(*(2 * [ENCODERS[name][0]]))
    net(picture)
    hook.remove()
    mean, std = (torch.tensor(config[key])[:, None, None] for key in ("mean", "std"))
    torch.testing.assert_close(seen[0], (picture - mean) / std)


def test_encoders_that_were_normalised_differently_differ_here_too():
    assert network("vit_small_patch14_dinov2").mean.flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])
    assert network("vit_tiny_patch16_224").mean.flatten().tolist() == pytest.approx([0.5] * 3)


@pytest.mark.parametrize(("pool", "kept"), [(0.0, 1), (0.05, 1), (0.25, 4), (0.5, 8), (1.0, 16)])
@torch.no_grad()
def test_tag_logits_are_the_mean_of_the_highest_token_logits(pool, kept):
    net = network(pool=pool)
    output = net(images(32, 32))
    for logits, tokens, weight in (
        (output.patch_logits, output.tokens, net.patch_classifier.weight),
        (output.aux_logits, output.middle, net.aux_classifier.weight),
    ):
        each = torch.stack([(tokens * row[:, None, None]).sum(1).flatten(1) for row in weight], 1)  # (B, C, 16)
        highest = each.sort(descending=True).values[..., :kept]
        torch.testing.assert_close(logits, highest.mean(2), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("pool", "kept"), [(0.0, 1), (0.25, 4), (1.0, 16)])
@torch.no_grad()
def test_tokens_can_be_pooled_channel_by_channel_before_they_are_classified(pool, kept):
    """As ToCo has it at the maximum: at most one place for each channel, not one for each class."""
    net = network(pool=pool, pool_of="tokens")
    output = net(images(32, 32))
    for logits, tokens, weight in (
        (output.patch_logits, output.tokens, net.patch_classifier.weight),
        (output.aux_logits, output.middle, net.aux_classifier.weight),
    ):
        pooled = torch.tensor([[sorted(channel.flatten().tolist())[-kept:] for channel in one] for one in tokens]).mean(-1)  # (B, D)
        torch.testing.assert_close(logits, torch.stack([(weight * one).sum(1) for one in pooled]), rtol=1e-4, atol=1e-4)
    if pool == 1:
        torch.testing.assert_close(output.patch_logits, network(pool=1.0)(images(32, 32)).patch_logits, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_class_logits_are_read_off_the_class_token():
    net, picture = network(), images(32, 32)
    token = net.encoder.forward_features((picture - net.mean) / net.std)[:, 0]
    torch.testing.assert_close(net(picture).class_logits, net.class_classifier(token))


@torch.no_grad()
def test_projections_are_cosines():
    """Unit bottleneck times unit rows: outputs in [-1, 1], the scale of the tokens' last layer without influence."""
    torch.manual_seed(0)
    projector = Projector(8, 32, 16, 24, learnt_gain=False)
    tokens = 50 * torch.randn(2, 8, 5, 4)
    before = projector(tokens)
    assert before.shape == (2, 24, 5, 4) and before.abs().max() <= 1 + 1e-5
    projector.direction.mul_(7)
    projector.perceptron[-1].weight.mul_(3)
    projector.perceptron[-1].bias.mul_(3)
    torch.testing.assert_close(projector(tokens), before)


def test_a_learnt_gain_begins_at_1_and_takes_a_gradient():
    torch.manual_seed(0)
    projector, tokens = Projector(8, 32, 16, 24, learnt_gain=True), torch.randn(2, 8, 5, 4)
    plain = Projector(8, 32, 16, 24, learnt_gain=False)
    plain.load_state_dict({name: value for name, value in projector.state_dict().items() if name != "gain"})
    torch.testing.assert_close(projector(tokens), plain(tokens))
    projector(tokens).square().sum().backward()
    assert (projector.gain.grad != 0).all() and set(projector.state_dict()) - set(plain.state_dict()) == {"gain"}
    with torch.no_grad():
        projector.gain.mul_(3)
        torch.testing.assert_close(projector(tokens), 3 * plain(tokens))


@torch.no_grad()
def test_each_token_is_projected_by_itself():
    projector = Projector(8, 32, 16, 24, learnt_gain=False)
    tokens = torch.randn(1, 8, 2, 3)
    alone = torch.cat([projector(tokens[:, :, y : y + 1, x : x + 1]).flatten(2) for y in range(2) for x in range(3)], 2)
    torch.testing.assert_close(projector(tokens).flatten(2), alone)


@pytest.mark.parametrize("dilation", [1, 2, 5])
def test_the_decoder_keeps_the_grid_and_sees_as_far_as_its_dilation(dilation):
    torch.manual_seed(0)
    tokens = torch.randn(1, 8, 23, 23, requires_grad=True)
    logits = Decoder(8, 16, dilation, 5)(tokens)
    assert logits.shape == (1, 5, 23, 23)
    logits[0, :, 11, 11].square().sum().backward()
    rows = tokens.grad.abs().sum((0, 1, 3)).nonzero().flatten()
    assert (rows.min(), rows.max()) == (11 - 2 * dilation, 11 + 2 * dilation)


NOT_PLAIN = {
    "nonsense": "Unknown model",
    "vit_tiny_patch16_224.no_such_tag": "try vit_tiny_patch16_224.augreg",
    "resnet18": "another kind of network",
    "convnext_atto": "another kind of network",
    "beit_base_patch16_224": "timm's Beit takes images of one size",
    "cait_xxs24_224": "timm's Cait takes images of one size",
    "swin_tiny_patch4_window7_224": "another kind of network",
    "samvit_base_patch16": "another kind of network",
    "vit_relpos_base_patch16_224": "another kind of network",
    "vit_base_patch16_rope_reg1_gap_256": "without a class token",
    "naflexvit_base_patch16_gap": "another kind of network",
    "vit_base_patch16_siglip_224": "without a class token",
    "vit_base_patch16_gap_224": "without a class token",
    "vit_base_patch16_reg4_gap_256": "without a class token",
    "vit_small_r26_s32_224": "a hybrid",
    "vit_base_resnet26d_224": "a hybrid",
    "vit_base_r50_s16_224": "a hybrid",
}


@pytest.mark.parametrize("name", NOT_PLAIN)
def test_what_is_no_plain_vision_transformer_with_a_class_token_is_refused(name):
    """Before anything is fetched, too."""
    with pytest.raises(UserError, match=name) as caught:
        create_encoder(name, 64, pretrained=True)
    assert "\n" not in str(caught.value) and NOT_PLAIN[name] in str(caught.value)


@pytest.mark.parametrize("block", [0, 6])
def test_a_block_that_the_encoder_lacks_is_refused(block):
    with pytest.raises(UserError, match="aux_block"):
        network(aux_block=block)


class OfTheHubsClientError(Exception):
    """As the hub's client has some of its own."""


def caused(error, cause):
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        (LocalEntryNotFoundError("Cannot reach the hub.\nPlease check your connection."), "Cannot reach the hub."),
        (caused(LocalEntryNotFoundError("It did not work."), OSError("Name or service not known")), "Name or service not known"),
        (ImportError("Using SOCKS proxy, but the 'socksio' package is not installed."), "Using SOCKS proxy"),
        (OfTheHubsClientError("Request URL is missing an 'http://' or 'https://' protocol."), "Request URL is missing"),
        (PermissionError(13, "Permission denied", "/cache"), "Permission denied"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_hub_weights_out_of_reach_are_one_line(raised, said, monkeypatch, caplog):
    """`weights="hub"` is the voc preset's default: whatever net, proxies and cache raise must end in a line, not in a traceback."""
    genuine = timm.create_model

    def out_of_reach(*given, pretrained=False, **named):
        if not pretrained:
            return genuine(*given, **named)
        logging.getLogger("huggingface_hub.utils").warning("Retrying in 1s")
        raise raised

    monkeypatch.setattr("timm.create_model", out_of_reach)
    with pytest.raises(UserError, match="vit_tiny_patch16_224.*is the hub within reach") as caught:
        create_encoder("vit_tiny_patch16_224", 32, pretrained=True)
    assert "\n" not in str(caught.value) and said in str(caught.value)
    assert not caplog.records


def test_an_encoder_without_hub_weights_does_not_pass_for_pretrained():
    with pytest.raises(UserError, match="dsgc_vit_nano_patch8"):
        create_encoder("dsgc_vit_nano_patch8", 32, pretrained=True)
