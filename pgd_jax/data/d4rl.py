"""D4RL-format HDF5 files -> RawDataset: reading and checking them. What they hold besides what they say: quirks.py."""

import pathlib
import re
from typing import Any

import h5py
import numpy as np

from pgd_jax.core import action_bounds, logging, memory
from pgd_jax.core.errors import Stopped, UserError
from pgd_jax.data import catalogue, columns, fetch, foreign, quirks
from pgd_jax.data.base import NEXT_TOLERANCE, RawDataset, Reading
from pgd_jax.data.columns import Arrays
from pgd_jax.envs.base import ENVS, HOST_ENVS

ANT_DIM, ANT_DIM_WITH_FORCES = 27, 111


def check(source: str, arrays: Arrays, bounds: str = action_bounds.UNIT) -> Arrays:
    """The arrays of a dataset as f32[N, O], f32[N, A], f32[N] and bool[N], or one UserError about `source`.

    Takes rewards and flags of shape [N, 1], flags of any numeric type holding 0 and 1. Actions within `bounds` are
    brought to [-1, 1], and what rounding put outside is clipped.
    """
    arrays = {key: np.asarray(array) for key, array in arrays.items()}
    columns.agree(source, arrays)
    converted = {}
    for key, array in arrays.items():
        rounding = columns.Rounding()
        converted[key] = columns.convert(source, key, array, bounds=bounds, rounding=rounding)
        rounding.check(source, key)
    return time_limits_first(source, converted)


def time_limits_first(source: str, arrays: Arrays) -> Arrays:
    """Where both flags are up, the time limit wins, as for D4RL's reader (d4rl/__init__.py, qlearning_dataset).

    Files that keep gym's old `done` as `terminals` raise both at each time limit. Says how many there are.
    """
    if (both := arrays["terminals"] & arrays.get("timeouts", np.False_)).any():
        logging.warning(
            f"{source}: {both.sum()} of {arrays['terminals'].sum()} terminals are timeouts too; as in D4RL, the time "
            "limit counts there. Where the task did end, do not set timeouts"
        )
    return arrays | {"terminals": arrays["terminals"] & ~both}


def read(path: pathlib.Path, name: str, reference: str, reading: Reading = Reading()) -> RawDataset:
    """The dataset in file `path`, as far as `reading` says; `reference` is its D4RL name, or "".

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
            bounds = _action_bounds(str(path), metadata, reading)
            arrays, env = _arrays(str(path), file, env, reading.max_rows, bounds)
            coarsest = max(_resolution(file[key]) for key in ("observations", "next_observations") if key in file)
    except (UserError, Stopped):
        raise
    except Exception as error:  # h5py's, of many kinds, for what HDF5 cannot make sense of
        raise UserError(f"{path} {_fault(str(error) or type(error).__name__)}") from error
    if "env" not in metadata and task is None:
        logging.info(f"{path}: no D4RL dataset by its name, and no metadata/env: taken as it is, and nothing judges it")
    arrays = time_limits_first(str(path), arrays)
    if "env" not in metadata and task is not None and "next_observations" not in arrays:
        arrays = quirks.without_quirks(task.family, arrays)
    if "timeouts" not in arrays:
        arrays = quirks.with_timeouts(str(path), arrays, quirks.horizon(str(path), metadata, task, env))
    elif "next_observations" not in arrays and not env.startswith("maze2d") and not arrays["timeouts"].any():
        if horizon := quirks.horizon(str(path), metadata, task, env):
            arrays = quirks.with_timeouts(str(path), arrays, horizon)
    check_content(str(path), arrays)
    columns_: dict[str, Any] = {"next_observations": None} | arrays
    tolerance = reading.next_tolerance or max(NEXT_TOLERANCE, 2.0 * coarsest)
    return RawDataset(name, env, reference, **columns_, next_tolerance=tolerance, action_bounds=bounds)


def _action_bounds(source: str, metadata: dict[str, str], reading: Reading) -> str:
    """What of the file's numbers is -1 and 1: as the file says, else as the setting does."""
    own = metadata.get("action_bounds", action_bounds.UNIT)
    if own and reading.action_bounds not in (action_bounds.UNIT, own):
        raise UserError(
            f'{source}: action_bounds="{reading.action_bounds}", but the file\'s metadata say "{own}"; leave them out'
        )
    return own or reading.action_bounds


def _fault(error: str) -> str:
    """What HDF5's words mean for a user."""
    if "unable to lock file" in error:
        return "is open for writing in another program; close it there, or copy the file and name the copy"
    if "plugin" in error or "not registered" in error or "not available" in error:
        return (
            f"is compressed in a way that HDF5 cannot read here ({error}); pip install hdf5plugin and give "
            "--import=hdf5plugin (import hdf5plugin in Python), or write the file again with gzip"
        )
    return f"is damaged or cut short ({error}); fetch it again"


def _resolution(array: h5py.Dataset) -> float:
    """The relative distance of neighbouring numbers in the type that an array is stored in."""
    return float(np.finfo(array.dtype).eps) if array.dtype.kind == "f" else 0.0


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


def _arrays(source: str, file: h5py.File, env: str, max_rows: int, bounds: str) -> tuple[Arrays, str]:
    """(the arrays, the environment that they are of); nothing is read before shapes, types and memory are checked."""
    found = {key: _array(source, file, key) for key in columns.REQUIRED}
    found |= {key: _array(source, file, key) for key in columns.OPTIONAL if key in file}
    if is_d3rlpy := "timeouts" not in found and "episode_terminals" in file:  # ends of episodes of either kind
        found["timeouts"] = _array(source, file, "episode_terminals")
    num_rows = columns.agree(source, found)
    num_rows = min(num_rows, max_rows) if max_rows else num_rows
    obs_dim, action_dim = found["observations"].shape[1], found["actions"].shape[1]
    if env == "ant" and obs_dim == ANT_DIM_WITH_FORCES:
        if _has_forces(found, num_rows):
            logging.warning(
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
    arrays = {key: columns.read(source, key, found[key], num_rows, width.get(key), bounds) for key in found}
    if is_d3rlpy:
        arrays["timeouts"] &= ~arrays["terminals"]
    return arrays, env


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
    """`metadata/{env,reference,horizon,action_bounds}`, datasets or attributes, as `export` writes them."""
    group, keys = file.get("metadata"), ("env", "reference", "horizon", "action_bounds")
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


def check_content(source: str, arrays: Arrays) -> None:
    """Raises UserError where no row follows another, or all observations are one."""
    if (arrays["terminals"] | arrays["timeouts"])[:-1].all():
        raise UserError(
            f"{source}: each of its {len(arrays['rewards'])} rows ends an episode, so no row follows another; "
            "terminals and timeouts must be 1 only in the last row of one"
        )
    observations = arrays["observations"]
    if (observations.max(axis=0) == observations.min(axis=0)).all():
        raise UserError(f"{source}: all {len(observations)} observations are the same; the recording went wrong")
