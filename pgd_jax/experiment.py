"""An experiment as a run: settings -> program, lanes and data -> chunks of phases."""

import dataclasses
import functools
import os
import pathlib
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from pgd_jax import (
    behaviour as behaviours,
    checkpoint,
    config as configs,
    denoiser as denoisers,
    devices,
    driver,
    footprint,
    judges,
    lanes,
    loop,
    notes,
    planning,
    processes,
    rundir,
)
from pgd_jax.agents.base import AGENTS, AgentPlan
from pgd_jax.data import catalogue, codec as codecs, episodes, sources
from pgd_jax.data.base import RawDataset
from pgd_jax.errors import UserError
from pgd_jax.types import Codec

KIND = "agent"
SUMMARISED = ("normalised_score", "return_mean", "host_normalised_score", "host_return_mean", "critic_loss")


class Experiment(NamedTuple):
    """Everything that `loop.run_chunk` needs, and what its metrics mean."""

    config: configs.AgentConfig
    program: loop.Program
    shared: loop.Shared
    lanes: lanes.Lanes
    raw: RawDataset
    reference: str  # D4RL name whose scores normalise returns; "" where none does
    host: judges.HostPlan | None  # what the host evaluates besides
    mesh: Mesh | None  # devices that a run of it takes


def assemble(
    config: configs.AgentConfig, trained: denoisers.Trained | None = None, raw: RawDataset | None = None
) -> Experiment:
    """Loads and checks all that a config names, but for a denoiser and rows that are given.

    Raises UserError, before anything is written, for what cannot work.
    """
    configs.validate_agent(config)
    family = AGENTS.get(config.agent)
    planning.refuse_unknown_choices(config.sampling)
    judges.refuse_unknown(config.environment)
    lanes_ = lanes.build(loop.ProgramHyper(family.hyper()), config.sweep, config.num_seeds, config.first_seed)
    if trained is None and config.denoiser:
        trained = denoisers.load(config.denoiser)
    dataset, max_rows = data_of(config, trained)
    if raw is None and dataset != config.dataset and trained is not None:
        rundir.say_what_it_names(config.denoiser, "dataset", dataset)
    processes.check()
    raw = sources.load(dataset, config.download, max_rows) if raw is None else raw
    layout = denoisers.layout_of(raw)
    if trained is not None and trained.codec.layout != layout:
        raise UserError(
            f"{dataset} has observations of {layout.obs_dim} and actions of {layout.action_dim}, the denoiser in "
            f"{config.denoiser} was trained on {trained.codec.layout.obs_dim} and {trained.codec.layout.action_dim}"
        )
    codec = trained.codec if trained else codecs.fit(episodes.rows(raw), layout)
    real = jax.tree.map(jnp.asarray, episodes.transitions(raw, episodes.segments(raw), codec))
    agent = family.build(layout.obs_dim, layout.action_dim, AgentPlan(config.hidden_dim, config.num_hidden))
    name = config.environment or raw.env
    env = judges.in_graph(name, raw)
    host = judges.on_host(name, raw, config, has_twin=env is not None)
    _say_who_judges(name, raw, env is not None, host)
    synthetic = config.synthetic_per_batch > 0
    plan = planning.plan_of(config, trained.config.data.window_length if trained else 2, lanes_)
    _refuse_bad_batches(config, agent.batches_per_update, real.reward.shape[0], dataset)
    cloned = _behaviour_of(config, lanes_, codec)
    program = loop.Program(plan, agent, trained.network if synthetic else None, env, cloned and cloned.network)
    shared = loop.Shared(trained.params if synthetic else None, codec, real, cloned and cloned.params)
    num_batches = plan.num_batches if synthetic else 0
    mesh = devices.mesh_of(config.mesh, len(lanes_.settings), num_batches, footprint.tree_bytes(shared))
    return Experiment(config, program, shared, lanes_, raw, reference_of(raw, name), host, mesh)


def _behaviour_of(config: configs.AgentConfig, lanes_: lanes.Lanes, codec: Codec) -> behaviours.Behaviour | None:
    if config.behaviour and config.synthetic_per_batch:
        return behaviours.load(config.behaviour, codec)
    if np.any(np.asarray(lanes_.hypers.guidance.behaviour) != 0.0):
        raise UserError(
            f'config.sweep="{config.sweep}" sets guidance.behaviour, the share of the behaviour policy that guidance '
            "leaves out: config.behaviour must name the run directory of train_behaviour that cloned it"
        )
    return None


