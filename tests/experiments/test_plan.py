"""What is to be made, and the time that it would take: by runs of the same kind, a shared warm-up counted once."""

from kept import store

from dsgc.experiments import stored
from dsgc.experiments.claims import Claims
from dsgc.experiments.plan import durations, making, plan


def test_a_plan_has_a_line_for_each_run_and_the_time_that_the_rest_takes(made, tmp_path):
    config, result = made[1], stored.look_up(made[1], made[0])[1]
    runs = {f"seed {seed}": config.changed(seed=seed) for seed in range(7)}
    for seed, seconds in enumerate((60, 1200, 600)):  # the median is ten minutes
        store(runs[f"seed {seed}"], tmp_path, result, seconds=seconds)
    stored.path_of(runs["seed 3"], tmp_path).write_text("{}")
    *lines, last = plan(runs, tmp_path, 2)
    states = 3 * ["done"] + ["damaged"] + 3 * ["missing"]
    assert [line.split(maxsplit=2) for line in lines] == [
        [state, stored.path_of(run, tmp_path).name, label] for state, (label, run) in zip(states, runs.items(), strict=True)
    ]
    assert last == "3 of 7 results are there, 4 to make, 2 at a time: about 20 min"


def test_a_plan_says_when_there_is_nothing_to_estimate_from_or_nothing_to_do(copy):
    folder, config, _ = copy
    last = plan({"longer": config.changed(steps=5)}, folder, 1)[-1]
    assert last == "0 of 1 results are there, 1 to make, 1 at a time: no run to estimate from"
    assert plan({"mine": config}, folder, 1)[-1] == "1 of 1 results are there, 0 to make, 1 at a time"


def test_an_estimate_is_of_as_many_steps_of_the_same_method_and_encoder_by_whatever_code(copy, tiny, monkeypatch):
    folder, config, _ = copy
    seconds = stored.look_up(config, folder)[1].about["seconds"]
    (folder / "other.json").write_text("[1, 2]")
    monkeypatch.setattr(stored, "code_version", lambda method: "0123456789")
    assert durations(folder) == {("dsgc", config.steps, config.encoder, config.crop_size, config.batch_size): seconds}
    assert "about" in plan({"other": config.changed(seed=9, tau=0.1)}, folder, 1)[-1]
    assert "no run to estimate from" in plan({"other": tiny("base")}, folder, 1)[-1]
    for other in ({"steps": 5}, {"encoder": "vit_tiny_patch16_224"}, {"crop_size": 64}, {"batch_size": 5}):
        assert "no run to estimate from" in plan({"other": config.changed(**other)}, folder, 1)[-1]


def test_a_plan_for_more_jobs_than_runs_takes_as_long_as_one(made, tmp_path):
    config = made[1]
    store(config, tmp_path, stored.look_up(config, made[0])[1], seconds=600)
    runs = {"a": config.changed(seed=1), "b": config.changed(seed=2)}
    assert plan(runs, tmp_path, 8)[-1].endswith("about 10 min")


def test_a_shared_warm_up_is_counted_once_by_its_steps(made, tmp_path):
    """A run alone takes ten minutes, half of its steps are warm-up: one warm-up and four halves on one machine, on many one run."""
    config, result = made[1], stored.look_up(made[1], made[0])[1]
    store(config, tmp_path, result, seconds=300, warm_up={"id": "one", "seconds": 300})
    assert list(durations(tmp_path).values()) == [600]
    runs = {f"tau 0.{tau}": config.changed(tau=tau / 10) for tau in range(1, 5)}
    assert plan(runs, tmp_path, 1)[-1] == (
        "0 of 4 results are there, 4 to make (4 of them from 1 shared warm-up), 1 at a time: about 25 min"
    )
    assert plan(runs, tmp_path, 8)[-1].endswith("about 10 min")


def test_a_plan_says_who_makes_what_just_now_and_changes_nothing(made, tmp_path):
    runs = {f"seed {seed}": made[1].changed(seed=seed) for seed in range(3)}
    assert "being made" not in "".join(plan(runs, tmp_path, 1)) and list(tmp_path.iterdir()) == []
    with Claims(making(tmp_path)) as others:
        claim = others.take(stored.path_of(runs["seed 1"], tmp_path).stem)
        owner, before = others.owner(claim.key), sorted(tmp_path.rglob("*"))
        first, second, _, last = plan(runs, tmp_path, 1)
        assert second.endswith(f"  seed 1  (made by {owner})") and first.endswith("  seed 0")
        assert f"3 to make, 1 at a time; 1 of them are being made by {owner}: " in last and sorted(tmp_path.rglob("*")) == before
    assert "being made" not in "".join(plan(runs, tmp_path, 1))
