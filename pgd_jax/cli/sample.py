"""Writes a synthetic dataset in D4RL's or in Minari's format, for any other offline RL library to train on.

    pgd-sample --run=runs/guided --lane=3 --num_trajectories=8192 --out=guided.hdf5        guided by a trained policy
    pgd-sample --denoiser=runs/umaze --num_trajectories=8192 --out=unguided.hdf5           straight from a denoiser
    pgd-sample --run=runs/guided --lane=3 --out=minari:pgd/umaze-guided-v0                 as a Minari dataset

A Minari dataset is kept where Minari keeps them: $MINARI_DATASETS_PATH, else ~/.minari/datasets. Each window is an
episode. All columns are in the units of the dataset that the denoiser was trained on.
"""

from absl import flags

from pgd_jax.cli import entry
from pgd_jax.core import config as configs
from pgd_jax.core.errors import UserError


def run() -> None:
    entry.run(_prepare, __doc__, keeps_nothing=True)


def _prepare():
    flags.DEFINE_string("run", "", "run directory of train_agent: sample guided by one of its lanes")
    flags.DEFINE_string("denoiser", "", "run directory of train_denoiser: sample unguided")
    entry.define_path("out", "HDF5 file or minari:<id> to write; never overwritten")
    flags.DEFINE_integer("num_trajectories", 8_192, "windows to generate")
    flags.DEFINE_integer("trajectories_per_batch", 512, "windows sampled at once: sets peak memory")
    flags.DEFINE_integer("seed", 0, "seed of the samples")
    flags.DEFINE_integer("lane", 0, "with --run: whose policy guides (see metrics.jsonl)")
    flags.DEFINE_float("coefficient", None, "with --run: guidance coefficient instead of the lane's own")
    default = configs.SamplingConfig()
    flags.DEFINE_string("sampler", default.sampler, "with --denoiser: a wrong name is answered with all of them")
    flags.DEFINE_integer("num_steps", default.num_steps, "with --denoiser: noise steps")
    return lambda: _sample(flags.FLAGS)


def _sample(options: flags.FlagValues) -> None:
    if bool(options.run) == bool(options.denoiser):
        raise UserError("name one source: --run=<train_agent directory> or --denoiser=<train_denoiser directory>")
    if options.run:
        entry.check_not_given(("sampler", "num_steps"), "with --run, which samples as the run does")
    else:
        entry.check_not_given(("lane", "coefficient"), "with --denoiser, which samples unguided")
    from pgd_jax.runs import synthesis  # after the flags: --help and mistakes need not wait for it

    sampling = configs.SamplingConfig(
        sampler=options.sampler, num_steps=options.num_steps, num_trajectories=options.num_trajectories,
        trajectories_per_batch=min(options.trajectories_per_batch, options.num_trajectories),
    )  # fmt: skip
    source: synthesis.Guided | synthesis.Unguided
    if options.run:
        source = synthesis.Guided(options.run, options.lane, options.coefficient)
    else:
        source = synthesis.Unguided(options.denoiser)
    num_rows, place = synthesis.write(options.out, source, sampling, options.seed)
    print(f"{num_rows} rows in {sampling.num_trajectories} windows: {place}")


if __name__ == "__main__":
    run()
