"""The smallest settings that run every part of the program: pendulum's shapes, windows of 8 rows, tiny networks."""

import dataclasses
import functools
import pathlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pgd_jax.agents.base import AGENTS
from pgd_jax.core import config as configs
from pgd_jax.core.types import Layout, Normalizer, Params, Transition
from pgd_jax.data import export
from pgd_jax.envs.base import ENVS
from pgd_jax.generators import diffusion, ensemble, one_step
from pgd_jax.networks import ensemble as networks, unet
from pgd_jax.networks.base import Network
from pgd_jax.runs.experiment import hyper_of
from pgd_jax.train import lanes, loop
from pgd_jax.train.program import plan_of

LAYOUT = Layout(obs_dim=3, action_dim=1)
WINDOW = 8
NUM_EPISODES, EPISODE_LENGTH = 12, 20


def rows() -> export.Flat:
    """12 episodes of 20 rows with pendulum's shapes; the even ones end in a terminal, the odd ones in a timeout."""
    generator = np.random.default_rng(0)
    shape = (NUM_EPISODES, EPISODE_LENGTH)
    phase = generator.uniform(0.0, 6.0, (NUM_EPISODES, 1)) + 0.2 * np.arange(EPISODE_LENGTH + 1)
    obs = np.stack([np.cos(phase), np.sin(phase), 3.0 * np.cos(2.0 * phase)], axis=-1)
    action = np.tanh(generator.normal(size=(*shape, 1)))
    last = np.broadcast_to(np.arange(EPISODE_LENGTH) == EPISODE_LENGTH - 1, shape)
    even = np.broadcast_to((np.arange(NUM_EPISODES) % 2 == 0)[:, None], shape)
    arrays = (obs[:, :-1], action, -(action[..., 0] ** 2), obs[:, 1:], last & even, last & ~even)
    return export.Flat(*(array.reshape(-1, *array.shape[2:]) for array in arrays))


def write_dataset(path: pathlib.Path, **metadata: str) -> str:
    export.write_hdf5(path, *rows(), metadata={"env": "pendulum"} | metadata)
    return str(path)


def denoiser_config(dataset: str, **training: float) -> configs.DenoiserConfig:
    settings = dict(num_steps=60, steps_per_chunk=10, batch_size=8, ema_period=5, num_validation_windows=16)
    return configs.DenoiserConfig(
        data=configs.DataConfig(dataset=dataset, window_length=WINDOW, window_stride=4),
        unet=configs.UNetConfig(width=8, num_blocks=2),
        training=configs.TrainingConfig(**settings | training),
    )


SAMPLING = configs.SamplingConfig(num_steps=3, num_trajectories=8, trajectories_per_batch=4)
AGENT_CONFIG = configs.AgentConfig(
    denoiser="in memory", hidden_dim=16, num_hidden=1, sampling=SAMPLING, num_phases=4, updates_per_phase=4,
    batch_size=8, synthetic_per_batch=6, num_episodes=2, num_seeds=2, hyper={"guidance_coefficient": (0, 1)},
)  # fmt: skip


def agent_config(sampling: dict | None = None, **changes) -> configs.AgentConfig:
    """AGENT_CONFIG with `changes`, and `sampling` changed within it; no guidance where nothing is generated."""
    if changes.get("synthetic_per_batch") == 0:
        changes = {"hyper": {}} | changes
    return dataclasses.replace(AGENT_CONFIG, sampling=dataclasses.replace(SAMPLING, **sampling or {}), **changes)


# Rollouts of an untrained world model in the place of windows.
ENSEMBLE = dataclasses.replace(
    AGENT_CONFIG, denoiser="", world_model="in memory", generator="ensemble", hyper={"penalty": (0, 1)},
    rollout=configs.RolloutConfig(horizon=3, num_rollouts=8, rollouts_per_batch=4),
)  # fmt: skip


def world_model_config(dataset: str, **changes) -> configs.WorldModelConfig:
    settings = dict(num_members=3, num_elites=2, hidden_dim=8, num_hidden=2, num_steps=60, steps_per_chunk=10)
    data = configs.DataConfig(dataset=dataset, window_length=WINDOW, window_stride=4)
    return configs.WorldModelConfig(data=data, **settings | {"batch_size": 16} | changes)


