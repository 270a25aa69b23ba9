"""Trains a one-step world model on an offline dataset: an ensemble that rollouts for agents are made of.

    pgd-train-world-model --workdir=runs/hopper/world --config.data.dataset=path/to/hopper_medium_replay-v2.hdf5
    pgd-train-agent --workdir=runs/hopper/mopo --config.generator=ensemble --config.world_model=runs/hopper/world

The run directory gets config.json, metrics.jsonl and checkpoints. The same command resumes it.
"""

from pgd_jax.cli import entry, settings
from pgd_jax.core import validation
from pgd_jax.core.config import WorldModelConfig


def run() -> None:
    entry.run(_prepare, __doc__)


def _prepare():
    workdir = entry.define_path("workdir", "run directory to create or resume")
    only_check = settings.only_check()
    defined = settings.define(WorldModelConfig, "world_model", settings.arguments())

    def main() -> int:
        config = defined.config()
        validation.validate_world_model(config)  # before what takes time to import
        from pgd_jax.runs import world_model

        return entry.status(world_model.fit(config, workdir.value, only_check=only_check.value))

    return main, defined.text


if __name__ == "__main__":
    run()
