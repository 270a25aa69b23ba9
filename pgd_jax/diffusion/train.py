"""Training of the denoiser: scanned chunks, averaged weights, validation loss on held-out episodes."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import struct

from pgd_jax.config import TrainingConfig
from pgd_jax.diffusion import edm
from pgd_jax.networks.base import Network
from pgd_jax.types import Denoise, Params

WARMUP_FRACTION = 0.1


@struct.dataclass
class TrainState:
    key: jax.Array
    step: jax.Array  # i32[]
    params: Params
    ema: Params  # the averaged weights, which sample
    optimiser: optax.OptState


class Windows(NamedTuple):
    """All windows of a dataset without materialising them: 4x less memory than a copy of each."""

    rows: jax.Array  # f32[N, D] network space, time order
    starts: jax.Array  # i32[W] first row of each window


def gather(windows: Windows, index: jax.Array, length: int) -> jax.Array:
    """Windows f32[B, T, D] for index i32[B] into `windows.starts`."""
    return windows.rows[windows.starts[index][:, None] + jnp.arange(length)[None, :]]


def denoiser(network: Network, params: Params) -> Denoise:
    """The preconditioned denoiser with weights `params`."""
    return edm.precondition(functools.partial(network.apply, params))


def optimiser(config: TrainingConfig) -> optax.GradientTransformation:
    warmup = max(1, round(WARMUP_FRACTION * config.num_steps))
    return optax.adam(
        optax.warmup_cosine_decay_schedule(0.0, config.learning_rate, warmup, max(config.num_steps, warmup + 1))
    )


def init(key: jax.Array, network: Network, config: TrainingConfig) -> TrainState:
    key, key_params = jax.random.split(key)
    params = network.init(key_params)
    # A copy: the same buffer twice in a donated state is an error.
    return TrainState(key, jnp.int32(0), params, jax.tree.map(jnp.copy, params), optimiser(config).init(params))


def train_step(
    state: TrainState, key: jax.Array, windows: Windows, length: int, network: Network, config: TrainingConfig
) -> tuple[TrainState, jax.Array]:
    """One Adam step on a batch drawn with replacement (a draw without one would sort all indices each step)."""
    key_batch, key_loss = jax.random.split(key)
    index = jax.random.randint(key_batch, (config.batch_size,), 0, windows.starts.shape[0])
    x0 = gather(windows, index, length)

    def objective(params: Params) -> jax.Array:
        return edm.loss(key_loss, denoiser(network, params), x0, config.noise_mean, config.noise_std)

    loss, gradient = jax.value_and_grad(objective)(state.params)
    with jax.numpy_dtype_promotion("standard"):  # optax raises a float to its int32 count
        updates, opt_state = optimiser(config).update(gradient, state.optimiser, state.params)
    params = optax.apply_updates(state.params, updates)
    return state.replace(step=state.step + 1, params=params, optimiser=opt_state), loss


@functools.partial(jax.jit, static_argnames=("length", "network", "config"), donate_argnames=("state",))
def train_chunk(
    state: TrainState, windows: Windows, *, length: int, network: Network, config: TrainingConfig
) -> tuple[TrainState, jax.Array]:
    """`steps_per_chunk` steps; returns the mean loss f32[]. Averaging (once an `ema_period`) is a loop level."""

    def step(state: TrainState, key: jax.Array) -> tuple[TrainState, jax.Array]:
        return train_step(state, key, windows, length, network, config)

    def period(state: TrainState, _: None) -> tuple[TrainState, jax.Array]:
        key, key_steps = jax.random.split(state.key)
        keys = jax.random.split(key_steps, config.ema_period)
        state, losses = jax.lax.scan(step, state.replace(key=key), keys)
        ema = optax.incremental_update(state.params, state.ema, 1.0 - config.ema_decay)
        return state.replace(ema=ema), jnp.mean(losses)

    state, losses = jax.lax.scan(period, state, None, length=config.steps_per_chunk // config.ema_period)
    return state, jnp.mean(losses)


@functools.partial(jax.jit, static_argnames=("length", "network", "num_windows", "batch_size"))
def validation_loss(
    key: jax.Array,
    params: Params,
    windows: Windows,
    *,
    length: int,
    network: Network,
    num_windows: int,
    batch_size: int,
) -> jax.Array:
    """EDM loss f32[] of weights `params` on held-out windows; the same key compares the same draws along a training."""
    num_batches = max(1, num_windows // batch_size)

    def batch(key: jax.Array) -> jax.Array:
        key_batch, key_loss = jax.random.split(key)
        index = jax.random.randint(key_batch, (batch_size,), 0, windows.starts.shape[0])
        return edm.loss(key_loss, denoiser(network, params), gather(windows, index, length))

    return jnp.mean(jax.lax.map(batch, jax.random.split(key, num_batches)))
