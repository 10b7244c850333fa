"""Nothing that a file holds is run: real attacks, each of which works on a careless reader, on the package's own."""

import io
import json
import os
import pickle
import shutil
import tarfile
import xml.sax
import zipfile
from xml.etree import ElementTree

import numpy as np
import papermill.iorw
import pytest
import torch
import yaml
from jupyter_book.config import get_final_config
from PIL import Image
from promises import promise
from refusal import refused, refused_by_both, tree
from spoilt import Code, about, forged, newest, pickled, with_code

from dsgc import runner
from dsgc.__main__ import main
from dsgc.data import shapes_coco
from dsgc.data.split import open_split
from dsgc.evaluate import score_run
from dsgc.train import resume, train

SUBJECT = "Untrusted files"


@pytest.fixture
def marker(tmp_path):
    """A file that appears if code of an attack runs, or if a file is written outside its folder."""
    return tmp_path / "marker"


def works(attack, marker):
    """An attack that does nothing to a careless reader would prove nothing about a careful one."""
    attack()
    assert marker.exists()
    marker.unlink()


# weights and checkpoints


def old_tar(value, path):
    """What torch wrote before 0.1.10: an archive, whose files are unpacked; here with one that lies outside."""
    with tarfile.open(path, "w") as tar:
        for name, content in (("../marker", b"x"), ("storages", b""), ("tensors", b""), ("pickle", pickle.dumps(value))):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))


PICKLES = {
    "as torch saves": (torch.save, ".pth"),
    "as torch saved long ago": (lambda value, path: torch.save(value, path, _use_new_zipfile_serialization=False), ".pt"),
    "bare": (pickled, ".pth"),
    "named safetensors": (pickled, ".safetensors"),
}


@promise(SUBJECT, "A pickle with code is refused without running it, as weights and in the place of a checkpoint's file.")
@pytest.mark.parametrize("name", PICKLES)
def test_weights_with_code(name, marker, tmp_path, arguments, tiny, capsys):
    save, ending = PICKLES[name]
    path = tmp_path / f"w{ending}"
    with_code(save, marker)(path)
    works(lambda: pickle.load(path.open("rb")) if save is pickled else torch.load(path, weights_only=False), marker)
    fields = {"out": str(tmp_path / "run"), "weights": str(path)}
    refused_by_both(arguments(**fields), lambda: train(tiny(**fields)), tmp_path, capsys, path.name, "not a readable weights file")
    assert not marker.exists()


@pytest.fixture(scope="module")
def finished(tiny, tmp_path_factory):
    return train(tiny(out=str(tmp_path_factory.mktemp("trusted") / "run"), steps=1, warmup_steps=0, pictures=0))


@pytest.fixture
def run(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "run")


@promise(SUBJECT, "A pickle with code is refused without running it, as weights and in the place of a checkpoint's file.")
@pytest.mark.parametrize("name", ["teacher.safetensors", "state.safetensors"])
def test_a_checkpoint_with_code(name, run, marker, tmp_path, capsys):
    forged(name, lambda path: pickled({"weight": Code(marker)}, path))(run)
    works(lambda: pickle.load((newest(run) / name).open("rb")), marker)
    refused_by_both(["evaluate", run], lambda: score_run(run), tmp_path, capsys, name, "not a readable weights file")
    refused(["predict", run, tmp_path / "out", "--split", "val"], capsys, name)
    (run / "metrics.json").unlink()
    refused(["resume", run], capsys, name)
    assert not marker.exists()


@promise(SUBJECT, "A checkpoint makes nothing read or fetch another file: no encoder by its address, no weights by their path.")
def test_a_checkpoint_names_no_other_file(run, marker, monkeypatch, capsys):
    pickled({"weight": Code(marker)}, run / "w.pth")
    fetched = []
    monkeypatch.setattr("timm.models._builder.load_pretrained", lambda *_, **__: fetched.append(1))
    for weights in (str(run / "w.pth"), "hub"):
        about(lambda said, weights=weights: said["config"].update(weights=weights))(run)
        assert score_run(run)["images"] == 4
        config = json.loads((run / "config.json").read_text()) | {"weights": weights, "steps": 2}
        (run / "config.json").write_text(json.dumps(config))
        (run / "metrics.json").unlink(missing_ok=True)
        resume(run)
    assert not marker.exists() and not fetched
    about(lambda said: said["config"].update(encoder="hf-hub:someone/model"))(run)
    refused(["evaluate", run], capsys, "hf-hub:someone/model", "an address")


