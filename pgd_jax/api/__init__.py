"""The front door: what `import pgd_jax as pgd` gives. In environment space, and in memory unless a folder is named.

    data = pgd.load_dataset("maze2d-umaze-waypoint-v0")
    denoiser = pgd.train_denoiser(data, num_steps=2_000)
    guided = denoiser.sample(jax.random.key(0), 256, log_prob=log_prob, guidance=10.0)
    world_model = pgd.train_world_model(data)
    rollouts = world_model.sample(jax.random.key(0), 256, policy, horizon=16)
    result = pgd.train_agent(data, denoiser, agent="td3_bc", num_seeds=4, guidance_coefficient=[0, 10])
    pgd.evaluate(result.policy(lane=0), data.env, num_episodes=16)

The command lines have the same settings under the same names. Mistakes raise `pgd.UserError`.
"""

import dataclasses
import functools
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

import pgd_jax.agents  # noqa: F401  registers
import pgd_jax.data  # noqa: F401  registers
import pgd_jax.envs  # noqa: F401  registers
import pgd_jax.generators  # noqa: F401  registers
from pgd_jax.api import keywords
from pgd_jax.api.agents import AgentPolicy, AgentResult
from pgd_jax.api.dataset import Dataset
from pgd_jax.api.denoiser import IN_MEMORY, Denoiser
from pgd_jax.api.world_model import WorldModel
from pgd_jax.core import config as configs, presets, validation
from pgd_jax.core.compilation import in_float32
from pgd_jax.core.errors import UserError
from pgd_jax.core.hyper import Values
from pgd_jax.core.registry import nearest
from pgd_jax.core.types import Squashed
from pgd_jax.data import loading
from pgd_jax.data.base import RawDataset, Reading
from pgd_jax.data.trace import Trace
from pgd_jax.data.windows import Windows
from pgd_jax.envs import evaluate as evaluation
from pgd_jax.envs.base import ENVS, HOST_ENVS
from pgd_jax.runs import agent as agent_runs, denoiser as denoisers, metrics, world_model as world_models

__all__ = [
    "AgentPolicy", "AgentResult", "Dataset", "Denoiser", "Squashed", "Trace", "Windows", "WorldModel",
    "evaluate", "load_agents", "load_dataset", "load_denoiser", "load_world_model", "train_agent", "train_denoiser",
    "train_world_model",
]  # fmt: skip

Policy = Callable[[Any], jax.Array]  # obs [..., O] -> action [..., A], environment space


def load_dataset(
    source: str | os.PathLike,
    *,
    download: bool = False,
    max_rows: int = Reading().max_rows,
    next_tolerance: float = Reading().next_tolerance,
    outliers: str = Reading().outliers,
    action_bounds: str = Reading().action_bounds,
) -> Dataset:
    """A dataset by its name or path: built-in, of D4RL, "minari:<id>", "ogbench:<name>", or an HDF5 file like D4RL's.

    `download` fetches a dataset of these that is not on this machine; `max_rows` reads the first rows only.
    Where the file has `next_observations`, an episode is cut where they are further than `next_tolerance` from the next
    row, relative to 1 + |value| (0: by the file's precision; -1: flags alone cut). `outliers`, values that set the
    scale of their column by themselves, are kept, clipped, or dropped with their rows ("keep", "clip", "drop").
    `action_bounds` are those of a file whose actions are not in [-1, 1]: "-2:2", or such a pair for each dimension.
    Raises UserError for an unknown name, a missing file and anything wrong inside it.
    """
    reading = Reading(max_rows, next_tolerance, outliers, action_bounds)
    validation.check_reading(reading)
    raw = loading.load(os.fspath(source), download, reading)
    fields = {field.name: getattr(raw, field.name) for field in dataclasses.fields(RawDataset)}
    return Dataset(**fields, source=os.fspath(source), reading=reading)


