"""Rollouts held against windows at equal likelihood.

The likelihood of rollouts is varied by the noise on their actions: greedy actions are the most likely ones, and each
likelihood below is that of some noise. A strength of guidance is compared with the rollouts of its own likelihood,
whose error is interpolated between the two nearest measured noises, per model, policy and horizon. Nothing is
extrapolated: where no rollout is as likely, or as unlikely, nothing is compared.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from experiments.claims.fidelity.points import Point

LIKELIHOOD, ERROR, MEDIAN, REWARD = "log_likelihood", "dynamics_error", "dynamics_error_median", "reward_error"
GROWTH = "growth"
# What lies beyond the ends by less is at them: greedy rollouts and strong guidance both come to the largest likelihood.
TOLERANCE = 1e-3  # nats an action
SMALLEST = 1e-12  # of an error: that of float32


class Curve(NamedTuple):
    """A generator's points, of one task and kind of policy, over its K strengths."""

    generator: str
    strengths: tuple[float, ...]  # rising
    models: tuple[int, ...]  # M, those with a point at every strength
    horizons: tuple[int, ...]  # H
    measures: dict[str, np.ndarray]  # [K, M, P, ...]

    @property
    def last(self) -> int:
        """The longest horizon."""
        return self.horizons[-1]

    def of(self, measure: str, horizon: int | None = None) -> np.ndarray:
        """[K, M, P] at a horizon, or of what has none."""
        found = self.measures[measure]
        return found if found.ndim == 3 else found[..., self.horizons.index(horizon or self.last)]


def curve(points: Sequence[Point], generator: str) -> Curve | None:
    """Of points of one task and kind of policy; None where no model has all of it."""
    own = {(p.strength, p.model): p for p in points if p.generator == generator}
    strengths = tuple(sorted({strength for strength, _ in own}))
    models = tuple(m for m in sorted({m for _, m in own}) if all((s, m) in own for s in strengths))
    if not models:
        return None
    found = [[own[s, m] for m in models] for s in strengths]
    measures = {name: np.array([[p.measures[name] for p in of] for of in found]) for name in found[0][0].measures}
    measures[GROWTH] = growth(measures["dynamics_error_by_position"])
    return Curve(generator, strengths, models, found[0][0].horizons, measures)


def growth(by_position: np.ndarray) -> np.ndarray:
    """[...] of errors [..., T - 1]: the mean of the last third of the window over that of the first."""
    third = max(by_position.shape[-1] // 3, 1)
    first, last = by_position[..., :third].mean(axis=-1), by_position[..., -third:].mean(axis=-1)
    return np.maximum(last, SMALLEST) / np.maximum(first, SMALLEST)


def log_error_at(likelihood: np.ndarray, error: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Logarithm of the error [K] at the likelihoods `wanted` [K], from points (likelihood, error) [N]; NaN outside."""
    order = np.argsort(likelihood)
    x, y = likelihood[order], np.log(np.maximum(error[order], SMALLEST))
    inside = np.where((wanted < x[0]) & (wanted > x[0] - TOLERANCE), x[0], wanted)
    inside = np.where((wanted > x[-1]) & (wanted < x[-1] + TOLERANCE), x[-1], inside)
    return np.interp(inside, x, y, left=np.nan, right=np.nan)


def least_log_error_at(likelihood: np.ndarray, error: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Likewise the least error of all that is at least as likely."""
    logs, at = np.log(np.maximum(error, SMALLEST)), log_error_at(likelihood, error, wanted)
    likely = np.where(likelihood[None, :] >= wanted[:, None], logs[None, :], np.inf)
    return np.where(np.isnan(at), np.nan, np.minimum(at, likely.min(axis=1)))


class Ratios(NamedTuple):
    """Rollouts / windows at equal likelihood."""

    strengths: tuple[float, ...]  # of the windows
    logs: np.ndarray  # f64[K, M, P]; NaN where no rollout has the likelihood

    @property
    def guided(self) -> np.ndarray:
        """[M, P]: the mean over strengths above 0 that have a value; NaN where none has."""
        logs = self.logs[np.array(self.strengths) > 0.0]
        number = np.isfinite(logs).sum(axis=0)
        return np.divide(np.nansum(logs, axis=0), number, out=np.full(number.shape, np.nan), where=number > 0)


def compare(
    windows: Curve, rollouts: Curve, measure: str = ERROR, horizon: int | None = None, at_least: bool = False
) -> Ratios | None:
    """Of the models that both have; None where there is none. `at_least`: each side's least error of all that is at
    least as likely as the windows, which a user who wants on-policy data would take."""
    models = [model for model in windows.models if model in rollouts.models]
    if not models:
        return None

    def of(curve: Curve, measure: str) -> np.ndarray:
        return curve.of(measure, horizon)[:, [curve.models.index(model) for model in models]]

    likelihood, error = of(windows, LIKELIHOOD), of(windows, measure)
    own, errors = of(rollouts, LIKELIHOOD), of(rollouts, measure)
    logs = np.empty(likelihood.shape)
    for m, p in np.ndindex(*likelihood.shape[1:]):
        wanted, found = likelihood[:, m, p], (own[:, m, p], errors[:, m, p], likelihood[:, m, p])
        if at_least:
            logs[:, m, p] = least_log_error_at(*found) - least_log_error_at(wanted, error[:, m, p], wanted)
        else:
            logs[:, m, p] = log_error_at(*found) - np.log(np.maximum(error[:, m, p], SMALLEST))
    return Ratios(windows.strengths, logs)
