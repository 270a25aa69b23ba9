"""Figures over seeds and tasks, drawn into Axes: performance profiles, and the bandit's tuning curves."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib import axes, ticker

from pgd_jax.report.bandit import TuningCurve
from pgd_jax.report.stats import Interval


def profiles(
    axis: axes.Axes, thresholds: np.ndarray, found: Mapping[str, Interval], palette: Mapping[str, Any], label: str
) -> None:
    """The share of seeds above each threshold [K], with bands where there are intervals."""
    for name, profile in found.items():
        axis.plot(thresholds, profile.value, color=palette[name], linewidth=2.0, label=name)
        if profile.has_interval:
            axis.fill_between(thresholds, profile.low, profile.high, color=palette[name], alpha=0.15, linewidth=0.0)
    axis.set(xlabel=f"{label} τ", ylabel="share of seeds with more than τ", ylim=(-0.02, 1.02))
    axis.legend(fontsize=8)


def tuning_curves(axis: axes.Axes, curves: Mapping[str, TuningCurve], palette: Mapping[str, Any], label: str) -> None:
    """The score of the policy that the bandit would choose, by the number of online evaluations allowed."""
    for name, curve in curves.items():
        of = f"{name} ({curve.num_arms} of {curve.num_policies} policies)"
        axis.plot(curve.pulls, curve.mean, color=palette[name], linewidth=2.0, label=of)
        axis.fill_between(curve.pulls, curve.low, curve.high, color=palette[name], alpha=0.2, linewidth=0.0)
    axis.set(xlabel="online evaluations (episodes)", ylabel=f"{label} of the chosen policy", xscale="log")
    axis.xaxis.set_major_locator(ticker.LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.xaxis.set_major_formatter("{x:g}")
    axis.xaxis.set_minor_formatter(ticker.NullFormatter())
    axis.legend(fontsize=8)
