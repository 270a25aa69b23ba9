"""OGBench's single tasks on the host (Park et al. 2025, arXiv 2410.20092), from OGBench's own package.

Names are `ogbench:<environment>-singletask[-task1..5]-v0`; without a number it is the environment's default task.
Observations f32[O] are states, actions are in [-1, 1], and the horizon is the package's. An episode ends in the first
step that begins at the goal ("success" in its info). The reward of a step is that of the state in which it begins,
r(s), as in the datasets: 0 at the goal and -1 elsewhere, or minus the number of parts (cubes, buttons) that are not in
place.

Tasks from pixels (visual-*) and drawing tasks (powderworld) are not here: there is no image encoder. Nor is
humanoidmaze-teleport: it has no data, and the package (1.2.2) cannot build its model.
"""

import contextlib
import functools
import tempfile
import warnings
from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np

from pgd_jax.envs.gymnasium import add

PREFIX = "ogbench:"
TASK_NUMBERS = range(1, 6)

# Environment -> (observation, action) dimensions and steps of an episode.
ENVIRONMENTS = {
    "pointmaze-medium": (2, 2, 1000),
    "pointmaze-large": (2, 2, 1000),
    "pointmaze-giant": (2, 2, 1000),
    "pointmaze-teleport": (2, 2, 1000),
    "antmaze-medium": (29, 8, 1000),
    "antmaze-large": (29, 8, 1000),
    "antmaze-giant": (29, 8, 1000),
    "antmaze-teleport": (29, 8, 1000),
    "humanoidmaze-medium": (69, 21, 2000),
    "humanoidmaze-large": (69, 21, 2000),
    "humanoidmaze-giant": (69, 21, 4000),
    "antsoccer-arena": (42, 8, 1000),
    "antsoccer-medium": (42, 8, 1000),
    "cube-single": (28, 5, 200),
    "cube-double": (37, 5, 500),
    "cube-triple": (46, 5, 1000),
    "cube-quadruple": (55, 5, 1000),
    "cube-octuple": (91, 5, 1500),
    "scene": (40, 5, 750),
    "puzzle-3x3": (55, 5, 500),
    "puzzle-4x4": (83, 5, 500),
    "puzzle-4x5": (99, 5, 1000),
    "puzzle-4x6": (115, 5, 1000),
}


class Seeded(gymnasium.Wrapper):
    """Makes episodes depend on the seed of their reset only. The package draws from numpy's global generator.

    That generator's state is restored.
    """

    def __init__(self, env: gymnasium.Env):
        super().__init__(env)
        self._randomness = np.random.RandomState(0).get_state()
        with self._own_randomness():
            self.action_space, self.observation_space = env.action_space, env.observation_space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        with self._own_randomness():
            if seed is not None:
                np.random.seed(seed)
                self.env.action_space.seed(seed)  # a reset takes a few random steps
            return self.env.reset(seed=seed, options=options)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, Any, bool, bool, dict[str, Any]]:
        with self._own_randomness():  # teleports draw their destination
            return self.env.step(action)

    @contextlib.contextmanager
    def _own_randomness(self) -> Iterator[None]:
        before = np.random.get_state()
        np.random.set_state(self._randomness)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # arms make their action space in each step, from float64 bounds
                yield
        finally:
            self._randomness = np.random.get_state()
            np.random.set_state(before)


def make(name: str) -> gymnasium.Env:
    """The package's environment registered as `name` ("cube-single-singletask-v0"), without time limit."""
    import ogbench  # noqa: F401  registers; an extra

    with _temporary_files():
        return Seeded(gymnasium.make(gymnasium.spec(name), disable_env_checker=True).unwrapped)


@contextlib.contextmanager
def _temporary_files() -> Iterator[None]:
    """Removes the model files that mazes write while they are built."""
    before = tempfile.tempdir
    with tempfile.TemporaryDirectory() as folder:
        tempfile.tempdir = folder
        try:
            yield
        finally:
            tempfile.tempdir = before


for _environment, (_obs_dim, _action_dim, _horizon) in ENVIRONMENTS.items():
    for _task in ("singletask", *(f"singletask-task{number}" for number in TASK_NUMBERS)):
        _name = f"{_environment}-{_task}-v0"
        _make, _modules = functools.partial(make, _name), ("ogbench", "mujoco")
        add(PREFIX + _name, _obs_dim, _action_dim, _horizon, _make, *_modules, extra="ogbench", has_success=True)
