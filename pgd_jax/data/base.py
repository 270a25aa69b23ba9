"""What a loader gives: plain numpy arrays on the host, with no idea of diffusion."""

import dataclasses
from collections.abc import Callable

import numpy as np

from pgd_jax.core.registry import Registry


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


# Built-in datasets: name -> () -> RawDataset. D4RL names and file paths are resolved by `loading.load`.
DATASETS: Registry[Callable[[], RawDataset]] = Registry("dataset")
