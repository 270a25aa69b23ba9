"""The settings of a run as frozen dataclasses. Command lines show them as `--config.*` flags; config.json stores them.

Ints, strings and choices here are static: they shape the compiled program. Floats that may differ between lanes are
fields of the agent's and the generator's own `Hyper`. `AgentConfig.hyper` holds their values.
"""

import dataclasses
from typing import TYPE_CHECKING, Any, TypeVar

from pgd_jax.core import ranges
from pgd_jax.core.errors import UserError
from pgd_jax.core.ranges import Range
from pgd_jax.core.registry import nearest

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Config = TypeVar("Config", bound="DataclassInstance")

CRITIC_NORMS = NO_NORM, LAYER_NORM = ("none", "layer")
OUTLIERS = ("keep", "clip", "drop")
UNCERTAINTIES = SPREAD, DISAGREEMENT = ("spread", "disagreement")  # of a world model's prediction
TERMINALS = RULE, LEARNED = ("rule", "learned")  # what ends a rollout


def option(default: Any, text: str, among: Range | None = None) -> Any:
    """A config field with its help text for `--help`, and the range of a real number."""
    return dataclasses.field(default=default, metadata={"help": f"{text} ({among})" if among else text, "range": among})


def nested(factory: type) -> Any:
    return dataclasses.field(default_factory=factory)


@dataclasses.dataclass(frozen=True)
class DataConfig:
    dataset: str = option(
        "maze2d-umaze-waypoint-v0",
        "name of a built-in or D4RL dataset, minari:<id>, ogbench:<name>, or the path of an HDF5 file",
    )
    download: bool = option(False, "download a D4RL, Minari or OGBench dataset that is not on this machine")
    max_rows: int = option(0, "number of rows to read, from the first on; 0: all rows")
    next_tolerance: float = option(
        0.0,
        "largest difference between next_observations and the next row, relative to 1 + |value|; a larger one ends the "
        "episode there. 0: by the file's precision (1e-5 for float32); -1: only flags end episodes",
    )
    outliers: str = option(
        "keep", "what to do with values so extreme that they set the scale of their column: keep, clip or drop (rows)"
    )
    action_bounds: str = option(
        "",
        'lowest and highest action, for a file whose actions are not in [-1, 1]: "-2:2", or a pair for each dimension',
    )
    window_length: int = option(32, "T, the number of rows in a trajectory window (the paper reports 16, its code 32)")
    window_stride: int = option(8, "number of rows between the starts of two windows of an episode")
    past_end: bool = option(
        True, "windows may run past an episode's true end and repeat its last row; false: they may not (PGD)"
    )
    flag_gap: float = option(
        0.4,
        "distance in network space between the two values of a reward or terminal that takes only two. With a small "
        "distance, sampling settles states and actions first. 0: standardised like the other columns (PGD)",
        ranges.NOT_NEGATIVE,
    )
    validation_fraction: float = option(
        0.05, "share of windows held out for the validation loss, by whole episodes", ranges.WITHIN_0_AND_1
    )
    split_seed: int = option(0, "random seed for the choice of held-out episodes")


@dataclasses.dataclass(frozen=True)
class UNetConfig:
    width: int = option(64, "number of channels in the first level (the reference has 1024)")
    num_blocks: int = option(3, "number of levels; the window is halved num_blocks - 1 times")
    norm: str = option("layer", "layer: adaptive LayerNorm of each row; group: GroupNorm, as in the reference")
    compute_dtype: str = option("float32", "float32 or bfloat16; weights and sampling stay in float32")


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    num_steps: int = option(20_000, "number of optimiser steps")
    steps_per_chunk: int = option(1_000, "steps per compiled call; progress, validation and a checkpoint follow")
    batch_size: int = option(64, "number of windows in a training batch")
    learning_rate: float = option(
        2e-3, "Adam's peak learning rate: warm-up over 10 % of the steps, then a cosine decay to 0", ranges.POSITIVE
    )
    noise_mean: float = option(
        -1.2, "mean of ln sigma in training (EDM); a lower mean resolves smaller steps between rows", Range(-20.0, 20.0)
    )
    noise_std: float = option(1.2, "standard deviation of ln sigma in training (EDM)", Range(0.0, 20.0, has_low=False))
    ema_decay: float = option(0.995, "decay of the averaged weights (EMA) every ema_period steps", ranges.SHARE_BELOW_1)
    ema_period: int = option(10, "number of steps between updates of the averaged weights (EMA)")
    num_validation_windows: int = option(512, "number of held-out windows in the validation loss")
    seed: int = option(0, "random seed for weights, batches and noise")


