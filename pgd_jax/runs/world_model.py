"""A one-step world model as a run: from a dataset to a trained ensemble with the statistics it belongs to.

Held-out episodes and normalizer are those of a denoiser with the same data settings.
"""

import dataclasses
import functools
import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.stages import Compiled

from pgd_jax.core import config as configs, logging, processes, validation
from pgd_jax.core.errors import UserError
from pgd_jax.core.types import Normalizer, Params, Transition
from pgd_jax.data import episodes, loading
from pgd_jax.data.base import RawDataset, Reading
from pgd_jax.data.normalizer import CONSTANT_STD
from pgd_jax.generators import one_step
from pgd_jax.generators.one_step import Scale
from pgd_jax.runs import denoiser as denoisers, driver, footprint, records, rests
from pgd_jax.train import world_model as training

KIND = "world_model"


@struct.dataclass
class Saved:
    """What a checkpoint of this kind holds: weights never travel without their statistics."""

    training: training.TrainState
    normalizer: Normalizer
    scale: Scale


class Data(NamedTuple):
    """A dataset ready for training, on the device."""

    raw: RawDataset
    normalizer: Normalizer
    scale: Scale
    rows: training.Data


class Trained(NamedTuple):
    """A trained world model, read back from its run or trained in memory."""

    config: configs.WorldModelConfig
    params: Params  # of the elites
    scale: Scale
    normalizer: Normalizer


def prepare(config: configs.WorldModelConfig, raw: RawDataset | None = None) -> Data:
    """Splits and encodes the dataset, which is loaded unless it is given. Raises UserError where it cannot be used."""
    data = config.data
    processes.check()
    raw = loading.load(data.dataset, data.download, Reading.of(data)) if raw is None else raw
    pieces = episodes.segments(raw)
    train_ids, validation_ids = denoisers.split(data, pieces)
    windows = denoisers.windows_of(data, episodes.take(pieces, train_ids))
    normalizer = denoisers.normalizer_of(data, raw, episodes.rows(raw), *windows)
    train, validation = (
        episodes.transitions(raw, episodes.take(pieces, ids), normalizer) for ids in (train_ids, validation_ids)
    )
    if not len(train.reward):
        raise UserError(f"{data.dataset}: no transition to learn from; use less data.validation_fraction")
    # A terminal row's successor is in files with next_observations alone.
    has_next = raw.next_observations is not None
    scale = fit_scale(train, has_next)
    key = jax.random.fold_in(jax.random.key(config.seed), 1)  # init takes the key itself
    rows = training.Data(
        _rows(train, scale, has_next),
        jax.jit(training.bootstrap, static_argnums=(1, 2))(key, config.num_members, len(train.reward)),
        _rows(validation, scale, has_next) if len(validation.reward) else None,
    )
    logging.info(
        f"{raw.name}: {len(train.reward)} transitions of {train_ids.size} episodes to learn from, "
        f"{len(validation.reward)} of {validation_ids.size} held out"
    )
    return Data(raw, normalizer, scale, rows)


def fit_scale(rows: Transition, has_next: bool) -> Scale:
    """Statistics of numpy transitions [N, ...], computed in float64."""
    is_known = np.ones(len(rows.reward), bool) if has_next else np.asarray(rows.terminal) == 0.0
    moved = np.subtract(rows.next_obs, rows.obs, dtype=np.float64)[is_known]
    columns = [_statistics(np.asarray(rows.action, np.float64)), _statistics(moved)]
    columns.append(_statistics(np.asarray(rows.reward, np.float64)[:, None]))
    (action_mean, action_std), (moved_mean, moved_std), (reward_mean, reward_std) = columns
    found = (action_mean, action_std, np.append(moved_mean, reward_mean), np.append(moved_std, reward_std))
    first, second, third, fourth = (jnp.asarray(array, jnp.float32) for array in found)
    return Scale(first, second, third, fourth)


