"""The dynamics error: how far generated transitions are from the true dynamics (PGD, arXiv 2404.06356)."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from pgd_jax.core.errors import UserError
from pgd_jax.core.types import Normalizer, Transition
from pgd_jax.data import normalizer as normalizers
from pgd_jax.envs.base import EvalEnv

# Environments that a lane steps at once. A simulator's state takes some 100 kB, and a set of windows has 10^5 rows.
ROWS_PER_BATCH = 512


def dynamics_error(
    env: EvalEnv, obs: jax.Array, action: jax.Array, next_obs: jax.Array, obs_std: jax.Array
) -> jax.Array:
    """Mean over dimensions of ((next_obs - true next_obs) / obs_std)^2. All arguments have the same leading axes.

    The true next_obs comes from one environment step from the state that shows `obs`. So the measure is exact for
    deterministic dynamics. All arguments are in environment space.

    Args: obs, next_obs f32[..., O]; action f32[..., A] in [-1, 1]; obs_std f32[O] of the dataset. Returns f32[...].
    Raises UserError if an observation does not determine the environment's state.
    """
    found, _ = steps(env, obs, action)
    if next_obs.shape != obs.shape:
        raise UserError(f'dynamics_error: "{env.name}" has obs {obs.shape}, found next_obs {next_obs.shape}')
    return _obs_error(next_obs, found, obs_std)


def steps(env: EvalEnv, obs: jax.Array, action: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(next_obs f32[..., O], reward f32[...]) after one step from the states that show obs f32[..., O].

    All are in environment space, action f32[..., A] in [-1, 1]. Leading axes are the same. Raises UserError if an
    observation does not determine the environment's state.
    """
    from_obs = env.from_obs
    if from_obs is None:
        raise UserError(
            f'environment "{env.name}" cannot be put into the state that shows an observation (its from_obs is None): '
            "the dynamics error is not defined for it"
        )
    leading = obs.shape[:-1]
    if action.shape != (*leading, env.action_dim) or obs.shape[-1] != env.obs_dim:
        raise UserError(
            f'dynamics_error: "{env.name}" has obs [..., {env.obs_dim}] and action [..., {env.action_dim}], '
            f"found obs {obs.shape}, action {action.shape}"
        )

    def step(obs: jax.Array, action: jax.Array) -> tuple[jax.Array, jax.Array]:
        # The step is deterministic: the key is not used.
        next_obs, _, reward, _ = env.step(jax.random.key(0), from_obs(obs), action)
        return next_obs, jnp.asarray(reward, jnp.float32)

    next_obs, reward = in_batches(step, obs.reshape(-1, env.obs_dim), action.reshape(-1, env.action_dim))
    return next_obs.reshape(obs.shape), reward.reshape(leading)


def _obs_error(obs: jax.Array, truth: jax.Array, std: jax.Array) -> jax.Array:
    return jnp.mean(((obs - truth) / std.reshape(*(1,) * (obs.ndim - 1), -1)) ** 2, axis=-1)


def in_batches(function: Callable[..., Any], *columns: jax.Array) -> Any:
    """`function` of each row of `columns` [N, ...], in batches. Copies of the first row fill up the last batch."""
    num_rows = columns[0].shape[0]
    size = min(ROWS_PER_BATCH, num_rows)
    num_batches = -(-num_rows // size)
    rows = jnp.arange(num_batches * size)
    rows = jnp.where(rows < num_rows, rows, 0).reshape(num_batches, size)
    result = jax.lax.map(lambda rows: jax.vmap(function)(*(column[rows] for column in columns)), rows)
    return jax.tree.map(lambda leaf: leaf.reshape(num_batches * size, *leaf.shape[2:])[:num_rows], result)


def errors(
    normalizer: Normalizer, rows: Transition, valid: jax.Array, next_obs: jax.Array, reward: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """(error of the next observation, error of the reward, weight), each f32[...], of generated transitions [...].

    Errors are squared, in units of data variances. next_obs f32[..., O] and reward f32[...] are the true values, in
    environment space. Three kinds of rows cannot be measured and have weight 0 and error 0: rows that are not `valid`
    bool[...]; terminal rows, whose next observation means nothing; and rows with an impossible state, in which the
    simulator does not give finite values.
    """
    layout = normalizer.layout
    obs_error = _obs_error(normalizers.decode_obs(normalizer, rows.next_obs), next_obs, normalizer.std[layout.obs])
    reward_error = ((rows.reward - reward) / normalizer.std[layout.reward]) ** 2
    is_measured = valid & (rows.terminal == 0.0) & jnp.isfinite(obs_error) & jnp.isfinite(reward_error)
    obs_error, reward_error = (jnp.where(is_measured, error, 0.0) for error in (obs_error, reward_error))
    return obs_error, reward_error, is_measured.astype(jnp.float32)


def is_reachable(env: EvalEnv | None, obs: jax.Array) -> jax.Array:
    """obs f32[..., O], environment space -> bool[...]: whether the environment can ever show it; True if unknown."""
    if env is None or env.is_reachable is None:
        return jnp.ones(obs.shape[:-1], bool)
    return in_batches(env.is_reachable, obs.reshape(-1, env.obs_dim)).reshape(obs.shape[:-1])


def of_transitions(
    env: EvalEnv, normalizer: Normalizer, rows: Transition, valid: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """(error, weight, reachable), each f32[...], of generated transitions [...] and their valid bool[...].

    Error of the next observation and weight are as in `errors`. `reachable` is 0 where the environment can never be in
    the row's state, such as deep in a wall. There the simulator answers with a violent push, and a few such rows can
    dominate a mean.
    """
    obs = normalizers.decode_obs(normalizer, rows.obs)
    error, _, weight = errors(normalizer, rows, valid, *steps(env, obs, rows.action))
    return error, weight, is_reachable(env, obs).astype(jnp.float32)