@dataclasses.dataclass(frozen=True)
class DenoiserConfig:
    """One diffusion model of one dataset."""

    data: DataConfig = nested(DataConfig)
    unet: UNetConfig = nested(UNetConfig)
    training: TrainingConfig = nested(TrainingConfig)


@dataclasses.dataclass(frozen=True)
class BehaviourConfig:
    """A behaviour policy, cloned from a denoiser's dataset. Guidance can subtract its score."""

    denoiser: str = option("", "run directory of train_denoiser: gives dataset, held-out episodes and normalizer")
    download: bool = option(False, "download the denoiser's dataset if it is not on this machine")
    hidden_dim: int = option(256, "width of the policy network")
    num_hidden: int = option(2, "number of hidden layers in the policy network")
    num_steps: int = option(20_000, "number of optimiser steps")
    steps_per_chunk: int = option(1_000, "steps per compiled call; progress, validation and a checkpoint follow")
    batch_size: int = option(256, "number of transitions in a training batch")
    learning_rate: float = option(3e-4, "Adam's learning rate", ranges.POSITIVE)
    seed: int = option(0, "random seed for weights and batches")


@dataclasses.dataclass(frozen=True)
class WorldModelConfig:
    """A one-step world model of one dataset: an ensemble of Gaussian networks."""

    data: DataConfig = nested(DataConfig)  # windows only set the held-out episodes and the normalizer
    num_members: int = option(7, "number of networks in the ensemble")
    num_elites: int = option(5, "number of members that rollouts use: those with the lowest held-out errors")
    hidden_dim: int = option(200, "width of a member network")
    num_hidden: int = option(4, "number of hidden layers in a member network")
    num_steps: int = option(20_000, "optimiser steps; each member keeps its best weights on held-out episodes")
    steps_per_chunk: int = option(1_000, "steps per compiled call; the held-out error and a checkpoint follow")
    batch_size: int = option(256, "number of transitions in a training batch; each member draws its own batch")
    learning_rate: float = option(1e-3, "Adam's learning rate", ranges.POSITIVE)
    beta: float = option(
        0.5, "beta of the beta-NLL loss: 0 is the Gaussian likelihood (PETS), 1 the squared error", ranges.SHARE
    )
    seed: int = option(0, "random seed for weights, bootstrap samples and batches")


@dataclasses.dataclass(frozen=True)
class RolloutConfig:
    """Rollouts of a one-step world model: the data of generator "ensemble"."""

    horizon: int = option(5, "number of steps in a rollout")
    num_rollouts: int = option(8_192, "number of rollouts in a phase; each starts at a state of the dataset")
    rollouts_per_batch: int = option(2_048, "number of rollouts that a lane generates at once: sets the peak memory")
    uncertainty: str = option(
        "spread", "uncertainty that the penalty multiplies: spread (MOPO: the largest of the elites) or disagreement"
    )
    terminals: str = option("rule", "what ends a rollout: rule (the task's own, where it has one) or learned")


@dataclasses.dataclass(frozen=True)
class SamplingConfig:
    sampler: str = option("dpmpp_2m_sde", "integrator of the reverse process")
    num_steps: int = option(32, "N, the number of noise steps that sample a window")
    noise_schedule: str = option("karras", "spacing of the noise levels: karras, log_linear or cosine")
    guidance: str = option("proximal", "guidance rule: how the policy's density steers sampling")
    guidance_schedule: str = option(
        "constant", "how lambda depends on the noise level: constant, rising or falling (as the noise falls)"
    )
    num_particles: int = option(8, "twisted sampler: number of windows in a group that is resampled together")
    warm_steps: int = option(
        0,
        "warm start: each phase noises the windows of the previous phase to warm_sigma and denoises them in this many "
        "steps; 0: each phase starts from pure noise",
    )
    num_trajectories: int = option(8_192, "number of windows generated in a phase")
    trajectories_per_batch: int = option(512, "number of windows that a lane samples at once: sets the peak memory")


