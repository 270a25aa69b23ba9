"""Samplers: (key, denoise, sigmas, shape, options) -> x. They know no guidance, no network and no configuration.

    x ~ N(0, s_0^2 + 1), or clean windows + N(0, s_0^2) for a warm start
    for i in 0 .. N-1:   x <- shift(x, s_i, i);  x <- one of the steps below, from s = s_i to t = s_{i+1};  s_N = 0
                         D is correct(denoise(x, s), s, i); all this is `integrate`, for a sampler to be its step alone

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

from pgd_jax.core import ranges
from pgd_jax.core.hyper import Float, setting
from pgd_jax.core.registry import Registry
from pgd_jax.core.types import Denoise
from pgd_jax.diffusion import edm

# (x f32[B, T, D], sigma f32[], step i32[]) -> x: what is done to the sample before each step
Shift = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]

# (x0 f32[B, T, D], sigma f32[], step i32[]) -> x0: what is done to each denoised window, D being followed by it
Correct = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]

# (clean windows x0 f32[B, T, D], sigma f32[]) -> (x0 tilted f32[B, T, D], log twisting function f32[B])
Twist = Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]


@struct.dataclass
class Noise:
    """How much of it the stochastic samplers put back; floats, so that lanes may differ. PGD's values for the churn."""

    eta: Float = setting(1.0, "ancestral, dpmpp_2m_sde: 1 is the SDE, 0 its ODE", ranges.NOT_NEGATIVE)
    churn: Float = setting(80.0, "S_churn of churned_heun (EDM, algorithm 2)", ranges.NOT_NEGATIVE)
    churn_min: Float = setting(0.05, "S_tmin: churns from this noise level ...", ranges.NOT_NEGATIVE)
    churn_max: Float = setting(50.0, "S_tmax: ... to this one", ranges.NOT_NEGATIVE)
    churn_scale: Float = setting(
        1.003, "S_noise: standard deviation of the noise that is put back", ranges.NOT_NEGATIVE
    )


def identity(x: jax.Array, sigma: jax.Array, step: jax.Array) -> jax.Array:
    """Neither corrects nor shifts."""
    del sigma, step
    return x


def untwisted(x0: jax.Array, sigma: jax.Array) -> tuple[jax.Array, jax.Array]:
    del sigma
    return x0, jnp.zeros(x0.shape[0], x0.dtype)


class Record(NamedTuple):
    """What each of the N steps saw, network space. Of a step that calls the denoiser twice (heun), the first call."""

    x: jax.Array  # f32[N, B, T, D] where the step begins, before `shift`
    noisy: jax.Array  # f32[N, B, T, D] what the denoiser is called with
    sigma: jax.Array  # f32[N] the noise level of that call
    denoised: jax.Array  # f32[N, B, T, D] what it answers, corrected


class Options(NamedTuple):
    """What a sampler may be given besides; each reads what concerns it."""

    noise: Noise = Noise()
    correct: Correct = identity  # guidance; the step is that whose noise level it is
    shift: Shift = identity  # the paper's rule of guidance
    start: jax.Array | None = None  # warm start: clean windows f32[B, T, D], re-noised to sigmas[0]
    twist: Twist = untwisted  # "twisted" only, which knows neither of the two above
    num_particles: int = 1  # "twisted" only: windows that are resampled among themselves
    record: Callable[[Record | None], None] | None = None  # called once, while JAX traces the sampler (tracing.py)


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
    number: jax.Array  # i32[]
    sigma: jax.Array  # f32[] s_i
    sigma_next: jax.Array  # f32[] s_{i+1}


def begin(key: jax.Array, sigmas: jax.Array, shape: tuple[int, int, int], start: jax.Array | None) -> jax.Array:
    """The first x: what noised windows look like to second order, or clean windows noised to sigmas[0]."""
    noise = jax.random.normal(key, shape, sigmas.dtype)
    return edm.noised_std(sigmas[0]) * noise if start is None else start + sigmas[0] * noise


def steps(key: jax.Array, sigmas: jax.Array) -> Step:
    """All N steps, stacked for a scan."""
    num_steps = sigmas.shape[0] - 1
    number = jnp.arange(num_steps, dtype=jnp.int32)
    return Step(jax.random.split(key, num_steps), number, sigmas[:-1], sigmas[1:])


# (x f32[B, T, D], sigma f32[], step i32[]) -> x0: the guided denoiser
Denoised = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]

# (x f32[B, T, D], denoised, step, memory) -> (x, memory): the formula of one step; `memory` is a pytree that it keeps
Update = Callable[[jax.Array, Denoised, Step, Any], tuple[jax.Array, Any]]


def integrate(
    key: jax.Array,
    denoise: Denoise,
    sigmas: jax.Array,
    shape: tuple[int, int, int],
    options: Options,
    update: Update,
    memory: Any = (),
    last: Update | None = None,
) -> jax.Array:
    """What samplers share: start, guidance, scan, record. A sampler is its `update`, and `last` in the last step."""
    key_start, key_steps = jax.random.split(key)

    def apply(formula: Update, carry: tuple[jax.Array, Any], step: Step) -> tuple[tuple[jax.Array, Any], Record | None]:
        x, memory = carry
        calls = []

        def denoised(noisy: jax.Array, sigma: jax.Array, number: jax.Array) -> jax.Array:
            x0 = options.correct(denoise(noisy, sigma), sigma, number)
            calls.append(Record(x, noisy, sigma, x0))
            return x0

        carry = formula(options.shift(x, step.sigma, step.number), denoised, step, memory)
        return carry, calls[0] if options.record and calls else None

    carry, every = (begin(key_start, sigmas, shape, options.start), memory), steps(key_steps, sigmas)
    scanned = every if last is None else jax.tree.map(lambda leaf: leaf[:-1], every)
    carry, record = jax.lax.scan(functools.partial(apply, update), carry, scanned)
    if last is not None:
        carry, end = apply(last, carry, jax.tree.map(lambda leaf: leaf[-1], every))
        record = jax.tree.map(lambda before, leaf: jnp.concatenate([before, leaf[None]]), record, end)
    if options.record:
        options.record(record)
    return carry[0]


