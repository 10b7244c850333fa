"""Results kept through a change of code: where a shortened run leaves the same bits, and nowhere else."""

import json
import shutil
from types import SimpleNamespace

import pytest
from kept import store

from dsgc.experiments import bits, confirm, provenance, stored
from dsgc.methods import names, preset


def before(monkeypatch, tmp_path, file, old, new):
    """A folder with the package as it may have been before a change, and its digest of code."""
    package = tmp_path / "before" / "dsgc"
    shutil.copytree(provenance.PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    text = (package / file).read_text()
    assert old in text
    (package / file).write_text(text.replace(old, new))
    with monkeypatch.context() as patch:
        patch.setattr(provenance, "PACKAGE", package)
        return package.parent, provenance.code_version.__wrapped__("dsgc")


def rename(config, folder, code):
    """Let a stored result be of some code."""
    result = stored.look_up(config, folder)[1]
    store(config, folder, result, code=code)
    return result


def test_a_result_is_kept_if_its_code_leaves_the_same_bits(monkeypatch, tmp_path, copy):
    folder, config, path = copy
    package, code = before(monkeypatch, tmp_path, "data/transforms.py", "range(10)", "range(5 + 5)")
    old = rename(config, folder, code)
    assert code != provenance.code_version("dsgc") and stored.look_up(config, folder)[0] == "other code"
    assert confirm.confirm({"one": config}, folder, package, say=lambda line: None) == {"one": "confirmed"}
    state, new = stored.look_up(config, folder)
    assert state == "done" and new.about["confirmed"]["made_by"] == code
    assert (new.config, new.scores, new.counts, new.samples) == (old.config, old.scores, old.counts, old.samples)
    kept = f"of 1 a shortened run shows that code since then left every bit: {new.about['confirmed']['date']}"
    assert "all by today's code" in (text := stored.summary({1: new})) and kept in text
    assert confirm.confirm({"one": config}, folder, package, say=lambda line: None) == {}  # nothing of other code is left


def test_a_result_is_not_kept_if_the_bits_differ(monkeypatch, tmp_path, copy):
    folder, config, path = copy
    package, code = before(monkeypatch, tmp_path, "dskd.py", "1 - momentum", "1 - momentum + 1e-6")
    rename(config, folder, code)
    was, lines = path.read_bytes(), []
    became = confirm.confirm({"one": config}, folder, package, say=lines.append)["one"]
    assert became == "not confirmed: the bits differ, it has to be made anew" and lines == [f"one: {became}"]
    assert path.read_bytes() == was


def test_a_result_is_not_kept_if_it_is_not_of_that_code(copy):
    folder, config, path = copy
    rename(config, folder, "0123456789")
    was, same = path.read_bytes(), {"code": "1111111111", "bits": "0"}
    assert confirm._name_anew(config, folder, same, same).startswith("not confirmed: made by code 0123456789 (commit ")
    assert path.read_bytes() == was


def test_code_from_before_is_not_told_of_fields_that_are_younger_unless_they_say_something(monkeypatch, tmp_path, tiny):
    told = []
    done = SimpleNamespace(returncode=0, stdout="{}\n")
    monkeypatch.setattr(confirm.subprocess, "run", lambda *_, **how: told.append(json.loads(how["input"])) or done)
    for config in (tiny(), tiny(tags="tags.csv")):
        confirm._under(tmp_path)(config)
    assert {*stored.YOUNGER} & {*told[0]} == set() and {*stored.YOUNGER} & {*told[1]} == {"tags"} and "steps" in told[0]


@pytest.mark.parametrize("scale", ["shapes", "voc6", "voc", "coco"])
def test_the_shortened_run_of_every_method_comes_through_all_its_stages(scale):
    for name in names():
        config = preset(scale, name)
        assert bits._stages(config) == bits._stages(bits.shortened(config)), name


def test_a_run_whose_stages_few_steps_do_not_reach_is_refused():
    late = preset("shapes", "urn").changed(weigh_from=0.99)  # the last step of 200 alone
    with pytest.raises(ValueError, match="12 steps do not reach the stages weighed of urn"):
        bits.shortened(late)


def test_code_that_does_not_run_confirms_nothing(monkeypatch, tmp_path, copy):
    folder, config, path = copy
    package, code = before(monkeypatch, tmp_path, "training/loop.py", "def train_until(", "def trained_until(")
    rename(config, folder, code)
    became = confirm.confirm({"one": config}, folder, package, say=lambda line: None)
    assert became["one"].startswith("not confirmed, that code does not run it: ImportError: cannot import name 'train_until'")
