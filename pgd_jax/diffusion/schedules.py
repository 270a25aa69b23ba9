"""Noise schedules: (num_steps, sigma_min, sigma_max, rho) -> decreasing noise levels f32[N + 1] whose last entry is 0.

N >= 2 levels from sigma_max to sigma_min, then 0; floats may be traced. Only "karras" has a rho.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from pgd_jax.core.hyper import Float
from pgd_jax.core.registry import Registry

# Chosen by experiments/guidance_study. EDM samples from 80 to 0.002: of few steps, too many then lie where nothing is
# decided.
SIGMA_MIN, SIGMA_MAX, RHO = 0.01, 20.0, 7.0

Schedule = Callable[[int, Float, Float, Float], jax.Array]


def karras(num_steps: int, sigma_min: Float = SIGMA_MIN, sigma_max: Float = SIGMA_MAX, rho: Float = RHO) -> jax.Array:
    """Evenly spaced in s^(1/rho) (Karras et al. 2022, eq. 5)."""
    top, bottom = sigma_max ** (1.0 / rho), sigma_min ** (1.0 / rho)
    return _ending_at_zero((top + _fraction(num_steps) * (bottom - top)) ** rho)


def log_linear(
    num_steps: int, sigma_min: Float = SIGMA_MIN, sigma_max: Float = SIGMA_MAX, rho: Float = RHO
) -> jax.Array:
    """Evenly spaced in ln s: steps of equal log signal-to-noise ratio (Lu et al. 2022, arXiv 2206.00927)."""
    del rho
    return _ending_at_zero(sigma_max * (sigma_min / sigma_max) ** _fraction(num_steps))


def cosine(num_steps: int, sigma_min: Float = SIGMA_MIN, sigma_max: Float = SIGMA_MAX, rho: Float = RHO) -> jax.Array:
    """Evenly spaced in arctan s: the variance-preserving cosine schedule (Nichol & Dhariwal 2021, eq. 17, offset 0)."""
    del rho
    top, bottom = jnp.arctan(sigma_max), jnp.arctan(sigma_min)
    return _ending_at_zero(jnp.tan(top + _fraction(num_steps) * (bottom - top)))


def _fraction(num_steps: int) -> jax.Array:
    return jnp.linspace(0.0, 1.0, num_steps, dtype=jnp.float32)


def _ending_at_zero(sigmas: jax.Array) -> jax.Array:
    return jnp.append(sigmas, jnp.float32(0.0))


SCHEDULES: Registry[Schedule] = Registry("noise schedule")
SCHEDULES.add("karras", karras)
SCHEDULES.add("log_linear", log_linear)
SCHEDULES.add("cosine", cosine)
