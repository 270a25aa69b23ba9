"""Quirks of files in D4RL's format, and how they are read here.

Paths are those of D4RL's repository, numbers are those of its issues.

all of them
  - Only `env`, `reference` and `horizon` of `metadata` are read, which `export` writes. `infos` are not read.
  - Flags may be numbers; flags and rewards may be [N, 1] (d4rl/offline_env.py, get_dataset). The last row has no
    successor in the file. `episodes` uses it as a row, and as a transition if next_observations or its flag allow it.
gym-mujoco v2 (scripts/generation/mujoco/collect_data.py, convert_buffer.py)
  - Exactly 1 M rows: the last trajectory is cut without a flag. medium-expert joins two files. medium-replay misses
    some timeouts (#162). They are kept; `episodes.segments` cuts where next_observations is not the next row.
  - A step that is terminal and the 1000th is marked as timeout only. It is kept: the file does not say whether the MDP
    ended. The same holds everywhere: if both flags are set, the time limit wins.
  - The replay sets are float64: cast to float32.
d3rlpy's own files (MDPDataset.dump of version 1)
  - `episode_terminals` mark every end of an episode, `terminals` only those of the task. The others are timeouts.
  - ant: 84 of the 111 columns are contact forces, which MuJoCo 2.0 left at zero. If all are zero they are dropped,
    which gives the task of Ant-v4. Otherwise they are kept, and the file has no environment here.
files without next_observations whose `timeouts` are missing (gym-mujoco v0, kitchen; #34) or all zero
  - Rows are in order, and episodes end in terminals or after the task's limit. They are cut there, as by D4RL's reader
    (d4rl/__init__.py, qlearning_dataset), which takes a terminal at the limit for a timeout. (After each terminal the
    reader's counter is one ahead: it cuts the next episode a row early and joins its last row to the following episode.
    Here it does not.) Zeros are kept if no limit is known, and in maze2d, whose runs have no limit.
  - hopper-medium-expert-v0 joins other files than it says (#19); hopper v1's files were exchanged once (#76). Neither
    is detected here.
maze2d (scripts/generation/generate_maze2d_datasets.py, relabel_maze2d_rewards.py; d4rl/pointmaze/maze_model.py)
  - It is one continuous run without resets. `timeouts` mark a reached sub-goal (#85); `infos/goal` has its position.
    There are no next_observations.
  - After a sub-goal the generator steps the simulator but records the old observation again, with the next action. So
    the row after each timeout is stale. It is dropped, because its next row is two steps later.
  - Rewards were relabelled as a function of obs[t], but the environment pays for obs[t+1]: off by one. They are kept.
  - The generator writes the sub-goal mark under `terminals` too, but MazeEnv.step never ends: it is read as a timeout.
antmaze (d4rl/locomotion/generate_dataset.py, goal_reaching_env.py)
  - The goal of the rewards is in `infos/goal` only. In some files it differs between episodes.
  - A reward of 1 with `terminals` means that the ant is at the goal. The recording goes on, with a run of such rows
    (#199). Each is a terminal, as for D4RL's reader: they are pieces of one row, and only the first is in a window.
  - generate_dataset.py writes its time limit under `terminals` too. So in a file without timeouts, a terminal without
    reward is a timeout.
  - v0 has ends of episodes without any flag (#77, #146): the ant jumps in the next row. They are marked as timeouts.
"""

import numpy as np

from pgd_jax.core import logging
from pgd_jax.core.errors import UserError
from pgd_jax.data import catalogue
from pgd_jax.data.columns import Arrays

JUMP = 1.0  # metres: more in one step (0.1 s) is a reset, which puts the ant cells of 4 m away, and no ant's stride


def without_quirks(family: str, arrays: Arrays) -> Arrays:
    """The arrays of a file of D4RL's own, with the quirks of its task family removed."""
    if family == "maze2d" and (arrays["terminals"].any() or "timeouts" in arrays):
        return _without_stale_rows(_with_subgoals_as_timeouts(arrays))
    if family == "antmaze":
        return _with_ends_as_timeouts(arrays)
    return arrays


def _with_subgoals_as_timeouts(arrays: Arrays) -> Arrays:
    """maze2d: the task never ends, so every mark means "sub-goal reached" (maze_model.py, MazeEnv.step)."""
    marks = arrays["terminals"] | arrays.get("timeouts", False)
    return arrays | {"terminals": np.zeros_like(marks), "timeouts": marks}


def _without_stale_rows(arrays: Arrays) -> Arrays:
    """maze2d: drops each row that follows a timeout and repeats its observation (generate_maze2d_datasets.py, main)."""
    obs, keep = arrays["observations"], np.ones(len(arrays["observations"]), bool)
    keep[1:] = ~(arrays["timeouts"][:-1] & (obs[1:] == obs[:-1]).all(axis=1))
    return {key: array[keep] for key, array in arrays.items()}


def _with_ends_as_timeouts(arrays: Arrays) -> Arrays:
    """antmaze: time limits among the terminals become timeouts, and so do ends that only the ant's position shows."""
    terminals = arrays["terminals"]
    if "timeouts" in arrays:
        timeouts = arrays["timeouts"].copy()
    else:
        timeouts = terminals & (arrays["rewards"] <= 0.0)
        terminals = terminals & ~timeouts
    moved = np.abs(np.diff(arrays["observations"][:, :2], axis=0)).max(axis=1)
    timeouts[:-1] |= (moved > JUMP) & ~terminals[:-1]
    return arrays | {"terminals": terminals, "timeouts": timeouts}


def horizon(source: str, metadata: dict[str, str], task: catalogue.Task | None, env: str) -> int:
    """The time limit in steps, from the file or from its task; 0 if neither is known."""
    if "horizon" in metadata:
        try:
            horizon = float(metadata["horizon"])
        except ValueError:
            horizon = 0.0
        if horizon < 1.0 or not horizon.is_integer():
            raise UserError(f'{source}: metadata/horizon is "{metadata["horizon"]}"; expected a whole number of steps')
        return int(horizon)
    same = [other.horizon for other in catalogue.TASKS.values() if env and other.env == env]
    return task.horizon if task else max(same, default=0)


def with_timeouts(source: str, arrays: Arrays, horizon: int) -> Arrays:
    """Adds timeouts to a file without any: every `horizon` rows of an episode (d4rl/__init__.py, qlearning_dataset).

    A file with next_observations needs none: they show where an episode was cut. Raises UserError if nothing shows it.
    """
    terminals = arrays["terminals"]
    if "next_observations" in arrays or not horizon:
        if "next_observations" not in arrays and not terminals.any():
            raise UserError(
                f"{source}: nothing says where an episode ends: there are no timeouts, no next_observations, no "
                "terminal row, and no episode limit is known; add timeouts, or metadata/horizon"
            )
        if "next_observations" not in arrays:
            logging.warning(
                f"{source}: no timeouts, no next_observations, no known episode limit: cut at terminals alone"
            )
        return arrays | {"timeouts": np.zeros_like(terminals)}
    rows = np.arange(len(terminals))
    first = np.maximum.accumulate(np.where(np.concatenate([[True], terminals[:-1]]), rows, 0))
    timeouts = (rows - first) % horizon == horizon - 1
    return arrays | {"terminals": terminals & ~timeouts, "timeouts": timeouts}
