"""Samplers: (key, denoise, sigmas, shape, churn, shift) -> x. They know no guidance, no network and no configuration.

    x ~ N(0, t_0^2)
    for i in 0 .. N-1:                       Karras et al. 2022, algorithm 2
        x      <- shift(x, t_i, i)           nothing, or the paper's rule of guidance
        t_hat  = t_i (1 + gamma_i);  x_hat = x + sqrt(t_hat^2 - t_i^2) S_noise eps
        d      = (x_hat - D(x_hat; t_hat)) / t_hat
        x      <- x_hat + (t_{i+1} - t_hat) d            Euler; Heun corrects with the slope at t_{i+1}

Algorithm 2 steps from x_hat. The released PGD code steps from x: sampled std at N = 32 on unit data is then 1.34, not
1.05.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from pgd_jax.registry import Registry
from pgd_jax.types import Denoise

# (x f32[B, T, D], sigma f32[], step i32[]) -> x, applied before each step
Shift = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]


@struct.dataclass
class Churn:
    """How much noise is put back before each step (algorithm 2); the defaults are PGD's, amount 0 is the ODE."""

    amount: jax.Array | float = 80.0  # S_churn
    sigma_min: jax.Array | float = 0.05  # S_tmin
    sigma_max: jax.Array | float = 50.0  # S_tmax
    noise: jax.Array | float = 1.003  # S_noise


class Sampler(NamedTuple):
    """A registered sampler: `sample(key, denoise, sigmas, shape, churn, shift)`, its order on the ODE, its cost."""

    sample: Callable[..., jax.Array]
    order: int
    calls: Callable[[int], int]  # number of steps -> number of denoiser calls


def identity_shift(x: jax.Array, sigma: jax.Array, step: jax.Array) -> jax.Array:
    del sigma, step
    return x


def churned(
    key: jax.Array, x: jax.Array, sigma: jax.Array, churn: Churn | None, num_steps: int
) -> tuple[jax.Array, jax.Array]:
    """Raises x from noise level sigma to sigma_hat (algorithm 2, lines 4-6); returns (x_hat, sigma_hat)."""
    if churn is None:
        return x, sigma
    gamma = jnp.minimum(churn.amount / num_steps, jnp.sqrt(2.0) - 1.0)
    inside = (churn.sigma_min <= sigma) & (sigma <= churn.sigma_max)
    sigma_hat = sigma * (1.0 + jnp.where(inside, gamma, 0.0))
    # The maximum keeps rounding from making the difference of squares negative where gamma is 0.
    added = jnp.sqrt(jnp.maximum(sigma_hat**2 - sigma**2, 0.0)) * churn.noise
    return x + added * jax.random.normal(key, x.shape), sigma_hat


def sample_edm(
    key: jax.Array,
    denoise: Denoise,
    sigmas: jax.Array,
    shape: tuple[int, int, int],
    churn: Churn | None = None,
    shift: Shift = identity_shift,
    *,
    heun: bool,
) -> jax.Array:
    """x f32[B, T, D] in network space from noise levels sigmas f32[N + 1] (decreasing, last 0).

    `churn=None` is the deterministic ODE. N denoiser calls with Euler, 2N - 1 with Heun: the last step, to 0, is
    Euler's.
    """
    num_steps = sigmas.shape[0] - 1
    key_start, key_steps = jax.random.split(key)
    keys = jax.random.split(key_steps, num_steps)

    def euler(key_noise: jax.Array, x: jax.Array, step: jax.Array, sigma: jax.Array, sigma_next: jax.Array):
        x_hat, sigma_hat = churned(key_noise, shift(x, sigma, step), sigma, churn, num_steps)
        d = (x_hat - denoise(x_hat, sigma_hat)) / sigma_hat
        return x_hat, sigma_hat, d, x_hat + (sigma_next - sigma_hat) * d

    def body(x: jax.Array, inputs: tuple[jax.Array, ...]) -> tuple[jax.Array, None]:
        key_noise, step, sigma, sigma_next = inputs
        x_hat, sigma_hat, d, x = euler(key_noise, x, step, sigma, sigma_next)
        if heun:
            d_next = (x - denoise(x, sigma_next)) / sigma_next
            x = x_hat + (sigma_next - sigma_hat) * 0.5 * (d + d_next)
        return x, None

    x = sigmas[0] * jax.random.normal(key_start, shape)
    steps = jnp.arange(num_steps, dtype=jnp.int32)
    x, _ = jax.lax.scan(body, x, (keys[:-1], steps[:-1], sigmas[:-2], sigmas[1:-1]))
    return euler(keys[-1], x, steps[-1], sigmas[-2], sigmas[-1])[3]


SAMPLERS: Registry[Sampler] = Registry("sampler")
SAMPLERS.add("euler", Sampler(functools.partial(sample_edm, heun=False), order=1, calls=lambda n: n))
SAMPLERS.add("heun", Sampler(functools.partial(sample_edm, heun=True), order=2, calls=lambda n: 2 * n - 1))
