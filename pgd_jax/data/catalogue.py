"""D4RL's tasks by name: file, reference scores, environment, episode limit (Fu et al. 2020, arXiv 2004.07219).

It has every name of gym-mujoco, maze2d, antmaze, kitchen and adroit. The rules follow the d4rl package's own tables
(d4rl 1.1: infos.py, and the `register` calls of gym_mujoco, pointmaze, locomotion, kitchen, hand_manipulation_suite);
tests compare every entry with them. The package itself is not needed.

- Some names are registered by D4RL but missing in infos.py. They are here too, with the scores of their registration:
  maze2d v0 (shorter episodes and other scores than v1), maze2d-eval and ant-random-expert-v0 (infos.py has their files,
  not their scores), antmaze v1 and antmaze-eval, adroit's human-longhorizon (the human files with a longer limit).
- D4RL stores a file under the last part of its address, without the folder. Two names share that part only if they
  share the file. The bullet, minigrid, flow and carla names are left out: read such a file by its path.
- The environment is "" if neither this library nor its host extras have the task: antmaze-eval has mazes of its own.
"""

import re
from typing import NamedTuple

import numpy as np

from pgd_jax.core.errors import UserError
from pgd_jax.core.registry import nearest

SERVER = "http://rail.eecs.berkeley.edu/datasets/offline_rl"

# Suffixes that a browser or a file manager adds to a name that exists: " (1)", "(2)", " copy", " - Copy", " copy 2".
COPY = re.compile(r"(?:\s*\(\d+\)|[ _-]+copy(?: \d+)?)$", re.IGNORECASE)

Scores = tuple[float, float]  # undiscounted episode returns that count as 0 (random) and 100 (expert)


class Task(NamedTuple):
    """One D4RL name."""

    name: str
    family: str
    path: str  # path of the file, below the server's or a mirror's address
    reference_scores: Scores
    env: str  # name in ENVS or HOST_ENVS; "" if there is no such environment
    horizon: int  # steps of an episode under D4RL's time limit

    @property
    def url(self) -> str:
        return f"{SERVER}/{self.path}"

    @property
    def file_name(self) -> str:
        return self.path.rsplit("/", 1)[-1]


# Environment -> (observation, action) dimensions as in its dataset. Ant's files add 84 columns of contact forces to the
# 27 here, all zero (see data/quirks.py).
DIMS = {
    "hopper": (11, 3),
    "halfcheetah": (17, 6),
    "walker2d": (17, 6),
    "ant": (27, 8),
    "maze2d": (4, 2),
    "antmaze": (29, 8),
    "kitchen": (60, 9),
    "pen": (45, 24),
    "hammer": (46, 26),
    "door": (39, 28),
    "relocate": (39, 30),
}

LOCOMOTION: dict[str, Scores] = {
    "hopper": (-20.272305, 3234.3),
    "halfcheetah": (-280.178953, 12135.0),
    "walker2d": (1.629008, 4592.3),
    "ant": (-325.6, 3879.7),
}
MAZE2D: dict[str, tuple[int, Scores]] = {
    "open-v0": (150, (0.01, 20.66)),
    "umaze-v0": (150, (0.94, 62.6)),
    "medium-v0": (250, (5.77, 85.14)),
    "large-v0": (600, (4.83, 191.99)),
    "umaze-v1": (300, (23.85, 161.86)),
    "medium-v1": (600, (13.13, 277.39)),
    "large-v1": (800, (6.7, 273.99)),
    "eval-umaze-v1": (300, (36.63, 141.4)),
    "eval-medium-v1": (600, (13.07, 204.93)),
    "eval-large-v1": (800, (16.4, 302.22)),
    "open-dense-v0": (150, (11.17817, 27.166538620695782)),
    "umaze-dense-v0": (150, (23.249793, 81.78995240126592)),
    "medium-dense-v0": (250, (19.477620, 96.03474232952358)),
    "large-dense-v0": (600, (27.388310, 215.09965671563742)),
    "umaze-dense-v1": (300, (68.537689, 193.66285642381482)),
    "medium-dense-v1": (600, (44.264742, 297.4552547777125)),
    "large-dense-v1": (800, (30.569041, 303.4857382709002)),
    "eval-umaze-dense-v1": (300, (56.95455, 178.21373133248397)),
    "eval-medium-dense-v1": (600, (42.28578, 235.5658957482388)),
    "eval-large-dense-v1": (800, (56.95455, 326.09647655082637)),
}
# Name without version -> (maze, has several starts, has several goals), which give the file names. In the names of the
# eval files of the medium and large mazes the two are swapped.
ANTMAZE = {
    "umaze": ("umaze", False, False),
    "umaze-diverse": ("umaze", True, True),
    "medium-play": ("medium", True, False),
    "medium-diverse": ("medium", True, True),
    "large-play": ("large", True, False),
    "large-diverse": ("large", True, True),
    "eval-umaze": ("umaze", True, False),
    "eval-umaze-diverse": ("umaze", True, True),
    "eval-medium-play": ("medium", True, True),
    "eval-medium-diverse": ("medium", True, False),
    "eval-large-play": ("large", True, True),
    "eval-large-diverse": ("large", True, False),
}
KITCHEN = {
    "complete": "mini_kitchen_microwave_kettle_light_slider",
    "partial": "kitchen_microwave_kettle_light_slider",
    "mixed": "kitchen_microwave_kettle_bottomburner_light",
}
ADROIT: dict[str, tuple[int, int, Scores]] = {  # horizon, that of human-longhorizon, scores
    "pen": (100, 200, (96.262799, 3076.8331017826877)),
    "hammer": (200, 600, (-274.856578, 12794.134825156867)),
    "door": (200, 300, (-56.512833, 2880.5693087298737)),
    "relocate": (200, 500, (-6.425911, 4233.877797728884)),
}


