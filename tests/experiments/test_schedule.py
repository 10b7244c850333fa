"""The order of runs: ready ones first, then warm-ups that several share, then runs that share with none."""

import pytest

from dsgc.experiments.schedule import Schedule


@pytest.fixture
def schedule(tiny):
    """Two seeds with two rows each, and a run that shares with none."""
    runs = {f"{row}{seed}": tiny(seed=seed, tau=tau) for seed in (1, 2) for row, tau in (("a", 0.1), ("b", 0.2))}
    return Schedule({"alone": tiny("masks")} | runs)


def taken(schedule):
    """Labels of the tasks that can be begun now, in their order."""
    return [(task.labels, task.grows) for task in iter(schedule.take, None)]


def test_first_come_the_trunks_and_their_runs_only_when_they_are_there(schedule):
    assert taken(schedule) == [(("a1", "b1"), True), (("a2", "b2"), True), (("alone",), False)]


def test_runs_whose_trunk_is_there_come_before_the_next_trunk(schedule):
    trunk = schedule.take()
    assert schedule.end(trunk, well=True) is None
    assert taken(schedule) == [(("a1",), False), (("b1",), False), (("a2", "b2"), True), (("alone",), False)]


def test_a_trunk_is_needed_until_its_last_run_has_ended_well_or_not(schedule):
    trunk = schedule.take()
    schedule.end(trunk, well=True)
    first, second = schedule.take(), schedule.take()
    assert schedule.end(second, well=False) is None and schedule.end(first, well=True) == trunk.trunk


def test_the_runs_of_a_trunk_that_failed_are_not_begun_and_nobody_needs_it(schedule):
    trunk = schedule.take()
    assert schedule.end(trunk, well=False) == trunk.trunk
    assert [labels for labels, _ in taken(schedule)] == [("a2", "b2"), ("alone",)]


def test_a_run_that_shares_with_none_leaves_nothing_to_clean(schedule):
    (alone,) = [task for task in iter(schedule.take, None) if task.trunk is None]
    assert schedule.end(alone, well=True) is None


def test_steps_of_a_shared_warm_up_count_once(schedule):
    """Of four each: a run alone, and for each seed a warm-up of two and two runs of the two after it."""
    assert sum(task.steps for task in schedule.tasks()) == 4 + 2 * (2 + 2 * 2)
    schedule.end(schedule.take(), well=True)
    assert sum(task.steps for task in schedule.tasks()) == 4 + 2 * (2 + 2 * 2) - 2
    list(iter(schedule.take, None))
    assert sum(task.steps for task in schedule.tasks()) == 2 * 2, "the runs that wait for the second trunk"
