"""What an experiment is made of: settings -> program, lanes and data."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from pgd_jax.agents.base import AGENTS
from pgd_jax.core import config as configs, devices, hyper as floats, logging, processes, validation
from pgd_jax.core.errors import UserError
from pgd_jax.data import catalogue, episodes, loading, normalizer as normalizers
from pgd_jax.data.base import RawDataset, Reading
from pgd_jax.envs.base import EvalEnv, IsTerminal
from pgd_jax.generators import settings as sampling_settings
from pgd_jax.generators.base import GENERATORS, Context
from pgd_jax.runs import behaviour as behaviours, denoiser as denoisers, evaluators, footprint, records, source
from pgd_jax.train import lanes, loop
from pgd_jax.train.program import plan_of


class Experiment(NamedTuple):
    """Everything that `loop.run_chunk` needs, and what its metrics mean."""

    config: configs.AgentConfig
    dataset: str  # name of the real rows' dataset
    program: loop.Program
    shared: loop.Shared
    lanes: lanes.Lanes
    raw: RawDataset
    reference: str  # D4RL name whose scores normalise returns; "" where none does
    host: evaluators.HostPlan | None  # what the host evaluates besides
    mesh: Mesh | None  # devices that a run of it takes


def assemble(
    config: configs.AgentConfig, trained: source.Trained | None = None, raw: RawDataset | None = None
) -> Experiment:
    """Loads and checks all that a config names, but for a denoiser or world model and rows that are given.

    Raises UserError, before anything is written, for what cannot work.
    """
    validation.validate_agent(config)
    family = AGENTS.get(config.agent)
    check_generator(config)
    evaluators.check_known(config.environment)
    config = complete(config)
    lanes_ = lanes.build(hyper_of(config), config.hyper, config.num_seeds, config.first_seed)
    if config.synthetic_per_batch:
        GENERATORS.get(config.generator).check(config.sampling, lanes_.hypers.generator)
    trained = source.load(config) if trained is None else trained
    dataset, reading = data_of(config, trained)
    if raw is None and dataset != config.dataset and trained is not None:
        records.say_what_it_names(source.named(config)[1], "dataset", dataset)
    processes.check()
    raw = loading.load(dataset, config.download, reading) if raw is None else raw
    layout = denoisers.layout_of(raw)
    source.check_layout(config, trained, dataset, layout)
    normalizer = trained.normalizer if trained else normalizers.fit(episodes.rows(raw), layout)
    agent, pieces = family.make(config, normalizer), episodes.segments(raw)
    lanes_ = lanes_._replace(hypers=_scaled(lanes_.hypers, raw, pieces))
    if np.any(np.asarray(lanes_.hypers.best_share) < 1.0):
        pieces = episodes.best_first(raw, pieces)
    real = jax.tree.map(jnp.asarray, episodes.transitions(raw, pieces, normalizer, agent.needs_next_action))
    name = config.environment or raw.env
    env = evaluators.in_graph(name, raw)
    host = evaluators.on_host(name, raw, config, has_twin=env is not None)
    _say_who_judges(name, raw, config, env is not None, host)
    _check_batches(config, agent.batches_per_update, real.reward.shape[0], dataset)
    generator, model = None, None
    if config.synthetic_per_batch:
        cloned = behaviours.load(config.behaviour, normalizer) if config.behaviour else None
        rule = _terminal_rule(config, raw, env)
        hypers = lanes_.hypers.generator
        context = Context(config, trained, cloned, normalizer, real, hypers, rule, agent.needs_next_action)
        generator, model = GENERATORS.get(config.generator).build(context)
    program = loop.Program(plan_of(config), agent, generator, env)
    shared = loop.Shared(model, normalizer, real)
    num_batches = 0 if generator is None else generator.num_batches
    mesh = devices.mesh_of(config.mesh, len(lanes_.settings), num_batches, footprint.tree_bytes(shared))
    return Experiment(config, dataset, program, shared, lanes_, raw, reference_of(raw, name), host, mesh)


def check_generator(config: configs.AgentConfig) -> None:
    """Raises UserError for a generator that is unknown, or cannot do what the config asks for."""
    GENERATORS.get(config.generator)
    source.check(config)
    sampling_settings.check(config.sampling)


def hyper_of(config: configs.AgentConfig) -> loop.ProgramHyper:
    """Every float that an experiment of this agent and generator has, at its default."""
    generator = GENERATORS.get(config.generator).hyper() if config.synthetic_per_batch else None
    return loop.ProgramHyper(AGENTS.get(config.agent).hyper(), generator)


def generator_floats(name: str) -> list[str]:
    """The names of a generator's floats, as they stand beside an agent's."""
    return [each for each in floats.names(loop.ProgramHyper(None, GENERATORS.get(name).hyper())) if "." in each]


def complete(config: configs.AgentConfig) -> configs.AgentConfig:
    """The config with a value for every float and the agent's sizes: what a run keeps, as defaults may change one day.

    Raises UserError for a float that this agent and generator do not have.
    """
    if not config.synthetic_per_batch:
        own = floats.names(hyper_of(config))
        for name in floats.flatten(config.hyper):
            if not floats.meant(name, own) and floats.meant(name, generator_floats(config.generator)):
                raise UserError(
                    f"hyper.{name} is of the generator, but synthetic_per_batch=0 generates nothing; leave it out"
                )
    hyper: dict[str, Any] = floats.nest(floats.values(hyper_of(config), config.hyper))
    sizes: dict[str, Any] = dataclasses.asdict(AGENTS.get(config.agent).plan_of(config))
    return dataclasses.replace(config, hyper=hyper, **sizes)


def _scaled(hypers: loop.ProgramHyper, raw: RawDataset, pieces: episodes.Segments) -> loop.ProgramHyper:
    """The floats of all lanes, `reward_scale` with what `return_range` makes of the data's returns."""
    wanted = np.asarray(hypers.return_range)
    if not wanted.any():
        return hypers
    found = np.ptp(episodes.returns(raw, pieces))
    if found == 0.0:
        raise UserError(f"hyper.return_range: all {len(pieces.start)} episodes of {raw.name} have the same return")
    scale = jnp.asarray(np.where(wanted > 0.0, wanted / found, 1.0), jnp.float32)
    return dataclasses.replace(hypers, reward_scale=hypers.reward_scale * scale)


