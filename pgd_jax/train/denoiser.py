"""Training of the denoiser: scanned chunks, averaged weights, validation loss on held-out episodes."""

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jax.sharding import Mesh

from pgd_jax.core import devices
from pgd_jax.core.config import TrainingConfig
from pgd_jax.core.types import Params
from pgd_jax.diffusion import edm
from pgd_jax.networks.base import Network

WARMUP_FRACTION = 0.1


@struct.dataclass
class TrainState:
    key: jax.Array
    step: jax.Array  # i32[]
    params: Params
    ema: Params  # averaged weights: those that sampling uses
    optimiser: optax.OptState


class TrainingWindows(NamedTuple):
    """All windows of a dataset as indices into its rows: 4x less memory than a copy of each window."""

    rows: jax.Array  # f32[N, D] network space, time order
    starts: jax.Array  # i32[W] first row of each window
    last: jax.Array  # i32[W] last row of each window: a window that reaches past it repeats it


def gather(windows: TrainingWindows, index: jax.Array, length: int) -> jax.Array:
    """Windows f32[B, T, D] for index i32[B] into `windows.starts`."""
    row = windows.starts[index][:, None] + jnp.arange(length)[None, :]
    return windows.rows[jnp.minimum(row, windows.last[index][:, None])]


def optimiser(config: TrainingConfig) -> optax.GradientTransformation:
    warmup = max(1, round(WARMUP_FRACTION * config.num_steps))
    return optax.adam(
        optax.warmup_cosine_decay_schedule(0.0, config.learning_rate, warmup, max(config.num_steps, warmup + 1))
    )


def init(key: jax.Array, network: Network, config: TrainingConfig) -> TrainState:
    key, key_params = jax.random.split(key)
    params = network.init(key_params)
    # A copy: a donated state must not hold the same buffer twice.
    return TrainState(key, jnp.int32(0), params, jax.tree.map(jnp.copy, params), optimiser(config).init(params))


def train_step(
    state: TrainState,
    key: jax.Array,
    windows: TrainingWindows,
    length: int,
    network: Network,
    config: TrainingConfig,
    mesh: Mesh | None = None,
) -> tuple[TrainState, jax.Array]:
    """One Adam step on a batch drawn with replacement. (Without replacement, each step would sort all indices.)

    Each device draws the whole batch, which is cheap, and keeps its own part. So the draws do not depend on the mesh.
    """
    key_batch, key_loss = jax.random.split(key)
    index = jax.random.randint(key_batch, (config.batch_size,), 0, windows.starts.shape[0])
    shape = (config.batch_size, length, windows.rows.shape[1])
    index, *noised = devices.own((index, *edm.draw(key_loss, shape, config.noise_mean, config.noise_std)), mesh)
    x0 = gather(windows, index, length)

    def objective(params: Params) -> jax.Array:
        return edm.error(edm.denoiser(network, params), x0, *noised)

    loss, gradient = devices.mean(jax.value_and_grad(objective)(state.params), mesh)
    with jax.numpy_dtype_promotion("standard"):  # optax raises a float to the power of its int32 count
        updates, opt_state = optimiser(config).update(gradient, state.optimiser, state.params)
    params = optax.apply_updates(state.params, updates)
    return dataclasses.replace(state, step=state.step + 1, params=params, optimiser=opt_state), loss


@functools.partial(jax.jit, static_argnames=("length", "network", "config", "mesh"), donate_argnames=("state",))
def train_chunk(
    state: TrainState,
    windows: TrainingWindows,
    *,
    length: int,
    network: Network,
    config: TrainingConfig,
    mesh: Mesh | None = None,
) -> tuple[TrainState, jax.Array]:
    """`steps_per_chunk` steps. Returns the new state and the mean loss f32[].

    The weights are averaged once per `ema_period`, as a level of the loop. With a mesh, each device holds the state and
    the windows; each step averages the gradients over the devices once.
    """
    step = functools.partial(train_step, length=length, network=network, config=config, mesh=mesh)
    period = functools.partial(_period, step, config)

    def chunk(state: TrainState, windows: TrainingWindows) -> tuple[TrainState, jax.Array]:
        num_periods = config.steps_per_chunk // config.ema_period
        state, losses = jax.lax.scan(lambda state, _: period(state, windows), state, None, length=num_periods)
        return state, jnp.mean(losses)

    return devices.on_each(chunk, mesh)(state, windows)


def _period(
    step: Callable[..., tuple[TrainState, jax.Array]],
    config: TrainingConfig,
    state: TrainState,
    windows: TrainingWindows,
) -> tuple[TrainState, jax.Array]:
    """`ema_period` steps and one update of the averaged weights."""
    key, key_steps = jax.random.split(state.key)
    keys = jax.random.split(key_steps, config.ema_period)
    state = dataclasses.replace(state, key=key)
    state, losses = jax.lax.scan(lambda state, key: step(state, key, windows), state, keys)
    ema = optax.incremental_update(state.params, state.ema, 1.0 - config.ema_decay)
    return dataclasses.replace(state, ema=ema), jnp.mean(losses)


@functools.partial(jax.jit, static_argnames=("length", "network", "num_windows", "batch_size"))
def validation_loss(
    key: jax.Array,
    params: Params,
    windows: TrainingWindows,
    *,
    length: int,
    network: Network,
    num_windows: int,
    batch_size: int,
) -> jax.Array:
    """EDM loss f32[] of weights `params` on held-out windows. The same key gives the same windows and noise."""
    num_batches = max(1, num_windows // batch_size)

    def batch(key: jax.Array) -> jax.Array:
        key_batch, key_loss = jax.random.split(key)
        index = jax.random.randint(key_batch, (batch_size,), 0, windows.starts.shape[0])
        return edm.loss(key_loss, edm.denoiser(network, params), gather(windows, index, length))

    return jnp.mean(jax.lax.map(batch, jax.random.split(key, num_batches)))
