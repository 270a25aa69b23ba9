"""The arrays and callables that pass between the parts of the library.

There are two spaces. *Environment space* is that of dataset files and environments: observations in their own units,
actions in [-1, 1]. *Network space* is that of networks: every column is standardised with dataset statistics; actions
are taken through arctanh before that. Agents get observations in network space and actions in environment space.

Axis letters: L lanes, B batch, T window length, O observation, A action, D = O + A + 2 trajectory columns, N rows.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import struct

Array = np.ndarray | jax.Array  # an array that may be on the host or on a device


class Transition(NamedTuple):
    """A batch of experience. All fields have the same leading axes."""

    obs: jax.Array  # f32[..., O] network space
    action: jax.Array  # f32[..., A] environment space, in [-1, 1]
    reward: jax.Array  # f32[...] environment units
    next_obs: jax.Array  # f32[..., O] network space
    terminal: jax.Array  # f32[...] 1.0 where the MDP ended (never for a time limit)
    # f32[..., A] the action taken at next_obs in the same episode; meaningless if terminal. None: no agent needs it.
    next_action: jax.Array | None = None


@dataclasses.dataclass(frozen=True)
class Layout:
    """The positions of the parts of a trajectory row: obs | action | reward | terminal."""

    obs_dim: int
    action_dim: int
    action_bounds: str = ""  # what -1 and 1 are in the dataset's own units (core/action_bounds.py); "": -1 and 1

    @property
    def dim(self) -> int:
        return self.obs_dim + self.action_dim + 2

    @property
    def obs(self) -> slice:
        return slice(0, self.obs_dim)

    @property
    def action(self) -> slice:
        return slice(self.obs_dim, self.obs_dim + self.action_dim)

    @property
    def reward(self) -> int:
        return self.obs_dim + self.action_dim

    @property
    def terminal(self) -> int:
        return self.obs_dim + self.action_dim + 1


@struct.dataclass
class Normalizer:
    """Environment space <-> network space of a trajectory row. It is fitted once and stored with the weights.

    With `squash`, as in every real task, actions are bounded by tanh. Without it they are only standardised, which
    makes Gaussian test worlds exact. `outcome_std` are the standard deviations of the reward and terminal columns in
    network space; every other column has 1.
    """

    mean: jax.Array  # f32[D] of the pre-tanh columns
    std: jax.Array  # f32[D]
    layout: Layout = struct.field(pytree_node=False)
    squash: bool = struct.field(pytree_node=False, default=True)
    outcome_std: tuple[float, float] = struct.field(pytree_node=False, default=(1.0, 1.0))


# (x f32[B, T, D], sigma f32[] or f32[B]) -> x0 f32[B, T, D], all network space: the posterior mean of the clean window.
# A batch, not one window: XLA on CPU runs a batched network about twice as fast as a vmapped one.
Denoise = Callable[[jax.Array, jax.Array], jax.Array]

# (obs [..., O] network space, action [..., A] environment space) -> [...]
LogProb = Callable[[jax.Array, jax.Array], jax.Array]


@dataclasses.dataclass(frozen=True)
class Squashed:
    """A LogProb of a policy a = tanh(u) with a simple density of u, such as a Gaussian. Guidance uses the density of u.

    If that Gaussian is wide, the density of a has no peak inside: it grows towards -1 and 1.
    """

    action: LogProb  # log density of a
    preimage: LogProb  # (obs [..., O], u [..., A]) -> log density of u [...]

    def __call__(self, obs: jax.Array, action: jax.Array) -> jax.Array:
        return self.action(obs, action)


# obs [..., O] network space -> action [..., A] environment space
Policy = Callable[[jax.Array], jax.Array]

Params = Any  # a pytree of arrays
