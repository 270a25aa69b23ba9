"""How far generated transitions are from the true dynamics (a measure of PGD, arXiv 2404.06356)."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from pgd_jax.data import codec as codecs
from pgd_jax.envs.base import EvalEnv
from pgd_jax.errors import UserError
from pgd_jax.types import Codec, Transition

# Environments stepped side by side, a lane: a simulator's state takes some 100 kB, a set of windows has 10^5 rows.
ROWS_PER_BATCH = 512


def dynamics_error(
    env: EvalEnv, obs: jax.Array, action: jax.Array, next_obs: jax.Array, obs_std: jax.Array
) -> jax.Array:
    """Mean over dimensions of ((next_obs - true next_obs) / obs_std)^2; leading axes are free but equal.

    The true successor is one environment step from the state that shows `obs`, which makes the measure exact for
    deterministic dynamics. All arguments are in environment space.

    Args: obs, next_obs f32[..., O]; action f32[..., A] in [-1, 1]; obs_std f32[O], the dataset's. Returns f32[...].
    Raises UserError where an observation does not determine the environment's state.
    """
    if env.from_obs is None:
        raise UserError(
            f'environment "{env.name}" cannot be put into the state that shows an observation (its from_obs is None): '
            "the dynamics error is not defined for it"
        )
    leading = obs.shape[:-1]
    if action.shape != (*leading, env.action_dim) or obs.shape != next_obs.shape or obs.shape[-1] != env.obs_dim:
        raise UserError(
            f'dynamics_error: "{env.name}" has obs [..., {env.obs_dim}] and action [..., {env.action_dim}], '
            f"found obs {obs.shape}, action {action.shape}, next_obs {next_obs.shape}"
        )

    def true_next(obs: jax.Array, action: jax.Array) -> jax.Array:
        return env.step(jax.random.key(0), env.from_obs(obs), action)[0]  # deterministic: the key goes unused

    found = _in_batches(true_next, obs.reshape(-1, env.obs_dim), action.reshape(-1, env.action_dim))
    error = (next_obs.reshape(-1, env.obs_dim) - found) / obs_std[None, :]
    return jnp.mean(error**2, axis=-1).reshape(leading)


def _in_batches(function: Callable[..., jax.Array], *columns: jax.Array) -> jax.Array:
    """`function` of each row of `columns` [N, ...]; the last batch is filled up with copies of the first row."""
    num_rows = columns[0].shape[0]
    size = min(ROWS_PER_BATCH, num_rows)
    num_batches = -(-num_rows // size)
    rows = jnp.arange(num_batches * size)
    rows = jnp.where(rows < num_rows, rows, 0).reshape(num_batches, size)
    result = jax.lax.map(lambda rows: jax.vmap(function)(*(column[rows] for column in columns)), rows)
    return result.reshape(num_batches * size, *result.shape[2:])[:num_rows]


def of_transitions(
    env: EvalEnv, codec: Codec, rows: Transition, valid: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """(error, weight, reachable), each f32[...], of generated transitions [...] and their valid bool[...].

    The weight is 0 where there is nothing to measure: rows that do not count, terminal rows, whose next observation
    means nothing, and rows in whose impossible state the simulator itself breaks down. `reachable` is 0 where the
    environment can never be in the row's state, such as deep in a wall: there it answers with a violent push, and a few
    such rows can make most of a mean.
    """
    obs, next_obs = codecs.decode_obs(codec, rows.obs), codecs.decode_obs(codec, rows.next_obs)
    error = dynamics_error(env, obs, rows.action, next_obs, codec.std[codec.layout.obs])
    weight = valid.astype(jnp.float32) * (1.0 - rows.terminal) * jnp.isfinite(error).astype(jnp.float32)
    error = jnp.where(weight > 0.0, error, 0.0)
    if env.is_reachable is None:
        return error, weight, jnp.ones_like(weight)
    reachable = jax.vmap(env.is_reachable)(obs.reshape(-1, env.obs_dim)).reshape(weight.shape)
    return error, weight, reachable.astype(jnp.float32)
