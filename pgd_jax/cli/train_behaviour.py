"""Clones the policy that made a denoiser's dataset: a Gaussian of each state, by maximum likelihood.

    pgd-train-behaviour --workdir=runs/umaze/behaviour --config.denoiser=runs/umaze/denoiser

The run directory gets config.json, metrics.jsonl and checkpoints. The same command resumes it.
"""

from pgd_jax.cli import entry, settings
from pgd_jax.config import BehaviourConfig


def run() -> None:
    entry.run(_prepare, f"{__doc__}\n{settings.describe(BehaviourConfig)}\n")


def _prepare():
    workdir = entry.define_path("workdir", "run directory to create or resume")
    config = settings.define(BehaviourConfig, "behaviour", settings.arguments())

    def main() -> int:
        from pgd_jax import behaviour  # after the flags: --help and mistakes need not wait for JAX

        return entry.status(behaviour.fit(config(), workdir.value))

    return main


if __name__ == "__main__":
    run()
