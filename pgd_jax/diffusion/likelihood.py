"""How likely a denoiser finds windows: the exact density of its probability-flow ODE. Knows no network and no config.

    dx/ds = (x - D(x; s)) / s                                 Karras et al. 2022 (arXiv 2206.00364), eq. 1 for s(t) = t
    d log p_s(x(s)) / ds = -div[(x - D(x; s)) / s]            Song et al. 2021 (arXiv 2011.13456), eq. 39

The ODE carries a window from sigma_min up to sigma_max, where its density is known:

    log p(x) = log p_max(x(sigma_max)) + int (n - tr dD/dx) / s ds        n = T D numbers in a window

The trace is exact, by forward mode along each of the n directions, or an estimate without bias from a few random ones
(Skilling-Hutchinson; ibid., eq. 40).
"""

from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp

from pgd_jax.core.types import Denoise
from pgd_jax.diffusion import edm

# EDM's own: far enough up for the standard prior, and far enough down for the data.
SIGMA_MIN, SIGMA_MAX = 0.002, 80.0

# (x [B, T, D], sigma []) -> log density [B] at the highest level
LogPrior = Callable[[jax.Array, jax.Array], jax.Array]


def noised_unit(x: jax.Array, sigma: jax.Array) -> jax.Array:
    """log N(x; 0, sigma^2 + 1), where samplers start: standardised windows x [B, T, D] with so much noise; [B]."""
    std = edm.noised_std(sigma)
    return jnp.sum(-0.5 * (x / std) ** 2 - jnp.log(std) - 0.5 * jnp.log(2.0 * jnp.pi), axis=(1, 2))


def log_likelihood(
    denoise: Denoise,
    x: jax.Array,
    sigmas: jax.Array,
    key: jax.Array | None = None,
    num_probes: int = 0,
    log_prior: LogPrior = noised_unit,
) -> jax.Array:
    """log p f[B] of windows x f[B, T, D], in the denoiser's own space (network space), in nats.

    It is the density of what the ODE makes of the prior when it is stopped at the lowest level: of windows with noise
    sigma_min on them, at x. Where the data fill their space it is that of the clean windows to order sigma_min^2; of a
    column that never changes it is that of the noise alone, and grows without bound as sigma_min falls.

    Args:
      sigmas: f[N + 1] levels as a noise schedule gives them, falling to 0, which is not used: N - 1 steps of Heun's
        rule, of order 2, from sigmas[-2] up to sigmas[0]; 2 N - 2 denoiser calls.
      key: for the probes; none is needed where the trace is exact.
      num_probes: 0: the exact trace, by as many tangents as a window has numbers. Else so many Rademacher probes of
        each window, drawn afresh at each call: without bias, and of a variance that falls as 1 / num_probes.
      log_prior: density at sigmas[0].
    """
    chex.assert_rank([x, sigmas], [3, 1])
    if num_probes and key is None:
        raise ValueError("num_probes needs a key")
    levels = sigmas[:-1][::-1].astype(x.dtype)
    num_steps = levels.shape[0] - 1
    keys = jax.random.split(jax.random.key(0) if key is None else key, (num_steps, 2))

    def slope(x: jax.Array, sigma: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        """(dx/ds, its divergence [B])."""
        x0, push = jax.linearize(lambda x: denoise(x, sigma), x)
        trace = estimated_trace(push, x, key, num_probes) if num_probes else exact_trace(push, x)
        return (x - x0) / sigma, (x[0].size - trace) / sigma

    def step(carry: tuple[jax.Array, jax.Array], item: tuple) -> tuple[tuple[jax.Array, jax.Array], None]:
        (x, total), (sigma, higher, keys) = carry, item
        width = higher - sigma
        d, divergence = slope(x, sigma, keys[0])
        d_next, divergence_next = slope(x + width * d, higher, keys[1])
        return (x + 0.5 * width * (d + d_next), total + 0.5 * width * (divergence + divergence_next)), None

    start = x, jnp.zeros(x.shape[0], x.dtype)
    (x, total), _ = jax.lax.scan(step, start, (levels[:-1], levels[1:], keys))
    return log_prior(x, levels[-1]) + total


def exact_trace(push: Callable[[jax.Array], jax.Array], x: jax.Array) -> jax.Array:
    """Trace [B] of the linear function `push` of windows like x [B, T, D], which does not mix them.

    One direction after another, the same in every window.
    """
    size = x[0].size

    def add(total: jax.Array, index: jax.Array) -> tuple[jax.Array, None]:
        direction = jax.nn.one_hot(index, size, dtype=x.dtype).reshape(1, *x.shape[1:])
        return total + jnp.sum(direction * push(jnp.broadcast_to(direction, x.shape)), axis=(1, 2)), None

    return jax.lax.scan(add, jnp.zeros(x.shape[0], x.dtype), jnp.arange(size))[0]


def estimated_trace(push: Callable[[jax.Array], jax.Array], x: jax.Array, key: jax.Array, num_probes: int) -> jax.Array:
    """An estimate of `exact_trace` from e . push(e) for random signs e, which has its mean."""

    def of_one(key: jax.Array) -> jax.Array:
        signs = jax.random.rademacher(key, x.shape, x.dtype)
        return jnp.sum(signs * push(signs), axis=(1, 2))

    return jnp.mean(jax.lax.map(of_one, jax.random.split(key, num_probes)), axis=0)
