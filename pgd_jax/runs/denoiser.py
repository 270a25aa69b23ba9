"""A denoiser as a run: from a dataset to trained weights with the normalizer they belong to."""

import dataclasses
import functools
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.stages import Compiled

from pgd_jax.core import config as configs, devices, logging, processes, validation
from pgd_jax.core.errors import UserError
from pgd_jax.core.types import Layout, Normalizer, Params
from pgd_jax.data import episodes, loading, normalizer as normalizers
from pgd_jax.data.base import RawDataset, Reading
from pgd_jax.networks import unet
from pgd_jax.networks.base import Network
from pgd_jax.runs import checkpoint, driver, footprint, records, rests, rundir
from pgd_jax.train import denoiser as denoiser_training

KIND = "denoiser"
T = TypeVar("T")
C = TypeVar("C", configs.DenoiserConfig, configs.WorldModelConfig)


@struct.dataclass
class Saved:
    """What a checkpoint of this kind holds: weights never travel without their statistics."""

    training: denoiser_training.TrainState
    normalizer: Normalizer


class Data(NamedTuple):
    """A dataset ready for training: windows of both sides of the split, on the device, in network space."""

    raw: RawDataset
    normalizer: Normalizer
    training: denoiser_training.TrainingWindows
    validation: denoiser_training.TrainingWindows | None  # None: a single episode leaves nothing to hold out


class Trained(NamedTuple):
    """A trained denoiser, read back from its run or trained in memory."""

    config: configs.DenoiserConfig
    network: Network
    params: Params  # the averaged weights
    normalizer: Normalizer


def layout_of(raw: RawDataset) -> Layout:
    return Layout(raw.observations.shape[1], raw.actions.shape[1], raw.action_bounds)


def network_of(config: configs.DenoiserConfig, layout: Layout) -> Network:
    net = config.unet
    return unet.build(config.data.window_length, layout.dim, net.width, net.num_blocks, net.compute_dtype, net.norm)


def prepare(config: configs.DenoiserConfig, raw: RawDataset | None = None) -> Data:
    """Splits and encodes the dataset, which is loaded unless it is given; statistics are those of the training windows.

    Raises UserError where it cannot be used.
    """
    data = config.data
    processes.check()
    raw = loading.load(data.dataset, data.download, Reading.of(data)) if raw is None else raw
    pieces = episodes.segments(raw)
    train_ids, validation_ids = split(data, pieces)
    starts, last = windows_of(data, episodes.take(pieces, train_ids))
    if config.training.batch_size > len(starts):
        raise UserError(
            f"training.batch_size={config.training.batch_size} is larger than the data: {data.dataset} has "
            f"{len(starts)} training windows of {data.window_length} rows; use a smaller batch or stride"
        )
    recorded = episodes.rows(raw)
    normalizer = normalizer_of(data, raw, recorded, starts, last)
    rows = normalizers.encode(normalizer, jnp.asarray(recorded))
    validation, held_out = None, "nothing held out, as a single episode has windows: no validation loss"
    if validation_ids.size:
        kept = windows_of(data, episodes.take(pieces, validation_ids))
        validation = denoiser_training.TrainingWindows(rows, *map(jnp.asarray, kept))
        held_out = f"{len(kept[0])} of {len(validation_ids)} episodes held out"
    logging.info(
        f"{raw.name}: {len(raw.rewards)} rows, {len(pieces.start)} episodes (longest {pieces.length.max()} rows), "
        f"{len(starts)} training windows of {data.window_length} rows, {held_out}"
    )
    training = denoiser_training.TrainingWindows(rows, jnp.asarray(starts), jnp.asarray(last))
    return Data(raw, normalizer, training, validation)


def split(data: configs.DataConfig, pieces: episodes.Segments) -> tuple[np.ndarray, np.ndarray]:
    """(train ids, validation ids) of segments, as every run on this data divides them.

    Raises UserError where all are shorter than a window: windows past the end would then be made of repetitions.
    """
    if (pieces.length < data.window_length).all():
        raise UserError(f"{data.dataset}: {episodes.too_short(pieces, data.window_length)}")
    counts = episodes.window_counts(pieces, data.window_length, data.window_stride, data.past_end)
    return episodes.split(pieces, counts, data.validation_fraction, data.split_seed)


def windows_of(data: configs.DataConfig, pieces: episodes.Segments) -> tuple[np.ndarray, np.ndarray]:
    """First and last rows i32[W] of the windows of these segments; UserError, naming the dataset, where none are."""
    try:
        starts = episodes.window_starts(pieces, data.window_length, data.window_stride, data.past_end)
    except UserError as error:
        raise UserError(f"{data.dataset}: {error}") from None
    return starts, episodes.last_rows(pieces, starts, data.window_length)


def normalizer_of(
    data: configs.DataConfig, raw: RawDataset, recorded: np.ndarray, starts: np.ndarray, last: np.ndarray
) -> Normalizer:
    """The statistics of the training windows, as every model on this data has them."""
    counts = episodes.occurrences(starts, last, data.window_length, len(recorded))
    return normalizers.fit(recorded, layout_of(raw), occurrences=counts, flag_gap=data.flag_gap)


