"""A noise schedule fitted to how a denoiser errs on its data.

Along the reverse diffusion posterior means are a martingale: from level s to t they move by E |D_t - D_s|^2 =
mse(s) - mse(t), with mse(s) the denoiser's mean squared error at s. Levels are therefore placed with a density
proportional to sqrt(d mse / d ln s): the root-mean-square way that D goes, not the noise, is divided evenly.
"""

import jax
import jax.numpy as jnp
import numpy as np

from pgd_jax.core.types import Denoise
from pgd_jax.diffusion import schedules

LEVELS = np.exp(np.linspace(np.log(0.002), np.log(80.0), 48)).astype(np.float32)  # EDM's range


def errors(denoise: Denoise, windows: jax.Array) -> np.ndarray:
    """Mean squared error f32[48] of real windows f32[B, T, D] at LEVELS, network space."""
    noise = jax.random.normal(jax.random.key(0), windows.shape)
    error = jax.jit(lambda sigma: jnp.mean((denoise(windows + sigma * noise, sigma) - windows) ** 2))
    return np.array([error(sigma) for sigma in LEVELS])


def schedule(mse: np.ndarray) -> schedules.Schedule:
    """From the errors at LEVELS."""
    place = np.log(LEVELS)
    slope = np.maximum(np.gradient(np.maximum.accumulate(mse), place), 0.0) ** 0.5
    way = np.concatenate([[0.0], np.cumsum(0.5 * (slope[1:] + slope[:-1]) * np.diff(place))])
    # Strictly rising, so that it can be inverted where nothing happens.
    way = jnp.asarray(way + 1e-4 * way[-1] * np.linspace(0.0, 1.0, len(way)), jnp.float32)
    levels = jnp.asarray(place, jnp.float32)

    def fitted(num_steps: int, sigma_min: jax.Array, sigma_max: jax.Array, rho: jax.Array) -> jax.Array:
        del rho
        ends = jnp.interp(jnp.log(jnp.stack([sigma_max, sigma_min])), levels, way)
        fraction = jnp.linspace(0.0, 1.0, num_steps, dtype=jnp.float32)
        inner = jnp.exp(jnp.interp(ends[0] + fraction * (ends[1] - ends[0]), way, levels))
        return jnp.append(inner, jnp.float32(0.0))

    return fitted
