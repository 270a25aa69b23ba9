"""A denoiser as a run: from a dataset to trained weights with the codec they belong to."""

import dataclasses
import functools
import os
import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct
from jax.sharding import Mesh

from pgd_jax import checkpoint, config as configs, devices, driver, footprint, notes, processes, rundir
from pgd_jax.data import codec as codecs, episodes, sources
from pgd_jax.data.base import RawDataset
from pgd_jax.diffusion import train
from pgd_jax.errors import UserError
from pgd_jax.networks import unet
from pgd_jax.networks.base import Network
from pgd_jax.types import Codec, Layout, Params

KIND = "denoiser"


@struct.dataclass
class Saved:
    """What a checkpoint of this kind holds: weights never travel without their statistics."""

    training: train.TrainState
    codec: Codec


class Data(NamedTuple):
    """A dataset ready for training: windows of both sides of the split, on the device, in network space."""

    raw: RawDataset
    codec: Codec
    training: train.Windows
    validation: train.Windows | None  # None: a single episode leaves nothing to hold out


class Trained(NamedTuple):
    """A trained denoiser, read back from its run or trained in memory."""

    config: configs.DenoiserConfig
    network: Network
    params: Params  # the averaged weights
    codec: Codec


def layout_of(raw: RawDataset) -> Layout:
    return Layout(raw.observations.shape[1], raw.actions.shape[1])


def network_of(config: configs.DenoiserConfig, layout: Layout) -> Network:
    return unet.build(
        config.data.window_length, layout.dim, config.unet.width, config.unet.num_blocks, config.unet.compute_dtype
    )


def prepare(config: configs.DenoiserConfig, raw: RawDataset | None = None) -> Data:
    """Splits and encodes the dataset, which is loaded unless it is given; statistics are of all rows.

    Raises UserError where it cannot be used.
    """
    data = config.data
    processes.check()
    raw = sources.load(data.dataset, data.download, data.max_rows) if raw is None else raw
    pieces = episodes.segments(raw)
    train_ids, validation_ids = episodes.split(pieces, data.validation_fraction, data.split_seed)
    try:
        starts = episodes.window_starts(episodes.take(pieces, train_ids), data.window_length, data.window_stride)
    except UserError as error:
        raise UserError(f"{data.dataset}: {error}") from None
    if config.training.batch_size > len(starts):
        raise UserError(
            f"training.batch_size={config.training.batch_size} is larger than the data: {data.dataset} has "
            f"{len(starts)} training windows of {data.window_length} rows; use a smaller batch or stride"
        )
    recorded = episodes.rows(raw)
    codec = codecs.fit(recorded, layout_of(raw))
    rows = codecs.encode(codec, jnp.asarray(recorded))
    try:
        held_out = episodes.window_starts(episodes.take(pieces, validation_ids), data.window_length, data.window_stride)
        validation = train.Windows(rows, jnp.asarray(held_out))
    except UserError:
        notes.say(f"{raw.name}: no held-out episode has a window of {data.window_length} rows; no validation loss")
        validation = None
    notes.say(
        f"{raw.name}: {len(raw.rewards)} rows, {len(pieces.start)} episodes (longest {pieces.length.max()} rows), "
        f"{len(starts)} training windows of {data.window_length} rows"
    )
    return Data(raw, codec, train.Windows(rows, jnp.asarray(starts)), validation)


def fit(config: configs.DenoiserConfig, path: str | os.PathLike, raw: RawDataset | None = None) -> bool:
    """Trains a denoiser in the run directory `path`, or resumes, or returns at once; returns whether it is finished.

    `raw` are the rows of the dataset that the config names, where they have been read already.
    """
    configs.validate_denoiser(config)
    data = prepare(config, raw)
    network = network_of(config, data.codec.layout)
    if rundir.is_finished(path, KIND, configs.to_dict(config)):
        notes.say(f"{path}: already finished")
        return True
    processes.check()
    mesh = devices.batch_mesh_of(config.training.batch_size)
    training, validation = devices.place((data.training, data.validation), mesh)
    placed = data._replace(training=training, validation=validation)
    initial = functools.partial(_initial, config, network, data.codec)
    template = devices.template(initial, mesh)
    footprint.announce(path, footprint.of_denoiser(config, network, template.training, placed.training, mesh))
    with rundir.open_run(path, KIND, configs.to_dict(config)) as directory:
        job = _job(config, network, placed, mesh)
        return driver.run(job, directory, lambda: devices.place(jax.jit(initial)(), mesh), template)


def fit_in_memory(config: configs.DenoiserConfig, raw: RawDataset) -> Trained:
    """Trains a denoiser on `raw` and keeps nothing on the disk; the same numbers as `fit`."""
    configs.validate_denoiser(config)
    data = prepare(config, raw)
    network = network_of(config, data.codec.layout)
    mesh = devices.batch_mesh_of(config.training.batch_size)
    training, validation = devices.place((data.training, data.validation), mesh)
    initial = functools.partial(_initial, config, network, data.codec)
    needed = footprint.of_denoiser(config, network, devices.template(initial, mesh).training, training, mesh)
    footprint.announce("denoiser", needed)
    job = _job(config, network, data._replace(training=training, validation=validation), mesh)
    saved, _ = driver.run_in_memory(job, "denoiser", lambda: devices.place(jax.jit(initial)(), mesh))
    return Trained(config, network, saved.training.ema, saved.codec)


def _initial(config: configs.DenoiserConfig, network: Network, codec: Codec) -> Saved:
    return Saved(train.init(jax.random.key(config.training.seed), network, config.training), codec)


def _job(config: configs.DenoiserConfig, network: Network, data: Data, mesh: Mesh | None) -> driver.Job:
    training, length = config.training, config.data.window_length
    key_validation = jax.random.key((config.training.seed + 1) % configs.NUM_SEEDS)

    def advance(saved: Saved) -> tuple[Saved, dict[str, jax.Array]]:
        state, loss = train.train_chunk(
            saved.training, data.training, length=length, network=network, config=training, mesh=mesh
        )
        losses = {"train_loss": loss}
        if data.validation is not None:
            losses["validation_loss"] = train.validation_loss(
                key_validation, state.ema, data.validation, length=length, network=network,
                num_windows=training.num_validation_windows, batch_size=training.batch_size,
            )  # fmt: skip
        return Saved(state, saved.codec), losses

    shown = ("train_loss", "validation_loss")
    return driver.training(advance, training.num_steps, training.steps_per_chunk, shown, metadata_of(data.codec))


def metadata_of(codec: Codec) -> dict[str, Any]:
    """What a checkpoint with this codec needs to be read back: `Layout(**metadata["layout"])`."""
    return {"layout": dataclasses.asdict(codec.layout)}


def load(path: str | os.PathLike) -> Trained:
    """The denoiser of the finished run in `path`. Raises UserError for no run, another kind, or one not finished."""
    config = configs.from_dict(configs.DenoiserConfig, rundir.load_config(path, KIND))
    if not (pathlib.Path(path) / rundir.FINISHED).exists():
        raise UserError(f"{path}: this denoiser is not trained to its end; run its train_denoiser command again first")
    checkpoints = pathlib.Path(path) / "checkpoints"
    layout = Layout(**checkpoint.load_metadata(checkpoints)["layout"])
    network = network_of(config, layout)
    template = jax.eval_shape(
        lambda: _initial(config, network, Codec(jnp.zeros(layout.dim), jnp.zeros(layout.dim), layout))
    )
    saved = checkpoint.restore(checkpoints, template)[1]
    return Trained(config, network, saved.training.ema, saved.codec)
