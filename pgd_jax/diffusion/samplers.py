"""Samplers: (key, denoise, sigmas, shape, options) -> x. They know no guidance, no network and no configuration.

    x ~ N(0, s_0^2 + 1), or clean windows + N(0, s_0^2) for a warm start
    for i in 0 .. N-1:   x <- shift(x, s_i, i);  x <- one of the steps below, from s = s_i to t = s_{i+1};  s_N = 0
                         D is correct(denoise(x, s), s, i)

    euler          x + (t - s) (x - D(x; s)) / s                             Karras et al. 2022 (arXiv 2206.00364)
    heun           euler, corrected with the slope at t                      algorithm 1
    churned_heun   noise is raised from s to s (1 + gamma) before each step  algorithm 2
    ancestral      x ~ N(D + (t/s)^2 (x - D), (1 - (t/s)^2) t^2)             Ho et al. 2020, eq. 7, in EDM's variables
    dpmpp_2m       (t/s) x + (1 - t/s) (D + (h / 2 h_prev) (D - D_prev))     Lu et al. 2022 (arXiv 2211.01095), alg. 2
    dpmpp_2m_sde   the same on the SDE, h = ln(s/t)                          ibid., SDE-DPM-Solver++(2M)
    twisted        ancestral as a particle filter for a tilted target        twisted.py

Noised windows of standardised data have the variance s_0^2 + 1, not EDM's s_0^2: the same at its s_0 = 80, but where
sampling starts at 10 or 20 to save steps, windows that start too small end too much alike.

Algorithm 2 steps from the churned point. The released PGD code steps from the one before: sampled std at N = 32 on unit
data is then 1.34, not 1.05.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from pgd_jax.diffusion import edm
from pgd_jax.registry import Registry
from pgd_jax.types import Denoise

# (x f32[B, T, D], sigma f32[], step i32[]) -> x: what is done to the sample before each step
Shift = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]

# (x0 f32[B, T, D], sigma f32[], step i32[], held) -> (x0, held): what is done to each denoised window, D being followed
# by it; `held` is a pytree that it keeps from step to step
Correct = Callable[[jax.Array, jax.Array, jax.Array, Any], tuple[jax.Array, Any]]

# (clean windows x0 f32[B, T, D], sigma f32[]) -> (x0 tilted f32[B, T, D], log twisting function f32[B])
Twist = Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]


@struct.dataclass
class Noise:
    """How much of it the stochastic samplers put back; floats, so that lanes may differ. PGD's values for the churn."""

    eta: jax.Array | float = 1.0  # ancestral, dpmpp_2m_sde: 1 is the SDE, 0 its ODE
    churn: jax.Array | float = 80.0  # S_churn
    churn_min: jax.Array | float = 0.05  # S_tmin
    churn_max: jax.Array | float = 50.0  # S_tmax
    churn_scale: jax.Array | float = 1.003  # S_noise


def identity(x: jax.Array, sigma: jax.Array, step: jax.Array) -> jax.Array:
    del sigma, step
    return x


def uncorrected(x0: jax.Array, sigma: jax.Array, step: jax.Array, held: Any) -> tuple[jax.Array, Any]:
    del sigma, step
    return x0, held


def untwisted(x0: jax.Array, sigma: jax.Array) -> tuple[jax.Array, jax.Array]:
    del sigma
    return x0, jnp.zeros(x0.shape[0], x0.dtype)


class Options(NamedTuple):
    """What a sampler may be given besides; each reads what concerns it."""

    noise: Noise = Noise()
    correct: Correct = uncorrected  # guidance; the step is that whose noise level it is
    held: Any = ()  # what it keeps, at first
    shift: Shift = identity  # the paper's rule of guidance
    start: jax.Array | None = None  # warm start: clean windows f32[B, T, D], re-noised to sigmas[0]
    twist: Twist = untwisted  # "twisted" only, which knows neither of the two above
    num_particles: int = 1  # "twisted" only: windows that are resampled among themselves


class Sampler(NamedTuple):
    """A registered sampler: `sample(key, denoise, sigmas, shape, options) -> x f32[B, T, D]`, network space.

    `order` is that of the error at 0 in the size of a step (of the mean and variance where it is stochastic); `calls`
    gives the number of denoiser calls of N steps.
    """

    sample: Callable[..., jax.Array]
    order: int
    calls: Callable[[int], int]
    is_stochastic: bool = False
    is_twisted: bool = False  # guidance is options.twist


