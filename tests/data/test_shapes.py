"""The embedded data set: the same from the same seed, in VOC's layout, tags and boxes and masks in agreement."""

import itertools
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from tqdm import tqdm

from dsgc.data import scenes, shapes, shapes_coco
from dsgc.data.palette import voc_palette
from dsgc.errors import UserError

FEW = {"train": 3, "dev": 1, "val": 2}
NAMES = [kind.name for kind in shapes.KINDS]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A data set large enough for averages, with every tag right."""
    dials = scenes.DIALS._replace(wrong_tags=0)
    return shapes.write(tmp_path_factory.mktemp("shapes") / "set", seed=3, sizes={"train": 40, "dev": 2, "val": 8}, dials=dials)


def contents(root):
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def objects(root, image_id):
    """(name, box) of every object of an annotation; the box as VOC counts, from 1 and inclusive."""
    for item in ElementTree.parse(root / "Annotations" / f"{image_id}.xml").iterfind("object"):
        yield item.findtext("name"), [int(item.findtext(f"bndbox/{side}")) for side in ("xmin", "ymin", "xmax", "ymax")]


def masks(root):
    for path in sorted((root / "SegmentationClass").glob("*.png")):
        yield path.stem, np.asarray(Image.open(path))


def test_same_seed_gives_the_same_bytes_in_every_file(tmp_path):
    one, two = (shapes.write(tmp_path / name, seed=7, sizes=FEW) for name in "ab")
    assert contents(one) == contents(two)


def test_another_seed_gives_other_images(tmp_path):
    one, two = (contents(shapes.write(tmp_path / str(seed), seed=seed, sizes=FEW)) for seed in (0, 1))
    assert one.keys() == two.keys()
    assert all(one[name] != two[name] for name in one if name.startswith("JPEGImages"))


def test_a_split_does_not_change_when_another_grows(tmp_path):
    small = contents(shapes.write(tmp_path / "small", sizes=FEW))
    large = contents(shapes.write(tmp_path / "large", sizes=FEW | {"train": 5}))
    assert all(large[name] == content for name, content in small.items() if not name.endswith("train.txt"))


def test_no_two_images_are_the_same(written):
    files = [path.read_bytes() for path in (written / "JPEGImages").iterdir()]
    assert len(set(files)) == len(files) == 50


def test_layout_is_voc(written):
    lists = {path.stem: path.read_text().split() for path in (written / "ImageSets/Segmentation").iterdir()}
    assert {name: len(ids) for name, ids in lists.items()} == {"train": 40, "dev": 2, "val": 8}
    ids = sorted(itertools.chain(*lists.values()))
    assert len(set(ids)) == len(ids)
    for folder, ending in (("JPEGImages", ".jpg"), ("SegmentationClass", ".png"), ("SegmentationParts", ".png"), ("Annotations", ".xml")):
        assert sorted(path.name for path in (written / folder).iterdir()) == [name + ending for name in ids]
    assert (written / "classes.txt").read_text().split() == NAMES


def test_there_are_at_least_five_classes_and_all_occur(written):
    assert len(set(NAMES)) == len(NAMES) >= 5
    assert {name for image_id, _ in masks(written) for name, _ in objects(written, image_id)} == set(NAMES)


def test_images_are_rgb_and_masks_palette_png_with_labels_of_the_classes(written):
    for image_id, labels in masks(written):
        mask = Image.open(written / "SegmentationClass" / f"{image_id}.png")
        image = Image.open(written / "JPEGImages" / f"{image_id}.jpg")
        assert (mask.format, mask.mode, image.format, image.mode) == ("PNG", "P", "JPEG", "RGB")
        assert image.size == mask.size == (scenes.SIDE, scenes.SIDE)
        assert labels.max() <= len(NAMES)
        stored = np.array(mask.getpalette()).reshape(-1, 3)
        assert (stored[: len(NAMES) + 1] == voc_palette()[: len(NAMES) + 1]).all()


def test_annotations_name_the_classes_visible_in_the_mask(written):
    for image_id, labels in masks(written):
        visible = {NAMES[label - 1] for label in np.unique(labels) if label}
        assert {name for name, _ in objects(written, image_id)} == visible, image_id


def test_boxes_are_tight_around_the_objects_visible_pixels(written):
    for image_id, labels in masks(written):
        covered = np.zeros_like(labels, dtype=bool)
        found = list(objects(written, image_id))
        for name, (left, top, right, bottom) in found:
            assert 1 <= left <= right <= scenes.SIDE and 1 <= top <= bottom <= scenes.SIDE
            inside = labels[top - 1 : bottom, left - 1 : right] == NAMES.index(name) + 1
            assert all(edge.any() for edge in (inside[0], inside[-1], inside[:, 0], inside[:, -1])), (image_id, name)
            covered[top - 1 : bottom, left - 1 : right] = True
        assert not labels[~covered].any(), f"{image_id}: an object outside every box"


def test_a_wrong_tag_is_an_object_left_out_or_one_that_is_said_of_the_whole_picture(tmp_path):
    """Of the training split alone; masks do not change."""
    few = {"train": 12, "dev": 3, "val": 3}
    right, wrong = (shapes.write(tmp_path / str(dial), sizes=few, dials=scenes.DIALS._replace(wrong_tags=dial)) for dial in (0, 1))
    assert {name for name, content in contents(right).items() if content != contents(wrong)[name]} == {
        f"Annotations/train_{number:05d}.xml" for number in range(12)
    }
    whole, left_out = [1, 1, scenes.SIDE, scenes.SIDE], 0
    for image_id in (f"train_{number:05d}" for number in range(12)):
        shown, said = (list(objects(root, image_id)) for root in (right, wrong))
        more = [one for one in said if one not in shown]
        left_out += not more
        assert all(box == whole and name not in dict(shown) for name, box in more) and len(more) <= 1
        assert [one for one in said if one in shown] == [one for one in shown if more or one[0] in dict(said)]
        assert set(dict(said)) ^ set(dict(shown)) and said
    assert 0 < left_out < 12


def test_there_are_one_or_two_objects_an_image(written):
    counts = [(len(found := list(objects(written, image_id))), len(dict(found))) for image_id, _ in masks(written)]
    objects_, classes = np.mean(counts, 0)
    assert {count for count, _ in counts} == set(scenes.OBJECTS) and objects_ > classes > 1.2


def test_neither_background_nor_objects_fill_the_images(written):
    share = np.mean([(labels > 0).mean() for _, labels in masks(written)])
    assert 0.1 < share < 0.6


def test_parts_are_beside_the_masks_and_agree_with_them(written):
    """0 background, 1 head, 2 body, 3 ground, which is background too."""
    found = set()
    for image_id, labels in masks(written):
        parts = np.asarray(Image.open(written / "SegmentationParts" / f"{image_id}.png"))
        assert np.array_equal(np.isin(parts, (scenes.HEAD, scenes.BODY)), labels > 0), image_id
        found |= set(np.unique(parts))
    assert found == {0, scenes.HEAD, scenes.BODY, scenes.GROUND}


def test_an_empty_folder_is_taken(tmp_path):
    (tmp_path / "out").mkdir()
    assert (shapes.write(tmp_path / "out", sizes=FEW) / "classes.txt").is_file()


def test_a_folder_with_something_in_it_is_refused_and_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("kept")
    with pytest.raises(UserError, match="not an empty folder"):
        shapes.write(tmp_path, sizes=FEW)
    assert contents(tmp_path) == {"mine.txt": b"kept"}


def test_the_data_set_is_written_where_there_is_nothing_of_its_name_and_else_left_as_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr(shapes, "SPLITS", FEW)
    shapes.ensure(tmp_path / "new/set")
    first = contents(tmp_path / "new/set")
    assert first == contents(shapes.write(tmp_path / "same"))
    (tmp_path / "new/set/classes.txt").write_text("mine")
    shapes.ensure(str(tmp_path / "new/set"))
    assert contents(tmp_path / "new/set") == first | {"classes.txt": b"mine"}


def test_where_another_process_is_sooner_its_data_set_is_taken(tmp_path, monkeypatch):
    """As where two processes of one training begin; both draw the same."""
    genuine, whole = shapes._write_all, shapes.write(tmp_path / "theirs", sizes=FEW)
    monkeypatch.setattr(shapes, "SPLITS", FEW)
    monkeypatch.setattr(shapes, "_write_all", lambda *given: (genuine(*given), whole.rename(tmp_path / "set")))
    shapes.ensure(tmp_path / "set")
    assert (tmp_path / "set/classes.txt").is_file() and [path.name for path in tmp_path.iterdir()] == ["set"]


@pytest.mark.parametrize(
    "failure", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=["full", "stopped"]
)
def test_what_breaks_off_leaves_nothing_behind(tmp_path, monkeypatch, failure):
    def fail(*_, **__):
        raise failure

    monkeypatch.setattr(shapes, "Pool", fail)
    with pytest.raises(UserError if isinstance(failure, OSError) else KeyboardInterrupt):
        shapes.write(tmp_path / "out", sizes=FEW)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("wrong", [{"seed": -1}, {"sizes": {"train": -1}}], ids=["seed", "size"])
def test_negative_numbers_are_refused(tmp_path, wrong):
    with pytest.raises(UserError, match="must not be negative"):
        shapes.write(tmp_path / "out", **({"sizes": FEW} | wrong))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("module", "sizes"), [(shapes, FEW), (shapes_coco, {"train2014": 2, "val2014": 1})], ids=["VOC", "COCO"])
def test_a_terminal_sees_how_far_the_drawing_is_and_a_file_does_not(module, sizes, tmp_path, monkeypatch, capsys):
    seen = []
    monkeypatch.setattr(module, "tqdm", lambda stream, **given: seen.append(given) or tqdm(stream, **given))
    module.write(tmp_path / "drawn", sizes=sizes)
    assert sum(given["total"] for given in seen) == sum(sizes.values()) and capsys.readouterr().err == ""
    assert all(given["disable"] is None for given in seen)  # shown where standard error is a terminal
