"""Trains a one-step world model on an offline dataset: an ensemble that rollouts for agents are made of.

    pgd-train-world-model --workdir=runs/hopper/world --config.data.dataset=path/to/hopper_medium_replay-v2.hdf5
    pgd-train-agent --workdir=runs/hopper/mopo --config.generator=ensemble --config.world_model=runs/hopper/world

The run directory gets config.json, metrics.jsonl and checkpoints. The same command resumes it.
"""

from pgd_jax.cli import entry, training
from pgd_jax.core import validation
from pgd_jax.core.config import WorldModelConfig


def run() -> None:
    entry.run(_prepare, __doc__)


def _prepare() -> tuple[entry.Main, str]:
    return training.prepare(WorldModelConfig, "world_model", validation.validate_world_model)


if __name__ == "__main__":
    run()
