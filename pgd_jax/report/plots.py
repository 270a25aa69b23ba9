"""The figures of a report: curves and intervals by group. No global matplotlib state: any backend, or none, will do."""

import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib import axes, axis as matplotlib_axis, colormaps, figure, ticker

from pgd_jax.report import stats, task_plots
from pgd_jax.report.bandit import TuningCurve
from pgd_jax.report.results import Group

# Okabe and Ito's colours, told apart under every common colour blindness; real data is black, unguided orange.
# Rollouts of a world model are brown and dark yellow.
REAL = ("#000000", "#777777")
UNGUIDED = ("#E69F00", "#D55E00")
ROLLOUTS = ("#8C510A", "#B8A000")
GUIDED = ("#0072B2", "#009E73", "#CC79A7", "#56B4E9")
REFERENCE = "#999999"
DPI = 150


class Curve(NamedTuple):
    """One metric of one group along its updates."""

    updates: np.ndarray  # [P]
    values: np.ndarray  # [S, P] one row a seed
    estimates: list[stats.Estimate]  # [P]


def colours(groups: Sequence[Group]) -> dict[str, Any]:
    """One colour a group, the same in every figure."""
    chosen: dict[str, Any] = {}
    for kind, palette in (("real", REAL), ("unguided", UNGUIDED), ("rollouts", ROLLOUTS), ("guided", GUIDED)):
        names = [group.name for group in groups if group.kind == kind]
        is_enough = len(names) <= len(palette)
        taken: Any = palette if is_enough else colormaps["viridis"](np.linspace(0.0, 0.9, len(names)))
        chosen |= dict(zip(names, taken, strict=False))
    return chosen


def method_colours(methods: Iterable[str]) -> dict[str, Any]:
    """One colour a method: black for the first of real data, then as many as there are."""
    names = list(methods)
    palette = [REAL[0], UNGUIDED[0], *GUIDED, UNGUIDED[1], REAL[1]]
    is_enough = len(names) <= len(palette)
    taken: Any = palette if is_enough else colormaps["viridis"](np.linspace(0.0, 0.9, len(names)))
    return dict(zip(names, taken, strict=False))


def learning_curves(
    path: pathlib.Path, title: str, label: str, curves: Mapping[str, Curve], palette: Mapping[str, Any]
) -> None:
    """Score or return over updates, with intervals over seeds, or every seed as a thin line where they are few."""
    fig, (axis,) = _figure("A")
    _lines(axis, curves, palette)
    if "score" in label:
        _level(axis, 0.0, "random")
        _level(axis, 100.0, "expert")
    axis.set(title=title, ylabel=label)
    _save(fig, path)


def on_policy(
    path: pathlib.Path, curves: Mapping[str, Curve], controlled: Mapping[str, Any], palette: Mapping[str, Any]
) -> None:
    """Log-likelihood of synthetic actions: along training, and of the same policies with and without guidance.

    `controlled` is `summary.controlled`'s.
    """
    fig, (left, right) = _figure("AB")
    _lines(left, curves, palette)
    left.set(title="During training, under the policy that guides", ylabel="log-likelihood per action")
    x = np.arange(3)
    for name, group in controlled.items():
        found = [group["log_likelihood"][key] for key in ("real_actions", "unguided", "guided")]
        seeds, means = np.array([estimate.values for estimate in found]), [estimate.mean for estimate in found]
        label = f"policies of “{name}”, λ = {group['guidance_coefficient']:g}"
        right.plot(
            x[:2], means[:2], ":o", color=palette[name], linewidth=1.5
        )  # two sources of data, not one that changes
        right.plot(x[1:], seeds[1:], color=palette[name], alpha=0.4, linewidth=0.8)
        right.plot(x[1:], means[1:], "-o", color=palette[name], linewidth=2.5, label=label)
    right.set_xticks(x, ["real actions", "unguided\n(λ = 0)", "guided"])
    right.set(
        title="Same final policies, same noise, with and without guidance",
        ylabel="log-likelihood per action",
        xlim=(-0.2, 2.2),
    )
    right.legend(fontsize=8)
    _save(fig, path)


def dynamics_error(
    path: pathlib.Path,
    curves: Mapping[str, Curve],
    controlled: Mapping[str, Any],
    limit: float,
    palette: Mapping[str, Any],
) -> None:
    """Dynamics error along training, by position in the window, and guided relative to unguided.

    `controlled` is `summary.controlled`'s; groups without a dynamics error are left out.
    """
    fig, (left, right, below) = _figure("AB;CC")
    found = {name: group for name, group in controlled.items() if "dynamics_error" in group}
    label = "normalised squared error of next obs"
    _lines(left, curves, palette)
    left.set(title="During training", ylabel=label, yscale="log")
    _plain_log(left.yaxis)
    for name, group in found.items():
        by_position = group["dynamics_error_by_position"]
        right.plot(by_position["guided"], "-", color=palette[name], label=f"guided by policies of “{name}”")
        right.plot(by_position["unguided"], "--", color=palette[name])
    right.plot([], [], "--", color=REFERENCE, label="same policies, λ = 0")
    right.set(
        title="By position, final policies, mean of seeds", xlabel="row in the window", ylabel=label, yscale="log"
    )
    _plain_log(right.yaxis)
    right.legend(fontsize=8)
    _ratios(below, found, limit, palette)
    _save(fig, path)


