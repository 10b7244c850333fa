"""Every reading of what the paper leaves open or states otherwise: what it changes, and that it changes nothing else."""

import pytest
import torch
from steps import CLASSES, TAGS, smooth, step

from dsgc import binned, cam, dskd, gmm
from dsgc.cam import IGNORE
from dsgc.methods.labels import Initial, activation_over_scales

ALL_LABELLED = {"label_low": 0.4, "label_high": 0.4}  # one threshold: the initial label leaves nothing out


@pytest.fixture
def given():
    """Smooth images, maps, tags and features of three images; the last one has a single class."""
    return smooth(3, [[1, 1, 0, 0, 1], [0, 1, 0, 1, 0], [1, 0, 0, 0, 0]])


READINGS = {
    "mixture_map": "raw",
    "mixture_by": "class",
    "mixture_gap": 3.5,
    "em_iterations": 3,
    "variance_floor": 0.02,
    "tau": 0.95,
    "tau_of": "quantile",
    "copy_from": "labelled",
    "correction_rounds": 4,
    "correction_order": "raster",
}


@pytest.mark.parametrize("name", READINGS)
def test_a_reading_changes_the_corrected_label_and_never_the_initial_one(given, fixed, name):
    plain = fixed(mixture_pixels="all", tau=0.2, theta_low=0.05)
    one, other = plain.method.pseudo_labels(*given), plain.changed(**{name: READINGS[name]}).method.pseudo_labels(*given)
    assert torch.equal(one.initial, other.initial) and torch.equal(one.confidence, other.confidence)
    assert not torch.equal(one.corrected, other.corrected) or not torch.equal(one.noise, other.noise)
    allowed = {0, IGNORE, *range(1, 6)}
    assert set(other.corrected.unique().tolist()) <= allowed and other.noise.min() >= 0 and other.noise.max() <= 1


def test_one_threshold_leaves_nothing_out_before_the_correction(given, fixed):
    made = fixed(**ALL_LABELLED, mixture_pixels="all").method.pseudo_labels(*given)
    assert (made.initial != IGNORE).all() and (made.corrected == IGNORE).any()


@pytest.mark.parametrize("grid", ["patch", "pixel"])
def test_raw_confidence_is_the_map_of_eq_1_and_refined_the_initial_labels(given, fixed, grid):
    images, maps, tags, tokens = given
    for kind in ("raw", "refined"):
        method = fixed(mixture_map=kind, mixture_grid=grid, mixture_pixels="all").method
        made = method.pseudo_labels(*given)
        if kind == "raw":
            x = cam.tagged(maps, tags).amax(1)
            if grid == "pixel":
                whole = torch.nn.functional.interpolate(cam.tagged(maps, tags), made.initial.shape[1:], mode="bilinear")
                x = whole.amax(1)
        else:
            x = made.confidence if grid == "pixel" else torch.nn.functional.adaptive_avg_pool2d(made.confidence[:, None], (6, 6))[:, 0]
        expected = gmm.noise_probability(x.flatten(1), binned.fit(x.flatten(1))).view_as(x)
        torch.testing.assert_close(made.noise, expected)


def test_a_mixture_of_each_class_sees_the_places_of_that_class_alone(given, fixed):
    """Image by image and class by class: what one class's places say of noise does not hang on another's."""
    method = fixed(mixture_by="class", mixture_pixels="all", mixture_map="raw").method
    _, maps, tags, _ = given
    noise = method.pseudo_labels(*given).noise
    for image in range(3):
        own = cam.tagged(maps, tags)[image]
        confidence, winner = own.max(0)
        unseen, expected = confidence == 0, torch.zeros_like(confidence)
        for number in tags[image].nonzero().flatten().tolist():
            here = (winner == number) & ~unseen
            if here.any():
                here |= unseen
                x = confidence[here][None]
                expected[here] = expected[here].maximum(gmm.noise_probability(x, binned.fit(x))[0])
        torch.testing.assert_close(noise[image], expected, rtol=1e-3, atol=2e-3)
    single = fixed(mixture_pixels="all", mixture_map="raw").method.pseudo_labels(*given).noise
    torch.testing.assert_close(noise[2], single[2], rtol=1e-3, atol=1e-3)  # it has one class
    assert not torch.allclose(noise[:2], single[:2], atol=0.05)


def test_the_gap_frees_whole_images_whose_means_are_close(fixed):
    """One image of two humps, one of a single hump: a gap of 3 keeps the correction of the first."""
    generator = torch.Generator().manual_seed(0)
    humps = torch.where(torch.rand(1, 6, 6, generator=generator) < 0.5, 0.2, 0.8)
    x = torch.cat([humps, torch.full((1, 6, 6), 0.5)]) + 0.05 * torch.randn(2, 6, 6, generator=generator)
    counted = torch.ones_like(x, dtype=torch.bool)
    free, guarded = (fixed(mixture_gap=gap).method.noise(x, counted, None) for gap in (0.0, 3.0))
    assert torch.equal(free[0], guarded[0]) and free[1].any() and not guarded[1].any()


def test_em_that_is_cut_off_is_the_plain_em(fixed):
    x = torch.rand(3, 6, 6, generator=torch.Generator().manual_seed(1))
    counted = x > 0.1
    numbers = {"em_iterations": 10, "em_tolerance": 1e-2, "variance_floor": 5e-4, "em_start": "kmeans"}
    found = fixed(**numbers).method.noise(x, counted, None)
    flat, mask = x.flatten(1), counted.flatten(1)
    mixture = gmm.fit(flat, mask, max_iter=10, tolerance=1e-2, variance_floor=5e-4, start="kmeans")
    assert torch.equal(found, gmm.noise_probability(flat, mixture, mask).view_as(x))


