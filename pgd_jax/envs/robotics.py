"""D4RL's tasks without an in-graph version, on the host: adroit, antmaze and kitchen.

Adroit (Rajeswaran et al. 2018, arXiv 1709.10087) is gymnasium-robotics' `AdroitHand*-v1` with dense rewards. Its models
equal D4RL's, number for number. Two differences from d4rl 1.1 (`hand_manipulation_suite/*_v0.py`) are corrected here:

- hammer, door, relocate: gymnasium-robotics *adds* 0.1 times the distance of palm and object to the reward; D4RL
  subtracts it;
- pen: D4RL ends the episode when the pen is below 0.075, and after 100 steps, not 200.

One known difference remains: MuJoCo 3 instead of 2.0/2.1. 100 episodes of a random policy agree with D4RL's reference
scores: -275.0 +- 0.6 in hammer (D4RL: -274.9), -56.5 +- 0.1 in door (-56.5), -6.0 +- 0.7 in relocate (-6.4), 61 +- 21
in pen (96).
"""

import contextlib
import functools
import importlib
import io
from types import ModuleType
from typing import Any

import gymnasium
import numpy as np

from pgd_jax.envs.gymnasium import add

# Parts of the observation: palm minus object, or the positions of both.
HAMMER_PALM, HAMMER_OBJECT = slice(33, 36), slice(36, 39)
DOOR_OFFSET, RELOCATE_OFFSET = slice(35, 38), slice(30, 33)
PEN_HEIGHT, FALLEN = 26, 0.075
ROBOTICS = ("mujoco", "imageio", "gymnasium_robotics")


class ChargedDistance(gymnasium.Wrapper):
    """Subtracts 0.2 times the distance of palm and object: 0.1 that was added, and 0.1 that D4RL subtracts."""

    def __init__(self, env: gymnasium.Env, task: str):
        super().__init__(env)
        self._task = task

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        obs, reward, terminated, truncated, info = self.env.step(action)
        if self._task == "hammer":
            offset = obs[HAMMER_PALM] - obs[HAMMER_OBJECT]
        else:
            offset = obs[DOOR_OFFSET if self._task == "door" else RELOCATE_OFFSET]
        return obs, float(reward) - 0.2 * float(np.linalg.norm(offset)), terminated, truncated, info


class EndsOnFall(gymnasium.Wrapper):
    """Ends the episode when the pen has fallen out of the hand."""

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        obs, reward, _, truncated, info = self.env.step(action)
        return obs, float(reward), bool(obs[PEN_HEIGHT] < FALLEN), truncated, info


def _import(module: str) -> ModuleType:
    """Imports `module` without gymnasium-robotics' notice about the rewards, which `ChargedDistance` corrects."""
    with contextlib.redirect_stderr(io.StringIO()):
        return importlib.import_module(module)


def _adroit(task: str) -> gymnasium.Env:
    module = _import(f"gymnasium_robotics.envs.adroit_hand.adroit_{task}")
    env = getattr(module, f"AdroitHand{task.capitalize()}Env")(reward_type="dense")
    return EndsOnFall(env) if task == "pen" else ChargedDistance(env, task)


def _antmaze(maze: str) -> gymnasium.Env:
    return _import("pgd_jax.envs.antmaze").make(maze)


def _kitchen(task: str) -> gymnasium.Env:
    return _import("pgd_jax.envs.kitchen").make(task)


for _task, _obs_dim, _action_dim, _horizon in (
    ("pen", 45, 24, 100), ("hammer", 46, 26, 200), ("door", 39, 28, 200), ("relocate", 39, 30, 200),
):  # fmt: skip
    _make = functools.partial(_adroit, _task)
    add(_task, _obs_dim, _action_dim, _horizon, _make, *ROBOTICS, extra="robotics", has_success=True)
for _maze, _horizon in (("umaze", 700), ("medium", 1000), ("large", 1000)):
    _make = functools.partial(_antmaze, _maze)
    add(f"antmaze-{_maze}", 29, 8, _horizon, _make, "mujoco", "imageio", extra="mujoco", has_success=True)
for _variant in ("complete", "partial", "mixed"):
    _make = functools.partial(_kitchen, _variant)
    add(f"kitchen-{_variant}", 60, 9, 280, _make, *ROBOTICS, extra="robotics", has_success=True)
