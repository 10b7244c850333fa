"""Configuration: the paper's numbers, presets, and every field of a run and of its method on the command line, with its source."""

import dataclasses
import typing

import pytest

from dsgc.__main__ import main, options_of
from dsgc.command.parsing import parse
from dsgc.config import PRESETS, Config
from dsgc.errors import UserError
from dsgc.methods import MODULES, find, preset

METHODS = tuple(MODULES)
OWNERS = {"every run": Config, **{name: find(name) for name in METHODS}}
FIELDS = {  # of every run, and of each method
    owner: {field.name: field for field in dataclasses.fields(settings) if field.name != "method"} for owner, settings in OWNERS.items()
}
ALL = [(owner, name) for owner, fields in FIELDS.items() for name in fields]
BOTH = [(name, method) for name in PRESETS for method in METHODS]

PAPER = {  # paper/digest.md, "Settings the paper states"
    "crop_size": 448,
    "crop_scale": (0.32, 1.0),
    "crop_ratio": (3 / 4, 4 / 3),
    "steps": 20_000,
    "warmup_steps": 2_000,
    "lr": 6e-5,
    "student_lr": 6e-6,
    "ema_momentum": 0.996,
    "lambda1": 0.2,
    "lambda2": 0.5,
    "lambda3": 0.1,
    "lambda4": 0.1,
    "roi_low": 0.2,
    "roi_high": 0.7,
    "theta_high": 0.85,
    "theta_low": 0.25,
    "similarity_axis": "channels",  # Eq. 7 divides by the number of channels
    "punc_mean": "image",  # Eq. 10 is written for one image
    "mixture_map": "raw",  # the confidence "that the CAM puts out"
    "mixture_pixels": "all",  # Eq. 16: N is "the total number of pixels"
}


def of(method):
    """All fields of a run with this method, and their types."""
    hints = typing.get_type_hints(Config) | typing.get_type_hints(OWNERS[method])
    return {name: hints[name] for name in (*FIELDS["every run"], *FIELDS[method])}


def option(name):
    return "--" + name.replace("_", "-")


def another(value, hint):
    """A value of the field's type that is not its default."""
    if typing.get_origin(hint) is typing.Literal:
        return next(item for item in typing.get_args(hint) if item != value)
    if typing.get_origin(hint) is tuple:
        return tuple(another(item, typing.get_args(hint)[0]) for item in value)
    return (
        not value if hint is bool else (value or "a") + "-x" if hint is str else value + 1 if hint is int else value / 2 + 0.111
    )


@pytest.mark.parametrize("name", PAPER)
def test_defaults_are_the_papers(name):
    config = preset("voc")
    assert config.flat()[name] == PAPER[name]
    assert config.source_of(name) == "paper"


def test_nothing_else_is_called_the_papers():
    assert {name for owner, name in ALL if FIELDS[owner][name].metadata["source"] == "paper"} == set(PAPER)


@pytest.mark.parametrize(("owner", "name"), ALL)
def test_every_field_says_what_it_is_and_where_it_comes_from(owner, name):
    metadata = FIELDS[owner][name].metadata
    assert metadata["source"] in ("paper", "published", "choice", "departs")
    assert len(metadata["text"]) > 5


def test_no_number_of_a_method_has_the_name_of_one_of_every_run():
    """Else one would hide the other on the command line and in a file."""
    assert not [name for owner, name in ALL if owner != "every run" and name in FIELDS["every run"]]


@pytest.mark.parametrize("method", METHODS)
def test_voc_is_the_default_of_run_and_method_and_every_preset_is_a_config(method):
    assert preset("voc", method) == Config(method=find(method)())
    assert {"voc", "shapes"} <= set(PRESETS)
    for name in PRESETS:
        config = preset(name, method)
        assert dataclasses.replace(config) == config, name
        assert isinstance(config.method, find(method)) and config.method.name == method


def test_without_a_name_the_method_is_the_papers():
    assert preset("voc") == preset("voc", "dsgc")