def data_of(config: configs.AgentConfig, trained: denoisers.Trained | None) -> tuple[str, int]:
    """(name of the dataset of real rows, how many of them at most): the denoiser's own where the config names none."""
    own = trained.config.data if trained else configs.DataConfig()
    return (config.dataset, config.max_rows) if config.dataset else (own.dataset, config.max_rows or own.max_rows)


def _refuse_bad_batches(config: configs.AgentConfig, batches_per_update: int, num_rows: int, dataset: str) -> None:
    num_real = config.batch_size - config.synthetic_per_batch
    if num_real > num_rows:
        raise UserError(
            f"batch_size={config.batch_size} takes {num_real} real rows, but {dataset} has {num_rows}; "
            "use a smaller batch"
        )
    if config.updates_per_phase % batches_per_update:
        raise UserError(
            f"updates_per_phase={config.updates_per_phase} must be a multiple of {batches_per_update}, the number of "
            f"updates that {config.agent} does at once"
        )


def _say_who_judges(name: str, raw: RawDataset, in_graph: bool, host: judges.HostPlan | None) -> None:
    if host is not None and not in_graph:
        notes.say(
            f'{raw.name}: "{name}" is not among the in-graph environments; judged on the host, {host.num_episodes} '
            "episodes a lane after each chunk"
        )
    elif not in_graph:
        why = "environment=none" if name == judges.SWITCHED_OFF else f'no environment for "{name or raw.name}"'
        notes.say(f"{raw.name}: trains without evaluation ({why})")


def reference_of(raw: RawDataset, environment: str) -> str:
    """The D4RL name whose scores normalise returns in `environment`; "" where they are of another task, or of none."""
    task = catalogue.TASKS.get(raw.reference)
    return raw.reference if task is not None and task.env == environment else ""


def initial_states(experiment: Experiment) -> loop.LaneState:
    return loop.init(experiment.program, experiment.lanes.seeds, experiment.lanes.hypers, experiment.shared)


def fit(config: configs.AgentConfig, path: str | os.PathLike, raw: RawDataset | None = None) -> bool:
    """Runs the experiment in directory `path`, or resumes, or returns at once; returns whether it is finished.

    `raw` are the rows of the dataset that the config names, where they have been read already.
    """
    experiment = assemble(config, raw=raw)
    if rundir.is_finished(path, KIND, configs.to_dict(config)):
        notes.say(f"{path}: already finished")
        return True
    processes.check()
    placed = on_devices(experiment)
    initial = functools.partial(initial_states, placed)
    template = devices.template(initial, experiment.mesh, devices.LANES)
    needed = footprint.of_agent(config, placed.program, template, placed.lanes.hypers, placed.shared)
    footprint.announce(path, needed)
    with rundir.open_run(path, KIND, configs.to_dict(config)) as directory:
        return driver.run(_job(experiment, placed), directory, initial, template)


def fit_in_memory(
    config: configs.AgentConfig, trained: denoisers.Trained | None, raw: RawDataset
) -> tuple[Experiment, loop.LaneState, list[dict[str, Any]]]:
    """Runs the experiment and keeps nothing on the disk: (experiment, last states, all rows), the numbers of `fit`."""
    experiment = assemble(config, trained, raw)
    placed = on_devices(experiment)
    initial = functools.partial(initial_states, placed)
    template = devices.template(initial, experiment.mesh, devices.LANES)
    footprint.announce(
        "agents", footprint.of_agent(config, placed.program, template, placed.lanes.hypers, placed.shared)
    )
    states, rows = driver.run_in_memory(_job(experiment, placed), "agents", initial)
    return experiment, states, rows


def on_devices(experiment: Experiment) -> Experiment:
    """The same with program and data on all devices of its mesh."""
    mesh, lanes_ = experiment.mesh, experiment.lanes
    hypers, seeds = devices.place((lanes_.hypers, lanes_.seeds), mesh, devices.LANES)
    return experiment._replace(
        program=experiment.program._replace(mesh=mesh),
        shared=devices.place(experiment.shared, mesh),
        lanes=lanes_._replace(hypers=hypers, seeds=seeds),
    )


