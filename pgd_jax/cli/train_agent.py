"""Trains agents on synthetic and real data: generate, learn, evaluate, for all lanes in one compiled program.

    pgd-train-agent --workdir=runs/guided --config.denoiser=runs/umaze --config.sweep="guidance_coefficient=0,1"
    pgd-train-agent --workdir=runs/real --config.dataset=maze2d-umaze-waypoint-v0 --config.synthetic_per_batch=0

The run directory gets config.json, metrics.jsonl (one object per lane and phase) and checkpoints. The same command
resumes it.
"""

from pgd_jax.cli import entry, settings
from pgd_jax.config import AgentConfig


def run() -> None:
    entry.run(_prepare, f"{__doc__}\n{settings.describe(AgentConfig)}\n")


def _prepare():
    workdir = entry.define_path("workdir", "run directory to create or resume")
    distributed = settings.distributed()
    config = settings.define(AgentConfig, "agent", settings.arguments())

    def main() -> int:
        from pgd_jax import experiment, processes  # after the flags: --help and mistakes need not wait for JAX

        processes.start(distributed.value)
        return entry.status(experiment.fit(config(), workdir.value))

    return main


if __name__ == "__main__":
    run()
