"""COCO's size: instances are looked at one at a time, painted when a mask is asked for, and kept in a cache that stays small."""

import json
import os
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from dsgc.data import coco, codes, index
from dsgc.data.entries import decoded, entries_of
from dsgc.errors import UserError

IMAGES, EACH = 40, 25  # images of a file, instances of an image


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "dsgc"


def content(corners=40):
    """Instances whose outlines make up most of the file, as COCO's do; those of an image lie apart, as COCO's do too."""
    angles = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    rng = np.random.default_rng(0)

    def outline(number):
        wide = rng.uniform(5, 25, corners)
        return np.stack([32 + wide * np.cos(angles + number), 32 + wide * np.sin(angles + number)], -1).round(2).ravel().tolist()

    images = [{"id": i, "file_name": f"{i}.png", "width": 64, "height": 64} for i in range(IMAGES)]
    same = {"area": 1.5, "iscrowd": 0, "bbox": [0, 0, 9, 9]}
    rows = [
        {"segmentation": [outline(n)], **same, "image_id": n % IMAGES, "category_id": n % 3, "id": n} for n in range(IMAGES * EACH)
    ]
    return {"images": images, "annotations": rows, "categories": [{"id": i, "name": f"class {i}"} for i in range(3)]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("coco")
    (root / "annotations").mkdir()
    (root / "val").mkdir()
    for number in range(IMAGES):
        Image.new("RGB", (64, 64)).save(root / f"val/{number}.png")
    (root / "annotations/instances_val.json").write_text(json.dumps(content()))
    return root


@pytest.fixture
def path(folder, tmp_path):
    """A copy of the instances that a test may change."""
    copy = tmp_path / "instances.json"
    copy.write_bytes((folder / "annotations/instances_val.json").read_bytes())
    return copy


def mask(split, image_id):
    return np.asarray(split.mask(image_id, (64, 64)))


def test_memory_is_that_of_the_file_and_not_of_what_is_in_it(path):
    """As objects of Python the content takes five times the file's size."""
    coco.build(path, "val")  # what is imported is there from now on
    tracemalloc.start()
    found = coco.build(path, "val")
    (_, peak), size = tracemalloc.get_traced_memory(), path.stat().st_size
    tracemalloc.stop()
    assert peak < 2 * size
    assert sum(part.nbytes for part in found) < size / 10, "and nothing is kept of the outlines"


def test_opening_paints_no_mask_but_the_first_that_there_is(folder, monkeypatch):
    painted, genuine = [], codes.code_of
    monkeypatch.setattr(codes, "code_of", lambda *shape: painted.append(shape) or genuine(*shape))
    split = coco.open_split(folder, "val")
    assert len(painted) == 1 and split.tags().sum() == 3 * IMAGES
    mask(split, "7")
    assert len(painted) == 1 + EACH


def test_a_mask_is_painted_of_the_image_s_own_instances(folder):
    from pycocotools import mask as codec

    split = coco.open_split(folder, "val")
    for number in (0, 1, IMAGES - 1):
        rows = [row for row in content()["annotations"] if row["image_id"] == number]
        code = [codec.frPyObjects(row["segmentation"], 64, 64)[0] for row in rows]
        expected = np.zeros((64, 64), np.uint8)
        for i in sorted(range(EACH), key=lambda i: -int(codec.area(code[i]))):
            expected[codec.decode(code[i]) > 0] = rows[i]["category_id"] + 1
        np.testing.assert_array_equal(mask(split, str(number)), expected)


def with_the_first_elsewhere(text):
    """The same text stands in a list that is no part of COCO's, before the one that is."""
    first = text[text.index(b'{"segmentation') : text.index(b', {"segmentation')]
    return b'{"more": [' + first + b"], " + text[1:]


WRITTEN = {
    "spaced out": lambda text: json.dumps(json.loads(text), indent=3).encode(),
    "a byte order mark": lambda text: b"\xef\xbb\xbf" + text,
    "UTF-16": lambda text: text.decode().encode("utf-16"),
    "UTF-32 without a mark": lambda text: text.decode().encode("utf-32-be"),
    "a NaN in a box": lambda text: text.replace(b'"bbox": [0, 0, 9, 9]', b'"bbox": [0, 0, NaN, 9]', 1),
    "a number that is infinite": lambda text: text.replace(b'"area": 1.5', b'"area": 1.5, "score": 1e999'),
    "half of a pair of letters": lambda text: text.replace(b'"area": 1.5', b'"area": 1.5, "note": "\\ud800"', 1),
    "a list named twice, the last counts": lambda text: b'{"images": 5, ' + text[1:],
    "the lists in another order": lambda text: json.dumps(dict(reversed(json.loads(text).items()))).encode(),
    "the first entry elsewhere too": with_the_first_elsewhere,
}  # fmt: skip


@pytest.mark.parametrize("name", WRITTEN)
def test_each_instance_is_found_again_however_the_file_is_written(name, path, folder):
    expected, text = coco.build(path, "val"), path.read_bytes()
    rows = {row["id"]: row for row in json.loads(text)["annotations"]}
    path.write_bytes(WRITTEN[name](text))
    assert path.read_bytes() != text
    found = coco.build(path, "val")
    for part in ("classes", "files", "sizes", "first", "categories", "masks"):
        np.testing.assert_array_equal(getattr(found, part), getattr(expected, part))
    texts = list(index.texts(path, index.stamp_of(path), found, slice(None)))
    assert [decoded(text)["image_id"] for text in texts] == np.repeat(np.arange(IMAGES), EACH).tolist()
    assert all(row["segmentation"] == rows[row["id"]]["segmentation"] for row in map(decoded, texts))


@pytest.mark.parametrize(("text", "words"), [
    (b'{"images": [{"id": "\xff"}], "annotations": [], "categories": []}', "utf-8"),
    (b'{"images": [{"id": 01}], "annotations": [], "categories": []}', "delimiter"),
    (b'{"images": [], "annotations": [], "categories": []} {}', "Extra data"),
    (b'{"images": [], "annotations": [' + b"[" * 10**5 + b"]" * 10**5 + b'], "categories": []}', "recursion"),
    (b'{"images": [], "annotations": [], "categories": [{"id": ' + b"1" * 5000 + b"}]}", "digits"),
])  # fmt: skip
def test_what_is_no_json_in_an_entry_is_refused_in_one_line(text, words, path):
    path.write_bytes(text)
    with pytest.raises(UserError, match=rf"instances\.json: not a readable instances file \(.*{words}.*download it again$"):
        coco.build(path, "val")


def test_a_file_that_is_changed_after_it_was_opened_paints_no_mask(folder, path, monkeypatch):
    split = coco.open_split(folder, "val")._replace(origin=str(path), stamp=index.stamp_of(path))
    mask(split, "0")
    os.utime(path, (1, 1))
    with pytest.raises(UserError, match=r"instances\.json: has been changed since it was opened; begin again"):
        mask(split, "0")
    path.unlink()
    with pytest.raises(UserError, match=r"instances\.json: cannot be read"):
        mask(split, "0")


def test_the_cache_keeps_the_files_written_last(path, cache, monkeypatch):
    monkeypatch.setattr(index, "KEPT", 2)
    for number in range(4):
        os.utime(path, (number, number))
        index.kept(path, index.stamp_of(path), lambda: coco.build(path, "val"))
        for place in cache.iterdir():  # as if some time went by
            os.utime(place, (place.stat().st_mtime - 60,) * 2)
    assert len(list(cache.iterdir())) == 2
    index.kept(path, index.stamp_of(path), lambda: pytest.fail("the one written last was taken out"))


def test_a_file_that_was_cut_gives_its_parts_in_order(path):
    entries, expected = entries_of(path), content()
    assert entries.own and entries.info is None
    assert {part: [decoded(entry) for entry in pieces] for part, pieces in entries.parts.items()} == expected
