"""Drawn scenes: parts and instances agree, a dial at 0 turns its difficulty off, elsewhere it says how much of it there is."""

import itertools
from collections import Counter

import numpy as np
import pytest
from scipy.ndimage import binary_dilation, distance_transform_edt

from dsgc.data import coco, drawing, scenes, shapes, shapes_coco
from dsgc.data.scenes import BODY, DIALS, EASY, GROUND, GROUNDS, HEAD, KINDS, LOOKS

SMALL_SIDE = 64  # pixels; what is asked here does not hang on the size, and a quarter of the pixels takes a quarter of the time
SMALL_AREA = 0.07  # of the picture: between the largest of the small things and the smallest of the others


def drawn(count, objects=1, kinds=KINDS, side=SMALL_SIDE, **dials):
    """Scenes of the data set, with some dials turned."""
    found = (scenes.scene(np.random.default_rng((5, i)), kinds, objects, DIALS._replace(**dials), side) for i in range(count))
    return [one for one in found if len(one.placed) == objects]


def hue(pixels):
    """Mean hue (degrees) of pixels (N, 3), as the direction of their colour around grey."""
    red, green, blue = pixels.astype(float).mean(0)
    return np.degrees(np.arctan2(np.sqrt(3) * (green - blue), 2 * red - green - blue)) % 360


def nearest(pixels, hues):
    """Which of the hues the pixels have."""
    away = abs((hue(pixels) - np.array(hues) + 180) % 360 - 180)
    assert away.min() < 25, "of none of them"
    return int(away.argmin())


def share(found):
    return np.mean(list(found))


# pictures


@pytest.fixture(scope="module")
def pictures():
    """Scenes of the data set as they are, two things in each."""
    return drawn(60, objects=2)


def test_the_same_seed_gives_the_same_scene_and_another_seed_another():
    one, two, other = (shapes.picture((0, 0, number)) for number in (4, 4, 5))
    assert one.placed == two.placed and all(map(np.array_equal, one[:3], two[:3]))
    assert not np.array_equal(one.image, other.image)


def test_shapes_and_values(pictures):
    for image, instances, parts, placed in pictures:
        side = (SMALL_SIDE, SMALL_SIDE)
        assert (image.shape, image.dtype, instances.shape, parts.shape) == ((*side, 3), np.uint8, side, side)
        assert set(np.unique(instances)) == set(range(len(placed) + 1)), "each object is seen"
        assert set(np.unique(parts)) <= {0, HEAD, BODY, GROUND} and set(placed) <= set(range(len(KINDS)))


def test_what_is_of_a_thing_is_head_or_body_and_nothing_else_is(pictures):
    for _, instances, parts, _ in pictures:
        assert np.array_equal(instances > 0, (parts == HEAD) | (parts == BODY))


def test_later_things_stand_in_front_and_leave_most_of_the_earlier_ones_to_be_seen(pictures):
    for image, instances, _, _ in pictures:
        behind, before = (instances == 1).mean(), (instances == 2).mean()
        assert min(behind, before) > 0.01 and image[instances == 1].std() > 0


def test_things_are_textured_and_background_is_cluttered(pictures):
    for image, instances, _, placed in pictures:
        for part in range(len(placed) + 1):
            assert image[instances == part].std(0).max() > 8


def test_heads_are_as_large_as_bodies():
    """Seen from all sides; a little less than .4 of the length is body, since a head covers the neck, and it is the wider part."""
    bodies = share((s.parts == BODY).sum() / (s.instances > 0).sum() for s in drawn(60))
    assert 0.35 < bodies < 0.55


# classes


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_heads_bodies_and_grounds_have_the_colours_of_their_class(kind):
    for image, _, parts, _ in drawn(6, kinds=[kind], grounds=1):
        assert nearest(image[parts == HEAD], [one.hue for one in KINDS]) == KINDS.index(kind)
        assert nearest(image[parts == BODY], [of_look for of_look, _ in LOOKS]) == kind.look
        assert nearest(image[parts == GROUND], [of_ground for of_ground, _ in GROUNDS]) == kind.ground


