"""The behaviour policy beta(a | s) as a run: a Gaussian cloned by maximum likelihood from a denoiser's dataset.

    theta <- initial network
    for each step, on one batch (s, a) of real transitions:
        theta <- Adam on -log N(a; mean(s), std(s)^2)

Guidance may subtract a share of its score, lambda (grad log pi - share grad log beta) (STITCH-OPE,
arXiv 2505.20781). States are in the network space of the denoiser's normalizer, actions in environment space: as every
LogProb has them.
"""

import functools
import os
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.stages import Compiled

from pgd_jax.agents import adam, cloned
from pgd_jax.core import config as configs, logging, processes, validation
from pgd_jax.core.errors import UserError
from pgd_jax.core.types import Layout, Normalizer, Params
from pgd_jax.data import episodes, loading
from pgd_jax.data.base import RawDataset, Reading
from pgd_jax.networks import mlp
from pgd_jax.networks.base import Network
from pgd_jax.runs import denoiser as denoisers, driver, footprint, records, rests

KIND = "behaviour"
ADAM_EPS = 1e-8
VALIDATION_BATCH = 4_096  # transitions at once; sets memory, not the result
LOG_STD_MIN, LOG_STD_MAX = -2.0, 1.0


@struct.dataclass
class TrainState:
    key: jax.Array
    policy: adam.Trained


@struct.dataclass
class Saved:
    """What a checkpoint of this kind holds: weights never travel without the statistics of their observations."""

    training: TrainState
    normalizer: Normalizer


class Demonstrations(NamedTuple):
    """What the dataset's policy saw and did."""

    obs: jax.Array  # f32[N, O] network space
    action: jax.Array  # f32[N, A] environment space, in [-1, 1]


class Data(NamedTuple):
    """Both sides of the denoiser's own split, on the device."""

    normalizer: Normalizer
    training: Demonstrations
    validation: Demonstrations | None  # None: a single episode leaves nothing to hold out


class Behaviour(NamedTuple):
    """A trained behaviour policy, read back from its run."""

    config: configs.BehaviourConfig
    network: Network
    params: Params
    normalizer: Normalizer  # of the denoiser that it was trained beside


def network_of(config: configs.BehaviourConfig, layout: Layout) -> Network:
    """`apply(params, obs [..., O]) -> (mean [..., A], log_std [..., A])`.

    The floor of log_std, a standard deviation of 0.135, bounds the score: |mean - a| / std^2 is at most 2 / 0.0183 =
    109 an action. A dataset of a deterministic policy would otherwise drive it to infinity, and guidance subtracts it.
    """
    sizes = dict(hidden_dim=config.hidden_dim, num_hidden=config.num_hidden)
    return mlp.conditional_gaussian_policy(
        layout.obs_dim, layout.action_dim, **sizes, log_std_min=LOG_STD_MIN, log_std_max=LOG_STD_MAX
    )


def prepare(config: configs.BehaviourConfig) -> Data:
    """Loads the denoiser's dataset, splits it as the denoiser does and encodes it by the denoiser's normalizer.

    Raises UserError for a denoiser that is not there or not finished, and a dataset that is gone or no longer its own.
    """
    trained = denoisers.load(config.denoiser)
    data, normalizer = trained.config.data, trained.normalizer
    records.say_what_it_names(config.denoiser, "dataset", data.dataset)
    raw = loading.load(data.dataset, config.download, Reading.of(data))
    processes.check()
    if denoisers.layout_of(raw) != normalizer.layout:
        raise UserError(
            f"{data.dataset} is no longer the dataset that the denoiser in {config.denoiser} was trained on: it has "
            f"{_sizes(denoisers.layout_of(raw))}, the denoiser {_sizes(normalizer.layout)}"
        )
    pieces = episodes.segments(raw)
    train_ids, validation_ids = denoisers.split(data, pieces)
    training = _demonstrations(raw, episodes.take(pieces, train_ids), normalizer)
    validation = (
        _demonstrations(raw, episodes.take(pieces, validation_ids), normalizer) if validation_ids.size else None
    )
    logging.info(
        f"{raw.name}: {len(training.obs)} transitions of {train_ids.size} episodes to learn from, "
        f"{len(validation.obs) if validation else 0} of {validation_ids.size} held out"
    )
    return Data(normalizer, training, validation)


def _demonstrations(raw: RawDataset, pieces: episodes.Segments, normalizer: Normalizer) -> Demonstrations:
    transitions = episodes.transitions(raw, pieces, normalizer)
    return Demonstrations(jnp.asarray(transitions.obs), jnp.asarray(transitions.action))


def fit(
    config: configs.BehaviourConfig, path: str | os.PathLike, only_check: bool = False, sinks: Sequence[str] = ()
) -> bool:
    """Trains a behaviour policy in directory `path`, or resumes, or returns at once; returns whether it is finished.

    `only_check` does all but that: it says what would run, and what memory and time it takes. `sinks` are where the
    numbers go besides.
    """
    validation.validate_behaviour(config)
    driver.check(path, sinks)
    data = prepare(config)
    network_of(config, data.normalizer.layout)  # an impossible one is refused before a finished run is looked at
    found = {
        "denoiser": rests.of_model(config.denoiser, data.normalizer),
        "dataset": rests.of_model(config.denoiser, data.training, data.validation),
    }
    make_ready = functools.partial(_ready, config, data)
    return driver.fit(path, KIND, configs.to_dict(config), found, make_ready, only_check, sinks)


