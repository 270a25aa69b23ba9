"""The benchmark's fixed setting, and the programs, weights and rows that follow from it."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pgd_jax import agents as agents  # registers the agents
from pgd_jax import experiment, lanes, loop
from pgd_jax.agents.base import AGENTS, AgentPlan
from pgd_jax.config import AgentConfig, SamplingConfig
from pgd_jax.data import codec as codecs
from pgd_jax.envs import maze2d as maze2d  # registers the environment
from pgd_jax.envs.base import ENVS
from pgd_jax.networks import unet
from pgd_jax.networks.base import Network
from pgd_jax.types import Layout, Transition


@dataclasses.dataclass(frozen=True)
class Setting:
    """The fixed setting; small enough for two CPU cores, of the shapes of a maze2d experiment."""

    obs_dim: int = 4
    action_dim: int = 2
    window_length: int = 32
    width: int = 32
    num_blocks: int = 3
    sampler: str = "heun"
    guidance: str = "proximal"
    num_steps: int = 16
    num_windows: int = 512
    hidden_dim: int = 256
    num_hidden: int = 2
    batch_size: int = 256
    synthetic_per_batch: int = 240
    num_real: int = 100_000
    num_updates: int = 20
    num_lanes: tuple[int, ...] = (1, 8)
    environment: str = "maze2d-umaze"
    num_episodes: int = 16
    windows_per_step: int = 64
    num_train_steps: int = 20
    matmul_sizes: tuple[int, ...] = (512, 1024, 2048)

    @property
    def layout(self) -> Layout:
        return Layout(self.obs_dim, self.action_dim)


@functools.cache
def program(setting: Setting, agent_name: str) -> loop.Program:
    sampling = SamplingConfig(
        sampler=setting.sampler, num_steps=setting.num_steps, guidance=setting.guidance,
        num_trajectories=setting.num_windows, trajectories_per_batch=setting.num_windows,
    )  # fmt: skip
    config = AgentConfig(
        sampling=sampling, updates_per_phase=setting.num_updates, batch_size=setting.batch_size,
        synthetic_per_batch=setting.synthetic_per_batch, num_episodes=setting.num_episodes, dynamics_windows=0,
    )  # fmt: skip
    defaults = lanes.build(loop.ProgramHyper(AGENTS.get(agent_name).hyper()), "", num_seeds=1, first_seed=0)
    plan = experiment.plan_of(config, setting.window_length, defaults)
    agent_plan = AgentPlan(setting.hidden_dim, setting.num_hidden)
    agent = AGENTS.get(agent_name).build(setting.obs_dim, setting.action_dim, agent_plan)
    return loop.Program(plan, agent, network(setting), ENVS.get(setting.environment)())


@functools.cache
def network(setting: Setting) -> Network:
    return unet.build(setting.window_length, setting.layout.dim, setting.width, setting.num_blocks, "float32")


def rows(setting: Setting, num_rows: int) -> np.ndarray:
    """f32[N, D] in environment space; none is terminal."""
    table = np.random.default_rng(0).uniform(-1.0, 1.0, (num_rows, setting.layout.dim)).astype(np.float32)
    table[:, setting.layout.terminal] = 0.0
    return table


def transitions(setting: Setting, num_rows: int) -> Transition:
    """Numpy leaves [N, ...]."""
    table, layout = rows(setting, num_rows), setting.layout
    obs, next_obs = table[:, layout.obs], np.roll(table[:, layout.obs], -1, axis=0)
    return Transition(obs, table[:, layout.action], table[:, layout.reward], next_obs, table[:, layout.terminal])


def random(shapes: Any) -> Any:
    """Weights and moments for a tree of shapes, zero where not a float: an initialiser takes seconds to compile."""
    generator = np.random.default_rng(0)

    def leaf(shape: jax.ShapeDtypeStruct) -> jax.Array:
        scale = 0.01 if jnp.issubdtype(shape.dtype, jnp.floating) else 0.0
        return jnp.asarray(generator.uniform(0.0, scale, shape.shape), shape.dtype)

    return jax.tree.map(leaf, shapes)


@functools.cache
def shared(setting: Setting) -> loop.Shared:
    codec = codecs.fit(rows(setting, setting.num_real), setting.layout)
    params = random(jax.eval_shape(network(setting).init, jax.random.key(0)))
    return loop.Shared(params, codec, jax.tree.map(jnp.asarray, transitions(setting, setting.num_real)))
