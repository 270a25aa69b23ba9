"""Synthetic data of one phase: guided windows, their transitions, and how good they are."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pgd_jax import devices
from pgd_jax.agents import cloned
from pgd_jax.analysis import dynamics_error as dynamics
from pgd_jax.data import codec as codecs
from pgd_jax.diffusion import guidance, samplers, schedules, train
from pgd_jax.program import Program, ProgramHyper, Shared
from pgd_jax.types import Codec, LogProb, Transition

Metrics = dict[str, jax.Array]


class Synthetic(NamedTuple):
    """Generated transitions, flattened, and where the valid ones are (those after a generated terminal are not)."""

    transition: Transition  # [M * T, ...]
    valid: jax.Array  # bool[M * T]
    index: jax.Array  # i32[M * T] the valid rows first
    num_valid: jax.Array  # i32[] at least M: the first row of every window is valid


def generate(
    key: jax.Array,
    log_prob: LogProb,
    coefficient: jax.Array,
    hyper: ProgramHyper,
    shared: Shared,
    program: Program,
    start: jax.Array | None = None,
) -> jax.Array:
    """Guided windows f32[M, T, D] in network space, `trajectories_per_batch` at a time; coefficient 0 is unguided.

    A share of the batches is guided (`hyper.guided_share`, `is_guided`); the policy is evaluated in none of the others,
    unless another lane guides them.
    A warm start renews the windows `start` f32[M, T, D]: noised to `warm_sigma`, then `warm_steps` steps.
    """
    plan, codec = program.plan, shared.codec
    if program.behaviour is not None:
        behaviour = functools.partial(cloned.log_prob, program.behaviour, shared.behaviour)
        log_prob = guidance.without_behaviour(log_prob, behaviour, hyper.guidance.behaviour)
    num_steps, sigma_max, modes = plan.num_steps, hyper.sigma_max, plan.modes
    if start is not None:
        num_steps, sigma_max, modes = plan.warm_steps, hyper.warm_sigma, plan.warm_modes
    denoise = train.denoiser(program.network, shared.denoiser)
    sampler = samplers.SAMPLERS.get(plan.sampler)
    sigmas = schedules.SCHEDULES.get(plan.noise_schedule)(num_steps, hyper.sigma_min, sigma_max, hyper.rho)
    shape = (plan.trajectories_per_batch, plan.window_length, codec.layout.dim)

    def sample(made: guidance.Guided, key: jax.Array, start: jax.Array | None) -> jax.Array:
        options = made.options(shape, noise=hyper.noise, start=start, num_particles=plan.num_particles)
        return sampler.sample(key, made.denoise, sigmas, shape, options)

    def guided(key: jax.Array, start: jax.Array | None, index: jax.Array) -> jax.Array:
        strength = jnp.where(is_guided(index.astype(jnp.float32), hyper.guided_share), coefficient, 0.0)
        made = guidance.guide(
            denoise, log_prob, codec, strength, num_steps, plan.guidance, plan.guidance_schedule, hyper.guidance,
            plan.policy_every, modes,
        )  # fmt: skip
        return sample(made, key, start)

    def batch(item: tuple[jax.Array, jax.Array | None, jax.Array]) -> jax.Array:
        key, start, index = item
        if plan.guided_batches is None:
            return guided(key, start, index)
        # The same choice in every lane, so that it stays one under vmap: only one of the two is computed.
        unguided = functools.partial(sample, guidance.Guided(denoise))
        is_any = jnp.array(plan.guided_batches)[index]
        return jax.lax.cond(is_any, guided, lambda key, start, _: unguided(key, start), key, start, index)

    keys = jax.random.split(key, plan.num_batches)
    starts = None if start is None else start.reshape(plan.num_batches, *shape)
    windows = devices.map_windows(batch, (keys, starts, jnp.arange(plan.num_batches)), program.mesh)
    return windows.reshape(plan.num_trajectories, plan.window_length, codec.layout.dim)


def is_guided(index: jax.Array | np.ndarray, share: jax.Array | np.ndarray | float) -> jax.Array | np.ndarray:
    """Whether batch `index` f32[...] is guided: the nearest number of batches to the share, evenly spread."""
    array = jnp if isinstance(index, jax.Array) or isinstance(share, jax.Array) else np
    return array.floor((index + 1.0) * share + 0.5) > array.floor(index * share + 0.5)


def flatten(codec: Codec, windows: jax.Array) -> Synthetic:
    """Windows f32[M, T, D] -> transitions [M * T], with the valid rows' indices compacted once, not per batch."""
    transition, valid = codecs.to_transitions(codec, windows)
    num_rows = valid.size
    transition = jax.tree.map(lambda leaf: leaf.reshape(num_rows, *leaf.shape[2:]), transition)
    valid = valid.reshape(num_rows)
    index = jnp.nonzero(valid, size=num_rows, fill_value=0)[0].astype(jnp.int32)
    return Synthetic(transition, valid, index, jnp.sum(valid, dtype=jnp.int32))


def describe(synthetic: Synthetic, log_prob: LogProb, shared: Shared, program: Program) -> Metrics:
    """How on-policy and how true the synthetic data are.

    log pi(a|s) per action under the policy that guided them, and the normalised squared error of the next observation
    against the environment in the first K = `dynamics_windows` windows, which are independent draws: of all rows, of
    rows in reachable states, by window f32[K] and by position in the window f32[T - 1].
    """
    rows = synthetic.transition
    weight = synthetic.valid.astype(jnp.float32)
    total = jnp.sum(weight)
    metrics = {
        "synthetic_log_likelihood": jnp.sum(weight * log_prob(rows.obs, rows.action)) / total,
        "synthetic_valid_share": total / weight.size,
        "synthetic_reward_mean": jnp.sum(weight * rows.reward) / total,
    }
    if program.env is not None and program.env.from_obs is not None and program.plan.dynamics_windows:
        metrics |= _dynamics(synthetic, shared, program)
    return metrics


def _dynamics(synthetic: Synthetic, shared: Shared, program: Program) -> Metrics:
    length, num_rows = program.plan.window_length, program.plan.dynamics_windows * program.plan.window_length
    rows, valid = jax.tree.map(lambda leaf: leaf[:num_rows], (synthetic.transition, synthetic.valid))
    measured = dynamics.of_transitions(program.env, shared.codec, rows, valid)
    error, weight, reachable = (leaf.reshape(-1, length) for leaf in measured)

    def mean(weight: jax.Array, axis: int | None = None) -> jax.Array:
        # Over 1 at least: a window of nothing but a terminal row has no error to speak of, and must not stop the run.
        return jnp.sum(weight * error, axis) / jnp.maximum(jnp.sum(weight, axis), 1.0)

    return {
        "dynamics_error": mean(weight),
        "dynamics_error_reachable": mean(weight * reachable),
        "synthetic_reachable_share": jnp.sum(weight * reachable) / jnp.maximum(jnp.sum(weight), 1.0),
        "dynamics_defined_share": jnp.sum(weight)
        / jnp.maximum(jnp.sum(valid.astype(jnp.float32) * (1.0 - rows.terminal)), 1.0),
        "dynamics_error_by_window": mean(weight, 1),
        "dynamics_error_by_position": mean(weight, 0)[:-1],  # the last row has no successor
    }