def _job(experiment: Experiment, placed: Experiment) -> driver.Job:
    """`placed` computes; what the host reads is of `experiment`."""
    config, num_lanes = experiment.config, len(experiment.lanes.settings)

    def advance(states: loop.LaneState) -> tuple[loop.LaneState, loop.Metrics]:
        return loop.run_chunk(placed.program, config.phases_per_chunk, states, placed.lanes.hypers, placed.shared)

    return driver.Job(
        advance,
        rows=functools.partial(_rows, experiment),
        summary=_summary,
        num_chunks=config.num_phases // config.phases_per_chunk,
        phases_per_chunk=config.phases_per_chunk,
        units_per_chunk=config.phases_per_chunk * config.updates_per_phase * num_lanes,
        unit="update",
        metadata={},
        judge=None if experiment.host is None else _host_judge(experiment),
    )


def _rows(experiment: Experiment, chunk: int, metrics: dict[str, np.ndarray], seconds: float) -> list[dict[str, Any]]:
    """One row a lane and phase from metrics [L, P, ...]; phases in order, lanes within them."""
    config, settings = experiment.config, experiment.lanes.settings
    seeds = np.asarray(experiment.lanes.seeds)
    rows = []
    for offset in range(config.phases_per_chunk):
        phase = chunk * config.phases_per_chunk + offset
        for lane, setting in enumerate(settings):
            row = {
                "lane": lane,
                "phase": phase,
                "seed": int(seeds[lane]),
                "setting": setting,
                "group": group(config, setting),
            }
            row |= {"updates": (phase + 1) * config.updates_per_phase, "wall_s": seconds / config.phases_per_chunk}
            row |= {name: value[lane, offset] for name, value in metrics.items()}
            if experiment.reference and "return_mean" in row:
                row["normalised_score"] = catalogue.normalised_score(experiment.reference, float(row["return_mean"]))
            rows.append(row)
    return rows


def _host_judge(experiment: Experiment) -> Callable[..., list[dict[str, Any]]]:
    """Adds the host's measures to the rows of a chunk's last phase: the only one whose policies outlive the chunk."""
    judge = judges.HostJudge(experiment.host, experiment.program.agent, experiment.shared.codec, experiment.lanes)

    def judged(chunk: int, states: loop.LaneState, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        last = (chunk + 1) * experiment.config.phases_per_chunk - 1
        began = time.perf_counter()
        measures = judge.evaluate(states, last)
        measures["wall_host_s"] = np.full(len(experiment.lanes.settings), time.perf_counter() - began)
        if experiment.reference:
            scores = catalogue.normalised_score(experiment.reference, measures["host_return_mean"])
            measures["host_normalised_score"] = scores
        return [
            row | {name: values[row["lane"]] for name, values in measures.items()} if row["phase"] == last else row
            for row in rows
        ]

    return judged


def group(config: configs.AgentConfig, setting: dict[str, float]) -> str:
    """What a report calls lanes of this kind: "real", "unguided", "guided", and whatever else is swept."""
    if config.synthetic_per_batch == 0:
        kind = "real"
    else:
        kind = "unguided" if setting.get("guidance_coefficient", 1.0) == 0.0 else "guided"
    others = [
        f"{name}={value:g}"
        for name, value in setting.items()
        if name != "guidance_coefficient" or value not in (0.0, 1.0)
    ]
    return " ".join([kind, *others])


def _summary(rows: list[dict[str, Any]]) -> str:
    """The mean of the last phase over each group."""
    last = [row for row in rows if row["phase"] == rows[-1]["phase"]]
    key = next((key for key in SUMMARISED if key in last[0]), "phase")
    groups = dict.fromkeys(row["group"] for row in last)
    means = {name: np.mean([row[key] for row in last if row["group"] == name]) for name in groups}
    return f"{key}: " + ", ".join(f"{name} {mean:.1f}" for name, mean in means.items())


def load(path: str | os.PathLike) -> tuple[Experiment, loop.LaneState, int]:
    """(experiment, states, phases done) of the newest whole checkpoint in run `path`, for those that only read it."""
    config = configs.from_dict(configs.AgentConfig, rundir.load_config(path, KIND))
    for what in ("denoiser", "behaviour", "dataset"):
        if name := getattr(config, what):
            rundir.say_what_it_names(path, what, name)
    # To go to the network is for a command's own flags to say.
    experiment = assemble(dataclasses.replace(config, download=False))
    template = jax.eval_shape(functools.partial(initial_states, experiment))
    chunk, states = checkpoint.restore(pathlib.Path(path) / "checkpoints", template)
    return experiment, states, chunk * config.phases_per_chunk
