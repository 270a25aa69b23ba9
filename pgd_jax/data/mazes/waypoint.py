"""D4RL's waypoint controller for maze2d (Fu et al. 2020, arXiv 2004.07219, appendix), in-graph.

A shortest path on the grid gives waypoints, a PD law follows them. Differences to D4RL's code: a path starts in the
cell whose square holds the ball (D4RL rounds its coordinates, which near a wall can name the wall's cell), and a
waypoint is drawn when it becomes the current one rather than with the whole path, which is the same distribution.
"""

import functools
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from pgd_jax.envs import maze2d

Cells = TypeVar("Cells", np.ndarray, jax.Array)

P_GAIN, D_GAIN = 10.0, -1.0
REACH_DISTANCE = 0.1  # to a waypoint or to the goal
REACH_MOVE = 0.1  # the largest step between two calls at which either counts as reached
JITTER = 0.2  # a waypoint is its cell minus uniform(0, 0.2) per axis
MOVES = np.array([[0, 0], [0, -1], [0, 1], [-1, 0], [1, 0]])  # D4RL's order of actions, which settles ties


@struct.dataclass
class ControllerState:
    """Cells are flat indices x * H + y of the layout's grid."""

    goal: jax.Array  # i32[] cell
    cell: jax.Array  # i32[] cell of the current waypoint
    waypoint: jax.Array  # f32[2]
    previous: jax.Array  # f32[2] position at the last call


def _distances(layout: str, goal: np.ndarray) -> np.ndarray:
    """f64[W, H]: moves from each cell to `goal` i32[2] by breadth-first search; inf where there is no way."""
    wall = maze2d.is_wall(layout)
    distance = np.full(wall.shape, np.inf)
    distance[tuple(goal)] = 0.0
    frontier = [tuple(goal)]
    for cell in frontier:
        for move in MOVES[1:]:
            neighbour = tuple(cell + move)
            if not wall[neighbour] and np.isinf(distance[neighbour]):
                distance[neighbour] = distance[cell] + 1.0
                frontier.append(neighbour)
    return distance


@functools.cache
def next_cell(layout: str) -> np.ndarray:
    """i32[goal, cell] -> cell: the first move, in D4RL's order, of a shortest path; a wall's cell stays put.

    D4RL takes the argmax of Q-values, which is the first action whose successor is nearest to the goal.
    """
    height = maze2d.is_wall(layout).shape[1]
    table = np.tile(np.arange(maze2d.is_wall(layout).size, dtype=np.int32), (maze2d.is_wall(layout).size, 1))
    for goal in maze2d.free_cells(layout):
        distance = _distances(layout, goal)
        for cell in maze2d.free_cells(layout):
            successors = cell + MOVES
            best = successors[np.argmin([distance[tuple(successor)] for successor in successors])]
            table[flat(goal, height), flat(cell, height)] = flat(best, height)
    return table


def flat(cell: Cells, height: int) -> Cells:
    """cell [..., 2] -> its index [...] in a grid of `height` columns."""
    return cell[..., 0] * height + cell[..., 1]


def _place(key: jax.Array, layout: str, cell: jax.Array, goal: jax.Array) -> jax.Array:
    """The waypoint f32[2] of flat `cell`: jittered, except the goal's own."""
    height = maze2d.is_wall(layout).shape[1]
    centre = jnp.stack([cell // height, cell % height]).astype(jnp.float32)
    return centre - jnp.where(cell == goal, 0.0, jax.random.uniform(key, (2,), maxval=JITTER))


def start(key: jax.Array, layout: str, position: jax.Array, goal: jax.Array) -> ControllerState:
    """A controller on its way from position f32[2] to the cell goal i32[2]."""
    height = maze2d.is_wall(layout).shape[1]
    here = maze2d.cell_of(position)
    goal = flat(goal, height)
    cell = jnp.asarray(next_cell(layout))[goal, flat(here, height)]
    # D4RL starts `previous` at the cell, not at the ball: nothing counts as reached at once unless they are close.
    return ControllerState(goal, cell, _place(key, layout, cell, goal), here.astype(jnp.float32))


def act(
    key: jax.Array, layout: str, state: ControllerState, obs: jax.Array
) -> tuple[jax.Array, jax.Array, ControllerState]:
    """obs f32[4] -> (action f32[2] in [-1, 1], bool[] whether the goal is reached, the next state)."""
    height = maze2d.is_wall(layout).shape[1]
    position, velocity = obs[:2], obs[2:]
    goal = jnp.stack([state.goal // height, state.goal % height]).astype(jnp.float32)
    slow = jnp.linalg.norm(state.previous - position) < REACH_MOVE
    reached = (jnp.linalg.norm(position - goal) < REACH_DISTANCE) & slow
    waypoint = jnp.where(reached, goal, state.waypoint)
    action = jnp.clip(P_GAIN * (waypoint - position) + D_GAIN * velocity, -1.0, 1.0)

    advance = ~reached & slow & (jnp.linalg.norm(position - waypoint) < REACH_DISTANCE)
    following = jnp.asarray(next_cell(layout))[state.goal, state.cell]
    cell = jnp.where(advance, following, state.cell)
    waypoint = jnp.where(advance, _place(key, layout, following, state.goal), state.waypoint)
    return action, reached, ControllerState(state.goal, cell, waypoint, position)
