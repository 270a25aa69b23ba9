"""Unifloral's bandit: a method's score against the number of online evaluations allowed."""

import numpy as np
import pytest

from pgd_jax.core.errors import UserError
from pgd_jax.report import bandit

# Three policies whose episodes are all alike, so that one pull of each tells all.
CERTAIN = [[10.0] * 4, [20.0] * 4, [60.0] * 4]


def test_one_pull_alone_chooses_at_random():
    found = bandit.tuning_curve(CERTAIN, num_trials=4_000)
    # (10 + 20 + 60) / 3 = 30; the standard deviation of one is 21.6, of the mean of 4,000 0.34.
    assert found.pulls[0] == 1 and abs(found.mean[0] - 30.0) < 1.4
    # Two arms of three without replacement, the better one: (20 + 60 + 60) / 3 = 46.7; then the best.
    assert abs(found.mean[1] - 140.0 / 3.0) < 1.4
    np.testing.assert_allclose([found.mean[2:], found.low[2:], found.high[2:]], 60.0)


def test_it_ends_at_one_clearly_best_arm():
    rng = np.random.default_rng(1)
    pool = rng.normal([[0.0], [2.0], [4.0], [30.0]], 5.0, (4, 50))
    found = bandit.tuning_curve(pool, num_trials=200)
    assert found.mean[-1] == pytest.approx(pool[3].mean()) and found.mean[0] < 15.0
    assert (np.diff(found.mean) > -2.0).all() and len(found.mean) == 200


def test_bad_episodes_do_not_make_it_choose_what_it_never_tried():
    # All scores are negative: with a mean of 0 for arms that were not pulled the first choice would never be the pulled
    # one. The first arm pulled of two is the choice after pull 1: the mean -20; after pull 2 the better.
    found = bandit.tuning_curve([[-10.0, -10.0], [-30.0, -30.0]], num_trials=4_000)
    assert abs(found.mean[0] + 20.0) < 0.7 and found.mean[1] == -10.0


def test_the_bonus_explores():
    # A gives 10, B gives 0 or 30: mean 15. Whoever only exploits stays with A in the half of trials where B's first
    # episode was 0, and so gets 12.5 at most (standard error 0.11).
    pool = [[10.0, 10.0], [0.0, 30.0]]
    greedy = bandit.tuning_curve(pool, alpha=0.0, num_trials=500)
    exploring = bandit.tuning_curve(pool, alpha=400.0, num_trials=500)
    assert greedy.mean[-1] < 12.9 and exploring.mean[-1] > 14.0


def test_a_trial_has_so_many_arms_of_the_pool():
    pool = np.arange(20.0)[:, None] * np.ones((1, 3))
    found = bandit.tuning_curve(pool, num_arms=2, num_trials=4_000, num_pulls=4)
    # The larger of two of 0 .. 19 without replacement: (2 * 21) / 3 - 1 = 13; of all 20 it would be 19.
    assert found.mean[-1] == pytest.approx(13.0, abs=0.35) and (found.num_arms, found.num_policies) == (2, 20)
    assert found.low[-1] < found.mean[-1] < found.high[-1]
    assert bandit.tuning_curve(CERTAIN, num_arms=8, num_trials=2, num_pulls=1).num_arms == 3


def test_the_interval_shrinks_with_the_number_of_trials():
    pool = np.random.default_rng(0).normal(50.0, 20.0, (10, 30))
    few, many = (bandit.tuning_curve(pool, num_trials=n, num_pulls=3) for n in (100, 1_600))
    np.testing.assert_allclose((few.high - few.low) / (many.high - many.low), 4.0, rtol=0.3)
    again = bandit.tuning_curve(pool, num_trials=100, num_pulls=3)
    np.testing.assert_array_equal(again.mean, few.mean)
    assert bandit.tuning_curve(pool, num_trials=100, num_pulls=3, seed=1).mean[0] != few.mean[0]


@pytest.mark.parametrize(
    "scores, wanted",
    [
        ([[1.0, 2.0], [3.0]], "equally many"),
        ([1.0, 2.0], "matrix"),
        (np.zeros((0, 3)), "matrix"),
        ([[1.0], [np.nan]], "policy 1"),
    ],
)
def test_what_is_no_pool_is_refused(scores, wanted):
    with pytest.raises(UserError, match=wanted):
        bandit.tuning_curve(scores)
    with pytest.raises(UserError, match="at least one"):
        bandit.tuning_curve(CERTAIN, num_pulls=0)
