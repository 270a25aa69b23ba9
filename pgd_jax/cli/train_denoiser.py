"""Trains a diffusion model of trajectories on an offline dataset.

    pgd-train-denoiser --workdir=runs/umaze --config.data.dataset=maze2d-umaze-waypoint-v0
    pgd-train-denoiser --workdir=runs/hopper --config.data.dataset=path/to/hopper_medium_replay-v2.hdf5

The run directory gets config.json, metrics.jsonl and checkpoints. The same command resumes it.
"""

from pgd_jax.cli import entry, settings
from pgd_jax.config import DenoiserConfig


def run() -> None:
    entry.run(_prepare, f"{__doc__}\n{settings.describe(DenoiserConfig)}\n")


def _prepare():
    workdir = entry.define_path("workdir", "run directory to create or resume")
    distributed = settings.distributed()
    config = settings.define(DenoiserConfig, "denoiser", settings.arguments())

    def main() -> int:
        from pgd_jax import denoiser, processes  # after the flags: --help and mistakes need not wait for JAX

        processes.start(distributed.value)
        return entry.status(denoiser.fit(config(), workdir.value))

    return main


if __name__ == "__main__":
    run()
