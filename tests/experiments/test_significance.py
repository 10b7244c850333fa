"""Tests by seed against plain enumeration, Holm against the procedure in words, power against imagined experiments."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from dsgc.errors import UserError
from dsgc.experiments import significance

DIFFERENCES = st.lists(st.integers(-6, 6).map(float), min_size=2, max_size=8)


def every_sign(values):
    """The mean of such differences under each of the 2^n ways to set their signs."""
    return [np.mean([sign * value for sign, value in zip(signs, values, strict=True)])
            for signs in itertools.product((1, -1), repeat=len(values))]  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(DIFFERENCES)
def test_the_sign_flip_test_counts_the_signs_under_which_the_mean_is_as_far_from_none(values):
    means = every_sign(values)
    expected = sum(abs(mean) >= abs(np.mean(values)) - 1e-9 for mean in means) / len(means)
    assert significance.sign_flip(values) == pytest.approx(expected)
    assert significance.sign_flip([-value for value in values]) == pytest.approx(expected)


@pytest.mark.parametrize("seeds", range(1, 13))
def test_no_p_is_below_the_smallest_and_equal_signs_reach_it(seeds):
    assert significance.smallest(seeds) == pytest.approx(significance.sign_flip(np.arange(seeds) + 0.5))
    assert significance.smallest(3) == 0.25


def test_a_seed_without_one_of_the_runs_does_not_count_and_no_seed_tells_nothing():
    assert significance.sign_flip([1, math.nan, 2, 3]) == significance.sign_flip([1, 2, 3])
    assert significance.interval([1, math.nan, 2, 3, 5, 6, 7]) == significance.interval([1, 2, 3, 5, 6, 7])
    assert math.isnan(significance.sign_flip([math.nan])) and all(map(math.isnan, significance.interval([])))
    with pytest.raises(UserError, match="21 differences.*at most 20 seeds"):
        significance.sign_flip(range(21))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-5, 5).map(lambda value: round(value, 3)), min_size=6, max_size=9, unique=True), st.sampled_from([0.05, 0.2]))
def test_the_interval_holds_the_differences_that_the_test_does_not_refuse(values, level):
    low, high = significance.interval(values, level)
    values = np.array(values)
    for inside in (low + 1e-6, (low + high) / 2, high - 1e-6):
        assert not low < inside < high or significance.sign_flip(values - inside) > level
    for outside in (low - 1e-6, high + 1e-6):
        assert significance.sign_flip(values - outside) <= level


def test_the_interval_of_six_seeds_is_their_range_and_of_five_has_no_end():
    assert significance.interval([4, 1, 6, 3, 2, 5]) == (1, 6)
    assert significance.interval([4, 1, 3, 2, 5]) == (-math.inf, math.inf)


@pytest.mark.parametrize("seeds", [6, 10])
def test_the_interval_covers_the_truth_as_often_as_it_says_where_no_distribution_is_normal(seeds):
    """Two lumps far apart, as where a class is lost or not; symmetric, which the test asks."""
    rng = np.random.default_rng(seeds)
    draws = 3 + rng.choice([-10, 10], (800, seeds)) * (rng.random((800, seeds)) < 0.3) + rng.normal(0, 0.5, (800, seeds))
    ends = np.array([significance.interval(row) for row in draws])
    assert np.mean((ends[:, 0] <= 3) & (3 <= ends[:, 1])) > 0.94


def by_words(chances):
    """Holm's procedure as it is told: the smallest p has to be below the level through all, the next through one less, and so on."""
    corrected = {}
    for place in sorted(range(len(chances)), key=lambda place: chances[place]):
        tried = np.linspace(0, 1, 2001)
        refused = [level for level in tried if all(
            chances[earlier] * (len(chances) - rank) <= level + 1e-12
            for rank, earlier in enumerate([*corrected, place])
        )]  # fmt: skip
        corrected[place] = refused[0] if refused else 1.0
    return [corrected[place] for place in range(len(chances))]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 1000).map(lambda number: number / 1000), min_size=1, max_size=6))
