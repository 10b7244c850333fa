"""What must not matter does not, on hostile numbers too: turning the image, the order and the names of classes, of tokens and of
images, lengths that a cosine leaves out. And an image alone gives what it gives in a batch."""

import hostile
import torch
from hypothesis import given
from hypothesis import strategies as st
from promises import promise
from steps import added
from torch.testing import assert_close

from dsgc import cam, correction, dskd, metrics, objective, ptc, refine

pytestmark = promise(
    "Odd numbers",
    "Turn the image, and the result turns; rename the classes, and its classes are renamed; an image alone gives what it gives in a batch.",
)

BATCH, DIM, CLASSES = 3, 4, 3
GRID = hostile.GRIDS
TURN = st.sampled_from(sorted(hostile.TURNS)).map(hostile.TURNS.get)
GENTLE = {"kinds": hostile.GENTLE}
SHARES = {"kinds": hostile.SHARES}
NEAR = {"rtol": 1e-5, "atol": 1e-5}  # float32 adds in another order
EIGHT_BITS = {name: lambda *wanted, kind=kind: (255 * kind(*wanted)).round() / 255 for name, kind in hostile.SHARES.items()}
POWERS = st.sampled_from([2.0**-20, 0.125, 1.0, 2.0, 2.0**20])


def near(one, other):
    assert_close(one, other, **NEAR)


def alone(function, *batch):
    """The images of a batch one at a time."""
    return torch.cat([function(*(part[b : b + 1] for part in batch)) for b in range(len(batch[0]))])


# Eq. 1-3


@given(st.data(), GRID, TURN, hostile.orders(CLASSES), POWERS, st.booleans())
def test_activation_maps_turn_with_the_image_and_go_with_their_classes_at_any_scale(data, grid, turn, order, scale, subtract):
    tokens, weight = data.draw(hostile.tensors(BATCH, DIM, *grid, **GENTLE)), data.draw(hostile.tensors(CLASSES, DIM, **GENTLE))

    def maps(tokens, weight):
        return cam.class_activation_map(tokens, weight.to(tokens.dtype), subtract_minimum=subtract)

    expected = maps(tokens, weight)
    near(maps(turn(tokens), weight), turn(expected))
    near(maps(tokens, weight[order]), expected[:, order])
    near(maps(scale * tokens, weight), expected)
    near(maps(tokens, scale * weight), expected)
    near(alone(lambda one: maps(one, weight), tokens), expected)


@given(st.data(), GRID, TURN, hostile.orders(CLASSES), hostile.thresholds())
def test_patch_labels_turn_with_the_image_and_go_with_their_classes(data, grid, turn, order, thresholds):
    maps, tags = data.draw(hostile.tensors(BATCH, CLASSES, *grid, **SHARES)), data.draw(hostile.tags(BATCH, CLASSES))
    expected = cam.patch_labels(maps, tags, *thresholds)
    assert torch.equal(cam.patch_labels(turn(maps), tags, *thresholds), turn(expected))
    assert torch.equal(alone(lambda *one: cam.patch_labels(*one, *thresholds), maps, tags), expected)
    two = cam.tagged(maps, tags).topk(2, 1).values
    decided = (two[:, 0] > two[:, 1]) | (expected == 0) | (expected == 255)  # at a tie the first class wins
    renamed = cam.patch_labels(maps[:, order], tags[:, order], *thresholds)
    back = torch.where((renamed == 0) | (renamed == 255), renamed, order[(renamed - 1).clamp(0, CLASSES - 1)] + 1)
    assert torch.equal(back[decided], expected[decided])


# Eq. 4-5


@given(st.data(), GRID, st.integers(1, 254))
def test_token_contrast_does_not_see_places_names_of_labels_order_of_images_or_lengths(data, grid, step):
    size = grid[0] * grid[1]
    tokens = data.draw(hostile.tensors(BATCH, DIM, 1, size, **GENTLE))
    labels = data.draw(hostile.label_maps(BATCH, 1, size, top=254))
    places, images = data.draw(hostile.orders(size)), data.draw(hostile.orders(BATCH))
    expected, pairs = ptc.patch_token_contrast(tokens, labels), ptc.pairs(labels)
    renamed = torch.where(labels == 255, 255, (labels + step) % 255)
    lengths = 10 ** (4 * data.draw(hostile.tensors(BATCH, 1, 1, size, **SHARES)))
    for others in (
        (tokens[..., places], labels[..., places]),
        (tokens[images], labels[images]),
        (tokens, renamed),
        (lengths.to(tokens.dtype) * tokens, labels),
        (1e9 * tokens, labels),
    ):
        near(ptc.patch_token_contrast(*others), expected)
        assert torch.equal(ptc.pairs(others[1]), pairs)
    parts = zip(tokens.split(1), labels.split(1), strict=True)
    near(sum(added((ptc.pull_and_push(*part), ptc.pairs(part[1])) for part in parts)), expected)


# Eq. 7-10


