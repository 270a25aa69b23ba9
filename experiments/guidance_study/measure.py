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
from pgd_jax import behaviour as behaviours, denoiser as denoisers, experiment as experiments, generation, planning
from pgd_jax.analysis import quality, windows as real_windows
from pgd_jax.config import AgentConfig
from pgd_jax.data import codec as codecs
from pgd_jax.diffusion import schedules, train
from pgd_jax.envs.base import ENVS
from pgd_jax.program import Program, ProgramHyper, Shared

KEY_REFERENCE = 18


class Models(NamedTuple):
    """What is measured with, of one task and kind of target policy."""

    program: Program  # but for its plan
    shared: Shared
    agents: Any  # states of the target policies, leading axis S
    reference: jax.Array  # f32[R, T, D] real windows, network space
    window_length: int
    fitted: str  # name of the noise schedule fitted to this denoiser
    measure: Any  # jitted: (windows f32[S, M, T, D], agents, shared.codec, reference) -> measures [S, ...]


def load(workdir: pathlib.Path, task: setting.Task, agent: str, sizes: setting.Sizes) -> Models:
    """Reads what `prepare` left under workdir/<task>."""
    folder = workdir / task.name
    trained, (made, states, _) = denoisers.load(folder / "denoiser"), experiments.load(folder / agent)
    cloned = behaviours.load(folder / "behaviour", trained.codec)
    length, env = trained.config.data.window_length, ENVS.get(task.environment)()
    real = real_windows.real(jax.random.key(KEY_REFERENCE), made.raw, length, sizes.reference_windows)
    reference = codecs.encode(trained.codec, jnp.asarray(real))
    program = Program(None, made.program.agent, trained.network, env, cloned.network)
    shared = Shared(trained.params, trained.codec, None, cloned.params)

    def measure(windows: jax.Array, state: Any, codec: Any, reference: jax.Array) -> quality.Measures:
        log_prob = functools.partial(program.agent.log_prob, state)
        return quality.measure(windows, log_prob, codec, env, reference, sizes.dynamics_windows, env.reward_of)

    measure = jax.jit(jax.vmap(measure, in_axes=(0, 0, None, None)))
    name = f"fitted to {task.name}"
    if name not in schedules.SCHEDULES:
        errors = fitted.errors(train.denoiser(trained.network, trained.params), reference)
        schedules.SCHEDULES.add(name, fitted.schedule(errors))
    return Models(program, shared, states.agent, reference, length, name, measure)


@functools.partial(jax.jit, static_argnums=0)
def generate(
    program: Program, keys: jax.Array, agents: Any, coefficient: jax.Array, hyper: ProgramHyper, shared: Shared
) -> jax.Array:
    """Windows f32[S, M, T, D] from keys [S] and agents [S, ...]; every float is traced, so that few cells compile."""

    def one(key: jax.Array, agent: Any) -> jax.Array:
        log_prob = functools.partial(program.agent.log_prob, agent)
        return generation.generate(key, log_prob, coefficient, hyper, shared, program)

    return jax.vmap(one)(keys, agents)


def program_of(cell: Cell, models: Models, sizes: setting.Sizes) -> Program:
    sampling = dataclasses.replace(
        cell.sampling, num_trajectories=sizes.num_windows, trajectories_per_batch=sizes.num_windows
    )
    plan = planning.plan_of(AgentConfig(sampling=sampling), models.window_length)
    if cell.noise_schedule == "fitted":
        plan = plan._replace(noise_schedule=models.fitted)
    return models.program._replace(plan=plan, behaviour=models.program.behaviour if cell.behaviour else None)


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
    program, hyper = program_of(cell, models, sizes), jax.tree.map(jnp.float32, cell.hyper)
    keys = jax.random.split(jax.random.key(noise), setting.NUM_SEEDS)
    return generate(program, keys, models.agents, jnp.float32(coefficient), hyper, models.shared)


def measures_of(windows: jax.Array, models: Models) -> quality.Measures:
    """By name, one value a policy [S, ...]."""
    measures = jax.device_get(models.measure(windows, models.agents, models.shared.codec, models.reference))
    return {name: np.asarray(value) for name, value in measures.items()}
