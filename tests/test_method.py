"""One training step: which losses it has, what it costs, whose gradients, and that both frames agree."""

import copy
import math

import pytest
import torch

from dsgc import method, ptc
from dsgc.cam import IGNORE
from dsgc.objective import total_loss
from dsgc.train import build_network, loss_weights

CLASSES = 6
TAGS = torch.tensor([[1, 0, 1, 0, 0, 0], [0, 1, 0, 0, 0, 0], [0, 0, 0, 1, 1, 1]], dtype=torch.float32)


@pytest.fixture(scope="module")
def built(tiny):
    torch.manual_seed(0)
    return [build_network(tiny(), CLASSES)[0] for _ in range(2)]


@pytest.fixture
def pair(built):
    """Teacher and student, different weights."""
    return copy.deepcopy(built)


@pytest.fixture(scope="module")
def images():
    """Smooth pictures, so that refinement and mixture have something to see."""
    coarse = torch.rand(len(TAGS), 3, 5, 5, generator=torch.Generator().manual_seed(3))
    return torch.nn.functional.interpolate(coarse, (32, 32), mode="bilinear")


def step(pair, images, stage, config):
    weights = loss_weights(stage, config)
    centre = torch.zeros(config.projector[2])
    result = method.step_losses(*pair, images, TAGS, stage=stage, weights=weights, centre=centre, config=config)
    return result, weights


def backward(result, weights):
    total_loss(result.losses, weights).backward()


def forwards(network):
    """A list that grows by one with every forward pass."""
    calls = []
    network.register_forward_hook(lambda *_: calls.append(1))
    return calls


@pytest.mark.parametrize(("stage", "names"), [("warm-up", {"cls", "ptc", "sim"}), ("expansion", {"cls", "ptc", "punc", "seg"})])
def test_each_stage_has_its_losses(pair, images, tiny, stage, names):
    result, weights = step(pair, images, stage, tiny())
    assert result.losses.keys() == weights.keys() == names
    assert all(value.ndim == 0 and value.isfinite() for value in result.losses.values())
    assert (result.labels is None) == (result.projected is None) == (stage == "warm-up")


STEPS = {
    "warm-up": ("warm-up", {}),
    "expansion": ("expansion", {}),
    "similarity goes on": ("expansion", {"similarity_after_warmup": True}),
    "labels of both": ("expansion", {"label_network": "both"}),
    "labels of the student": ("expansion", {"label_network": "student", "lambda3": 0.0}),
    "pixel grid": ("expansion", {"mixture_grid": "pixel"}),
}


@pytest.mark.parametrize("case", STEPS)
def test_a_step_costs_one_teacher_and_one_student_forward(pair, images, tiny, case):
    stage, changes = STEPS[case]
    teacher, student = map(forwards, pair)
    step(pair, images, stage, tiny(**changes))
    assert (len(teacher), len(student)) == (1, 1)


def test_without_distillation_there_is_no_student_and_no_term_of_it(pair, images, tiny):
    config = tiny(distillation=False)
    for stage, names in (("warm-up", {"cls", "ptc"}), ("expansion", {"cls", "ptc", "seg"})):
        result, weights = step([pair[0], None], images, stage, config)
        assert result.losses.keys() == weights.keys() == names


@pytest.mark.parametrize("case", STEPS)
def test_the_student_learns_in_the_warm_up_only(pair, images, tiny, case):
    stage, changes = STEPS[case]
    result, weights = step(pair, images, stage, tiny(**changes))
    backward(result, weights)
    learns = [parameter.grad is not None for parameter in pair[1].parameters()]
    assert any(learns) if stage == "warm-up" else not any(learns)


@pytest.mark.parametrize("changes", [{}, {"lambda2": 0.0}, {"lambda1": 0.0}], ids=str)
def test_both_networks_learn_the_tags_in_the_warm_up(pair, images, tiny, changes):
    result, weights = step(pair, images, "warm-up", tiny(**changes))
    backward(result, weights)
    for network in pair:
        for head in (network.class_classifier, network.patch_classifier, network.aux_classifier):
            assert head.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("case", STEPS)
