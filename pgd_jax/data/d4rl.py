"""D4RL-format HDF5 files -> RawDataset: reading and checking them.

What the files hold that a reader would not guess, and what happens to it here. Paths are of D4RL's repository, numbers
of its issues.

all of them
  - Of `metadata` only `env`, `reference` and `horizon` are read, which `export` writes; `infos` are not read.
  - Flags may be numbers; flags and rewards may be [N, 1] (d4rl/offline_env.py, get_dataset). The last row has no
    successor in the file: `episodes` uses it as a row, and as a transition where next_observations or its flag allow.
gym-mujoco v2 (scripts/generation/mujoco/collect_data.py, convert_buffer.py)
  - Exactly 1 M rows: the last trajectory is cut without a flag. medium-expert joins two files. medium-replay misses
    some timeouts (#162). Kept as they are; `episodes.segments` cuts where next_observations is not the next row.
  - A step that is terminal and the 1000th is marked as timeout only. Kept: whether the MDP ended is not in the file.
  - The replay sets are float64: cast to float32.
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

import pathlib
import re
from typing import Any

import h5py
import numpy as np

from pgd_jax.core import logging, memory
from pgd_jax.core.errors import UserError
from pgd_jax.data import catalogue, columns, fetch, foreign
from pgd_jax.data.base import RawDataset
from pgd_jax.data.columns import Arrays
from pgd_jax.envs.base import ENVS, HOST_ENVS

ANT_DIM, ANT_DIM_WITH_FORCES = 27, 111
JUMP = 1.0  # metres: more in one step (0.1 s) is a reset, which puts the ant cells of 4 m away, and no ant's stride


def check(source: str, arrays: Arrays) -> Arrays:
    """The arrays of a dataset as f32[N, O], f32[N, A], f32[N] and bool[N], or one UserError about `source`.

    Takes rewards and flags of shape [N, 1], flags of any numeric type holding 0 and 1, and clips what rounding put
    outside [-1, 1] in actions.
    """
    arrays = {key: np.asarray(array) for key, array in arrays.items()}
    columns.agree(source, arrays)
    return {key: columns.convert(source, key, array) for key, array in arrays.items()}


def read(path: pathlib.Path, name: str, reference: str, max_rows: int = 0) -> RawDataset:
    """The dataset in file `path`, of its first `max_rows` rows (0: all); `reference` is its D4RL name, or "".

    Read block by block straight into float32. Raises UserError for a file that is not there, not whole, not a dataset,
    not of the environment that it names, or too large for the memory that is free.
    """
    _check_is_file(path)
    fetch.verify(path)
    try:
        with h5py.File(path, "r") as file:
            foreign.refuse(str(path), file)
            metadata = metadata_of(file)
            reference = metadata.get("reference", reference)
            task = catalogue.TASKS.get(reference)
            env = metadata.get("env", task.env if task else "")
            arrays, env = _arrays(str(path), file, env, max_rows)
    except (OSError, RuntimeError) as error:  # h5py's, for what HDF5 cannot make sense of
        raise UserError(f"{path} is damaged or cut short ({error}); fetch it again") from error
    if "env" not in metadata and task is not None and "next_observations" not in arrays:
        arrays = _without_quirks(task.family, arrays)
    if "timeouts" not in arrays:
        arrays = _with_timeouts(str(path), arrays, _horizon(str(path), metadata, task, env))
    elif "next_observations" not in arrays and not env.startswith("maze2d") and not arrays["timeouts"].any():
        if horizon := _horizon(str(path), metadata, task, env):
            arrays = _with_timeouts(str(path), arrays, horizon)
    _check_content(str(path), arrays)
    columns_: dict[str, Any] = {"next_observations": None} | arrays
    return RawDataset(name, env, reference, **columns_)


def _check_is_file(path: pathlib.Path) -> None:
    if path.is_dir():
        raise UserError(f"{path} is a directory; expected the path of a D4RL-format HDF5 file")
    if not path.is_file():
        raise UserError(f"no dataset file at {path}; expected the path of a D4RL-format HDF5 file")
    try:
        path.open("rb").close()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    if not h5py.is_hdf5(path):
        raise UserError(f"{path} is not an HDF5 file, or one that lost its head; expected one in D4RL's format")


def _arrays(source: str, file: h5py.File, env: str, max_rows: int) -> tuple[Arrays, str]:
    """(the arrays, the environment that they are of); nothing is read before shapes, types and memory are checked."""
    found = {key: _array(source, file, key) for key in columns.REQUIRED}
    found |= {key: _array(source, file, key) for key in columns.OPTIONAL if key in file}
    num_rows = columns.agree(source, found)
    num_rows = min(num_rows, max_rows) if max_rows else num_rows
    obs_dim, action_dim = found["observations"].shape[1], found["actions"].shape[1]
    if env == "ant" and obs_dim == ANT_DIM_WITH_FORCES:
        if _has_forces(found, num_rows):
            logging.info(
                f"{source}: its contact forces are not zero, so it is not of Ant-v4 and has no environment here"
            )
            env = ""
        else:
            obs_dim = ANT_DIM
    expected = catalogue.dims(env)
    if expected is not None and (obs_dim, action_dim) != expected:
        raise UserError(
            f'{source} has observations of {obs_dim} and actions of {action_dim}; its environment "{env}" has '
            f"{expected[0]} and {expected[1]}: rename the file, or name its own environment in metadata/env"
        )
    memory.require(source, num_rows, obs_dim, action_dim, "next_observations" in found)
    width = {"observations": obs_dim, "next_observations": obs_dim}
    return {key: columns.read(source, key, found[key], num_rows, width.get(key)) for key in found}, env


def _array(source: str, file: h5py.File, key: str) -> h5py.Dataset:
    link = file.get(key, getlink=True)
    try:
        found = file[key] if link is not None else None
    except (KeyError, OSError) as error:
        if isinstance(link, h5py.HardLink):
            raise OSError(f"{key}: {error}") from error
        place = link.filename if isinstance(link, h5py.ExternalLink) else link.path
        raise UserError(f"{source}: {key} is a link to {place}, which cannot be followed ({error})") from error
    if not isinstance(found, h5py.Dataset):
        kind = f'its "{key}" is a group, not an array' if found is not None else f'it has no array "{key}"'
        raise UserError(f"{source}: {kind}; it holds: {', '.join(sorted(file)) or 'nothing'}")
    return found


def _has_forces(found: dict[str, h5py.Dataset], num_rows: int) -> bool:
    arrays = [found[key] for key in ("observations", "next_observations") if key in found]
    return any(array[rows, ANT_DIM:].any() for array in arrays for rows in columns.blocks(array, num_rows))


def metadata_of(file: h5py.File) -> dict[str, str]:
    """`metadata/{env,reference,horizon}`, datasets or attributes, as `export` writes them, where present."""
    group, keys = file.get("metadata"), ("env", "reference", "horizon")
    if not isinstance(group, h5py.Group):
        return {}
    found = {key: group[key][()] for key in keys if isinstance(group.get(key), h5py.Dataset)}
    found |= {key: group.attrs[key] for key in keys if key in group.attrs}
    singles = {key: value.item() if getattr(value, "size", 0) == 1 else value for key, value in found.items()}
    texts = {key: v.decode(errors="replace") if isinstance(v, bytes) else str(v) for key, v in singles.items()}
    if match := re.fullmatch(r"([A-Z]\w*)-v\d+", texts.get("env", "")):  # "Hopper-v4", what other tools write there
        plain = match[1].lower()
        texts["env"] = next((name for name in (*ENVS, *HOST_ENVS) if name.replace("-", "") == plain), plain)
    return texts


def _without_quirks(family: str, arrays: Arrays) -> Arrays:
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


def _horizon(source: str, metadata: dict[str, str], task: catalogue.Task | None, env: str) -> int:
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


def _with_timeouts(source: str, arrays: Arrays, horizon: int) -> Arrays:
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
            logging.info(f"{source}: no timeouts, no next_observations, no known episode limit: cut at terminals alone")
        return arrays | {"timeouts": np.zeros_like(terminals)}
    rows = np.arange(len(terminals))
    first = np.maximum.accumulate(np.where(np.concatenate([[True], terminals[:-1]]), rows, 0))
    timeouts = (rows - first) % horizon == horizon - 1
    return arrays | {"terminals": terminals & ~timeouts, "timeouts": timeouts}


def _check_content(source: str, arrays: Arrays) -> None:
    """Raises UserError where no row follows another, or all observations are one."""
    if (arrays["terminals"] | arrays["timeouts"])[:-1].all():
        raise UserError(
            f"{source}: each of its {len(arrays['rewards'])} rows ends an episode, so no row follows another; "
            "terminals and timeouts must be 1 only in the last row of one"
        )
    observations = arrays["observations"]
    if (observations.max(axis=0) == observations.min(axis=0)).all():
        raise UserError(f"{source}: all {len(observations)} observations are the same; the recording went wrong")
