"""Writes a synthetic dataset in D4RL's or in Minari's format, for any other offline RL library to train on.

    pgd-sample --run=runs/guided --lane=3 --num_trajectories=8192 --out=guided.hdf5        guided by a trained policy
    pgd-sample --denoiser=runs/umaze --num_trajectories=8192 --out=unguided.hdf5           straight from a denoiser
    pgd-sample --run=runs/guided --lane=3 --out=minari:pgd/umaze-guided-v0                 as a Minari dataset

A Minari dataset is kept where Minari keeps them: $MINARI_DATASETS_PATH, else ~/.minari/datasets. Each window is an
episode. Observations and rewards are in the units of the dataset, actions in [-1, 1].
"""

import os
import pathlib

from absl import flags

from pgd_jax import config as configs, denoiser, experiment, rundir, synthesis
from pgd_jax.cli import entry
from pgd_jax.data import export, minari, minari_export, sources
from pgd_jax.diffusion import samplers
from pgd_jax.errors import UserError


def run() -> None:
    entry.run(_prepare, __doc__)


def _prepare():
    flags.DEFINE_string("run", "", "run directory of train_agent: sample guided by one of its lanes")
    flags.DEFINE_string("denoiser", "", "run directory of train_denoiser: sample unguided")
    flags.DEFINE_string("out", None, "HDF5 file or minari:<id> to write; never overwritten", required=True)
    flags.DEFINE_integer("num_trajectories", 8_192, "windows to generate")
    flags.DEFINE_integer("trajectories_per_batch", 512, "windows sampled at once: sets peak memory")
    flags.DEFINE_integer("seed", 0, "seed of the samples")
    flags.DEFINE_integer("lane", 0, "with --run: whose policy guides (see metrics.jsonl)")
    flags.DEFINE_float("coefficient", None, "with --run: guidance coefficient instead of the lane's own")
    default = configs.SamplingConfig()
    flags.DEFINE_string("sampler", default.sampler, f"with --denoiser: one of {', '.join(samplers.SAMPLERS.names())}")
    flags.DEFINE_integer("num_steps", default.num_steps, "with --denoiser: noise steps")
    return lambda: _sample(flags.FLAGS)


def _sample(options: flags.FlagValues) -> None:
    if bool(options.run) == bool(options.denoiser):
        raise UserError("name one source: --run=<train_agent directory> or --denoiser=<train_denoiser directory>")
    _check_place(options.out)
    sampling = configs.SamplingConfig(
        sampler=options.sampler, num_steps=options.num_steps, num_trajectories=options.num_trajectories,
        trajectories_per_batch=min(options.trajectories_per_batch, options.num_trajectories),
    )  # fmt: skip
    configs.validate_sampling(sampling)
    origin = _origin(options)  # before sampling, which takes long: the dataset may be gone
    if options.run:
        flat = synthesis.from_experiment(
            options.run, options.lane, options.coefficient, sampling.num_trajectories, sampling.trajectories_per_batch,
            options.seed,
        )  # fmt: skip
    else:
        flat = synthesis.from_denoiser(options.denoiser, sampling, options.seed)
    place = _write(options.out, flat, origin)
    print(f"{len(flat.rewards)} rows in {sampling.num_trajectories} windows: {place}")


def _check_place(out: str) -> None:
    """Raises UserError where nothing could be written to `out`, or something is there."""
    path = pathlib.Path(out)
    if out.startswith(minari.PREFIX):
        dataset_id = out.removeprefix(minari.PREFIX)
        minari_export.check_new(dataset_id)
        path = minari.root() / dataset_id
    elif path.exists():
        raise UserError(f"{out} exists already; choose another name or remove it first")
    folder = next(parent for parent in path.parents if parent.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(f"--out={out}: {folder} is not a folder that can be written to; choose another place")


def _write(out: str, flat: export.Flat, metadata: dict[str, str]) -> str | pathlib.Path:
    if out.startswith(minari.PREFIX):
        return minari_export.write(out.removeprefix(minari.PREFIX), flat, metadata)
    export.write_hdf5(out, *flat, metadata=metadata)
    return out


def _origin(options: flags.FlagValues) -> dict[str, str]:
    """How the file was made, and the task that it belongs to, which readers get back."""
    source = options.run or options.denoiser
    if options.run:
        config = configs.from_dict(configs.AgentConfig, rundir.load_config(source, experiment.KIND))
        dataset, max_rows = experiment.data_of(config, denoiser.load(config.denoiser))
    else:
        data = denoiser.load(source).config.data
        dataset, max_rows = data.dataset, data.max_rows
    raw = sources.load(dataset, max_rows=max_rows)
    made = {"source": "pgd_jax synthetic", "run": source, "dataset": raw.name, "seed": str(options.seed)}
    if options.run:
        made |= {"lane": str(options.lane), "coefficient": str(options.coefficient)}
    return made | {"env": raw.env, "reference": raw.reference}


if __name__ == "__main__":
    run()
