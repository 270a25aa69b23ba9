"""Looking inside a sampling: what each noise step saw, what guidance did to it, and where it asked the policy.

    record    a sampler's x, and what its N steps saw: they leave the scan as its outputs, no callback to the host
    explain   the same steps without guidance: one more denoiser call for each guided step, two for the rule "paper"

No sampler knows of the second, no rule of either: all of them can be traced, and so can a user's own.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from pgd_jax.core.errors import UserError
from pgd_jax.core.types import Denoise
from pgd_jax.diffusion import guidance, samplers


class Steps(NamedTuple):
    """The N steps of a sampling of B windows, network space."""

    sigma: jax.Array  # f32[N] noise level at which the denoiser was called
    strength: jax.Array  # f32[N] lambda(s) of the step; 0: guidance was off
    log_prob: jax.Array  # f32[N, B, T] log pi at `evaluated`
    noisy: jax.Array  # f32[N, B, T, D] what the denoiser was called with
    denoised: jax.Array  # f32[N, B, T, D] what it answered, guided
    unguided: jax.Array  # f32[N, B, T, D] what it would have answered in this step without guidance
    evaluated: jax.Array  # f32[N, B, T, D] where the rule evaluated the policy; where guidance was off, `denoised`


def record(
    sampler: str,
    key: jax.Array,
    denoise: Denoise,
    sigmas: jax.Array,
    shape: tuple[int, int, int],
    options: samplers.Options,
) -> tuple[jax.Array, samplers.Record]:
    """x f32[B, T, D] of the sampler of this name, and what its steps saw. Raises UserError where it does not tell."""
    found: list[samplers.Record | None] = []
    run = samplers.SAMPLERS.get(sampler).sample
    try:
        x = run(key, denoise, sigmas, shape, options._replace(record=found.append))
    except jax.errors.UnexpectedTracerError:  # from within a loop or branch of the sampler's own
        found.clear()
    if len(found) != 1 or found[0] is None:
        raise UserError(
            f'sampler "{sampler}" does not record its steps: build it by one call of pgd_jax.diffusion.samplers.'
            "integrate, with an `update` that calls the denoiser it is given, outside loops and branches of its own"
        )
    return x, found[0]


def explain(found: samplers.Record, guided: guidance.Guided, denoise: Denoise, sigmas: jax.Array) -> Steps:
    """The steps next to what they had been without guidance; `denoise` is the plain denoiser, `guided` by `guide`."""
    steering, levels = guided.steering, sigmas[:-1]
    assert steering is not None
    layout = steering.normalizer.layout
    log_prob, decode = guidance.in_own_coordinates(steering.log_prob, steering.normalizer)
    is_between_steps = guided.shift is not samplers.identity  # as the paper's rules are: not at the denoiser's call
    strength = steering.strength(levels if is_between_steps else found.sigma)

    def unsteered(number: jax.Array, level: jax.Array, seen: samplers.Record) -> tuple[jax.Array, jax.Array]:
        moved = guided.shift(seen.x, level, number) - seen.x
        unguided = denoise(seen.noisy - moved, seen.sigma)
        if not is_between_steps:
            return unguided, unguided
        return unguided, seen.x if guided.is_at_noised else denoise(seen.x, level)

    def look(item: tuple) -> tuple[jax.Array, jax.Array, jax.Array]:
        number, level, is_on, seen = item
        nothing = lambda number, level, seen: (seen.denoised, seen.denoised)
        unguided, evaluated = jax.lax.cond(is_on, unsteered, nothing, number, level, seen)
        value = log_prob(evaluated[..., layout.obs], decode(evaluated[..., layout.action]))
        return unguided, evaluated, value

    numbers = jnp.arange(levels.size, dtype=jnp.int32)
    unguided, evaluated, value = jax.lax.map(look, (numbers, levels, strength > 0.0, found))
    return Steps(found.sigma, strength, value, found.noisy, found.denoised, unguided, evaluated)
