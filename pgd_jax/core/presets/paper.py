"""The reference's own sizes (arXiv 2404.06356 and its released code): for data-centre GPUs.

    pgd-train-denoiser --preset=paper --workdir=runs/hopper/denoiser --config.data.dataset=hopper-medium-replay-v2
    pgd-train-agent --preset=paper --workdir=runs/hopper/agent --config.denoiser=runs/hopper/denoiser

Equal to the reference: windows of 32 rows, base width 1024 and 3 levels, Adam at 2e-3 with warm-up and cosine,
batches of 32, averaged weights; 256 churned Heun steps from 80 to 0.002 with the paper's rule at every level (767
denoiser calls a window), 8,192 windows every 10,000 train steps, the first set unguided; 1 M train steps of TD3+BC on
batches of 240 synthetic and 16 real rows. A train step there is one update of the actor and two of the critics: two
updates here. With --config.agent=iql, whose train step is one update, add --config.updates_per_phase=10000.

Different: this U-Net of these sizes has 237 M parameters, the reference's about 177 M; its products are in bfloat16;
algorithm 2 steps from the churned point here (see pgd_jax/diffusion/samplers.py). Sampling one run takes about 2e18
FLOP: hours on one data-centre GPU. Expected score: not measured here; it needs D4RL's files.
"""

from pgd_jax.core.config import AgentConfig, DataConfig, DenoiserConfig, SamplingConfig, TrainingConfig, UNetConfig


def denoiser() -> DenoiserConfig:
    return DenoiserConfig(
        data=DataConfig(
            dataset="hopper-medium-replay-v2", window_length=32, window_stride=8, past_end=False, flag_gap=0.0
        ),
        unet=UNetConfig(width=1024, num_blocks=3, norm="group", compute_dtype="bfloat16"),
        training=TrainingConfig(num_steps=100_000, batch_size=32, learning_rate=2e-3),
    )


def agent() -> AgentConfig:
    return AgentConfig(
        sampling=SamplingConfig(
            sampler="churned_heun", num_steps=256, guidance="paper", num_trajectories=8_192,
            trajectories_per_batch=1_024,
        ),
        num_phases=100,
        updates_per_phase=20_000,
        batch_size=256,
        synthetic_per_batch=240,
        num_seeds=4,
        # EDM's start, and guidance at every noise level: the defaults are those of experiments/guidance_study.
        hyper={
            "generator": {
                "guidance_coefficient": 1.0, "sigma_min": 0.002, "sigma_max": 80.0, "guidance": {"sigma_max": 1e6},
            }
        },
    )  # fmt: skip
