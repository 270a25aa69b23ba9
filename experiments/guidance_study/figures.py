"""A figure a task: likelihood against dynamics error, for rules, samplers and numbers of calls."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import axes, figure, ticker

from experiments.guidance_study import frontier, grid
from experiments.guidance_study.frontier import ERROR, LIKELIHOOD, Point
from pgd_jax.report import stats

# Okabe and Ito's, told apart under every common colour blindness; the paper's rule is black.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#999999", "#F0E442")
PAPER_COLOUR = "#000000"
DPI = 130


def draw(path: pathlib.Path, task: str, points: Mapping[str, Sequence[Point]]) -> None:
    """`points` by kind of target policy: a row of panels each."""
    fig = figure.Figure(figsize=(16.0, 5.6 * len(points)), layout="constrained")
    panels = fig.subplots(len(points), 3, squeeze=False)
    for row, (agent, found) in zip(panels, points.items(), strict=True):
        _paper_against_candidates(row[0], found)
        _rules(row[1], found)
        _over_calls(row[2], found)
        for axis, title in zip(row, ("the paper's rule and fewer calls", "rules", "samplers over calls"), strict=True):
            axis.set_title(f"{task}, policies of {agent}: {title}", fontsize=10)
            axis.grid(alpha=0.25)
            axis.spines[["top", "right"]].set_visible(False)
            axis.legend(fontsize=7, loc="upper left", bbox_to_anchor=(0.0, -0.13), ncols=2)
    fig.savefig(path, dpi=DPI)


def _paper_against_candidates(axis: axes.Axes, points: Sequence[Point]) -> None:
    _curve(axis, frontier.select(points, **grid.PAPER), PAPER_COLOUR, "paper", with_intervals=True)
    for colour, name in zip(COLOURS, grid.DRAWN, strict=True):
        found = frontier.select(points, **grid.CANDIDATES[name])
        _curve(axis, found, colour, name, with_intervals=name == grid.CHOSEN)
    _label(axis)


def _rules(axis: axes.Axes, points: Sequence[Point]) -> None:
    for colour, (name, fields) in zip(COLOURS, grid.RULES.items(), strict=False):
        _curve(axis, frontier.select(points, **fields), colour, name)
    _label(axis)


def _over_calls(axis: axes.Axes, points: Sequence[Point]) -> None:
    """Dynamics error at one lambda over the number of denoiser calls."""
    for colour, sampler in zip(COLOURS, grid.SAMPLERS, strict=False):
        found = [p for p in points if frontier.is_like(p, {"sampler": sampler})]
        found = sorted((p for p in found if p.coefficient == grid.LAMBDA_OVER_CALLS), key=lambda p: p.calls)
        if found:
            errors = [p.estimate(ERROR).mean for p in found]
            axis.plot([p.calls for p in found], errors, "-o", color=colour, markersize=4, label=sampler)
    axis.set(
        xscale="log",
        yscale="log",
        xlabel="denoiser calls a window",
        ylabel=f"dynamics error at λ = {grid.LAMBDA_OVER_CALLS:g}",
    )
    plain(axis)


def _curve(axis: axes.Axes, points: Sequence[Point], colour: str, label: str, with_intervals: bool = False) -> None:
    if not points:
        return
    x, y = ([p.estimate(name) for p in points] for name in (LIKELIHOOD, ERROR))
    axis.plot(_means(x), _means(y), "-o", color=colour, markersize=4, label=f"{label} ({points[0].calls} calls)")
    if with_intervals:
        axis.errorbar(_means(x), _means(y), _bars(y), fmt="none", color=colour, alpha=0.5)
    for point in (points[0], points[-1]):
        xy = (point.estimate(LIKELIHOOD).mean, point.estimate(ERROR).mean)
        axis.annotate(
            f"λ={point.coefficient:g}", xy, fontsize=6, color=colour, xytext=(2, 3), textcoords="offset points"
        )


def _means(estimates: Sequence[stats.Estimate]) -> np.ndarray:
    return np.array([estimate.mean for estimate in estimates])


def _bars(estimates: Sequence[stats.Estimate]) -> Any:
    """Lengths below and above; a lower end at or below 0 is not drawn on a logarithmic axis."""
    low = [e.mean - max(e.low, 0.2 * e.mean) if e.has_interval else 0.0 for e in estimates]
    high = [e.high - e.mean if e.has_interval else 0.0 for e in estimates]
    return np.array([low, high])


def _label(axis: axes.Axes) -> None:
    axis.set(xlabel="log-likelihood per action (to the right: more on-policy)", ylabel="dynamics error", yscale="log")
    plain(axis)


def plain(axis: axes.Axes) -> None:
    """Numbers of a logarithmic y axis as 0.01, not as powers."""
    axis.yaxis.set_major_locator(ticker.LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.yaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_minor_formatter(ticker.NullFormatter())