def euler(
    key: jax.Array, denoise: Denoise, sigmas: jax.Array, shape: tuple[int, int, int], options: Options = Options()
) -> jax.Array:
    """N calls. The last step ends at D itself."""

    def update(x: jax.Array, denoised: Denoised, step: Step, memory: Any) -> tuple[jax.Array, Any]:
        slope = (x - denoised(x, step.sigma, step.number)) / step.sigma
        return x + (step.sigma_next - step.sigma) * slope, memory

    return integrate(key, denoise, sigmas, shape, options, update)


def churn(noise: Noise, step: Step, num_steps: int, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Raises x from noise level sigma to sigma_hat (algorithm 2, lines 4-6); returns (x_hat, sigma_hat)."""
    sigma = step.sigma
    gamma = jnp.minimum(noise.churn / num_steps, jnp.sqrt(2.0).astype(sigma.dtype) - 1.0)
    gamma = jnp.where((noise.churn_min <= sigma) & (sigma <= noise.churn_max), gamma, 0.0)
    sigma_hat = sigma * (1.0 + gamma)
    # Not the difference of the squares: where gamma is 0, rounding would leave some of it, whose root is not small.
    added = sigma * jnp.sqrt(gamma * (2.0 + gamma)) * noise.churn_scale
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

    def predict(x: jax.Array, denoised: Denoised, step: Step) -> tuple[jax.Array, jax.Array, jax.Array]:
        x_hat, sigma_hat = raise_noise(options.noise, step, num_steps, x)
        slope = (x_hat - denoised(x_hat, sigma_hat, step.number)) / sigma_hat
        return x_hat, step.sigma_next - sigma_hat, slope

    def update(x: jax.Array, denoised: Denoised, step: Step, memory: Any) -> tuple[jax.Array, Any]:
        x_hat, change, slope = predict(x, denoised, step)
        x = x_hat + change * slope
        slope_next = (x - denoised(x, step.sigma_next, step.number + 1)) / step.sigma_next
        return x_hat + change * 0.5 * (slope + slope_next), memory

    def last(x: jax.Array, denoised: Denoised, step: Step, memory: Any) -> tuple[jax.Array, Any]:
        x_hat, change, slope = predict(x, denoised, step)
        return x_hat + change * slope, memory

    return integrate(key, denoise, sigmas, shape, options, update, last=last)


def ancestral(
    key: jax.Array, denoise: Denoise, sigmas: jax.Array, shape: tuple[int, int, int], options: Options = Options()
) -> jax.Array:
    """N calls: the Euler-Maruyama step whose noise is that of q(x_t | x_s, x_0 = D), scaled by eta."""

    def update(x: jax.Array, denoised: Denoised, step: Step, memory: Any) -> tuple[jax.Array, Any]:
        down, up = ancestral_levels(step.sigma, step.sigma_next, options.noise.eta)
        x = x + (down - step.sigma) * (x - denoised(x, step.sigma, step.number)) / step.sigma
        return x + up * jax.random.normal(step.key, x.shape, x.dtype), memory

    return integrate(key, denoise, sigmas, shape, options, update)


def ancestral_levels(sigma: jax.Array, sigma_next: jax.Array, eta: jax.Array | float) -> tuple[jax.Array, jax.Array]:
    """(level to step down to, noise to put back): their squares sum to sigma_next^2."""
    up = jnp.minimum(eta * sigma_next * jnp.sqrt(1.0 - (sigma_next / sigma) ** 2), sigma_next)
    return jnp.sqrt(sigma_next**2 - up**2), up


class Memory(NamedTuple):
    """What a two-step method keeps of the step before; sigma = inf says that there was none."""

    denoised: jax.Array
    sigma: jax.Array


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
    eta = options.noise.eta if is_sde else 0.0

    def update(x: jax.Array, denoised: Denoised, step: Step, memory: Memory) -> tuple[jax.Array, Memory]:
        x0 = denoised(x, step.sigma, step.number)
        # exp(-h) = t/s; h_prev is infinite in the first step, h in the last: neither extrapolates.
        ratio, h_prev = step.sigma_next / step.sigma, jnp.log(memory.sigma / step.sigma)
        h = -jnp.log(jnp.where(ratio > 0.0, ratio, 1.0))
        extrapolated = x0 + 0.5 * (h / h_prev) * (x0 - memory.denoised)
        decay = ratio * ratio**eta
        x = decay * x + (1.0 - decay) * extrapolated
        if is_sde:
            kept = step.sigma_next * jnp.sqrt(jnp.maximum(1.0 - ratio ** (2.0 * eta), 0.0))
            x = x + kept * jax.random.normal(step.key, x.shape, x.dtype)
        return x, Memory(x0, step.sigma)

    nothing = Memory(jnp.zeros(shape, sigmas.dtype), jnp.full_like(sigmas[0], jnp.inf))
    return integrate(key, denoise, sigmas, shape, options, update, nothing)


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
