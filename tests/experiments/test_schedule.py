"""The order of runs: ready ones first, then warm-ups that several share, then runs that share with none."""

import pytest

from dsgc.experiments.schedule import Schedule


@pytest.fixture
def schedule(tiny):
    """Two seeds with two rows each, and a run that shares with none."""
    runs = {f"{row}{seed}": tiny(seed=seed, tau=tau) for seed in (1, 2) for row, tau in (("a", 0.1), ("b", 0.2))}
    return Schedule({"alone": tiny("masks")} | runs)


def names(schedule, *grown):
    """Labels of the tasks that can be begun where these trunks are there, in their order."""
    return [(task.labels, task.grows) for task in schedule.order(grown)]


def test_first_come_the_trunks_and_their_runs_only_when_they_are_there(schedule):
    assert names(schedule) == [(("a1", "b1"), True), (("a2", "b2"), True), (("alone",), False)]


def test_runs_whose_trunk_is_there_come_before_the_next_trunk(schedule):
    first, second = schedule.trunks
    assert names(schedule, first) == [(("a1",), False), (("b1",), False), (("a2", "b2"), True), (("alone",), False)]
    assert [labels for labels, _ in names(schedule, first, second)] == [("a1",), ("b1",), ("a2",), ("b2",), ("alone",)]


def test_a_trunk_is_needed_until_its_last_run_has_ended(schedule):
    first, second = schedule.trunks
    schedule.end("b1")
    assert list(schedule.trunks) == [first, second] and names(schedule, first)[0] == (("a1",), False)
    schedule.end("a1")
    assert list(schedule.trunks) == [second] and names(schedule) == [(("a2", "b2"), True), (("alone",), False)]


def test_a_run_that_shares_with_none_takes_no_trunk_along(schedule):
    schedule.end("alone")
    assert len(schedule.trunks) == 2 and [labels for labels, _ in names(schedule)] == [("a1", "b1"), ("a2", "b2")]


def test_steps_of_a_shared_warm_up_count_once(schedule):
    """Of four each: a run alone, and for each seed a warm-up of two and two runs of the two after it."""
    first, _ = schedule.trunks
    assert schedule.steps(()) == 4 + 2 * (2 + 2 * 2)
    assert schedule.steps((first,)) == 4 + 2 * (2 + 2 * 2) - 2
    schedule.end("a1")
    schedule.end("b1")
    assert schedule.steps(()) == 4 + (2 + 2 * 2)
