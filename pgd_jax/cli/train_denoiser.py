"""Trains a diffusion model of trajectories on an offline dataset.

    pgd-train-denoiser --workdir=runs/umaze --config.data.dataset=maze2d-umaze-waypoint-v0
    pgd-train-denoiser --workdir=runs/hopper --config.data.dataset=path/to/hopper_medium_replay-v2.hdf5

The run directory gets config.json, metrics.jsonl and checkpoints. The same command resumes it.
"""

from pgd_jax.cli import entry, settings
from pgd_jax.core import validation
from pgd_jax.core.config import DenoiserConfig


def run() -> None:
    entry.run(_prepare, __doc__)


def _prepare():
    workdir = entry.define_path("workdir", "run directory to create or resume")
    distributed, only_check = settings.distributed(), settings.only_check()
    defined = settings.define(DenoiserConfig, "denoiser", settings.arguments())

    def main() -> int:
        config = defined.config()
        validation.validate_denoiser(config)  # before what takes time to import
        from pgd_jax.core import processes
        from pgd_jax.runs import denoiser

        processes.start(distributed.value)
        return entry.status(denoiser.fit(config, workdir.value, only_check=only_check.value))

    return main, defined.text


if __name__ == "__main__":
    run()