def test_gradients_are_finite_and_reach_the_first_layer(pair, images, tiny, case):
    stage, changes = STEPS[case]
    result, weights = step(pair, images, stage, tiny(**changes))
    backward(result, weights)
    for parameter in pair[0].parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all()
    assert pair[0].encoder.patch_embed.proj.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("blank", [0.0, 1.0])
def test_gradients_are_finite_on_images_of_one_colour_without_tags(pair, tiny, blank):
    centre, config = torch.zeros(32), tiny()
    for stage in ("warm-up", "expansion"):
        weights, nothing = loss_weights(stage, config), torch.zeros(2, CLASSES)
        result = method.step_losses(
            *pair, torch.full((2, 3, 32, 32), blank), nothing, stage=stage, weights=weights, centre=centre, config=config
        )
        backward(result, weights)
    for network in pair:
        assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in network.parameters())


UNUSED = {"lambda1": (ptc, "patch_token_contrast"), "lambda2": (method.dskd, "flip_similarity_loss")}
UNUSED |= {"lambda3": (method.dskd, "uncertain_region_loss"), "lambda4": (method, "pseudo_labels")}


@pytest.mark.parametrize("name", UNUSED)
def test_a_term_of_weight_0_is_not_computed(pair, images, tiny, monkeypatch, name):
    def refuse(*_, **__):
        raise AssertionError("computed")

    monkeypatch.setattr(*UNUSED[name], refuse)
    stage = "warm-up" if name == "lambda2" else "expansion"
    with pytest.raises(AssertionError, match="computed"):
        step(pair, images, stage, tiny())
    step(pair, images, stage, tiny(**{name: 0.0}))


def test_without_its_terms_the_student_does_not_run_in_the_expansion(pair, images, tiny):
    calls = forwards(pair[1])
    step(pair, images, "expansion", tiny(lambda3=0.0))
    assert not calls


def make_mirror_symmetric(network):
    """Weights under which a mirrored image gives mirrored tokens: patch projection and position embedding symmetric."""
    encoder = network.encoder
    with torch.no_grad():
        weight, side = encoder.patch_embed.proj.weight, encoder.patch_embed.grid_size[0]
        weight.copy_((weight + weight.flip(-1)) / 2)
        grid = encoder.pos_embed[:, 1:].view(1, side, side, -1)
        encoder.pos_embed[:, 1:] = ((grid + grid.flip(2)) / 2).reshape(1, side * side, -1)
    return network


@pytest.fixture
def mirror(pair):
    teacher = make_mirror_symmetric(pair[0])
    pair[1].load_state_dict(teacher.state_dict())
    return [teacher, pair[1]]