def bandit(path: pathlib.Path, label: str, curves: Mapping[str, TuningCurve]) -> None:
    """Score of the policy that a bandit chooses, by method: `bandit.of_pool`'s."""
    fig, (axis,) = _figure("A")
    task_plots.tuning_curves(axis, curves, method_colours(curves), label)
    axis.set(title="Policies tried online: Unifloral's bandit")
    _save(fig, path)


def profiles(path: pathlib.Path, label: str, thresholds: np.ndarray, found: Mapping[str, stats.Interval]) -> None:
    """Performance profiles over all datasets, by method."""
    fig, (axis,) = _figure("A")
    task_plots.profiles(axis, thresholds, found, method_colours(found), label)
    axis.set(title="Performance profiles")
    _save(fig, path)


def denoiser(path: pathlib.Path, steps: Sequence[int], losses: Mapping[str, Sequence[float]]) -> None:
    """Losses of the diffusion model over its optimiser steps."""
    fig, (axis,) = _figure("A")
    names = {
        "train_loss": ("training windows", "#0072B2"),
        "validation_loss": ("held-out episodes (averaged weights)", "#D55E00"),
    }
    for key, values in losses.items():
        label, colour = names[key]
        axis.plot(steps, values, color=colour, marker="o", markersize=3, label=label)
    axis.set(
        title="Training of the diffusion model",
        xlabel="optimiser steps",
        ylabel="EDM loss (weighted squared error)",
        yscale="log",
    )
    axis.xaxis.set_major_formatter(ticker.EngFormatter(sep=""))
    _plain_log(axis.yaxis)
    axis.legend()
    _save(fig, path)


def _figure(mosaic: str) -> tuple[figure.Figure, list[axes.Axes]]:
    """Panels laid out as "AB;CC": two above a wide one. A panel fits a phone, and its letters stay large enough."""
    rows = mosaic.split(";")
    fig = figure.Figure(figsize=(6.0 * len(rows[0]), 4.5 * len(rows)), layout="constrained")
    panels = list(fig.subplot_mosaic(mosaic).values())
    for axis in panels:
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    return fig, panels


def _save(fig: figure.Figure, path: pathlib.Path) -> None:
    fig.savefig(path, dpi=DPI)


def _lines(axis: axes.Axes, curves: Mapping[str, Curve], palette: Mapping[str, Any]) -> None:
    for name, curve in curves.items():
        colour = palette[name]
        num_seeds = len(curve.values)
        axis.plot(
            curve.updates,
            [e.mean for e in curve.estimates],
            color=colour,
            linewidth=2.0,
            label=f"{name} ({num_seeds} seeds)",
        )
        if num_seeds >= stats.MIN_SEEDS:
            low, high = [e.low for e in curve.estimates], [e.high for e in curve.estimates]
            axis.fill_between(curve.updates, low, high, color=colour, alpha=0.15, linewidth=0.0)
        else:
            axis.plot(curve.updates, curve.values.T, color=colour, alpha=0.5, linewidth=0.8)
    axis.set_xlabel("agent updates")
    axis.xaxis.set_major_formatter(ticker.EngFormatter(sep=""))
    if curves:
        axis.legend(fontsize=8)


def _ratios(panel: axes.Axes, found: Mapping[str, Any], limit: float, palette: Mapping[str, Any]) -> None:
    for row, (name, group) in enumerate(found.items()):
        _interval(panel, row - 0.2, group["dynamics_error"]["ratio"], palette[name], "o")
        _interval(panel, row, group["dynamics_error_reachable"]["ratio"], palette[name], "s")
        _interval(panel, row + 0.2, group["dynamics_error_median_window"]["ratio"], palette[name], "D")
        panel.text(0.01, row - 0.43, f"policies of “{name}”", va="center", transform=panel.get_yaxis_transform())
    for marker, label in (("o", "all rows"), ("s", "reachable states"), ("D", "median window")):
        panel.plot([], [], marker, color=REFERENCE, label=label)
    panel.legend(fontsize=8)
    panel.set_xscale("log")
    _plain_log(panel.xaxis)
    panel.axvline(1.0, color=REFERENCE, linewidth=1.0)
    panel.axvline(limit, color="#D55E00", linestyle="--", linewidth=1.5)
    panel.text(limit, -0.55, f" {limit:g}", color="#D55E00", va="top")
    panel.set_yticks([])
    panel.set(
        title="Guided / unguided error, same policies", xlabel="ratio of dynamics errors", ylim=(len(found) - 0.4, -0.6)
    )


def _level(axis: axes.Axes, y: float, text: str) -> None:
    axis.axhline(y, color=REFERENCE, linestyle=":", linewidth=1.0)
    axis.text(1.01, y, text, color="#555555", fontsize=8, ha="left", va="center", transform=axis.get_yaxis_transform())


def _plain_log(scale: matplotlib_axis.Axis) -> None:
    """Numbers such as 0.002 instead of 2 x 10^-3, at 1, 2 and 5."""
    scale.set_major_locator(ticker.LogLocator(subs=(1.0, 2.0, 5.0)))
    scale.set_major_formatter("{x:g}")
    scale.set_minor_formatter(ticker.NullFormatter())


def _interval(panel: axes.Axes, row: float, estimate: stats.Estimate, colour: Any, marker: str) -> None:
    panel.plot(estimate.values, [row - 0.1] * len(estimate.values), "|", color=colour, alpha=0.6)
    if estimate.has_interval:
        panel.plot([estimate.low, estimate.high], [row, row], color=colour, linewidth=2.5)
    panel.plot([estimate.mean], [row], marker, color=colour, markersize=7)
