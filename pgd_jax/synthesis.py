"""Synthetic datasets for any offline RL library: windows from a run, as rows in D4RL's or in Minari's format."""

import functools
import pathlib
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from pgd_jax import (
    config as configs,
    denoiser as denoisers,
    experiment as experiments,
    footprint,
    loop,
    places,
    planning,
    rundir,
)
from pgd_jax.data import codec as codecs, export, minari, minari_export, sources
from pgd_jax.data.base import RawDataset
from pgd_jax.diffusion import guidance
from pgd_jax.errors import UserError
from pgd_jax.types import LogProb


class Unguided(NamedTuple):
    denoiser: str  # run directory of train_denoiser


class Guided(NamedTuple):
    """Sampler and steps are the run's own too."""

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
    configs.validate_sampling(sampling)
    configs.require_seed("seed", seed)
    raw, made, sample = _guided(source, sampling) if isinstance(source, Guided) else _unguided(source, sampling)
    flat = sample(seed)
    origin = {"source": "pgd_jax synthetic", **made, "dataset": raw.name, "env": raw.env, "reference": raw.reference}
    origin["seed"] = str(seed)
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
    places.require_place(path)


def _unguided(source: Unguided, sampling: configs.SamplingConfig) -> Prepared:
    denoiser = denoisers.load(source.denoiser)
    data = denoiser.config.data
    rundir.say_what_it_names(source.denoiser, "dataset", data.dataset)
    raw = sources.load(data.dataset, max_rows=data.max_rows)
    config = configs.AgentConfig(denoiser=source.denoiser, sampling=sampling)
    program = loop.Program(planning.plan_of(config, data.window_length), None, denoiser.network, None)
    shared = loop.Shared(denoiser.params, denoiser.codec, None)
    hyper, strength = loop.ProgramHyper(None), jnp.float32(0.0)
    sample = functools.partial(_rows, guidance.uniform, strength, hyper, shared, program)
    return Prepared(raw, {"run": source.denoiser}, sample)


def _guided(source: Guided, sampling: configs.SamplingConfig) -> Prepared:
    """By one lane's policy, from the newest checkpoint. Raises UserError for a lane that is not there."""
    experiment, states, _ = experiments.load(source.run)
    if experiment.program.network is None:
        raise UserError(
            f"{source.run} trained on real data alone and has no denoiser; name a run that generates, or a denoiser run"
        )
    num_lanes = len(experiment.lanes.settings)
    if not 0 <= source.lane < num_lanes:
        raise UserError(f"lane={source.lane}: {source.run} has lanes 0 to {num_lanes - 1}")
    state, hyper = jax.tree.map(lambda leaf: leaf[source.lane], (states, experiment.lanes.hypers))
    plan = experiment.program.plan._replace(
        num_trajectories=sampling.num_trajectories, trajectories_per_batch=sampling.trajectories_per_batch,
        guided_batches=None,
    )  # fmt: skip
    hyper = hyper.replace(guided_share=jnp.float32(1.0))  # a dataset of the lane's policy, whatever it learned from
    strength = hyper.guidance_coefficient if source.coefficient is None else jnp.float32(source.coefficient)
    log_prob = functools.partial(experiment.program.agent.log_prob, state.agent)
    program = experiment.program._replace(plan=plan)
    made = {"run": source.run, "lane": str(source.lane), "coefficient": str(source.coefficient)}
    sample = functools.partial(_rows, log_prob, strength, hyper, experiment.shared, program)
    return Prepared(experiment.raw, made, sample)


def _rows(
    log_prob: LogProb,
    coefficient: jax.Array,
    hyper: loop.ProgramHyper,
    shared: loop.Shared,
    program: loop.Program,
    seed: int,
) -> export.Flat:
    @jax.jit
    def generate(key: jax.Array, shared: loop.Shared) -> jax.Array:  # weights are an argument, never a constant
        return loop.generate(key, log_prob, coefficient, hyper, shared, program)

    key = jax.random.key(seed)
    footprint.announce(
        "sampling", footprint.of_sampling(program.plan, shared.codec.layout, generate.trace(key, shared))
    )
    return export.flatten_windows(shared.codec, *codecs.to_transitions(shared.codec, generate(key, shared)))
