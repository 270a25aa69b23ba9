"""Means over seeds with intervals, and the statistics of Agarwal et al. 2021 (rliable, arXiv 2108.13264).

Intervals of one task's mean are Student's t. Bootstrap intervals are too narrow for the three to ten seeds that are
usual in offline RL. Four values have only 35 distinct resamples, and no resample has a mean outside the values. A 95 %
percentile interval then holds the true mean of normal values 79 times in 100. The t interval is exact for normal values
and close to it for most others. Below three seeds there is no interval, and reports show the values instead.

Statistics over several tasks take `tasks`: for each task an array of its seeds' scores, which may differ in number
([[3.0, 4.0], [7.0, 6.0, 5.0]]), or a matrix [tasks, seeds], the transpose of rliable's. Their intervals are a
stratified percentile bootstrap (section 4.1 there). It is too narrow for few seeds too: for normal scores, 95 %
intervals of the interquartile mean hold the true value in 76 of 100 cases with 3 seeds of one task, 87 with 4, 94 with
8, and 92 with 8 seeds of each of 5 tasks.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from pgd_jax.core.errors import UserError

CONFIDENCE = 0.95
MIN_SEEDS = 3  # for an interval: with two values the t quantile is 12.7
NUM_RESAMPLES = 2_000  # of a bootstrap

Tasks = Sequence[ArrayLike]  # for each task the scores of its seeds; resampled ones have axes in front of the seeds'


class Estimate(NamedTuple):
    """A mean with its 95 % interval; low and high are NaN if there are too few values."""

    mean: float
    low: float
    high: float
    values: tuple[float, ...]  # one per seed; empty for an unpaired difference

    @property
    def has_interval(self) -> bool:
        return math.isfinite(self.low) and math.isfinite(self.high)


class Interval(NamedTuple):
    """A statistic with its 95 % bootstrap interval: numbers or arrays. It is NaN if a task has too few seeds."""

    value: Any
    low: Any
    high: Any

    @property
    def has_interval(self) -> bool:
        return bool(np.all(np.isfinite([self.low, self.high])))


class Difference(NamedTuple):
    """a - b over seeds."""

    estimate: Estimate
    paired: bool  # by seed; otherwise Welch's interval for independent groups


def mean(values: ArrayLike) -> Estimate:
    """Mean and t interval: mean +- t(n - 1) s / sqrt(n)."""
    x = np.asarray(values, np.float64)
    centre = float(x.mean())
    if len(x) < MIN_SEEDS:
        return Estimate(centre, math.nan, math.nan, tuple(x.tolist()))
    half = _quantile(len(x) - 1) * x.std(ddof=1) / math.sqrt(len(x))
    return Estimate(centre, float(centre - half), float(centre + half), tuple(x.tolist()))


def difference(a: Mapping[int, float], b: Mapping[int, float]) -> Difference:
    """mean(a) - mean(b) of values by seed: paired if both have the same seeds, else Welch's (unequal variances)."""
    if a.keys() == b.keys():
        return Difference(mean([a[seed] - b[seed] for seed in sorted(a)]), True)
    x, y = np.array(list(a.values()), np.float64), np.array(list(b.values()), np.float64)
    centre = float(x.mean() - y.mean())
    if min(len(x), len(y)) < MIN_SEEDS:
        return Difference(Estimate(centre, math.nan, math.nan, ()), False)
    error = np.array([x.var(ddof=1) / len(x), y.var(ddof=1) / len(y)])
    total = float(error.sum())
    # Welch-Satterthwaite; without any spread the interval is a point.
    freedom = total**2 / float(np.sum(error**2 / (np.array([len(x), len(y)]) - 1))) if total > 0.0 else 1.0
    half = _quantile(freedom) * math.sqrt(total)
    return Difference(Estimate(centre, centre - half, centre + half, ()), False)


def ratio(a: ArrayLike, b: ArrayLike) -> Estimate:
    """Geometric mean of a / b, paired and positive, with the interval of the mean logarithm."""
    logs = mean(np.log(np.asarray(a, np.float64)) - np.log(np.asarray(b, np.float64)))
    centre, low, high = (float(np.exp(x)) for x in logs[:3])
    return Estimate(centre, low, high, tuple(float(np.exp(x)) for x in logs.values))


def verdict(estimate: Estimate) -> str:
    """A difference in words: "beats" or "is worse than" if the interval excludes 0, else no clear difference."""
    if not estimate.has_interval:
        return "too few seeds"
    if estimate.low > 0.0:
        return "beats"
    return "is worse than" if estimate.high < 0.0 else "no clear difference"


