"""A result is found again by its configuration, told apart by its code, refused where it is damaged, and its time counted once."""

import re

import pytest
from kept import handed_out

import dsgc.training.loop
from dsgc.correction import RULES
from dsgc.data import scenes
from dsgc.errors import UserError
from dsgc.experiments import apart, provenance, runner, stored
from dsgc.scoring.pictures import decoded


def test_a_result_is_found_again_with_scores_counts_samples_and_provenance(made):
    folder, config = made
    state, result = stored.look_up(config, folder)
    assert state == "done" and result.config["seed"] == 3 and "out" not in result.config
    assert 0 <= result.scores["teacher"]["seg"]["miou"] <= 1 and result.scores["images"] == 4
    assert len(result.counts["rules"]) == len(RULES) and len(result.counts["detectors"]) == 2
    assert list(result.samples) == ["val_00000", "val_00001"]
    for maps in result.samples.values():
        assert {name: decoded(png).shape for name, png in maps.items()} == dict.fromkeys(
            ("cam", "pseudo", "prediction"), (scenes.SIDE, scenes.SIDE)
        )
    assert set(result.about) == {"code", "commit", "date", "seconds", "threads", "machine", "processor", "system", "versions", "warm_up"}
    assert result.about["code"] == provenance.code_version("dsgc")


