"""Clones the policy that made a denoiser's dataset: a Gaussian of each state, by maximum likelihood.

    pgd-train-behaviour --workdir=runs/umaze/behaviour --config.denoiser=runs/umaze/denoiser

The run directory gets config.json, metrics.jsonl and checkpoints. The same command resumes it.
"""

from pgd_jax.cli import entry, training
from pgd_jax.core import validation
from pgd_jax.core.config import BehaviourConfig


def run() -> None:
    entry.run(_prepare, __doc__)


def _prepare() -> tuple[entry.Main, str]:
    return training.prepare(BehaviourConfig, "behaviour", validation.validate_behaviour)


if __name__ == "__main__":
    run()
