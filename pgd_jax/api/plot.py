"""Pictures of arrays: each function draws and returns the matplotlib Axes; nothing is saved."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import axes, pyplot
from matplotlib.animation import FuncAnimation
from numpy.typing import ArrayLike

from pgd_jax.core.errors import UserError
from pgd_jax.data.trace import Trace
from pgd_jax.data.windows import Windows
from pgd_jax.report import bandit, denoising as denoising_figures, plots, stats, task_plots, tasks, windows as pictures


def windows(panels: Mapping[str, Windows]) -> np.ndarray:
    """A panel for each title: paths on the map for mazes, else the first observations over time. Returns Axes [...]."""
    if not panels:
        raise UserError("plot.windows needs at least one title with its windows")
    first = next(iter(panels.values()))
    if len({each.obs.shape[-1] for each in panels.values()}) > 1:
        raise UserError(f"the windows have different observations: {', '.join(map(repr, panels.values()))}")
    obs = {title: each.obs for title, each in panels.items()}
    if first.env.startswith("maze2d-"):
        return pictures.maps(first.env, obs, pyplot.figure)
    return pictures.series(first.obs.shape[-1], obs, pyplot.figure)


def denoising(trace: Trace, window: int = 0, steps: Sequence[int] | None = None) -> np.ndarray:
    """The way of one window from noise to data, at a few noise steps (None: five, evenly spaced).

    In mazes its path on the map, and arrows for what guidance adds to the actions; else its first observations and
    actions over time. Returns Axes [K] or [columns, K].
    """
    chosen = _step_numbers(trace, window, denoising_figures.spread(len(trace)) if steps is None else steps)
    return denoising_figures.side_by_side(trace, window, chosen, pyplot.figure)


def animate(trace: Trace, window: int = 0, interval: float = 150.0) -> FuncAnimation:
    """The same as a film with a frame for each noise step, `interval` milliseconds each.

    In a notebook `IPython.display.HTML(film.to_jshtml())` shows it; `film.save("x.gif", writer="pillow")` keeps it.
    """
    _step_numbers(trace, window, [0])
    return denoising_figures.in_turn(trace, window, interval, pyplot.figure)


def _step_numbers(trace: Trace, window: int, steps: Sequence[int]) -> list[int]:
    """The steps counted from 0, which may be given from the end; raises UserError where the trace has no such."""
    count, num_windows = len(trace), len(trace.windows)
    wrong = [step for step in steps if not -count <= step < count]
    if not steps or wrong or not -num_windows <= window < num_windows:
        raise UserError(
            f"window={window}, steps={list(steps)}: the trace has {num_windows} windows and {count} steps, counted "
            "from 0; choose one of its windows, and one step or more"
        )
    return [step % count for step in steps]


def performance_profiles(
    methods: Mapping[str, stats.Tasks], thresholds: ArrayLike | None = None, label: str = "score"
) -> axes.Axes:
    """Profiles by method (arXiv 2108.13264) with 95 % bands; each has for each task an array of its seeds' scores.

    Without `thresholds` they span the range of all scores.
    """
    if not methods:
        raise UserError("plot.performance_profiles needs at least one method with its scores by task")
    levels, found = tasks.profiles(methods, thresholds)
    axis = pyplot.figure(layout="constrained").add_subplot()
    task_plots.profiles(axis, levels, found, plots.method_colours(found), label)
    return axis


def tuning_curves(pools: Mapping[str, ArrayLike], label: str = "score", **settings: Any) -> axes.Axes:
    """Unifloral's bandit by method: `pools` holds scores [policies, episodes]; settings as `bandit.tuning_curve`."""
    if not pools:
        raise UserError("plot.tuning_curves needs at least one method with its pool of policies")
    found = {name: bandit.tuning_curve(pool, **settings) for name, pool in pools.items()}
    axis = pyplot.figure(layout="constrained").add_subplot()
    task_plots.tuning_curves(axis, found, plots.method_colours(found), label)
    return axis


def curves(groups: Mapping[str, np.ndarray], label: str = "score") -> axes.Axes:
    """Mean and each seed of curves f64[P, seeds] by group, as `AgentResult.curves` has them."""
    axis = pyplot.figure(layout="constrained").add_subplot()
    for number, (name, values) in enumerate(groups.items()):
        phases = np.arange(1, len(values) + 1)
        axis.plot(phases, values, color=f"C{number}", alpha=0.3, linewidth=0.8)
        axis.plot(phases, values.mean(axis=1), color=f"C{number}", linewidth=2.5, label=name)
    axis.set(xlabel="phase", ylabel=label)
    axis.grid(alpha=0.25)
    axis.legend()
    return axis