class Step(NamedTuple):
    """Where a step stands: everything a scan hands it."""

    key: jax.Array
    index: jax.Array  # i32[]
    sigma: jax.Array  # f32[] s_i
    sigma_next: jax.Array  # f32[] s_{i+1}


def begin(key: jax.Array, sigmas: jax.Array, shape: tuple[int, int, int], start: jax.Array | None) -> jax.Array:
    """The first x: what noised windows look like to second order, or clean windows noised to sigmas[0]."""
    noise = jax.random.normal(key, shape, sigmas.dtype)
    return edm.noised_std(sigmas[0]) * noise if start is None else start + sigmas[0] * noise


def steps(key: jax.Array, sigmas: jax.Array) -> Step:
    """All N steps, stacked for a scan."""
    num_steps = sigmas.shape[0] - 1
    index = jnp.arange(num_steps, dtype=jnp.int32)
    return Step(jax.random.split(key, num_steps), index, sigmas[:-1], sigmas[1:])


def euler(
    key: jax.Array, denoise: Denoise, sigmas: jax.Array, shape: tuple[int, int, int], options: Options = Options()
) -> jax.Array:
    """N calls. The last step ends at D itself."""
    key_start, key_steps = jax.random.split(key)

    def body(carry: tuple[jax.Array, Any], step: Step) -> tuple[tuple[jax.Array, Any], None]:
        x, held = carry
        x = options.shift(x, step.sigma, step.index)
        x0, held = options.correct(denoise(x, step.sigma), step.sigma, step.index, held)
        return (x + (step.sigma_next - step.sigma) * (x - x0) / step.sigma, held), None

    x = begin(key_start, sigmas, shape, options.start)
    return jax.lax.scan(body, (x, options.held), steps(key_steps, sigmas))[0][0]


def churn(noise: Noise, step: Step, num_steps: int, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Raises x from noise level sigma to sigma_hat (algorithm 2, lines 4-6); returns (x_hat, sigma_hat)."""
    sigma = step.sigma
    gamma = jnp.minimum(noise.churn / num_steps, jnp.sqrt(2.0).astype(sigma.dtype) - 1.0)
    inside = (noise.churn_min <= sigma) & (sigma <= noise.churn_max)
    sigma_hat = sigma * (1.0 + jnp.where(inside, gamma, 0.0))
    # The maximum keeps rounding from making the difference of squares negative where gamma is 0.
    added = jnp.sqrt(jnp.maximum(sigma_hat**2 - sigma**2, 0.0)) * noise.churn_scale
    return x + added * jax.random.normal(step.key, x.shape, x.dtype), sigma_hat


def unchurned(noise: Noise, step: Step, num_steps: int, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    del noise, num_steps
    return x, step.sigma


def sample_heun(
    key: jax.Array,
    denoise: Denoise,
    sigmas: jax.Array,
    shape: tuple[int, int, int],
    options: Options = Options(),
    *,
    raise_noise: Callable[..., tuple[jax.Array, jax.Array]],
) -> jax.Array:
    """2N - 1 calls: the last step, to 0, is Euler's. `raise_noise` is `churn` or `unchurned`."""
    num_steps = sigmas.shape[0] - 1
    key_start, key_steps = jax.random.split(key)

    def predict(x: jax.Array, held: Any, step: Step) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array, Any]:
        x = options.shift(x, step.sigma, step.index)
        x_hat, sigma_hat = raise_noise(options.noise, step, num_steps, x)
        x0, held = options.correct(denoise(x_hat, sigma_hat), sigma_hat, step.index, held)
        d = (x_hat - x0) / sigma_hat
        return x_hat, sigma_hat, d, x_hat + (step.sigma_next - sigma_hat) * d, held

    def body(carry: tuple[jax.Array, Any], step: Step) -> tuple[tuple[jax.Array, Any], None]:
        x_hat, sigma_hat, d, x, held = predict(*carry, step)
        x0, held = options.correct(denoise(x, step.sigma_next), step.sigma_next, step.index + 1, held)
        d_next = (x - x0) / step.sigma_next
        return (x_hat + (step.sigma_next - sigma_hat) * 0.5 * (d + d_next), held), None

    every = steps(key_steps, sigmas)
    x = begin(key_start, sigmas, shape, options.start)
    x, held = jax.lax.scan(body, (x, options.held), jax.tree.map(lambda leaf: leaf[:-1], every))[0]
    return predict(x, held, jax.tree.map(lambda leaf: leaf[-1], every))[3]


