"""What methods there are: found by name, with their presets, written to a file and read again; and one that a test brings along."""

import dataclasses
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from apart import log_of
from refusal import refused

from dsgc import dskd, methods
from dsgc.__main__ import main, options_of
from dsgc.command.parsing import parse
from dsgc.config import PRESETS
from dsgc.errors import UserError
from dsgc.methods import configured, find, preset, register
from dsgc.methods.contract import Mean, Method, Stage
from dsgc.runs import checkpoint
from dsgc.runs.record import read_config
from dsgc.settings import Settings, choice, departs, paper, published
from dsgc.training.loop import resume, train

BUILT_IN = ("base", "dsgc", "masks", *methods.PEERS)
KNOWN = ", ".join(BUILT_IN)
BOTH = [(name, method) for name in PRESETS for method in BUILT_IN]


@dataclass(frozen=True)
class Tagged(Method):
    """The least that a method can be: tags alone, and the number of steps remembered."""

    name: ClassVar = "tagged"
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"shapes": {"strength": 2.0}}

    strength: float = choice(1.0, "weight of the only loss")
    offsets: tuple[int, ...] = choice((1, 2), "numbers that a file has as a list")

    POSITIVE: ClassVar = ("strength",)

    def stage(self, step, steps):
        return Stage("tags", {"tags": self.strength}, self.networks)

    def memory(self, networks):
        return {"steps": torch.zeros(1)}

    def losses(self, networks, seen, goals, part, stage, memory):
        return {"tags": Mean(dskd.tag_loss(seen.class_logits, part.tags), len(part.tags))}

    def watched(self, goals, memory):
        return {"before": memory["steps"].sum()}

    def follow(self, networks, watched, memory, step, steps, *, sound):
        memory["steps"] += sound
        return {"after": float(memory["steps"])}


@pytest.fixture
def registry(monkeypatch):
    """The methods that are known, to be changed by a test."""
    monkeypatch.setattr(methods, "_registered", dict(methods._registered))
    return methods._registered


@pytest.fixture
def tagged(registry):
    return register(Tagged)


# names


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_method_is_found_by_its_name(name):
    found = find(name)
    assert issubclass(found, Method) and found.name == name and found.__doc__
    assert dataclasses.is_dataclass(found) and found.__dataclass_params__.frozen
    assert "seg" in found.scores, "what every method is scored on"


def test_there_are_three_and_the_peers_and_the_papers_is_the_default():
    assert tuple(methods.names()) == BUILT_IN and methods.DEFAULT == "dsgc"


def test_an_unknown_method_names_those_there_are():
    with pytest.raises(UserError, match=f"^method 'mars': unknown; there are {KNOWN}$"):
        find("mars")
    for name in ("", "Base", "contract", "labels", "..base"):  # nothing else of the folder is imported for a name
        with pytest.raises(UserError, match="unknown; there are"):
            preset("shapes", name)


@pytest.mark.parametrize("words", [["--method", "mars"], ["--method=mars"], ["--method"]], ids=" ".join)
def test_the_command_refuses_an_unknown_method_in_one_line(words, capsys):
    refused(["train", "shapes", *words], capsys, "method", f"unknown; there are {KNOWN}")


def test_the_command_refuses_a_number_of_another_method(capsys):
    refused(["train", "shapes", "--method", "base", "--theta-high", "0.9"], capsys, "--theta-high", "train shapes --method base --help")


def test_a_method_that_is_registered_is_known(tagged, registry):
    assert methods.names() == [*BUILT_IN, "tagged"] and find("tagged") is Tagged
    assert preset("shapes", "tagged").method == Tagged(strength=2.0) and preset("voc", "tagged").method == Tagged()
    registry.pop("tagged")
    with pytest.raises(UserError, match="method 'tagged': unknown"):
        find("tagged")


# presets and files


@pytest.mark.parametrize(("name", "method"), BOTH)
def test_a_preset_has_the_values_of_run_and_method(name, method):
    config, found = preset(name, method), find(method)
    assert config.method == found(**found.presets.get(name, {}))
    assert {key: config.flat()[key] for key in PRESETS[name]} == PRESETS[name]
    assert config.flat()["method"] == method


@pytest.mark.parametrize("method", BUILT_IN)
def test_presets_of_a_method_are_of_presets_that_there_are(method):
    assert set(find(method).presets) <= set(PRESETS)


def test_methods_that_share_a_number_share_its_value_under_every_preset():
    """So that under one seed they differ in nothing but what they are, and in what a peer has published otherwise."""
    for name in PRESETS:
        values = []
        for method in BUILT_IN:
            config = preset(name, method)
            flat = {key: value for key, value in config.flat().items() if key != "method"}
            values.append({key: value for key, value in flat.items() if config.source_of(key) != "published"})
        for one in values:
            for other in values:
                assert not [key for key in one.keys() & other.keys() if one[key] != other[key]]


@pytest.mark.parametrize(("name", "method"), BOTH)
def test_flat_values_give_the_config_back_by_way_of_json(name, method):
    config = preset(name, method)
    theirs = {"segmentation_average": "pixels"} if "segmentation_average" in config.flat() else {}
    for one in (config, config.changed(seed=7, projector=(3, 2, 1), **theirs)):
        assert configured(one.flat()) == one
        assert configured(json.loads(json.dumps(one.flat()))) == one
    assert len(config.flat()) == len(config.names()) + len(config.method.names())


