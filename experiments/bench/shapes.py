"""An agent's program and what it takes, by shapes alone: nothing is loaded."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from pgd_jax import config as configs, lanes, loop, planning
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
    """For `num_rows` real rows, with a denoiser of weights (or their shapes) `params`."""
    family = AGENTS.get(config.agent)
    lanes_ = lanes.build(loop.ProgramHyper(family.hyper()), config.sweep, config.num_seeds, config.first_seed)
    plan = planning.plan_of(config, window_length, lanes_)
    built = family.build(layout.obs_dim, layout.action_dim, AgentPlan(config.hidden_dim, config.num_hidden))
    obs, action, one = array(num_rows, layout.obs_dim), array(num_rows, layout.action_dim), array(num_rows)
    shared = loop.Shared(params, codec(layout), Transition(obs, action, one, obs, one))
    program = loop.Program(plan, built, network, env)
    states = jax.eval_shape(functools.partial(loop.init, program), lanes_.seeds, lanes_.hypers, shared)
    return Arguments(program, config.phases_per_chunk, states, lanes_.hypers, shared)