def test_holm_refuses_in_order_as_long_as_each_p_is_small_enough(chances):
    assert significance.holm(chances) == pytest.approx(by_words(chances), abs=6e-4)


def test_holm_by_hand_and_with_a_comparison_that_was_not_made():
    assert significance.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    np.testing.assert_allclose(significance.holm([0.02, math.nan, 0.5]), [0.04, math.nan, 0.5])
    assert len(significance.holm([])) == 0


@pytest.mark.parametrize(("seeds", "family"), [(6, 1), (8, 3), (8, 6), (10, 3)])
def test_what_could_be_told_is_told_in_four_of_five_cases_by_the_test_itself(seeds, family):
    draws = np.random.default_rng(99).normal(significance.standard(seeds, family), 1, (400, seeds))
    found = np.mean([significance.sign_flip(row) <= significance.LEVEL / family for row in draws])
    assert abs(found - 0.8) < 0.06  # three standard errors of 400


def test_where_both_are_at_hand_the_power_is_close_to_that_of_the_t_test(monkeypatch):
    of_the_test = significance.standard(12)
    monkeypatch.setattr(significance, "ENUMERATED", 11)
    for kept in (significance.power, significance._effect):
        kept.cache_clear()
    of_t = significance.standard(12)
    for kept in (significance.power, significance._effect):
        kept.cache_clear()
    assert of_the_test == pytest.approx(of_t, rel=0.03) and of_the_test != of_t


def test_the_power_beyond_enumeration_is_the_t_test_s():
    draws = np.random.default_rng(3).normal(significance.standard(15), 1, (4000, 15))
    assert abs(np.mean(stats.ttest_1samp(draws, 0, axis=1).pvalue <= 0.05) - 0.8) < 0.02


def test_too_few_seeds_for_the_family_tell_no_difference_however_large():
    assert significance.detectable([1.0, 2.0, 4.0]) == math.inf and significance.power(3, 100.0) == 0
    assert significance.detectable(range(6), 1) < math.inf and significance.detectable(range(6), 2) == math.inf
    assert significance.detectable(range(8), 6) < math.inf and significance.detectable(range(8), 7) == math.inf
    assert math.isnan(significance.detectable([1.0]))
    assert significance.detectable(range(10)) == pytest.approx(significance.standard(10) * np.std(range(10), ddof=1))


def test_ten_seeds_find_the_papers_gain_where_differences_spread_by_one_point():
    """What the scale of the embedded data set is built for; with three comparisons at once they must spread less."""
    assert significance.standard(10) < 1.1 < significance.standard(10, 3) < 1.1 / 0.85


@pytest.mark.parametrize(("deviation", "family"), [(0.5, 1), (1.0, 1), (1.0, 3), (1.5, 1), (5.9, 1)])
def test_so_many_seeds_are_needed_and_one_less_is_too_few(deviation, family):
    seeds = significance.needed(deviation, -1.14, family)
    level = significance.LEVEL / family
    assert significance.power(seeds, 1.14 / deviation, level) >= 0.8 > significance.power(seeds - 1, 1.14 / deviation, level)


def test_the_rate_of_lost_classes_has_an_exact_interval():
    """The ends are where as few, or as many, cases have a probability of 2.5 %."""
    share, low, high = significance.rate(3, 20)
    assert share == 15
    assert stats.binom.sf(2, 20, low / 100) == pytest.approx(0.025) and stats.binom.cdf(3, 20, high / 100) == pytest.approx(0.025)
    assert significance.rate(0, 20)[:2] == (0, 0) and significance.rate(0, 20)[2] == pytest.approx(100 * (1 - 0.025 ** (1 / 20)))
    assert significance.rate(20, 20)[2] == 100
    with pytest.raises(ValueError, match="must not be greater"):
        significance.rate(3, 2)
