"""OGBench's protocol with ReBRAC, on a single task's data alone; the dataset's name picks the weights of the data.

    pgd-train-agent --preset=rebrac_ogbench --workdir=runs/antmaze \
                    --config.dataset=ogbench:antmaze-large-navigate-singletask-task1-v0

The protocol of the field's tables of single tasks: 1 M updates, an evaluation over 50 episodes every 100,000 of them on
the package's own task, eight seeds. The number that they print is the success rate, mean of the last three evaluations,
which the report has. ReBRAC is the agent: one of their baselines, whose policy has a density and can so guide. Networks
of 4 x 512, batches of 256, Adam at 3e-4, the discount and the weights are those published for these tasks with
navigate and play data (Park et al. 2025, Flow Q-learning, arXiv 2502.02538); other kinds of data take the values of
their environment. Other environments are refused: give actor_bc and critic_bc as floats. The paper was not at hand when
this was written: hold the weights and the sizes against its tables before you publish.

The updates are for a GPU. The host simulates the arms at 90 to 200 steps a second: an evaluation of eight seeds takes
it ten (cube-single) to forty minutes (scene).
"""

import re
from typing import Any

from pgd_jax.core import presets
from pgd_jax.core.config import AgentConfig

LONG = {"discount": 0.995}
# By environment, or else by its first word.
WEIGHTS: dict[str, dict[str, float]] = {
    "antmaze": {"actor_bc": 0.003, "critic_bc": 0.01},
    "antmaze-giant": {"actor_bc": 0.003, "critic_bc": 0.01} | LONG,
    "humanoidmaze": {"actor_bc": 0.01, "critic_bc": 0.01} | LONG,
    "antsoccer": {"actor_bc": 0.01, "critic_bc": 0.01} | LONG,
    "cube-single": {"actor_bc": 1.0, "critic_bc": 0.0},
    "cube-double": {"actor_bc": 0.1, "critic_bc": 0.0},
    "scene": {"actor_bc": 0.1, "critic_bc": 0.01},
    "puzzle": {"actor_bc": 0.3, "critic_bc": 0.01},
}


def agent() -> AgentConfig:
    return _config({})


def agent_of(dataset: str) -> AgentConfig:
    environment = re.sub(r"-\w+-singletask(-task\d)?", "", dataset.removeprefix("ogbench:"))
    return _config(presets.by_dataset("rebrac_ogbench", WEIGHTS, environment))


def _config(floats: dict[str, float]) -> AgentConfig:
    hyper: dict[str, Any] = {"agent": {"actor_lr": 3e-4, "critic_lr": 3e-4, **floats}}
    return AgentConfig(
        agent="rebrac", synthetic_per_batch=0, num_phases=10, updates_per_phase=100_000, batch_size=256, hidden_dim=512,
        num_hidden=4, num_seeds=8, num_episodes=50, hyper=hyper,
    )  # fmt: skip