def ancestral(
    key: jax.Array, denoise: Denoise, sigmas: jax.Array, shape: tuple[int, int, int], options: Options = Options()
) -> jax.Array:
    """N calls: the Euler-Maruyama step whose noise is that of q(x_t | x_s, x_0 = D), scaled by eta."""
    key_start, key_steps = jax.random.split(key)

    def body(carry: tuple[jax.Array, Any], step: Step) -> tuple[tuple[jax.Array, Any], None]:
        x, held = carry
        x = options.shift(x, step.sigma, step.index)
        down, up = ancestral_levels(step.sigma, step.sigma_next, options.noise.eta)
        x0, held = options.correct(denoise(x, step.sigma), step.sigma, step.index, held)
        x = x + (down - step.sigma) * (x - x0) / step.sigma
        return (x + up * jax.random.normal(step.key, x.shape, x.dtype), held), None

    x = begin(key_start, sigmas, shape, options.start)
    return jax.lax.scan(body, (x, options.held), steps(key_steps, sigmas))[0][0]


def ancestral_levels(sigma: jax.Array, sigma_next: jax.Array, eta: jax.Array | float) -> tuple[jax.Array, jax.Array]:
    """(level to step down to, noise to put back): their squares sum to sigma_next^2."""
    up = jnp.minimum(eta * sigma_next * jnp.sqrt(1.0 - (sigma_next / sigma) ** 2), sigma_next)
    return jnp.sqrt(sigma_next**2 - up**2), up


class Memory(NamedTuple):
    """What a two-step method keeps of the step before; sigma = inf says that there was none."""

    denoised: jax.Array
    sigma: jax.Array
    held: Any  # guidance's


def sample_dpmpp_2m(
    key: jax.Array,
    denoise: Denoise,
    sigmas: jax.Array,
    shape: tuple[int, int, int],
    options: Options = Options(),
    *,
    is_sde: bool,
) -> jax.Array:
    """N calls, of second order. First order in the first step, and in the last, which ends at D itself."""
    key_start, key_steps = jax.random.split(key)

    def body(carry: tuple[jax.Array, Memory], step: Step) -> tuple[tuple[jax.Array, Memory], None]:
        x, memory = carry
        x = options.shift(x, step.sigma, step.index)
        x0, held = options.correct(denoise(x, step.sigma), step.sigma, step.index, memory.held)
        eta = options.noise.eta if is_sde else 0.0
        # exp(-h) = t/s; h_prev is infinite in the first step, h in the last: neither extrapolates.
        ratio, h_prev = step.sigma_next / step.sigma, jnp.log(memory.sigma / step.sigma)
        h = -jnp.log(jnp.where(ratio > 0.0, ratio, 1.0))
        extrapolated = x0 + 0.5 * (h / h_prev) * (x0 - memory.denoised)
        decay = ratio * ratio**eta
        x = decay * x + (1.0 - decay) * extrapolated
        if is_sde:
            kept = step.sigma_next * jnp.sqrt(jnp.maximum(1.0 - ratio ** (2.0 * eta), 0.0))
            x = x + kept * jax.random.normal(step.key, x.shape, x.dtype)
        return (x, Memory(x0, step.sigma, held)), None

    x = begin(key_start, sigmas, shape, options.start)
    memory = Memory(jnp.zeros_like(x), jnp.full_like(sigmas[0], jnp.inf), options.held)
    return jax.lax.scan(body, (x, memory), steps(key_steps, sigmas))[0][0]


SAMPLERS: Registry[Sampler] = Registry("sampler")
SAMPLERS.add("euler", Sampler(euler, order=1, calls=lambda n: n))
SAMPLERS.add("heun", Sampler(functools.partial(sample_heun, raise_noise=unchurned), order=2, calls=lambda n: 2 * n - 1))
SAMPLERS.add(
    "churned_heun",
    Sampler(functools.partial(sample_heun, raise_noise=churn), order=2, calls=lambda n: 2 * n - 1, is_stochastic=True),
)
SAMPLERS.add("ancestral", Sampler(ancestral, order=1, calls=lambda n: n, is_stochastic=True))
SAMPLERS.add("dpmpp_2m", Sampler(functools.partial(sample_dpmpp_2m, is_sde=False), order=2, calls=lambda n: n))
SAMPLERS.add(
    "dpmpp_2m_sde",
    Sampler(functools.partial(sample_dpmpp_2m, is_sde=True), order=2, calls=lambda n: n, is_stochastic=True),
)
