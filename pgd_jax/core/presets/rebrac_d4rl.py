"""ReBRAC on D4RL's data alone, with the values that its paper has for the dataset, which the dataset's name picks.

    pgd-train-agent --preset=rebrac_d4rl --workdir=runs/rebrac --config.dataset=hopper-medium-v2

1 M updates of 1,024 rows, four seeds, Adam at 1e-3, and weights of the data in the actor's and the critics' loss by
dataset (Tarasov et al. 2023, arXiv 2305.09836, and the public single-file version of it); maze2d: 256 rows, 3e-4. Other
datasets are refused: give actor_bc and critic_bc as floats. On two CPU cores it takes days: it is for a GPU.

Expected on D4RL v2, normalised score after the last update (the field's table, not measured here): halfcheetah 64.0
(medium), 51.2 (replay), 103.8 (expert); hopper 102.3, 95.0; walker2d 85.8, 84.3; maze2d 106.9 (umaze), 105.1 (medium),
78.3 (large).
"""

from typing import Any

from pgd_jax.core import presets
from pgd_jax.core.config import AgentConfig

# (actor_bc, critic_bc)
WEIGHTS = {
    "halfcheetah-medium": (0.001, 0.01),
    "halfcheetah-medium-replay": (0.01, 0.001),
    "halfcheetah-medium-expert": (0.01, 0.1),
    "hopper-medium": (0.01, 0.01),
    "hopper-medium-replay": (0.05, 0.5),
    "hopper-medium-expert": (0.1, 0.01),
    "walker2d-medium": (0.05, 0.1),
    "walker2d-medium-replay": (0.05, 0.01),
    "walker2d-medium-expert": (0.01, 0.01),
    "maze2d": (0.003, 0.001),
}
MAZE2D_RATE, MAZE2D_BATCH = 3e-4, 256


def agent() -> AgentConfig:
    return _config(batch_size=1_024)


def agent_of(dataset: str) -> AgentConfig:
    actor_bc, critic_bc = presets.by_dataset("rebrac_d4rl", WEIGHTS, dataset)
    floats = {"actor_bc": actor_bc, "critic_bc": critic_bc}
    if not dataset.startswith("maze2d"):
        return _config(batch_size=1_024, **floats)
    return _config(batch_size=MAZE2D_BATCH, actor_lr=MAZE2D_RATE, critic_lr=MAZE2D_RATE, **floats)


def _config(batch_size: int, **floats: float) -> AgentConfig:
    hyper: dict[str, Any] = {"agent": floats} if floats else {}
    return AgentConfig(
        agent="rebrac", synthetic_per_batch=0, num_phases=100, updates_per_phase=10_000, batch_size=batch_size,
        num_seeds=4, hyper=hyper,
    )  # fmt: skip
