"""Offline RL on real hopper data alone: no denoiser, nothing generated. The settings of experiments/real_hopper.py.

    pgd-train-agent --preset=real_hopper --workdir=runs/hopper/iql --config.agent=iql \
                    --config.dataset=path/to/hopper_medium_replay-v2.hdf5

100,000 updates, two seeds, evaluated every 20,000 in the graph and by Gymnasium.
"""

from pgd_jax.core.config import AgentConfig


def agent() -> AgentConfig:
    return AgentConfig(
        dataset="hopper-medium-replay-v2",
        synthetic_per_batch=0,
        num_phases=5,
        updates_per_phase=20_000,
        num_episodes=16,
        host_episodes=16,
        num_seeds=2,
    )
