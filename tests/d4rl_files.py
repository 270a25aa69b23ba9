"""Small files in D4RL's layout, written by hand."""

import pathlib
from collections.abc import Sequence

import h5py
import numpy as np


def content(num_rows: int = 6, obs_dim: int = 2, action_dim: int = 1, **changes) -> dict[str, np.ndarray]:
    """Arrays of a file by key: observations count upwards, row 3 is terminal, no timeouts; None removes a key."""
    arrays = {
        "observations": np.arange(float(obs_dim * num_rows)).reshape(num_rows, obs_dim),
        "actions": np.linspace(-1, 1, num_rows * action_dim).reshape(num_rows, action_dim),
        "rewards": np.arange(num_rows, dtype=np.float32),
        "terminals": np.arange(num_rows) == 3,
    }
    return {key: array for key, array in (arrays | changes).items() if array is not None}


def write(path: pathlib.Path, arrays: dict[str, np.ndarray], **storage) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for key, array in arrays.items():
            file.create_dataset(key, data=array, **storage)
    return str(path)


def pendulum_like(lengths: Sequence[int] = (150,) * 20, **changes) -> dict[str, np.ndarray]:
    """Episodes of a random walk of 3 and 1 columns, float32; each ends in a timeout. None removes a key."""
    generator, num_rows = np.random.default_rng(0), sum(lengths)
    obs = np.concatenate([np.cumsum(generator.normal(size=(length + 1, 3)), axis=0) for length in lengths])
    stops = np.cumsum(np.asarray(lengths) + 1) - 1  # of the walks, which have a row more than the episodes
    last = np.zeros(num_rows + len(lengths), bool)
    last[stops] = True
    arrays = {
        "observations": obs[~last],
        "actions": np.tanh(generator.normal(size=(num_rows, 1))),
        "rewards": generator.normal(size=num_rows),
        "next_observations": obs[np.flatnonzero(~last) + 1],
    }
    arrays = {key: array.astype(np.float32) for key, array in arrays.items()}
    arrays |= {"terminals": np.zeros(num_rows, bool), "timeouts": np.isin(np.arange(num_rows), np.cumsum(lengths) - 1)}
    return {key: array for key, array in (arrays | changes).items() if array is not None}
