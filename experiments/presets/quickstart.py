"""TD3+BC on Maze2d-umaze (D4RL's recipe, 100 k rows): real data, unguided and guided synthetic data, four seeds each.

    make run        or: python -m experiments.quickstart

Two CPU cores, no GPU: about ten minutes. Sizes follow from that budget: a 0.9 M-parameter U-Net on windows of 16 rows,
the default 32 steps, 512 windows every 2,000 updates, 24,000 updates. Two things were not chosen on this command's
seeds, 30 to 33: the noise distribution of training, wider than EDM's, without which too few samples reach the goal (4 %
of rows rewarded at noise_std 1.2, 7 % at 2.0, 6.4 % in the data; seeds 0, 1, 10 to 13 and 20 to 23); and the guidance
coefficient, by experiments/guidance_study: the largest at which data guided by TD3+BC are no less true than unguided
ones. Expected: the README's result.
"""

from pgd_jax.config import AgentConfig, DataConfig, DenoiserConfig, SamplingConfig, TrainingConfig, UNetConfig

SAMPLING = SamplingConfig(num_trajectories=512, trajectories_per_batch=128)
GUIDANCE_COEFFICIENT = 30


def denoiser() -> DenoiserConfig:
    return DenoiserConfig(
        data=DataConfig(dataset="maze2d-umaze-waypoint-v0", window_length=16, window_stride=4),
        unet=UNetConfig(width=64),
        training=TrainingConfig(num_steps=15_000, batch_size=64, noise_std=2.0),
    )


def agent() -> AgentConfig:
    """Guided and unguided lanes of one program; `denoiser` names the run of the settings above."""
    return AgentConfig(
        hidden_dim=128,
        sampling=SAMPLING,
        num_phases=12,
        updates_per_phase=2_000,
        num_seeds=4,
        first_seed=30,
        sweep=f"guidance_coefficient=0,{GUIDANCE_COEFFICIENT}",
    )
