"""The benchmarks: medians and ratios are what they say, the loop they compare with is right, every script has its result."""

import json
from pathlib import Path

import measure
import multiscale
import neighbours
import numpy as np
import pytest
import torch

from dsgc import correction

FOLDER = Path(__file__).parents[2] / "benchmarks"
RESULTS = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "measure")


def test_cases_take_turns_and_all_rounds_are_kept():
    calls = []
    seconds = measure.alternate({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=3, least=0.0)
    assert {name: len(values) for name, values in seconds.items()} == {"a": 3, "b": 3}
    assert calls[-6:] == ["b", "a", "a", "b", "b", "a"] and all(value >= 0 for values in seconds.values() for value in values)


def test_a_ratio_is_the_median_of_the_rounds_ratios():
    found = measure.compared({"slow": [4.0, 30.0, 6.0], "fast": [1.0, 10.0, 3.0]}, to="fast")
    assert found["slow"] == {"seconds": 6.0, "ratio": 3.0} and found["fast"] == {"seconds": 3.0, "ratio": 1.0}


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 2.0])
def test_the_exponent_of_a_power_law_is_its_power(power):
    sizes = [1, 2, 5, 40]
    assert measure.exponent(sizes, [3 * size**power for size in sizes]) == pytest.approx(power, abs=1e-12)


def test_peak_memory_is_what_a_call_needs_on_top(tmp_path):
    script = tmp_path / "one.py"
    script.write_text(f"import sys; sys.path.insert(0, {str(FOLDER)!r})\nimport torch, measure\n"
                      "held = torch.ones(40 * 2**18)\nmeasure.report_peak(lambda: held + 1)\n")
    assert measure.peak_memory(str(script)) == pytest.approx(40, abs=4)


def test_the_loop_over_pixels_gives_the_labels_of_the_package():
    g = torch.Generator().manual_seed(0)
    labels, noise = torch.randint(0, 4, (1, 7, 9), generator=g), torch.rand(1, 7, 9, generator=g)
    noise[0, 0, :2] = torch.tensor([0.25, 0.85])  # at a threshold
    features = torch.rand(1, 5, 7, 9, generator=g) - 0.3
    expected = correction.correct(labels, noise, features, **neighbours.THRESHOLDS)
    found = neighbours.loop(labels[0].numpy(), noise[0].double().numpy(), features[0].permute(1, 2, 0).numpy())
    noise_kept = np.isclose(noise[0].numpy(), 0.85)  # 0.85 is another number in float32
    assert ((found == expected[0].numpy()) | noise_kept).all() and (found != labels[0].numpy()).any()


def test_the_steps_that_are_compared_are_taken_and_every_part_of_ours_is_timed():
    setting = multiscale.Setting(multiscale.CONFIG.changed(encoder="vit_tiny_patch16_224", crop_size=64, batch_size=2), classes=5)
    for step in (setting.ours, setting.theirs, setting.theirs_with_sklearn):
        step()
    measured = json.loads((FOLDER / "multiscale.json").read_text())["profile"]
    assert {part["part"] for part in multiscale.profile(setting, rounds=1)} >= {part["part"] for part in measured}


@pytest.mark.parametrize("name", RESULTS)
def test_every_script_has_a_result_that_says_where_it_is_from(name):
    result = json.loads((FOLDER / f"{name}.json").read_text())
    assert {"date", "machine", "versions", "threads", "commit"} <= result["about"].keys()
    assert result.get("question") or name == "memory"
