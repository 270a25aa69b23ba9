"""D4RL's maze2d (Fu et al. 2020, arXiv 2004.07219) in plain JAX.

Coordinates are those of the observation. The target of cell (i, j) is at (i, j), but the cell's square is centred on
(i - 0.2, j - 0.2), because D4RL puts the ball's body at 1.2 and the boxes at i + 1.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from pgd_jax.core.errors import UserError
from pgd_jax.core.registry import nearest
from pgd_jax.envs import base, point_mass


class Maze(NamedTuple):
    rows: tuple[str, ...]  # "#" wall, "O" free, "G" free and the task's target; row index is x, column index is y
    horizon: int


# A ball that hits a wall at full speed sinks 0.027 into it before the contact pushes it back.
DEEPEST_CONTACT = 0.03

MAZES = {
    "open": Maze(("#######", "#OOOOO#", "#OOGOO#", "#OOOOO#", "#######"), 150),
    "umaze": Maze(("#####", "#GOO#", "###O#", "#OOO#", "#####"), 300),
    "medium": Maze(
        (
            "########",
            "#OO##OO#",
            "#OO#OOO#",
            "##OOO###",
            "#OO#OOO#",
            "#O#OO#O#",
            "#OOO#OG#",
            "########",
        ),
        600,
    ),
    "large": Maze(
        (
            "############",
            "#OOOO#OOOOO#",
            "#O##O#O#O#O#",
            "#OOOOOO#OOO#",
            "#O####O###O#",
            "#OO#O#OOOOO#",
            "##O#O#O#O###",
            "#OO#OOO#OGO#",
            "############",
        ),
        800,
    ),
    "eval-umaze": Maze(("#####", "#OOG#", "#O###", "#OOO#", "#####"), 300),
    "eval-medium": Maze(
        (
            "########",
            "#OOOOOG#",
            "#O#O##O#",
            "#OOOO#O#",
            "###OO###",
            "#OOOOOO#",
            "#OO##OO#",
            "########",
        ),
        600,
    ),
    "eval-large": Maze(
        (
            "############",
            "#OO#OOO#OGO#",
            "##O###O#O#O#",
            "#OO#O#OOOOO#",
            "#O##O#OO##O#",
            "#OOOOOO#OOO#",
            "#O##O#O#O###",
            "#OOOO#OOOOO#",
            "############",
        ),
        800,
    ),
}
REWARDS = ("sparse", "dense")

WALL_OFFSET = 0.2  # cell centre minus wall centre, per axis
MAX_SPEED = 5.0  # per axis, imposed before each step
NEIGHBOURS = np.stack(np.meshgrid([-1, 0, 1], [-1, 0, 1], indexing="ij"), axis=-1).reshape(9, 2).astype(np.int32)


def maze(layout: str) -> Maze:
    """The maze called `layout`. Raises UserError with the nearest known name for an unknown one."""
    if layout not in MAZES:
        raise UserError(f'unknown maze2d layout "{layout}"{nearest(layout, MAZES)} (known: {", ".join(MAZES)})')
    return MAZES[layout]


@functools.cache
def is_wall(layout: str) -> np.ndarray:
    """bool[W, H]: which cells are walls."""
    return np.array([[tile == "#" for tile in row] for row in maze(layout).rows])


@functools.cache
def free_cells(layout: str) -> np.ndarray:
    """i32[K, 2]: the cells without a wall, in row-major order."""
    return np.argwhere(~is_wall(layout)).astype(np.int32)


def target(layout: str) -> np.ndarray:
    """f32[2]: the position of the task's reward, the cell marked G."""
    return np.argwhere([[tile == "G" for tile in row] for row in maze(layout).rows])[0].astype(np.float32)


def walls(layout: str) -> np.ndarray:
    """f32[num_walls, 4]: (x_min, y_min, x_max, y_max) of every wall in observation coordinates, for drawing."""
    centre = np.argwhere(is_wall(layout)) - WALL_OFFSET
    return np.concatenate([centre - point_mass.HALF_SIZE, centre + point_mass.HALF_SIZE], axis=-1).astype(np.float32)


def cell_of(xy: jax.Array) -> jax.Array:
    """xy f32[..., 2] in observation coordinates -> i32[..., 2], the cell whose square holds it."""
    return jnp.round(xy + WALL_OFFSET).astype(jnp.int32)


