"""ToCo: its formulas against loops, its crops against the pixels they show, its stages, and what it shares with the baseline."""

import copy
import dataclasses
import math

import oracles
import pytest
import torch
import torch.nn.functional as F
from plain import Contrasted
from steps import gradients, in_parts, networks_of, stage_of, stages_of, step, uneven_batch

from dsgc.errors import UserError
from dsgc.methods import preset
from dsgc.methods.base import Base
from dsgc.methods.colours import NUMBERS, coloured
from dsgc.methods.labels import Initial
from dsgc.methods.peers import toco
from dsgc.methods.peers.toco import certainty, class_token_contrast, crop_corners, cut

PLAIN = {"jitter_share": 0.0, "grey_share": 0.0, "blur_share": 0.0, "solarised_share": 0.0}  # no colours changed
JITTER, BLUR = (0.4, 0.4, 0.2, 0.1), (0.1, 2.0)
UNCHANGED = ("jitter_share", "grey_share", "local_blur_share", "second_blur_share", "solarised_share")
PLAIN_COLOURS = dict.fromkeys(UNCHANGED, 0.0)
LATE = {"contrast_from": 1 / 18}


def random(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


# class token contrast


def loop(targets, views, positive, temperature):
    """The loss of each image."""
    losses = []
    for qs, ps, shows in zip(targets, views, positive, strict=True):
        terms = []
        for q in qs:
            e = [math.exp(oracles.dot(q, p) / temperature) for p in ps]
            against = sum(value for value, kind in zip(e, shows, strict=True) if not kind)
            terms += [-math.log(value / (value + against + 1e-4)) for value, kind in zip(e, shows, strict=True) if kind]
        losses.append(sum(terms) / len(qs) / sum(shows))
    return losses


@pytest.mark.parametrize("temperature", [0.5, 1.0])
@pytest.mark.parametrize("kinds", ["1111100000", "1100000000", "1111111110", "1111111111"])
def test_contrast_of_class_tokens_equals_the_loop(kinds, temperature):
    targets, views = random(2, 2, 5, seed=1) - 0.5, random(2, 10, 5, seed=2) - 0.5
    positive = torch.tensor([[kind == "1" for kind in kinds], [True, True, *[index % 2 == 0 for index in range(8)]]])
    expected = loop(targets.double().tolist(), views.double().tolist(), positive.tolist(), temperature)
    assert class_token_contrast(targets, views, positive, temperature).tolist() == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_its_gradient_equals_finite_differences_and_passes_the_targets_by():
    targets, views = random(1, 2, 4, seed=3).requires_grad_(), random(1, 4, 4, seed=4).requires_grad_()
    positive = torch.tensor([[True, True, False, False]])
    class_token_contrast(targets, views, positive, 0.5).sum().backward()
    numbers = targets.detach().double().tolist()

    def of(flat):
        return loop(numbers, torch.tensor(flat, dtype=torch.float64).view(1, 4, 4).tolist(), positive.tolist(), 0.5)[0]

    expected = oracles.numerical_gradient(of, views.detach().double().flatten().tolist())
    torch.testing.assert_close(views.grad.flatten(), torch.tensor(expected), rtol=1e-3, atol=1e-5)
    assert targets.grad is None


def test_it_is_all_but_nothing_without_a_negative_and_finite_for_large_and_for_zero_vectors():
    positive = torch.tensor([[True] * 4, [True, True, False, False]])
    targets, views = random(2, 2, 3), random(2, 4, 3, seed=1)
    assert 0 <= class_token_contrast(targets, views, positive, 0.5)[0] < 1e-3
    for length in (0.0, 1e3):
        moved = (length * views).requires_grad_()
        loss = class_token_contrast(length * targets, moved, positive, 0.5)
        loss.sum().backward()
        assert loss.isfinite().all() and moved.grad.isfinite().all()


def test_it_draws_positive_views_to_the_whole_and_pushes_negative_ones_off():
    """What the method is for: at first all views are alike, as class tokens are."""
    whole = F.normalize(random(1, 2, 16, seed=5) - 0.5, dim=-1)
    views = (whole[:, :1] + 0.1 * random(1, 6, 16, seed=6)).requires_grad_()
    positive = torch.tensor([[True, True, True, False, False, False]])
    for _ in range(50):
        unit = F.normalize(views, dim=-1)
        (slope,) = torch.autograd.grad(class_token_contrast(unit[:, :2], unit, positive, 0.5).sum(), views)
        views = (views - 0.2 * slope).detach().requires_grad_()
    cosines = F.cosine_similarity(views[:, :1], views, dim=-1)[0]
    assert cosines[:3].min() > 0.8 and cosines[3:].max() < 0


# where to look


def test_certainty_equals_the_loop_over_pixels():
    maps, tags = random(3, 4, 5, 6), torch.tensor([[1.0, 0, 1, 0], [0, 0, 0, 0], [0, 1, 0, 0]])
    maps[0, 0, 0, 0], maps[0, 2, 0, 0], maps[2, 1, 1, 1] = 0.75, 0.0, 0.25  # at a threshold
    code = certainty(maps, tags, 0.25, 0.75, (5, 6))
    for image in range(3):
        for y in range(5):
            for x in range(6):
                best = max((float(maps[image, c, y, x]) for c in range(4) if tags[image, c]), default=0.0)
                assert code[image, y, x] == (0 if best <= 0.25 else 2 if best >= 0.75 else 1)
    assert set(code[0].unique().tolist()) == {0.0, 1.0, 2.0} and not code[1].any()
    assert torch.equal(certainty(maps.flip(-1), tags, 0.25, 0.75, (10, 12)), certainty(maps, tags, 0.25, 0.75, (10, 12)).flip(-1))


@pytest.mark.parametrize("size", [3, 4])
def test_corners_are_those_with_the_highest_keys_whose_centres_show_no_object_for_sure(size):
    code = torch.randint(0, 3, (4, 9, 11), generator=torch.Generator().manual_seed(1)).float()
    code[1], code[2] = 2, 0  # no pixel, and every pixel
    code[3], code[3, 4, 4:9] = 2, 1  # fewer than are wanted
    keys = random(4, 10 - size, 12 - size, seed=2)
    found = crop_corners(code, keys, 8, size)
    for image in range(4):
        everywhere = [(y, x) for y in range(10 - size) for x in range(12 - size)]
        allowed = [(y, x) for y, x in everywhere if code[image, y + size // 2, x + size // 2] <= 1]
        allowed = allowed if len(allowed) >= 8 else everywhere
        expected = sorted(allowed, key=lambda place: -keys[image, place[0], place[1]])[:8]
        assert [tuple(corner) for corner in found[image].tolist()] == expected


def test_every_allowed_centre_is_drawn_equally_often():
    code = torch.zeros(400, 8, 8)
    code[:, :, 4:] = 2
    corners = crop_corners(code, random(400, 7, 7), 8, 2)
    times = torch.zeros(7, 7).index_put((corners[..., 0].flatten(), corners[..., 1].flatten()), torch.tensor(1.0), accumulate=True)
    assert not times[:, 3:].any()  # their centres are one to the right
    share = 8 / 21
    assert (times[:, :3] / 400 - share).abs().max() < 4 * math.sqrt(share * (1 - share) / 400)


def test_where_there_are_fewer_places_than_crops_some_come_again():
    corners = crop_corners(torch.zeros(1, 4, 4), random(1, 2, 1), 5, 3)
    assert corners[0].tolist() == [*corners[0, :2].tolist()] * 2 + [corners[0, 0].tolist()]
    assert sorted(corners[0, :2].tolist()) == [[0, 0], [1, 0]]


def test_cut_equals_slices_and_mirrored_corners_cut_mirrored_parts():
    maps, corners = random(2, 3, 6, 8), torch.tensor([[[0, 0], [2, 4], [1, 3]], [[2, 0], [0, 4], [2, 2]]])
    parts = cut(maps, corners, 4)
    assert parts.shape == (2, 3, 3, 4, 4)
    for image in range(2):
        for number, (y, x) in enumerate(corners[image].tolist()):
            assert torch.equal(parts[image, number], maps[image, :, y : y + 4, x : x + 4])
    across = torch.stack([corners[..., 0], 8 - 4 - corners[..., 1]], -1)
    assert torch.equal(cut(maps.flip(-1), across, 4), parts.flip(-1))


def test_a_crop_is_negative_where_the_pixels_that_it_shows_are_background(pair, fixed, monkeypatch):
    """A CAM as bright as the picture: what a crop shows says what it has to be, unless it is of another frame than the CAM."""
    network, method = pair[0], fixed("toco", **PLAIN_COLOURS).method
    pictures = torch.zeros(6, 3, 32, 32)
    for image in range(6):
        pictures[image, :, : 12 + 2 * image, 10:] = 1
    part = uneven_batch()._replace(images=pictures, tags=torch.ones(6, 1), seeds=torch.arange(6))
    monkeypatch.setattr(type(method), "middle_cam", lambda self, network, output: output.mean(1, keepdim=True))
    for images in (pictures, pictures.flip(-1)):
        local, positive = method.look_closer(network, images, images, part)
        assert local.shape == (6, 8, 3, 24, 24)
        light = local.mean((2, 3, 4))  # half the mean of the codes 0 and 2
        assert torch.equal(positive, 2 * light > 0.2 + 1e-6) and positive.any()
    method = method.replaced(local_size=8)
    local, positive = method.look_closer(network, pictures, pictures, part)
    assert torch.equal(positive, local.mean((2, 3, 4)) > 0.1 + 1e-6) and not positive.all()


@pytest.mark.parametrize(("wanted", "side"), [(24, 24), (21, 24), (19, 16), (1, 8), (400, 32)])
def test_sides_of_local_crops_are_multiples_of_the_patch_within_the_image(pair, fixed, wanted, side):
    method, part = fixed("toco", local_size=wanted, local_crops=3).method, uneven_batch()
    local, positive = method.look_closer(pair[0], pair[0](part.images), part.images, part)
    assert local.shape == (8, 3, 3, side, side) and positive.shape == (8, 3)


def test_an_image_has_its_crops_whatever_else_is_in_the_batch(pair, fixed):
    method, part = fixed("toco").method, uneven_batch()
    local, positive = method.look_closer(pair[0], pair[0](part.images), part.images, part)
    for rows in (slice(3, 4), slice(5, 8)):
        (images, tags, seeds) = (column[rows] for column in part[:3])
        alone, flags = method.look_closer(pair[0], pair[0](images), images, part._replace(images=images, tags=tags, seeds=seeds))
        assert torch.equal(alone, local[rows]) and torch.equal(flags, positive[rows])


# colours


def test_colours_stay_as_they_are_where_no_share_changes_them():
    images = random(4, 3, 16, 16)
    assert torch.equal(coloured(images, random(4, NUMBERS), jitter=JITTER, blur=BLUR, **PLAIN), images)


def test_light_contrast_and_saturation_are_blends_and_the_hue_turns():
    images, grey = random(1, 3, 6, 6), torch.tensor([0.2989, 0.587, 0.114])
    lightness = torch.einsum("bchw,c->bhw", images, grey)[:, None]
    blends = (0 * images, lightness.mean().expand_as(images), lightness.expand_as(images))
    for number, other in enumerate(blends):
        numbers = torch.full((1, NUMBERS), 0.5)  # no change, but for one of them, by its jitter of 0.4 times 0.5
        numbers[0, 5 + number] = 0.75
        found = coloured(images, numbers, jitter=(0.4, 0.4, 0.4, 0.1), blur=BLUR, **PLAIN | {"jitter_share": 1.0})
        torch.testing.assert_close(found, (1.2 * images - 0.2 * other).clamp(0, 1), rtol=0, atol=1e-4)
    red, numbers = torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1).expand(1, 3, 4, 4), torch.full((1, NUMBERS), 0.5)
    numbers[0, 8] = 5 / 6  # two thirds of half a circle
    turned = coloured(red, numbers, jitter=(0.0, 0.0, 0.0, 0.5), blur=BLUR, **PLAIN | {"jitter_share": 1.0})
    torch.testing.assert_close(turned[0, :, 0, 0], torch.tensor([0.0, 1.0, 0.0]), rtol=0, atol=1e-5)


def test_grey_blur_and_inverted_lights():
    images = random(3, 3, 12, 12)
    grey = coloured(images, random(3, NUMBERS), jitter=JITTER, blur=BLUR, **PLAIN | {"grey_share": 1.0})
    assert torch.equal(grey[:, 0], grey[:, 1]) and torch.equal(grey[:, 0], grey[:, 2])
    lights = coloured(images, random(3, NUMBERS), jitter=JITTER, blur=BLUR, **PLAIN | {"solarised_share": 1.0})
    torch.testing.assert_close(lights, torch.where(images >= 0.5, 1 - images, images))
    point = torch.zeros(1, 3, 15, 15)
    point[..., 7, 7] = 1
    blurred = coloured(point, torch.full((1, NUMBERS), 0.5), jitter=JITTER, blur=(1.0, 2.0), **PLAIN | {"blur_share": 1.0})
    expected = [math.exp(-(x**2) / (2 * 1.5**2)) for x in range(-5, 6)]  # cut off at three times 1.5
    torch.testing.assert_close(blurred[0, 0, 7, 2:13] / blurred[0, 0, 7, 7], torch.tensor(expected), rtol=1e-4, atol=1e-5)
    assert blurred.sum() == pytest.approx(3, rel=1e-4) and not blurred[..., 1].any()


def test_shares_are_shares_of_images_and_each_image_has_its_own_numbers():
    images, numbers = random(1, 3, 4, 4).expand(400, -1, -1, -1).contiguous(), random(400, NUMBERS)
    for share in ("jitter_share", "grey_share", "blur_share", "solarised_share"):
        options = {"jitter": JITTER, "blur": (0.5, 2.0), **PLAIN | {share: 0.3}}
        found = coloured(images, numbers, **options)
        changed = (found != images).flatten(1).any(1)
        assert 0.2 < changed.float().mean() < 0.4 and 0 <= found.min() and found.max() <= 1
        assert torch.equal(coloured(images[7:9], numbers[7:9], **options), found[7:9])


# a step


@pytest.mark.parametrize("lambda1", [0.0, 0.2])
@pytest.mark.parametrize("parts", [1, 4])
@pytest.mark.parametrize("stage", ["warm-up", "expansion"])
def test_without_class_token_contrast_it_is_the_baseline_to_the_bit(pair, fixed, stage, parts, lambda1):
    mine = fixed("toco", ctc_weight=0.0, lambda1=lambda1)
    base = fixed("base", lambda1=lambda1)
    theirs = base.replaced(method=Contrasted(**dataclasses.asdict(base.method)))
    assert mine.method.second_crop is None
    batch = [part._replace(second=None) for part in in_parts(uneven_batch(), parts)]
    (made, found), (expected, slopes) = (gradients(pair, batch, stage, config) for config in (mine, theirs))
    assert made.losses.keys() == expected.losses.keys() and ("ptc" in made.losses) == bool(lambda1)
    assert all(torch.equal(made.losses[name], expected.losses[name]) for name in expected.losses)
    assert found.keys() == slopes.keys() and all(torch.equal(found[name], slopes[name]) for name in slopes)


def test_a_true_label_gives_the_segmentation_loss_of_the_baseline(pair, fixed, monkeypatch):
    batch, losses = uneven_batch(masks=True), []
    true = F.interpolate(batch.masks[:, None].float(), (16, 16), mode="nearest-exact")[:, 0].long()
    monkeypatch.setattr(Base, "initial_label", lambda *_: Initial(true.float(), true, true))
    for name in ("toco", "base"):
        losses.append(step(pair, batch.images, "expansion", fixed(name), tags=batch.tags).losses["seg"])
    assert torch.equal(*losses) and losses[0] > 0


HEADS = {"class_classifier", "patch_classifier", "aux_classifier", "projector", "decoder"}
TRAINS = {"cls": {"patch_classifier", "aux_classifier"}, "ptc": set(), "ctc": {"projector"}, "seg": {"decoder"}}


def test_each_loss_trains_its_heads_and_the_encoder(pair, fixed):
    batch = uneven_batch()
    made = step(pair, batch.images, "expansion", fixed("toco", ptc_low=0.3, ptc_high=0.4), tags=batch.tags)
    assert made.losses.keys() == TRAINS.keys()
    for loss, heads in TRAINS.items():
        found = torch.autograd.grad(made.losses[loss], list(pair[0].parameters()), retain_graph=True, allow_unused=True)
        named = zip(pair[0].named_parameters(), found, strict=True)
        reached = {name.split(".")[0] for (name, _), value in named if value is not None and value.any()}
        assert reached == {"encoder", *heads}, loss
    assert all(value.any() for value in torch.autograd.grad(made.losses["ctc"], list(pair[0].projector.parameters())))


def test_the_views_are_the_mirrored_crop_the_second_crop_and_local_crops(pair, fixed):
    """Class tokens of views without changed colours, each passed by hand."""
    config, part = fixed("toco", **PLAIN_COLOURS), uneven_batch()
    method, network = config.method, pair[0]
    with torch.no_grad():
        seen = method.passes({"network": network}, part, stage_of(config, "warm-up"))
        crop, second = network(part.images.flip(-1)), network(part.second)
        local, positive = method.look_closer(network, crop, part.images.flip(-1), part)
        for number in range(10):
            expected = (crop, second)[number] if number < 2 else network(local[:, number - 2])
            torch.testing.assert_close(seen.class_tokens[:, number], expected.class_token, rtol=1e-4, atol=1e-5)
    assert seen.positive[:, :2].all() and torch.equal(seen.positive[:, 2:], positive)


def test_the_targets_are_those_of_the_remembered_projector(pair, fixed):
    config, batch = fixed("toco"), uneven_batch()
    networks = networks_of(pair, config)
    memory = config.method.memory(networks)
    with torch.no_grad():
        tokens = random(2, 3, pair[0].encoder.embed_dim)
        by_token = torch.stack([pair[0].project(tokens[:, view, :, None, None])[..., 0, 0] for view in range(3)], 1)
        torch.testing.assert_close(toco.projected(pair[0], tokens), by_token)
        assert torch.equal(toco.projected(pair[0], tokens, memory), toco.projected(pair[0], tokens))
        other = {name: value + 0.1 * random(*value.shape) for name, value in memory.items()}
        losses = [step(pair, batch.images, "warm-up", config, tags=batch.tags, memory=one).losses["ctc"] for one in (memory, other)]
        assert losses[0] != losses[1]
        for name, value in pair[0].projector.named_parameters():
            value.copy_(other[name])
        assert torch.equal(toco.projected(pair[0], tokens, other), toco.projected(pair[0], tokens))


def test_the_remembered_projector_follows_after_a_sound_step(pair, fixed):
    method, networks = fixed("toco").method, {"network": pair[0]}
    memory = method.memory(networks)
    expected = {name: value.double() for name, value in memory.items()}
    assert memory.keys() == dict(pair[0].projector.named_parameters()).keys()
    for number, sound in enumerate((True, True, False, True)):
        with torch.no_grad():
            for value in pair[0].projector.parameters():
                value += random(*value.shape, seed=number)
        assert method.follow(networks, {}, memory, number, 4, sound=sound) == {}
        if sound:
            now = dict(pair[0].projector.named_parameters())
            expected = {name: 0.9 * value + 0.1 * now[name].double() for name, value in expected.items()}
    for name, value in expected.items():
        torch.testing.assert_close(memory[name], value.float(), rtol=1e-5, atol=1e-6)


# stages and numbers


def test_on_voc_contrast_begins_at_once_and_the_decoder_after_the_warm_up():
    config = preset("voc", "toco")
    weights = [config.method.stage(number, config.steps).weights for number in (0, 1_999, 2_000, 19_999)]
    tags = {"cls": 1.0, "ptc": 0.2, "ctc": 0.5}
    assert weights == [tags, tags, tags | {"seg": 0.1}, tags | {"seg": 0.1}]
    assert stages_of(preset("shapes", "toco")) == ("warm-up", "expansion")


def test_on_coco_contrast_comes_last_and_labels_of_the_middle_block_come_between():
    config = preset("coco", "toco").changed(warmup_steps=8_000)  # as published
    stages = [config.method.stage(number, config.steps) for number in (0, 7_999, 8_000, 11_999, 12_001, 79_999)]
    assert [stage.name for stage in stages] == ["warm-up"] * 2 + ["middle labels"] * 2 + ["expansion"] * 2
    assert stages[0].weights == {"cls": 1.0} and stages[2].weights == {"cls": 1.0, "seg": 0.1}
    assert stages[4].weights == {"cls": 1.0, "ptc": 0.2, "ctc": 0.5, "seg": 0.1}
    method = config.method
    assert (method.ctc_temperature, method.ptc_high, method.label_high) == (1.0, 0.65, 0.65)
    assert {method.source_of(name) for name in ("ctc_temperature", "contrast_from", "ptc_high", "label_high")} == {"published"}


def test_of_the_middle_labels_the_last_block_knows_nothing(pair, fixed):
    config, batch = fixed("toco", **LATE), uneven_batch()
    assert stages_of(config) == ("warm-up", "middle labels", "expansion")
    other = [copy.deepcopy(pair[0])]
    with torch.no_grad():
        other[0].patch_classifier.weight.mul_(-1)
    for stage, same in (("middle labels", True), ("expansion", False)):
        labels = [step(one, batch.images, stage, config, tags=batch.tags).goals.labels.labels for one in (pair[:1], other)]
        assert torch.equal(*labels) == same
    labels = step(pair, batch.images, "middle labels", config, tags=batch.tags).goals.labels.labels
    mirrored = batch.images.flip(-1)
    found = config.method.initial_label(batch.images, config.method.middle_cam(pair[0], pair[0](mirrored)).flip(-1), batch.tags)
    assert torch.equal(labels, found.labels)


@pytest.mark.parametrize("stage", ["middle labels", "expansion"])
def test_with_the_late_contrast_parts_give_what_the_batch_gives(pair, fixed, stage):
    config = fixed("toco", **LATE)
    (whole, one), (made, found) = (gradients(pair, in_parts(uneven_batch(), count), stage, config) for count in (1, 4))
    assert made.losses.keys() == whole.losses.keys() and found.keys() == one.keys()
    for name, value in one.items():
        assert value.isfinite().all() and (found[name] - value).abs().max() <= 1e-5 * value.abs().max(), name
    for name, value in whole.losses.items():
        assert made.losses[name].item() == pytest.approx(value.item(), rel=1e-5), name


@pytest.mark.parametrize(
    "wrong",
    [{"second_area": (0.0, 1.0)}, {"second_area": (0.9, 0.4)}, {"second_area": (0.4, 1.1)}, {"jitter": (0.4, 0.4, 0.2, 0.6)},
     {"jitter": (-0.1, 0.0, 0.0, 0.0)}, {"blur": (2.0, 1.0)}, {"blur": (0.0, 1.0)}, {"local_crops": 0}, {"contrast_from": 1.5}],
    ids=str,
)  # fmt: skip
def test_numbers_that_make_no_sense_are_refused_by_name(wrong):
    with pytest.raises(UserError, match=next(iter(wrong))):
        preset("shapes", "toco").changed(**wrong)


def test_the_second_crop_is_one_of_the_pictures_area(fixed):
    assert fixed("toco").method.second_crop == (0.4, 1.0)
