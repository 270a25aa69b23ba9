"""A sampling's way from noise to data as a user sees it: numpy arrays in environment space, step by step."""

import dataclasses
from typing import NamedTuple

import jax
import numpy as np

from pgd_jax.core.types import Normalizer
from pgd_jax.data import normalizer as normalizers
from pgd_jax.data.windows import Windows


class Rows(NamedTuple):
    """Windows at each noise step, environment space: axes N steps, M windows, T rows."""

    obs: np.ndarray  # f32[N, M, T, O]
    action: np.ndarray  # f32[N, M, T, A] in [-1, 1]
    reward: np.ndarray  # f32[N, M, T]
    terminal: np.ndarray  # f32[N, M, T] a real number on the way; a row is terminal where it ends above 0.5


@dataclasses.dataclass(frozen=True)
class Trace:
    """What each of the N noise steps saw, as it made `windows`. Made by `Denoiser.trace`.

    Step n calls the denoiser with `noisy[n]`, at the noise level `sigma[n]`; its answer is `denoised[n]`, the clean
    windows that the model then expects, guidance included. The last answer is where sampling ends: `windows`. A sampler
    that calls the denoiser twice a step (heun) has its first call here.
    """

    windows: Windows  # M windows: what `Denoiser.sample` gives
    sigma: np.ndarray  # f32[N] noise level in standard deviations of the data, falling
    strength: np.ndarray  # f32[N] lambda at this step; 0 where guidance was off
    log_prob: np.ndarray  # f32[N, M, T] log pi at `evaluated`, of each row; 0 where there is no policy
    noisy: Rows
    denoised: Rows
    unguided: Rows  # what the denoiser would have answered in this step had guidance been off in it, and in it alone
    evaluated: Rows  # where guidance evaluated log_prob: `unguided`, but for the rules "paper..."; else `denoised`

    def __len__(self) -> int:
        return len(self.sigma)

    def __repr__(self) -> str:
        return f"Trace({len(self)} steps, {self.is_guided.sum()} of them guided, of {self.windows!r})"

    @property
    def is_guided(self) -> np.ndarray:
        """bool[N] whether guidance was on."""
        return self.strength > 0.0

    @property
    def action_shift(self) -> np.ndarray:
        """f32[N, M, T, A] how far guidance moved the denoised actions, environment units."""
        return self.denoised.action - self.unguided.action


def of(
    normalizer: Normalizer, windows: Windows, sigma: jax.Array, strength: jax.Array, log_prob: jax.Array, *x: jax.Array
) -> Trace:
    """From arrays in the order of the fields of Trace, of which `x` are its Rows f32[N, M, T, D] in network space."""
    noisy, denoised, unguided, evaluated = (_rows(normalizer, each) for each in x)
    sigmas, strengths, log_probs = (np.asarray(each) for each in (sigma, strength, log_prob))
    return Trace(windows, sigmas, strengths, log_probs, noisy, denoised, unguided, evaluated)


def _rows(normalizer: Normalizer, x: jax.Array) -> Rows:
    layout, found = normalizer.layout, np.asarray(normalizers.decode(normalizer, x))
    return Rows(
        found[..., layout.obs], found[..., layout.action], found[..., layout.reward], found[..., layout.terminal]
    )
