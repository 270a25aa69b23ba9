"""Training of the one-step world model: bootstrapped batches, Gaussian likelihood, the best weights of each member.

    for each step and each member, on a batch from the member's own bootstrap sample of the transitions:
        params <- Adam on the loss
    for each member, after each chunk:
        best <- params, if their error on held-out transitions is the lowest so far

Keeping the best weights has the effect of early stopping. The number of steps is fixed, so the length of a run is known
beforehand, and a member that still improves is not stopped by the others.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import struct

from pgd_jax.agents import adam
from pgd_jax.core.config import WorldModelConfig
from pgd_jax.core.types import Params
from pgd_jax.networks import ensemble

ADAM_EPS = 1e-8
BOUND_WEIGHT = 0.01
ROWS_PER_BATCH = 4_096  # held-out rows at once: sets the memory, not the result
# Weights of the kernels' squares / 2: first layer, second, middle, last (MBPO's released code, Janner et al. 2019).
DECAYS = (2.5e-5, 5e-5, 7.5e-5, 1e-4)


class Rows(NamedTuple):
    """Transitions as the network sees them. All fields have the same leading axes."""

    x: jax.Array  # f32[..., O + A]
    y: jax.Array  # f32[..., O + 1]
    terminal: jax.Array  # f32[...]
    known: jax.Array  # f32[...] 0 where the file does not have the observation after a terminal row


class Data(NamedTuple):
    training: Rows  # [N, ...]
    bootstrap: jax.Array  # i32[E, N] the rows that each member learns from, drawn with replacement
    validation: Rows | None  # None: with a single episode nothing is held out


@struct.dataclass
class TrainState:
    key: jax.Array
    model: adam.Trained
    best: Params  # best weights of each member
    errors: jax.Array  # f32[E] their held-out errors; infinite before the first measurement


def init(key: jax.Array, config: WorldModelConfig, in_dim: int, out_dim: int) -> TrainState:
    key, key_params = jax.random.split(key)
    sizes = (in_dim, out_dim, config.hidden_dim, config.num_hidden, config.num_members)
    params = ensemble.init(key_params, *sizes)
    # A copy: a donated state must not hold the same buffer twice.
    return TrainState(key, adam.init(params), jax.tree.map(jnp.copy, params), jnp.full(config.num_members, jnp.inf))


def bootstrap(key: jax.Array, num_members: int, num_rows: int) -> jax.Array:
    """Row indices i32[E, N]: each member learns from its own sample of the data (PETS, Chua et al. 2018, section 4)."""
    return jax.random.randint(key, (num_members, num_rows), 0, num_rows)


def weight_decays(num_layers: int) -> Sequence[float]:
    """The weight decay of each layer. It rises from the first layer to the last."""
    first, second, between, last = DECAYS
    return [*[first, second, *[between] * num_layers][: num_layers - 1], last]


def loss(params: Params, rows: Rows, beta: float) -> jax.Array:
    """The loss f32[] of rows [E, B, ...], a batch for each member: mean over the batch, sum over members.

    It has four terms. The first is (mu - y)^2 / sigma^2 + log sigma^2, a mean over columns: twice the negative
    log-likelihood of a Gaussian without its constant (PETS, equation 1). Each entry has the weight sigma^(2 beta),
    which is not differentiated (beta-NLL, Seitzer et al. 2022, arXiv 2203.09168, equation 6). The others are the
    cross-entropy of the terminal flag, the weight decay, and the penalty on the bounds of log sigma^2 (PETS,
    appendix A.1).
    """
    mean, log_var, logit = ensemble.apply(params, rows.x)
    is_known = jnp.broadcast_to(rows.known[..., None], rows.y.shape).at[..., -1].set(1.0)
    weight = is_known * jax.lax.stop_gradient(jnp.exp(beta * log_var))
    likelihood = jnp.mean(weight * ((mean - rows.y) ** 2 * jnp.exp(-log_var) + log_var), axis=(1, 2))
    ends = jnp.mean(optax.sigmoid_binary_cross_entropy(logit, rows.terminal), axis=1)
    decay = sum(
        0.5 * rate * jnp.sum(layer["kernel"] ** 2)
        for rate, layer in zip(weight_decays(len(params["layers"])), params["layers"], strict=True)
    )
    bounds = BOUND_WEIGHT * (jnp.sum(params["max_log_var"]) - jnp.sum(params["min_log_var"]))
    return jnp.sum(likelihood + ends) + decay + bounds


def held_out(params: Params, rows: Rows) -> tuple[jax.Array, jax.Array]:
    """(squared error, cross-entropy of the terminal flag) of rows [N, ...], f32[E] each.

    The squared error is over known rows, in units of the targets' variances: always predicting the mean has error 1.
    """
    num_members = params["layers"][0]["bias"].shape[0]

    def one(row: Rows) -> tuple[jax.Array, jax.Array]:
        x = jnp.broadcast_to(row.x, (num_members, 1, row.x.size))
        mean, _, logit = ensemble.apply(params, x)
        error = jnp.mean((mean[:, 0] - row.y[None]) ** 2, axis=-1)
        return row.known * error, optax.sigmoid_binary_cross_entropy(logit[:, 0], row.terminal)

    errors, ends = jax.lax.map(one, rows, batch_size=ROWS_PER_BATCH)
    return jnp.sum(errors, axis=0) / jnp.maximum(jnp.sum(rows.known), 1.0), jnp.mean(ends, axis=0)


def train_step(state: TrainState, data: Data, config: WorldModelConfig) -> tuple[TrainState, jax.Array]:
    """One Adam step of all members. Returns the new state and the loss f32[] per member."""
    key, key_batch = jax.random.split(state.key)
    num_members, num_rows = data.bootstrap.shape
    drawn = jax.random.randint(key_batch, (num_members, config.batch_size), 0, num_rows)
    rows = jnp.take_along_axis(data.bootstrap, drawn, axis=1)
    batch = jax.tree.map(lambda leaf: leaf[rows], data.training)
    value, gradient = jax.value_and_grad(loss)(state.model.params, batch, config.beta)
    model = adam.step(state.model, gradient, config.learning_rate, ADAM_EPS)
    return dataclasses.replace(state, key=key, model=model), value / num_members


def keep_best(state: TrainState, errors: jax.Array) -> TrainState:
    """`state` with the new weights of each member whose held-out error, of `errors` f32[E], is its lowest so far."""
    is_better = errors < state.errors

    def better(new: jax.Array, old: jax.Array) -> jax.Array:
        return jnp.where(is_better.reshape(-1, *[1] * (new.ndim - 1)), new, old)

    best = jax.tree.map(better, state.model.params, state.best)
    return dataclasses.replace(state, best=best, errors=jnp.where(is_better, errors, state.errors))


@functools.partial(jax.jit, static_argnames=("config",), donate_argnames=("state",))
def train_chunk(state: TrainState, data: Data, *, config: WorldModelConfig) -> tuple[TrainState, dict[str, jax.Array]]:
    """`steps_per_chunk` steps, then the held-out errors. Metrics are means over members; `best_error` is over elites.

    Several chunks give the same bits as one long chunk. Without held-out rows the newest weights are the best ones.
    """
    step = functools.partial(train_step, data=data, config=config)
    state, losses = jax.lax.scan(lambda state, _: step(state), state, None, length=config.steps_per_chunk)
    measures: dict[str, Any] = {"train_loss": jnp.mean(losses)}
    if data.validation is None:
        return dataclasses.replace(state, best=jax.tree.map(jnp.copy, state.model.params)), measures
    errors, ends = held_out(state.model.params, data.validation)
    state = keep_best(state, errors)
    measures |= {"validation_error": jnp.mean(errors), "validation_terminal_loss": jnp.mean(ends)}
    measures["best_error"] = jnp.mean(jnp.sort(state.errors)[: config.num_elites])
    return state, measures


def elites(state: TrainState, num_elites: int) -> Params:
    """The best weights of the `num_elites` members with the lowest held-out errors."""
    return ensemble.take(state.best, jnp.argsort(state.errors)[:num_elites])
