"""Measures of windows: dynamics error and on-policy likelihood, as functions of arrays in environment space."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from pgd_jax.core.compilation import in_float32
from pgd_jax.core.errors import UserError
from pgd_jax.core.registry import nearest
from pgd_jax.data.windows import Windows
from pgd_jax.envs.base import ENVS
from pgd_jax.measures import dynamics


@in_float32
def dynamics_error(windows: Windows, env: str) -> float:
    """Mean squared error of the next observation against one true step of task `env`, in units of data variances.

    The mean is over valid rows that are not terminal. Policy-Guided Diffusion has this measure (arXiv 2404.06356).
    Raises UserError for a task that is not in-graph, and for one whose observations do not determine its state.
    """
    if env not in ENVS:
        raise UserError(f'no in-graph environment "{env}"{nearest(env, ENVS)} (known: {", ".join(ENVS)})')
    rows = windows.transitions()
    rows = jax.tree.map(lambda leaf: leaf[rows.terminal == 0.0], rows)
    if not len(rows.reward):
        raise UserError(f"{windows!r} has no row with a successor")
    arrays = (jnp.asarray(array, jnp.float32) for array in (rows.obs, rows.action, rows.next_obs, windows.obs_std))
    error = np.asarray(jax.jit(lambda *arrays: dynamics.dynamics_error(ENVS.get(env)(), *arrays))(*arrays))
    return float(error[np.isfinite(error)].mean())


@in_float32
def log_likelihood(windows: Windows, log_prob: Callable[[jax.Array, jax.Array], jax.Array]) -> float:
    """Mean of `log_prob`(obs [..., O], action [..., A]) over the valid rows: how likely the policy's actions are."""
    obs, action = (jnp.asarray(array, jnp.float32) for array in (windows.obs, windows.action))
    return float(np.asarray(log_prob(obs, action))[windows.valid].mean())
