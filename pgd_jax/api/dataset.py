"""Datasets of the front door."""

import dataclasses
from typing import Any

import jax
import numpy as np

from pgd_jax.core import config as configs
from pgd_jax.core.errors import UserError
from pgd_jax.data import d4rl, windows
from pgd_jax.data.base import RawDataset, Reading
from pgd_jax.data.windows import Windows


@dataclasses.dataclass(frozen=True)
class Dataset(RawDataset):
    """Rows of offline experience in time order, environment space; checked. Made by `load_dataset` or `from_arrays`."""

    source: str = ""  # the name or path that it was loaded by; "" for arrays
    reading: Reading = Reading()  # how it was read

    @classmethod
    def from_arrays(
        cls,
        observations: Any,
        actions: Any,
        rewards: Any,
        terminals: Any,
        timeouts: Any = None,
        next_observations: Any = None,
        *,
        name: str = "arrays",
        env: str = "",
        action_bounds: str = "",
    ) -> "Dataset":
        """Observations [N, O], actions [N, A] in [-1, 1], rewards and flags [N], rows in time order.

        `terminals` says that the task ended after a row, `timeouts` that the recording was cut there: episodes need
        one of the two, or `next_observations` [N, O]. `env` names the task that judges agents ("" for none).
        `action_bounds` are those of actions that are not in [-1, 1]: "-2:2", or such a pair for each dimension. Raises
        UserError, naming array and row, for what no dataset may hold.
        """
        given = {"observations": observations, "actions": actions, "rewards": rewards, "terminals": terminals}
        given |= {"timeouts": timeouts, "next_observations": next_observations}
        arrays = d4rl.check(name, {key: array for key, array in given.items() if array is not None}, action_bounds)
        if timeouts is None and next_observations is None and not arrays["terminals"].any():
            raise UserError(f"{name}: nothing says where an episode ends; give timeouts, or next_observations")
        arrays.setdefault("timeouts", np.zeros(len(arrays["rewards"]), bool))
        columns: dict[str, Any] = {"next_observations": None} | arrays
        return cls(name, env, "", **columns, action_bounds=action_bounds)

    def __repr__(self) -> str:
        count, obs_dim = self.observations.shape
        return f"Dataset({self.name!r}, {count} rows, obs {obs_dim}, action {self.actions.shape[1]}, env {self.env!r})"

    def windows(self, num_windows: int, length: int = configs.DataConfig.window_length, seed: int = 0) -> Windows:
        """Random windows of `length` rows, drawn with replacement."""
        return windows.recorded(self, num_windows, length, jax.random.key(seed))