@given(st.data(), GRID, st.sampled_from(["channels", "tokens"]))
def test_flip_similarity_is_the_same_with_roles_exchanged_both_turned_or_lengthened(data, grid, axis):
    teacher, student = (data.draw(hostile.tensors(BATCH, DIM, *grid, dtypes=(torch.float32,), **GENTLE)) for _ in range(2))
    lengths = 10 ** (9 * data.draw(hostile.tensors(BATCH, DIM, *grid, dtypes=(torch.float32,), **SHARES)))
    lengths = lengths[..., :1, :1] if axis == "channels" else lengths[:, :1]
    expected = dskd.flip_similarity_loss(teacher, student, axis=axis)
    for others in (
        (student, teacher),
        (teacher.flip(-1), student.flip(-1)),
        (teacher.flip(-2), student.flip(-2)),
        (teacher, lengths * student),
        (teacher.flip(1), student.flip(1)),
    ):
        near(dskd.flip_similarity_loss(*others, axis=axis), expected)
    near(alone(lambda *one: dskd.flip_similarity_loss(*one, axis=axis)[None], teacher, student).mean(), expected)


@given(hostile.tensors(BATCH, CLASSES, **GENTLE), hostile.tags(BATCH, CLASSES), hostile.orders(CLASSES))
def test_tag_loss_goes_with_its_classes_and_treats_presence_as_absence(logits, tags, order):
    expected = dskd.tag_loss(logits, tags)
    near(dskd.tag_loss(logits[:, order], tags[:, order]), expected)
    near(dskd.tag_loss(-logits, 1 - tags), expected)
    near(alone(lambda *one: dskd.tag_loss(*one)[None], logits, tags).mean(), expected)


@given(st.data(), GRID, TURN, hostile.orders(CLASSES), hostile.thresholds())
def test_uncertain_region_turns_with_the_image_whatever_the_order_of_classes(data, grid, turn, order, thresholds):
    maps = data.draw(hostile.tensors(BATCH, CLASSES, *grid, **SHARES))
    expected = dskd.uncertain_region(maps, *thresholds)
    assert torch.equal(dskd.uncertain_region(turn(maps), *thresholds), turn(expected))
    assert torch.equal(dskd.uncertain_region(maps[:, order], *thresholds), expected)
    assert torch.equal(alone(lambda one: dskd.uncertain_region(one, *thresholds), maps), expected)


@given(st.data(), GRID, TURN, hostile.orders(DIM), POWERS)
def test_uncertain_region_loss_sees_neither_places_nor_order_nor_what_all_outputs_share(data, grid, turn, order, scale):
    student, teacher = (data.draw(hostile.tensors(BATCH, DIM, *grid, dtypes=(torch.float32,), **GENTLE)) for _ in range(2))
    region, centre = data.draw(hostile.label_maps(BATCH, *grid)) == 0, torch.linspace(-1, 1, DIM)

    def loss(student, teacher, region, centre=centre, scale=1.0, **options):
        temperatures = {"student_temperature": 0.5 * scale, "teacher_temperature": 2 * scale}
        return dskd.uncertain_region_loss(student, teacher, region, centre=centre, **temperatures, **options)

    expected = loss(student, teacher, region)
    near(loss(turn(student), turn(teacher), turn(region)), expected)
    near(loss(student[:, order], teacher[:, order], region, centre[order]), expected)
    near(loss(scale * student, scale * teacher, region, scale * centre, scale), expected)
    shared = student[:, :1].round()
    assert_close(loss(student, teacher + shared, region), expected, rtol=1e-5, atol=1e-5 + 1e-6 * shared.abs().max().item())
    parts = list(zip(student.split(1), teacher.split(1), region.split(1), strict=True))
    near(sum(added((loss(*part), part[2].sum()) for part in parts)), expected)


# Eq. 18-21


def turned(similarity, turn):
    """What the similarities with up, down, left, right become when the image turns."""
    names = {"left to right": [0, 1, 3, 2], "upside down": [1, 0, 2, 3], "transposed": [2, 3, 0, 1]}
    order = next(order for name, order in names.items() if hostile.TURNS[name] is turn)
    return turn(similarity)[:, order]


@given(st.data(), GRID, TURN, hostile.orders(DIM), st.sampled_from([1e-20, 1e-3, 1e3, 1e20]))
def test_neighbour_similarity_turns_with_the_image_whatever_the_scale(data, grid, turn, order, scale):
    features = data.draw(hostile.tensors(BATCH, DIM, *grid, **GENTLE))
    expected = correction.neighbour_similarity(features)
    for got, wanted in (
        (correction.neighbour_similarity(turn(features)), turned(expected, turn)),
        (correction.neighbour_similarity(features[:, order]), expected),
        (alone(correction.neighbour_similarity, features), expected),
        (correction.neighbour_similarity(scale * features), expected),
    ):
        assert_close(got, wanted, equal_nan=True, **NEAR)