def interquartile_mean(tasks: Tasks) -> np.ndarray:
    """Mean of the middle half of all scores of all tasks (arXiv 2108.13264, section 4.3); of one task: `[scores]`.

    The floor(n / 4) smallest and largest of n scores are left out. If any score is NaN, the result is NaN.
    """
    scores = np.sort(np.concatenate(_arrays(tasks), axis=-1), axis=-1)
    cut = scores.shape[-1] // 4
    middle = scores[..., cut : scores.shape[-1] - cut].mean(axis=-1)
    return np.where(np.isnan(scores[..., -1]), math.nan, middle)  # sorting puts NaN last, where it would be cut off


def probability_of_improvement(x: Tasks, y: Tasks) -> np.ndarray:
    """P(X > Y) for random seeds of a random task (arXiv 2108.13264, section 4.3): ties count a half.

    For each task it is the Mann-Whitney U of x, divided by the number of pairs. The result is the mean over tasks.
    """
    if len(x) != len(y):
        raise UserError(f"probability_of_improvement compares the same tasks, but x has {len(x)} and y {len(y)}")
    of_tasks = []
    for a, b in zip(_arrays(x), _arrays(y), strict=True):
        gap = a[..., :, None] - b[..., None, :]
        of_tasks.append(np.where(np.isnan(gap), math.nan, 0.5 + 0.5 * np.sign(gap)).mean(axis=(-2, -1)))
    return np.mean(of_tasks, axis=0)


def performance_profile(tasks: Tasks, thresholds: ArrayLike) -> np.ndarray:
    """[..., K]: the share of seeds that score more than each threshold, mean over tasks (arXiv 2108.13264, eq. 1)."""
    levels = np.asarray(thresholds, np.float64)
    of_tasks = []
    for scores in _arrays(tasks):
        above = scores[..., None, :] > levels[:, None]
        of_tasks.append(np.where(np.isnan(scores).any(axis=-1)[..., None], math.nan, above.mean(axis=-1)))
    return np.mean(of_tasks, axis=0)


def stratified_bootstrap(
    statistic: Callable[..., np.ndarray], *methods: Tasks, num_resamples: int = NUM_RESAMPLES, seed: int = 0
) -> Interval:
    """`statistic(*methods)` with its 95 % percentile interval (arXiv 2108.13264, section 4.1).

    In each resample every task of every method has as many seeds as before, drawn with replacement from its own seeds.
    The draws start from `seed`, so the same scores give the same interval. `statistic` is one of the functions above,
    or another one that keeps all axes before the axis of seeds:

        stratified_bootstrap(interquartile_mean, tasks)
        stratified_bootstrap(probability_of_improvement, tasks, other_tasks)
        stratified_bootstrap(functools.partial(performance_profile, thresholds=[0, 50, 100]), tasks)
    """
    found = [_arrays(tasks) for tasks in methods]
    value = np.asarray(statistic(*found), np.float64)[()]
    if min(scores.shape[-1] for tasks in found for scores in tasks) < MIN_SEEDS:
        return Interval(value, np.full_like(value, math.nan)[()], np.full_like(value, math.nan)[()])
    rng = np.random.default_rng(seed)

    def resampled(scores: np.ndarray) -> np.ndarray:
        return scores[rng.integers(0, len(scores), (num_resamples, len(scores)))]

    draws = statistic(*([resampled(scores) for scores in tasks] for tasks in found))
    low, high = np.quantile(draws, [0.5 - CONFIDENCE / 2, 0.5 + CONFIDENCE / 2], axis=0)
    return Interval(value, low[()], high[()])


def _arrays(tasks: Tasks) -> list[np.ndarray]:
    found = [np.asarray(scores, np.float64) for scores in tasks]
    if not found or any(scores.ndim == 0 or scores.shape[-1] == 0 for scores in found):
        raise UserError("scores must be one array of seeds' scores for each task, as in [[3.0, 4.0], [7.0, 6.0]]")
    return found


def as_json(value: Any) -> Any:
    """Plain JSON data from nested tuples, arrays and estimates; NaN and infinity become None."""
    if hasattr(value, "_asdict"):
        value = value._asdict()
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): as_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_json(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _quantile(freedom: float) -> float:
    return float(stats.t.ppf(0.5 + CONFIDENCE / 2, freedom))
