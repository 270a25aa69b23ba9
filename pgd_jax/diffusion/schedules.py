"""Noise schedules: decreasing noise levels f32[N + 1] whose last entry is 0."""

import jax
import jax.numpy as jnp

SIGMA_MIN, SIGMA_MAX, RHO = 0.002, 80.0, 7.0  # EDM's sampling defaults


def karras(
    num_steps: int,
    sigma_min: jax.Array | float = SIGMA_MIN,
    sigma_max: jax.Array | float = SIGMA_MAX,
    rho: jax.Array | float = RHO,
) -> jax.Array:
    """Evenly spaced in s^(1/rho) (Karras et al. 2022, eq. 5), N >= 2 levels from sigma_max to sigma_min, then 0."""
    fraction = jnp.linspace(0.0, 1.0, num_steps, dtype=jnp.float32)
    top, bottom = sigma_max ** (1.0 / rho), sigma_min ** (1.0 / rho)
    return jnp.append((top + fraction * (bottom - top)) ** rho, jnp.float32(0.0))