@given(st.data(), GRID, TURN, hostile.orders(CLASSES), hostile.thresholds(), st.sampled_from([-1.0, 0.0, 0.3, 1.0]))
def test_corrected_labels_turn_with_the_image_and_go_with_their_classes(data, grid, turn, order, thresholds, tau):
    labels = data.draw(hostile.label_maps(BATCH, *grid, classes=CLASSES))
    noise, features = data.draw(hostile.tensors(BATCH, *grid, **SHARES)), data.draw(hostile.tensors(BATCH, DIM, *grid, **GENTLE))
    options = {"high": thresholds[1], "low": thresholds[0], "tau": tau}
    similarity = correction.neighbour_similarity(features)
    applied = correction.rules(noise, similarity, **options)
    assert torch.equal(correction.rules(turn(noise), turned(similarity, turn), **options), turn(applied))

    expected = correction.correct(labels, noise, features, **options)
    names = torch.arange(256)
    names[1 : CLASSES + 1] = order + 1
    assert torch.equal(correction.correct(names[labels], noise, features, **options), names[expected])
    two = similarity.nan_to_num(-2).topk(2, 1).values  # at a tie the first neighbour wins; so near to tau or it, rounding decides
    decided = ((two[:, 0] - two[:, 1]).abs() > 1e-5) & ~((similarity - tau).abs() < 1e-5).any(1) | (noise <= thresholds[0])
    back = correction.correct(turn(labels), turn(noise), turn(features), **options)
    assert torch.equal(back[turn(decided)], turn(expected)[turn(decided)])
    single = alone(lambda *one: correction.correct(*one, **options), labels, noise, features)
    assert torch.equal(single[decided], expected[decided])


# Eq. 22-24


@given(st.data(), GRID, TURN, hostile.orders(CLASSES), st.sampled_from(["balanced", "pixels", "none"]))
def test_segmentation_loss_sees_neither_places_nor_names_nor_what_all_logits_share(data, grid, turn, order, average):
    logits = data.draw(hostile.tensors(BATCH, CLASSES + 1, *grid, dtypes=(torch.float32,), **GENTLE))
    labels = data.draw(hostile.label_maps(BATCH, *grid, classes=CLASSES))

    def loss(logits, labels):
        return objective.segmentation_loss(logits, labels, average=average)

    expected = loss(logits, labels)
    near(loss(turn(logits), turn(labels)), expected)
    order = torch.cat([torch.zeros(1, dtype=torch.int64), order + 1])  # the background stays what it is
    near(loss(logits[:, order], torch.where(labels == 255, 255, order.argsort()[labels.clamp_max(CLASSES)])), expected)
    shared = logits[:, :1].round()
    assert_close(loss(logits + shared, labels), expected, rtol=1e-5, atol=1e-5 + 1e-6 * shared.abs().max().item())
    parts = zip(logits.split(1), labels.split(1), strict=True)
    near(sum(added(objective.segmentation_means(*part, average=average) for part in parts)), expected)
    assert torch.equal(objective.labelled(turn(labels)), objective.labelled(labels))


@given(st.data(), GRID, hostile.orders(CLASSES + 1))
def test_confusions_go_with_their_classes_whatever_the_order_of_pixels(data, grid, order):
    prediction, target = (data.draw(hostile.label_maps(BATCH, *grid, classes=CLASSES)) for _ in range(2))
    prediction = prediction.clamp_max(CLASSES)

    def matrix(prediction, target):
        found = metrics.ConfusionMatrix(CLASSES + 1)
        found.update(prediction, target)
        return found

    expected = matrix(prediction, target)
    assert torch.equal(matrix(prediction.flip(-1, -2), target.flip(-1, -2)).counts, expected.counts)
    back = order.argsort()
    renamed = matrix(back[prediction], torch.where(target == 255, 255, back[target.clamp_max(CLASSES)]))
    assert torch.equal(renamed.counts, expected.counts[order][:, order])
    assert_close(renamed.iou(), expected.iou()[order], equal_nan=True)
    assert_close(renamed.mean_iou(), expected.mean_iou(), equal_nan=True)


# refinement


@given(st.data(), GRID, TURN, hostile.orders(CLASSES))
def test_refined_maps_turn_with_the_picture_and_go_with_their_classes(data, grid, turn, order):
    maps = data.draw(hostile.tensors(BATCH, CLASSES, *grid, **SHARES))
    images = data.draw(hostile.tensors(BATCH, 3, *grid, kinds=EIGHT_BITS))
    expected = refine.refine(maps, images, dilations=(1, 2), iterations=3)
    got = refine.refine(turn(maps), turn(images), dilations=(1, 2), iterations=3)
    assert_close(got, turn(expected), rtol=1e-3, atol=1e-4)  # a difference of colour is divided by a small deviation
    assert torch.equal(refine.refine(maps[:, order], images, dilations=(1, 2), iterations=3), expected[:, order])
    near(alone(lambda *one: refine.refine(*one, dilations=(1, 2), iterations=3), maps, images), expected)
