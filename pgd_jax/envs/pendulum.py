"""Gymnasium's Pendulum-v1 in plain JAX: swing a pole up with a motor that is too weak to lift it directly.

With theta measured from upright, g = 10, a pole of mass and length 1, and torque = 2 action:

    v' = v + (15 sin theta + 3 torque) dt, within +-8;    theta' = theta + v' dt                dt = 0.05 s
    reward = -(theta^2 + 0.1 v^2 + 0.001 torque^2)        before the step, theta in [-pi, pi]

The task never ends by itself; its time limit is 200 steps.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from pgd_jax.envs import base

MAX_SPEED, MAX_TORQUE, TIME_STEP = 8.0, 2.0, 0.05
HORIZON = 200


class State(NamedTuple):
    theta: jax.Array  # f32[] rad, 0 is upright
    speed: jax.Array  # f32[] rad/s


def observe(state: State) -> jax.Array:
    """State -> obs f32[3]: cos theta, sin theta, angular velocity."""
    return jnp.stack([jnp.cos(state.theta), jnp.sin(state.theta), state.speed])


def reset(key: jax.Array) -> tuple[jax.Array, State]:
    """key -> (obs f32[3], state): a uniform angle, and a uniform speed within +-1."""
    high = jnp.array([jnp.pi, 1.0], jnp.float32)
    theta, speed = jax.random.uniform(key, (2,), jnp.float32, -high, high)
    state = State(theta, speed)
    return observe(state), state


def step(key: jax.Array, state: State, action: jax.Array) -> tuple[jax.Array, State, jax.Array, jax.Array]:
    """action f32[1] in [-1, 1] -> (obs f32[3], state, reward f32[], terminal bool[]). The step is deterministic."""
    torque = MAX_TORQUE * jnp.clip(action[0], -1.0, 1.0)
    theta = (state.theta + jnp.pi) % (2.0 * jnp.pi) - jnp.pi
    reward = -(theta**2 + 0.1 * state.speed**2 + 0.001 * torque**2)
    speed = state.speed + (15.0 * jnp.sin(state.theta) + 3.0 * torque) * TIME_STEP
    speed = jnp.clip(speed, -MAX_SPEED, MAX_SPEED)
    state = State(state.theta + speed * TIME_STEP, speed)
    return observe(state), state, reward, jnp.bool_(False)


def from_obs(obs: jax.Array) -> State:
    """obs f32[3] -> the state that shows it. Cosine and sine need not have unit length."""
    return State(jnp.arctan2(obs[1], obs[0]), obs[2])


@functools.cache
def make() -> base.EvalEnv:
    return base.EvalEnv(
        name="pendulum",
        obs_dim=3,
        action_dim=1,
        horizon=HORIZON,
        reset=reset,
        step=step,
        from_obs=from_obs,
        is_terminal=lambda obs: jnp.bool_(False),
    )


base.ENVS.add("pendulum", make)
