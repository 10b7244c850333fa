"""Configuration: the paper's numbers, presets, and every field on the command line with its source."""

import dataclasses
import typing

import pytest

from dsgc.__main__ import _parse, main, options_of
from dsgc.config import PRESETS, Config, preset, source
from dsgc.errors import UserError

FIELDS = {field.name: field for field in dataclasses.fields(Config)}
HINTS = typing.get_type_hints(Config)

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
}


def option(name):
    return "--" + name.replace("_", "-")


def another(value, hint):
    """A value of the field's type that is not its default."""
    if typing.get_origin(hint) is typing.Literal:
        return next(item for item in typing.get_args(hint) if item != value)
    if typing.get_origin(hint) is tuple:
        return tuple(another(item, typing.get_args(hint)[0]) for item in value)
    return (
        not value if hint is bool else value + "-x" if hint is str else value + 1 if hint is int else value / 2 + 0.111
    )


@pytest.mark.parametrize("name", PAPER)
def test_defaults_are_the_papers(name):
    assert getattr(Config(), name) == PAPER[name]
    assert source(Config(), name) == "paper"


def test_nothing_else_is_called_the_papers():
    assert {name for name, field in FIELDS.items() if field.metadata["source"] == "paper"} == set(PAPER)


@pytest.mark.parametrize("name", FIELDS)
def test_every_field_says_what_it_is_and_where_it_comes_from(name):
    assert FIELDS[name].metadata["source"] in ("paper", "choice")
    assert len(FIELDS[name].metadata["text"]) > 5


def test_voc_is_the_papers_setting_and_every_preset_is_a_config():
    assert preset("voc") == Config()
    assert {"voc", "shapes"} <= set(PRESETS)
    for name, config in PRESETS.items():
        assert dataclasses.replace(config) == config, name


def test_a_preset_that_changes_a_paper_value_makes_it_a_choice():
    assert source(PRESETS["shapes"], "crop_size") == "choice" != source(Config(), "crop_size")
    assert source(PRESETS["shapes"], "lambda1") == "paper"
    assert source(Config(), "seed") == "choice"


def test_configs_cannot_be_changed_in_place():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().steps = 3


@pytest.mark.parametrize("name", PRESETS)
def test_every_field_can_be_set_on_the_command_line(name):
    wanted = {field: another(getattr(PRESETS[name], field), HINTS[field]) for field in FIELDS}
    words = []
    for field, value in wanted.items():
        assert value != getattr(PRESETS[name], field), field
        words += [option(field), *map(str, value if isinstance(value, tuple) else [value])]
    parsed = dataclasses.asdict(_parse(options_of(PRESETS[name]), words, "train"))
    assert parsed == wanted
    assert {field: type(value) for field, value in parsed.items()} == {
        field: type(value) for field, value in wanted.items()
    }


@pytest.mark.parametrize("name", PRESETS)
def test_without_options_the_command_line_gives_the_preset(name):
    assert Config(**dataclasses.asdict(_parse(options_of(PRESETS[name]), [], "train"))) == PRESETS[name]


@pytest.mark.parametrize("name", PRESETS)
def test_help_says_of_every_default_whether_it_is_the_papers(name, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as stop:
        main(["train", name, "--help"])
    assert not stop.value.code
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for field in FIELDS:
        described = text.split(f"{option(field)} ", 1)[1].split(" --", 1)[0]
        assert f"[{source(PRESETS[name], field)}]" in described, described


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
    "random_flip": [1],
    "projector": [(1, 2), [1, 2, 3], (1.5, 2, 3)],
    "refine_dilations": [()],
    "seed": [-1, 0.5],
    "data": [3],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BAD.items() for value in values])
def test_a_value_that_cannot_be_is_refused_by_name(name, value):
    with pytest.raises(UserError, match=name) as caught:
        Config(**{name: value})
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
        Config(**{name: value})


@pytest.mark.parametrize("pair", ["ptc", "roi", "label", "theta"])
def test_thresholds_in_the_wrong_order_name_both(pair):
    with pytest.raises(UserError) as caught:
        Config(**{f"{pair}_low": 0.6, f"{pair}_high": 0.4})
    assert f"{pair}_low" in str(caught.value) and f"{pair}_high" in str(caught.value)


def test_an_int_serves_as_a_float():
    assert Config(lambda1=1).lambda1 == 1


def test_an_unknown_preset_names_those_there_are():
    with pytest.raises(UserError, match="shapes"):
        preset("mars")