@in_float32
def train_denoiser(
    data: Dataset,
    workdir: str | os.PathLike | None = None,
    *,
    preset: str = "",
    sinks: Sequence[str] = (),
    **settings: Any,
) -> Denoiser:
    """Trains a diffusion model of the windows of `data`.

    With a `workdir` it is the run of `pgd-train-denoiser`: it resumes, and a finished one returns at once. `settings`
    are those of the command by their last names (num_steps, batch_size, width, window_length, seed, ...), and so are
    the defaults. `sinks` are where a run's numbers go besides its metrics.jsonl: "csv", "tensorboard", "wandb". In
    memory the defaults are those of `preset` "notebook", for a look: half a minute. Raises UserError for settings that
    cannot work.
    """
    preset = preset or ("notebook" if workdir is None else "")
    base = configs.to_dict(presets.config(preset, "denoiser") if preset else configs.DenoiserConfig())
    given = {"dataset": data.source} | data.reading._asdict()
    base["data"] |= given
    keywords.placed("train_denoiser", base, given, settings)
    config = keywords.whole_chunks(keywords.config(configs.DenoiserConfig, base), settings)
    _check_sinks(sinks, workdir)
    if workdir is None:
        return Denoiser(denoisers.fit_in_memory(config, data), "", data.env, data.reference)
    _check_source(data, workdir)
    _check_end(denoisers.fit(config, workdir, data, sinks=sinks), workdir)
    return load_denoiser(workdir, data)


@in_float32
def load_denoiser(path: str | os.PathLike, data: Dataset | None = None) -> Denoiser:
    """The denoiser of a finished run of `train_denoiser`; `data` says which task its windows belong to."""
    env, reference = (data.env, data.reference) if data is not None else ("", "")
    return Denoiser(denoisers.load(path), os.fspath(path), env, reference)


@in_float32
def train_world_model(
    data: Dataset,
    workdir: str | os.PathLike | None = None,
    *,
    preset: str = "",
    sinks: Sequence[str] = (),
    **settings: Any,
) -> WorldModel:
    """Trains a one-step world model of `data`: an ensemble that predicts next observation, reward and end.

    With a `workdir` it is the run of `pgd-train-world-model`: it resumes, and a finished one returns at once.
    `settings` are those of the command by their last names (num_steps, num_members, hidden_dim, seed, window_length,
    ...), and so are the defaults; `sinks` are as in `train_denoiser`. In memory the defaults are those of `preset`
    "notebook", for a look. Raises UserError for settings that cannot work.
    """
    preset = preset or ("notebook" if workdir is None else "")
    base = configs.to_dict(presets.config(preset, "world_model") if preset else configs.WorldModelConfig())
    given = {"dataset": data.source} | data.reading._asdict()
    base["data"] |= given
    keywords.placed("train_world_model", base, given, settings)
    config = keywords.config(configs.WorldModelConfig, base)
    if "steps_per_chunk" not in settings:
        chunk = keywords.whole_chunk(config.num_steps, config.steps_per_chunk)
        config = dataclasses.replace(config, steps_per_chunk=chunk)
    _check_sinks(sinks, workdir)
    if workdir is None:
        made = world_models.fit_in_memory(config, data)
        return WorldModel(made, "", data.env, data.reference, data.observations)
    _check_source(data, workdir)
    _check_end(world_models.fit(config, workdir, data, sinks=sinks), workdir)
    return load_world_model(workdir, data)


@in_float32
def load_world_model(path: str | os.PathLike, data: Dataset | None = None) -> WorldModel:
    """The world model of a finished run of `train_world_model`.

    `data` says which task its rollouts belong to, whose rule ends them, and where they start.
    """
    about = ("", "", None) if data is None else (data.env, data.reference, data.observations)
    return WorldModel(world_models.load(path), os.fspath(path), *about)


