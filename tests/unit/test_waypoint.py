import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pgd_jax.data.mazes import waypoint
from pgd_jax.envs import maze2d


def d4rl_moves(layout):
    """D4RL's planner as D4RL does it: 50 sweeps of Q-iteration (discount 0.99, reward in the goal), first argmax."""
    wall = maze2d.is_wall(layout)
    height, cells = wall.shape[1], maze2d.free_cells(layout)
    successor = np.zeros((wall.size, 5), int)
    for cell in cells:
        for index, move in enumerate([(0, 0), (0, -1), (0, 1), (-1, 0), (1, 0)]):
            new = cell if wall[tuple(cell + move)] else cell + move
            successor[cell[0] * height + cell[1], index] = new[0] * height + new[1]
    table = {}
    for goal in cells[:, 0] * height + cells[:, 1]:
        q = np.zeros((wall.size, 5))
        for _ in range(50):
            q = (np.arange(wall.size) == goal)[:, None] + 0.99 * q.max(axis=1)[successor]
        for cell in cells[:, 0] * height + cells[:, 1]:
            table[goal, cell] = successor[cell, np.argmax(q[cell])]
    return table


@pytest.mark.parametrize("layout", ["open", "umaze", "medium", "large"])
def test_plans_like_d4rl(layout):
    """The open room and the 2 x 2 blocks of the medium maze have ties, which the order of the moves settles."""
    found, expected = waypoint.next_cell(layout), d4rl_moves(layout)
    assert {pair: found[pair] for pair in expected} == expected


def state(cell, waypoint_at, previous, goal=(1, 1)):
    """A controller in the U-maze, whose grid has 5 columns."""
    cells = [jnp.int32(5 * x + y) for x, y in (goal, cell)]
    return waypoint.ControllerState(*cells, jnp.array(waypoint_at), jnp.array(previous))


def act(controller, obs, seed=0):
    return waypoint.act(jax.random.key(seed), "umaze", controller, jnp.array(obs))


def test_follows_a_waypoint():
    # At (1.02, 2.9), waypoint (0.97, 1.9) of cell (1, 2): 10 (-0.05, -1) - (0.1, -5) = (-0.6, -5), clipped.
    action, reached, after = act(state((1, 2), [0.97, 1.9], [1.02, 2.95]), [1.02, 2.9, 0.1, -5.0])
    np.testing.assert_allclose(action, [-0.6, -1.0], atol=1e-5)
    assert not reached and int(after.cell) == 5 * 1 + 2
    np.testing.assert_array_equal(after.waypoint, np.float32([0.97, 1.9]))
    np.testing.assert_array_equal(after.previous, np.float32([1.02, 2.9]))


def test_takes_the_next_waypoint_when_near_and_slow():
    # Within 0.1 of the waypoint of (1, 3); the way to (1, 1) goes on by (1, 2) - uniform(0, 0.2).
    obs = [0.95, 2.9, 0.0, 0.0]
    drawn = np.array([act(state((1, 3), [0.9, 2.9], [0.95, 2.9]), obs, seed)[2].waypoint for seed in range(20)])
    offset = np.array([1.0, 2.0]) - drawn
    assert offset.min() >= 0.0 and offset.max() <= 0.2 + 1e-6 and offset.std() > 0.03
    # After a jump of 0.1 or more, as from the cell's centre on the first call, nothing counts as reached.
    assert int(act(state((1, 3), [0.9, 2.9], [1.05, 2.95]), obs)[2].cell) == 5 * 1 + 3
    # The goal's own waypoint is its cell, without jitter.
    after = act(state((1, 2), [0.9, 1.9], [0.9, 1.9]), [0.9, 1.9, 0.0, 0.0])[2]
    np.testing.assert_array_equal(after.waypoint, [1.0, 1.0])


def test_reports_the_goal():
    near, slow, jumped = [1.05, 0.95, 0.0, 0.0], [1.04, 0.95], [1.2, 0.95]
    assert bool(act(state((1, 1), [1.0, 1.0], slow), near)[1])
    assert not bool(act(state((1, 1), [1.0, 1.0], jumped), near)[1])
    assert not bool(act(state((1, 1), [1.0, 1.0], [1.1, 0.95]), [1.1, 0.95, 0.0, 0.0])[1])


def test_starts_from_the_cell_that_holds_the_ball():
    # x = 0.45 is in cell 1, whose square begins at 0.3, though it rounds to the wall 0; towards (1, 3) by (1, 2).
    controller = waypoint.start(jax.random.key(0), "umaze", jnp.array([0.45, 1.0]), jnp.array([1, 3]))
    assert (int(controller.goal), int(controller.cell)) == (5 * 1 + 3, 5 * 1 + 2)
    np.testing.assert_array_equal(controller.previous, [1.0, 1.0])