def _statistics(columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(mean, standard deviation) f64[D] of columns [N, D]; of one that never changes as a normalizer has it."""
    if not len(columns):
        return np.zeros(columns.shape[1]), np.ones(columns.shape[1])
    mean, std = columns.mean(axis=0), columns.std(axis=0)
    size = np.where(mean == 0.0, 1.0, np.abs(mean))
    return mean, np.where(np.ptp(columns, axis=0) == 0.0, CONSTANT_STD * size, std)


@functools.partial(jax.jit, static_argnames=("has_next",))
def _encoded(rows: Transition, scale: Scale, has_next: bool) -> training.Rows:
    known = jnp.ones_like(rows.terminal) if has_next else 1.0 - rows.terminal
    x = one_step.inputs(scale, rows.obs, rows.action)
    return training.Rows(x, one_step.targets(scale, rows.obs, rows.next_obs, rows.reward), rows.terminal, known)


def _rows(rows: Transition, scale: Scale, has_next: bool) -> training.Rows:
    return _encoded(jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), rows), scale, has_next)


def fit(
    config: configs.WorldModelConfig,
    path: str | os.PathLike,
    raw: RawDataset | None = None,
    only_check: bool = False,
    sinks: Sequence[str] = (),
) -> bool:
    """Trains a world model in directory `path`, or resumes, or returns at once; returns whether it is finished.

    `raw` are the rows of the dataset that the config names, where they have been read already. `only_check` does all
    but that: it says what would run, and what memory and time it takes. `sinks` are where the numbers go besides.
    """
    validation.validate_world_model(config)
    driver.check(path, sinks)
    data = prepare(config, raw)
    found = {"dataset": rests.of_dataset(config.data.dataset, data.raw)}
    make_ready = functools.partial(ready, config, data)
    return driver.fit(path, KIND, configs.to_dict(config), found, make_ready, only_check, sinks)


def fit_in_memory(config: configs.WorldModelConfig, raw: RawDataset) -> Trained:
    """Trains a world model on `raw` and keeps nothing on the disk; the same numbers as `fit`."""
    validation.validate_world_model(config)
    run = ready(config, prepare(config, raw))
    footprint.announce("world model", run.needed)
    saved, _ = driver.run_in_memory(run.job, "world model", run.initial)
    return _trained(config, saved)


def ready(config: configs.WorldModelConfig, data: Data) -> driver.Ready:
    """Compiles the training, which says what memory it takes."""
    initial = functools.partial(_initial, config, data.normalizer, data.scale)
    template = jax.eval_shape(initial)
    compiled = footprint.compile(training.train_chunk, template.training, data.rows, config=_static(config))
    needed = footprint.of_world_model(config, compiled, template.training, data.rows)
    return driver.Ready(_job(config, compiled, data), jax.jit(initial), template, needed)


def _static(config: configs.WorldModelConfig) -> configs.WorldModelConfig:
    """What shapes the compiled training: where the data are and how long it takes does not."""
    usual = configs.WorldModelConfig()
    return dataclasses.replace(config, data=usual.data, num_steps=usual.num_steps, seed=usual.seed)


def _initial(config: configs.WorldModelConfig, normalizer: Normalizer, scale: Scale | None = None) -> Saved:
    """`scale` may be left out where only shapes matter."""
    layout = normalizer.layout
    if scale is None:
        sizes = (layout.action_dim, layout.action_dim, layout.obs_dim + 1, layout.obs_dim + 1)
        scale = Scale(*map(jnp.zeros, sizes))
    state = training.init(jax.random.key(config.seed), config, layout.obs_dim + layout.action_dim, layout.obs_dim + 1)
    return Saved(state, normalizer, scale)


def _job(config: configs.WorldModelConfig, compiled: Compiled, data: Data) -> driver.Job:
    def advance(saved: Saved) -> tuple[Saved, dict[str, jax.Array]]:
        state, measures = compiled(saved.training, data.rows)
        return dataclasses.replace(saved, training=state), measures

    shown = ("train_loss", "validation_error", "best_error")
    metadata = denoisers.metadata_of(data.normalizer)
    return driver.training(advance, config.num_steps, config.steps_per_chunk, shown, metadata)


def _trained(config: configs.WorldModelConfig, saved: Saved) -> Trained:
    choose = jax.jit(training.elites, static_argnums=1)
    return Trained(config, choose(saved.training, config.num_elites), saved.scale, saved.normalizer)


def load(path: str | os.PathLike) -> Trained:
    """The world model of the finished run in `path`. Raises UserError for no run, another kind, or one not finished."""
    config = denoisers.read_config(configs.WorldModelConfig, path, KIND)
    initial: Callable[[Normalizer], Any] = functools.partial(_initial, config)
    return _trained(config, denoisers.restore(records.directory(path), KIND, initial))
