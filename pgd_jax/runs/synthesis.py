"""Synthetic datasets for any offline RL library: windows from a run, as rows in D4RL's or in Minari's format."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from pgd_jax.agents.base import log_prob_of
from pgd_jax.core import config as configs, places, validation
from pgd_jax.core.errors import UserError
from pgd_jax.core.types import LogProb, Normalizer, Transition
from pgd_jax.data import export, loading, minari, minari_export, normalizer as normalizers
from pgd_jax.data.base import RawDataset, Reading
from pgd_jax.diffusion import guidance
from pgd_jax.generators import diffusion, ensemble, settings as sampling_settings
from pgd_jax.runs import agent as agent_runs, denoiser as denoisers, footprint, records
from pgd_jax.train import loop


class Unguided(NamedTuple):
    denoiser: str  # run directory of train_denoiser


class Guided(NamedTuple):
    """Sampler and steps, or horizon and floats of rollouts, are the run's own too."""

    run: str  # run directory of train_agent
    lane: int  # whose policy guides
    coefficient: float | None  # None: the lane's own; 0 is unguided


class Prepared(NamedTuple):
    """A source, read and checked."""

    raw: RawDataset  # whose task the rows belong to, which readers get back
    made: dict[str, str]  # how the rows come about
    sample: Callable[[int], export.Flat]  # by seed


def write(out: str, source: Unguided | Guided, sampling: configs.SamplingConfig, seed: int) -> tuple[int, str]:
    """Samples into `out`, an HDF5 file or minari:<id>; returns the number of rows and where they are.

    Raises UserError, before it samples, where nothing can be written or something is there, for a sampling that cannot
    work, and where the dataset of the source is gone.
    """
    _check_place(out)
    validation.validate_sampling(sampling)
    validation.check_seed("seed", seed)
    raw, made, sample = _guided(source, sampling) if isinstance(source, Guided) else _unguided(source, sampling)
    flat = sample(seed)
    origin = {"source": "pgd_jax synthetic", **made, "dataset": raw.name, "env": raw.env, "reference": raw.reference}
    origin |= {"action_bounds": raw.action_bounds, "seed": str(seed)}
    if out.startswith(minari.PREFIX):
        return len(flat.rewards), str(minari_export.write(out.removeprefix(minari.PREFIX), flat, origin))
    export.write_hdf5(out, *flat, metadata=origin)
    return len(flat.rewards), out


def _check_place(out: str) -> None:
    path = pathlib.Path(out)
    if out.startswith(minari.PREFIX):
        dataset_id = out.removeprefix(minari.PREFIX)
        minari_export.check_new(dataset_id)
        path = minari.root() / dataset_id
    places.check_place(path)


def _unguided(source: Unguided, sampling: configs.SamplingConfig) -> Prepared:
    denoiser = denoisers.load(source.denoiser)
    data = denoiser.config.data
    records.say_what_it_names(source.denoiser, "dataset", data.dataset)
    raw = loading.load(data.dataset, reading=Reading.of(data))
    sampling_settings.check(sampling)
    plan = diffusion.Plan(sampling, data.window_length, denoiser.network)
    model, strength = diffusion.Model(denoiser.params), jnp.float32(0.0)
    sample = functools.partial(_rows, plan, guidance.uniform, strength, diffusion.Hyper(), model, denoiser.normalizer)
    return Prepared(raw, {"run": source.denoiser}, sample)


def _guided(source: Guided, sampling: configs.SamplingConfig) -> Prepared:
    """By one lane's policy, from the newest checkpoint. Raises UserError for a lane that is not there."""
    experiment, states, _ = agent_runs.load(source.run)
    if experiment.program.generator is None:
        raise UserError(
            f"{source.run} trained on real data alone and has no denoiser; name a run that generates, or a denoiser run"
        )
    num_lanes = len(experiment.lanes.settings)
    if not 0 <= source.lane < num_lanes:
        raise UserError(f"lane={source.lane}: {source.run} has lanes 0 to {num_lanes - 1}")
    plan = experiment.program.generator.plan
    if isinstance(plan, ensemble.Plan):
        return _rolled_out(source, sampling, experiment, states, plan)
    if not isinstance(plan, diffusion.Plan):
        raise UserError(
            f"{source.run} generates by {experiment.config.generator}, which cannot be sampled; name another run"
        )
    own, hypers = plan.sampling, experiment.lanes.hypers.generator
    state, hyper = jax.tree.map(lambda leaf: leaf[source.lane], (states, hypers))
    own = dataclasses.replace(
        own, num_trajectories=sampling.num_trajectories, trajectories_per_batch=sampling.trajectories_per_batch
    )
    validation.validate_sampling(own)
    plan = plan._replace(sampling=own, guided_batches=None)
    hyper = hyper.replace(guided_share=jnp.float32(1.0))  # a dataset of the lane's policy, whatever it learned from
    strength = hyper.guidance_coefficient if source.coefficient is None else jnp.float32(source.coefficient)
    log_prob = log_prob_of(experiment.program.agent, state.agent)
    made = {"run": source.run, "lane": str(source.lane), "coefficient": str(source.coefficient)}
    shared = experiment.shared
    sample = functools.partial(_rows, plan, log_prob, strength, hyper, shared.model, shared.normalizer)
    return Prepared(experiment.raw, made, sample)


def _rolled_out(
    source: Guided,
    sampling: configs.SamplingConfig,
    experiment: agent_runs.Experiment,
    states: loop.LaneState,
    plan: ensemble.Plan,
) -> Prepared:
    """Rollouts of the run's world model by one lane's policy, with the lane's own penalty and noise."""
    if source.coefficient is not None:
        raise UserError(f"coefficient={source.coefficient} is of guidance: {source.run} rolls out a world model")
    own = dataclasses.replace(
        plan.rollout, num_rollouts=sampling.num_trajectories, rollouts_per_batch=sampling.trajectories_per_batch
    )
    validation.validate_rollout(own)
    plan, shared, agent = plan._replace(rollout=own), experiment.shared, experiment.program.agent
    hyper, state = jax.tree.map(lambda leaf: leaf[source.lane], (experiment.lanes.hypers.generator, states.agent))

    def rows(seed: int) -> export.Flat:
        @jax.jit
        def generate(key: jax.Array, model: ensemble.Model) -> tuple[Transition, jax.Array]:
            return ensemble.sample(plan, key, functools.partial(agent.act, state), hyper, model, shared.normalizer)

        key = jax.random.key(seed)
        compiled = footprint.compile(generate, key, shared.model)
        footprint.announce("rollouts", footprint.of_rollouts(own, compiled))
        return export.flatten_windows(shared.normalizer, *compiled(key, shared.model))

    return Prepared(experiment.raw, {"run": source.run, "lane": str(source.lane)}, rows)


def _rows(
    plan: diffusion.Plan,
    log_prob: LogProb,
    coefficient: jax.Array,
    hyper: diffusion.Hyper,
    model: diffusion.Model,
    normalizer: Normalizer,
    seed: int,
) -> export.Flat:
    @jax.jit
    def generate(key: jax.Array, model: diffusion.Model) -> jax.Array:  # weights are an argument, never a constant
        return diffusion.sample(plan, key, log_prob, coefficient, hyper, model, normalizer)

    key = jax.random.key(seed)
    compiled = footprint.compile(generate, key, model)
    footprint.announce("sampling", footprint.of_sampling(plan.sampling, compiled))
    return export.flatten_windows(normalizer, *normalizers.to_transitions(normalizer, compiled(key, model)))
