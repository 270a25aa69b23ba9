"""TD3+BC on sparse Maze2d-umaze (D4RL's recipe, 100 k rows): unguided and half guided data, eight seeds each.

    pgd-train-denoiser --preset=umaze --workdir=runs/umaze/denoiser
    pgd-train-agent --preset=umaze --workdir=runs/umaze/synthetic --config.denoiser=runs/umaze/denoiser
    pgd-train-agent --preset=umaze --workdir=runs/umaze/real --config.denoiser=runs/umaze/denoiser \
                    --config.synthetic_per_batch=0

Ten minutes on two CPU cores. What was chosen was chosen on other seeds than these, 60 to 67:

    noise_std 2     wider than EDM's 1.2, with which too few samples reach the goal: 4 % of rows are rewarded with 1.2,
                    7 % with 2, 6.4 % in the data (seeds 0, 1, 10 to 13 and 20 to 23)
    lambda 30       by experiments/guidance_study: the largest at which data guided by TD3+BC are no less true than
                    unguided ones
    guided_share    half of the windows (seeds 30 to 47): where all are guided, three of eight seeds end near 0, as a
                    lost policy leads its data away from the reward

Normalised score, last checkpoint: real 97 [73, 121], unguided 51 [16, 85], half guided 61 [32, 89]. Half guided -
unguided is +10 [-36, +56] by seed: eight seeds of a sparse task do not settle it.
"""

from pgd_jax.core.config import AgentConfig, DataConfig, DenoiserConfig, SamplingConfig, TrainingConfig, UNetConfig


def denoiser() -> DenoiserConfig:
    return DenoiserConfig(
        # flag_gap and norm are those of the numbers above.
        data=DataConfig(dataset="maze2d-umaze-waypoint-v0", window_length=16, window_stride=4, flag_gap=0.0),
        unet=UNetConfig(width=64, norm="group"),
        training=TrainingConfig(num_steps=10_000, batch_size=64, noise_std=2.0),
    )


def agent() -> AgentConfig:
    """Guided and unguided lanes of one program; `denoiser` names the run of the settings above."""
    return AgentConfig(
        hidden_dim=128,
        sampling=SamplingConfig(num_trajectories=256, trajectories_per_batch=64),
        num_phases=10,
        updates_per_phase=1_500,
        num_seeds=8,
        first_seed=60,
        hyper={"generator": {"guidance_coefficient": (0.0, 30.0), "guided_share": 0.5}},
    )
