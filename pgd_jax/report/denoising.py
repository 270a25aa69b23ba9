"""A window's way from noise to data: a few noise steps side by side, or all of them one after the other."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib import animation, axes, figure, layout_engine, lines

from pgd_jax.data.trace import Trace
from pgd_jax.envs import maze2d
from pgd_jax.report import windows as pictures

NUM_PANELS = 5
MAX_DIMS = 2  # of observations, and of actions, drawn where there is no map
LAST_FRAMES = 8  # of an animation that starts again: time to look at the end
Style = dict[str, Any]
NOISY: Style = {"color": "#9A9A9A", "marker": "o", "linestyle": "", "markersize": 3.0}
DENOISED: Style = {"color": "#0072B2", "linewidth": 1.8}
UNGUIDED: Style = {"color": "#D55E00", "linestyle": "--", "linewidth": 1.2}
SHIFT: Style = {"color": "#D55E00", "width": 0.006, "angles": "xy", "scale_units": "xy", "scale": 2.0}
# What stands for them in the legend of a maze: the path has the colours of its rows.
PATH: Style = {"color": "#21918C", "linewidth": 1.8}
ARROW: Style = {"color": "#D55E00", "linestyle": "", "marker": r"$\rightarrow$", "markersize": 14.0}

Make = Callable[..., figure.Figure]


def side_by_side(trace: Trace, window: int, steps: Sequence[int], make: Make) -> np.ndarray:
    """Axes [K] of a maze, or [columns, K]: the window at these noise steps, on a figure that `make` gives."""
    panels = _panels(trace, len(steps), make)
    for column, step in zip(panels.T, steps, strict=True):
        _draw(column, trace, window, step)
    for axis in panels[:, 1:].flat:
        axis.set_ylabel("")
        axis.tick_params(labelleft=False)
    return panels[0] if _is_maze(trace) else panels


def spread(num_steps: int) -> list[int]:
    """A few steps, evenly spaced from the first to the last."""
    return np.unique(np.linspace(0, num_steps - 1, NUM_PANELS).round().astype(int)).tolist()


def in_turn(trace: Trace, window: int, interval: float, make: Make) -> animation.FuncAnimation:
    """A frame for each noise step, `interval` milliseconds each."""
    panels = _panels(trace, 1, make)[:, 0]
    fig, steps = panels[0].figure, range(len(trace))

    def frame(step: int) -> list:
        for axis in panels:
            axis.clear()
        _draw(panels, trace, window, step)
        return []

    frame(0)
    fig.draw_without_rendering()
    fig.set_layout_engine("none")  # laid out once, so that the axes stay in place
    return animation.FuncAnimation(fig, frame, [*steps, *[steps[-1]] * LAST_FRAMES], lambda: [], interval=interval)


def _is_maze(trace: Trace) -> bool:
    return trace.windows.env.startswith("maze2d-")


def _columns(trace: Trace) -> list[tuple[str, int]]:
    """(field, dimension) of what is drawn over the rows of a window where there is no map."""
    sizes = {name: getattr(trace.denoised, name).shape[-1] for name in ("obs", "action")}
    return [(name, dim) for name, size in sizes.items() for dim in range(min(size, MAX_DIMS))]


def _panels(trace: Trace, count: int, make: Make) -> np.ndarray:
    """Axes [rows, count] under which the figure says what is what."""
    num_rows, width, height = len(_columns(trace)), 3.0 if count > 1 else 5.0, 1.6
    if _is_maze(trace):
        num_x, num_y = maze2d.is_wall(pictures.layout_of(trace.windows.env)).shape
        num_rows, width = 1, 3.2 if count > 1 else 5.0
        height = width * num_y / num_x
    fig = make(
        figsize=(width * count + 0.6, height * num_rows + 0.9), layout=layout_engine.ConstrainedLayoutEngine(h_pad=0.1)
    )
    panels = fig.subplots(num_rows, count, squeeze=False, sharex=not _is_maze(trace))
    fig.legend(handles=_legend(trace), loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return panels


def _legend(trace: Trace) -> list[lines.Line2D]:
    if _is_maze(trace):
        styles = {"noisy": NOISY, "denoised (dot: first row)": PATH, "shift of the action": ARROW}
    else:
        styles = {"noisy": NOISY, "denoised": DENOISED, "without guidance in this step": UNGUIDED}
    made = [lines.Line2D([], [], label=label, **style) for label, style in styles.items()]
    return made if trace.is_guided.any() else made[:2]


def _draw(panels: np.ndarray, trace: Trace, window: int, step: int) -> None:
    """One noise step, into one Axes for a maze, else into one for each column."""
    if _is_maze(trace):
        _draw_path(panels[0], trace, window, step)
    else:
        _draw_columns(panels, trace, window, step)
    guided = ", guided" if trace.is_guided[step] else ""
    panels[0].set_title(f"σ = {trace.sigma[step]:.2g} (step {step + 1} of {len(trace)}){guided}", fontsize=10)


def _draw_path(axis: axes.Axes, trace: Trace, window: int, step: int) -> None:
    noisy, path = (rows.obs[step, window, :, :2] for rows in (trace.noisy, trace.denoised))
    pictures.maze(axis, pictures.layout_of(trace.windows.env))
    axis.plot(*noisy.T, **NOISY)
    axis.add_collection(pictures.coloured(path[None])).set(zorder=2.5, linewidth=2.0)
    axis.plot(*path[0], "o", color="#333333", markersize=3.5)
    if trace.is_guided[step]:
        axis.quiver(*path.T, *trace.action_shift[step, window].T, **SHIFT)
    axis.set(xlabel="x", ylabel="y")


def _draw_columns(panels: np.ndarray, trace: Trace, window: int, step: int) -> None:
    for axis, (name, dim) in zip(panels, _columns(trace), strict=True):
        noisy, denoised, unguided = (
            getattr(rows, name)[..., dim] for rows in (trace.noisy, trace.denoised, trace.unguided)
        )
        axis.plot(noisy[step, window], **NOISY)
        if trace.is_guided[step]:
            axis.plot(unguided[step, window], **UNGUIDED)
        axis.plot(denoised[step, window], **DENOISED)
        low, high = denoised.min(), denoised.max()
        margin = 0.1 * (high - low) + 1e-6
        axis.set(ylim=(low - margin, high + margin), ylabel=f"{'observation' if name == 'obs' else name} {dim}")
    panels[-1].set_xlabel("row in the window")
