"""Synthetic datasets for any offline RL library: windows from a run, as rows in D4RL's or in Minari's format."""

import functools
import os
import pathlib
from typing import NamedTuple

import jax
import jax.numpy as jnp

from pgd_jax import config as configs, denoiser as denoisers, experiment as experiments, loop, planning, rundir
from pgd_jax.data import codec as codecs, export, minari, minari_export, sources
from pgd_jax.diffusion import guidance
from pgd_jax.errors import UserError
from pgd_jax.types import LogProb


class Unguided(NamedTuple):
    denoiser: str  # run directory of train_denoiser


class Guided(NamedTuple):
    """Sampler and steps are the run's own too."""

    run: str  # run directory of train_agent
    lane: int  # whose policy guides
    coefficient: float | None  # None: the lane's own


def write(out: str, source: Unguided | Guided, sampling: configs.SamplingConfig, seed: int) -> tuple[int, str]:
    """Samples into `out`, an HDF5 file or minari:<id>; returns the number of rows and where they are.

    Raises UserError, before it samples, where nothing can be written or something is there, for a sampling that cannot
    work, and where the dataset of the source is gone.
    """
    _check_place(out)
    configs.validate_sampling(sampling)
    origin = _origin(source, seed)
    if isinstance(source, Guided):
        flat = from_experiment(*source, sampling.num_trajectories, sampling.trajectories_per_batch, seed)
    else:
        flat = from_denoiser(source.denoiser, sampling, seed)
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
    elif path.exists():
        raise UserError(f"{out} exists already; choose another name or remove it first")
    folder = next(parent for parent in path.parents if parent.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(f"--out={out}: {folder} is not a folder that can be written to; choose another place")


def _origin(source: Unguided | Guided, seed: int) -> dict[str, str]:
    """How the rows came about, and the task that they belong to, which readers get back."""
    if isinstance(source, Guided):
        config = configs.from_dict(configs.AgentConfig, rundir.load_config(source.run, experiments.KIND))
        dataset, max_rows = experiments.data_of(config, denoisers.load(config.denoiser))
        made = {"run": source.run, "lane": str(source.lane), "coefficient": str(source.coefficient)}
    else:
        data = denoisers.load(source.denoiser).config.data
        dataset, max_rows = data.dataset, data.max_rows
        made = {"run": source.denoiser}
    raw = sources.load(dataset, max_rows=max_rows)
    task = {"dataset": raw.name, "env": raw.env, "reference": raw.reference}
    return {"source": "pgd_jax synthetic", **made, **task, "seed": str(seed)}


def from_denoiser(path: str | os.PathLike, sampling: configs.SamplingConfig, seed: int) -> export.Flat:
    """Unguided rows from the denoiser run in `path`."""
    denoiser = denoisers.load(path)
    config = configs.AgentConfig(denoiser=str(path), sampling=sampling)
    plan = planning.plan_of(config, denoiser.config.data.window_length)
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
