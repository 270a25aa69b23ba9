"""Episodes of a policy in an in-graph environment."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from pgd_jax.core.types import Policy
from pgd_jax.envs.base import EnvState, EvalEnv


class Episodes(NamedTuple):
    """E finished episodes. A return is NaN if the policy's action was not finite in any step of the episode."""

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
    time: jax.Array  # i32[]


def evaluate(
    key: jax.Array, policy: Policy, env: EvalEnv, num_episodes: int, discount: float | jax.Array = 1.0
) -> Episodes:
    """Runs `num_episodes` episodes in parallel, each to its terminal step or to the environment's horizon.

    `policy` maps obs f32[E, O] to actions f32[E, A], both in environment space. Each step calls it once for the whole
    batch, until all episodes have ended. The reward of the terminal step counts; nothing after it does.
    """
    key_reset, key_steps = jax.random.split(key)
    obs, state = jax.vmap(env.reset)(jax.random.split(key_reset, num_episodes))
    zeros = jnp.zeros(num_episodes, jnp.float32)
    nothing = Episodes(zeros, zeros, jnp.zeros(num_episodes, jnp.int32))
    alive = jnp.ones(num_episodes, bool)

    def step(running: _Running) -> _Running:
        action = policy(running.obs)
        keys = jax.random.split(jax.random.fold_in(key_steps, running.time), num_episodes)
        obs, state, reward, terminal = jax.vmap(env.step)(keys, running.state, action)
        # An environment may lose a NaN when it clips or compares (a sparse reward is then 0), so it is set here.
        reward = jnp.where(jnp.all(jnp.isfinite(action), axis=-1), reward, jnp.nan)
        reward = jnp.where(running.alive, reward, 0.0)
        episodes = Episodes(
            returns=running.episodes.returns + reward,
            discounted_returns=running.episodes.discounted_returns + running.weight * reward,
            lengths=running.episodes.lengths + running.alive.astype(jnp.int32),
        )
        alive = running.alive & ~terminal
        return _Running(obs, state, alive, episodes, running.weight * discount, running.time + 1)

    # A while loop instead of a scan over the horizon: early in training a walker falls within a tenth of the horizon.
    running = jax.lax.while_loop(
        lambda running: (running.time < env.horizon) & jnp.any(running.alive),
        step,
        _Running(obs, state, alive, nothing, jnp.float32(1.0), jnp.int32(0)),
    )
    return running.episodes
