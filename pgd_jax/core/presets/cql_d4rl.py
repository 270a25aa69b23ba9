"""CQL on D4RL's data alone; the dataset's name picks the unit of rewards.

    pgd-train-agent --preset=cql_d4rl --workdir=runs/cql --config.dataset=hopper-medium-v2

1 M updates of 256 rows, four seeds; alpha 10 and rewards as they are, but for hopper-medium, whose episodes' returns
span 1,000 (the field's D4RL runs of Kumar et al. 2020, arXiv 2006.04779). Other datasets are refused: maze2d and
antmaze have been run with a Lagrange multiplier, which is not here. Give conservatism as a float.

Expected on D4RL v2, normalised score after the last update (the field's table, not measured here): halfcheetah 47.0
(medium), 45.0 (replay), 95.6 (expert); hopper 59.1, 95.1; walker2d 80.8, 73.1.
"""

from typing import Any

from pgd_jax.core import presets
from pgd_jax.core.config import AgentConfig

LOCOMOTION = {"conservatism": 10.0}
FLOATS = {
    "halfcheetah": LOCOMOTION,
    "hopper": LOCOMOTION,
    "hopper-medium": LOCOMOTION | {"return_range": 1_000.0},
    "walker2d": LOCOMOTION,
}


def agent() -> AgentConfig:
    return _config({})


def agent_of(dataset: str) -> AgentConfig:
    return _config(presets.by_dataset("cql_d4rl", FLOATS, dataset))


def _config(floats: dict[str, float]) -> AgentConfig:
    hyper: dict[str, Any] = dict(floats)
    return AgentConfig(
        agent="cql", synthetic_per_batch=0, num_phases=100, updates_per_phase=10_000, batch_size=256, num_seeds=4,
        hyper=hyper,
    )  # fmt: skip
