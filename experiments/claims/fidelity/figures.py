"""A figure a task: likelihood over the strength, error over likelihood, error along the window."""

import pathlib
from collections.abc import Mapping

import numpy as np
from matplotlib import axes, figure, ticker

from experiments.claims import crossed
from experiments.claims.fidelity import matched, setting as settings
from experiments.claims.fidelity.conclusion import POLICIES, RULES, Curves
from experiments.claims.fidelity.matched import ERROR, LIKELIHOOD, SMALLEST, Curve
from experiments.guidance_study.figures import COLOURS, PAPER_COLOUR, plain

BY_POSITION = "dynamics_error_by_position"
COLOUR = {settings.PAPER: PAPER_COLOUR, settings.DEFAULT: COLOURS[0], settings.ROLLOUTS: COLOURS[5]}
DATA_COLOUR = COLOURS[6]
MARKER = {settings.PAPER: "s", settings.DEFAULT: "o", settings.ROLLOUTS: "^"}
DPI = 120
SMALL = 8.5


def draw(path: pathlib.Path, task: str, by_agent: Mapping[str, Curves]) -> None:
    """A row of panels for each kind of policy."""
    fig = figure.Figure(figsize=(12.5, 4.2 * len(by_agent) + 1.0), layout="constrained")
    panels = fig.subplots(len(by_agent), 3, squeeze=False)
    for row, (agent, curves) in zip(panels, by_agent.items(), strict=True):
        _likelihood_over_strength(row[0], curves)
        _error_over_likelihood(row[1], curves)
        _error_along_window(row[2], curves)
        row[0].set_title(f"{task}, policies of {POLICIES[agent]}", fontsize=10, loc="left")
        for axis in row:
            axis.grid(alpha=0.25)
            axis.spines[["top", "right"]].set_visible(False)
    for axis in panels[-1]:  # the same in every row
        axis.legend(fontsize=SMALL, frameon=False, loc="upper left", bbox_to_anchor=(0.0, -0.14))
    path.parent.mkdir(parents=True, exist_ok=True)
    fig.savefig(path, dpi=DPI)


def _likelihood_over_strength(axis: axes.Axes, curves: Curves) -> None:
    for rule in (rule for rule in RULES if rule in curves):
        curve = curves[rule]
        found = [crossed.mean(values) for values in curve.of(LIKELIHOOD)]
        mean, low, high = np.array([(e.mean, e.low, e.high) for e in found]).T
        label = f"{RULES[rule]} (dashed: unguided)"
        axis.plot(curve.strengths[1:], mean[1:], f"-{MARKER[rule]}", color=COLOUR[rule], markersize=5, label=label)
        axis.fill_between(curve.strengths[1:], low[1:], high[1:], color=COLOUR[rule], alpha=0.12, linewidth=0.0)
        axis.axhline(mean[0], color=COLOUR[rule], linestyle="--", linewidth=1.0)
    if settings.DATA in curves:
        level = curves[settings.DATA].of(LIKELIHOOD).mean()
        axis.axhline(level, color=DATA_COLOUR, linestyle=":", label="real windows")
    axis.set(xscale="log", xlabel="strength of guidance λ", ylabel="log-likelihood an action")


def _error_over_likelihood(axis: axes.Axes, curves: Curves) -> None:
    """Whole windows against rollouts of several lengths; how wide the axis is, the windows say."""
    seen = []
    for rule in (rule for rule in RULES if rule in curves):
        curve = curves[rule]
        seen.append(_over_likelihood(axis, curve, curve.last, COLOUR[rule], MARKER[rule], RULES[rule]))
        axis.plot(*(x[:1] for x in seen[-1]), MARKER[rule], color="white", markersize=3, zorder=4)
    if settings.ROLLOUTS in curves:
        curve = curves[settings.ROLLOUTS]
        for alpha, horizon in zip((0.4, 0.65, 1.0), _some(curve.horizons), strict=False):
            label = f"ensemble, {horizon} step{'s' * (horizon > 1)}"
            _over_likelihood(axis, curve, horizon, COLOUR[settings.ROLLOUTS], MARKER[settings.ROLLOUTS], label, alpha)
    if seen:
        x = np.concatenate([likelihood for likelihood, _ in seen])
        margin = 0.25 * np.ptp(x) + 1e-6
        axis.set_xlim(x.min() - margin, x.max() + 0.4 * margin)
    axis.set(xlabel="log-likelihood an action (white: unguided)", ylabel="dynamics error", yscale="log")
    _digits(axis)


