"""Pictures of arrays: each function draws and returns the matplotlib Axes; nothing is saved."""

from collections.abc import Mapping

import numpy as np
from matplotlib import axes, pyplot

from pgd_jax.core.errors import UserError
from pgd_jax.data.windows import Windows
from pgd_jax.report import windows as pictures


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
