"""Episodes of a policy in an in-graph environment."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from pgd_jax.envs.base import EnvState, EvalEnv
from pgd_jax.types import Policy


class Episodes(NamedTuple):
    """E finished episodes. A return is NaN where the policy gave a non-finite action during the episode."""

    returns: jax.Array  # f32[E] sum of rewards
    discounted_returns: jax.Array  # f32[E] sum of discount^t rewards
    lengths: jax.Array  # i32[E] steps, the terminating one included


@struct.dataclass
class _Running:
    obs: jax.Array  # f32[E, O]
    state: EnvState
    alive: jax.Array  # bool[E]
    episodes: Episodes
    weight: jax.Array  # f32[] discount^t


def evaluate(
    key: jax.Array, policy: Policy, env: EvalEnv, num_episodes: int, discount: float | jax.Array = 1.0
) -> Episodes:
    """Runs `num_episodes` episodes side by side, each to its terminal step or to the environment's horizon.

    `policy` maps obs f32[E, O] to actions f32[E, A], both in environment space; it is called once a step on the whole
    batch. The reward of the terminating step counts, nothing after it does.
    """
    key_reset, key_steps = jax.random.split(key)
    obs, state = jax.vmap(env.reset)(jax.random.split(key_reset, num_episodes))
    zeros = jnp.zeros(num_episodes, jnp.float32)
    nothing = Episodes(zeros, zeros, jnp.zeros(num_episodes, jnp.int32))
    running = _Running(obs, state, jnp.ones(num_episodes, bool), nothing, jnp.float32(1.0))

    def step(running: _Running, key: jax.Array) -> tuple[_Running, None]:
        action = policy(running.obs)
        keys = jax.random.split(key, num_episodes)
        obs, state, reward, terminal = jax.vmap(env.step)(keys, running.state, action)
        # An environment may clip or compare a NaN away (a sparse reward of 0), so it is put back here.
        reward = jnp.where(jnp.all(jnp.isfinite(action), axis=-1), reward, jnp.nan)
        reward = jnp.where(running.alive, reward, 0.0)
        episodes = Episodes(
            returns=running.episodes.returns + reward,
            discounted_returns=running.episodes.discounted_returns + running.weight * reward,
            lengths=running.episodes.lengths + running.alive.astype(jnp.int32),
        )
        return _Running(obs, state, running.alive & ~terminal, episodes, running.weight * discount), None

    running, _ = jax.lax.scan(step, running, jax.random.split(key_steps, env.horizon))
    return running.episodes
