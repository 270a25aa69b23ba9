"""Environments side by side, each a stream of episodes one after the other: what online training and rollouts record.

`EvalEnv.step` neither resets nor knows a time limit; both are done here. E streams, T steps.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from pgd_jax.core.types import Array
from pgd_jax.envs.base import EnvState, EvalEnv


@struct.dataclass
class Streams:
    obs: jax.Array  # f32[E, O]
    state: EnvState  # leading axis E
    elapsed: jax.Array  # i32[E] steps of the running episodes


class Rows(NamedTuple):
    """A step of every stream, environment space; [T, E, ...] of T steps. Widths are 0 of what there is not."""

    observations: Array  # f32[E, O]
    actions: Array  # f32[E, A] in [-1, 1]
    rewards: Array  # f32[E]
    next_observations: Array  # f32[E, O] what the step led to, also where another episode follows
    terminals: Array  # bool[E]
    timeouts: Array  # bool[E] the time limit, in no terminal row
    action_log_probs: Array  # f32[E] of the action under the policy that took it
    qpos: Array  # f32[E, nq] of the simulator before the step; nq = 0 without one
    qvel: Array  # f32[E, nv]


def start(env: EvalEnv, key: jax.Array, num_streams: int) -> Streams:
    """`num_streams` fresh episodes."""
    obs, state = jax.vmap(env.reset)(jax.random.split(key, num_streams))
    return Streams(obs, state, jnp.zeros(num_streams, jnp.int32))


def step(
    env: EvalEnv, key: jax.Array, streams: Streams, action: jax.Array, log_prob: jax.Array
) -> tuple[Streams, Rows]:
    """Actions f32[E, A], log-likelihoods f32[E] -> the streams afterwards, ended episodes begun anew; the rows."""
    key_step, key_reset = jax.random.split(key)
    num_streams = action.shape[0]
    if env.simulator is None:
        qpos = qvel = jnp.zeros((num_streams, 0))
    else:
        qpos, qvel = jax.vmap(env.simulator)(streams.state)
    keys = jax.random.split(key_step, num_streams)
    obs, state, reward, terminal = jax.vmap(env.step)(keys, streams.state, action)
    elapsed = streams.elapsed + 1
    timeout = (elapsed >= env.horizon) & ~terminal
    rows = Rows(streams.obs, action, reward, obs, terminal, timeout, log_prob, qpos, qvel)
    ended, fresh = terminal | timeout, start(env, key_reset, num_streams)

    def choose(new: jax.Array, old: jax.Array) -> jax.Array:
        return jnp.where(ended.reshape(-1, *[1] * (old.ndim - 1)), new, old)

    return jax.tree.map(choose, fresh, Streams(obs, state, elapsed)), rows
