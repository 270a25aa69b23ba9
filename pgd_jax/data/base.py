"""What a loader gives: plain numpy arrays on the host, with no idea of diffusion."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from pgd_jax.core.registry import Registry

# next_observations[t] and observations[t+1] are the same number stored twice: what may differ is float32 rounding (1e-7
# relative), far below this, while a reset moves some column far above it (MuJoCo's reset noise alone is 5e-3 to 1e-1).
NEXT_TOLERANCE = 1e-5


class Reading(NamedTuple):
    """How much of a dataset is read, and what is taken for a fault in it: fields of the configs that name a dataset."""

    max_rows: int = 0  # the first ones; 0: all
    next_tolerance: float = 0.0  # see RawDataset; 0: by the precision of the file; -1: next_observations cut nothing
    outliers: str = "keep"  # see outliers.py
    action_bounds: str = ""  # see core/action_bounds.py

    @classmethod
    def of(cls, config: Any) -> "Reading":
        """The fields of a DataConfig or an AgentConfig."""
        return cls(config.max_rows, config.next_tolerance, config.outliers, config.action_bounds)


@dataclasses.dataclass(frozen=True)
class RawDataset:
    """Rows of offline experience in time order, environment space, checked by its loader.

    `terminals` says the MDP ended after this row; `timeouts` says the recording was cut after it.
    """

    name: str  # "maze2d-umaze-v1", or a file's stem
    env: str  # name of the in-graph environment that judges this task; "" where there is none
    reference: str  # D4RL name whose reference scores apply; "" where none do
    observations: np.ndarray  # f32[N, O]
    actions: np.ndarray  # f32[N, A] in [-1, 1]
    rewards: np.ndarray  # f32[N]
    next_observations: np.ndarray | None  # f32[N, O], where the file has them
    terminals: np.ndarray  # bool[N]
    timeouts: np.ndarray  # bool[N]
    # How far next_observations may be from the next row, relative to 1 + |value|, before the episode is cut; -1: never.
    next_tolerance: float = NEXT_TOLERANCE
    action_bounds: str = ""  # what -1 and 1 are in the file's own units (core/action_bounds.py); "": themselves


# Built-in datasets: name -> () -> RawDataset. D4RL names and file paths are resolved by `loading.load`.
DATASETS: Registry[Callable[[], RawDataset]] = Registry("dataset")
