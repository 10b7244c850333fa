"""Files that do harm, each with a careless reader that falls for it: a marker file shows that the code inside has run."""

import io
import os
import pickle
import struct
import tarfile
import zipfile
from contextlib import suppress
from urllib.request import urlopen
from xml.parsers import expat

import numpy as np
import torch
import yaml
from PIL import EpsImagePlugin, Image

from dsgc.data.index import Index


def falls_for_it(careless, path, marker):
    """The proof that an attack is one: read without care, the file leaves its marker, which is taken away again."""
    assert not marker.exists()
    with suppress(Exception):  # the code has run by then; that the rest of the file is no good does not matter
        careless(path)
    assert marker.exists()
    marker.unlink()


# pickles


class Code:
    """A pickle of it calls a function as soon as it is loaded."""

    def __init__(self, function, *given):
        self.call = function, given

    def __reduce__(self):
        return self.call


def opens(marker):
    return Code(open, str(marker), "w")


def commands(marker):
    return Code(os.system, f"touch '{marker}'")


def evaluates(marker):
    return Code(eval, f"open({str(marker)!r}, 'w')")


def weights(code):
    return {"norm.weight": torch.zeros(128), "more": code}


def zipped(code, path):
    torch.save(weights(code), path)


def legacy(code, path):
    torch.save(weights(code), path, _use_new_zipfile_serialization=False)


def nested(code, path):
    torch.save({"epoch": 3, "state_dict": weights(code)}, path)


def bare(code, path):
    path.write_bytes(pickle.dumps(code))


def archived(code, path):
    """The tar of torch's first years; its storages are a pickle."""
    content = pickle.dumps(code)
    with tarfile.open(path, "w") as archive:
        member = tarfile.TarInfo("storages")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))


def unpickled(path):
    pickle.loads(path.read_bytes())


def loaded(path):
    with path.open("rb") as file:  # by its path, torch would take one named safetensors for that
        torch.load(file, weights_only=False)


WEIGHTS = {  # the file's ending, what its code does, how it is written, who falls for it
    "a zip that opens a file": (".pth", opens, zipped, loaded),
    "a zip that runs a command": (".pt", commands, zipped, loaded),
    "a zip with code among the weights of a training checkpoint": (".pth", evaluates, nested, loaded),
    "torch's legacy format": (".pth", commands, legacy, loaded),
    "torch's oldest format, a tar": (".tar", opens, archived, loaded),
    "a bare pickle": (".pth", commands, bare, unpickled),
    "a bare pickle named safetensors": (".safetensors", commands, bare, unpickled),
    "a zip named safetensors": (".safetensors", opens, zipped, loaded),
    "torch's legacy format named safetensors": (".safetensors", evaluates, legacy, loaded),
}


def unpacked(path):
    """Unpack a zip as one does who writes each member where it says."""
    folder = path.parent / "unpacked"
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(archive.read(name))


# XML


SECRET = "moon"  # a class that there is: whoever reads the file takes it for the image's tag
NAMED = "<annotation><object><name>&x;</name></object></annotation>"


def expanded(content):
    """The text of an XML file, everything that it refers to fetched and put in."""
    found, parser = [], expat.ParserCreate()

    def fetch(context, base, system, public):
        with urlopen(system) as file:
            parser.ExternalEntityParserCreate(context).ParseFile(file)
        return 1

    parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_ALWAYS)
    parser.CharacterDataHandler, parser.ExternalEntityRefHandler = found.append, fetch
    parser.Parse(content, True)
    return "".join(found)


def external_entity(folder):
    (folder / "secret").write_text(SECRET)
    return f'<!DOCTYPE annotation [<!ENTITY x SYSTEM "{(folder / "secret").as_uri()}">]>' + NAMED


def external_types(folder):
    (folder / "secret.dtd").write_text(f'<!ENTITY x "{SECRET}">')
    return f'<!DOCTYPE annotation SYSTEM "{(folder / "secret.dtd").as_uri()}">' + NAMED


def laughs(folder):
    """Entities of entities of entities: a few hundred letters that become a million, and would become as many as one likes."""
    lines = "".join(f'<!ENTITY {name} "{f"&{of};" * 10}">' for name, of in zip("bcdefx", "abcdef", strict=True))
    return f'<!DOCTYPE annotation [<!ENTITY a "ha">{lines}]>' + NAMED