def _gym_mujoco() -> list[Task]:
    found = []
    for env, scores in LOCOMOTION.items():
        kinds = ["random", "medium", "expert", "medium-replay", "medium-expert"]
        for kind in kinds + ["random-expert"] * (env == "ant"):
            # The first replay files are called "mixed".
            stem = "walker_mixed" if (env, kind) == ("walker2d", "medium-replay") else f"{env}_{kind.replace('-', '_')}"
            path = f"gym_mujoco/{stem.replace('medium_replay', 'mixed')}.hdf5"
            found.append(Task(f"{env}-{kind}-v0", "gym-mujoco", path, scores, env, 1000))
        for version in ("v1", "v2"):
            for kind in [*kinds, "full-replay"]:
                path = f"gym_mujoco_{version}/{env}_{kind.replace('-', '_')}-{version}.hdf5"
                found.append(Task(f"{env}-{kind}-{version}", "gym-mujoco", path, scores, env, 1000))
    return found


def _maze2d() -> list[Task]:
    found = []
    for name, (horizon, scores) in MAZE2D.items():
        maze, version = name.rsplit("-", 1)
        stem = maze if maze.endswith("-dense") else f"{maze}-sparse"
        path = f"maze2d/maze2d-{stem}{'' if version == 'v0' else '-' + version}.hdf5"
        found.append(Task(f"maze2d-{name}", "maze2d", path, scores, f"maze2d-{maze}", horizon))
    return found


def _antmaze() -> list[Task]:
    first = {"umaze": "u-maze", "medium": "big-maze", "large": "hardest-maze"}  # names in the files of v0 and v2
    found = []
    for kind, (maze, starts, goals) in ANTMAZE.items():
        is_eval, rest = kind.startswith("eval-"), f"noisy_multistart_{starts}_multigoal_{goals}_sparse"
        paths = {
            "v0": f"ant_maze_new/Ant_maze_{maze + '_eval' if is_eval else first[maze]}_{rest}.hdf5",
            "v1": f"ant_maze_v1/Ant_maze_{maze}_{rest}.hdf5",
            "v2": f"ant_maze_v2/Ant_maze_{first[maze]}_{rest}_fixed.hdf5",
        }
        env, horizon = "" if is_eval else f"antmaze-{maze}", 700 if maze == "umaze" else 1000
        for version in ("v0",) if is_eval else ("v0", "v1", "v2"):
            found.append(Task(f"antmaze-{kind}-{version}", "antmaze", paths[version], (0.0, 1.0), env, horizon))
    return found


def _kitchen() -> list[Task]:
    return [
        Task(f"kitchen-{kind}-v0", "kitchen", f"kitchen/{stem}-v0.hdf5", (0.0, 4.0), f"kitchen-{kind}", 280)
        for kind, stem in KITCHEN.items()
    ]


def _adroit() -> list[Task]:
    stems = {"human": "{}-v0_demos_clipped", "cloned": "{}-demos-v0-bc-combined", "expert": "{}-v0_expert_clipped"}
    found = []
    for env, (horizon, long_horizon, scores) in ADROIT.items():
        for kind, stem in stems.items():
            paths = {"v0": f"hand_dapg/{stem.format(env)}.hdf5", "v1": f"hand_dapg_v1/{env}-{kind}-v1.hdf5"}
            for version, path in paths.items():
                found.append(Task(f"{env}-{kind}-{version}", "adroit", path, scores, env, horizon))
                if kind == "human":
                    name = f"{env}-human-longhorizon-{version}"
                    found.append(Task(name, "adroit", path, scores, env, long_horizon))
    return found


TASKS: dict[str, Task] = {
    task.name: task for task in [*_gym_mujoco(), *_maze2d(), *_antmaze(), *_kitchen(), *_adroit()]
}


def task(name: str) -> Task:
    """The task called `name`. Raises UserError with the nearest known name for an unknown one."""
    if name not in TASKS:
        raise UserError(f'unknown D4RL dataset "{name}"{nearest(name, TASKS)}')
    return TASKS[name]


def name_of_file(file_name: str) -> str:
    """The D4RL name whose file is called `file_name` ("hopper_medium-v2.hdf5" -> "hopper-medium-v2"), or "".

    The human files of adroit belong to two names: the result is the one with the ordinary episode limit. Changes by a
    browser or a file manager (".h5", " (1)", " copy") are ignored.
    """
    stem = COPY.sub("", re.sub(r"\.(hdf5|h5)$", "", file_name))
    if stem in TASKS:
        return stem
    return next((task.name for task in TASKS.values() if task.file_name == f"{stem}.hdf5"), "")


def dims(env: str) -> tuple[int, int] | None:
    """(O, A) of the datasets of environment `env`; None if D4RL has no dataset of it, also for ""."""
    return DIMS[env.split("-")[0]] if env and any(task.env == env for task in TASKS.values()) else None


def reference_scores(name: str) -> Scores | None:
    """(random, expert) undiscounted episode returns of D4RL dataset `name`; None for a name that is not D4RL's."""
    return TASKS[name].reference_scores if name in TASKS else None


def normalised_score(name: str, returns: float | np.ndarray) -> float | np.ndarray:
    """100 (R - R_random) / (R_expert - R_random): 0 is the random policy, 100 the expert (Fu et al. 2020, section 4).

    D4RL's own function gives the same number on a 0-1 scale. Raises UserError where `name` has no reference scores.
    """
    scores = reference_scores(name)
    if scores is None:
        raise UserError(
            f'no reference scores for "{name}"{nearest(name, TASKS)}; report plain returns for this dataset'
        )
    random, expert = scores
    return 100.0 * (returns - random) / (expert - random)
