"""Synthetic trajectories -> D4RL-format HDF5 files, which `sources.load` and any D4RL reader take."""

import pathlib
from typing import NamedTuple

import h5py
import jax
import numpy as np

from pgd_jax.data import codec as codecs
from pgd_jax.data import d4rl, fetch
from pgd_jax.errors import UserError
from pgd_jax.types import Codec, Transition


class Flat(NamedTuple):
    """Rows in time order, one episode after the other, environment space: what a D4RL file holds."""

    observations: np.ndarray  # f32[N, O]
    actions: np.ndarray  # f32[N, A] in [-1, 1]
    rewards: np.ndarray  # f32[N]
    next_observations: np.ndarray  # f32[N, O]; means nothing in a terminal row
    terminals: np.ndarray  # bool[N]
    timeouts: np.ndarray  # bool[N]


def flatten_windows(codec: Codec, transitions: Transition, valid: jax.Array) -> Flat:
    """Transitions [M, T] with obs in network space and valid bool[M, T] (of `codec.to_transitions`) -> Flat.

    Each window becomes one episode of its valid transitions; the last of them is a timeout unless it is terminal.
    """
    env = jax.device_get(codecs.to_environment_space(codec, transitions))
    keep = np.asarray(jax.device_get(valid))
    last = keep.copy()
    last[:, :-1] &= ~keep[:, 1:]
    terminal = env.terminal > codecs.TERMINAL_THRESHOLD
    fields = (env.obs, env.action, env.reward, env.next_obs, terminal, last & ~terminal)
    return Flat(*(field[keep] for field in fields))


def write_hdf5(
    path: str | pathlib.Path,
    observations: np.ndarray,
    actions: np.ndarray,
    rewards: np.ndarray,
    next_observations: np.ndarray,
    terminals: np.ndarray,
    timeouts: np.ndarray,
    metadata: dict[str, str],
) -> None:
    """Writes Flat arrays and `metadata/<key>` strings ("env" and "reference" are read back by `sources.load`).

    Raises UserError, writing nothing, where `path` exists or the arrays would not load back (see `d4rl.check`).
    """
    path = pathlib.Path(path)
    if path.exists():
        raise UserError(f"{path} exists already; choose another name or remove it first")
    flat = Flat(observations, actions, rewards, next_observations, terminals, timeouts)
    arrays = d4rl.check(f"what was to be written to {path}", flat._asdict())
    with fetch.replacing(path) as temporary, h5py.File(temporary, "w") as file:
        for key, array in arrays.items():
            file.create_dataset(key, data=array)
        for key, text in metadata.items():
            file[f"metadata/{key}"] = text
