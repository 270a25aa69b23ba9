"""Statistics over tasks: interquartile mean, probability of improvement, profiles, and their stratified bootstrap."""

import functools
import math

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies
from scipy import stats as scipy_stats

from pgd_jax.core.errors import UserError
from pgd_jax.report import stats

NORMAL = np.random.default_rng(3).normal(50.0, 20.0, (3, 8))
scores = strategies.lists(strategies.floats(-1e3, 1e3, width=32), min_size=1, max_size=9)


def test_the_interquartile_mean_by_hand():
    # Eight values: two are cut at each end, (3 + 4 + 5 + 6) / 4 = 4.5; the outlier does not matter.
    assert stats.interquartile_mean([[1, 2, 3, 4, 5, 6, 7, 1e6]]) == 4.5
    # Of two tasks with 3 and 2 seeds five values are pooled, floor(5 / 4) = 1 is cut: (2 + 3 + 10) / 3 = 5.
    assert stats.interquartile_mean([[3.0, 1.0, 2.0], [10.0, 90.0]]) == 5.0
    assert stats.interquartile_mean([[1.0, 2.0, 6.0]]) == 3.0  # of three nothing is cut
    np.testing.assert_allclose(
        stats.interquartile_mean(NORMAL), scipy_stats.trim_mean(NORMAL, 0.25, axis=None), rtol=1e-12
    )


@hypothesis.given(scores)
def test_the_interquartile_mean_lies_between_the_quartiles(values):
    found = stats.interquartile_mean([values])
    low, high = np.quantile(values, [0.25, 0.75])
    assert low - 1e-6 <= found <= high + 1e-6
    shifted = stats.interquartile_mean([2.0 * np.array(values) + 7.0])
    np.testing.assert_allclose(shifted, 2.0 * found + 7.0, atol=1e-6)


def test_the_probability_of_improvement_by_hand():
    # Task 1: of the pairs 1>0, 1<2, 3>0, 3>2 three are won: 3/4. Task 2: 5 against 5 and 4: a tie and a win, 3/4.
    assert stats.probability_of_improvement([[1, 3]], [[0, 2]]) == 0.75
    assert stats.probability_of_improvement([[5]], [[5, 4]]) == 0.75
    # Over tasks the mean, whatever the number of seeds: (3/4 + 0) / 2.
    assert stats.probability_of_improvement([[1, 3], [0]], [[0, 2], [9, 9, 9]]) == 0.375
    u = scipy_stats.mannwhitneyu(NORMAL[0], NORMAL[1]).statistic
    np.testing.assert_allclose(stats.probability_of_improvement(NORMAL[:1], NORMAL[1:2]), u / 64, rtol=1e-12)


@hypothesis.given(scores, scores)
def test_what_one_does_not_win_the_other_does(x, y):
    found = stats.probability_of_improvement([x], [y])
    assert found + stats.probability_of_improvement([y], [x]) == pytest.approx(1.0)
    grown = [np.arctan(np.array(values, np.float64) / 1e3) for values in (x, y)]  # keeps the order alone
    assert stats.probability_of_improvement(grown[:1], grown[1:]) == pytest.approx(found)


def test_a_profile_by_hand():
    # Above 10: of 5, 10, 15, 20 two of four (10 is not more than 10), of 30, 40 both: (1/2 + 1) / 2.
    found = stats.performance_profile([[5, 10, 15, 20], [30, 40]], [0, 10, 35, 40])
    np.testing.assert_allclose(found, [1.0, 0.75, 0.25, 0.0])


def test_a_lost_seed_is_not_cut_off():
    lost = [[1.0, 2.0, 3.0, math.nan]]
    assert math.isnan(stats.interquartile_mean(lost))  # a trimmed mean would give 2.5
    assert math.isnan(stats.probability_of_improvement(lost, [[0.0]]))
    assert np.isnan(stats.performance_profile(lost, [0.0])).all()


def test_the_bootstrap_resamples_seeds_within_their_task():
    # Two tasks whose seeds are all equal: no resample differs, where mixing tasks would give 0 to 100.
    found = stats.stratified_bootstrap(stats.interquartile_mean, [[0.0] * 4, [100.0] * 4])
    assert (found.value, found.low, found.high) == (50.0, 50.0, 50.0) and found.has_interval
    again = [stats.stratified_bootstrap(stats.interquartile_mean, NORMAL, seed=seed) for seed in (0, 0, 1)]
    assert again[0] == again[1] != again[2]


@pytest.mark.parametrize(
    "statistic, num_methods", [(stats.interquartile_mean, 1), (stats.probability_of_improvement, 2)]
)
def test_the_bootstrap_is_scipy_s(statistic, num_methods):
    methods = [NORMAL, NORMAL[::-1] + 5.0][:num_methods]
    found = stats.stratified_bootstrap(statistic, *methods, num_resamples=20_000)

    def of_strata(*strata, axis):
        return statistic(*(strata[3 * i : 3 * i + 3] for i in range(num_methods)))

    data = [scores for method in methods for scores in method]
    wanted = scipy_stats.bootstrap(data, of_strata, n_resamples=20_000, method="percentile", rng=1).confidence_interval
    # Quantiles of 20,000 draws are off by 1 % of the width or so.
    np.testing.assert_allclose(found[1:], wanted, atol=0.03 * (wanted.high - wanted.low))


def test_the_interval_holds_the_truth():
    # 300 studies of 5 tasks with 8 seeds. By symmetry the true value is 7. Of 1,000 studies 92 % hold it, +- 1.6 here.
    draws = np.random.default_rng(0).normal(7.0, 3.0, (300, 5, 8))
    found = [stats.stratified_bootstrap(stats.interquartile_mean, study, num_resamples=500) for study in draws]
    assert 0.88 < np.mean([each.low <= 7.0 <= each.high for each in found]) < 0.97


def test_a_profile_has_an_interval_at_each_threshold():
    levels = [-1e9, 50.0, 1e9]
    found = stats.stratified_bootstrap(functools.partial(stats.performance_profile, thresholds=levels), NORMAL)
    assert (found.value[0], found.low[0], found.value[2], found.high[2]) == (1.0, 1.0, 0.0, 0.0)
    assert found.low.shape == (3,) and found.low[1] < found.value[1] < found.high[1]


def test_too_few_seeds_of_any_task_give_no_interval():
    found = stats.stratified_bootstrap(stats.interquartile_mean, [[1.0, 2.0, 3.0], [4.0, 5.0]])
    assert found.value == 3.0 and not found.has_interval and math.isnan(found.low)


@pytest.mark.parametrize("tasks", [[], [1.0, 2.0], [[1.0], []]])
def test_scores_that_are_not_by_task_are_refused(tasks):
    with pytest.raises(UserError, match="one array of seeds' scores for each task"):
        stats.interquartile_mean(tasks)


def test_other_tasks_are_not_compared():
    with pytest.raises(UserError, match="x has 1 and y 2"):
        stats.probability_of_improvement([[1.0]], [[1.0], [2.0]])
