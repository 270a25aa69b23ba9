"""An agent's program and what it takes, by shapes alone: nothing is loaded."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from pgd_jax import config as configs, devices, footprint, lanes, loop, planning
from pgd_jax.agents.base import AGENTS, AgentPlan
from pgd_jax.envs.base import EvalEnv
from pgd_jax.networks.base import Network
from pgd_jax.types import Codec, Layout, Params, Transition


class Arguments(NamedTuple):
    """Of `loop.run_chunk`."""

    program: loop.Program
    num_phases: int
    states: loop.LaneState
    hypers: loop.ProgramHyper
    shared: loop.Shared


def array(*sizes: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(sizes, jnp.float32)


def codec(layout: Layout) -> Codec:
    return Codec(array(layout.dim), array(layout.dim), layout)


def agent(
    config: configs.AgentConfig, layout: Layout, network: Network, params: Params, window_length: int, num_rows: int,
    env: EvalEnv | None,
) -> Arguments:  # fmt: skip
    """For `num_rows` real rows, with a denoiser of weights (or their shapes) `params`; on the devices of a run."""
    family = AGENTS.get(config.agent)
    lanes_ = lanes.build(loop.ProgramHyper(family.hyper()), config.sweep, config.num_seeds, config.first_seed)
    plan = planning.plan_of(config, window_length, lanes_)
    built = family.build(layout.obs_dim, layout.action_dim, AgentPlan(config.hidden_dim, config.num_hidden))
    obs, action, one = array(num_rows, layout.obs_dim), array(num_rows, layout.action_dim), array(num_rows)
    shared = loop.Shared(params, codec(layout), Transition(obs, action, one, obs, one))
    mesh = devices.mesh_of(config.mesh, len(lanes_.settings), 0, footprint.tree_bytes(shared))
    program = loop.Program(plan, built, network, env, mesh=mesh)
    hypers, seeds = devices.place((lanes_.hypers, lanes_.seeds), mesh, devices.LANES)
    copies = devices.template(lambda: shared, mesh)
    states = devices.template(functools.partial(loop.init, program, seeds, hypers, copies), mesh, devices.LANES)
    return Arguments(program, config.phases_per_chunk, states, hypers, copies)