@in_float32
def train_agent(
    data: Dataset,
    model: Denoiser | WorldModel | None = None,
    agent: str = "",
    *,
    workdir: str | os.PathLike | None = None,
    preset: str = "",
    sinks: Sequence[str] = (),
    hyper: Mapping[str, Values] | None = None,
    **settings: Any,
) -> AgentResult:
    """Trains agents on `data` and on what `model` makes: windows of a denoiser guided by their policies, or rollouts of
    their policies in a world model; without one on `data` alone. `agent` is "td3_bc" where neither it nor a preset says
    otherwise.

    `settings` are those of `pgd-train-agent` by their last names (num_seeds, num_phases, updates_per_phase, batch_size,
    sampler, num_steps, ...) and floats (guidance_coefficient, alpha, discount, ...), which may also stand in `hyper`,
    such as {"agent.alpha": [2.5, 10]}. Several values of a float are lanes of one compiled program, each with
    `num_seeds` seeds. With a `workdir` it is the command's run, which resumes, and has its defaults, for a result that
    counts: hours; `sinks` are as in `train_denoiser`. In memory the defaults are those of `preset` "notebook", for a
    look: half a minute. Raises UserError for settings that cannot work.
    """
    preset = preset or ("notebook" if workdir is None else "")
    base = presets.config(preset, "agent", data.reference or data.name) if preset else configs.AgentConfig()
    nested: dict[str, Any] = {"agent": agent or base.agent, "dataset": data.source} | data.reading._asdict()
    if isinstance(model, WorldModel):
        nested["world_model"] = model.path or IN_MEMORY
        settings = {"generator": "ensemble"} | settings
    elif model is not None:
        nested["denoiser"] = model.path or IN_MEMORY
    elif "generator" not in settings:
        nested["synthetic_per_batch"] = 0
    config = keywords.agent_config(base, nested, hyper or {}, settings)
    _check_sinks(sinks, workdir)
    if workdir is None:
        return AgentResult(*agent_runs.fit_in_memory(config, None if model is None else model.trained, data))
    _check_source(data, workdir)
    if model is not None and not model.path:
        what = "world model" if isinstance(model, WorldModel) else "denoiser"
        raise UserError(
            f"workdir={workdir}: the {what} is in memory, so that the run could not resume; train it in one too"
        )
    _check_end(agent_runs.fit(config, workdir, data, sinks=sinks), workdir)
    return load_agents(workdir)


@in_float32
def load_agents(path: str | os.PathLike) -> AgentResult:
    """What a run of `train_agent` has come to: its newest checkpoint, and all rows of its metrics."""
    experiment, states, _ = agent_runs.load(path)
    return AgentResult(experiment, states, metrics.read(pathlib.Path(path) / "metrics.jsonl"))


@in_float32
def evaluate(policy: Policy, env: str, num_episodes: int = 16, seed: int = 0) -> np.ndarray:
    """Undiscounted returns f32[E] of episodes of `policy` in the task called `env`, which runs as compiled JAX.

    Raises UserError for a task that is not among the in-graph ones.
    """
    if env not in ENVS:
        on_host = " (it runs on the host only: train_agent judges by it)" if env in HOST_ENVS else ""
        raise UserError(f'no in-graph environment "{env}"{on_host}{nearest(env, ENVS)} (known: {", ".join(ENVS)})')
    made = ENVS.get(env)()
    run = functools.partial(evaluation.evaluate, policy=policy, env=made, num_episodes=num_episodes)
    return np.asarray(jax.jit(run)(jax.random.key(seed)).returns)


def _check_source(data: Dataset, workdir: str | os.PathLike) -> None:
    if not data.source:
        raise UserError(
            f"workdir={os.fspath(workdir)}: a run must read its dataset again, and {data.name} is in memory; "
            "write it to a file and load that (pgd.load_dataset)"
        )


def _check_sinks(sinks: Sequence[str], workdir: str | os.PathLike | None) -> None:
    if sinks and workdir is None:
        raise UserError(f"sinks={list(sinks)} lie in a run's directory: give a workdir too")


def _check_end(is_finished: bool, workdir: str | os.PathLike) -> None:
    if not is_finished:
        raise KeyboardInterrupt(f"{os.fspath(workdir)} was stopped; the same call resumes")
