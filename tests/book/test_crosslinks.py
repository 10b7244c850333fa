"""From docstrings to the book: links to equations, entries and tests; and every module and test file is on its page."""

import re
from pathlib import Path
from typing import get_type_hints

import crosslinks
import pytest
import tested

from dsgc import cam, gmm
from dsgc.command import options
from dsgc.methods.dsgc import Dsgc
from dsgc.network import vit as network

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = '''
import dsgc.gmm
from dsgc import cam as maps
from dsgc.ptc import patch_token_contrast
from pytest import raises

def helper():
    return deeper()

def deeper():
    return helper() if 0 else patch_token_contrast

def unused():
    return dsgc.gmm.e_step

def test_direct():
    maps.tagged(1)

def test_through_helpers():
    helper()

def test_dotted():
    with raises(ValueError):
        dsgc.gmm.fit(1)
'''


def rendered(what, obj):
    lines = (obj.__doc__ or "").splitlines()
    crosslinks.docstring(None, what, f"{obj.__module__}.{obj.__qualname__}", obj, None, lines)
    return "\n".join(lines)


def field(owner, name):
    lines = [""]
    crosslinks.docstring(None, "attribute", f"{owner.__module__}.{owner.__qualname__}.{name}", None, None, lines)
    return lines


def test_the_tests_of_a_function_are_found_through_imports_and_helpers(tmp_path):
    (tmp_path / "test_other.py").write_text("from dsgc.cam import tagged\ndef test_too():\n    tagged(2)\n")
    (tmp_path / "test_cam.py").write_text(SAMPLE)
    found = tested.tests_by_function(tmp_path)
    assert found["dsgc.cam.tagged"] == ["test_cam.test_direct", "test_other.test_too"]
    assert found["dsgc.ptc.patch_token_contrast"] == ["test_cam.test_through_helpers"]
    assert found["dsgc.gmm.fit"] == ["test_cam.test_dotted"]
    assert "dsgc.gmm.e_step" not in found


def test_the_tests_of_a_room_s_own_file_come_first(tmp_path):
    for name in ("test_a.py", "test_cam.py", "test_z.py"):
        (tmp_path / name).write_text("from dsgc import cam\ndef test_it():\n    cam.tagged(1)\n")
    assert [test.split(".")[0] for test in tested.tests_by_function(tmp_path)["dsgc.cam.tagged"]] == ["test_cam", "test_a", "test_z"]


def test_an_entry_names_six_tests_and_counts_the_others(monkeypatch):
    monkeypatch.setitem(crosslinks.TESTED, "f", [f"test_a.test_number_{i}" for i in range(8)])
    text = crosslinks.tests_of("f")
    assert text.startswith(":py:func:`number 0 <test_a.test_number_0>`; ") and text.count(":py:func:") == 6
    assert text.endswith("; and 2 more")
    assert crosslinks.tests_of("nothing of the package") == ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Eq. (4) and Eq. 5", ":ref:`Eq. (4) <eq-4>` and :ref:`Eq. 5 <eq-5>`"),
        ("(Eq. 11-17)", "(:ref:`Eq. 11-17 <eq-11>`)"),
        ("`tagged` of `cam.tagged(...)`", ":py:obj:`tagged <dsgc.cam.tagged>` of :py:obj:`cam.tagged(...) <dsgc.cam.tagged>`"),
        ("`low`, ``as it is``", "``low``, ``as it is``"),
        ("`dsgc.gmm`", ":py:mod:`dsgc.gmm <dsgc.gmm>`"),
    ],
)
def test_text_gets_its_links(text, expected):
    assert crosslinks.linked(text, "dsgc.cam") == expected


def test_sections_of_a_docstring_become_fields():
    text = rendered("function", cam.patch_labels)
    assert ":param low: thresholds" in text and ":raises ValueError: unless" in text
    assert ":returns: (B, h, w) int64: 0 background" in text
    assert ":Source: the paper, :ref:`Eq. 3 <eq-3>`; Ru et al. 2023." in text and text.count("Source") == 1
    assert ":Tests: :py:func:`patch labels equal the loop <test_cam.test_patch_labels_equal_the_loop>`" in text


def test_a_source_within_a_paragraph_becomes_a_field_too():
    text = rendered("function", gmm.update_mean)
    assert "Returns (B, 2).\n\n:Source: the paper" in text


def test_fields_are_explained_by_their_own_text_or_the_comment_behind_them():
    assert field(network.Output, "middle") == ["(B, D, h, w) patch tokens of block m"]
    (text,) = field(Dsgc, "theta_high")
    assert text == "The paper's. Theta_h: noise probability above which a pixel is in R_h."
    assert field(Dsgc, "tau")[0].startswith("A choice. ")
    assert field(Dsgc, "subtract_minimum")[0].startswith("Departs from the paper. Take each CAM's minimum off")


@pytest.mark.parametrize(
    ("page", "modules"),
    [
        ("reference", {".".join(path.relative_to(ROOT).with_suffix("").parts) for path in (ROOT / "dsgc").rglob("*.py")}),
        ("tests", {path.stem for path in (ROOT / "tests").rglob("test_*.py")} | {"oracles", "looks", "catalogue", "promises"}),
    ],
)
def test_every_module_is_on_its_page(page, modules):
    modules = {name.removesuffix(".__init__") for name in modules if name not in ("dsgc.__init__", "dsgc.__main__")}  # floors too
    source = [(ROOT / f"book/{page}.md").read_text(encoding="utf-8")]
    crosslinks.every(None, page, source)
    (text,) = source
    listed = re.findall(r"^\.\. automodule:: (\S+)$", text, flags=re.MULTILINE)
    assert sorted(listed) == sorted(modules)


def test_a_type_is_shown_without_what_the_command_line_is_told_of_it():
    of = get_type_hints(options.PredictOptions, include_extras=True)
    assert [crosslinks.shown(of[name]) for name in ("run", "data", "split")] == ["pathlib.Path", "str | None", "str"]


def test_each_file_of_a_pattern_gets_an_entry():
    source = ["before\n\n% each of tests/equations/test_p*.py\n\nafter % each of x\n"]
    crosslinks.every(None, "any", source)
    entries = [f"### {name}\n\n```{{eval-rst}}\n.. automodule:: {name}\n```\n" for name in ("test_pointing", "test_ptc")]
    assert source == ["before\n\n" + "\n".join(entries) + "\n\nafter % each of x\n"]
    found = crosslinks.modules_of("dsgc/methods/[b-d]*.py")
    assert found == [f"dsgc.methods.{name}" for name in ("base", "colours", "contract", "draws", "dsgc")]