def ensemble_model(starts: jax.Array, num_members: int = 3) -> one_step.Model:
    """Of pendulum's shapes, with random weights."""
    sizes = (LAYOUT.obs_dim + LAYOUT.action_dim, LAYOUT.obs_dim + 1, 8, 2, num_members)
    params = _noisy(jax.random.key(2), networks.init(jax.random.key(1), *sizes))
    numbers = (jnp.full(1, 0.1), jnp.full(1, 0.5), jnp.zeros(4), jnp.full(4, 0.3))
    return one_step.Model(params, one_step.Scale(*numbers), starts)


class World(NamedTuple):
    """What `loop.run_chunk` takes, without a file or a trained denoiser."""

    program: loop.Program
    shared: loop.Shared
    lanes: lanes.Lanes

    def init(self) -> loop.LaneState:
        return loop.init(self.program, self.lanes.seeds, self.lanes.hypers, self.shared)

    def run(self, num_phases: int, states: loop.LaneState) -> tuple[loop.LaneState, loop.Metrics]:
        return loop.run_chunk(self.program, num_phases, states, self.lanes.hypers, self.shared)


def build(config: configs.AgentConfig = AGENT_CONFIG) -> World:
    """A world with a model of random weights that no training has seen, and random real data."""
    network, params = network_and_params()
    normalizer = Normalizer(
        jnp.array([0.1, 0.0, 0.5, 0.0, -1.0, 0.1]), jnp.array([0.7, 0.7, 3.0, 0.8, 1.0, 0.2]), LAYOUT
    )
    agent = AGENTS.get(config.agent).make(config, normalizer)
    generator, model, real = None, None, real_transitions(has_next_action=agent.needs_next_action)
    lanes_ = lanes.build(hyper_of(config), config.hyper, config.num_seeds, config.first_seed)
    if config.synthetic_per_batch and config.generator == "ensemble":
        plan = ensemble.Plan(config.rollout, has_next_action=agent.needs_next_action)
        plan = ensemble.specialised(plan, lanes_.hypers.generator)
        generator, model = ensemble.of_plan(plan), ensemble_model(real.obs)
    elif config.synthetic_per_batch:
        generator = diffusion.of_plan(diffusion.Plan(config.sampling, WINDOW, network))
        model = diffusion.Model(params)
    program = loop.Program(plan_of(config), agent, generator, ENVS.get("pendulum")())
    shared = loop.Shared(model, normalizer, real)
    return World(program, shared, lanes_)


def sample(world: World, key: jax.Array, log_prob, hyper: loop.ProgramHyper, **plan) -> jax.Array:
    """Windows of one lane's floats, with the fields `plan` of the generator's plan changed."""
    made = world.program.generator.plan._replace(**plan)
    own = hyper.generator
    return diffusion.sample(
        made, key, log_prob, own.guidance_coefficient, own, world.shared.model, world.shared.normalizer
    )


@functools.cache
def network_and_params() -> tuple[Network, Params]:
    network = unet.build(WINDOW, LAYOUT.dim, width=8, num_blocks=2, compute_dtype="float32")
    return network, jax.jit(lambda key: _noisy(key, network.init(key)))(jax.random.key(1))


def _noisy(key: jax.Array, params: Params) -> Params:
    """The output layer starts at zero: without this the network would not matter."""
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(key, len(leaves) + 1)[1:]
    return structure.unflatten(
        [leaf + 0.1 * jax.random.normal(key, leaf.shape) for key, leaf in zip(keys, leaves, strict=True)]
    )


def real_transitions(num_rows: int = 40, has_next_action: bool = False) -> Transition:
    generator = np.random.default_rng(1)
    columns = (
        generator.normal(size=(num_rows, LAYOUT.obs_dim)),
        generator.uniform(-1.0, 1.0, (num_rows, LAYOUT.action_dim)),
        generator.normal(size=num_rows),
        generator.normal(size=(num_rows, LAYOUT.obs_dim)),
        generator.uniform(size=num_rows) < 0.1,
    )
    made = Transition(*(jnp.asarray(column, jnp.float32) for column in columns))
    return made._replace(next_action=jnp.roll(made.action, -1, axis=0)) if has_next_action else made
