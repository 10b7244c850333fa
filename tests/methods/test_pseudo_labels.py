"""The pseudo label of a step: in the frame of the image as it is, of tagged classes, changed only where it is noisy."""

import pytest
import torch
from plain import make_mirror_symmetric
from promises import promise
from steps import TAGS, smooth, step

from dsgc import cam, dskd
from dsgc.cam import IGNORE
from dsgc.methods.contract import Examined
from dsgc.methods.dsgc import Dsgc


@pytest.fixture
def mirror(pair):
    teacher = make_mirror_symmetric(pair[0])
    pair[1].load_state_dict(teacher.state_dict())
    return [teacher, pair[1]]


@pytest.mark.parametrize(
    "changes", [{}, {"label_network": "both"}, {"mixture_grid": "pixel"}, {"correction": False}], ids=str
)
def test_labels_stand_in_the_frame_of_the_unmirrored_image(mirror, images, fixed, changes):
    """The teacher sees mirrored images; its labels must be those that it gives the images as they are."""
    config = fixed(**changes)
    with torch.no_grad():
        seen = mirror[0](images)
        expected = config.method.pseudo_labels(images, config.method.cam(mirror[0], seen), TAGS, seen.tokens)
    labels = step(mirror, images, "expansion", config).goals.labels
    torch.testing.assert_close(labels.confidence, expected.confidence, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(labels.confidence, labels.confidence.flip(-1), atol=0.05), (
        "the test needs asymmetric maps"
    )
    for mine, theirs in ((labels.initial, expected.initial), (labels.corrected, expected.corrected)):
        assert (mine == theirs).float().mean() > 0.99


def test_equal_networks_agree_on_mirrored_images(mirror, images, fixed):
    """Similarity is at its best, and the student's target is the teacher's own projection at the same place."""
    config = fixed(student_temperature=1.0, teacher_temperature=1.0, roi_low=0.0, roi_high=1.0)
    made = step(mirror, images, "warm-up", config)
    assert made.losses["sim"].item() == pytest.approx(-1, abs=1e-4)
    made = step(mirror, images, "expansion", config)
    with torch.no_grad():
        seen = mirror[0](images)
        torch.testing.assert_close(mirror[0].project(seen.tokens), made.goals.projected, atol=1e-4, rtol=1e-4)
        maps = cam.tagged(config.method.cam(mirror[0], seen), TAGS)
        region = dskd.uncertain_region(maps, config.method.roi_low, config.method.roi_high)
        entropy = torch.special.entr(made.goals.projected.softmax(1)).sum(1)[region].mean()
    assert made.losses["punc"].item() == pytest.approx(float(entropy), rel=1e-3)


@pytest.mark.parametrize("network", ["teacher", "student", "both"])
def test_the_label_network_gives_activation_and_features(pair, images, fixed, monkeypatch, network):
    seen, genuine, config = [], Dsgc.pseudo_labels, fixed(label_network=network)

    def spy(self, images, maps, tags, features, **how):
        seen.append((maps, features))
        return genuine(self, images, maps, tags, features, **how)

    monkeypatch.setattr(Dsgc, "pseudo_labels", spy)
    step(pair, images, "expansion", config)
    with torch.no_grad():
        teacher, student = pair[0](images.flip(-1)), pair[1](images)
        theirs, mine = config.method.cam(pair[0], teacher).flip(-1), config.method.cam(pair[1], student)
    activation = {"teacher": theirs, "student": mine, "both": (theirs + mine) / 2}[network]
    torch.testing.assert_close(seen[0][0], activation, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(seen[0][1], teacher.tokens.flip(-1) if network == "teacher" else student.tokens)


def test_without_correction_the_initial_label_supervises(pair, images, fixed):
    labels = step(pair, images, "expansion", fixed(correction=False)).goals.labels
    assert torch.equal(labels.corrected, labels.initial)
    assert not labels.noise.any()


@pytest.mark.parametrize("stride", [1, 2, 3, 64])
def test_labels_are_the_image_divided_by_the_stride(pair, images, fixed, stride):
    labels = step(pair, images, "expansion", fixed(label_stride=stride)).goals.labels
    side = max(1, 32 // stride)
    assert labels.initial.shape == labels.corrected.shape == labels.confidence.shape == (3, side, side)


@pytest.mark.parametrize("grid", ["patch", "pixel"])
@pytest.mark.parametrize("pixels", ["all", "positive", "foreground"])
def test_every_reading_of_the_mixture_gives_labels_of_tagged_classes(pair, images, fixed, grid, pixels):
    config = fixed(mixture_grid=grid, mixture_pixels=pixels, label_low=0.3, label_high=0.5)
    labels = step(pair, images, "expansion", config).goals.labels
    assert labels.noise.shape[1:] == ((4, 4) if grid == "patch" else (16, 16))
    assert labels.noise.min() >= 0 and labels.noise.max() <= 1
    for image, tags in enumerate(TAGS):
        allowed = {0, IGNORE, *(int(c) + 1 for c in tags.nonzero())}
        for found in (labels.initial[image], labels.corrected[image]):
            assert set(found.unique().tolist()) <= allowed
    assert (labels.initial != IGNORE).any()


@pytest.mark.parametrize("grid", ["patch", "pixel"])
def test_labels_change_only_where_the_noise_probability_says_so(pair, images, fixed, grid):
    config = fixed(mixture_grid=grid, label_low=0.3, label_high=0.4)
    labels = step(pair, images, "expansion", config).goals.labels
    scale = labels.initial.shape[-1] // labels.noise.shape[-1]
    noise = labels.noise.repeat_interleave(scale, 1).repeat_interleave(scale, 2)
    changed = labels.corrected != labels.initial
    assert changed.any(), "the test needs a correction"
    assert (noise[changed] > config.method.theta_low).all()


def test_the_foreground_mixture_leaves_background_and_unsure_pixels_alone(pair, images, fixed):
    labels = step(pair, images, "expansion", fixed(mixture_pixels="foreground", mixture_grid="pixel")).goals.labels
    other = (labels.initial == 0) | (labels.initial == IGNORE)
    assert not labels.noise[other].any()
    assert torch.equal(labels.corrected[other], labels.initial[other])


# what must not matter


@pytest.fixture
def given():
    """Images, activations, tags and tokens; smooth, with a class that is nowhere and an image without tags."""
    return smooth(5, [[1, 1, 0, 0, 1], [0, 1, 0, 1, 0], [0, 0, 0, 0, 0], [1, 0, 0, 0, 0]])


def same(found, expected):
    """Rounding moves a value over a threshold here and there: up to one label in a thousand may differ."""
    torch.testing.assert_close(found.noise, expected.noise, rtol=0, atol=2e-3)
    for one, other in ((found.initial, expected.initial), (found.corrected, expected.corrected)):
        assert (one != other).float().mean() <= 1e-3


@promise("Odd numbers", "Pseudo labels turn with the image and go with their classes; an image alone has those that it has in a batch.")
@pytest.mark.parametrize("grid", ["patch", "pixel"])
def test_pseudo_labels_turn_with_the_image_go_with_their_classes_and_stand_alone(given, fixed, grid):
    images, activation, tags, tokens = given
    config = fixed(mixture_grid=grid, label_stride=1)
    expected = config.method.pseudo_labels(*given)
    assert len(expected.corrected.unique()) > 4 and (expected.corrected != expected.initial).any()
    for axis in (-1, -2):
        turned = config.method.pseudo_labels(images.flip(axis), activation.flip(axis), tags, tokens.flip(axis))
        same(Examined(*(part.flip(axis) for part in turned)), expected)
    order = torch.tensor([3, 0, 4, 1, 2])
    renamed = config.method.pseudo_labels(images, activation[:, order], tags[:, order], tokens)
    back = torch.arange(256)
    back[1:6] = order + 1
    same(renamed._replace(initial=back[renamed.initial], corrected=back[renamed.corrected]), expected)
    alone = [config.method.pseudo_labels(*(part[b : b + 1] for part in given)) for b in range(len(images))]
    same(Examined(*(torch.cat(parts) for parts in zip(*alone, strict=True))), expected)
