"""One measurement: windows guided by every target policy, under one choice of rule, sampler and noise levels."""

import dataclasses
import functools
import pathlib
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.guidance_study import fitted, setting
from experiments.guidance_study.cells import Cell
from pgd_jax.agents.base import Agent, log_prob_of
from pgd_jax.core.types import Normalizer
from pgd_jax.data import normalizer as normalizers
from pgd_jax.diffusion import edm, schedules
from pgd_jax.envs.base import ENVS
from pgd_jax.generators import diffusion
from pgd_jax.measures import quality
from pgd_jax.networks.base import Network
from pgd_jax.report import windows as real_windows
from pgd_jax.runs import agent as agent_runs, behaviour as behaviours, denoiser as denoisers

KEY_REFERENCE = 18


class Models(NamedTuple):
    """What is measured with, of one task and kind of target policy."""

    agent: Agent
    agents: Any  # states of the target policies, leading axis S
    network: Network  # the denoiser's
    behaviour: Network
    model: diffusion.Model
    normalizer: Normalizer
    reference: jax.Array  # f32[R, T, D] real windows, network space
    window_length: int
    fitted: str  # name of the noise schedule fitted to this denoiser
    measure: Any  # jitted: (windows f32[S, M, T, D], agents, normalizer, reference) -> measures [S, ...]


def load(workdir: pathlib.Path, task: setting.Task, agent: str, sizes: setting.Sizes) -> Models:
    """Reads what `prepare` left under workdir/<task>."""
    folder = workdir / task.name
    trained, (made, states, _) = denoisers.load(folder / "denoiser"), agent_runs.load(folder / agent)
    cloned = behaviours.load(folder / "behaviour", trained.normalizer)
    length, env = trained.config.data.window_length, ENVS.get(task.environment)()
    real = real_windows.real(jax.random.key(KEY_REFERENCE), made.raw, length, sizes.reference_windows)
    reference = normalizers.encode(trained.normalizer, jnp.asarray(real))

    def measure(windows: jax.Array, state: Any, normalizer: Any, reference: jax.Array) -> quality.Measures:
        log_prob = log_prob_of(made.program.agent, state)
        return quality.measure(windows, log_prob, normalizer, env, reference, sizes.dynamics_windows, env.reward_of)

    measure = jax.jit(jax.vmap(measure, in_axes=(0, 0, None, None)))
    name = f"fitted to {task.name}"
    if name not in schedules.SCHEDULES:
        errors = fitted.errors(edm.denoiser(trained.network, trained.params), reference)
        schedules.SCHEDULES.add(name, fitted.schedule(errors))
    return Models(
        made.program.agent, states.agent, trained.network, cloned.network,
        diffusion.Model(trained.params, cloned.params), trained.normalizer, reference, length, name, measure,
    )  # fmt: skip


@functools.partial(jax.jit, static_argnums=(0, 1))
def generate(
    agent: Agent,
    plan: diffusion.Plan,
    keys: jax.Array,
    agents: Any,
    coefficient: jax.Array,
    hyper: diffusion.Hyper,
    model: diffusion.Model,
    normalizer: Normalizer,
    start: jax.Array | None = None,
) -> jax.Array:
    """Windows f32[S, M, T, D] from keys [S] and agents [S, ...]; every float is traced, so that few cells compile.

    A warm start renews the windows `start` of the same shape.
    """

    def one(key: jax.Array, state: Any, start: jax.Array | None) -> jax.Array:
        log_prob = log_prob_of(agent, state)
        return diffusion.sample(plan, key, log_prob, coefficient, hyper, model, normalizer, start)

    return jax.vmap(one)(keys, agents, start)


def plan_of(cell: Cell, models: Models, sizes: setting.Sizes) -> diffusion.Plan:
    plan = cell.plan(sizes.num_windows, models.window_length, models.network, models.behaviour)
    if cell.noise_schedule != "fitted":
        return plan
    return plan._replace(sampling=dataclasses.replace(plan.sampling, noise_schedule=models.fitted))


def points(
    cell: Cell, coefficients: list[float], noise: int, models: Models, sizes: setting.Sizes
) -> Iterator[tuple[float, quality.Measures, float]]:
    """Yields (lambda, measures by name with one value a seed, seconds of sampling) for each coefficient.

    Cells of one `noise` start from the same windows of it, so that they are compared in pairs.
    """
    for coefficient in coefficients:
        began = time.perf_counter()
        windows = sample(cell, coefficient, noise, models, sizes).block_until_ready()
        seconds = time.perf_counter() - began  # the first one's with its compilation
        yield coefficient, measures_of(windows, models), seconds


def sample(cell: Cell, coefficient: float, noise: int, models: Models, sizes: setting.Sizes) -> jax.Array:
    """Windows f32[S, M, T, D] of every target policy, from the seed `noise`."""
    plan, hyper = plan_of(cell, models, sizes), jax.tree.map(jnp.float32, cell.hyper)
    keys, strength = jax.random.split(jax.random.key(noise), setting.NUM_SEEDS), jnp.float32(coefficient)
    return generate(models.agent, plan, keys, models.agents, strength, hyper, models.model, models.normalizer)


def measures_of(windows: jax.Array, models: Models) -> quality.Measures:
    """By name, one value a policy [S, ...]."""
    measures = jax.device_get(models.measure(windows, models.agents, models.normalizer, models.reference))
    return {name: np.asarray(value) for name, value in measures.items()}
