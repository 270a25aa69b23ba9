"""Small files in D4RL's layout, written by hand."""

import pathlib

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
