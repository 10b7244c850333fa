"""The grids of runs: their rows are the paper's or one change each, a run that two share is one, and the command makes them."""

import re
from functools import cache

import pytest
from refusal import tree

from dsgc.__main__ import main
from dsgc.config import PRESETS
from dsgc.errors import UserError
from dsgc.experiments import costs, grids, paper, runner, significance, stored
from dsgc.experiments.plan import plan
from dsgc.experiments.schedule import Schedule
from dsgc.methods import PEERS, preset

ALL = tuple(grids.of("shapes"))
SCALES = [scale for scale in PRESETS if grids.of(scale) == list(ALL)]
ROWS = [(scale, name, row) for scale in PRESETS for name in grids.of(scale) for row in grids.GRIDS[name]]
METHODS_ROW = {"modules": grids.METHOD, "thresholds": "0.85, 0.25", "weights": "0.2, 0.5, 0.1", "choices": "preset", "readings": "preset",
               "reach": "preset", "precision": "float32", "peers": grids.METHOD}  # fmt: skip
MODULES = {  # (method, distillation, correction); the baseline has neither and knows of neither
    "baseline": ("base", None, None),
    "+ DSKD": ("dsgc", True, False),
    "+ DSKD + GC": ("dsgc", True, True),
    "+ GC": ("dsgc", False, True),
}


@cache  # to check a configuration takes its time, and there are hundreds
def all_runs(*seeds, scale="shapes"):
    return grids.runs(ALL, scale, seeds)


@cache
def all_rows(*seeds, scale="shapes"):
    """By grid, row and seed."""
    return {(name, *key): config for name in ALL for key, config in grids.rows(name, scale, seeds).items()}


# rows


@pytest.mark.parametrize(
    ("name", "table", "fields"),
    [
        ("thresholds", paper.THRESHOLDS, ("theta_high", "theta_low")),
        ("weights", paper.WEIGHTS, ("lambda1", "lambda2", "lambda3")),
    ],
)
def test_a_grid_of_numbers_has_the_papers_rows_with_the_numbers_that_their_names_state(name, table, fields):
    assert tuple(grids.GRIDS[name]) == tuple(table.rows)
    for row, changes in grids.GRIDS[name].items():
        assert changes == dict(zip(fields, [float(number) for number in row.split(", ")], strict=True))


def test_the_grid_of_modules_is_table_1_and_the_combination_that_it_leaves_out():
    assert set(paper.ABLATION.rows) == set(grids.GRIDS["modules"]) - {"+ GC"}
    configs = {row: all_rows(0)["modules", row, 0] for row in grids.GRIDS["modules"]}
    methods = {row: config.method for row, config in configs.items()}
    switches = {row: [getattr(method, name, None) for name in ("distillation", "correction")] for row, method in methods.items()}
    assert {row: (methods[row].name, *switches[row]) for row in methods} == MODULES


@pytest.mark.parametrize(("scale", "name", "row"), ROWS)
def test_every_row_is_a_valid_run_that_keeps_all_else_of_the_preset(scale, name, row):
    changes = grids.GRIDS[name][row]
    config = grids.config_of(scale, changes, 7)
    wanted = {"method": "dsgc"} | changes
    base = preset(scale, wanted.pop("method"))
    assert config == base.changed(seed=7, eval_every=0, pictures=0, **wanted)
    assert config.flat() == base.flat() | {"seed": 7, "eval_every": 0, "pictures": 0} | wanted


@pytest.mark.parametrize("scale", SCALES)
def test_each_choice_changes_every_field_that_it_names_and_no_two_are_the_same(scale):
    for row, changes in grids.CHANGES["choices"].items():
        assert bool(changes) == (row != "preset")
        same = [field for field, value in changes.items() if preset(scale).flat()[field] == value]
        assert not same or (scale != "shapes" and same == ["tag_pool_of"]), f"{row}: {same} as in the preset"  # there it is the default
    configs = [grids.config_of(scale, changes, 7) for changes in grids.CHANGES["choices"].values()]
    assert len(set(configs)) == len(configs) - (scale != "shapes")


def test_two_choices_at_once_have_each_of_them_alone_beside_them():
    """Else nobody could tell which of the two made the difference; pairs of one kind go together."""
    together = [{"student_temperature", "teacher_temperature"}, {"lr", "student_lr"}]
    rows = [set(changes.items()) for changes in grids.CHANGES["choices"].values()]
    for items in rows:
        if len(items) > 1 and {field for field, _ in items} not in together:
            parts = [other for other in rows if other < items]
            assert set().union(*parts) == items


def test_a_grid_of_one_scale_is_made_there_alone_and_no_other_with_it():
    assert {*grids.OF_SCALE} <= {*grids.GRIDS} and {*grids.OF_SCALE.values()} <= {*PRESETS} - {*SCALES}
    assert grids.of("voc6") == ["real", "real, peers", "real, all blocks"] and {*ALL} == {*grids.GRIDS} - {*grids.OF_SCALE}


