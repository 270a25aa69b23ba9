"""A dataset of millions of wide rows: does it load and train, and was what it takes estimated?

    python -m experiments.bench.large_data [--num_rows=2000000] [--workdir=folder]

Writes an HDF5 file in D4RL's layout (90 observations, 8 actions, reward and terminal: 100 columns of float32), trains a
small denoiser on it for a few steps and an agent for one phase, each in a process of its own, and prints what each was
estimated to take beside the most memory that it held. On the CPU backend, where the device's memory is the host's.
"""

import functools
import pathlib
import resource
import tempfile
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import h5py
import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from experiments.bench import apart, shapes
from pgd_jax.cli import entry
from pgd_jax.core import config as configs, memory
from pgd_jax.core.types import Layout
from pgd_jax.runs import agent as agent_runs, denoiser, footprint
from pgd_jax.train import denoiser as denoiser_training, loop

LAYOUT = Layout(obs_dim=90, action_dim=8)
EPISODE = 1_000  # rows
ROWS_PER_BLOCK = 50_000
GB = 1e9


class Used(NamedTuple):
    """Bytes, and the seconds that a stage took."""

    before: int  # held by Python and JAX alone
    peak: int
    seconds: float


def write(path: pathlib.Path, num_rows: int) -> None:
    """Episodes of 1,000 rows that end in timeouts, every tenth in a terminal; numbers of a walker's size."""
    generator = np.random.default_rng(0)
    shapes = {"observations": (LAYOUT.obs_dim,), "actions": (LAYOUT.action_dim,), "rewards": ()}
    with h5py.File(path, "w") as file:
        arrays = {key: file.create_dataset(key, (num_rows, *shape), np.float32) for key, shape in shapes.items()}
        flags_ = {key: file.create_dataset(key, (num_rows,), bool) for key in ("terminals", "timeouts")}
        for start in range(0, num_rows, ROWS_PER_BLOCK):
            rows = slice(start, min(start + ROWS_PER_BLOCK, num_rows))
            size = rows.stop - start
            for array in arrays.values():
                array[rows] = 0.5 * np.tanh(generator.standard_normal((size, *array.shape[1:]), np.float32))
            number = np.arange(start, rows.stop)
            is_last, is_tenth = number % EPISODE == EPISODE - 1, number // EPISODE % 10 == 0
            flags_["terminals"][rows], flags_["timeouts"][rows] = is_last & is_tenth, is_last & ~is_tenth


def denoiser_config(dataset: pathlib.Path) -> configs.DenoiserConfig:
    return configs.DenoiserConfig(
        data=configs.DataConfig(dataset=str(dataset), window_length=16),
        unet=configs.UNetConfig(width=32, num_blocks=3),
        training=configs.TrainingConfig(num_steps=40, steps_per_chunk=20),
    )


def agent_config(denoiser_path: pathlib.Path) -> configs.AgentConfig:
    sampling = configs.SamplingConfig(num_steps=8, num_trajectories=1_024, trajectories_per_batch=256)
    return configs.AgentConfig(
        denoiser=str(denoiser_path), environment="none", sampling=sampling, num_phases=1, updates_per_phase=200,
        num_seeds=2,
    )  # fmt: skip


def measured(fit: Callable[..., bool], *args: Any) -> Used:
    """What this process holds at most in `fit(*args)`; run it in one of its own."""
    jax.block_until_ready(jnp.zeros(()))  # JAX has started
    before, began = _peak(), time.perf_counter()
    if not fit(*args):
        raise InterruptedError("the run was stopped")
    return Used(before, _peak(), time.perf_counter() - began)


def _peak() -> int:
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def of_denoiser(config: configs.DenoiserConfig, num_rows: int) -> footprint.Footprint:
    """By shapes alone: nothing is loaded."""
    network, training = denoiser.network_of(config, LAYOUT), config.training
    starts = jax.ShapeDtypeStruct((num_rows // config.data.window_stride,), jnp.int32)
    windows = denoiser_training.TrainingWindows(shapes.array(num_rows, LAYOUT.dim), starts, starts)
    state = jax.eval_shape(lambda: denoiser_training.init(jax.random.key(0), network, training))
    options = dict(length=config.data.window_length, network=network, config=training)
    compiled = footprint.compile(denoiser_training.train_chunk, state, windows, **options)
    return footprint.of_denoiser(config, compiled, state, windows)


def of_agent(config: configs.AgentConfig, num_rows: int) -> footprint.Footprint:
    """Likewise, but for the denoiser, which is read."""
    made = shapes.agent(config, denoiser.load(config.denoiser), num_rows, None)
    compiled = footprint.compile(loop.run_chunk, *made)
    return footprint.of_agent(config, compiled, made.program, made.states, made.shared)


def _report(name: str, used: Used, num_rows: int, running: footprint.Footprint) -> None:
    loading = sum(memory.estimate(num_rows, LAYOUT.obs_dim, LAYOUT.action_dim, has_next=False))
    print(
        f"{name}: estimated {loading / GB:.2f} GB to load, {running.total / GB:.2f} GB to run (data "
        f"{running.data / GB:.2f}); held at most {(used.peak - used.before) / GB:.2f} GB, beside "
        f"{used.before / GB:.2f} GB of Python and JAX; {used.seconds:.0f} s",
        flush=True,
    )


def run(folder: pathlib.Path, num_rows: int) -> None:
    """Writes the file and both runs into `folder`, and prints what they took."""
    dataset, began = folder / "large.hdf5", time.perf_counter()
    write(dataset, num_rows)
    seconds = time.perf_counter() - began
    print(f"{dataset}: {num_rows} rows, {dataset.stat().st_size / GB:.2f} GB, written in {seconds:.0f} s", flush=True)
    of_training, of_agents = denoiser_config(dataset), agent_config(folder / "denoiser")
    # Both before this process compiles: what it has held by then counts as held by those that it starts.
    used = [
        apart.call(functools.partial(measured, fit, config, folder / name))
        for fit, config, name in ((denoiser.fit, of_training, "denoiser"), (agent_runs.fit, of_agents, "agent"))
    ]
    _report("denoiser", used[0], num_rows, of_denoiser(of_training, num_rows))
    _report("agent", used[1], num_rows, of_agent(of_agents, num_rows))


def _prepare() -> Callable[[], None]:
    flags.DEFINE_integer("num_rows", 2_000_000, "rows of the dataset", lower_bound=10 * EPISODE)
    entry.define_optional_path("workdir", "folder of the dataset and the runs, kept; by default a temporary one")
    return functools.partial(_main, flags.FLAGS)


def _main(options: flags.FlagValues) -> None:
    if options.workdir:
        folder = pathlib.Path(options.workdir)
        folder.mkdir(parents=True, exist_ok=True)
        run(folder, options.num_rows)
    else:
        with tempfile.TemporaryDirectory() as temporary:
            run(pathlib.Path(temporary), options.num_rows)


if __name__ == "__main__":
    entry.run(_prepare, __doc__, keeps_nothing=True)
