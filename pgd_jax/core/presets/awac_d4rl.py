"""AWAC on D4RL's data alone; the dataset's name picks lambda.

    pgd-train-agent --preset=awac_d4rl --workdir=runs/awac --config.dataset=hopper-medium-v2

1 M updates of 256 rows, four seeds; lambda 1/3 for locomotion and 0.1 for maze2d (the field's D4RL runs of Nair et al.
2020, arXiv 2006.09359). Other datasets are refused: give the temperature as a float.

Expected on D4RL v2, normalised score after the last update (the field's table, not measured here): halfcheetah 50.0
(medium), 45.1 (replay), 95.0 (expert); hopper 63.0, 98.9; walker2d 68.5, 80.6; maze2d 65.7 (umaze), 84.6 (medium),
215.5 (large).
"""

from pgd_jax.core import presets
from pgd_jax.core.config import AgentConfig

TEMPERATURES = {"halfcheetah": 1.0 / 3.0, "hopper": 1.0 / 3.0, "walker2d": 1.0 / 3.0, "maze2d": 0.1}


def agent() -> AgentConfig:
    return AgentConfig(
        agent="awac", synthetic_per_batch=0, num_phases=100, updates_per_phase=10_000, batch_size=256, num_seeds=4
    )


def agent_of(dataset: str) -> AgentConfig:
    temperature = presets.by_dataset("awac_d4rl", TEMPERATURES, dataset)
    general = agent()
    general.hyper["agent"] = {"temperature": temperature}
    return general
