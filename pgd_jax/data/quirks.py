"""What D4RL-format files hold that a reader would not guess, and what happens to it here.

Paths are of D4RL's repository, numbers of its issues.

all of them
  - Of `metadata` only `env`, `reference` and `horizon` are read, which `export` writes; `infos` are not read.
  - Flags may be numbers; flags and rewards may be [N, 1] (d4rl/offline_env.py, get_dataset). The last row has no
    successor in the file: `episodes` uses it as a row, and as a transition where next_observations or its flag allow.
gym-mujoco v2 (scripts/generation/mujoco/collect_data.py, convert_buffer.py)
  - Exactly 1 M rows: the last trajectory is cut without a flag. medium-expert joins two files. medium-replay misses
    some timeouts (#162). Kept as they are; `episodes.segments` cuts where next_observations is not the next row.
  - A step that is terminal and the 1000th is marked as timeout only. Kept: whether the MDP ended is not in the file.
    Likewise everywhere: where both flags are up, the time limit wins.
  - The replay sets are float64: cast to float32.
d3rlpy's own files (MDPDataset.dump of version 1)
  - `episode_terminals` mark every end of an episode, `terminals` those of the task: the others are timeouts.
  - ant: 84 of the 111 columns are contact forces, which MuJoCo 2.0 left at zero. Dropped where all are zero, which
    makes it the task of Ant-v4; otherwise kept, and the file has no environment here.
files without next_observations whose `timeouts` are missing (gym-mujoco v0, kitchen; #34) or all zero
  - Rows are in order, episodes end in terminals or after the task's limit: cut there, as by D4RL's reader
    (d4rl/__init__.py, qlearning_dataset), which takes a terminal at the limit for a time-out. (Its counter is one ahead
    after each terminal, so that it cuts the next episode a row early and joins its last row to the one after; here it
    is not.) Zeros are taken as they are where no limit is known, and in maze2d, whose runs have no limit.
  - hopper-medium-expert-v0 joins other files than it says (#19), hopper v1's were exchanged once (#76): not seen here.
maze2d (scripts/generation/generate_maze2d_datasets.py, relabel_maze2d_rewards.py; d4rl/pointmaze/maze_model.py)
  - One continuous run without resets; `timeouts` mark a reached sub-goal (#85), whose place `infos/goal` holds. No
    next_observations.
  - After a sub-goal the generator steps the simulator but records the old observation once more, with the next action:
    the row after each timeout is stale. Dropped, as its next row is two steps on.
  - Rewards were relabelled as a function of obs[t], while the environment pays for obs[t+1]: off by one. Kept.
  - The generator itself writes the sub-goal mark under `terminals`, and MazeEnv.step never ends: read as timeouts.
antmaze (d4rl/locomotion/generate_dataset.py, goal_reaching_env.py)
  - The goal that the rewards are about is in `infos/goal` alone, and differs between episodes of some files.
  - A reward of 1 with `terminals` says that the ant is at the goal; the recording goes on, with a run of such rows
    (#199). Each is a terminal, as for D4RL's reader: pieces of one row, of which only the first belongs to a window.
  - generate_dataset.py writes its time limit under `terminals` too: where there are no timeouts, a terminal without
    reward is one.
  - v0 has ends of episodes without any flag (#77, #146): the ant is elsewhere in the next row. Marked as timeouts.
"""

import numpy as np

from pgd_jax.core import logging
from pgd_jax.core.errors import UserError
from pgd_jax.data import catalogue
from pgd_jax.data.columns import Arrays

JUMP = 1.0  # metres: more in one step (0.1 s) is a reset, which puts the ant cells of 4 m away, and no ant's stride


def without_quirks(family: str, arrays: Arrays) -> Arrays:
    """What D4RL's own files say in other words than they seem to."""
    if family == "maze2d" and (arrays["terminals"].any() or "timeouts" in arrays):
        return _without_stale_rows(_with_subgoals_as_timeouts(arrays))
    if family == "antmaze":
        return _with_ends_as_timeouts(arrays)
    return arrays


def _with_subgoals_as_timeouts(arrays: Arrays) -> Arrays:
    """maze2d: the task never ends, so whatever mark there is says "sub-goal reached" (maze_model.py, MazeEnv.step)."""
    marks = arrays["terminals"] | arrays.get("timeouts", False)
    return arrays | {"terminals": np.zeros_like(marks), "timeouts": marks}


def _without_stale_rows(arrays: Arrays) -> Arrays:
    """maze2d: drops each row that follows a timeout and repeats its observation (generate_maze2d_datasets.py, main)."""
    obs, keep = arrays["observations"], np.ones(len(arrays["observations"]), bool)
    keep[1:] = ~(arrays["timeouts"][:-1] & (obs[1:] == obs[:-1]).all(axis=1))
    return {key: array[keep] for key, array in arrays.items()}


def _with_ends_as_timeouts(arrays: Arrays) -> Arrays:
    """antmaze: time limits among the terminals, and ends that only the ant's place shows, become timeouts."""
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
    """Steps of an episode, by what the file says or by its task; 0 where neither is known."""
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
    """Timeouts for a file without: every `horizon` rows of an episode (d4rl/__init__.py, qlearning_dataset).

    With next_observations none are needed: they show where an episode was cut. Raises UserError where nothing does.
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
