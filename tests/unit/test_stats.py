import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from pgd_jax.report import stats

T3, T2 = 3.182446, 4.302653  # tables of Student's t, 97.5 %: 3 and 2 degrees of freedom


def test_a_mean_and_its_interval_by_hand():
    # 1, 2, 3, 4: mean 2.5, s^2 = (2.25 + 0.25 + 0.25 + 2.25) / 3 = 5/3, half width t s / sqrt(4)
    found = stats.mean([1.0, 2.0, 3.0, 4.0])
    half = T3 * math.sqrt(5.0 / 3.0) / 2.0
    assert found.mean == 2.5
    np.testing.assert_allclose([found.low, found.high], [2.5 - half, 2.5 + half], rtol=1e-6)
    assert found.values == (1.0, 2.0, 3.0, 4.0)


@pytest.mark.parametrize("values", [[5.0], [1.0, 9.0]])
def test_one_or_two_seeds_get_no_interval(values):
    found = stats.mean(values)
    assert found.mean == 5.0 and not found.has_interval and found.values == tuple(values)
    assert stats.verdict(found) == "too few seeds"


def test_the_interval_holds_the_truth_as_often_as_it_says():
    # 4,000 studies of 4 seeds: the share that covers the true mean has a standard error of 0.0034 round 0.95. A
    # percentile bootstrap covers 0.79 here.
    draws = np.random.default_rng(0).normal(7.0, 3.0, (4_000, 4))
    intervals = [stats.mean(row) for row in draws]
    covered = np.mean([found.low <= 7.0 <= found.high for found in intervals])
    assert abs(covered - 0.95) < 0.012


def test_groups_of_the_same_seeds_are_compared_seed_by_seed():
    # Differences by seed: 3 - 1, 5 - 2, 4 - 3 = 2, 3, 1: mean 2, s = 1. The order of the seeds does not matter.
    found = stats.difference({0: 3.0, 1: 5.0, 2: 4.0}, {2: 3.0, 0: 1.0, 1: 2.0})
    half = T2 / math.sqrt(3.0)
    assert found.paired and found.estimate.values == (2.0, 3.0, 1.0)
    np.testing.assert_allclose([found.estimate.low, found.estimate.high], [2.0 - half, 2.0 + half], rtol=1e-6)
    assert stats.verdict(found.estimate) == "no clear difference"  # half = 2.48


def test_pairing_sees_what_varies_together():
    # Seeds differ by tens, the groups by 1.0 to 1.2 at each seed.
    a = {0: 11.0, 1: 31.1, 2: 71.2}
    b = {0: 10.0, 1: 30.0, 2: 70.0}
    assert stats.verdict(stats.difference(a, b).estimate) == "beats"
    assert stats.verdict(stats.difference(b, a).estimate) == "is worse than"
    other_seeds = {seed + 10: value for seed, value in b.items()}
    unpaired = stats.difference(a, other_seeds)
    assert not unpaired.paired and stats.verdict(unpaired.estimate) == "no clear difference"


def test_groups_of_other_seeds_are_compared_by_welch():
    a, b = {0: 1.0, 1: 2.0, 2: 3.0}, {0: 2.0, 1: 4.0, 2: 6.0, 3: 8.0}
    found = stats.difference(a, b)
    welch = scipy_stats.ttest_ind(list(a.values()), list(b.values()), equal_var=False).confidence_interval()
    assert not found.paired and found.estimate.mean == -3.0
    np.testing.assert_allclose([found.estimate.low, found.estimate.high], [welch.low, welch.high], rtol=1e-9)
    assert not stats.difference(a, {7: 1.0, 8: 2.0}).estimate.has_interval


def test_a_ratio_is_a_geometric_mean():
    # Ratios 2, 1/2 and 1 cancel; their logarithms have s = ln 2.
    found = stats.ratio([4.0, 1.0, 3.0], [2.0, 2.0, 3.0])
    half = T2 * math.log(2.0) / math.sqrt(3.0)
    np.testing.assert_allclose(found[:3], [1.0, math.exp(-half), math.exp(half)], rtol=1e-6)
    np.testing.assert_allclose(found.values, [2.0, 0.5, 1.0])


def test_json_has_no_nan():
    data = stats.as_json({"found": stats.mean([1.0]), 3: np.array([1.0, np.nan], np.float32), "n": np.int32(2)})
    assert data == {"found": {"mean": 1.0, "low": None, "high": None, "values": [1.0]}, "3": [1.0, None], "n": 2}
