"""Hopper, HalfCheetah, Walker2d and Ant as EvalEnv: Gymnasium's `-v4` tasks, those of D4RL's v2 datasets.

| task | model | physics | observation | alive while | reset noise |
|---|---|---|---|---|---|
| hopper | hopper.xml | 4 x 0.002 s | qpos[1:], qvel within 10 | z > 0.7, abs(angle) < 0.2 | uniform 0.005 |
| halfcheetah | half_cheetah.xml | 5 x 0.01 s | qpos[1:], qvel | always | uniform, normal 0.1 |
| walker2d | walker2d.xml | 4 x 0.002 s | qpos[1:], qvel within 10 | z in (0.8, 2), abs(angle) < 1 | uniform 0.005 |
| ant | ant.xml | 5 x 0.01 s | qpos[2:], qvel | z in [0.2, 1] | uniform, normal 0.1 |

reward = forward velocity + 1 (in tasks with falls) - cost |action|^2. Episodes have 1000 steps. Ant has Gymnasium's 27
observations. D4RL's ant files have 84 more: contact forces, which MuJoCo 2.0 left at zero.
Source: gymnasium/envs/mujoco/{hopper,half_cheetah,walker2d,ant}_v4.py.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from pgd_jax.envs import base, mjx

HORIZON = 1000
MAX_OBSERVED_SPEED = 10.0  # hopper, walker2d: observations clip faster joints to this speed


class Task(NamedTuple):
    file_name: str
    frame_skip: int
    num_hidden: int  # leading coordinates of qpos that are not observed
    has_clipped_speed: bool
    is_paid_for_body: bool  # the reward's velocity is that of MuJoCo's body (see mjx.State.lag), not that of qpos
    control_cost: float
    alive_reward: float
    reset_noise: float
    has_normal_velocity: bool  # reset: velocities are normal, else uniform like the positions
    is_alive: Callable[[jax.Array, jax.Array], jax.Array]  # (qpos, qvel) -> bool[]


def _hopper_is_alive(qpos: jax.Array, qvel: jax.Array) -> jax.Array:
    in_range = jnp.all(jnp.abs(jnp.concatenate([qpos[2:], qvel])) < 100.0)
    return in_range & (qpos[1] > 0.7) & (jnp.abs(qpos[2]) < 0.2)


def _walker2d_is_alive(qpos: jax.Array, qvel: jax.Array) -> jax.Array:
    return (qpos[1] > 0.8) & (qpos[1] < 2.0) & (jnp.abs(qpos[2]) < 1.0)


def _ant_is_alive(qpos: jax.Array, qvel: jax.Array) -> jax.Array:
    return jnp.all(jnp.isfinite(jnp.concatenate([qpos, qvel]))) & (qpos[2] >= 0.2) & (qpos[2] <= 1.0)


TASKS = {
    "hopper": Task("hopper.xml", 4, 1, True, False, 1e-3, 1.0, 5e-3, False, _hopper_is_alive),
    "halfcheetah": Task(
        "half_cheetah.xml", 5, 1, False, False, 0.1, 0.0, 0.1, True, lambda qpos, qvel: jnp.bool_(True)
    ),
    "walker2d": Task("walker2d.xml", 4, 1, True, False, 1e-3, 1.0, 5e-3, False, _walker2d_is_alive),
    "ant": Task("ant.xml", 5, 2, False, True, 0.5, 1.0, 0.1, True, _ant_is_alive),
}


def observe(task: Task, state: mjx.State) -> jax.Array:
    """State -> obs f32[O], environment space."""
    qvel = jnp.clip(state.qvel, -MAX_OBSERVED_SPEED, MAX_OBSERVED_SPEED) if task.has_clipped_speed else state.qvel
    return jnp.concatenate([state.qpos[task.num_hidden :], qvel])


def reset(task: Task, model: mjx.Model, key: jax.Array) -> tuple[jax.Array, mjx.State]:
    """key -> (obs f32[O], state)"""
    key_position, key_velocity = jax.random.split(key)
    noise, shape = task.reset_noise, (model.num_velocities,)
    qpos = model.init_qpos + jax.random.uniform(key_position, model.init_qpos.shape, minval=-noise, maxval=noise)
    if task.has_normal_velocity:
        qvel = noise * jax.random.normal(key_velocity, shape)
    else:
        qvel = jax.random.uniform(key_velocity, shape, minval=-noise, maxval=noise)
    state = model.place(qpos, qvel)
    return observe(task, state), state


def step(
    task: Task, model: mjx.Model, key: jax.Array, state: mjx.State, action: jax.Array
) -> tuple[jax.Array, mjx.State, jax.Array, jax.Array]:
    """action f32[A] in [-1, 1] -> (obs f32[O], state, reward f32[], terminal bool[]). The step is deterministic."""
    action, hidden = jnp.clip(action, -1.0, 1.0), slice(0, task.num_hidden)
    origin = state.qpos[hidden]
    # Each step starts at the origin: far away (hundreds of metres), float32 would round the reward to some 1e-3.
    following = model.step(dataclasses.replace(state, qpos=state.qpos.at[hidden].set(0.0)), action)
    moved = following.qpos[0] + (following.lag - state.lag if task.is_paid_for_body else 0.0)
    following = dataclasses.replace(following, qpos=following.qpos.at[hidden].add(origin))
    reward = moved / model.time_per_step + task.alive_reward - task.control_cost * jnp.sum(action**2)
    return observe(task, following), following, reward, ~task.is_alive(following.qpos, following.qvel)


def from_obs(task: Task, model: mjx.Model, obs: jax.Array) -> mjx.State:
    """obs f32[O] -> the state that shows it. Coordinates that are not observed are 0.

    Clipped speeds are taken as observed. Ant's quaternion is normalised, as MuJoCo would do.
    """
    num_positions = model.init_qpos.size - task.num_hidden
    position, qvel = obs[:num_positions], obs[num_positions:]
    if model.init_qpos.size != model.num_velocities:
        start = 3 - task.num_hidden
        length = jnp.linalg.norm(position[start : start + 4])
        position = position.at[start : start + 4].divide(jnp.maximum(length, 1e-6))
    return model.place(jnp.concatenate([jnp.zeros(task.num_hidden), position]), qvel)


def is_terminal(task: Task, model: mjx.Model, obs: jax.Array) -> jax.Array:
    """obs f32[O] -> bool[]: whether the task ends when a step leads to `obs`.

    Clipped speeds are taken as observed. Only one bound is on something that observations hide: hopper's bound of 100
    on speeds, which no dataset comes near.
    """
    num_positions = model.init_qpos.size - task.num_hidden
    qpos = jnp.concatenate([jnp.zeros(task.num_hidden), obs[:num_positions]])
    return ~task.is_alive(qpos, obs[num_positions:])


@functools.cache
def make(name: str) -> base.EvalEnv:
    """The task called `name`, one of TASKS. Raises UserError without the `mujoco` extra."""
    task = TASKS[name]
    model = mjx.load(task.file_name, task.frame_skip)
    return base.EvalEnv(
        name=name,
        obs_dim=model.init_qpos.size - task.num_hidden + model.num_velocities,
        action_dim=model.num_controls,
        horizon=HORIZON,
        reset=functools.partial(reset, task, model),
        step=functools.partial(step, task, model),
        from_obs=functools.partial(from_obs, task, model),
        is_terminal=functools.partial(is_terminal, task, model),
        simulator=lambda state: (state.qpos, state.qvel),
    )


for _name in TASKS:
    base.ENVS.add(_name, functools.partial(make, _name))
