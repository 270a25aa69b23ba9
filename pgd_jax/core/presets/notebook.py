"""Sizes for a look and not for a result: what the functions of the front door take in memory unless told otherwise.

On two CPU cores a denoiser takes half a minute, and eight lanes of agents take as long, compilation included. A score
needs more updates: give the sizes, or preset="quickstart". With two levels the U-Net learns three times as many steps a
second as with the default three, at the same validation loss after 2,000 steps (0.52 and 0.51; one seed).
"""

from pgd_jax.core.config import (
    AgentConfig,
    DataConfig,
    DenoiserConfig,
    RolloutConfig,
    SamplingConfig,
    TrainingConfig,
    UNetConfig,
    WorldModelConfig,
)  # fmt: skip


def denoiser() -> DenoiserConfig:
    return DenoiserConfig(
        data=DataConfig(window_length=16, window_stride=4),
        unet=UNetConfig(num_blocks=2),
        training=TrainingConfig(num_steps=2_000),
    )


def world_model() -> WorldModelConfig:
    return WorldModelConfig(data=denoiser().data, hidden_dim=64, num_hidden=2, num_steps=2_000, steps_per_chunk=500)


def agent() -> AgentConfig:
    return AgentConfig(
        sampling=SamplingConfig(num_trajectories=64, trajectories_per_batch=64),
        rollout=RolloutConfig(num_rollouts=512, rollouts_per_batch=512),
        num_phases=4,
        updates_per_phase=100,
        num_episodes=4,
        dynamics_windows=64,
    )
