"""Tag files: every usual form says the same, and what can be read in two ways is refused in one line that names the place."""

import json
import unicodedata

import pytest
from PIL import Image

from dsgc.data.faults import Faults
from dsgc.data.own import Source, open_split
from dsgc.data.tags import read
from dsgc.errors import UserError

SAID = {
    "x1.jpg": ("cat",),
    "x2.JPG": ("dog", "traffic light"),
    "deep/er/y.png": ("cat", "dog"),
    "b/Über 3.webp": (),
    "z z.tga": ("dog",),
    "w.ppm": ("cat", "traffic light"),
}
CLASSES = ("cat", "dog", "traffic light")


def rows(separator, delimiter=",", name=lambda name: name, quote=""):
    return [f"{name(file)}{delimiter}{quote}{separator.join(tags)}{quote}" for file, tags in SAID.items()]


def bare(name):
    return name.rpartition("/")[2].rpartition(".")[0]


def table(delimiter, yes="1", no="0", index=False):
    lines = [delimiter.join([*[""] * index, "Image Name", *CLASSES])]
    for number, (name, tags) in enumerate(SAID.items()):
        lines.append(delimiter.join([*[str(number)] * index, bare(name), *(yes if tag in tags else no for tag in CLASSES)]))
    return "\n".join(lines)


def lines(*rows):
    return "\n".join(rows) + "\n"


FORMS = {
    "a list by pipes, no header": (".csv", lines(*rows("|"))),
    "a list by semicolons": (".csv", lines("file,tags", *rows(" ; "))),
    "a list by commas in quotes": (".csv", lines("file,tags", *rows(", ", quote='"'))),
    "a list by commas without quotes": (".csv", lines("file,tags", *rows(","))),
    "the same without a header": (".csv", lines(*rows(","))),
    "semicolons between columns": (".csv", lines("filename;labels", *rows(",", ";"))),
    "tabs, a byte order mark, lines of Windows": (".tsv", "\ufeff" + lines("file_name\ttags", *rows(",", "\t")).replace("\n", "\r\n")),
    "names alone": (".txt", lines("id,classes", *rows("|", name=bare))),
    "whole paths": (".csv", lines(*rows("|", name=lambda name: f"/home/me/pictures/{name}"))),
    "paths of Windows": (".csv", lines(*rows("|", name=lambda name: ".\\" + name.replace("/", "\\")))),
    "accents in two parts, capitals": (".csv", unicodedata.normalize("NFD", lines(*rows("|", name=str.upper)))),
    "lists as Python writes them": (".csv", lines("file,tags", *(f'{name},"{list(tags)}"' for name, tags in SAID.items()))),
    "columns passed over": (".csv", lines(",file,width,tags", *(f"{i},{row.replace(',', ',640,', 1)}" for i, row in enumerate(rows("|"))))),
    "a column per class": (".csv", table(",")),
    "a column per class, semicolons, 1.0": (".csv", table(";", "1.0", "0.0")),
    "a column per class, tabs, True, an index": (".csv", table("\t", "True", "False", index=True)),
    "JSON by name": (".json", json.dumps({name: list(tags) for name, tags in SAID.items()})),
    "JSON, a list": (".json", json.dumps([{"file_name": name, "labels": list(tags)} for name, tags in SAID.items()])),
    "JSON, an object a line": (".jsonl", "\n".join(json.dumps({"image": name, "tags": list(tags)}) for name, tags in SAID.items())),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("own") / "pictures"
    for number, name in enumerate(SAID):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 30), (40 * number, 0, 0)).save(path)
    (root / "notes.txt").write_text("no picture")
    return root


def opened(folder, tmp_path, ending, content, **source):
    path = tmp_path / f"tags{ending}"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return open_split(folder, "all", Source(str(path), **source))


@pytest.mark.parametrize("form", FORMS)
def test_every_usual_form_says_the_same(form, folder, tmp_path):
    split = opened(folder, tmp_path, *FORMS[form])
    assert split.classes == CLASSES
    assert {split.files[name]: set(tags) for name, tags in split.named.items()} == {name: set(tags) for name, tags in SAID.items()}


def test_tags_parted_by_blanks_are_words_and_two_that_never_part_are_said(folder, tmp_path):
    words = lines(*(f"{name},{' '.join(tags)}" for name, tags in SAID.items()))
    split = opened(folder, tmp_path, ".csv", words)
    assert split.classes == ("cat", "dog", "light", "traffic")
    assert any("'traffic' and 'light' always come together" in note for note in split.notes)


