"""An agent's program and what it takes, by shapes alone: nothing is loaded."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from pgd_jax.agents.base import AGENTS
from pgd_jax.core import config as configs, devices
from pgd_jax.core.types import Layout, Normalizer, Transition
from pgd_jax.envs.base import EvalEnv
from pgd_jax.generators.base import GENERATORS, Context
from pgd_jax.runs import denoiser as denoisers, experiment, footprint
from pgd_jax.train import lanes, loop
from pgd_jax.train.program import plan_of


class Arguments(NamedTuple):
    """Of `loop.run_chunk`."""

    program: loop.Program
    num_phases: int
    states: loop.LaneState
    hypers: loop.ProgramHyper
    shared: loop.Shared


def array(*sizes: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(sizes, jnp.float32)


def normalizer(layout: Layout) -> Normalizer:
    return Normalizer(array(layout.dim), array(layout.dim), layout)


def agent(config: configs.AgentConfig, trained: denoisers.Trained, num_rows: int, env: EvalEnv | None) -> Arguments:
    """For `num_rows` real rows, with a denoiser of weights or their shapes; on the devices of a run."""
    layout = trained.normalizer.layout
    lanes_ = lanes.build(experiment.hyper_of(config), config.hyper, config.num_seeds, config.first_seed)
    family = AGENTS.get(config.agent)
    built = family.build(layout.obs_dim, layout.action_dim, family.plan_of(config))
    obs, action, one = array(num_rows, layout.obs_dim), array(num_rows, layout.action_dim), array(num_rows)
    real = Transition(obs, action, one, obs, one, action if built.needs_next_action else None)
    context = Context(
        config, trained, None, trained.normalizer, real, lanes_.hypers.generator,
        needs_next_action=built.needs_next_action,
    )  # fmt: skip
    generator, model = GENERATORS.get(config.generator).build(context)
    shared = loop.Shared(model, trained.normalizer, real)
    mesh = devices.mesh_of(config.mesh, len(lanes_.settings), 0, footprint.tree_bytes(shared))
    program = loop.Program(plan_of(config), built, generator, env, mesh=mesh)
    hypers, seeds = devices.place((lanes_.hypers, lanes_.seeds), mesh, devices.LANES)
    copies = devices.template(lambda: shared, mesh)
    states = devices.template(functools.partial(loop.init, program, seeds, hypers, copies), mesh, devices.LANES)
    return Arguments(program, config.phases_per_chunk, states, hypers, copies)
