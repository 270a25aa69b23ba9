"""D4RL's antmaze on the host: an ant among boxes with a reward at a goal (Fu et al. 2020, arXiv 2004.07219).

The task is that of d4rl 1.1 (`locomotion/{maze_env,ant,goal_reaching_env}.py`, `assets/ant.xml`), version "v2". The
model is Gymnasium's ant with D4RL's changes: time steps of 0.02 s (an environment step takes 0.1 s, not 0.05 s), motors
of 30 instead of 150, softer contacts, and walls. The AntMaze of gymnasium-robotics is a different task: it has
Gymnasium's motors and time step, mazes centred at 0 with y flipped, and a goal radius of 0.45.

Observations f32[29] are the simulator's position and velocity, with x and y; the start is at (0, 0). Each episode has
its own goal, in the goal's cell or just beyond it (0 to 1.5 from the centre, in x and in y). The goal is not observed.
Within 0.5 of the goal the reward is 1 and the episode ends. A fall does not end it.

Known difference: MuJoCo 3 instead of 2.0/2.1. A contact's margin was the larger of its two geoms' margins; now it is
their sum.
"""

import functools
from typing import Any, NamedTuple

import gymnasium
import mujoco
import numpy as np
from gymnasium import spaces
from gymnasium.envs.mujoco import mujoco_env

# 1 is a wall, r the start, g the goal; rows along y, columns along x.
MAZES = {
    "umaze": ("11111", "1r001", "11101", "1g001", "11111"),
    "medium": ("11111111", "1r011001", "10010001", "11000111", "10010001", "10100101", "100010g1", "11111111"),
    "large": (
        "111111111111", "1r0001000001", "101101010101", "100000010001", "101111011101",
        "100101000001", "110101010111", "100100010g01", "111111111111",
    ),
}  # fmt: skip
CELL = 4.0  # width of a cell
WALL_HEIGHT = 0.5 * CELL
TIME_STEP, FRAME_SKIP = 0.02, 5
TORQUE = 30.0
SOLVER_IMPEDANCE = (0.8, 0.8, 0.01)  # solimp of every geom
GOAL_RADIUS = 0.5
MAX_OFFSETS = (0.25 * CELL, 0.125 * CELL)  # the goal is off its cell's centre by the sum of two uniform offsets
RESET_NOISE = 0.1


class Layout(NamedTuple):
    """Coordinates with the start's centre at (0, 0)."""

    walls: np.ndarray  # f64[num_walls, 2] centres
    goal: np.ndarray  # f64[2] centre of the goal's cell


@functools.cache
def layout(maze: str) -> Layout:
    table = np.array([list(row) for row in MAZES[maze]])

    def centres(mark: str) -> np.ndarray:
        return CELL * (np.argwhere(table == mark) - np.argwhere(table == "r"))[:, ::-1].astype(np.float64)

    return Layout(centres("1"), centres("g")[0])


@functools.cache
def model(maze: str) -> mujoco.MjModel:
    """The compiled model. Nothing changes it, so all environments of a process share it."""
    spec = mujoco.MjSpec.from_file(mujoco_env.expand_model_path("ant.xml"))
    spec.option.timestep = TIME_STEP
    for centre in layout(maze).walls:
        spec.worldbody.add_geom(
            type=mujoco.mjtGeom.mjGEOM_BOX,
            pos=[*centre, WALL_HEIGHT / 2],
            size=[CELL / 2, CELL / 2, WALL_HEIGHT / 2],
            conaffinity=1,
        )
    for geom in spec.geoms:
        geom.solimp[:3] = SOLVER_IMPEDANCE
    for actuator in spec.actuators:
        actuator.gear[0] = TORQUE
    return spec.compile()


class AntMaze(mujoco_env.MujocoEnv):
    def __init__(self, maze: str):
        self._maze, self._goal = maze, np.zeros(2)
        super().__init__("ant.xml", FRAME_SKIP, spaces.Box(-np.inf, np.inf, (29,), np.float64))

    def _initialize_simulation(self) -> tuple[mujoco.MjModel, mujoco.MjData]:
        return model(self._maze), mujoco.MjData(model(self._maze))

    def reset_model(self) -> np.ndarray:
        offset = sum(self.np_random.uniform(0.0, limit, 2) for limit in MAX_OFFSETS)
        self._goal = np.maximum(layout(self._maze).goal + offset, 0.0)
        noise = self.np_random.uniform(-RESET_NOISE, RESET_NOISE, self.model.nq)
        self.set_state(self.init_qpos + noise, RESET_NOISE * self.np_random.standard_normal(self.model.nv))
        return self._get_obs()

    def step(self, action: np.ndarray) -> tuple[np.ndarray, Any, bool, bool, dict[str, Any]]:
        self.do_simulation(action, self.frame_skip)
        is_there = bool(np.linalg.norm(self.data.qpos[:2] - self._goal) <= GOAL_RADIUS)
        return self._get_obs(), float(is_there), is_there, False, {"success": is_there}

    def _get_obs(self) -> np.ndarray:
        return np.concatenate([self.data.qpos, self.data.qvel])


def make(maze: str) -> gymnasium.Env:
    return AntMaze(maze)
