"""The benchmark's settings, and the programs, weights and rows that follow from each."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pgd_jax.agents.base import AGENTS, AgentPlan
from pgd_jax.core.config import AgentConfig, SamplingConfig
from pgd_jax.core.types import Layout, Transition
from pgd_jax.data import normalizer as normalizers
from pgd_jax.envs import maze2d  # noqa: F401  registers the environment
from pgd_jax.envs.base import ENVS
from pgd_jax.generators import diffusion
from pgd_jax.networks import unet
from pgd_jax.networks.base import Network
from pgd_jax.train import lanes
from pgd_jax.train.program import Program, ProgramHyper, Shared, plan_of

DEFAULTS = SamplingConfig()


@dataclasses.dataclass(frozen=True)
class Setting:
    """Sizes of everything that is timed; by default the library's own defaults, cut to what two CPU cores can do."""

    obs_dim: int = 4
    action_dim: int = 2
    window_length: int = 32
    width: int = 64
    num_blocks: int = 3
    compute_dtype: str = "float32"
    sampler: str = DEFAULTS.sampler
    guidance: str = DEFAULTS.guidance
    num_steps: int = DEFAULTS.num_steps
    num_windows: int = 256
    windows_at_once: int = 256
    hidden_dim: int = 256
    num_hidden: int = 2
    batch_size: int = 256
    synthetic_per_batch: int = 240
    num_real: int = 200_000
    num_updates: int = 40
    num_lanes: tuple[int, ...] = (1, 8)
    environment: str = "maze2d-umaze"
    num_episodes: int = 16
    windows_per_step: int = 64
    num_train_steps: int = 10
    matmul_sizes: tuple[int, ...] = (512, 1024, 2048)
    copy_bytes: int = 1 << 28
    num_copies: int = 8

    @property
    def layout(self) -> Layout:
        return Layout(self.obs_dim, self.action_dim)


# The reference's own sizes, for an accelerator: a 1024 x 3 U-Net, 8,192 windows a phase.
FULL = Setting(
    width=1024, compute_dtype="bfloat16", num_windows=8192, windows_at_once=1024, num_real=1_000_000,
    num_updates=1_000, num_lanes=(1, 8, 32), num_train_steps=20, matmul_sizes=(2048, 4096, 8192),
    copy_bytes=1 << 31,
)  # fmt: skip
SETTINGS = {
    "cpu": Setting(),
    "medium": Setting(width=128, num_real=1_000_000, num_updates=100),
    "full": FULL,
    "full_float32": dataclasses.replace(FULL, compute_dtype="float32"),
}


@functools.cache
def program(setting: Setting, agent_name: str) -> Program:
    sampling = SamplingConfig(
        sampler=setting.sampler, num_steps=setting.num_steps, guidance=setting.guidance,
        num_trajectories=setting.num_windows, trajectories_per_batch=setting.windows_at_once,
    )  # fmt: skip
    config = AgentConfig(
        sampling=sampling, updates_per_phase=setting.num_updates, batch_size=setting.batch_size,
        synthetic_per_batch=setting.synthetic_per_batch, num_episodes=setting.num_episodes, dynamics_windows=0,
    )  # fmt: skip
    plan = diffusion.Plan(sampling, setting.window_length, network(setting))
    generator = diffusion.of_plan(diffusion.specialised(plan, population(agent_name, 1).hypers.generator))
    agent = AGENTS.get(agent_name).build(setting.obs_dim, setting.action_dim, agent_plan(setting, agent_name))
    return Program(plan_of(config), agent, generator, ENVS.get(setting.environment)())


def agent_plan(setting: Setting, agent_name: str) -> AgentPlan:
    """The agent's published depth and number of critics, in the setting's width."""
    return dataclasses.replace(AGENTS.get(agent_name).plan, hidden_dim=setting.hidden_dim)


def population(agent_name: str, num_lanes: int) -> lanes.Lanes:
    """So many seeds of the default hyperparameters."""
    return lanes.build(ProgramHyper(AGENTS.get(agent_name).hyper(), diffusion.Hyper()), {}, num_lanes, 0)


@functools.cache
def network(setting: Setting) -> Network:
    return unet.build(
        setting.window_length, setting.layout.dim, setting.width, setting.num_blocks, setting.compute_dtype
    )


def rows(setting: Setting, num_rows: int) -> np.ndarray:
    """f32[N, D] in environment space; none is terminal."""
    table = np.random.default_rng(0).uniform(-1.0, 1.0, (num_rows, setting.layout.dim)).astype(np.float32)
    table[:, setting.layout.terminal] = 0.0
    return table


def transitions(setting: Setting, num_rows: int, has_next_action: bool = False) -> Transition:
    """Numpy leaves [N, ...]."""
    table, layout = rows(setting, num_rows), setting.layout
    obs, next_obs = table[:, layout.obs], np.roll(table[:, layout.obs], -1, axis=0)
    action = table[:, layout.action]
    next_action = np.roll(action, -1, axis=0) if has_next_action else None
    return Transition(obs, action, table[:, layout.reward], next_obs, table[:, layout.terminal], next_action)


def random(shapes: Any) -> Any:
    """Weights and moments for a tree of shapes, zero where not a float: an initialiser takes seconds to compile."""
    generator = np.random.default_rng(0)

    def leaf(shape: jax.ShapeDtypeStruct) -> jax.Array:
        scale = 0.01 if jnp.issubdtype(shape.dtype, jnp.floating) else 0.0
        return jnp.asarray(generator.uniform(0.0, scale, shape.shape), shape.dtype)

    return jax.tree.map(leaf, shapes)


@functools.cache
def shared(setting: Setting) -> Shared:
    normalizer = normalizers.fit(rows(setting, setting.num_real), setting.layout)
    params = random(jax.eval_shape(network(setting).init, jax.random.key(0)))
    return Shared(
        diffusion.Model(params), normalizer, jax.tree.map(jnp.asarray, transitions(setting, setting.num_real))
    )
