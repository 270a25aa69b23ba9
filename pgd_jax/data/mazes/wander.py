"""Maze2d's datasets by D4RL's recipe (arXiv 2004.07219; scripts/generation/generate_maze2d_datasets.py with noise).

The waypoint controller goes to random cells, its actions plus N(0, 0.5^2) are clipped to [-1, 1]; a row is a timeout
where the controller reports its goal as reached, or after `horizon` steps without; a new goal follows, the ball moves
on.
Differences to D4RL's files, all wanted:

- next_observations are there, and no row is a stale repeat of the one before;
- the reward is that of the transition, by the new observation and the task's own target (D4RL's is of obs[t]);
- many streams of 2,000 rows one after the other, each from its own start and ending in a timeout, instead of one;
- a new goal is another cell than the last (D4RL's controller reports a repeated goal as reached after one step), at its
  centre (the controller rounds D4RL's jitter of the goal away).
"""

import functools

import jax
import jax.numpy as jnp
from flax import struct

from pgd_jax.data import export
from pgd_jax.data.mazes import waypoint
from pgd_jax.envs import maze2d

STREAM_LENGTH = 2_000
NOISE_STD = 0.5


@struct.dataclass
class _Wanderer:
    env_state: maze2d.EnvState
    obs: jax.Array  # f32[4]
    controller: waypoint.ControllerState
    goal: jax.Array  # i32[] index into the layout's free cells
    num_steps: jax.Array  # i32[] towards this goal


def _set_out(key: jax.Array, layout: str, env_state: maze2d.EnvState, obs: jax.Array, goal: jax.Array) -> _Wanderer:
    cells = jnp.asarray(maze2d.free_cells(layout))
    controller = waypoint.start(key, layout, obs[:2], cells[goal])
    return _Wanderer(env_state, obs, controller, goal, jnp.int32(0))


@functools.partial(jax.jit, static_argnums=(1, 2, 3, 4))
def collect(
    key: jax.Array, layout: str, reward: str, horizon: int, num_streams: int
) -> tuple[export.Flat, dict[str, jax.Array]]:
    """Arrays [num_streams, STREAM_LENGTH, ...] of the waypoint behaviour, and the infos that D4RL's maze2d files have.

    `horizon` is how many steps a sub-goal is given.
    """
    env, cells = maze2d.make(layout, reward), maze2d.free_cells(layout)
    num_cells = len(cells)

    def begin(key: jax.Array) -> _Wanderer:
        key_reset, key_goal, key_path = jax.random.split(key, 3)
        obs, env_state = env.reset(key_reset)
        goal = jax.random.randint(key_goal, (), 0, num_cells)
        return _set_out(key_path, layout, env_state, obs, goal)

    def step(wanderer: _Wanderer, key: jax.Array) -> tuple[_Wanderer, tuple[export.Flat, jax.Array]]:
        key_controller, key_noise, key_env, key_goal, key_path = jax.random.split(key, 5)
        action, reached, controller = waypoint.act(key_controller, layout, wanderer.controller, wanderer.obs)
        action = jnp.clip(action + NOISE_STD * jax.random.normal(key_noise, (2,)), -1.0, 1.0)
        obs, env_state, reward, terminal = env.step(key_env, wanderer.env_state, action)
        num_steps = wanderer.num_steps + 1
        timeout = reached | (num_steps >= horizon)
        other = (wanderer.goal + jax.random.randint(key_goal, (), 1, num_cells)) % num_cells
        elsewhere = _set_out(key_path, layout, env_state, obs, other)
        onwards = _Wanderer(env_state, obs, controller, wanderer.goal, num_steps)
        following = jax.tree.map(functools.partial(jnp.where, timeout), elsewhere, onwards)
        return following, (export.Flat(wanderer.obs, action, reward, obs, terminal, timeout), wanderer.goal)

    def stream(key: jax.Array) -> tuple[export.Flat, jax.Array]:
        key_begin, key_steps = jax.random.split(key)
        return jax.lax.scan(step, begin(key_begin), jax.random.split(key_steps, STREAM_LENGTH))[1]

    flat, goal = jax.vmap(stream)(jax.random.split(key, num_streams))
    position, velocity = jnp.split(flat.observations, 2, axis=-1)
    return flat, {"qpos": position, "qvel": velocity, "goal": jnp.asarray(cells, jnp.float32)[goal]}