def _over_likelihood(
    axis: axes.Axes, curve: Curve, horizon: int, colour: str, marker: str, label: str, alpha: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    x = curve.of(LIKELIHOOD, horizon).mean(axis=(1, 2))
    found = [crossed.ratio(np.log(np.maximum(values, SMALLEST))) for values in curve.of(ERROR, horizon)]
    mean, low, high = np.array([(e.mean, e.low, e.high) for e in found]).T
    axis.plot(x, mean, f"-{marker}", color=colour, markersize=5, label=label, alpha=alpha)
    axis.errorbar(x, mean, np.nan_to_num([mean - low, high - mean]), fmt="none", color=colour, alpha=0.5 * alpha)
    return x, mean


def _error_along_window(axis: axes.Axes, curves: Curves) -> None:
    """Of each rule at its middle strength, and of rollouts as likely as the default's."""
    for rule in (rule for rule in RULES if rule in curves):
        curve, middle = curves[rule], _middle(curves[rule])
        _along(axis, curve.measures[BY_POSITION][middle], rule, f"{RULES[rule]}, λ = {curve.strengths[middle]:g}")
        if rule == settings.DEFAULT:
            _along(axis, curve.measures[BY_POSITION][0], rule, "unguided", "--")
            if settings.ROLLOUTS in curves:
                found = as_likely(curve, middle, curves[settings.ROLLOUTS])
                _along(axis, found, settings.ROLLOUTS, "ensemble, as likely as our default")
    axis.set(xlabel="row in the window, or step of the rollout", ylabel="dynamics error", yscale="log")
    axis.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
    _digits(axis)


def _along(axis: axes.Axes, values: np.ndarray, name: str, label: str, style: str = "-") -> None:
    """values [M, P, T - 1]"""
    found = [crossed.ratio(np.log(np.maximum(at, SMALLEST))) for at in np.moveaxis(values, -1, 0)]
    mean, low, high = np.array([(e.mean, e.low, e.high) for e in found]).T
    steps = np.arange(1, len(mean) + 1)
    axis.plot(steps, mean, style + MARKER[name], color=COLOUR[name], markersize=4, label=label)
    if style == "-":
        axis.fill_between(steps, low, high, color=COLOUR[name], alpha=0.12, linewidth=0.0)


def as_likely(windows: Curve, strength: int, rollouts: Curve) -> np.ndarray:
    """The rollouts' error by position [M, P, T - 1] at the likelihood of windows of a strength (its index)."""
    models = [model for model in windows.models if model in rollouts.models]
    by_position = rollouts.measures[BY_POSITION]
    found = np.empty((len(models), *by_position.shape[2:]))
    for i, p, t in np.ndindex(*found.shape):
        m, n = windows.models.index(models[i]), rollouts.models.index(models[i])
        wanted = windows.of(LIKELIHOOD)[strength, m, p]
        at = matched.log_error_at(rollouts.of(LIKELIHOOD)[:, n, p], by_position[:, n, p, t], np.array([wanted]))
        found[i, p, t] = np.exp(at[0])
    return found


def _middle(curve: Curve) -> int:
    """Of the strengths above 0."""
    return len(curve.strengths) // 2


def _some(horizons: tuple[int, ...]) -> tuple[int, ...]:
    """The first, a middle and the last one."""
    return tuple(dict.fromkeys((horizons[0], horizons[len(horizons) // 2], horizons[-1])))


def _digits(axis: axes.Axes) -> None:
    """As 0.01 where the axis spans little; where it spans much, labels at 1, 2 and 5 would stand upon each other."""
    low, high = axis.get_ylim()
    if high / low < 300.0:
        plain(axis)
