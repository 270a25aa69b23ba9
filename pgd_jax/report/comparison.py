"""The controlled comparison: the same policy and the same noise, with and without guidance.

It shows how much more on-policy guidance makes the data, and how much dynamics error it adds. In a run, guided and
unguided lanes train different policies, so their synthetic data differ for two reasons. Here each lane's final policy
generates twice from the same key, once with coefficient 0: only guidance differs. The measures are those of PGD
(arXiv 2404.06356): log pi(a|s) per action, and the normalised squared error of the next observation. The mean of that
error depends on few windows: one that starts inside a wall can outweigh 255 others. So the error of every window is
returned too, for a median.
"""

import dataclasses
import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pgd_jax.agents.base import log_prob_of
from pgd_jax.core.types import Transition
from pgd_jax.data import normalizer as normalizers
from pgd_jax.generators import diffusion
from pgd_jax.generators.base import Metrics, describe
from pgd_jax.measures import dynamics
from pgd_jax.runs.experiment import Experiment
from pgd_jax.train import loop

# Windows per lane and coefficient. Likelihoods need few. The dynamics error depends on the one window in a hundred that
# is far off.
MAX_WINDOWS = 1_024
MAX_SHOWN = 64  # windows per lane and coefficient that are returned for figures
MAX_REAL_ROWS = 16_384


class Comparison(NamedTuple):
    """Two sets of windows for each lane: index 0 is unguided, index 1 guided."""

    coefficients: np.ndarray  # f32[L] of the guided set
    metrics: dict[str, np.ndarray]  # those of `generators.base.describe`, [L, 2, ...]
    windows: np.ndarray  # f32[L, 2, K, T, D] the first K of each, environment space
    num_windows: int  # behind each mean


def controlled(key: jax.Array, experiment: Experiment, agents: Any) -> Comparison:
    """Generates with and without guidance by each lane's policy (`agents`, leading axis L), from the same noise.

    For an unguided lane, guidance has the largest coefficient of the run, or 1 if all are 0.
    """
    assert experiment.program.generator is not None
    hypers = experiment.lanes.hypers.generator
    hypers = hypers.replace(guided_share=jnp.ones_like(hypers.guided_share))
    own = hypers.guidance_coefficient
    largest = jnp.max(own)
    guided = jnp.where(own == 0.0, jnp.where(largest > 0.0, largest, 1.0), own)
    coefficients = jnp.stack([jnp.zeros_like(guided), guided], axis=1)
    program, plan = experiment.program, _shortened(experiment.program.generator.plan)
    keys = jax.random.split(key, own.shape[0])
    metrics, windows = _generate_twice(program, plan, keys, agents, hypers, coefficients, experiment.shared)
    num_windows = plan.sampling.num_trajectories
    return Comparison(np.asarray(guided), jax.device_get(metrics), jax.device_get(windows), num_windows)


def real_log_likelihood(key: jax.Array, experiment: Experiment, agents: Any) -> np.ndarray:
    """f32[L]: mean log pi(a|s) of the dataset's actions under each lane's policy, over at most 16,384 rows."""
    real = _real_rows(key, experiment)
    log_prob = functools.partial(_mean_log_prob, experiment.program, real)
    return np.asarray(jax.jit(jax.vmap(log_prob))(agents))


def real_dynamics_error(key: jax.Array, experiment: Experiment) -> float | None:
    """Normalised squared error of the dataset's own next observations. It is not 0 only because records are rounded.

    None if the environment cannot be put into the state of an observation.
    """
    env, normalizer = experiment.program.env, experiment.shared.normalizer
    if env is None or env.from_obs is None:
        return None
    real = _real_rows(key, experiment)
    obs, next_obs = normalizers.decode_obs(normalizer, real.obs), normalizers.decode_obs(normalizer, real.next_obs)
    measure = jax.jit(functools.partial(dynamics.dynamics_error, env))
    error = measure(obs, real.action, next_obs, normalizer.std[normalizer.layout.obs])
    weight = 1.0 - real.terminal
    return float(jnp.sum(weight * error) / jnp.sum(weight))


def _real_rows(key: jax.Array, experiment: Experiment) -> Transition:
    """All rows, or a random choice of them if there are more than needed."""
    real = experiment.shared.real
    num_rows = real.reward.shape[0]
    if num_rows <= MAX_REAL_ROWS:
        return real
    rows = jax.random.randint(key, (MAX_REAL_ROWS,), 0, num_rows)
    return jax.tree.map(lambda leaf: leaf[rows], real)


def _mean_log_prob(program: loop.Program, rows: Transition, agent: Any) -> jax.Array:
    return jnp.mean(program.agent.log_prob(agent, rows.obs, rows.action))


def _shortened(plan: diffusion.Plan) -> diffusion.Plan:
    """The plan with batches of half the run's size, so that two sets per lane take no more memory than the run did."""
    sampling = plan.sampling
    wanted = min(MAX_WINDOWS, 2 * sampling.num_trajectories)
    batch = max(min(sampling.trajectories_per_batch, wanted) // 2, 1)
    sampling = dataclasses.replace(
        sampling, trajectories_per_batch=batch, num_trajectories=wanted // batch * batch,
        num_particles=math.gcd(batch, sampling.num_particles), warm_steps=0,
    )  # fmt: skip
    return plan._replace(sampling=sampling, guided_batches=None)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _generate_twice(
    program: loop.Program,
    plan: diffusion.Plan,
    keys: jax.Array,
    agents: Any,
    hypers: diffusion.Hyper,
    coefficients: jax.Array,
    shared: loop.Shared,
) -> tuple[Metrics, jax.Array]:
    """keys [L], agents and hypers [L, ...], coefficients f32[L, 2] -> metrics [L, 2, ...], windows [L, 2, K, T, D]."""
    normalizer = shared.normalizer
    num_measured = plan.sampling.num_trajectories if program.plan.dynamics_windows else 0

    def generate(
        key: jax.Array, agent: Any, hyper: diffusion.Hyper, coefficient: jax.Array
    ) -> tuple[Metrics, jax.Array]:
        log_prob = log_prob_of(program.agent, agent)
        windows = diffusion.sample(plan, key, log_prob, coefficient, hyper, shared.model, normalizer)
        synthetic = diffusion.flatten(normalizer, windows)
        metrics = describe(synthetic, log_prob, normalizer, program.env, plan.window_length, num_measured)
        return metrics, normalizers.decode(normalizer, windows[:MAX_SHOWN])

    both = jax.vmap(generate, in_axes=(None, None, None, 0))
    return jax.vmap(both)(keys, agents, hypers, coefficients)
