"""SAC-N on D4RL's data alone; the dataset's name picks the number of critics.

    pgd-train-agent --preset=sac_n_d4rl --workdir=runs/sac_n --config.dataset=hopper-medium-v2

3 M updates of 256 rows, four seeds (An et al. 2021, arXiv 2110.01548, and the public single-file version of it). Other
datasets are refused: give num_critics. It is for a GPU.

Expected on D4RL v2, normalised score after the last update (the field's table, not measured here): halfcheetah 68.2
(medium), 60.7 (replay), 99.0 (expert); hopper 40.8, 100.3; walker2d 87.5, 79.0; maze2d 130.6 (umaze), 88.6 (medium),
204.8 (large). The standard deviation of hopper-medium's is 10.
"""

import dataclasses

from pgd_jax.core import presets
from pgd_jax.core.config import AgentConfig

NUM_CRITICS = {
    "halfcheetah": 10,
    "hopper-medium": 500,
    "hopper-medium-replay": 200,
    "hopper-medium-expert": 200,
    "walker2d": 20,
    "maze2d": 25,
}


def agent() -> AgentConfig:
    return AgentConfig(
        agent="sac_n", synthetic_per_batch=0, num_phases=300, updates_per_phase=10_000, batch_size=256, num_seeds=4
    )


def agent_of(dataset: str) -> AgentConfig:
    return dataclasses.replace(agent(), num_critics=presets.by_dataset("sac_n_d4rl", NUM_CRITICS, dataset))
