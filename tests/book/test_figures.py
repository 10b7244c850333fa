"""Figures show the numbers they are given: dots, intervals, curves, pictures; files are the same every time."""

import re

import matplotlib
import numpy as np
import pandas as pd
import pytest
import torch
from steps import TAGS

matplotlib.use("agg")

from dsgc.data.palette import voc_palette  # noqa: E402
from dsgc.experiments import significance  # noqa: E402
from dsgc.scoring import diagnosis  # noqa: E402
from dsgc.scoring.evaluate import views  # noqa: E402
from dsgc.teaching import figures, panels  # noqa: E402
from dsgc.training.loop import train  # noqa: E402

VALUES = pd.DataFrame.from_dict({"base": [50.0, 60.0], "better": [55.0, 64.0], "worse": [48.0, 59.0]}, orient="index")


def dots(axis, marker):
    return [line for line in axis.lines if line.get_marker() == marker]


def test_gains_are_differences_to_the_reference_under_the_same_seed():
    axis = figures.gains(VALUES, "base", {"base": 68.0, "better": 70.0}).axes[0]
    assert [sorted(line.get_xdata()) for line in dots(axis, "o")] == [[4, 5], [-2, -1]]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["better", "worse"]
    (diamond,) = dots(axis, "D")  # the paper says nothing about the other row
    assert (diamond.get_xdata()[0], diamond.get_ydata()[0]) == (2, 0)


def test_gains_have_an_interval_from_six_seeds_on():
    values = pd.concat([VALUES.add([0, seed, seed / 2], axis=0) for seed in range(3)], axis=1, ignore_index=True)  # (3 rows, 6 seeds)
    axis = figures.gains(values, "base").axes[0]
    spans = [line.get_xdata() for line in axis.lines if line.get_linewidth() == 6]
    np.testing.assert_allclose(spans, [significance.interval(values.loc[row] - values.loc["base"]) for row in ("better", "worse")])


def test_gains_of_few_seeds_have_no_interval():
    axis = figures.gains(VALUES, "base").axes[0]
    assert [line for line in axis.lines if line.get_linewidth() == 6] == [] and len(dots(axis, "o")) == 2


def test_detectors_draw_reliability_and_precision_over_recall():
    rng = np.random.default_rng(0)
    counts = {name: {seed: rng.integers(50, 100, (diagnosis.BINS, 2)) for seed in (0, 4)} for name in ("one", "two")}
    left, right = figures.detectors(counts).axes
    for seed in (0, 4):
        (line,) = [line for line in left.lines if line.get_gid() == f"two, {seed}"]
        np.testing.assert_allclose(line.get_ydata(), diagnosis.reliability(counts["two"][seed])[0])
        (curve,) = [line for line in right.lines if line.get_gid() == f"two, {seed}"]
        precision, recall = diagnosis.precision_recall(counts["two"][seed])
        np.testing.assert_allclose(curve.get_xydata(), np.stack([recall, precision], 1))
    assert [text.get_text() for text in left.figure.legends[0].texts] == ["seed 0", "seed 4", "one", "two"]


def test_an_image_grid_has_a_row_for_each_title_and_colours_labels_as_voc_does():
    labels = np.array([[0, 1], [2, 255]])
    rows = {"image": [np.zeros((2, 2, 3), np.uint8)] * 2, "cam": [np.full((2, 2), 51, np.uint8)] * 2, "mask": [labels] * 2}
    figure = panels.image_grid(rows, {"image": "image", "cam": "map", "mask": "labels"}, ["cat", "dog"])
    drawn = [axis for axis in figure.axes if axis.images]
    assert [axis.get_ylabel() for axis in drawn][::2] == ["image", "cam", "mask"] and len(drawn) == 6
    np.testing.assert_allclose(drawn[2].images[0].get_array(), 0.2)
    np.testing.assert_array_equal(drawn[4].images[0].get_array(), voc_palette()[labels])
    assert [text.get_text() for text in figure.legends[0].texts] == ["background", "cat", "dog", "ignored (255)"]


def test_a_figure_is_saved_as_svg_and_png_the_same_every_time(tmp_path):
    for folder in ("a", "b"):
        figure = figures.gains(VALUES, "base")
        assert figures.save(figure, tmp_path / folder, "gains") is figure
    assert (tmp_path / "a/gains.svg").read_bytes() == (tmp_path / "b/gains.svg").read_bytes()
    assert (tmp_path / "a/gains.png").read_bytes() == (tmp_path / "b/gains.png").read_bytes()
    assert not re.search(r"<dc:date>", (tmp_path / "a/gains.svg").read_text())
    assert (tmp_path / "a/gains.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


@pytest.mark.parametrize(
    ("method", "titles"),
    [
        ("dsgc", ["CAM", "uncertain region", "noise probability", "pseudo label", "corrected", "prediction"]),
        ("base", ["CAM", "pseudo label", "prediction"]),
        ("masks", ["prediction"]),
    ],
)
def test_a_grid_of_views_has_a_column_for_whatever_the_method_draws(pair, images, fixed, method, titles):
    config, classes = fixed(method), tuple("abcdef")
    view = views(pair[0].eval(), images, TAGS, config)
    pixels = (images.permute(0, 2, 3, 1) * 255).byte().numpy()
    masks = torch.arange(3)[:, None, None].expand(3, 32, 32).numpy()
    figure = panels.view_grid(pixels, masks, view, classes)
    grid = [axis for axis in figure.axes if axis.images and axis.get_label() != "<colorbar>"]
    columns = ["image", *titles, "truth"]
    assert len(grid) == 3 * len(columns) and [axis.get_title() for axis in grid[: len(columns)]] == columns
    for number, name in enumerate(view.drawn, start=1):
        shown = grid[number].images[-1].get_array()
        drawn = view.drawn[name][0].numpy()
        np.testing.assert_allclose(shown, drawn if view.drawn[name].is_floating_point() else voc_palette()[drawn])
    np.testing.assert_array_equal(grid[len(columns) - 1].images[0].get_array(), voc_palette()[masks[0]])


@pytest.mark.parametrize(
    ("method", "networks", "scored"),
    [
        (
            "dsgc",
            ["teacher", "student"],
            ["segmentation head", "CAM", "pseudo label, initial", "pseudo label", "its strict score", "labelled"],
        ),
        ("base", ["network"], ["segmentation head", "CAM", "pseudo label", "its strict score", "labelled"]),
        ("masks", ["network"], ["segmentation head"]),
    ],
)
def test_figures_of_a_run_are_of_what_its_method_has(tiny, tmp_path, method, networks, scored):
    run = train(tiny(method, out=str(tmp_path / "run"), eval_every=2, pictures=0))
    table = figures.score_table({"mine": run})
    assert list(table.index) == [("mine", name) for name in networks]
    assert [name for name in table if table[name].notna().all()] == scored
    assert [name for name in table if table[name].notna().any()] == scored
    losses, scores = figures.read_log(run)
    assert set(scores.network) == set(networks) and set(scores.step) == {2, 4}
    assert figures.reported(run) == networks[0]
    panels = figures.losses_by_stage(run, 2).axes
    assert [axis.get_title() for axis in panels] == [label for name, label in figures.LOSSES.items() if name in set(losses.loss)]
    curves = [line for line in figures.learning_curve(run, 2).axes[0].lines if len(line.get_xdata())]
    assert [line.get_label() for line in curves] == [label for label in figures.SCORES.values() if label in scored]
    assert [axis.get_title() for axis in figures.per_class({"mine": run}).axes][0] == "segmentation head"
