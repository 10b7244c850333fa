"""Numbers that a method says matter later do not touch its first steps, bit by bit; those of which it does not say so do."""

import dataclasses
import typing

import pytest
import torch

from dsgc import methods
from dsgc.data.loading import train_batches
from dsgc.errors import UserError
from dsgc.runs import state
from dsgc.runs.parallel import accelerator_of
from dsgc.training.learner import advance, begin, parts_of
from dsgc.training.splits import open_data

METHODS = {name: methods.find(name) for name in methods.MODULES}
SAID = {name: vars(method)["later"] for name, method in METHODS.items() if vars(method).get("later")}  # not what it inherits
LATER = [(name, field) for name, later in SAID.items() for field in later]
HERE = [
    (name, field) for name, later in SAID.items() for field in METHODS[name].names()
    if field not in (*later, "warmup_steps")  # which says how many steps are shared
]  # fmt: skip
NEED = {"em_tolerance": {"em_iterations": 2}, "em_start": {"em_iterations": 2}}  # a number that is read only beside another


def others(method, name):
    """Other values of a field: all that it can have, or the furthest that are easily named, so that a use of it would show."""
    (field,) = [field for field in dataclasses.fields(method) if field.name == name]
    value = getattr(method, name)
    if typing.get_origin(field.type) is typing.Literal:
        return [other for other in typing.get_args(field.type) if other != value]
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, tuple):
        return [value[:-1] or (*value, value[0] * 2)]
    wanted = (value + 1, 5 * value) if isinstance(value, int) else (0.0, value / 10, value / 2, 1.0, 2 * value)
    taken = [other for other in wanted if other != value and allowed(method, name, other)]
    return [taken[0], taken[-1]]


def allowed(method, name, value):
    """Whether the method takes this value beside its others."""
    try:
        return bool(method.replaced(**{name: value}))
    except UserError:
        return False


def first_batches(config, kept={}):  # noqa: B006
    """Those of all runs of a method on some data, whatever its numbers but the second crop; and how many classes there are."""
    key = config.data, config.method.name, config.method.second_crop, config.method.shared_steps
    if key not in kept:
        opened = open_data(config)
        options = {"batch": config.batch_size, "seed": config.seed, "start": 0, "stop": config.method.shared_steps, "workers": 0}
        kept[key] = list(train_batches(opened.train, **options)), len(opened.folder.classes)
    return kept[key]


def first_steps(config):
    """All that a run has after its shared steps: weights, optimisers, what it remembers, random generators; losses on the way."""
    batches, classes = first_batches(config)
    torch.manual_seed(config.seed)
    learner, _ = begin(config, classes, torch.device("cpu"))
    found = {}
    for step, batch in enumerate(batches):
        parts = parts_of(batch, config.batch_size, torch.device("cpu"))
        made, stage, _, sound = advance(learner, parts, step, config, accelerator_of(config))
        assert sound and stage.name == config.method.stage(0, config.steps).name
        found |= {f"{step}.{name}": value for name, value in made.losses.items()}
    weights = {f"{name}.{key}": value for name, network in learner.networks.items() for key, value in network.state_dict().items()}
    return found | weights | state.gather(*learner)


def same(mine, theirs):
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


@pytest.fixture(scope="module")
def learning(tiny):
    """`learning(method)`: a run whose first steps change much, so that a difference shows."""
    return lambda name, **changes: tiny(name, pictures=0, lr=0.01, **changes)


@pytest.fixture(scope="module")
def plain(learning):
    return {name: first_steps(learning(name)) for name in SAID}


def test_there_are_fields_of_both_kinds_and_the_shared_steps_are_some_but_not_all(learning):
    assert {name for name, _ in LATER} == {name for name, _ in HERE} == {*SAID} >= {"base", "dsgc"}
    for name, later in SAID.items():
        assert set(later) <= set(METHODS[name].names()) and len(set(later)) == len(later)
        config = learning(name)
        assert 0 < config.method.shared_steps < config.steps


@pytest.mark.parametrize(("name", "field"), LATER)
def test_a_number_that_matters_later_leaves_the_first_steps_as_they_are(learning, plain, name, field):
    for value in others(learning(name).method, field):
        config = learning(name, **NEED.get(field, {}) | {field: value})
        assert config.method != learning(name).method and same(first_steps(config), plain[name]), f"{field} {value}"


def test_so_it_is_without_a_student(learning):
    config = learning("dsgc", distillation=False)
    expected = first_steps(config)
    for field in set(METHODS["dsgc"].later) - {"label_network"}:  # which then has no other value
        assert same(first_steps(config.changed(**{field: others(config.method, field)[-1]})), expected), field


@pytest.mark.parametrize(("name", "field"), HERE)
def test_a_number_of_which_nothing_is_said_matters_from_the_start(learning, plain, name, field):
    """Else it were one that matters later, and runs would share less than they could."""
    for value in others(learning(name).method, field):
        assert not same(first_steps(learning(name, **{field: value})), plain[name]), f"{field} {value}"
