"""D4RL-format HDF5 files -> RawDataset: finding, fetching, reading and checking them.

What the files hold that a reader would not guess, and what happens to it here:

gym-mujoco v2 (D4RL scripts/generation/mujoco/collect_data.py, convert_buffer.py)
  - Exactly 1 M rows: the last trajectory is cut without a flag. medium-expert joins two files. medium-replay misses
    some timeouts. Kept as they are; `episodes.segments` cuts there by comparing next_observations with the next row.
  - A step that is terminal and the 1000th is marked as timeout only. Kept: whether the MDP ended is not in the file.
  - The replay sets are float64: cast to float32.
maze2d v1 (D4RL scripts/generation/generate_maze2d_datasets.py, relabel_maze2d_rewards.py; d4rl/pointmaze/maze_model.py)
  - One continuous run without resets; `timeouts` mark a reached sub-goal. No next_observations.
  - After a sub-goal the generator steps the simulator but records the old observation once more, with the next action:
    the row after each timeout is stale. Dropped, as its next row is two steps on.
  - Rewards were relabelled as a function of obs[t], while the environment pays for obs[t+1]: off by one. Kept.
  - The generator itself writes the sub-goal mark under `terminals`, and MazeEnv.step never ends: read as timeouts.
kitchen, antmaze, adroit
  - Flags may be float and, like rewards, [N, 1]; kitchen has no timeouts: taken as never, so that only terminals cut.
"""

import pathlib
import re

import h5py
import numpy as np

from pgd_jax.data import catalogue
from pgd_jax.data.base import RawDataset
from pgd_jax.errors import UserError

ACTION_TOLERANCE = 1e-4  # how far outside [-1, 1] rounding may have put an action

Arrays = dict[str, np.ndarray]


def read(path: pathlib.Path, name: str, reference: str) -> RawDataset:
    """The dataset in file `path`; `reference` is the D4RL name that it belongs to, or ""."""
    if not path.is_file():
        raise UserError(f"no dataset file at {path}; expected the path of a D4RL-format HDF5 file")
    if not h5py.is_hdf5(path):
        raise UserError(f"{path} is not an HDF5 file; expected one in D4RL's format")
    try:
        with h5py.File(path, "r") as file:
            arrays, metadata = _arrays(str(path), file), _metadata(file)
    except OSError as error:
        raise UserError(f"{path} is damaged or cut short ({error}); fetch it again") from error
    arrays = check(str(path), arrays)
    reference = metadata.get("reference", reference)
    env = metadata.get("env", catalogue.TASKS[reference].env if reference in catalogue.TASKS else "")
    is_d4rl_maze2d = "env" not in metadata and env.startswith("maze2d") and "next_observations" not in arrays
    if is_d4rl_maze2d:
        arrays = _without_stale_rows(_with_subgoals_as_timeouts(arrays))
    arrays = {"next_observations": None, "timeouts": np.zeros_like(arrays["terminals"]), **arrays}
    return RawDataset(name, env, reference, **arrays)


def _arrays(source: str, file: h5py.File) -> Arrays:
    required, optional = ("observations", "actions", "rewards", "terminals"), ("timeouts", "next_observations")
    for key in required:
        if not isinstance(file.get(key), h5py.Dataset):
            raise UserError(f'{source} has no array "{key}"; it holds: {", ".join(sorted(file)) or "nothing"}')
    return {key: file[key][()] for key in (*required, *optional) if key in file}


def _metadata(file: h5py.File) -> dict[str, str]:
    """`metadata/env` and `metadata/reference`, datasets or attributes, as `export` writes them, where present."""
    group = file.get("metadata", {})
    found = {key: group[key][()] for key in ("env", "reference") if key in group}
    found |= {key: group.attrs[key] for key in ("env", "reference") if group and key in group.attrs}
    texts = {key: value.decode() if isinstance(value, bytes) else str(value) for key, value in found.items()}
    if match := re.fullmatch(r"([A-Z]\w*)-v\d+", texts.get("env", "")):
        texts["env"] = match[1].lower()  # "Hopper-v4", what other tools write there
    return texts


def check(source: str, arrays: Arrays) -> Arrays:
    """The arrays of a dataset as f32[N, O], f32[N, A], f32[N] and bool[N], or one UserError about `source`.

    Takes rewards and flags of shape [N, 1], flags of any numeric type holding 0 and 1, and clips what rounding put
    outside [-1, 1] in actions.
    """
    checked = {key: _as_rows(source, key, array) for key, array in arrays.items()}
    num_rows = {key: len(array) for key, array in checked.items()}
    if len(set(num_rows.values())) > 1:
        raise UserError(f"{source}: arrays differ in length: {', '.join(f'{k} {n}' for k, n in num_rows.items())}")
    if num_rows["observations"] == 0:
        raise UserError(f"{source} is empty: its arrays have no rows")
    obs, next_obs = checked["observations"], checked.get("next_observations")
    if next_obs is not None and next_obs.shape != obs.shape:
        raise UserError(f"{source}: observations are {obs.shape}, next_observations {next_obs.shape}; they must agree")
    actions = checked["actions"]
    if (outside := np.abs(actions).max(axis=1) > 1.0 + ACTION_TOLERANCE).any():
        row = int(outside.argmax())
        raise UserError(f"{source}: actions must lie in [-1, 1]; row {row} holds {actions[row].tolist()}; rescale them")
    return checked | {"actions": np.clip(actions, -1.0, 1.0)}


def _as_rows(source: str, key: str, array: np.ndarray) -> np.ndarray:
    """One array with its right rank and type, finite."""
    rank = 2 if key in ("observations", "actions", "next_observations") else 1
    array = np.asarray(array)
    if rank == 1 and array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != rank or array.dtype.kind not in "fiub":
        expected = "numbers [N, dim]" if rank == 2 else "numbers [N] or [N, 1]"
        raise UserError(f"{source}: {key} has shape {array.shape} and type {array.dtype}; expected {expected}")
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes inf and is reported as such
        values = array.astype(np.float32)
    if not (finite := np.isfinite(values)).all():
        row = int(np.argwhere(~finite)[0, 0])
        raise UserError(f"{source}: {key} holds NaN or infinity, first in row {row}; remove or repair it")
    if key not in ("terminals", "timeouts"):
        return values
    if (wrong := (values != 0.0) & (values != 1.0)).any():
        row = int(wrong.argmax())
        raise UserError(f"{source}: {key} must be 0 or 1; row {row} holds {values[row]}")
    return values == 1.0


def _with_subgoals_as_timeouts(arrays: Arrays) -> Arrays:
    """maze2d: the task never ends, so whatever mark there is says "sub-goal reached" (maze_model.py, MazeEnv.step)."""
    marks = arrays["terminals"] | arrays.get("timeouts", False)
    return arrays | {"terminals": np.zeros_like(marks), "timeouts": marks}


def _without_stale_rows(arrays: Arrays) -> Arrays:
    """maze2d: drops each row that follows a timeout and repeats its observation (generate_maze2d_datasets.py, main)."""
    obs, keep = arrays["observations"], np.ones(len(arrays["observations"]), bool)
    keep[1:] = ~(arrays["timeouts"][:-1] & (obs[1:] == obs[:-1]).all(axis=1))
    return {key: array[keep] for key, array in arrays.items()}
