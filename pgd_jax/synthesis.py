"""Synthetic datasets for any offline RL library: windows from a run, as rows of a D4RL-format file."""

import functools
import os

import jax
import jax.numpy as jnp

from pgd_jax import config as configs, denoiser as denoisers, experiment as experiments, loop
from pgd_jax.data import codec as codecs, export
from pgd_jax.diffusion import guidance
from pgd_jax.errors import UserError
from pgd_jax.types import LogProb


def from_denoiser(path: str | os.PathLike, sampling: configs.SamplingConfig, seed: int) -> export.Flat:
    """Unguided rows from the denoiser run in `path`."""
    denoiser = denoisers.load(path)
    config = configs.AgentConfig(denoiser=str(path), sampling=sampling)
    plan = experiments.plan_of(config, denoiser.config.data.window_length)
    program = loop.Program(plan, None, denoiser.network, None)
    shared = loop.Shared(denoiser.params, denoiser.codec, None)
    return _rows(seed, guidance.uniform, jnp.float32(0.0), loop.ProgramHyper(None), shared, program)


def from_experiment(
    path: str | os.PathLike,
    lane: int,
    coefficient: float | None,
    num_trajectories: int,
    trajectories_per_batch: int,
    seed: int,
) -> export.Flat:
    """Rows guided by one lane's policy, from the newest checkpoint of the experiment in `path`.

    `coefficient` None takes the lane's own; 0 is unguided. Raises UserError for a lane that is not there.
    """
    experiment, states, _ = experiments.load(path)
    if experiment.program.network is None:
        raise UserError(
            f"{path} trained on real data alone and has no denoiser; name a run that generates, or a denoiser run"
        )
    num_lanes = len(experiment.lanes.settings)
    if not 0 <= lane < num_lanes:
        raise UserError(f"lane={lane}: {path} has lanes 0 to {num_lanes - 1}")
    state, hyper = jax.tree.map(lambda leaf: leaf[lane], (states, experiment.lanes.hypers))
    plan = experiment.program.plan._replace(
        num_trajectories=num_trajectories, trajectories_per_batch=trajectories_per_batch
    )
    strength = hyper.guidance_coefficient if coefficient is None else jnp.float32(coefficient)
    log_prob = functools.partial(experiment.program.agent.log_prob, state.agent)
    program = experiment.program._replace(plan=plan)
    return _rows(seed, log_prob, strength, hyper, experiment.shared, program)


def _rows(
    seed: int,
    log_prob: LogProb,
    coefficient: jax.Array,
    hyper: loop.ProgramHyper,
    shared: loop.Shared,
    program: loop.Program,
) -> export.Flat:
    generate = jax.jit(lambda key: loop.generate(key, log_prob, coefficient, hyper, shared, program))
    return export.flatten_windows(shared.codec, *codecs.to_transitions(shared.codec, generate(jax.random.key(seed))))
