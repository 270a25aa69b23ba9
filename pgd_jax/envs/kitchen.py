"""D4RL's kitchen on the host: a Franka arm that opens, switches and moves things (Gupta et al. 2019, arXiv 1910.11956).

The task is that of d4rl 1.1 (`kitchen/`). The model is gymnasium-robotics': compiled, its numbers equal D4RL's, except
for a controller without effect. The `FrankaKitchen-v1` of gymnasium-robotics is not used: its observations and noise
differ, and it cannot be built with MuJoCo 3.17 and 4.0.

Observations f32[60] are 9 joints of the arm and 21 of the objects, both with D4RL's noise, and the goal, which is zero
for objects outside the task. A part is complete when it is within 0.3 of its goal (in the noisy observation). The
reward is the number of parts completed in this step; each part counts once. The episode ends when all are complete.

Known differences: MuJoCo 3 instead of 2.0/2.1; and the rewards in D4RL's files count all complete parts in every step.
"""

import functools
from typing import Any

import gymnasium
import mujoco
import numpy as np
from gymnasium import spaces
from gymnasium_robotics.envs.franka_kitchen import franka_env
from gymnasium_robotics.envs.franka_kitchen.kitchen_env import BONUS_THRESH, OBS_ELEMENT_GOALS, OBS_ELEMENT_INDICES

TASKS = {
    "complete": ("microwave", "kettle", "light switch", "slide cabinet"),
    "partial": ("microwave", "kettle", "light switch", "slide cabinet"),
    "mixed": ("microwave", "kettle", "bottom burner", "light switch"),
}
NUM_ARM, NUM_OBJECTS = 9, 21
# Amplitudes of uniform noise: a tenth of those in D4RL's robot/franka_config.xml.
NOISE = 0.1 * np.repeat(
    [0.1, 0.005, 0.0005, 0.005, 0.1, 0.005, 0.1, 0.005], [NUM_ARM, 2, 6, 3, 3, 3, 3, 1]
)  # f64[30]  # fmt: skip
START = np.array([
    1.48388023e-01, -1.76848573e+00, 1.84390296e+00, -2.47685760e+00, 2.60252026e-01, 7.12533105e-01,
    1.59515394e+00, 4.79267505e-02, 3.71350919e-02, -2.66279850e-04, -5.18043486e-05, 3.12877220e-05,
    -4.51199853e-05, -3.90842156e-06, -4.22629655e-05, 6.28065475e-05, 4.04984708e-05, 4.62730939e-04,
    -2.26906415e-04, -4.65501369e-04, -6.44129196e-03, -1.77048263e-03, 1.08009684e-03, -2.69397440e-01,
    3.50383255e-01, 1.61944683e+00, 1.00618764e+00, 4.06395120e-03, -6.62095997e-03, -2.68278933e-04,
])  # fmt: skip


def goal(task: str) -> np.ndarray:
    """The goal f64[30], the last part of the observation."""
    vector = np.zeros(NUM_ARM + NUM_OBJECTS)
    for part in TASKS[task]:
        vector[OBS_ELEMENT_INDICES[part]] = OBS_ELEMENT_GOALS[part]
    return vector


@functools.cache
def _model(path: str) -> mujoco.MjModel:
    """The compiled model, with 57 MB of meshes. Nothing changes it, so all environments of a process share it."""
    return mujoco.MjModel.from_xml_path(path)


class Kitchen(franka_env.FrankaRobot):
    """gymnasium-robotics' arm with D4RL's observation and reward. Its speed and position limits are D4RL's."""

    def __init__(self, task: str):
        super().__init__("../assets/kitchen_franka/kitchen_assets/kitchen_env_model.xml")
        self.init_qpos, self.init_qvel = START, np.zeros(self.model.nv)
        self.observation_space = spaces.Box(-np.inf, np.inf, (60,), np.float64)
        self._task, self._goal, self._missing = task, goal(task), set(TASKS[task])

    def _initialize_simulation(self) -> tuple[mujoco.MjModel, mujoco.MjData]:
        return _model(self.fullpath), mujoco.MjData(_model(self.fullpath))

    def reset_model(self) -> np.ndarray:
        self._missing = set(TASKS[self._task])
        return super().reset_model()

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        obs = super().step(action)[0]
        joints = obs[: len(START)]
        distances = {
            part: np.linalg.norm((joints - self._goal)[OBS_ELEMENT_INDICES[part]]) for part in sorted(self._missing)
        }
        done = {part for part, distance in distances.items() if distance < BONUS_THRESH}
        self._missing -= done
        return obs, float(len(done)), not self._missing, False, {"success": not self._missing}

    def _get_obs(self) -> np.ndarray:
        joints = self.data.qpos + NOISE * self.np_random.uniform(-1.0, 1.0, len(START))
        # The arm's controller starts from the last observed joints.
        self._last_robot_qpos = joints[:NUM_ARM]
        return np.concatenate([joints, self._goal])


def make(task: str) -> gymnasium.Env:
    return Kitchen(task)