@pytest.mark.parametrize("layer", ["last", "middle", "projected"])
def test_features_are_of_the_layer_named(pair, images, fixed, layer):
    method, network = fixed(correction_features=layer).method, pair[0]
    with torch.no_grad():
        output = network(images)
        expected = {"last": output.tokens, "middle": output.middle, "projected": network.project(output.tokens)}[layer]
        assert torch.equal(method.features(network, output), expected)
        shape = method.pseudo_labels(images, method.cam(network, output), TAGS, expected).noise.shape
    assert shape == (3, 4, 4)


@pytest.mark.parametrize(("between", "where"), [((0.0, 1.0), "all"), ((0.9, 1.0), "late"), ((0.0, 0.1), "early")])
def test_labels_are_corrected_between_two_shares_of_the_run(pair, images, fixed, between, where):
    config = fixed(correction_from=between[0], correction_until=between[1], mixture_pixels="all", warmup_steps=2, steps=100)
    expected = {"all": (True, True), "late": (False, True), "early": (True, False)}[where]
    for number, changed in zip((2, 95), expected, strict=True):
        stage = config.method.stage(number, config.steps)
        assert stage.progress == number / 100
        networks = dict(zip(("teacher", "student"), pair, strict=True))
        seen = config.method.passes(networks, part := _part(images), stage)
        with torch.no_grad():
            made = config.method.goals(networks, seen, part, stage).labels
        assert (made.corrected != made.initial).any() == changed and made.noise.any() == changed


def _part(images):
    from dsgc.methods.contract import Part

    return Part(images, TAGS, torch.arange(len(images)))


@pytest.mark.parametrize("tokens", ["last", "middle"])
@pytest.mark.parametrize("mean", ["image", "batch"])
def test_eq_10_is_of_the_tokens_and_the_mean_named(pair, images, fixed, tokens, mean):
    config = fixed(punc_tokens=tokens, punc_mean=mean, roi_low=0.1, roi_high=0.6)
    taken = step(pair, images, "expansion", config)
    method, centre = config.method, torch.zeros(len(pair[0].projector.direction))
    with torch.no_grad():
        teacher, student = pair[0](images.flip(-1)), pair[1](images)
        pick = (lambda output: output.tokens) if tokens == "last" else (lambda output: output.middle)
        sides = pair[1].project(pick(student)), pair[0].project(pick(teacher).flip(-1))
        region = taken.goals.region
        names = {"centre": centre, "student_temperature": method.student_temperature, "teacher_temperature": method.teacher_temperature}
        whole = dskd.uncertain_region_loss(*sides, region, **names)
        each = [dskd.uncertain_region_loss(*(side[b : b + 1] for side in sides), region[b : b + 1], **names) for b in range(3)]
        filled = region.flatten(1).any(1)
    assert filled.any()
    expected = whole if mean == "batch" else torch.stack(each)[filled].mean()
    assert taken.losses["punc"].item() == pytest.approx(expected.item(), rel=1e-4)


@pytest.mark.parametrize("whose", ["student", "teacher"])
def test_the_momentum_weighs_the_network_named(pair, fixed, whose):
    """0.9 of the student's own past, or 0.9 of the teacher, so that the student is all but a copy."""
    config = fixed(ema_weighs=whose, ema_momentum=0.9, warmup_steps=0, steps=10)
    networks = dict(zip(("teacher", "student"), pair, strict=True))
    with torch.no_grad():
        pair[0].class_classifier.weight.fill_(1.0)
        pair[1].class_classifier.weight.fill_(0.0)
    facts = config.method.follow(networks, {}, config.method.memory(networks), 0, 10, sound=True)
    own = 0.9 if whose == "student" else 0.1
    assert facts["momentum"] == pytest.approx(own)
    torch.testing.assert_close(pair[1].class_classifier.weight, torch.full((CLASSES, 128), 1 - own))
    last = config.method.follow(networks, {}, config.method.memory(networks), 10, 10, sound=True)
    assert last["momentum"] == pytest.approx(1.0 if whose == "student" else 0.0)


def test_labels_and_confidence_are_all_that_a_correction_needs_of_an_image(given, fixed):
    """The correction stands alone: another method may call it with an initial label of its own."""
    images, maps, tags, tokens = given
    method = fixed(mixture_pixels="all").method
    made = method.pseudo_labels(*given)
    strongest = method.initial_label(images, maps, tags).strongest
    noise, _, labels = method.corrected(Initial(made.confidence, made.initial, strongest), maps, tags, tokens)
    assert torch.equal(noise, made.noise) and torch.equal(labels, made.corrected)


@pytest.mark.parametrize("name", ["base", "dsgc"])
def test_labels_over_scales_are_of_the_cam_over_scales(pair, images, fixed, name):
    """Of the images as they are and their mirror images; at one scale it is the pass that learns, and costs none of its own."""
    scales = (1.0, 0.5, 2.0)
    options = {} if name == "base" else {"correction": False}
    plain, wide = fixed(name, **options), fixed(name, label_scales=scales, **options)
    made, other = (step(pair, images, "expansion", config).goals.labels for config in (plain, wide))
    with torch.no_grad():
        maps = activation_over_scales(pair[0], images, scales, mirror=True, subtract_minimum=True)
        expected = wide.method.initial_label(images, maps, TAGS)
    torch.testing.assert_close(other.confidence, expected.confidence)
    assert torch.equal(other.labels if name == "base" else other.initial, expected.labels)
    assert not torch.allclose(made.confidence, other.confidence, atol=0.01)
