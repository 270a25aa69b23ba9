"""Trains a diffusion model of trajectories on an offline dataset.

    pgd-train-denoiser --workdir=runs/umaze --config.data.dataset=maze2d-umaze-waypoint-v0
    pgd-train-denoiser --workdir=runs/hopper --config.data.dataset=path/to/hopper_medium_replay-v2.hdf5

The run directory gets config.json, metrics.jsonl and checkpoints. The same command resumes it.
"""

from pgd_jax.cli import entry, training
from pgd_jax.core import validation
from pgd_jax.core.config import DenoiserConfig


def run() -> None:
    entry.run(_prepare, __doc__)


def _prepare() -> tuple[entry.Main, str]:
    return training.prepare(DenoiserConfig, "denoiser", validation.validate_denoiser, may_be_distributed=True)


if __name__ == "__main__":
    run()