def test_the_counts_are_of_every_pixel_of_the_split(made):
    """Masks of the shapes have no pixel without a label, and the pseudo label has one for every second pixel each way."""
    counts = stored.look_up(made[1], made[0])[1].counts
    assert sum(number for rule in counts["rules"] for row in rule for number in row) == 4 * (scenes.SIDE // 2) ** 2


def test_without_pseudo_labels_there_is_nothing_to_count(tiny, tmp_path):
    config = tiny("masks", pictures=0)
    apart.make(config, tmp_path / "results", tmp_path)
    state, result = stored.look_up(config, tmp_path / "results")
    assert state == "done" and result.counts == {} and result.samples == {}
    assert result.scores.keys() == {"network", "images", "list", "masks"}


def test_what_only_pictures_without_a_layout_have_is_named_where_it_says_something(made):
    config = made[1]
    assert not {*config.OWN} & {*stored.described(config)}
    other = config.changed(tags="tags.csv", val_share=0.2)
    assert {*other.OWN} & {*stored.described(other)} == {"tags", "val_share"}
    assert stored.path_of(other, made[0]) != stored.path_of(config, made[0])


def test_where_a_run_takes_place_does_not_matter_but_what_it_does(made, tiny):
    folder, config = made
    places = [{"out": "elsewhere"}, {"workers": 1}, {"data": "copy"}]
    for elsewhere in (*places, {"batch_size": 4, "accumulate": 2}, {"recompute": True}, {"keep_checkpoints": 1}):
        assert stored.look_up(config.changed(**elsewhere), folder)[0] == "done"
    for other in ({"seed": 4}, {"tau": 0.51}, {"refine_dilations": (1, 2)}, {"pictures": 3}):
        assert stored.look_up(config.changed(**other), folder) == ("missing", None)
    assert stored.look_up(tiny("base", seed=3, pictures=2), folder) == ("missing", None)


DAMAGES = {
    "cut short": lambda text: text[: len(text) // 2],
    "empty": lambda text: "",
    "other configuration": lambda text: text.replace('"seed": 3', '"seed": 2'),
    "other scores": lambda text: text.replace('"images": 4', '"images": 5'),
    "other counts": lambda text: text.replace('"rules": [', '"rules": [[[0]], '),
    "other code": lambda text: text.replace(provenance.code_version("dsgc"), "0123456789"),
    "without samples": lambda text: text.replace('"samples"', '"examples"'),
    "a list": lambda text: "[1, 2]",
    "bytes": lambda text: "\udcff" + text,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_result_is_not_used(copy, damage):
    folder, config, path = copy
    text = path.read_text()
    damaged = DAMAGES[damage](text)
    assert damaged != text
    path.write_bytes(damaged.encode(errors="surrogateescape"))
    assert stored.look_up(config, folder) == ("damaged", None)


def test_a_result_of_another_run_under_this_one_s_name_is_damaged(copy):
    folder, config, path = copy
    other = config.changed(seed=4)
    path.rename(stored.path_of(other, folder))
    assert stored.look_up(other, folder) == ("damaged", None)


def test_a_result_of_other_code_is_used_but_named_and_made_again(copy, monkeypatch):
    folder, config, path = copy
    whole = stored.look_up(config, folder)[1]
    monkeypatch.setattr(stored, "code_version", lambda method: "0123456789")
    assert stored.look_up(config, folder) == ("other code", whole)
    results = stored.read({"mine": config}, folder, "make it")
    assert results == {"mine": whole}
    assert stored.summary(results).startswith(f"1 runs, 1 of them by other code than today's ({whole.about['code']});")
    seen, said = handed_out(monkeypatch), []
    assert runner.make_all({"mine": config}, folder, jobs=1, say=said.append) == 0
    assert [given[0] for given in seen] == [config]
    assert said[:2] == [f"mine: {path.name} other code, made again", "0 of 1 results are there, 1 to make, 1 at a time"]


def test_what_is_lacking_is_counted_by_kind_and_the_command_that_makes_it_is_named(copy):
    folder, config, _ = copy
    runs = {(seed, "row"): config.changed(seed=seed) for seed in (3, 4, 5, 6)}
    assert stored.read({(3, "row"): config}, folder, "make it")[3, "row"].config["seed"] == 3
    stored.path_of(runs[5, "row"], folder).write_text("{}")
    with pytest.raises(UserError, match="of 4 results 2 missing, 1 damaged; make them with `make it`$"):
        stored.read(runs, folder, "make it")


def test_a_summary_names_each_code_machine_and_version_once_and_adds_the_hours(made):
    result = stored.look_up(made[1], made[0])[1]
    facts = {"code": "0123456789", "date": "2001-02-03", "machine": "a box", "seconds": 7200, "threads": 96}
    facts |= {"processor": "a chip", "system": "a system"}
    slow = result._replace(about=result.about | {"seconds": 3600})
    assert f"2 runs, all by today's code, {provenance.code_version('dsgc')};" in stored.summary({1: slow, 2: slow})
    text = stored.summary({1: slow, 2: slow._replace(about=slow.about | facts), 3: slow})
    assert re.match(r"3 runs, 1 of them by other code than today's \(.*\b0123456789\b.*?\); ", text)
    assert text.endswith("4.0 hours of training in all")
    for name in ("date", "machine", "processor", "system"):
        assert f" {', '.join(sorted((str(facts[name]), str(slow.about[name]))))};" in text
    assert "; threads 1, 96; " in text
    assert text.count(f"torch {slow.about['versions']['torch']}") == 1


def test_hours_of_training_count_a_warm_up_once_however_many_runs_went_on_from_it(made):
    result = stored.look_up(made[1], made[0])[1]
    about = result.about | {"seconds": 3600, "warm_up": {"id": "one", "seconds": 1800}}
    other = about | {"warm_up": {"id": "two", "seconds": 1800}}
    assert stored.alone(about) == 5400 and stored.alone(about | {"warm_up": {}}) == 3600
    assert stored.trained([about, about, about]) == 3 * 3600 + 1800
    assert stored.trained([about, other, about | {"warm_up": {}}]) == 3 * 3600 + 2 * 1800
    abouts = (about, about, other, result.about | {"seconds": 0})
    text = stored.summary({number: result._replace(about=each) for number, each in enumerate(abouts)})
    assert text.endswith("warm-ups that 3 of them share counted once: 4.0 hours of training in all")


def test_a_summary_compares_each_result_with_the_code_of_its_method(made):
    result = stored.look_up(made[1], made[0])[1]
    codes = {name: provenance.code_version(name) for name in ("base", "dsgc", "masks")}
    assert len(set(codes.values())) == 3
    results = {
        name: result._replace(config=result.config | {"method": name}, about=result.about | {"code": code})
        for name, code in codes.items()
    }
    assert f"3 runs, all by today's code, {', '.join(sorted(codes.values()))};" in stored.summary(results)
    swapped = results["base"]._replace(about=result.about | {"code": codes["masks"]})
    assert f"2 of them by other code than today's ({codes['masks']})" in stored.summary({1: swapped, 2: result, 3: swapped})


def test_what_other_code_made_is_named_without_today_s(made):
    result = stored.look_up(made[1], made[0])[1]
    other = result._replace(about=result.about | {"code": "0123456789"})
    assert "1 of them by other code than today's (0123456789);" in stored.summary({1: result, 2: other})


def test_a_result_is_of_the_code_that_was_loaded_though_files_changed_while_it_trained(tiny, tmp_path, monkeypatch):
    order, genuine, train = [], apart.provenance, dsgc.training.loop.train
    monkeypatch.setattr(apart, "provenance", lambda *given: order.append("provenance") or genuine(*given))
    monkeypatch.setattr(dsgc.training.loop, "train", lambda config: order.append("train") or train(config))
    apart.make(tiny(pictures=0), tmp_path / "results", tmp_path)
    assert order == ["provenance", "train"]


def test_a_field_that_came_later_changes_no_name_but_where_it_is_used(tiny):
    plain = tiny(frozen_blocks=2)
    assert not stored.YOUNGER.keys() & stored.described(plain).keys()
    assert stored.described(plain.changed(frozen_views=1)) == stored.described(plain) | {"frozen_views": 1}