def test_a_value_that_is_left_out_is_the_default():
    assert configured({"method": "base"}) == preset("voc", "base")


@pytest.mark.parametrize("values", [{}, preset("voc").method.__dict__])
def test_values_without_a_method_are_refused_in_one_line(values):
    with pytest.raises(UserError, match="^its config names no method: an earlier version wrote it; .*train anew$"):
        configured(values)


@pytest.mark.parametrize("name", ["mars", None, 3, ["base"], {"base": 1}])
def test_values_with_a_method_that_is_none_are_refused(name):
    with pytest.raises(UserError, match=f"unknown; there are {KNOWN}"):
        configured({"method": name})


def test_a_run_of_an_earlier_version_is_refused_in_one_line(run, capsys):
    """Both files of it: the run's config.json, and the about.json of its checkpoint."""
    config = json.loads((run / "config.json").read_text())
    config.pop("method")
    (run / "config.json").write_text(json.dumps(config))
    refused(["resume", run], capsys, "config.json", "names no method", "an earlier version wrote it", "train anew")
    about = run / "checkpoints/step_000001/about.json"
    about.write_text(json.dumps(json.loads(about.read_text()) | {"config": config}))
    refused(["evaluate", run], capsys, "about.json", "names no method", "an earlier version wrote it", "train anew")


# numbers with a source


@dataclass(frozen=True)
class Numbers(Settings):
    stated: float = paper(0.2, "a weight", coco=0.4)
    peer: float = published(0.7, "a threshold", "Ru et al. 2023, its train.py", coco=0.65)
    ours: float = choice(3.0, "a stride")
    other: float = departs(0.9, "a centre", stated=1.0, where="Eq. 10")


@pytest.mark.parametrize(
    ("name", "values", "source"),
    [
        ("stated", (0.2, 0.4), "paper"), ("stated", (0.3,), "departs"), ("peer", (0.7, 0.65), "published"), ("peer", (0.5,), "choice"),
        ("ours", (3.0, 4.0), "choice"), ("other", (0.9, 0.5), "departs"), ("other", (1.0,), "paper"),
    ],
)  # fmt: skip
def test_a_number_is_whose_it_is_until_it_is_changed(name, values, source):
    for value in values:
        assert Numbers().replaced(**{name: value}).source_of(name) == source


def test_a_published_number_says_where():
    (field,) = [field for field in dataclasses.fields(Numbers) if field.name == "peer"]
    assert field.metadata["text"] == "a threshold (Ru et al. 2023, its train.py)"


def test_a_config_asks_its_method_for_the_source_of_what_is_the_methods(tagged):
    config = preset("shapes", "tagged")
    assert {config.source_of(name) for name in ("strength", "offsets", "seed")} == {"choice"}
    assert preset("voc", "base").source_of("lambda1") == preset("voc").source_of("theta_low") == "paper"


# a method of one's own


def test_its_numbers_are_options_and_are_checked(tagged):
    base = preset("shapes", "tagged")
    parsed = dataclasses.asdict(parse(options_of(base), ["--strength", "3", "--offsets", "4", "5", "--seed", "1"], "train"))
    assert base.changed(**parsed) == base.changed(strength=3.0, offsets=(4, 5), seed=1)
    with pytest.raises(UserError, match="strength 0.0: must be greater than 0"):
        base.changed(strength=0.0)


def test_it_trains_is_kept_scored_and_resumed_as_any_other(tagged, registry, arguments, tmp_path, capsys):
    run = tmp_path / "run"
    words = arguments("tagged", out=str(run), checkpoint_every=1, keep_checkpoints=9, strength=3.0)
    assert main(words) == 0
    lines = [line for line in log_of(run) if "losses" in line]
    assert [(line["stage"], line["before"], line["after"]) for line in lines] == [("tags", n, n + 1) for n in range(4)]
    assert lines[0]["losses"]["all"] == pytest.approx(3 * lines[0]["losses"]["tags"])
    assert [checkpoint.read(path).state["memory.steps"].item() for path in checkpoint.checkpoints(run)] == [1, 2, 3, 4]
    assert read_config(run).method == Tagged(strength=3.0)
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics.keys() == {"network", "images", "list", "masks"} and metrics["network"].keys() == {"seg"}
    assert main(["evaluate", str(run), "--out", str(tmp_path / "scores.json")]) == 0
    assert json.loads((tmp_path / "scores.json").read_text()) == metrics
    (run / "metrics.json").unlink()  # as if it had been stopped just before its end
    assert resume(run) == run and json.loads((run / "metrics.json").read_text()) == metrics
    for folder in checkpoint.checkpoints(run)[:-1]:
        shutil.rmtree(folder)
    registry.pop("tagged")
    capsys.readouterr()
    refused(["evaluate", run], capsys, "method 'tagged'", "unknown; there are")


def test_its_first_weights_are_those_of_any_other_method(tagged, tiny, tmp_path):
    first = {}
    for method, more in (("tagged", {}), ("base", {"warmup_steps": 0})):
        run = train(tiny(method, out=str(tmp_path / method), steps=1, lr=1e-12, weight_decay=0.0, pictures=0, **more))
        first[method] = checkpoint.load(run).weights["network"]
    for name, value in first["base"].items():
        torch.testing.assert_close(value, first["tagged"][name], rtol=0, atol=1e-9)