GOOD = lines(*rows("|"))
REFUSED = {
    "nothing in it": (".csv", "", "is empty"),
    "a header alone": (".csv", "file,tags\n", "only row is a header"),
    "a picture": (".csv", b"\x89PNG\r\n\x1a\n\0\0\0\r", "not a readable tag file", "UTF-8"),
    "zeros": (".csv", "x1.jpg,cat\0\n", "zeros"),
    "UTF-16": (".csv", GOOD.encode("utf-16"), "UTF-8"),
    "Latin-1": (".csv", GOOD.encode("latin-1"), "UTF-8"),
    "a table of another program": (".xlsx", b"PK\x03\x04", "must end in .csv"),
    "one column": (".csv", "x1.jpg\nx2.jpg\n", "one column"),
    "a quote that stays open": (".csv", '"x1.jpg,cat\n', "unexpected end"),
    "no tags at all": (".csv", lines("file,tags", *(f"{name}," for name in SAID)), "no tag at all"),
    "a cell of a class column that is 2": (".csv", table(",").replace("\ny,1", "\ny,2"), "'2' in line 4", "column 'cat'"),
    "an empty cell of a class column": (".csv", table(",").replace("\ny,1", "\ny,"), "'' in line 4", "column 'cat'"),
    "a row too short": (".csv", table(",").replace("\ny,1", "\ny"), "line 4 has 3 columns"),
    "two columns of one class": (".csv", table(",").replace("dog", "cat"), "one title"),
    "class columns without names": (".csv", table(",").partition("\n")[2], "name the columns"),
    "0 and 1 under the title label": (".csv", lines("file,label", *(f"{name},1" for name in SAID)), "name of its class"),
    "a picture that is not there": (".csv", GOOD + "q.jpg,cat\n", "'q.jpg' (line 7)", "not in"),
    "a picture in another folder": (".csv", GOOD.replace("deep/er/y.png", "other/y.png"), "'other/y.png' (line 3)", "not in"),
    "a way out of the folder": (".csv", GOOD + "../../etc/passwd,cat\n", "'../../etc/passwd' (line 7)"),
    "a picture with two rows that contradict": (".csv", GOOD + "x1.jpg,dog\n", "contradict", "(line 7) and line 1"),
    "a picture by two names": (".csv", GOOD + "x1,cat\n", "two ways", "'x1' (line 7)"),
    "a picture without a row": (".csv", GOOD.replace("x1.jpg,cat\n", ""), "x1.jpg", "without tags if it shows no class"),
    "several signs between tags": (".csv", GOOD.replace("x1.jpg,cat", "x1.jpg,cat;dog"), "line 1", "part all lists by one sign"),
    "capitals": (".csv", GOOD.replace("z z.tga,dog", "z z.tga,Dog"), "'Dog' (line 5) and 'dog'"),
    "background": (".csv", GOOD.replace("z z.tga,dog", "z z.tga,background"), "'background' (line 5)"),
    "what steers a terminal": (".csv", GOOD.replace("z z.tga,dog", "z z.tga,d\x1b[31mog"), "cannot be printed"),
    "too many tags": (".csv", f"x1.jpg,{'|'.join(map(str, range(300)))}\n", "300 different tags"),
    "JSON that breaks off": (".json", '{"x1.jpg":', "correct the JSON"),
    "JSON as deep as a well": (".json", "[" * 100_000, "correct the JSON"),
    "JSON with a name twice": (".json", '{"x1.jpg": ["cat"], "x1.jpg": ["dog"]}', "'x1.jpg' stands there twice"),
    "JSON with numbers for tags": (".json", '{"x1.jpg": [3]}', "entry 1", '"x.jpg"'),
    "JSON without names": (".json", '[{"tags": ["cat"]}, 7]', "(2)", "entry 1, entry 2"),
    "JSON of COCO": (".json", '{"images": [], "annotations": []}', "COCO"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_wrong_with_a_tag_file_is_one_line_with_the_place(name, folder, tmp_path):
    ending, content, *said = REFUSED[name]
    with pytest.raises(UserError) as caught:
        opened(folder, tmp_path, ending, content)
    assert "\n" not in str(caught.value) and f"tags{ending}" in str(caught.value) and ";" in str(caught.value)
    for words in said:
        assert words in str(caught.value)


def test_a_name_that_two_pictures_have_is_refused_and_a_path_tells_them_apart(tmp_path):
    for name in ("a/x.jpg", "b/x.jpg"):
        (tmp_path / "pictures" / name).parent.mkdir(parents=True)
        Image.new("RGB", (40, 30)).save(tmp_path / "pictures" / name)
    with pytest.raises(UserError, match=r"'x' \(line 1\) may be a/x.jpg or b/x.jpg"):
        opened(tmp_path / "pictures", tmp_path, ".csv", "x,cat\n")
    split = opened(tmp_path / "pictures", tmp_path, ".csv", "a/x,cat\nb/x.jpg,dog\n")
    assert split.named == {"a_x.jpg": ("cat",), "b_x.jpg": ("dog",)}


def test_all_kinds_of_faults_are_found_not_only_the_first(tmp_path):
    path = tmp_path / "tags.csv"
    path.write_text("x1.jpg,cat;dog\nx2.jpg,background\nx3.jpg,cat|Cat\n")
    faults = Faults()
    read(path, lambda name: name.endswith("jpg"), faults)
    said = "\n".join(faults.lines())
    assert len(faults) == 3 and all(words in said for words in ("one sign", "background", "capitals"))


def test_files_that_are_none_are_not_waited_for(folder, tmp_path):
    (tmp_path / "tags.csv").mkdir()
    with pytest.raises(UserError, match="no file"):
        open_split(folder, "all", Source(str(tmp_path / "tags.csv")))
    with pytest.raises(UserError, match="no such tag file; give --tags its path$"):
        open_split(folder, "all", Source(str(tmp_path / "gone.csv")))