@pytest.mark.parametrize("changes", [{}, {"label_network": "both"}, {"mixture_grid": "pixel"}, {"correction": False}], ids=str)
def test_labels_stand_in_the_frame_of_the_unmirrored_image(mirror, images, tiny, changes):
    """The teacher sees mirrored images; its labels must be those that it gives the images as they are."""
    config = tiny(**changes)
    with torch.no_grad():
        seen = mirror[0](images)
        expected = method.pseudo_labels(images, method.network_cam(mirror[0], seen, config), TAGS, seen.tokens, config)
    labels = step(mirror, images, "expansion", config)[0].labels
    torch.testing.assert_close(labels.confidence, expected.confidence, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(labels.confidence, labels.confidence.flip(-1), atol=0.05), "the test needs asymmetric maps"
    for mine, theirs in ((labels.initial, expected.initial), (labels.corrected, expected.corrected)):
        assert (mine == theirs).float().mean() > 0.99


def test_equal_networks_agree_on_mirrored_images(mirror, images, tiny):
    """Similarity is at its best, and the student's target is the teacher's own projection at the same place."""
    config = tiny(student_temperature=1.0, teacher_temperature=1.0, roi_low=0.0, roi_high=1.0)
    result, _ = step(mirror, images, "warm-up", config)
    assert result.losses["sim"].item() == pytest.approx(-1, abs=1e-4)
    result, _ = step(mirror, images, "expansion", config)
    with torch.no_grad():
        torch.testing.assert_close(mirror[0].project(mirror[0](images).tokens), result.projected, atol=1e-4, rtol=1e-4)
        region = method.dskd.uncertain_region(
            method.cam.tagged(method.network_cam(mirror[0], mirror[0](images), config), TAGS), config.roi_low, config.roi_high
        )
        entropy = torch.special.entr(result.projected.softmax(1)).sum(1)[region].mean()
    assert result.losses["punc"].item() == pytest.approx(float(entropy), rel=1e-3)


def test_without_correction_the_initial_label_supervises(pair, images, tiny):
    labels = step(pair, images, "expansion", tiny(correction=False))[0].labels
    assert torch.equal(labels.corrected, labels.initial)
    assert not labels.noise.any()


@pytest.mark.parametrize("stride", [1, 2, 3, 64])
def test_labels_are_the_image_divided_by_the_stride(pair, images, tiny, stride):
    labels = step(pair, images, "expansion", tiny(label_stride=stride))[0].labels
    side = max(1, 32 // stride)
    assert labels.initial.shape == labels.corrected.shape == labels.confidence.shape == (3, side, side)


@pytest.mark.parametrize("grid", ["patch", "pixel"])
@pytest.mark.parametrize("pixels", ["all", "positive", "foreground"])
def test_every_reading_of_the_mixture_gives_labels_of_tagged_classes(pair, images, tiny, grid, pixels):
    config = tiny(mixture_grid=grid, mixture_pixels=pixels, label_low=0.3, label_high=0.5)
    labels = step(pair, images, "expansion", config)[0].labels
    assert labels.noise.shape[1:] == ((4, 4) if grid == "patch" else (16, 16))
    assert labels.noise.min() >= 0 and labels.noise.max() <= 1
    for image, tags in enumerate(TAGS):
        allowed = {0, IGNORE, *(int(c) + 1 for c in tags.nonzero())}
        for found in (labels.initial[image], labels.corrected[image]):
            assert set(found.unique().tolist()) <= allowed
    assert (labels.initial != IGNORE).any()


@pytest.mark.parametrize("grid", ["patch", "pixel"])
def test_labels_change_only_where_the_noise_probability_says_so(pair, images, tiny, grid):
    config = tiny(mixture_grid=grid, label_low=0.3, label_high=0.4)
    labels = step(pair, images, "expansion", config)[0].labels
    scale = labels.initial.shape[-1] // labels.noise.shape[-1]
    noise = labels.noise.repeat_interleave(scale, 1).repeat_interleave(scale, 2)
    changed = labels.corrected != labels.initial
    assert changed.any(), "the test needs a correction"
    assert (noise[changed] > config.theta_low).all()


def test_the_foreground_mixture_leaves_background_and_unsure_pixels_alone(pair, images, tiny):
    labels = step(pair, images, "expansion", tiny(mixture_pixels="foreground", mixture_grid="pixel"))[0].labels
    other = (labels.initial == 0) | (labels.initial == IGNORE)
    assert not labels.noise[other].any()
    assert torch.equal(labels.corrected[other], labels.initial[other])


def test_classes_of_the_patch_labels_can_be_left_out_of_ptc(pair, images, tiny, monkeypatch):
    seen = []
    monkeypatch.setattr(method.ptc, "patch_token_contrast", lambda tokens, labels: seen.append(labels) or tokens.sum() * 0)
    for classes in (True, False):
        step(pair, images, "expansion", tiny(ptc_classes=classes, ptc_low=0.3, ptc_high=0.4))
    by_class, binary = seen
    assert by_class[by_class != IGNORE].max() > 1
    assert torch.equal(binary, torch.where(by_class == IGNORE, by_class, by_class.clamp(max=1)))


def test_true_masks_train_the_decoder_alone(pair, tiny):
    masks = torch.randint(0, CLASSES + 1, (2, 32, 32), generator=torch.Generator().manual_seed(0))
    result = method.mask_losses(pair[0], torch.rand(2, 3, 32, 32), masks, tiny(supervision="masks"))
    assert result.losses.keys() == {"seg"}
    assert 0 < result.losses["seg"].item() < 3 * math.log(CLASSES + 1)
    result.losses["seg"].backward()
    assert pair[0].patch_classifier.weight.grad is None
    assert pair[0].decoder[0].weight.grad.isfinite().all()
