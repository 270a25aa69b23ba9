"""IQL on D4RL's data alone; the dataset's name picks expectile, temperature and the unit of rewards.

    pgd-train-agent --preset=iql_d4rl --workdir=runs/iql --config.dataset=hopper-medium-v2

1 M updates of 256 rows, four seeds (Kostrikov et al. 2021, arXiv 2110.06169): locomotion has expectile 0.7, temperature
3 and rewards whose episodes' returns span 1,000; antmaze 0.9, 10 and rewards less 1; kitchen and adroit 0.7 and 0.5
(and dropout in the actor, which is not here); maze2d the values of locomotion with rewards as they are. Adam's epsilon
is PyTorch's and Optax's, 1e-8.

Expected on D4RL v2, normalised score after the last update (the field's table, not measured here): halfcheetah 48.3
(medium), 44.5 (replay); hopper 67.5, 97.4; walker2d 80.9, 82.2; maze2d 42.1 (umaze), 34.9 (medium), 61.7 (large).
"""

from typing import Any

from pgd_jax.core import presets
from pgd_jax.core.config import AgentConfig

LOCOMOTION = {"expectile": 0.7, "temperature": 3.0, "return_range": 1_000.0}
MANIPULATION = {"expectile": 0.7, "temperature": 0.5}
FLOATS = {
    "halfcheetah": LOCOMOTION,
    "hopper": LOCOMOTION,
    "walker2d": LOCOMOTION,
    "ant": LOCOMOTION,
    "antmaze": {"expectile": 0.9, "temperature": 10.0, "reward_shift": -1.0},
    "kitchen": MANIPULATION,
    "pen": MANIPULATION,
    "hammer": MANIPULATION,
    "door": MANIPULATION,
    "relocate": MANIPULATION,
    "maze2d": {"expectile": 0.7, "temperature": 3.0},
}


def agent() -> AgentConfig:
    return _config({})


def agent_of(dataset: str) -> AgentConfig:
    return _config(presets.by_dataset("iql_d4rl", FLOATS, dataset))


def _config(floats: dict[str, float]) -> AgentConfig:
    hyper: dict[str, Any] = {"adam_eps": 1e-8, **floats}
    return AgentConfig(
        agent="iql", synthetic_per_batch=0, num_phases=100, updates_per_phase=10_000, batch_size=256, num_seeds=4,
        hyper=hyper,
    )  # fmt: skip