def wall_at(layout: str, cell: jax.Array, beyond: bool) -> jax.Array:
    """cell i32[..., 2] -> bool[...]: whether it is a wall. Outside the grid the result is `beyond`."""
    table = is_wall(layout)
    x, y = cell[..., 0], cell[..., 1]
    inside = (x >= 0) & (x < table.shape[0]) & (y >= 0) & (y < table.shape[1])
    index = jnp.clip(x, 0, table.shape[0] - 1) * table.shape[1] + jnp.clip(y, 0, table.shape[1] - 1)
    return jnp.where(inside, jnp.asarray(table.ravel())[index], beyond)


def in_wall(layout: str, xy: jax.Array) -> jax.Array:
    """xy f32[..., 2] -> bool[...]: whether the ball's centre is within a wall, or outside the maze."""
    return wall_at(layout, cell_of(xy), beyond=True)


@struct.dataclass
class EnvState:
    position: jax.Array  # f32[2]
    velocity: jax.Array  # f32[2], units per second


def observe(state: EnvState) -> jax.Array:
    """obs f32[4] = (x, y, vx, vy)"""
    return jnp.concatenate([state.position, state.velocity])


def reset(key: jax.Array, *, layout: str) -> tuple[jax.Array, EnvState]:
    key_cell, key_position, key_velocity = jax.random.split(key, 3)
    cell = jax.random.choice(key_cell, jnp.asarray(free_cells(layout))).astype(jnp.float32)
    position = cell + jax.random.uniform(key_position, (2,), minval=-0.1, maxval=0.1)
    state = EnvState(position, 0.1 * jax.random.normal(key_velocity, (2,)))
    return observe(state), state


def step(
    key: jax.Array,
    state: EnvState,
    action: jax.Array,
    *,
    layout: str,
    reward: str = "sparse",
    contact: point_mass.Contact = point_mass.Contact(),
) -> tuple[jax.Array, EnvState, jax.Array, jax.Array]:
    """EvalEnv.step: action f32[2] in [-1, 1]. The reward is that of the new observation. No state is terminal."""
    del key
    cells = cell_of(state.position)[None, :] + NEIGHBOURS
    centres, solid = cells.astype(jnp.float32) - WALL_OFFSET, wall_at(layout, cells, beyond=False)
    velocity = jnp.clip(state.velocity, -MAX_SPEED, MAX_SPEED)
    state = EnvState(*point_mass.step(state.position, velocity, jnp.clip(action, -1.0, 1.0), centres, solid, contact))
    return observe(state), state, reward_of(observe(state), layout=layout, reward=reward), jnp.bool_(False)


def reward_of(obs: jax.Array, *, layout: str, reward: str = "sparse") -> jax.Array:
    """obs f32[4] -> f32[]: 1 within 0.5 of the target ("sparse"), or exp(-distance) ("dense")."""
    distance = jnp.linalg.norm(obs[:2] - target(layout))
    return jnp.exp(-distance) if reward == "dense" else (distance <= 0.5).astype(jnp.float32)


def is_reachable(layout: str, obs: jax.Array) -> jax.Array:
    """obs f32[4] -> bool[]: whether the ball is no deeper in a wall than a contact at full speed allows."""
    boxes, position = jnp.asarray(walls(layout)), obs[:2]
    outside = jnp.maximum(jnp.maximum(boxes[:, :2] - position[None], position[None] - boxes[:, 2:]), 0.0)
    return point_mass.RADIUS - jnp.min(jnp.linalg.norm(outside, axis=-1)) <= DEEPEST_CONTACT


def from_obs(obs: jax.Array) -> EnvState:
    """obs f32[4] -> the state that shows it."""
    return EnvState(position=obs[:2], velocity=obs[2:])


def name_of(layout: str, reward: str) -> str:
    return f"maze2d-{layout}" + "-dense" * (reward == "dense")


@functools.cache
def make(layout: str, reward: str = "sparse") -> base.EvalEnv:
    """The maze called `layout` with a "sparse" or "dense" reward. Raises UserError for an unknown name."""
    if reward not in REWARDS:
        raise UserError(f'unknown maze2d reward "{reward}"{nearest(reward, REWARDS)} (known: {", ".join(REWARDS)})')
    task: dict[str, Any] = {"layout": layout, "reward": reward}
    return base.EvalEnv(
        name=name_of(layout, reward),
        obs_dim=4,
        action_dim=2,
        horizon=maze(layout).horizon,
        reset=functools.partial(reset, layout=layout),
        step=functools.partial(step, **task),
        from_obs=from_obs,
        is_reachable=functools.partial(is_reachable, layout),
        reward_of=functools.partial(reward_of, **task),
        is_terminal=lambda obs: jnp.bool_(False),
    )


for _layout in MAZES:
    for _reward in REWARDS:
        base.ENVS.add(name_of(_layout, _reward), functools.partial(make, _layout, _reward))
