"""TD3+BC on Pendulum (100 k rows of many skills): real, unguided and guided data, eight seeds each.

    make run        or: pgd-quickstart

Two CPU cores, no GPU: seven minutes with installation. Sizes follow from that budget: a U-Net of two levels on windows
of 16 rows, the default 32 steps, 256 windows every 2,000 updates, 16,000 updates. What was chosen was chosen on other
seeds than this command's, 80 to 87:

    the task        its reward is dense, so that eight seeds tell the groups apart; in the sparse maze of preset umaze
                    they do not (seeds 100 to 107 of both)
    lambda 30       return on seeds 100 to 107: -189, lambda 100 -225, real data -385, unguided -419
    every window    guided: with half of them guided, or half of a batch real, -310 and -291 (seeds 100 to 107)
    alpha           the published 2.5. With a weaker cloning term real data are as good: -183 with 10, -162 with 40
    two levels      three times the steps a second of three, at the same validation loss (preset notebook)
    noise_std 2     from preset umaze

Expected: the README's result.
"""

from pgd_jax.core.config import AgentConfig, DataConfig, DenoiserConfig, SamplingConfig, TrainingConfig, UNetConfig


def denoiser() -> DenoiserConfig:
    return DenoiserConfig(
        data=DataConfig(dataset="pendulum-mixed-v0", window_length=16, window_stride=4),
        unet=UNetConfig(width=64, num_blocks=2),
        training=TrainingConfig(num_steps=6_000, batch_size=64, noise_std=2.0),
    )


def agent() -> AgentConfig:
    """Guided and unguided lanes of one program; `denoiser` names the run of the settings above."""
    return AgentConfig(
        hidden_dim=128,
        sampling=SamplingConfig(num_trajectories=256, trajectories_per_batch=64),
        num_phases=8,
        updates_per_phase=2_000,
        num_seeds=8,
        first_seed=80,
        hyper={"generator": {"guidance_coefficient": (0.0, 30.0)}},
    )
