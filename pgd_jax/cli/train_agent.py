"""Trains agents on synthetic and real data: generate, learn, evaluate, for all lanes in one compiled program.

    pgd-train-agent --workdir=runs/guided --config.denoiser=runs/umaze \\
                    --config.hyper.generator.guidance_coefficient=0,10
    pgd-train-agent --workdir=runs/real --config.dataset=maze2d-umaze-waypoint-v0 --config.synthetic_per_batch=0

The run directory gets config.json, metrics.jsonl (one object per lane and phase) and checkpoints. The same command
resumes it.
"""

from pgd_jax.cli import entry, settings
from pgd_jax.core.config import AgentConfig


def run() -> None:
    entry.run(_prepare, __doc__)


def _prepare():
    # Which floats there are is known to the agent: --help has to wait for JAX.
    workdir = entry.define_path("workdir", "run directory to create or resume")
    distributed, only_check, sinks = settings.distributed(), settings.only_check(), settings.sinks()
    from pgd_jax.runs import source
    from pgd_jax.runs.experiment import hyper_of

    defined = settings.define(AgentConfig, "agent", settings.arguments(), hyper_of, source.dataset_of)

    def main() -> int:
        from pgd_jax.core import processes
        from pgd_jax.runs import agent as agent_runs

        with processes.joined(distributed.value):
            config = defined.config()
            return entry.status(agent_runs.fit(config, workdir.value, only_check=only_check.value, sinks=sinks.value))

    return main, defined.text


if __name__ == "__main__":
    run()
