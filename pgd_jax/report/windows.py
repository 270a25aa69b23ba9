"""Pictures of trajectory windows: real, unguided and guided side by side."""

import pathlib
from collections.abc import Callable, Mapping

import jax
import numpy as np
from matplotlib import axes, collections, figure, patches

from pgd_jax.data import episodes
from pgd_jax.data.base import RawDataset
from pgd_jax.envs import maze2d

MAX_PANEL_ROWS = 3  # observation dimensions drawn where there is no map
DPI = 150


def real(key: jax.Array, raw: RawDataset, length: int, num_windows: int) -> np.ndarray:
    """f32[num_windows, T, D] random windows of the dataset, environment space."""
    return episodes.rows(raw)[episodes.random_windows(key, raw, length, num_windows)]


def draw(path: pathlib.Path, env_name: str, obs_dim: int, windows: Mapping[str, np.ndarray]) -> None:
    """A panel for each title -> windows [K, T, D], environment space: a map for maze2d, else observations over time."""
    if env_name.startswith("maze2d-"):
        panels = maps(env_name, windows)
    else:
        panels = series(obs_dim, windows)
    panels.flat[0].figure.savefig(path, dpi=DPI)


def maps(
    env_name: str, windows: Mapping[str, np.ndarray], make: Callable[..., figure.Figure] = figure.Figure
) -> np.ndarray:
    """Axes [K] on a figure that `make` gives: each window [..., O], environment space, as a path in the maze."""
    layout = layout_of(env_name)
    num_x, num_y = np.array(maze2d.is_wall(layout).shape)
    fig = make(figsize=(4.2 * len(windows) + 0.8, 4.2 * num_y / num_x + 0.35), layout="constrained")
    panels = [fig.add_subplot(1, len(windows), i + 1) for i in range(len(windows))]
    for axis, (title, paths) in zip(panels, windows.items(), strict=True):
        maze(axis, layout)
        lines = coloured(paths[..., :2])
        axis.add_collection(lines)
        axis.plot(paths[:, 0, 0], paths[:, 0, 1], "o", color="#333333", markersize=2.5)
        axis.set(title=title, xlabel="x")
    panels[0].set_ylabel("y")
    fig.colorbar(lines, ax=panels, label="row in the window (dots: first)", shrink=0.85)
    return np.array(panels)


def layout_of(env_name: str) -> str:
    """The maze of a task "maze2d-..."."""
    return env_name.removeprefix("maze2d-").removesuffix("-dense")


def maze(axis: axes.Axes, layout: str) -> None:
    """Draws the walls and the target, and sets the limits to them."""
    boxes = maze2d.walls(layout)
    for x_min, y_min, x_max, y_max in boxes:
        axis.add_patch(patches.Rectangle((x_min, y_min), x_max - x_min, y_max - y_min, color="#B8B8B8", linewidth=0.0))
    axis.plot(*maze2d.target(layout), "*", color="#D55E00", markersize=15, markeredgecolor="black", zorder=4)
    axis.set_aspect("equal")
    axis.set(
        xlim=(boxes[:, 0].min() + 0.7, boxes[:, 2].max() - 0.7), ylim=(boxes[:, 1].min() + 0.7, boxes[:, 3].max() - 0.7)
    )


def coloured(xy: np.ndarray) -> collections.LineCollection:
    """xy [K, T, 2] -> line pieces coloured by their row."""
    pieces = np.stack([xy[:, :-1], xy[:, 1:]], axis=2).reshape(-1, 2, 2)
    rows = np.tile(np.arange(xy.shape[1] - 1), len(xy))
    return collections.LineCollection(list(pieces), array=rows, cmap="viridis", linewidths=1.3)


def series(
    obs_dim: int, windows: Mapping[str, np.ndarray], make: Callable[..., figure.Figure] = figure.Figure
) -> np.ndarray:
    """Axes [rows, K]: the first observations [..., O] of each window over time."""
    num_rows = min(obs_dim, MAX_PANEL_ROWS)
    fig = make(figsize=(4.2 * len(windows), 2.2 * num_rows + 0.5), layout="constrained")
    panels = fig.subplots(num_rows, len(windows), sharex=True, sharey="row", squeeze=False)
    for column, (title, paths) in zip(panels.T, windows.items(), strict=True):
        column[0].set_title(title)
        column[-1].set_xlabel("row in the window")
        for dim, axis in enumerate(column):
            axis.plot(paths[..., dim].T, color="#0072B2", alpha=0.25, linewidth=0.8)
    for dim, axis in enumerate(panels[:, 0]):
        axis.set_ylabel(f"observation {dim}")
    return panels
