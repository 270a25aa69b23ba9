"""Clones the policy that made a denoiser's dataset: a Gaussian of each state, by maximum likelihood.

    pgd-train-behaviour --workdir=runs/umaze/behaviour --config.denoiser=runs/umaze/denoiser

The run directory gets config.json, metrics.jsonl and checkpoints. The same command resumes it.
"""

from pgd_jax.cli import entry, settings
from pgd_jax.core import validation
from pgd_jax.core.config import BehaviourConfig


def run() -> None:
    entry.run(_prepare, __doc__)


def _prepare():
    workdir = entry.define_path("workdir", "run directory to create or resume")
    only_check = settings.only_check()
    defined = settings.define(BehaviourConfig, "behaviour", settings.arguments())

    def main() -> int:
        config = defined.config()
        validation.validate_behaviour(config)  # before what takes time to import
        from pgd_jax.runs import behaviour

        return entry.status(behaviour.fit(config, workdir.value, only_check=only_check.value))

    return main, defined.text


if __name__ == "__main__":
    run()
