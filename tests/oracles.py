"""Worlds whose answers are known: Gaussian windows, their exact denoiser and the exact solution of EDM's ODE."""

from typing import NamedTuple

import jax
import jax.numpy as jnp


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


def correlated_world(dtype=jnp.float32) -> GaussianWorld:
    """Two rows of three columns, correlated, with variances from 1.4 to 4.0 and a mean that is not 0."""
    root = jax.random.normal(jax.random.key(7), (6, 6), dtype) * 0.5
    covariance = root @ root.T + 0.2 * jnp.eye(6, dtype=dtype)
    return GaussianWorld(jnp.linspace(-1.0, 1.0, 6, dtype=dtype), covariance, (2, 3))


def unit_world(shape: tuple[int, int]) -> GaussianWorld:
    dim = shape[0] * shape[1]
    return GaussianWorld(jnp.zeros(dim), jnp.eye(dim), shape)