XML = {
    "an external entity": (external_entity, lambda text: text == SECRET),
    "external types": (external_types, lambda text: text == SECRET),
    "a billion laughs": (laughs, lambda text: len(text) == 2 * 10**6),
}
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be")


# the rest


def yaml_command(path, marker):
    path.write_text(f"title: !!python/object/apply:os.system [\"touch '{marker}'\"]\n")


def yaml_loaded(path):
    yaml.unsafe_load(path.read_text())


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 128 128\n%%EndComments\n(marker) (w) file\n"
PDF = b"%PDF-1.4\n1 0 obj<</Type/Catalog/OpenAction<</S/JavaScript/JS(app.alert(1))>>>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n"


def ghostscript(folder, marker, monkeypatch):
    """A program `gs` that leaves the marker when it is handed a picture."""
    folder.mkdir()
    (folder / "gs").write_text(f"#!/bin/sh\ncase \"$*\" in *-sOutputFile*) touch '{marker}';; esac\n")
    (folder / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)  # Pillow remembers whether it has found one


def with_exif(tag, kind):
    """A JPEG that its EXIF turns, and that has a field there of a kind which the field cannot be of."""
    fields = struct.pack("<HHII", 0x0112, 3, 1, 6) + struct.pack("<HHII", tag, kind, 1, 20)
    file = io.BytesIO()
    Image.new("RGB", (128, 128)).save(file, "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\2\0" + fields + bytes(68))
    return file.getvalue()


def rendered(path):
    with Image.open(path) as image:
        image.load()


def poisoned(path, **parts):
    """Put other parts into a cache of COCO's instances."""
    with np.load(path) as arrays:
        kept = dict(arrays)
    np.savez(path, **kept | parts)


def with_members(path, *names):
    with zipfile.ZipFile(path, "a") as archive:
        for name in names:
            archive.writestr(name, b"escaped")


CACHES = {  # parts of another shape, kind or range than `coco.build` makes
    "a text that the index does not need": lambda index: {"text": np.zeros((1, 3), np.uint8)},
    "a file in another folder": lambda index: {"files": np.array(["../secret.jpg", *index.files[1:]])},
    "files that are numbers": lambda index: {"files": np.arange(len(index.files))},
    "a class that there is not": lambda index: {"categories": index.categories * 0 + 200},
    "instances beyond the last": lambda index: {"first": index.first + 10**6},
    "instances backwards": lambda index: {"first": np.r_[0, index.first[-2:0:-1], index.first[-1]]},
    "places before the file": lambda index: {"spans": index.spans - 10**6},
    "places behind the file": lambda index: {"spans": index.spans + 10**9},
    "places that end before they begin": lambda index: {"spans": index.spans[:, ::-1]},
    "pictures without end": lambda index: {"sizes": index.sizes * 2**20},
    "halves of numbers": lambda index: {"first": index.first / 2},
    "one class too few": lambda index: {"classes": index.classes[: index.categories.max() - 1]},  # the last that an instance has
}


def elsewhere(index):
    """The same index with a place for each instance that is a few bytes off."""
    return {"spans": index.spans - 7}


def index_of(path):
    with np.load(path) as arrays:
        return Index(**arrays)


def renamed(folder, names):
    """Give files of a data set other names, whatever their endings, and the lists and instances that name them too."""
    for old, new in names.items():
        for path in sorted(folder.rglob(f"{old}.*")):
            path.rename(path.with_name(new + path.suffix))
    for path in [*folder.rglob("*.txt"), *folder.rglob("*.json")]:
        text = path.read_text()
        for old, new in names.items():
            text = text.replace(old, new)
        path.write_text(text)


NAMES = (  # harmless as names, but not as words of a shell or of a command
    "$(touch${IFS}marker)", ";touch${IFS}marker;", "--help", "-rf", "`touch${IFS}marker`", "|touch${IFS}marker", "@file",
)  # fmt: skip
CLEAR = "\x1b[2J\x1b]0;owned\x07"  # clears a terminal's screen and gives its window another name