def test_a_preset_that_changes_a_value_of_the_paper_departs_from_it():
    shapes, voc = preset("shapes"), preset("voc")
    assert shapes.source_of("crop_size") == "departs" and voc.source_of("crop_size") == "paper"
    assert shapes.source_of("warmup_steps") == "departs" and voc.source_of("warmup_steps") == "paper"
    assert shapes.source_of("lambda1") == "paper"
    assert voc.source_of("seed") == "choice"


@pytest.mark.parametrize("name", ["steps", "warmup_steps"])
def test_what_the_paper_states_for_coco_is_the_papers_under_coco(name):
    assert preset("coco").flat()[name] != preset("voc").flat()[name] and preset("coco").source_of(name) == "paper"


@pytest.mark.parametrize("method", METHODS)
def test_configs_cannot_be_changed_in_place(method):
    config = preset("voc", method)
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.steps = 3
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.method.subtract_minimum = False


@pytest.mark.parametrize(("name", "method"), BOTH)
def test_every_field_can_be_set_on_the_command_line(name, method):
    base = preset(name, method)
    wanted = {field: another(base.flat()[field], hint) for field, hint in of(method).items()}
    words = []
    for field, value in wanted.items():
        assert value != base.flat()[field], field
        words += [option(field), *map(str, value if isinstance(value, tuple) else [value])]
    parsed = dataclasses.asdict(parse(options_of(base), words, "train"))
    assert parsed == wanted
    assert {field: type(value) for field, value in parsed.items()} == {
        field: type(value) for field, value in wanted.items()
    }


@pytest.mark.parametrize(("name", "method"), BOTH)
def test_without_options_the_command_line_gives_the_preset(name, method):
    base = preset(name, method)
    assert base.changed(**dataclasses.asdict(parse(options_of(base), [], "train"))) == base


def test_help_says_what_is_printed_where_a_default_departs_from_it(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    with pytest.raises(SystemExit):
        main(["train", "shapes", "--help"])
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "of the encoder's patch; the paper has 448 (default: 96)" in text
    assert "iterations of the warm-up stage; the paper has 2000, for COCO 5000 (default: 60)" in text
    assert "[departs] temperature of the target side; Eq. 10 as printed: 1.0 (default: 0.04)" in text


@pytest.mark.parametrize(("name", "method"), BOTH)
def test_help_says_of_every_default_whether_it_is_the_papers(name, method, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as stop:
        main(["train", name, "--method", method, "--help"])
    assert not stop.value.code
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for field in of(method):
        described = text.split(f"{option(field)} ", 1)[1].split(" --", 1)[0]
        assert f"[{preset(name, method).source_of(field)}]" in described, described
    assert not [field for owner in METHODS for field in FIELDS[owner] if field not in of(method) and f"{option(field)} " in text]


@pytest.mark.parametrize("words", [["--method", "base"], ["--method=base"], ["--seed", "3", "--method", "base"]], ids=" ".join)
def test_the_method_is_named_anywhere_behind_the_preset(words, monkeypatch, capsys):
    trained = []
    monkeypatch.setattr("dsgc.training.loop.train", trained.append)
    monkeypatch.setattr("dsgc.__main__._embedded", lambda data: None)
    assert main(["train", "shapes", *words, "--lambda1", "0.3"]) == 0
    assert trained == [preset("shapes", "base").changed(lambda1=0.3, seed=3 if "--seed" in words else 0)]


def test_help_of_train_names_presets_and_methods(capsys):
    assert main(["train"]) == 0
    said = capsys.readouterr().out
    assert "methods, dsgc if none is named:" in said
    assert {line.split()[0] for line in said.splitlines() if line.startswith("  ")} == {*PRESETS, *METHODS}


BAD = {
    "steps": [0, -1, 2.5, "many", True, None],
    "warmup_steps": [-1, 30_000],
    "batch_size": [0],
    "workers": [-1],
    "crop_size": [0, "large"],
    "crop_scale": [(0.0, 1.0), (0.9, 0.5), (0.5, 1.5), (0.5,), 0.5],
    "crop_ratio": [(0.0, 1.0), (2.0, 1.0), (1.0, 1.0, 1.0)],
    "lr": [0.0, -1.0, float("nan"), "fast"],
    "lambda3": [-0.1],
    "roi_low": [0.8, -0.1],
    "roi_high": [0.1, 1.1],
    "theta_low": [0.9],
    "theta_high": [0.2],
    "ptc_high": [0.1],
    "label_low": [0.71],
    "tau": [1.5, -1.5],
    "ema_momentum": [1.1, -0.1],
    "tag_pool": ["median", 1.5, -0.1],
    "mixture_pixels": ["some"],
    "mixture_grid": ["hexagonal"],
    "mixture_gap": [-1.0],
    "em_iterations": [-1, 2.5],
    "variance_floor": [0.0],
    "correction_rounds": [0],
    "correction_from": [-0.1],
    "correction_until": [1.1],
    "tag_pool_of": ["patches"],
    "segmentation_average": ["median"],
    "random_flip": [1],
    "projector": [(1, 2), [1, 2, 3], (1.5, 2, 3)],
    "refine_dilations": [()],
    "seed": [-1, 0.5],
    "data": [3],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BAD.items() for value in values])
def test_a_value_that_cannot_be_is_refused_by_name(name, value):
    with pytest.raises(UserError, match=name) as caught:
        preset("voc").changed(**{name: value})
    assert "\n" not in str(caught.value)


UNUSABLE = {
    "seed": [2**32],  # numpy and torch take 32 bits
    "lr": [float("inf")],
    "crop_ratio": [(1.0, float("inf"))],
    "refine_dilations": [(0,), (-1, 2)],
    "projector": [(0, 16, 32)],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in UNUSABLE.items() for value in values])