def _terminal_rule(config: configs.AgentConfig, raw: RawDataset, env: EvalEnv | None) -> IsTerminal | None:
    """The rule of the dataset's own task, whatever else judges the agent; None where it has none, or none is wanted."""
    if GENERATORS.get(config.generator).needs != "world_model" or config.rollout.terminals != configs.RULE:
        return None
    own = env if env is not None and env.name == raw.env else evaluators.in_graph(raw.env, raw)
    return None if own is None else own.is_terminal


def data_of(config: configs.AgentConfig, trained: source.Trained | None) -> tuple[str, Reading]:
    """(name of the dataset of real rows, how it is read): the model's own where the config names none."""
    own = configs.DataConfig() if trained is None or config.dataset else trained.config.data
    reading = Reading(
        config.max_rows or own.max_rows,
        config.next_tolerance or own.next_tolerance,
        config.outliers or own.outliers,
        config.action_bounds or own.action_bounds,
    )
    return config.dataset or own.dataset, reading


def _check_batches(config: configs.AgentConfig, batches_per_update: int, num_rows: int, dataset: str) -> None:
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


def _say_who_judges(
    name: str, raw: RawDataset, config: configs.AgentConfig, in_graph: bool, host: evaluators.HostPlan | None
) -> None:
    if in_graph and config.num_episodes:
        return
    if host is not None and in_graph:
        logging.info(
            f"{raw.name}: judged on the host alone (num_episodes=0), {host.num_episodes} episodes a lane after each "
            "chunk"
        )
    elif host is not None:
        logging.info(
            f'{raw.name}: "{name}" is not among the in-graph environments; judged on the host, {host.num_episodes} '
            "episodes a lane after each chunk"
        )
    else:
        why = f'no environment for "{name or raw.name}"'
        if name == evaluators.SWITCHED_OFF:
            why = "environment=none"
        elif not config.num_episodes:
            why = "num_episodes=0"
        logging.info(f"{raw.name}: trains without evaluation ({why})")


def reference_of(raw: RawDataset, environment: str) -> str:
    """The D4RL name whose scores normalise returns in `environment`; "" where they are of another task, or of none."""
    task = catalogue.TASKS.get(raw.reference)
    return raw.reference if task is not None and task.env == environment else ""
