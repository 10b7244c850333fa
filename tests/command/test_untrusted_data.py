"""Data sets, caches and results of strangers: real attack files, each shown to work on a careless reader, run nothing here.

XML with entities, PostScript that calls itself a picture, a poisoned cache, names that are commands, results of nonsense.
"""

import base64
import json
import os
import pickle
import shutil

import numpy as np
import pytest
from attacks import (
    CACHES,
    ENCODINGS,
    NAMES,
    PDF,
    POSTSCRIPT,
    XML,
    bare,
    elsewhere,
    expanded,
    falls_for_it,
    ghostscript,
    index_of,
    opens,
    poisoned,
    renamed,
    rendered,
    unpacked,
    with_exif,
    with_members,
)
from promises import promise
from refusal import refused, refused_by_both, tree
from spoilt import every, write

from dsgc.__main__ import main
from dsgc.data.split import open_split
from dsgc.errors import UserError
from dsgc.experiments import grids, stored
from dsgc.scoring import pictures
from dsgc.training.loop import train

# annotations


@promise("Untrusted files", "Annotations are read without entities: none is expanded, no file or address that one names is opened.")
@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("name", XML)
def test_annotations_with_entities_are_refused(name, encoding, shapes_copy, tmp_path, arguments, tiny, capsys):
    make, fell = XML[name]
    content = make(tmp_path).encode(encoding)
    assert fell(expanded(content))
    write("Annotations/train_00003.xml", content)(shapes_copy)
    fields = {"data": str(shapes_copy), "out": str(tmp_path / "run")}
    named = ("train_00003.xml", "not a readable annotation", "entities are not expanded")
    refused_by_both(arguments(**fields), lambda: train(tiny(**fields)), tmp_path, capsys, *named)


# pictures


@pytest.fixture
def postscript(marker, tmp_path, monkeypatch):
    ghostscript(tmp_path / "bin", marker, monkeypatch)
    (tmp_path / "a.jpg").write_bytes(POSTSCRIPT)
    falls_for_it(rendered, tmp_path / "a.jpg", marker)


@promise("Untrusted files", "A picture is opened as what pictures are; a PostScript file by whatever name starts no interpreter.")
@pytest.mark.parametrize("content", [POSTSCRIPT, PDF], ids=["PostScript", "PDF"])
@pytest.mark.parametrize("files", ["JPEGImages/val*", "SegmentationClass/val*"])
def test_postscript_by_another_name_is_not_run(files, content, postscript, shapes_copy, tmp_path, arguments, tiny, capsys):
    every(files, lambda path: path.write_bytes(content))(shapes_copy)
    fields = {"data": str(shapes_copy), "out": str(tmp_path / "run")}
    refused_by_both(arguments(**fields), lambda: train(tiny(**fields)), tmp_path, capsys, "val_00000", "not a readable")


@pytest.mark.parametrize(("tag", "kind"), [(0x014A, 5), (0x010F, 11)], ids=["a fraction for a place", "a fraction for a text"])
def test_a_picture_with_exif_that_cannot_be_is_refused(tag, kind, shapes_copy, tmp_path, arguments, tiny, capsys):
    every("JPEGImages/val*", lambda path: path.write_bytes(with_exif(tag, kind)))(shapes_copy)
    fields = {"data": str(shapes_copy), "out": str(tmp_path / "run")}
    refused_by_both(arguments(**fields), lambda: train(tiny(**fields)), tmp_path, capsys, "val_00000.jpg", "not a readable image")


@promise("Untrusted files", "A picture is opened as what pictures are; a PostScript file by whatever name starts no interpreter.")
def test_postscript_among_the_pictures_of_a_result_is_not_run(postscript):
    with pytest.raises(OSError, match="cannot identify"):
        pictures.decoded(base64.b64encode(POSTSCRIPT).decode())


# the cache of COCO's instances


@pytest.fixture(scope="module")
def drawn(coco_folder):
    return coco_folder


