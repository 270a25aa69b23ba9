"""Trajectory windows for the user: numpy arrays in environment space."""

import dataclasses
import pathlib

import jax
import numpy as np

from pgd_jax.core.types import Normalizer, Transition
from pgd_jax.data import episodes, export, minari, minari_export, normalizer as normalizers
from pgd_jax.data.base import RawDataset


@dataclasses.dataclass(frozen=True)
class Windows:
    """N windows of T rows, environment space: observations in their own units, actions in [-1, 1].

    A saved file has actions in the units of the dataset (`action_bounds`).

    A generated window may end before its last row: rows after its first terminal are not experience, and `valid` is
    False there. The last row has no successor, so it is valid only if it is terminal.
    """

    obs: np.ndarray  # f32[N, T, O]
    action: np.ndarray  # f32[N, T, A]
    reward: np.ndarray  # f32[N, T]
    terminal: np.ndarray  # bool[N, T]
    valid: np.ndarray  # bool[N, T] rows that are whole transitions
    obs_std: np.ndarray  # f32[O] of the dataset: the unit of the dynamics error
    env: str = ""  # name of the task; "" if unknown
    reference: str = ""  # D4RL name whose scores apply
    action_bounds: str = ""  # what -1 and 1 are in the dataset's own units; "": -1 and 1

    def __len__(self) -> int:
        return len(self.obs)

    def __repr__(self) -> str:
        count, length, obs_dim = self.obs.shape
        return f"Windows({count} of {length} rows, obs {obs_dim}, action {self.action.shape[-1]}, env {self.env!r})"

    def transitions(self) -> Transition:
        """The valid rows as transitions [K, ...], in order, with obs and next_obs in environment space.

        The next_obs of a terminal row means nothing and must not be bootstrapped from.
        """
        following = np.concatenate([self.obs[:, 1:], self.obs[:, -1:]], axis=1)
        fields = (self.obs, self.action, self.reward, following, self.terminal.astype(np.float32))
        return Transition(*(field[self.valid] for field in fields))

    def save(self, path: str | pathlib.Path) -> str:
        """Writes the valid rows to an HDF5 file in D4RL's layout or to "minari:<id>". Each window is an episode.

        Returns where they were written. Raises UserError if something is there already.
        """
        rows = self.transitions()
        last = self.valid.copy()
        last[:, :-1] &= ~self.valid[:, 1:]
        terminal = rows.terminal.astype(bool)
        flat = export.Flat(*rows[:4], terminal, last[self.valid] & ~terminal)
        metadata = {"source": "pgd_jax windows", "env": self.env, "reference": self.reference}
        metadata["action_bounds"] = self.action_bounds
        if str(path).startswith(minari.PREFIX):
            return str(minari_export.write(str(path).removeprefix(minari.PREFIX), flat, metadata))
        export.write_hdf5(path, *flat, metadata=metadata)
        return str(path)


def generated(normalizer: Normalizer, x: jax.Array, env: str = "", reference: str = "") -> Windows:
    """Windows from x f32[N, T, D] in network space, the output of a sampler."""
    transitions, valid = normalizers.to_transitions(normalizer, x)
    return _of_transitions(normalizer, transitions, np.asarray(valid), env, reference)


def rolled_out(
    normalizer: Normalizer, rows: Transition, valid: jax.Array, env: str = "", reference: str = ""
) -> Windows:
    """Windows from rollouts: rows [N, T, ...] with obs in network space, and valid bool[N, T].

    The observation after the last row is left out.
    """
    kept = np.array(valid)
    kept[:, -1] &= np.asarray(rows.terminal[:, -1]) > normalizers.TERMINAL_THRESHOLD
    return _of_transitions(normalizer, rows, kept, env, reference)


def _of_transitions(
    normalizer: Normalizer, transitions: Transition, valid: np.ndarray, env: str, reference: str
) -> Windows:
    found = jax.device_get(normalizers.to_environment_space(normalizer, transitions))
    terminal = found.terminal > normalizers.TERMINAL_THRESHOLD
    std, bounds = np.asarray(normalizer.std[normalizer.layout.obs]), normalizer.layout.action_bounds
    return Windows(found.obs, found.action, found.reward, terminal, valid, std, env, reference, bounds)


def recorded(raw: RawDataset, num_windows: int, length: int, key: jax.Array) -> Windows:
    """Random windows of a dataset, drawn with replacement. Raises UserError if no segment is long enough."""
    rows = episodes.random_windows(key, raw, length, num_windows)
    terminal = raw.terminals[rows]
    valid = np.ones_like(terminal)
    valid[:, -1] = terminal[:, -1]
    std = raw.observations.std(axis=0)
    columns = (raw.observations[rows], raw.actions[rows], raw.rewards[rows], terminal, valid)
    return Windows(*columns, std, raw.env, raw.reference, raw.action_bounds)