def test_the_photographs_rows_are_controls_bounds_and_the_parts_of_the_method():
    """Each with the weights that have seen saliency masks; a file of weights counts by its name, wherever it lies."""
    rows = {row: config for (row, _), config in grids.rows("real", "voc6", (0,)).items()}
    assert len(set(rows.values())) == len(rows)
    assert rows["true masks"].method.from_masks and rows["linear probe"].frozen_blocks == 12
    assert {config.frozen_blocks for row, config in rows.items() if row != "linear probe"} == {9}
    for config in rows.values():
        elsewhere = config.changed(weights=f"elsewhere/{config.weights}")
        assert config.weights == grids.SALIENCY["weights"] and stored.described(elsewhere) == stored.described(config)


# runs


def test_a_run_that_grids_share_is_made_once():
    """The method stands in eight grids, the baseline in three, the method without correction in three, and pooled tokens in two."""
    found, of = all_runs(0), all_rows(0)
    assert len(set(found.values())) == len(found) == sum(len(grids.GRIDS[name]) for name in ALL) - 7 - 2 - 2 - 1
    (method,) = {of[name, row, 0] for name, row in METHODS_ROW.items()}
    assert [label for label, config in found.items() if config == method] == [f"modules: {grids.METHOD}, seed 0"]
    assert of["readings", "no correction", 0] == of["reach", "no correction", 0] == of["modules", "+ DSKD", 0]
    assert of["stability", "baseline", 0] == of["modules", "baseline", 0]
    assert of["reach", grids.POOLED[0], 0] == of["choices", "Eq. 8 on pooled tokens (ToCo)", 0]


@pytest.mark.parametrize(
    ("name", "family"),
    [("modules", 3), ("peers", 17), ("thresholds", 3), ("weights", 6), ("choices", 6), ("readings", 5), ("reach", 9), ("precision", 1)],
)
def test_a_grid_has_the_seeds_that_a_verdict_on_its_family_needs(name, family):
    """With fewer no difference could be told after Holm's correction, however large; the baseline alone is compared with nothing."""
    compared = len(grids.GRIDS[name]) - 1
    assert family == {"modules": 3, "thresholds": 3, "reach": 9}.get(name, compared)  # pairs of rows, else each with one row
    assert significance.smallest(len(grids.SEEDS[name])) * family <= significance.LEVEL
    assert set(grids.SEEDS) == set(grids.GRIDS) and all(seeds == tuple(range(len(seeds))) for seeds in grids.SEEDS.values())


def test_all_runs_together_fit_into_three_hours_of_two_cores():
    """At the 100 seconds that a run is given, the baseline's by what its step costs, warm-ups shared; the peers into three more."""
    runs = grids.runs(ALL, "shapes")
    peers = sum(label.startswith("peers") for label in runs)
    others = {label: config for label, config in runs.items() if not label.startswith("peers")}
    time = costs.read()[0]["time of a step"]
    saved = 1 - time["baseline"] / time[grids.METHOD]
    steps = Schedule(others).steps(()) - saved * sum(config.steps for config in others.values() if config.method.name == "base")
    assert sum(label.startswith("modules") for label in runs) == 40 and steps / preset("shapes").steps * 100 <= 2 * 3 * 3600
    assert peers == 10 * len(grids.PEERS | grids.OWN_THRESHOLDS) and peers * 135 <= 2 * 3 * 3600


def test_runs_come_grid_by_grid_and_seed_by_seed():
    found = grids.runs(["thresholds", "modules"], "shapes", (2, 0))
    thresholds = [f"thresholds: {row}, seed {seed}" for seed in (2, 0) for row in grids.GRIDS["thresholds"]]
    modules = [f"modules: {row}, seed {seed}" for seed in (2, 0) for row in grids.GRIDS["modules"] if row != grids.METHOD]
    assert list(found) == thresholds + modules
    for label, config in found.items():
        assert label.endswith(f", seed {config.seed}")


def test_rows_of_a_grid_are_all_there_though_other_grids_have_them_too():
    found = all_rows()
    assert list(found) == [(name, row, seed) for name in ALL for seed in grids.SEEDS[name] for row in grids.GRIDS[name]]
    assert set(found.values()) == set(all_runs().values())


def test_only_the_first_seeds_runs_of_the_modules_and_of_some_peers_keep_pictures():
    found = all_runs(0, 1)
    kept = {label for label, config in found.items() if config.pictures}
    peers = {f"peers: {row}, seed {grids.FIRST}" for row in grids.PICTURED}
    assert kept == peers | {f"modules: {row}, seed {grids.FIRST}" for row in grids.GRIDS["modules"]}
    assert {found[label].pictures for label in kept} == {grids.PICTURES}


def test_the_data_is_the_presets_unless_another_is_named():
    for name, data in (("", preset("voc").data), ("elsewhere", "elsewhere")):
        assert {config.data for config in grids.runs(["modules"], "voc", (0, 1), name).values()} == {data}