@pytest.fixture
def kept(drawn, tmp_path, monkeypatch):
    """The cache's file of val2014."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    open_split(drawn, "val2014")
    (path,) = (tmp_path / "cache/dsgc").iterdir()
    return path


def same_as_before(drawn, kept, before):
    """The split is what it was, and so is the cache."""
    split = open_split(drawn, "val2014")
    for image_id in split.ids:
        split.mask(image_id, split.image(image_id).size)
    assert all(np.array_equal(*parts) for parts in zip(split.index, before, strict=True))
    assert all(np.array_equal(*parts) for parts in zip(index_of(kept), before, strict=True))


@promise("Untrusted files", "A cache that is not as it was written runs nothing, and is made anew or refused.")
@pytest.mark.parametrize("save", ["an object in an array", "a pickle"])
def test_a_cache_with_code_is_made_anew(save, drawn, kept, marker):
    before = index_of(kept)
    if save == "a pickle":
        bare(opens(marker), kept)
    else:
        poisoned(kept, classes=np.array([opens(marker)], object))
    falls_for_it(lambda path: dict(np.load(path, allow_pickle=True)), kept, marker)
    same_as_before(drawn, kept, before)


@promise("Untrusted files", "A cache that is not as it was written runs nothing, and is made anew or refused.")
@pytest.mark.parametrize("name", CACHES)
def test_a_cache_whose_parts_do_not_fit_is_made_anew(name, drawn, kept):
    before = index_of(kept)
    poisoned(kept, **CACHES[name](before))
    same_as_before(drawn, kept, before)


@promise("Untrusted files", "A cache that is not as it was written runs nothing, and is made anew or refused.")
@pytest.mark.parametrize("damage", ["one array", "cut short", "zeros"])
def test_a_cache_of_another_format_is_made_anew(damage, drawn, kept):
    before, content = index_of(kept), kept.read_bytes()
    if damage == "one array":
        with kept.open("wb") as file:
            np.save(file, np.zeros(3))
    else:
        kept.write_bytes(content[: len(content) // 2] + (bytes(len(content) // 2) if damage == "zeros" else b""))
    same_as_before(drawn, kept, before)


@promise("Untrusted files", "A cache that is not as it was written runs nothing, and is made anew or refused.")
def test_a_cache_that_does_not_fit_its_file_is_refused_in_one_line(drawn, kept, capsys, tmp_path, arguments):
    poisoned(kept, **elsewhere(index_of(kept)))
    out = tmp_path / "run"
    words = arguments(data=str(drawn), out=str(out), train_split="train2014", val_split="val2014")
    refused(words, capsys, str(kept.parent), "does not fit it", "delete the folder")
    assert not out.exists()


@promise("Untrusted files", "No archive is unpacked: what lies in one under a name outside its folder is written nowhere.")
def test_a_cache_whose_archive_leaves_its_folder_writes_nothing(drawn, kept, tmp_path):
    escaped, before = tmp_path / "escaped.npy", index_of(kept)
    with_members(kept, "../../../escaped.npy")
    falls_for_it(unpacked, kept, escaped)
    shutil.rmtree(kept.parent / "unpacked")
    files = tree(tmp_path)
    assert all(np.array_equal(*parts) for parts in zip(open_split(drawn, "val2014").index, before, strict=True))
    assert tree(tmp_path) == files


# names and words


@promise("Untrusted files", "Names that files give reach no shell.")
@pytest.mark.parametrize("layout", ["VOC", "COCO"])
def test_names_that_are_commands_are_names(layout, shapes_copy, drawn, marker, tmp_path, arguments, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    falls_for_it(lambda name: os.system(f"echo {name} > /dev/null"), NAMES[0], marker)
    if layout == "VOC":
        data, train_split, val_split, old = shapes_copy, "train", "val", "{}_{:05d}"
    else:
        data, train_split, val_split, old = shutil.copytree(drawn, tmp_path / "coco"), "train2014", "val2014", "COCO_{}_{:012d}"
    first = 0 if layout == "VOC" else int(open_split(data, val_split).ids[0][-12:])
    held_out = {old.format(val_split, first + i): name for i, name in enumerate(NAMES[:4])}
    renamed(data, held_out | {old.format(train_split, i + 1): name for i, name in enumerate(NAMES[4:])})
    words = arguments(data=str(data), out="run", train_split=train_split, val_split=val_split, pictures=4)
    assert main(words) == 0 and main(["predict", "run", "out", "--split", val_split]) == 0
    assert {path.stem for path in tmp_path.glob("run/pictures/*.png")} == {*NAMES[:4]}
    assert {path.stem for path in tmp_path.glob("out/**/*.png")} == {*NAMES[:4]}


# results of the grids


ABOUT = dict.fromkeys(("code", "commit", "date", "machine", "processor", "system"), "0")
ABOUT |= {"threads": 1, "seconds": 1, "versions": {}, "warm_up": {}}


def result_of(config, about=ABOUT, **parts):
    return stored.Result(stored.described(config), {}, {}, {}, about)._replace(**parts)


def written(result):
    """A result as its file holds it; the digest is right, whatever is inside."""
    return json.dumps(result._asdict() | {"digest": stored.digest(result)}).encode()


NONSENSE = {
    "zero bytes": lambda config: b"",
    "a list": lambda config: b"[]",
    "a number": lambda config: b"5",
    "nothing": lambda config: b"null",
    "a text of another encoding": lambda config: b"\xff\xfe{}",
    "brackets without end": lambda config: b"[" * 100_000,
    "a pickle": lambda config: pickle.dumps(opens("marker")),
    "no parts": lambda config: b'{"digest": ""}',
    "provenance that is a list": lambda config: written(result_of(config, [])),
    "provenance that is nothing": lambda config: written(result_of(config, None)),
    "a code that is a list": lambda config: written(result_of(config, ABOUT | {"code": ["0"]})),
    "seconds in words": lambda config: written(result_of(config, ABOUT | {"seconds": "long"})),
    "seconds without end": lambda config: written(result_of(config, ABOUT | {"seconds": 10**400})),
    "a warm-up that is a word": lambda config: written(result_of(config, ABOUT | {"warm_up": "long"})),
    "a warm-up without a name": lambda config: written(result_of(config, ABOUT | {"warm_up": {"seconds": 1}})),
    "a warm-up that took less than no time": lambda config: written(result_of(config, ABOUT | {"warm_up": {"id": "0", "seconds": -1}})),
    "versions that are a number": lambda config: written(result_of(config, ABOUT | {"versions": 5})),
    "scores that are a list": lambda config: written(result_of(config, scores=[])),
    "samples that are a word": lambda config: written(result_of(config, samples="moon")),
    "a config that is another's": lambda config: written(result_of(config)._replace(config={"seed": 1})),
}


@promise("Untrusted files", "A stored result of nonsense is damaged, not shown, and stops nothing.")
@pytest.mark.parametrize("name", NONSENSE)
def test_results_that_hold_nonsense_are_damaged_and_stop_nothing(name, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runs = grids.runs(["modules"], "shapes", (0,), "")
    config = next(iter(runs.values()))
    folder = tmp_path / "results/shapes"
    folder.mkdir(parents=True)
    stored.path_of(config, folder).write_bytes(written(result_of(config)))
    assert stored.look_up(config, folder)[0] == "other code", "as it is, it would be taken for a result"
    content = NONSENSE[name](config)
    stored.path_of(config, folder).write_bytes(content)
    assert stored.look_up(config, folder) == ("damaged", None)
    with pytest.raises(UserError, match="1 damaged"):
        stored.read({"one": config}, folder, "python -m dsgc grid")
    assert main(["grid", "modules", "--seeds", "0", "--dry-run"]) == 0
    assert f"damaged     {stored.path_of(config, folder).name}" in capsys.readouterr().out
    assert stored.path_of(config, folder).read_bytes() == content and not (tmp_path / "marker").exists()
