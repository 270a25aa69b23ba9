"""Gymnasium's own environments on the host, under the names of their in-graph versions.

The `-v4` tasks of MuJoCo are those of D4RL's v2 datasets. They have the observations, rewards, terminations, frame
skips, reset noise and time limits of the `gym` v2 tasks that D4RL used, on MuJoCo's maintained bindings. There are two
known differences. MuJoCo is version 3 instead of 2.0/2.1: contacts differ in rounding and in the meaning of `margin`.
`ant` has no contact forces and no contact cost: it has 27 observations, where D4RL's files have 111, of which 84 are
zero (a bug of MuJoCo 2.0's bindings).
"""

import contextlib
import functools
import importlib.util
from collections.abc import Callable, Iterator
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from pgd_jax.core.errors import UserError
from pgd_jax.envs import base


class Adapter(gymnasium.Wrapper):
    """Observations as f32[O]. Actions in [-1, 1] are clipped and scaled to the environment's box."""

    def __init__(self, env: gymnasium.Env):
        super().__init__(env)
        box: Any = env.action_space
        self._centre, self._half_range = (box.high + box.low) / 2.0, (box.high - box.low) / 2.0
        self.action_space = spaces.Box(-1.0, 1.0, box.shape, np.float32)
        self.observation_space = spaces.Box(-np.inf, np.inf, env.observation_space.shape, np.float32)

    def reset(self, **arguments: Any) -> tuple[np.ndarray, dict]:
        obs, info = self.env.reset(**arguments)
        return np.asarray(obs, np.float32), info

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        scaled = self._centre + self._half_range * np.clip(action, -1.0, 1.0)
        obs, reward, terminated, truncated, info = self.env.step(scaled)
        return np.asarray(obs, np.float32), float(reward), bool(terminated), bool(truncated), info


def require(name: str, *modules: str, extra: str) -> None:
    """Raises UserError if a package that environment `name` needs is missing."""
    for module in modules:
        if importlib.util.find_spec(module) is None:
            raise UserError(
                f'environment "{name}" needs the package "{module}", which is not installed: '
                f'pip install "pgd_jax[{extra}]", or set environment=none to train without evaluation'
            )


@contextlib.contextmanager
def _without_log() -> Iterator[None]:
    """Turns MuJoCo's warnings off while models load: MuJoCo 3.17 writes those on old files to ./MUJOCO_LOG.TXT."""
    import mujoco  # imported where it is needed: an extra

    before = mujoco.get_mju_user_warning()
    mujoco.set_mju_user_warning(lambda message: None)
    try:
        yield
    finally:
        mujoco.set_mju_user_warning(before)


def _build(make: Callable[[], gymnasium.Env], horizon: int, modules: tuple[str, ...]) -> gymnasium.Env:
    with _without_log() if "mujoco" in modules else contextlib.nullcontext():
        return gymnasium.wrappers.TimeLimit(Adapter(make()), horizon)


def add(
    name: str,
    obs_dim: int,
    action_dim: int,
    horizon: int,
    make: Callable[[], gymnasium.Env],
    *modules: str,
    extra: str,
    has_success: bool = False,
) -> None:
    """Registers the environment that `make` returns, adapted and truncated after `horizon` steps.

    It needs the packages `modules`, which the extra `extra` installs.
    """

    def checked() -> base.HostEnv:
        require(name, *modules, extra=extra)
        build = functools.partial(_build, make, horizon, modules)
        return base.HostEnv(name, obs_dim, action_dim, horizon, build, has_success)

    base.HOST_ENVS.add(name, checked)


def _make(task: str, settings: dict[str, Any]) -> gymnasium.Env:
    # By spec, not by name: a name warns of newer versions, but D4RL's datasets do not come from those.
    return gymnasium.make(gymnasium.spec(task), disable_env_checker=True, **settings).unwrapped


def _add(name: str, task: str, obs_dim: int, action_dim: int, horizon: int, *modules: str, **settings: Any) -> None:
    add(name, obs_dim, action_dim, horizon, functools.partial(_make, task, settings), *modules, extra="mujoco")


_add("hopper", "Hopper-v4", 11, 3, 1000, "mujoco", "imageio")
_add("halfcheetah", "HalfCheetah-v4", 17, 6, 1000, "mujoco", "imageio")
_add("walker2d", "Walker2d-v4", 17, 6, 1000, "mujoco", "imageio")
_add("ant", "Ant-v4", 27, 8, 1000, "mujoco", "imageio", use_contact_forces=False)
_add("pendulum", "Pendulum-v1", 3, 1, 200)
_add("mountain-car-continuous", "MountainCarContinuous-v0", 2, 1, 999)
