"""The settings of pgd-collect, apart from what uses them, which imports JAX: --help need not wait for that."""

import dataclasses

from pgd_jax.core import config as configs


@dataclasses.dataclass(frozen=True)
class OnlinePlan:
    """Everything static about online training (runs/collect/online.py); SAC's floats are `sac.Hyper`'s."""

    seed: int = configs.option(0, "seed of everything")
    num_envs: int = configs.option(8, "environments stepped at once, each a stream of episodes")
    steps_per_chunk: int = configs.option(4_000, "steps of one compiled call, all environments together")
    num_exploring_steps: int = configs.option(10_000, "first steps, with uniformly random actions and no updates")
    batch_size: int = configs.option(256, "transitions of an update; there is one update a step")
    hidden_dim: int = configs.option(256, "width of SAC's networks")
    num_hidden: int = configs.option(2, "hidden layers of SAC's networks")
    replay_capacity: int = configs.option(1_000_000, "transitions that SAC learns from, the newest")
    num_episodes: int = configs.option(10, "greedy episodes that judge the policy after each chunk")


@dataclasses.dataclass(frozen=True)
class Settings:
    """How D4RL's protocol (runs/collect/protocol.py) collects a dataset, besides `OnlinePlan`."""

    max_steps: int = 3_000_000  # of training
    fraction: float = 1.0 / 3.0  # of the way from the random to the expert return, where the policy is medium
    random_return: float | None = None  # None: D4RL's reference score
    expert_return: float | None = None
    allow_partial: bool = False  # take the policy at the step limit for the medium one
