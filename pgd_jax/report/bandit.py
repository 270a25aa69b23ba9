"""The score of a method if some of its policies can be tried online: Unifloral's bandit (arXiv 2504.11453, section 4).

An offline method is run with several settings and seeds. Only online evaluation shows which policy is best. A trial:

    arms = K policies of the pool, without replacement
    each of the first K pulls evaluates one of them, in random order, for one episode
    pull n + 1 evaluates the arm with the largest  mean + sqrt(alpha log(n + 1) / pulls of the arm)     (UCB)
    after pull n the arm with the best mean so far is chosen, and its true score is the curve's value at n

An episode is drawn from the stored episodes of the policy; their mean is its true score. The curve is the mean over
trials. In Unifloral's code an arm without a pull has the mean 0, which beats a bad first episode. Here such an arm is
never chosen.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from pgd_jax.core.errors import UserError
from pgd_jax.report import stats
from pgd_jax.report.exchange import Policy

NUM_ARMS = 8  # this and the next three are those of Unifloral's README
NUM_PULLS = 200
ALPHA = 2.0
NUM_TRIALS = 1_000


class TuningCurve(NamedTuple):
    """Score of the chosen policy for each number of online evaluations."""

    pulls: np.ndarray  # i[n] 1, 2, ...
    mean: np.ndarray  # f64[n] over trials
    low: np.ndarray  # f64[n] 95 % bootstrap over trials
    high: np.ndarray  # f64[n]
    num_arms: int  # of a trial
    num_policies: int  # of the pool


def tuning_curve(
    scores: ArrayLike,
    num_arms: int = NUM_ARMS,
    num_pulls: int = NUM_PULLS,
    alpha: float = ALPHA,
    num_trials: int = NUM_TRIALS,
    num_resamples: int = stats.NUM_RESAMPLES,
    seed: int = 0,
) -> TuningCurve:
    """The curve of a pool `scores` [P, E]: P policies, E episodes of each.

    Draws start from `seed`. As in Unifloral, the interval is that of the mean over trials (arms, episodes and ties are
    redrawn). It holds for this pool, not for another pool of the same method. If the pool has fewer than `num_arms`
    policies, all of them are arms. Raises UserError for scores that are not such a matrix, or not finite.
    """
    pool = _checked(scores)
    if min(num_arms, num_pulls, num_trials, num_resamples) < 1:
        raise UserError("a bandit needs at least one arm, pull, trial and resample")
    rng = np.random.default_rng(seed)
    num_arms = min(num_arms, len(pool))
    arms = np.argsort(rng.random((num_trials, len(pool))), axis=1)[:, :num_arms]
    chosen = _trials(rng, pool, arms, num_pulls, alpha)
    # A resample of trials is stored as the number of times that each trial occurs.
    weights = rng.multinomial(num_trials, np.full(num_trials, 1.0 / num_trials), size=num_resamples) / num_trials
    tail = 0.5 - stats.CONFIDENCE / 2
    low, high = np.quantile(weights @ chosen, [tail, 1.0 - tail], axis=0)
    return TuningCurve(np.arange(1, num_pulls + 1), chosen.mean(axis=0), low, high, num_arms, len(pool))


def of_pool(policies: Iterable[Policy]) -> dict[str, TuningCurve]:
    """The curve of each algorithm in a pool of one dataset. It is of scores, or of returns if any policy has no score.

    Raises UserError for policies of several datasets, and if policies of an algorithm differ in number of episodes.
    """
    policies = list(policies)
    if len(datasets := {policy.dataset for policy in policies}) > 1:
        raise UserError(f"a bandit's policies are of one dataset, not of {', '.join(sorted(datasets))}")
    has_scores = all(policy.scores is not None for policy in policies)
    pools: dict[str, list[np.ndarray]] = {}
    for policy in policies:
        pools.setdefault(policy.algorithm, []).append(policy.values if has_scores else policy.returns)
    return {algorithm: tuning_curve(pool) for algorithm, pool in pools.items()}


def _trials(rng: np.random.Generator, pool: np.ndarray, arms: np.ndarray, num_pulls: int, alpha: float) -> np.ndarray:
    """f64[trials, n]: the true score of the arm that each trial chooses after each pull. `arms` is i[trials, K]."""
    truth = pool.mean(axis=1)[arms]
    trial = np.arange(len(arms))
    counts, sums = np.zeros(arms.shape), np.zeros(arms.shape)
    chosen = np.empty((len(arms), num_pulls))
    for n in range(num_pulls):
        with np.errstate(divide="ignore", invalid="ignore"):
            bound = sums / counts + np.sqrt(alpha * np.log(n + 1) / counts)
        arm = _best(rng, np.where(counts == 0, np.inf, bound))
        counts[trial, arm] += 1
        sums[trial, arm] += pool[arms[trial, arm], rng.integers(0, pool.shape[1], len(arms))]
        means = np.where(counts == 0, -np.inf, sums / np.maximum(counts, 1))
        chosen[:, n] = truth[trial, _best(rng, means)]
    return chosen


def _best(rng: np.random.Generator, values: np.ndarray) -> np.ndarray:
    """i[trials]: the index of the largest value in each row of `values`. Ties are broken at random."""
    is_best = values == values.max(axis=1, keepdims=True)
    return np.argmax(is_best * rng.random(values.shape), axis=1)


def _checked(scores: ArrayLike) -> np.ndarray:
    try:
        pool = np.asarray(scores, np.float64)
    except ValueError:
        raise UserError("the policies of a pool need equally many episodes each") from None
    if pool.ndim != 2 or 0 in pool.shape:
        raise UserError(f"a pool is a matrix of policies by episodes, this has the shape {pool.shape}")
    if not np.isfinite(pool).all():
        lost = np.flatnonzero(~np.isfinite(pool).all(axis=1))
        raise UserError(f"policy {lost[0]} of the pool has scores that are not finite; leave it out")
    return pool
