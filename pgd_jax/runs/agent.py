"""Agents as a run: an experiment in chunks of phases, and the rows that its metrics become."""

import dataclasses
import functools
import os
import pathlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from pgd_jax.core import config as configs, devices, validation
from pgd_jax.data import catalogue
from pgd_jax.data.base import RawDataset
from pgd_jax.generators.base import GENERATORS, Metrics
from pgd_jax.runs import checkpoint, driver, evaluators, footprint, records, rests, source
from pgd_jax.runs.experiment import Experiment, assemble
from pgd_jax.runs.metrics import SCORES, SUCCESS
from pgd_jax.train import loop

KIND = "agent"
COEFFICIENT = "guidance_coefficient"


def initial_states(experiment: Experiment) -> loop.LaneState:
    return loop.init(experiment.program, experiment.lanes.seeds, experiment.lanes.hypers, experiment.shared)


def prepare(experiment: Experiment) -> driver.Ready:
    """Puts program and data on the devices, and compiles the program, which says what memory it takes."""
    placed = on_devices(experiment)
    initial = functools.partial(initial_states, placed)
    template = devices.template(initial, experiment.mesh, devices.LANES)
    config, program, shared = experiment.config, placed.program, placed.shared
    compiled = footprint.compile(
        loop.run_chunk, program, config.phases_per_chunk, template, placed.lanes.hypers, shared
    )
    needed = footprint.of_agent(config, compiled, program, template, shared)
    job = _job(experiment, lambda states: compiled(states, placed.lanes.hypers, shared))
    return driver.Ready(job, initial, template, needed)


def fit(
    config: configs.AgentConfig,
    path: str | os.PathLike,
    raw: RawDataset | None = None,
    only_check: bool = False,
    sinks: Sequence[str] = (),
) -> bool:
    """Runs the experiment in directory `path`, or resumes, or returns at once; returns whether it is finished.

    `raw` are the rows of the dataset that the config names, where they have been read already. `only_check` does all
    but that: it says what would run, and what memory and time it takes. `sinks` are where the numbers go besides.
    """
    validation.validate_agent(config)
    driver.check(path, sinks)
    experiment = assemble(config, raw=raw)
    recorded, make_ready = configs.to_dict(experiment.config), functools.partial(prepare, experiment)
    return driver.fit(path, KIND, recorded, rests_of(experiment), make_ready, only_check, sinks)


def rests_of(experiment: Experiment) -> dict[str, rests.Rest]:
    """What the experiment was made of besides its settings."""
    config, shared = experiment.config, experiment.shared
    found = {"dataset": rests.of_dataset(experiment.dataset, experiment.raw)}
    what, path = source.named(config)
    if path:
        found[what] = rests.of_model(path, shared.normalizer, shared.model)
    if config.behaviour:
        found["behaviour"] = rests.of_model(config.behaviour, shared.model)
    return found


def fit_in_memory(
    config: configs.AgentConfig, trained: source.Trained | None, raw: RawDataset
) -> tuple[Experiment, loop.LaneState, list[dict[str, Any]]]:
    """Runs the experiment and keeps nothing on the disk: (experiment, last states, all rows), the numbers of `fit`."""
    experiment = assemble(config, trained, raw)
    run = prepare(experiment)
    footprint.announce("agents", run.needed)
    states, rows = driver.run_in_memory(run.job, "agents", run.initial)
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


def _job(experiment: Experiment, advance: Callable[[loop.LaneState], tuple[loop.LaneState, Metrics]]) -> driver.Job:
    config, num_lanes = experiment.config, len(experiment.lanes.settings)
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
            row: dict[str, Any] = {
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
    assert experiment.host is not None
    judge = evaluators.HostEvaluator(
        experiment.host, experiment.program.agent, experiment.shared.normalizer, experiment.lanes
    )

    def judged(chunk: int, states: loop.LaneState, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        last = (chunk + 1) * experiment.config.phases_per_chunk - 1
        began = time.perf_counter()
        measures = judge.evaluate(states, last)
        measures["wall_host_s"] = np.full(len(experiment.lanes.settings), time.perf_counter() - began)
        if experiment.reference:
            scores: Any = catalogue.normalised_score(experiment.reference, measures["host_return_mean"])
            measures["host_normalised_score"] = scores
        return [
            row | {name: values[row["lane"]] for name, values in measures.items()} if row["phase"] == last else row
            for row in rows
        ]

    return judged


def group(config: configs.AgentConfig, setting: dict[str, float]) -> str:
    """What a report calls lanes of this kind: "real", "unguided", "guided", "rollouts", and what else is theirs."""
    if config.synthetic_per_batch == 0:
        kind = "real"
    elif GENERATORS.get(config.generator).needs == "world_model":
        kind = "rollouts"
    else:
        kind = "unguided" if setting.get(COEFFICIENT, 1.0) == 0.0 else "guided"
    others = [f"{name}={value:g}" for name, value in setting.items() if name != COEFFICIENT or value not in (0.0, 1.0)]
    return " ".join([kind, *others])


def _summary(rows: list[dict[str, Any]]) -> str:
    """The mean of the last phase over each group."""
    last = [row for row in rows if row["phase"] == rows[-1]["phase"]]
    key = next((key for key in (*SCORES, "critic_loss") if key in last[0]), "phase")
    groups = dict.fromkeys(row["group"] for row in last)
    means = {name: np.mean([row[key] for row in last if row["group"] == name]) for name in groups}
    digits = ".1%" if key == SUCCESS else ".1f"
    return f"{key}: " + ", ".join(f"{name} {mean:{digits}}" for name, mean in means.items())


def load(path: str | os.PathLike) -> tuple[Experiment, loop.LaneState, int]:
    """(experiment, states, phases done) of the newest whole checkpoint in run `path`, for those that only read it."""
    config = records.read_config(configs.AgentConfig, path, KIND)
    path, record = records.directory(path), records.load_rests(path, KIND)
    # To go to the network is for a command's own flags to say; the devices here need not be those of the run.
    config = dataclasses.replace(config, download=False, mesh=devices.AUTO)
    for what in ("denoiser", "world_model", "behaviour", "dataset"):
        if name := getattr(config, what):
            found = rests.find(path, record, what, name)
            records.say_what_it_names(path, source.WORDS.get(what, what), found)
            changed: dict[str, Any] = {what: found}
            config = dataclasses.replace(config, **changed)
    experiment = assemble(config)
    rests.check(path, record, rests_of(experiment))
    template = jax.eval_shape(functools.partial(initial_states, experiment))
    chunk, states = checkpoint.restore(pathlib.Path(path) / "checkpoints", template)
    return experiment, states, chunk * config.phases_per_chunk
