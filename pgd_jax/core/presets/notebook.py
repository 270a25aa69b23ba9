"""Sizes for a look and not for a result: what `pgd.train_agent` takes in memory unless it is told otherwise.

Half a minute on two CPU cores with eight lanes, compilation included. A score needs more updates: give the sizes, or
preset="quickstart".
"""

from pgd_jax.core.config import AgentConfig, SamplingConfig


def agent() -> AgentConfig:
    return AgentConfig(
        sampling=SamplingConfig(num_trajectories=64, trajectories_per_batch=64),
        num_phases=4,
        updates_per_phase=100,
        num_episodes=4,
        dynamics_windows=64,
    )