def ready(config: configs.DenoiserConfig, data: Data) -> driver.Ready:
    """Puts the data on the devices, and compiles the training, which says what memory it takes."""
    network = network_of(config, data.normalizer.layout)
    mesh = devices.batch_mesh_of(config.training.batch_size)
    training, validation = devices.place((data.training, data.validation), mesh)
    make = functools.partial(_initial, config, data.normalizer)
    template = devices.template(make, mesh)
    compiled = footprint.compile(
        denoiser_training.train_chunk, template.training, training, length=config.data.window_length, network=network,
        config=config.training, mesh=mesh,
    )  # fmt: skip
    needed = footprint.of_denoiser(config, compiled, template.training, training)
    job = _job(config, network, compiled, data._replace(training=training, validation=validation))
    return driver.Ready(job, lambda: devices.place(jax.jit(make)(), mesh), template, needed)


def fit(
    config: configs.DenoiserConfig,
    path: str | os.PathLike,
    raw: RawDataset | None = None,
    only_check: bool = False,
    sinks: Sequence[str] = (),
) -> bool:
    """Trains a denoiser in the run directory `path`, or resumes, or returns at once; returns whether it is finished.

    `raw` are the rows of the dataset that the config names, where they have been read already. `only_check` does all
    but that: it says what would run, and what memory and time it takes. `sinks` are where the numbers go besides.
    """
    validation.validate_denoiser(config)
    driver.check(path, sinks)
    data = prepare(config, raw)
    network_of(config, data.normalizer.layout)  # an impossible one is refused before a finished run is looked at
    found = {"dataset": rests.of_dataset(config.data.dataset, data.raw)}
    make_ready = functools.partial(ready, config, data)
    return driver.fit(path, KIND, configs.to_dict(config), found, make_ready, only_check, sinks)


def fit_in_memory(config: configs.DenoiserConfig, raw: RawDataset) -> Trained:
    """Trains a denoiser on `raw` and keeps nothing on the disk; the same numbers as `fit`."""
    validation.validate_denoiser(config)
    data = prepare(config, raw)
    run = ready(config, data)
    footprint.announce("denoiser", run.needed)
    saved, _ = driver.run_in_memory(run.job, "denoiser", run.initial)
    network = network_of(config, data.normalizer.layout)
    return Trained(config, network, saved.training.ema, saved.normalizer)


def _initial(config: configs.DenoiserConfig, normalizer: Normalizer) -> Saved:
    network = network_of(config, normalizer.layout)
    return Saved(denoiser_training.init(jax.random.key(config.training.seed), network, config.training), normalizer)


def _job(config: configs.DenoiserConfig, network: Network, train: Compiled, data: Data) -> driver.Job:
    training, length = config.training, config.data.window_length
    key_validation = jax.random.key((config.training.seed + 1) % validation.NUM_SEEDS)

    def advance(saved: Saved) -> tuple[Saved, dict[str, jax.Array]]:
        state, loss = train(saved.training, data.training)
        losses = {"train_loss": loss}
        if data.validation is not None:
            losses["validation_loss"] = denoiser_training.validation_loss(
                key_validation, state.ema, data.validation, length=length, network=network,
                num_windows=training.num_validation_windows, batch_size=training.batch_size,
            )  # fmt: skip
        return Saved(state, saved.normalizer), losses

    shown = ("train_loss", "validation_loss")
    return driver.training(advance, training.num_steps, training.steps_per_chunk, shown, metadata_of(data.normalizer))


def metadata_of(normalizer: Normalizer) -> dict[str, Any]:
    """What a checkpoint with this normalizer needs to be read back: `Layout(**metadata["layout"])`, outcome_std."""
    return {"layout": dataclasses.asdict(normalizer.layout), "outcome_std": normalizer.outcome_std}


def load(path: str | os.PathLike) -> Trained:
    """The denoiser of the finished run in `path`. Raises UserError for no run, another kind, or one not finished."""
    config = read_config(configs.DenoiserConfig, path, KIND)
    path = records.directory(path)
    saved = restore(path, KIND, functools.partial(_initial, config))
    return Trained(config, network_of(config, saved.normalizer.layout), saved.training.ema, saved.normalizer)


def read_config(cls: type[C], path: str | os.PathLike, kind: str) -> C:
    """The config of run `path` of a model with `data`, whose dataset is named as it is found now."""
    config = records.read_config(cls, path, kind)
    dataset = rests.find(path, records.load_rests(path, kind), "dataset", config.data.dataset)
    return dataclasses.replace(config, data=dataclasses.replace(config.data, dataset=dataset))


def restore(path: str | os.PathLike, kind: str, initial: Callable[[Normalizer], T]) -> T:
    """The last checkpoint of the finished run in `path`, in the shapes of `initial(normalizer)`.

    Raises UserError for one that is not finished, and for a checkpoint of other shapes.
    """
    if not rundir.is_at_end(path):
        raise UserError(f"{path}: this {kind} run is not trained to its end; run its train_{kind} command again first")
    checkpoints = pathlib.Path(path) / "checkpoints"
    try:
        metadata = checkpoint.load_metadata(checkpoints)
        layout, outcome_std = Layout(**metadata["layout"]), tuple(metadata.get("outcome_std", (1.0, 1.0)))
    except (KeyError, TypeError):
        raise UserError(f"{checkpoints}: the newest checkpoint does not say what rows its model is of") from None
    normalizer = Normalizer(jnp.zeros(layout.dim), jnp.zeros(layout.dim), layout, outcome_std=outcome_std)
    return checkpoint.restore(checkpoints, jax.eval_shape(initial, normalizer))[1]
