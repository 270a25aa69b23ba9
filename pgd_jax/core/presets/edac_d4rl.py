"""EDAC on D4RL's data alone; the dataset's name picks the number of critics and how much they are to differ.

    pgd-train-agent --preset=edac_d4rl --workdir=runs/edac --config.dataset=hopper-medium-v2

3 M updates of 256 rows, four seeds (An et al. 2021, arXiv 2110.01548, and the public single-file version of it, whose
values maze2d has). Other datasets are refused: give num_critics, and diversity as a float. It is for a GPU.

Expected on D4RL v2, normalised score after the last update (the field's table, not measured here): halfcheetah 67.7
(medium), 62.1 (replay), 104.8 (expert); hopper 101.7, 99.7; walker2d 93.4, 87.1; maze2d 95.3 (umaze), 57.0 (medium),
95.6 (large).
"""

import dataclasses

from pgd_jax.core import presets
from pgd_jax.core.config import AgentConfig

# (num_critics, diversity)
CRITICS = {
    "halfcheetah-medium": (10, 1.0),
    "halfcheetah-medium-replay": (10, 1.0),
    "halfcheetah-medium-expert": (10, 5.0),
    "hopper-medium": (50, 1.0),
    "hopper-medium-replay": (50, 1.0),
    "hopper-medium-expert": (50, 1.0),
    "walker2d-medium": (10, 1.0),
    "walker2d-medium-replay": (10, 1.0),
    "walker2d-medium-expert": (10, 5.0),
    "maze2d": (10, 0.1),
}


def agent() -> AgentConfig:
    return AgentConfig(
        agent="edac", synthetic_per_batch=0, num_phases=300, updates_per_phase=10_000, batch_size=256, num_seeds=4
    )


def agent_of(dataset: str) -> AgentConfig:
    num_critics, diversity = presets.by_dataset("edac_d4rl", CRITICS, dataset)
    return dataclasses.replace(agent(), num_critics=num_critics, hyper={"agent": {"diversity": diversity}})
