"""gymnax's continuous-control environments as EvalEnv.

gymnax's `step` resets by itself and mixes time limits into `done`. `reset_env` and `step_env` do not, so the adapter
uses them. classic.py registers the tasks.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from gymnax.environments import environment
from gymnax.environments.classic_control import continuous_mountain_car
from gymnax.environments.misc import point_robot, reacher, swimmer

from pgd_jax.envs import base


def strong(tree: Any) -> Any:
    """Gives every leaf a strong dtype: gymnax starts clocks as Python ints, whose weak type would retrace a scan."""
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.asarray(leaf).dtype), tree)


@contextlib.contextmanager
def _as_gymnax_expects() -> Iterator[None]:
    """JAX's standard promotion of types and ranks, while gymnax is traced."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def adapt(env: environment.Environment, from_obs: Callable[[jax.Array], Any] | None = None) -> base.EvalEnv:
    """Wraps a gymnax environment with box actions and vector observations, at its default parameters.

    Actions in [-1, 1] are clipped and scaled to the environment's box. `from_obs` maps obs f32[O] to gymnax's state.
    """
    params = env.default_params
    action_box, obs_box = env.action_space(params), env.observation_space(params)
    centre, half_range = (action_box.high + action_box.low) / 2.0, (action_box.high - action_box.low) / 2.0

    def reset(key: jax.Array) -> tuple[jax.Array, Any]:
        with _as_gymnax_expects():
            return strong(env.reset_env(key, params))

    def step(key: jax.Array, state: Any, action: jax.Array) -> tuple[jax.Array, Any, jax.Array, jax.Array]:
        scaled = centre + half_range * jnp.clip(action, -1.0, 1.0)
        with _as_gymnax_expects():
            obs, following, reward, terminal, _ = env.step_env(key, state, scaled, params)
        # A field that is an integer at reset and a float after a step keeps its dtype at reset.
        following = jax.tree.map(lambda new, old: jnp.asarray(new, jnp.asarray(old).dtype), following, state)
        return strong((obs, following, reward.astype(jnp.float32), terminal))

    return base.EvalEnv(
        name=env.name,
        obs_dim=obs_box.shape[0],
        action_dim=action_box.shape[0],
        horizon=params.max_steps_in_episode,
        reset=reset,
        step=step,
        from_obs=None if from_obs is None else lambda obs: strong(from_obs(obs)),
    )


class MountainCar(continuous_mountain_car.ContinuousMountainCar):
    """gymnax's task, where the left wall stops the car as in Gymnasium: in gymnax the car keeps its speed there."""

    def step_env(self, key: jax.Array, state: Any, action: jax.Array, params: Any) -> tuple[Any, ...]:
        _, state, reward, terminal, info = super().step_env(key, state, action, params)
        stopped = (state.position <= params.min_position) & (state.velocity < 0.0)
        state = state.replace(velocity=jnp.where(stopped, 0.0, state.velocity))
        return self.get_obs(state), state, reward, terminal, info


def mountain_car_from_obs(obs: jax.Array) -> continuous_mountain_car.EnvState:
    """obs f32[2] = (position, velocity) -> state"""
    return continuous_mountain_car.EnvState(position=obs[0], velocity=obs[1], time=0)


def reacher_from_obs(obs: jax.Array) -> reacher.EnvState:
    """obs f32[8] = (cos, sin and velocity of two joints, goal x, y) -> state"""
    cos, sin, velocity, goal = obs.reshape(4, 2)
    return reacher.EnvState(angles=jnp.arctan2(sin, cos), angle_vels=velocity, goal_xy=goal, time=0.0)


def swimmer_from_obs(obs: jax.Array) -> swimmer.EnvState:
    """obs f32[16] = (x, y of five urchins, of the swimmer, its velocity, its goal) -> state"""
    points = obs.reshape(8, 2)
    return swimmer.EnvState(urchin_xys=points[:5], xy=points[5], xy_vel=points[6], goal_xy=points[7], time=0)


# name: gymnax's environment, and its from_obs. Point robot has no from_obs, because its goal is not observed.
TASKS = {
    "mountain-car-continuous": (MountainCar, mountain_car_from_obs),
    "reacher-misc": (reacher.Reacher, reacher_from_obs),
    "swimmer-misc": (swimmer.Swimmer, swimmer_from_obs),
    "point-robot-misc": (point_robot.PointRobot, None),
}


@functools.cache
def make(name: str) -> base.EvalEnv:
    """The environment called `name`, one of TASKS."""
    env, from_obs = TASKS[name]
    return adapt(env(), from_obs)._replace(name=name)
