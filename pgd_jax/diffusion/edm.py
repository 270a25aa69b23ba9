"""EDM: preconditioning and training loss (Karras et al. 2022, arXiv 2206.00364, Table 1; sigma_data 1 unless said)."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from pgd_jax.core.types import Denoise, Params
from pgd_jax.networks.base import Network

SIGMA_DATA = 1.0  # windows are standardised
NOISE_MEAN, NOISE_STD = -1.2, 1.2  # ln sigma ~ N(P_mean, P_std^2) in training (Table 1)


def precondition(network: Callable[[jax.Array, jax.Array], jax.Array], sigma_data: float = SIGMA_DATA) -> Denoise:
    """D(x; s) = c_skip x + c_out F(c_in x; c_noise) (eq. 7) from the raw network F(x [B, T, D], c_noise).

    s is a level for each window, [B], or one for all: c_noise is then [1], so that what follows from it is done once.
    """

    def denoise(x: jax.Array, sigma: jax.Array) -> jax.Array:
        s = jnp.atleast_1d(sigma)
        variance = s**2 + sigma_data**2
        c_skip = sigma_data**2 / variance
        c_out = s * sigma_data / jnp.sqrt(variance)
        c_in = 1.0 / jnp.sqrt(variance)
        f = network(c_in[:, None, None] * x, jnp.log(s) / 4.0)
        return c_skip[:, None, None] * x + c_out[:, None, None] * f

    return denoise


def denoiser(network: Network, params: Params) -> Denoise:
    """The preconditioned denoiser with weights `params`."""
    return precondition(functools.partial(network.apply, params))


def loss(
    key: jax.Array,
    denoise: Denoise,
    x0: jax.Array,
    noise_mean: float = NOISE_MEAN,
    noise_std: float = NOISE_STD,
    sigma_data: float = SIGMA_DATA,
) -> jax.Array:
    """`error` at levels and noise drawn from `key`; about 1 at the start."""
    return error(denoise, x0, *draw(key, x0.shape, noise_mean, noise_std), sigma_data)


def draw(
    key: jax.Array, shape: tuple[int, ...], noise_mean: float = NOISE_MEAN, noise_std: float = NOISE_STD
) -> tuple[jax.Array, jax.Array]:
    """What a batch [B, T, D] of training windows is noised with: levels f32[B] and unit noise f32[B, T, D]."""
    key_sigma, key_noise = jax.random.split(key)
    s = jnp.exp(noise_mean + noise_std * jax.random.normal(key_sigma, shape[:1]))
    return s, jax.random.normal(key_noise, shape)


def error(denoise: Denoise, x0: jax.Array, s: jax.Array, noise: jax.Array, sigma_data: float = SIGMA_DATA) -> jax.Array:
    """Weighted denoising error (eq. 2 with Table 1's weight), mean over x0 f32[B, T, D], at levels s and unit noise."""
    weight = (s**2 + sigma_data**2) / (s * sigma_data) ** 2
    return jnp.mean(weight[:, None, None] * (denoise(x0 + s[:, None, None] * noise, s) - x0) ** 2)


def noised_std(sigma: jax.Array, sigma_data: float = SIGMA_DATA) -> jax.Array:
    """Standard deviation of data of variance sigma_data^2 with noise sigma on top."""
    return jnp.sqrt(sigma**2 + sigma_data**2)


def posterior_variance(sigma: jax.Array, sigma_data: float = SIGMA_DATA) -> jax.Array:
    """Variance of clean data given its noised value, for data of variance sigma_data^2: s^2 sd^2 / (s^2 + sd^2)."""
    return sigma**2 * sigma_data**2 / (sigma**2 + sigma_data**2)
