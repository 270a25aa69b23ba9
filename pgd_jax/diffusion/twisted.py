"""The twisted diffusion sampler (Wu et al. 2023, arXiv 2306.17775, algorithm 1) for windows.

Guided samples are only near p_off(tau) prod_t pi(a_t | s_t)^lambda. A particle filter makes them exact as the number K
of particles grows: guidance proposes, importance weights correct, and particles are resampled among the K of their
group.

    x_k ~ N(0, s_0^2);  w_k = psi(x_k)                                  psi: log twisting function, guidance's own
    for i in 0 .. N-1, from s to t:
        resample x, w by w where the effective sample size is below K / 2
        x'_k ~ N(mean(D_lambda), up^2),  mean(D) = D + (t/s)^2 (x - D)  the ancestral step of the guided denoiser
        w_k <- w_k N(x'_k; mean(D), up^2) psi(x'_k) / (N(x'_k; mean(D_lambda), up^2) psi(x_k))
    the last step, to 0, ends at D, unguided; psi at 0 is pi^lambda itself; resample

The answer is exact for the model's own discretised ancestral sampler. Windows of one group are not independent, and
repeat each other where the weights are uneven: more so, the more rows a window has.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp

from pgd_jax.core.errors import UserError
from pgd_jax.core.types import Denoise
from pgd_jax.diffusion import samplers

MIN_EFFECTIVE_SHARE = 0.5  # of a group's particles; below it the group is resampled


def sample(
    key: jax.Array,
    denoise: Denoise,
    sigmas: jax.Array,
    shape: tuple[int, int, int],
    options: samplers.Options = samplers.Options(),
) -> jax.Array:
    """x f32[B, T, D] in network space; `denoise` is the unguided denoiser, guidance is `options.twist`. N calls.

    Raises UserError where the B windows cannot be divided into groups of `options.num_particles`.
    """
    num_particles = options.num_particles
    if num_particles < 1 or shape[0] % num_particles:
        raise UserError(
            f"twisted sampler: {shape[0]} windows at once cannot be divided into groups of {num_particles} particles"
        )
    key_start, key_steps, key_last = jax.random.split(key, 3)
    x = samplers.begin(key_start, sigmas, shape, options.start)
    every = samplers.steps(key_steps, sigmas)

    def body(carry: tuple[jax.Array, ...], step: samplers.Step) -> tuple[tuple[jax.Array, ...], Any]:
        x, log_weight, log_psi = carry
        key_noise, key_resample = jax.random.split(step.key)
        x0 = denoise(x, step.sigma)
        tilted, log_psi_here = options.twist(x0, step.sigma)
        chosen, log_weight = resample(key_resample, log_weight + log_psi_here - log_psi, num_particles)
        x, x0, tilted, log_psi_here = (leaf[chosen] for leaf in (x, x0, tilted, log_psi_here))
        seen = (x, tilted, chosen) if options.record else None
        x, log_ratio = propose(key_noise, x, x0, tilted, step)
        return (x, log_weight + log_ratio, log_psi_here), seen

    nothing = jnp.zeros(shape[0], sigmas.dtype)
    carry: tuple[jax.Array, ...] = (x, nothing, nothing)
    (x, log_weight, log_psi), seen = jax.lax.scan(body, carry, jax.tree.map(lambda leaf: leaf[:-1], every))
    x0 = denoise(x, sigmas[-2])
    log_weight = log_weight + options.twist(x0, jnp.zeros_like(sigmas[-1]))[1] - log_psi
    last = resample(key_last, log_weight, num_particles, min_effective_share=math.inf)[0]
    if options.record:
        options.record(ways(seen, (x, x0), last, sigmas))
    return x0[last]


def ways(
    seen: tuple[jax.Array, ...], end: tuple[jax.Array, jax.Array], last: jax.Array, sigmas: jax.Array
) -> samplers.Record:
    """The record of the windows that are left: the way of each is that of its ancestors.

    `seen` are the noised and denoised windows [N - 1, B, T, D] after each resampling and whom it chose i32[N - 1, B];
    `end` are the last step's windows [B, T, D], of which `last` i32[B] are left.
    """

    def back(index: jax.Array, step: tuple[jax.Array, ...]) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        noisy, denoised, chosen = step
        return chosen[index], (noisy[index], denoised[index])

    before = jax.lax.scan(back, last, seen, reverse=True)[1]
    noisy, denoised = jax.tree.map(lambda steps, leaf: jnp.concatenate([steps, leaf[last][None]]), before, end)
    return samplers.Record(noisy, noisy, sigmas[:-1], denoised)


def propose(
    key: jax.Array, x: jax.Array, x0: jax.Array, tilted: jax.Array, step: samplers.Step
) -> tuple[jax.Array, jax.Array]:
    """The guided ancestral step, and log of its density under the unguided step over that under itself, f32[B]."""
    up = samplers.ancestral_levels(step.sigma, step.sigma_next, 1.0)[1]
    share = (step.sigma_next / step.sigma) ** 2
    noise = jax.random.normal(key, x.shape, x.dtype)
    gap = (1.0 - share) * (tilted - x0) / up
    # log N(mean + gap up + noise up; mean, up^2) - log N(...; mean + gap up, up^2)
    log_ratio = -jnp.sum(gap * (0.5 * gap + noise), axis=(-2, -1))
    return tilted + share * (x - tilted) + up * noise, log_ratio


def resample(
    key: jax.Array, log_weight: jax.Array, num_particles: int, min_effective_share: float = MIN_EFFECTIVE_SHARE
) -> tuple[jax.Array, jax.Array]:
    """(index i32[B] of each window's ancestor, log weights f32[B] after it) from log weights f32[B].

    Groups are runs of `num_particles`. Systematic resampling (Douc & Cappe 2005): one uniform number a group; equal
    weights draw every window once. Groups whose effective sample size is not below the share keep windows and weights.
    """
    grouped = log_weight.reshape(-1, num_particles)
    weight = jax.nn.softmax(grouped, axis=-1)
    effective = 1.0 / jnp.sum(weight**2, axis=-1, keepdims=True)
    num_groups = grouped.shape[0]
    uniform = jax.random.uniform(key, (num_groups, 1), weight.dtype)
    position = (jnp.arange(num_particles, dtype=weight.dtype)[None, :] + uniform) / num_particles
    # The last sum is 1 only but for rounding: no position may find itself beyond it.
    below = jnp.cumsum(weight, axis=-1)[:, None, :-1] <= position[:, :, None]
    ancestor = jnp.sum(below, axis=-1, dtype=jnp.int32)
    keep = effective >= min_effective_share * num_particles
    own = jnp.arange(num_particles, dtype=jnp.int32)[None, :]
    chosen = jnp.where(keep, own, ancestor) + num_particles * jnp.arange(num_groups, dtype=jnp.int32)[:, None]
    log_mean = jax.nn.logsumexp(grouped, axis=-1, keepdims=True) - math.log(num_particles)
    kept = jnp.where(keep, grouped, jnp.broadcast_to(log_mean, grouped.shape))
    return chosen.reshape(-1), kept.reshape(-1)


samplers.SAMPLERS.add(
    "twisted", samplers.Sampler(sample, order=1, calls=lambda n: n, is_stochastic=True, is_twisted=True)
)
