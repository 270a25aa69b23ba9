"""The output of a loader: numpy arrays on the host. It knows nothing of diffusion."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from pgd_jax.core.registry import Registry

# next_observations[t] and observations[t+1] are the same number stored twice. Float32 rounding changes it by 1e-7
# relative, far below this tolerance. A reset changes some column far more (MuJoCo's reset noise alone: 5e-3 to 1e-1).
NEXT_TOLERANCE = 1e-5


class Reading(NamedTuple):
    """How a dataset is read. The fields are those of the configs that name a dataset."""

    max_rows: int = 0  # number of rows to read, from the first on; 0: all rows
    next_tolerance: float = 0.0  # see RawDataset; 0: by the file's precision; -1: next_observations end no episode
    outliers: str = "keep"  # see outliers.py
    action_bounds: str = ""  # see core/action_bounds.py

    @classmethod
    def of(cls, config: Any) -> "Reading":
        """The fields of a DataConfig or an AgentConfig."""
        return cls(config.max_rows, config.next_tolerance, config.outliers, config.action_bounds)


@dataclasses.dataclass(frozen=True)
class RawDataset:
    """Rows of offline experience in time order, environment space, checked by its loader.

    `terminals`: the MDP ended after this row. `timeouts`: the recording was cut after this row.
    """

    name: str  # "maze2d-umaze-v1", or a file's stem
    env: str  # name of the environment that evaluates this task; "" if there is none
    reference: str  # D4RL name whose reference scores apply; "" if none do
    observations: np.ndarray  # f32[N, O]
    actions: np.ndarray  # f32[N, A] in [-1, 1]
    rewards: np.ndarray  # f32[N]
    next_observations: np.ndarray | None  # f32[N, O]; None if the file has none
    terminals: np.ndarray  # bool[N]
    timeouts: np.ndarray  # bool[N]
    # Largest difference of next_observations and the next row, relative to 1 + |value|, within an episode; -1: any.
    next_tolerance: float = NEXT_TOLERANCE
    action_bounds: str = ""  # what -1 and 1 are in the file's own units (core/action_bounds.py); "": -1 and 1


# Built-in datasets: name -> () -> RawDataset. D4RL names and file paths are resolved by `loading.load`.
DATASETS: Registry[Callable[[], RawDataset]] = Registry("dataset")