# archives


@promise(SUBJECT, "No archive is unpacked: what lies in one under a name outside its folder is written nowhere.")
def test_an_archive_of_old_weights(marker, tmp_path, arguments, capsys):
    path, inner = tmp_path / "w.pth", tmp_path / "a"
    old_tar({"weight": torch.zeros(1)}, path)
    inner.mkdir()
    with tarfile.open(path) as archive:
        works(lambda: archive.extractall(inner, filter="fully_trusted"), marker)
    refused(arguments(out=str(tmp_path / "run"), weights=str(path)), capsys, "w.pth", "not a readable weights file")
    assert not marker.exists()


@promise(SUBJECT, "No archive is unpacked: what lies in one under a name outside its folder is written nowhere.")
def test_a_zip_of_weights(marker, tmp_path, arguments, capsys):
    path, inner = tmp_path / "w.pth", tmp_path / "a"
    inner.mkdir()
    torch.save({"norm.weight": torch.zeros(128)}, path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("../marker", "x")

    def careless():
        with zipfile.ZipFile(path) as archive:
            (inner / "../marker").write_bytes(archive.read("../marker"))

    works(careless, marker)
    before = tree(tmp_path)
    refused(arguments(out=str(tmp_path / "run"), weights=str(path)), capsys, "w.pth", "not a readable weights file")
    assert tree(tmp_path) == before


@promise(SUBJECT, "A poisoned cache runs nothing, and is made anew.")
def test_a_cache_with_code(marker, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    data = shapes_coco.write(tmp_path / "coco", sizes={"train2014": 4, "val2014": 2})
    expected = open_split(data, "val2014")
    (kept,) = (tmp_path / "cache/dsgc").iterdir()
    arrays = dict(np.load(kept)) | {"classes": np.array([Code(marker)], object)}
    np.savez(kept, **arrays, **{"../../marker": np.zeros(1)})
    works(lambda: np.load(kept, allow_pickle=True)["classes"], marker)
    found = open_split(data, "val2014")
    assert (found.tags() == expected.tags()).all() and found.classes == expected.classes and not list(tmp_path.rglob("marker*"))


# annotations


class Expanded(xml.sax.ContentHandler):
    def __init__(self):
        super().__init__()
        self.text = ""

    def characters(self, content):
        self.text += content


LAUGHS = "".join(f'<!ENTITY a{i + 1} "{f"&a{i};" * 10}">' for i in range(4))
DOCUMENTS = {
    "a file": '<!DOCTYPE a [<!ENTITY secret SYSTEM "{secret}">]><a><object><name>&secret;</name></object></a>',
    "a billion laughs": f'<!DOCTYPE a [<!ENTITY a0 "moon">{LAUGHS}]><a><object><name>&a4;</name></object></a>',
    "definitions elsewhere": '<!DOCTYPE a SYSTEM "{secret}"><a><object><name>moon</name></object></a>',
    "in UTF-16": '<?xml version="1.0" encoding="utf-16"?><!DOCTYPE a [<!ENTITY b "moon">]><a><object><name>&b;</name></object></a>',
}


@promise(SUBJECT, "Annotations are read without entities: none is expanded, no file or address that one names is opened.")
@pytest.mark.parametrize("name", DOCUMENTS)
def test_annotations_with_entities(name, shapes_copy, tmp_path, arguments, capsys):
    (tmp_path / "secret").write_text("the secret")
    text = DOCUMENTS[name].replace("{secret}", str(tmp_path / "secret"))
    path = shapes_copy / "Annotations/train_00003.xml"
    path.write_bytes(text.encode("utf-16" if "16" in name else "utf-8"))
    if name == "a file":
        parser, found = xml.sax.make_parser(), Expanded()
        parser.setFeature(xml.sax.handler.feature_external_ges, True)
        parser.setContentHandler(found)
        parser.parse(str(path))
        assert found.text == "the secret"
    elif "elsewhere" not in name:
        found = ElementTree.parse(path).findtext("object/name")
        assert found == ("moon" * 10**4 if "laughs" in name else "moon")
    line = ["train_00003.xml", "document type", "entities are not expanded"]
    refused(arguments(data=str(shapes_copy), out=str(tmp_path / "run")), capsys, *line)


# pictures


@promise(SUBJECT, "A picture is opened as what pictures are; a PostScript file by whatever name starts no interpreter.")
@pytest.mark.parametrize("folder", ["JPEGImages", "SegmentationClass"])
def test_a_postscript_program_named_as_a_picture(folder, shapes_copy, marker, tmp_path, arguments, monkeypatch, capsys):
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "gs").write_text(f"#!/bin/sh\ntouch {marker}\n")  # stands for Ghostscript, which runs the program
    (programs / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=os.pathsep)
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", None)  # it looks once
    (path,) = (shapes_copy / folder).glob("val_00000.*")
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 128 128\n%%EndComments\nshowpage\n%%EOF\n")

    def careless():
        with pytest.raises(OSError):
            Image.open(path).load()  # the program has run by now; there is no picture

    works(careless, marker)
    refused(arguments(data=str(shapes_copy), out=str(tmp_path / "run")), capsys, path.name, "not a readable")
    assert not marker.exists()


# names


@promise(SUBJECT, "Names that files give reach no shell, no other folder and no terminal as they are.")
@pytest.mark.parametrize("name", ["$(touch${IFS}marker)", "`touch${IFS}marker`", "a;touch${IFS}marker", "a|touch${IFS}marker"])
def test_names_that_a_shell_would_run(name, shapes_copy, tmp_path, monkeypatch, arguments):
    """They are odd, but can be the names of files: then they are used as such."""
    monkeypatch.chdir(tmp_path)
    works(lambda: os.system(f"echo {name}"), tmp_path / "marker")
    for folder, ending in (("JPEGImages", "jpg"), ("Annotations", "xml"), ("SegmentationClass", "png")):
        shutil.copy(shapes_copy / f"{folder}/val_00000.{ending}", shapes_copy / f"{folder}/{name}.{ending}")
    (shapes_copy / "ImageSets/Segmentation/val.txt").write_text(name + "\n")
    assert main(arguments(data=str(shapes_copy), out="run", steps=1, warmup_steps=0)) == 0
    assert main(["predict", "run", "out", "--split", "val"]) == 0
    assert (tmp_path / f"out/results/VOC2012/Segmentation/comp6_val_cls/{name}.png").is_file() and not (tmp_path / "marker").exists()


# YAML, results


YAML = "{key}: !!python/object/apply:builtins.open ['{marker}', 'w']\n"


@promise(SUBJECT, "YAML is read as data: the book's configuration, and parameters that papermill reads from a file.")
@pytest.mark.parametrize("reader", ["papermill", "jupyter-book", "ours"])
def test_yaml_with_code(reader, marker, tmp_path):
    path = tmp_path / "_config.yml"
    path.write_text(YAML.replace("{key}", "title").replace("{marker}", str(marker)))
    works(lambda: yaml.unsafe_load(path.read_text()), marker)
    read = {
        "papermill": lambda: papermill.iorw.read_yaml_file(str(path)),
        "jupyter-book": lambda: get_final_config(user_yaml=path, validate=False),
        "ours": lambda: yaml.safe_load(path.read_text()),  # all of it: test_no_code_is_run_by_a_reader
    }
    with pytest.raises(yaml.YAMLError):
        read[reader]()
    assert not marker.exists()


@promise(SUBJECT, "A stored result that is not as it was written is made again, not shown.")
@pytest.mark.parametrize("text", ["[" * 100_000, "{}", "null", '{"config": 1}', "\x00", '{"config": {"a": 1e999}}'])
def test_a_forged_result(text, tiny, tmp_path):
    config = tiny()
    path = runner.path_of(config, tmp_path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    assert runner.look_up(config, tmp_path) == ("damaged", None)