def test_a_body_is_of_two_classes_and_a_ground_of_one():
    assert set(Counter(kind.look for kind in KINDS).values()) == {2} and len({kind.look for kind in KINDS}) == len(LOOKS)
    assert sorted(kind.ground for kind in KINDS) == list(range(len(GROUNDS)))


def test_no_two_classes_share_a_silhouette_a_hue_or_a_texture():
    for one, other in itertools.combinations(KINDS, 2):
        assert one.outline != other.outline and one.texture != other.texture
        assert abs((one.hue - other.hue + 180) % 360 - 180) >= 30, (one, other)  # each is drawn up to 15 degrees off


def test_all_classes_are_drawn_alike_often():
    counts = Counter(s.placed[0] for s in drawn(300, side=16))
    assert len(counts) == len(KINDS) and min(counts.values()) > 30 and max(counts.values()) < 70


def test_pretraining_kinds_differ_from_the_classes_in_two_of_outline_hue_and_texture():
    kinds = scenes.pretraining_kinds()
    assert len({(kind.outline, kind.hue, kind.texture) for kind in kinds}) == len(kinds) == 48
    for kind, known in itertools.product(kinds, KINDS):
        near = abs((kind.hue - known.hue + 180) % 360 - 180) < 20
        assert (kind.outline == known.outline) + near + (kind.texture == known.texture) <= 1, (kind, known)


def test_kinds_use_only_what_can_be_drawn_and_so_do_bodies_and_grounds():
    for kind in (*KINDS, *scenes.pretraining_kinds()):
        assert kind.outline in drawing.OUTLINES and 0 <= kind.hue < 360
        assert kind.look in range(len(LOOKS)) and kind.ground in range(len(GROUNDS))
    textures = [kind.texture for kind in (*KINDS, *scenes.pretraining_kinds())] + [texture for _, texture in (*LOOKS, *GROUNDS)]
    assert set(textures) <= set(drawing.TEXTURES)


# dials


def test_with_all_dials_at_0_a_thing_is_its_head_and_stands_on_the_plain_background():
    for s in drawn(30, objects=2, **EASY._asdict()):
        assert np.array_equal(s.parts, HEAD * (s.instances > 0))
        assert (np.bincount(s.instances.ravel())[1:] > 0).all()


def test_bodies_grow_with_their_dial():
    shares = [share((s.parts == BODY).sum() / (s.instances > 0).sum() for s in drawn(20, body=body)) for body in (0, 0.2, 0.4, 0.6)]
    assert shares[0] == 0 and (np.diff(shares) > 0.1).all()


@pytest.mark.parametrize("dial", [0, 0.3, 1])
def test_small_things_are_as_many_as_their_dial_says(dial):
    found = share((s.instances > 0).mean() < SMALL_AREA for s in drawn(100, small=dial, side=32))
    assert found == dial if dial in (0, 1) else found == pytest.approx(dial, abs=0.1)


def around(scene):
    """What lies beside the things of a scene (side, side)."""
    thing = scene.instances > 0
    return binary_dilation(thing, iterations=3) & ~thing


def stands(scene):
    """Whether a thing stands on the ground of its class."""
    beside = around(scene) & (scene.parts == GROUND)
    wanted = KINDS[scene.placed[0]].ground
    return beside.sum() > 0.3 * around(scene).sum() and nearest(scene.image[beside], [of_ground for of_ground, _ in GROUNDS]) == wanted


@pytest.mark.parametrize("dial", [0, 0.4, 1])
def test_things_stand_on_the_ground_of_their_class_as_often_as_the_dial_says(dial):
    found = drawn(100, grounds=dial)
    assert share(map(stands, found)) == pytest.approx(dial, abs=0.1 * (dial not in (0, 1)))
    assert any((s.parts == GROUND).any() for s in found) == (dial > 0)


def test_a_quarter_as_often_a_ground_lies_elsewhere(monkeypatch):
    """Of a class drawn by lot; so grounds speak for a class, and not for sure."""
    laid, genuine = [], scenes._put_ground
    monkeypatch.setattr(scenes, "_put_ground", lambda rng, canvas, kind, where: laid.append(kind) or genuine(rng, canvas, kind, where))
    things = len(drawn(300, grounds=0.8, kinds=KINDS[:1], side=16))
    assert len(laid) / things == pytest.approx(0.8 * 1.25, abs=0.1)
    laid.clear()
    things = len(drawn(300, grounds=1, side=16))
    assert len(laid) / things == pytest.approx(1.25, abs=0.07) and set(laid) == set(KINDS)


