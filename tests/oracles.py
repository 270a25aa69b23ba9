"""Worlds whose answers are known: windows that are Gaussian, or mixtures of Gaussians, and their exact denoisers."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pgd_jax.core.types import Layout, LogProb, Normalizer
from pgd_jax.diffusion import guidance, samplers, schedules
from tests import quickly


class GaussianWorld(NamedTuple):
    """Windows x in R^[T, D] whose flattening is N(mean, covariance)."""

    mean: jax.Array  # [T * D]
    covariance: jax.Array  # [T * D, T * D]
    shape: tuple[int, int]

    def denoise(self, x: jax.Array, sigma: jax.Array) -> jax.Array:
        """D(x; s) = m + S (S + s^2 I)^-1 (x - m), the posterior mean of a Gaussian observed with noise s."""
        noisy = self.covariance + sigma**2 * jnp.eye(self.mean.size, dtype=x.dtype)
        deviation = x.reshape(x.shape[0], -1) - self.mean[None]
        return (self.mean[None] + jnp.linalg.solve(noisy, deviation.T).T @ self.covariance).reshape(x.shape)

    def flow(self, x: jax.Array, sigma: jax.Array) -> jax.Array:
        """Where dx/ds = (x - D(x; s)) / s carries x from sigma to 0: eigendirections times sqrt(l / (l + s^2))."""
        values, vectors = jnp.linalg.eigh(self.covariance)
        coordinates = (x.reshape(x.shape[0], -1) - self.mean[None]) @ vectors
        coordinates = coordinates * jnp.sqrt(values / (values + sigma**2))[None]
        return (self.mean[None] + coordinates @ vectors.T).reshape(x.shape)

    def tilted(self, rows: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> "GaussianWorld":
        """Times exp(-sum_k weights_k (rows_k . x - targets_k)^2 / 2), in numpy: rows [K, T * D], the others [K]."""
        precision = np.linalg.inv(np.asarray(self.covariance, np.float64))
        shift = precision @ np.asarray(self.mean, np.float64) + rows.T @ (weights * targets)
        covariance = np.linalg.inv(precision + rows.T @ (weights[:, None] * rows))
        return GaussianWorld(*(jnp.asarray(a, self.mean.dtype) for a in (covariance @ shift, covariance)), self.shape)


def correlated_world(dtype=jnp.float32, shape: tuple[int, int] = (2, 3)) -> GaussianWorld:
    """All columns of all rows correlated, a mean that is not 0; by default 2 x 3, with variances from 1.4 to 4.0."""
    dim = shape[0] * shape[1]
    root = jax.random.normal(jax.random.key(7), (dim, dim), dtype) * 0.5
    covariance = root @ root.T + 0.2 * jnp.eye(dim, dtype=dtype)
    return GaussianWorld(jnp.linspace(-1.0, 1.0, dim, dtype=dtype), covariance, shape)


def unit_world(shape: tuple[int, int], dtype=jnp.float32) -> GaussianWorld:
    dim = shape[0] * shape[1]
    return GaussianWorld(jnp.zeros(dim, dtype), jnp.eye(dim, dtype=dtype), shape)


def unit_denoise(x: jax.Array, sigma: jax.Array) -> jax.Array:
    """The denoiser of a unit world of any shape.

    A product: XLA makes one of divisions, or not, as it finds others next to them, and rounds differently.
    """
    return x * (1.0 / (1.0 + sigma**2))


class MixtureWorld(NamedTuple):
    """Windows that are a mixture of Gaussians with diagonal covariances; numpy float64, used in any precision."""

    shares: np.ndarray  # [K]
    means: np.ndarray  # [K, T, D]
    stds: np.ndarray  # [K, T, D]

    def denoise(self, x: jax.Array, sigma: jax.Array) -> jax.Array:
        """Each mode's posterior mean, weighted by how probable the mode is given x."""
        shares, means, stds = (jnp.asarray(a, x.dtype) for a in self)
        gap, noisy = x[:, None] - means[None], (stds**2 + sigma**2)[None]
        log_weight = jnp.log(shares)[None] - 0.5 * jnp.sum(gap**2 / noisy + jnp.log(noisy), axis=(-2, -1))
        clean = means[None] + (stds**2)[None] / noisy * gap
        return jnp.sum(jax.nn.softmax(log_weight, axis=-1)[..., None, None] * clean, axis=1)

    def draw(self, generator: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
        """(windows [count, T, D], their modes [count])."""
        mode = generator.choice(self.shares.size, count, p=self.shares)
        return self.means[mode] + self.stds[mode] * generator.normal(size=(count, *self.means.shape[1:])), mode


def plain_normalizer(layout: Layout, dtype=jnp.float32) -> Normalizer:
    """Network space is environment space."""
    return Normalizer(jnp.zeros(layout.dim, dtype), jnp.ones(layout.dim, dtype), layout, squash=False)


def gaussian_policy(centre: Callable[[jax.Array], jax.Array], std: float | jax.Array) -> LogProb:
    """log N(a; centre(obs), std^2) but for its constant; `std` a float or [A]."""

    def log_prob(obs: jax.Array, action: jax.Array) -> jax.Array:
        deviation = action - jnp.broadcast_to(centre(obs), action.shape)
        return -0.5 * jnp.sum((deviation / jnp.broadcast_to(jnp.asarray(std, action.dtype), action.shape)) ** 2, -1)

    return log_prob


EVERYWHERE = guidance.Interval(sigma_max=1e6)
guide = functools.partial(guidance.guide, interval=EVERYWHERE)  # as the paper's: at every noise level
edm_karras = functools.partial(schedules.karras, sigma_min=0.002, sigma_max=80.0)  # EDM's own levels


def sample(
    name: str, key: jax.Array, guided: guidance.Guided, sigmas: jax.Array, shape: tuple[int, int, int], **options
) -> jax.Array:
    """Guided windows from a registered sampler, as generators/diffusion.py draws them."""
    return samplers.SAMPLERS.get(name).sample(key, guided.denoise, sigmas, shape, guided.options(**options))


def any_of(index: jax.Array, guided: list[guidance.Guided]) -> guidance.Guided:
    """The one of this index, so that all rules are one program: what they share is compiled once.

    Not for "twisted".
    """

    def choose(functions: list[Callable]) -> Callable:
        distinct = list(dict.fromkeys(functions))
        which = jnp.array([distinct.index(function) for function in functions], jnp.int32)[index]
        return lambda *arguments: jax.lax.switch(which, distinct, *arguments)

    return guidance.Guided(
        denoise=choose([g.denoise for g in guided]),
        correct=choose([g.correct for g in guided]),
        shift=choose([g.shift for g in guided]),
    )


def start(key: jax.Array, sigmas: jax.Array, shape: tuple[int, int, int]) -> jax.Array:
    """Where every sampler but "twisted" starts: at N(0, s_0^2 + 1)."""
    return jnp.sqrt(sigmas[0] ** 2 + 1.0) * jax.random.normal(jax.random.split(key)[0], shape, sigmas.dtype)


def karras(num_steps: int, top: float = 80.0, bottom: float = 0.002, rho: float = 7.0) -> np.ndarray:
    """Karras et al. 2022, eq. 5, in float64, and 0."""
    share = np.arange(num_steps) / (num_steps - 1)
    return np.append((top ** (1 / rho) + share * (bottom ** (1 / rho) - top ** (1 / rho))) ** rho, 0.0)


def affine_moments(
    name: str, guided: guidance.Guided, sigmas: np.ndarray, shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of a deterministic sampling that is affine in its starting noise, with no Monte-Carlo error.

    Float64 (enable_x64 is up to the caller). Regressing as many samples as it takes on their own starts leaves nothing.
    """
    dim = shape[0] * shape[1]
    count = 2 * dim

    @quickly.jit
    def run(key: jax.Array, sigmas: jax.Array) -> tuple[jax.Array, jax.Array]:
        x = sample(name, key, guided, sigmas, (count, *shape))
        return start(key, sigmas, x.shape) / jnp.sqrt(sigmas[0] ** 2 + 1.0), x

    noise, x = (np.asarray(leaf).reshape(count, dim) for leaf in run(jax.random.key(1), np.asarray(sigmas, np.float64)))
    design = np.concatenate([np.ones((count, 1)), noise], axis=1)
    found = np.linalg.lstsq(design, x, rcond=None)[0]
    np.testing.assert_allclose(design @ found, x, atol=1e-8 * np.abs(x).max())
    return found[0], found[1:].T @ found[1:]