def test_an_unknown_scale_is_refused():
    with pytest.raises(UserError, match="'mars': unknown; there are voc, coco, voc6, shapes"):
        grids.runs(["modules"], "mars")


def test_the_scales_of_a_folder_are_those_that_it_has_results_of(tmp_path):
    assert grids.scales(tmp_path / "nowhere") == []
    for name in ("shapes/a.json", "mars/a.json", "voc/a.json.partial"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("{}")
    assert grids.scales(tmp_path) == ["shapes"]


# the command


def test_a_dry_run_says_line_by_line_what_would_be_made_and_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["grid", "thresholds", "modules", "--seeds", "4", "5", "--jobs", "3", "--dry-run"]) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    found = grids.runs(["thresholds", "modules"], "shapes", (4, 5))
    assert [line.split(maxsplit=2) for line in lines] == [
        ["missing", stored.path_of(config, tmp_path).name, label] for label, config in found.items()
    ]
    assert last == plan(found, tmp_path, 3)[-1] and last.startswith(f"0 of {len(found)} results are there, {len(found)} to make (")
    assert tree(tmp_path) == {}


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """What the command asks `make_all` for, which makes nothing here, of any data; the last entry says how many runs fail."""
    calls, failing = [], [0]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("dsgc.__main__.open_split", lambda root, split: None)
    monkeypatch.setattr(runner, "make_all", lambda runs, folder, *, jobs: calls.append((runs, folder, jobs)) or failing[0])
    return calls, failing


def test_without_a_name_all_grids_are_made_as_many_runs_at_a_time_as_there_is_room_for(asked, tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "jobs_here", lambda: 5)
    assert main(["grid", "--scale", "voc", "--out", str(tmp_path)]) == 0
    assert asked[0] == [(all_runs(scale="voc"), tmp_path / "voc", 5)]


def test_the_command_s_help_names_the_grids_and_their_seeds(capsys):
    with pytest.raises(SystemExit):
        main(["grid", "--help"])
    said = " ".join(re.sub("[^ -~]", " ", capsys.readouterr().out).split())
    own = "real, 'real, peers' and 'real, all blocks'"
    assert own.replace("'", "").replace(" and ", ", ") == ", ".join(grids.OF_SCALE)
    assert f"{', '.join(ALL)}, and for voc6 {own}; all of the scale's if none is named" in said
    named = {name: int(count) for count, name in re.findall(r"(\d+) for (\w+)", said)}
    few, one = len(grids.SEEDS["real"]), len(grids.SEEDS["real, all blocks"])
    assert f"{few} for precision, real and 'real, peers', {one} for 'real, all blocks'" in said
    assert "10 for modules, peers and reach" in said
    for one, other in (("modules", "peers"), ("modules", "reach"), ("real", "precision"), ("real", "real, peers")):  # named together
        assert grids.SEEDS[one] == grids.SEEDS[other]
        named |= {other: named[one]} if one == "modules" else {}
    others = {len(grids.SEEDS[name]) for name in ALL if name not in named}
    assert {name: len(grids.SEEDS[name]) for name in named if name != "the"} | {"the": others.pop()} == named and not others


def test_the_embedded_data_is_written_where_it_is_not_and_no_other(asked, tmp_path, monkeypatch):
    written = []
    monkeypatch.setattr("dsgc.data.shapes.write", lambda out: written.append(str(out)))
    assert main(["grid", "modules", "--data", "elsewhere", "--jobs", "1"]) == 0 and written == []
    assert main(["grid", "modules", "--jobs", "1"]) == 0 and written == [PRESETS["shapes"]["data"]]


def test_failed_runs_are_counted_in_one_line(asked, capsys):
    asked[1][0] = 2
    assert main(["grid", "modules", "--seeds", "0", "--data", "elsewhere"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("dsgc: results/shapes: 2 of 4 runs failed; ") and "the same command makes the rest" in line


# peers


def test_each_peer_has_a_row_under_the_papers_name_and_each_row_is_a_peer():
    assert {changes["method"] for changes in grids.PEERS.values()} == set(PEERS)
    assert {*grids.PEERS} <= {*paper.VOC.rows, *paper.COCO.rows} and {*grids.PICTURED} <= {*grids.PEERS}
    assert all(changes.keys() == {"method"} for changes in grids.PEERS.values())


def test_own_thresholds_are_those_that_a_peer_publishes_for_voc():
    for row, changes in grids.OWN_THRESHOLDS.items():
        method = preset("voc", changes["method"]).method
        assert grids.PEERS[row.removesuffix(", own thresholds")]["method"] == changes["method"]
        for field, value in changes.items():
            if field != "method":
                assert getattr(method, field) == value and method.source_of(field) == "published", (row, field)


def test_runs_that_the_figures_show_keep_pictures():
    kept = {row for (row, seed), config in grids.rows("peers", "shapes", (grids.FIRST,)).items() if config.pictures}
    assert kept == {"baseline", grids.METHOD, *grids.PICTURED}
    assert not [row for (row, _), config in grids.rows("peers", "shapes", (1,)).items() if config.pictures]