def gap(scene):
    """Between two things, in shares of the picture's side; a pixel's width where they touch."""
    return distance_transform_edt(scene.instances != 1)[scene.instances == 2].min() / SMALL_SIDE


def test_things_put_beside_another_are_close_to_it():
    """Small ones, which have room to be apart; large ones often meet wherever they are put."""
    apart, both, close = ([gap(s) for s in drawn(40, objects=2, small=1, touching=dial)] for dial in (0, 0.5, 1))
    assert max(close) < 0.12 and share(np.array(close) < 0.05) > 0.5
    assert share(np.array(apart) > 0.12) > 0.5
    assert share(np.array(close) < 0.05) > share(np.array(both) < 0.05) > share(np.array(apart) < 0.05)


# tags


def said(split, dials=DIALS, count=2000, placed=(0, 3)):
    return [shapes.tags((7, split, number), list(placed), dials) for number in range(count)]


def test_of_the_training_pictures_the_dial_s_share_has_a_wrong_tag():
    for dial in (0.05, 0.3):
        wrong = share(tags != [0, 3] for tags in said(0, DIALS._replace(wrong_tags=dial)))
        assert wrong == pytest.approx(dial, abs=3 * np.sqrt(dial / 2000))
    assert not any(tags != [0, 3] for tags in said(0, DIALS._replace(wrong_tags=0)))


@pytest.mark.parametrize("split", [1, 2], ids=["dev", "val"])
def test_no_tag_is_wrong_of_pictures_that_score(split):
    assert all(tags == [0, 3] for tags in said(split, DIALS._replace(wrong_tags=1)))


def test_a_tag_is_missing_or_one_too_many_about_alike_often():
    """Which class is left out, and which is named that is not there, is drawn by lot."""
    found = said(0, DIALS._replace(wrong_tags=1))
    missing, more = [tags for tags in found if len(tags) == 1], [tags for tags in found if len(tags) == 3]
    assert len(missing) + len(more) == len(found) and 0.45 < len(missing) / len(found) < 0.55
    assert {tuple(tags) for tags in missing} == {(0,), (3,)}
    assert {tags[2] for tags in more} == {1, 2, 4, 5} and all(tags[:2] == [0, 3] for tags in more)


@pytest.mark.parametrize("placed", [[2], [2, 2]])
def test_a_picture_of_one_class_keeps_its_tag(placed):
    found = said(0, DIALS._replace(wrong_tags=1), 100, placed)
    assert all(tags[:-1] == placed and tags[-1] != 2 for tags in found)


def test_coco_s_layout_has_the_same_wrong_tags_and_no_pixel_of_what_is_not_there(tmp_path):
    count = 12
    seed = next(s for s in itertools.count() if sum(shapes.tags((s, 0, i), [0, 3]) != [0, 3] for i in range(count)) > 2)
    folder = shapes_coco.write(tmp_path / "coco", seed=seed, sizes={"train2014": count})
    split, wrong = coco.open_split(folder, "train2014"), 0
    for number, (image_id, read) in enumerate(zip(split.ids, split.tags(), strict=True)):
        placed = shapes.picture((seed, 0, number)).placed
        tags = set(shapes.tags((seed, 0, number), placed))
        wrong += tags != set(placed)
        assert set(np.flatnonzero(read)) == tags
        mask = np.asarray(split.mask(image_id, (scenes.SIDE, scenes.SIDE)))
        assert set(np.unique(mask)) - {0} == {kind + 1 for kind in tags & set(placed)}
    assert wrong > 2 and len(split.ids) == count


def test_things_are_kept_apart_where_the_dial_of_touching_is_at_0():
    several = drawn(30, objects=2, touching=0)
    assert len(several) > 5
    assert all(SMALL_SIDE * gap(one) > 1 for one in several)  # pixels
