"""What the study is about: tasks, target policies, sizes. Everything that a number in its table depends on."""

import dataclasses
from typing import NamedTuple

from pgd_jax.core.config import AgentConfig, BehaviourConfig, DataConfig, DenoiserConfig, TrainingConfig, UNetConfig

AGENTS = ("td3_bc", "iql")  # a deterministic target policy and a stochastic one
NUM_SEEDS = 5  # target policies of each kind and task; the lanes of every measurement
NOISE, FRESH_NOISE = 17, 19  # seeds of sampling: of what is compared and chosen, of what confirms the choice


class Task(NamedTuple):
    name: str
    dataset: str
    environment: str


def tasks(hopper: str) -> list[Task]:
    """`hopper` is the path or name of the hopper dataset."""
    return [
        Task("maze2d-umaze", "maze2d-umaze-waypoint-v0", "maze2d-umaze"),
        Task("hopper", hopper, "hopper"),
    ]


def denoiser(task: Task) -> DenoiserConfig:
    """0.9 M parameters, windows of 16 rows; a wider noise distribution than EDM's, as in the preset quickstart."""
    return DenoiserConfig(
        data=DataConfig(dataset=task.dataset, window_length=16, window_stride=4, past_end=False, flag_gap=0.0),
        unet=UNetConfig(width=64, norm="group"),  # the defaults when the study ran
        training=TrainingConfig(num_steps=15_000, batch_size=64, noise_std=2.0),
    )


def behaviour(path: str) -> BehaviourConfig:
    return BehaviourConfig(denoiser=path)


def policy(task: Task, agent: str, denoiser_path: str) -> AgentConfig:
    """A target policy for each seed, trained on the real data alone, with the denoiser's normalizer."""
    return AgentConfig(
        denoiser=denoiser_path,
        environment=task.environment,
        agent=agent,
        synthetic_per_batch=0,
        num_phases=1,
        updates_per_phase=10_000,
        num_episodes=4,
        num_seeds=NUM_SEEDS,
    )


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Of every measurement, a lane."""

    num_windows: int = 96
    dynamics_windows: int = 96
    reference_windows: int = 1_024


def sizes(task: Task) -> Sizes:
    """MuJoCo steps are a thousand times slower than the maze's."""
    return Sizes(dynamics_windows=64) if task.environment == "hopper" else Sizes()