def _ready(config: configs.BehaviourConfig, data: Data) -> driver.Ready:
    network, initial = network_of(config, data.normalizer.layout), functools.partial(_initial, config, data.normalizer)
    template = jax.eval_shape(initial)
    compiled = footprint.compile(train_chunk, template.training, data.training, network=network, config=config)
    needed = footprint.of_policy(config, compiled, template.training, data)
    return driver.Ready(_job(config, network, compiled, data), jax.jit(initial), template, needed)


def _initial(config: configs.BehaviourConfig, normalizer: Normalizer) -> Saved:
    network = network_of(config, normalizer.layout)
    key, key_params = jax.random.split(jax.random.key(config.seed))
    return Saved(TrainState(key, adam.init(network.init(key_params))), normalizer)


@functools.partial(jax.jit, static_argnames=("network", "config"), donate_argnames=("state",))
def train_chunk(
    state: TrainState, data: Demonstrations, *, network: Network, config: configs.BehaviourConfig
) -> tuple[TrainState, jax.Array]:
    """`steps_per_chunk` steps; returns the mean log-likelihood f32[] of their batches, in nats a transition."""

    def step(policy: adam.Trained, key_batch: jax.Array) -> tuple[adam.Trained, jax.Array]:
        index = jax.random.randint(key_batch, (config.batch_size,), 0, data.obs.shape[0])

        def loss(params: Params) -> jax.Array:
            return -cloned.log_prob(network, params, data.obs[index], data.action[index]).mean()

        negative, grads = jax.value_and_grad(loss)(policy.params)
        return adam.step(policy, grads, config.learning_rate, ADAM_EPS), -negative

    key, key_batches = jax.random.split(state.key)
    policy, log_likelihoods = jax.lax.scan(step, state.policy, jax.random.split(key_batches, config.steps_per_chunk))
    return TrainState(key, policy), log_likelihoods.mean()


@functools.partial(jax.jit, static_argnames=("network",))
def log_likelihood(params: Params, data: Demonstrations, *, network: Network) -> jax.Array:
    """Mean log-likelihood f32[] of all of `data`, in nats a transition."""

    def one(transition: Demonstrations) -> jax.Array:
        return cloned.log_prob(network, params, transition.obs, transition.action)

    return jax.lax.map(one, data, batch_size=VALIDATION_BATCH).mean()


def _job(config: configs.BehaviourConfig, network: Network, compiled: Compiled, data: Data) -> driver.Job:
    def advance(saved: Saved) -> tuple[Saved, dict[str, jax.Array]]:
        state, train = compiled(saved.training, data.training)
        measures = {"train_log_likelihood": train}
        if data.validation is not None:
            held_out = log_likelihood(state.policy.params, data.validation, network=network)
            measures["validation_log_likelihood"] = held_out
        return Saved(state, saved.normalizer), measures

    shown, metadata = ("train_log_likelihood", "validation_log_likelihood"), denoisers.metadata_of(data.normalizer)
    return driver.training(advance, config.num_steps, config.steps_per_chunk, shown, metadata)


def load(path: str | os.PathLike, normalizer: Normalizer | None = None) -> Behaviour:
    """The behaviour policy of the finished run in `path`; with `normalizer`, only if its denoiser has that.

    Raises UserError for no run, another kind, one not finished, or another denoiser's.
    """
    config = records.read_config(configs.BehaviourConfig, path, KIND)
    saved = denoisers.restore(path, KIND, functools.partial(_initial, config))
    network = network_of(config, saved.normalizer.layout)
    trained = Behaviour(config, network, saved.training.policy.params, saved.normalizer)
    if normalizer is not None:
        check_same_normalizer(path, trained, normalizer)
    return trained


def check_same_normalizer(path: str | os.PathLike, trained: Behaviour, normalizer: Normalizer) -> None:
    """Raises UserError where the policy of run `path` reads other observations than one with `normalizer` shows."""
    ours, theirs = jax.device_get((trained.normalizer, normalizer))
    difference = ""
    if ours.layout != theirs.layout:
        difference = f"it was trained on {_sizes(ours.layout)}, the denoiser on {_sizes(theirs.layout)}"
    elif not (np.array_equal(ours.mean, theirs.mean) and np.array_equal(ours.std, theirs.std)):
        difference = "their datasets have other means and standard deviations"
    if difference:
        raise UserError(
            f"{path}: this behaviour policy belongs to another denoiser ({trained.config.denoiser}): {difference}; "
            "train one for this denoiser with train_behaviour"
        )


def _sizes(layout: Layout) -> str:
    return f"observations of {layout.obs_dim} and actions of {layout.action_dim}"