@dataclasses.dataclass(frozen=True)
class AgentConfig:
    """One experiment: an agent trained on synthetic and real data, with many lanes in one compiled program."""

    denoiser: str = option("", "run directory of train_denoiser; may be empty if synthetic_per_batch is 0")
    behaviour: str = option("", "run directory of train_behaviour, for hyper.generator.guidance.behaviour; or empty")
    world_model: str = option("", "run directory of train_world_model, for generator=ensemble; or empty")
    dataset: str = option("", "dataset of the real rows; empty: the dataset of the denoiser or the world model")
    download: bool = option(False, "download a D4RL, Minari or OGBench dataset that is not on this machine")
    max_rows: int = option(
        0, "number of rows to read, from the first on; 0: as the denoiser on its own dataset, else all rows"
    )
    next_tolerance: float = option(
        0.0, "as data.next_tolerance of train_denoiser; 0: as the denoiser on its own dataset"
    )
    outliers: str = option("", "keep, clip or drop; empty: as the denoiser on its own dataset, else keep")
    action_bounds: str = option(
        "", "as data.action_bounds of train_denoiser; empty: as the denoiser on its own dataset"
    )
    environment: str = option("", 'environment for evaluation; empty: the dataset\'s own; "none": no evaluation')
    agent: str = option("td3_bc", "offline RL algorithm")
    generator: str = option(
        "diffusion",
        "source of synthetic data: diffusion (windows of a denoiser) or ensemble (rollouts of a world model)",
    )
    hidden_dim: int = option(0, "width of the agent's networks; 0: as published (256)")
    num_hidden: int = option(0, "number of hidden layers in the agent's networks; 0: as published (2 or 3)")
    critic_hidden_dim: int = option(0, "width of critic and value networks; 0: as published (equal to hidden_dim)")
    critic_num_hidden: int = option(
        0, "hidden layers of critic and value networks; 0: as published (equal to num_hidden)"
    )
    critic_norm: str = option(
        "", "after hidden layers of critics and values: none or layer (LayerNorm); empty: as published"
    )
    num_critics: int = option(0, "number of critics in the ensemble; 0: as published (2; sac_n and edac: 10)")
    sampling: SamplingConfig = nested(SamplingConfig)
    rollout: RolloutConfig = nested(RolloutConfig)
    num_phases: int = option(100, "number of phases; a phase generates, learns and evaluates")
    phases_per_chunk: int = option(1, "phases per compiled call; progress and a checkpoint follow")
    updates_per_phase: int = option(10_000, "number of gradient updates in a phase")
    batch_size: int = option(256, "number of transitions in a training batch")
    synthetic_per_batch: int = option(
        240, "number of synthetic transitions in a batch; 0: real data only, nothing is generated"
    )
    num_episodes: int = option(16, "evaluation episodes after each phase; 0: no evaluation inside the compiled program")
    host_episodes: int = option(
        0,
        "evaluation episodes on the host (Gymnasium) after each chunk, as a cross-check; 0: only for a task that the "
        "compiled program cannot evaluate, with num_episodes",
    )
    dynamics_windows: int = option(
        1_024, "number of windows in a phase whose transitions are compared with the environment's; 0: none"
    )
    mesh: str = option(
        "auto",
        'devices along each axis, such as "lanes=4,windows=2"; auto: as many as divide the work evenly (CPU cores: '
        "lanes only)",
    )
    num_seeds: int = option(4, "number of random seeds for each combination of floats")
    first_seed: int = option(0, "the first random seed")
    hyper: dict[str, Any] = dataclasses.field(
        default_factory=dict, metadata={"help": "floats, nested by name: one value, or several values for more lanes"}
    )


def to_dict(config: Any) -> dict[str, Any]:
    return dataclasses.asdict(config)


def from_dict(cls: type[Config], values: dict[str, Any], prefix: str = "") -> Config:
    """The dataclass from a nested dict. Raises UserError for an unknown field and names the nearest known one."""
    fields = {field.name: field for field in dataclasses.fields(cls)}
    for name in values:
        if name not in fields:
            raise UserError(f'unknown setting "{prefix}{name}"{nearest(name, fields)}')
    nested = [field for field in fields.values() if dataclasses.is_dataclass(field.type)]
    children: dict[str, Any] = {field.name: field.default_factory for field in nested}
    return cls(
        **{
            name: from_dict(children[name], value, f"{prefix}{name}.") if name in children else value
            for name, value in values.items()
        }
    )
