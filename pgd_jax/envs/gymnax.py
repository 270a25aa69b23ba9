"""gymnax's continuous-control environments as EvalEnv.

gymnax's `step` resets by itself and mixes time limits in; the adapter takes `reset_env` and `step_env`, which do not.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from gymnax.environments import environment
from gymnax.environments.classic_control import pendulum

from pgd_jax.envs import base


def strong(tree: Any) -> Any:
    """Gives every leaf a fixed dtype: gymnax starts clocks from Python ints, whose weak type would retrace a scan."""
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.asarray(leaf).dtype), tree)


def adapt(env: environment.Environment, from_obs: Callable[[jax.Array], Any] | None = None) -> base.EvalEnv:
    """Wraps a gymnax environment with box actions and vector observations, at its default parameters.

    Actions in [-1, 1] are clipped and scaled to the environment's box. `from_obs` maps obs f32[O] to gymnax's state.
    """
    params = env.default_params
    action_box, obs_box = env.action_space(params), env.observation_space(params)
    centre, half_range = (action_box.high + action_box.low) / 2.0, (action_box.high - action_box.low) / 2.0

    def reset(key: jax.Array) -> tuple[jax.Array, Any]:
        return strong(env.reset_env(key, params))

    def step(key: jax.Array, state: Any, action: jax.Array) -> tuple[jax.Array, Any, jax.Array, jax.Array]:
        scaled = centre + half_range * jnp.clip(action, -1.0, 1.0)
        obs, state, reward, terminal, _ = env.step_env(key, state, scaled, params)
        return strong((obs, state, reward.astype(jnp.float32), terminal))

    return base.EvalEnv(
        name=env.name,
        obs_dim=obs_box.shape[0],
        action_dim=action_box.shape[0],
        horizon=params.max_steps_in_episode,
        reset=reset,
        step=step,
        from_obs=None if from_obs is None else lambda obs: strong(from_obs(obs)),
    )


def pendulum_from_obs(obs: jax.Array) -> pendulum.EnvState:
    """obs f32[3] = (cos theta, sin theta, angular velocity) -> state; the two need not be of unit length."""
    return pendulum.EnvState(theta=jnp.arctan2(obs[1], obs[0]), theta_dot=obs[2], last_u=jnp.float32(0.0), time=0)


@functools.cache
def make_pendulum() -> base.EvalEnv:
    """Pendulum-v1: swing up and balance; 200 steps, never terminal."""
    return adapt(pendulum.Pendulum(), pendulum_from_obs)._replace(name="pendulum")


base.ENVS.add("pendulum", make_pendulum)