def test_a_value_that_no_run_survives_is_refused_by_name(name, value):
    with pytest.raises(UserError, match=name):
        preset("voc").changed(**{name: value})


@pytest.mark.parametrize("pair", ["ptc", "roi", "label", "theta"])
def test_thresholds_in_the_wrong_order_name_both(pair):
    with pytest.raises(UserError) as caught:
        preset("voc").changed(**{f"{pair}_low": 0.6, f"{pair}_high": 0.4})
    assert f"{pair}_low" in str(caught.value) and f"{pair}_high" in str(caught.value)


def test_an_int_serves_as_a_float():
    assert preset("voc").changed(lambda1=1).method.lambda1 == 1


def test_an_unknown_preset_names_those_there_are():
    with pytest.raises(UserError, match="shapes"):
        preset("mars")


def test_a_method_that_is_none_is_refused():
    with pytest.raises(UserError, match="^method 'dsgc': must be of type Settings$"):
        Config(method="dsgc")


def test_labels_of_a_student_that_is_not_there_are_refused():
    for network in ("student", "both"):
        with pytest.raises(UserError, match=f"label_network {network}: must be teacher where distillation is off"):
            preset("voc").changed(label_network=network, distillation=False)


# changing


def test_a_change_reaches_the_run_or_its_method_and_nothing_else():
    before = preset("shapes")
    after = before.changed(lambda1=0.3, steps=200, warmup_steps=200)
    assert (after.method.lambda1, after.steps, after.method.warmup_steps) == (0.3, 200, 200)
    assert after.flat() == before.flat() | {"lambda1": 0.3, "steps": 200, "warmup_steps": 200}
    assert before == preset("shapes") and before.changed() == before


@pytest.mark.parametrize(("method", "name"), [("dsgc", "speed"), ("base", "theta_high"), ("masks", "lambda1"), ("dsgc", "supervision")])
def test_a_change_of_what_is_neither_the_run_s_nor_its_method_s_is_refused(method, name):
    with pytest.raises(UserError, match=f"^{name}: no setting of a run, nor of the method {method}$"):
        preset("shapes", method).changed(**{name: 1, "steps": 200})


def test_another_method_brings_its_own_numbers():
    base = find("base")(warmup_steps=3)
    config = preset("shapes").changed(method=base, steps=10)
    assert config.method == base and config.steps == 10
    assert preset("shapes").changed(method=base, lambda1=0.3).method == find("base")(warmup_steps=3, lambda1=0.3)
    with pytest.raises(UserError, match="^theta_high: no setting of a run, nor of the method base$"):
        preset("shapes").changed(method=base, theta_high=0.9)
