"""The settings of a run as frozen dataclasses: what the command lines show as `--config.*` flags and config.json keeps.

Ints, strings and choices here are static (they shape the compiled program). Floats that a lane may vary are fields of
the agent's and the generator's own `Hyper`; `AgentConfig.hyper` has their values.
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
    """A config field with its help text, which `--help` prints, and the range of a real number."""
    return dataclasses.field(default=default, metadata={"help": f"{text} ({among})" if among else text, "range": among})


def nested(factory: type) -> Any:
    return dataclasses.field(default_factory=factory)


@dataclasses.dataclass(frozen=True)
class DataConfig:
    dataset: str = option(
        "maze2d-umaze-waypoint-v0", "built-in, D4RL, minari:<id> or ogbench:<name>, or path of an HDF5 file"
    )
    download: bool = option(False, "fetch a dataset of D4RL, Minari or OGBench that is not here")
    max_rows: int = option(0, "read only so many rows of the dataset, the first ones; 0: all")
    next_tolerance: float = option(
        0.0,
        "how far next_observations may be from the next row, relative to 1 + |value|, before the episode is cut there; "
        "0: by the file's precision (1e-5 for float32); -1: flags alone cut",
    )
    outliers: str = option("keep", "values that set the scale of their column by themselves: keep, clip or drop (rows)")
    action_bounds: str = option(
        "", 'lowest and highest action of a file whose actions are not in [-1, 1]: "-2:2", or a pair for each dimension'
    )
    window_length: int = option(32, "rows T of a trajectory window (the paper reports 16, its code 32)")
    window_stride: int = option(8, "rows between the starts of windows along an episode")
    past_end: bool = option(
        True, "windows start up to an episode's true end, and repeat its last row; PGD: they end there at the latest"
    )
    flag_gap: float = option(
        0.4,
        "distance, as the network sees them, of the two values of a reward or terminal that has no other: where it is "
        "small, sampling decides after states and actions; 0: as far apart as standardising puts them (PGD)",
        ranges.NOT_NEGATIVE,
    )
    validation_fraction: float = option(
        0.05, "share of windows held out, in whole episodes, for the validation loss", ranges.WITHIN_0_AND_1
    )
    split_seed: int = option(0, "seed of the choice of held-out episodes")


@dataclasses.dataclass(frozen=True)
class UNetConfig:
    width: int = option(64, "channels of the first level (the reference: 1024)")
    num_blocks: int = option(3, "levels; the window is halved one time less")
    norm: str = option("layer", "layer: adaptive LayerNorm of each row; group: GroupNorm, as the reference has it")
    compute_dtype: str = option("float32", "float32 or bfloat16; weights and sampling stay float32")


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    num_steps: int = option(20_000, "optimiser steps")
    steps_per_chunk: int = option(1_000, "steps of one compiled call: progress, validation and checkpoint after each")
    batch_size: int = option(64, "windows of a step")
    learning_rate: float = option(
        2e-3, "Adam's peak rate: warm-up over 10 % of the steps, then a cosine to 0", ranges.POSITIVE
    )
    noise_mean: float = option(
        -1.2, "mean of ln sigma in training (EDM); lower resolves smaller steps between rows", Range(-20.0, 20.0)
    )
    noise_std: float = option(1.2, "standard deviation of ln sigma in training (EDM)", Range(0.0, 20.0, has_low=False))
    ema_decay: float = option(0.995, "decay of the averaged weights, per ema_period", ranges.SHARE_BELOW_1)
    ema_period: int = option(10, "steps between updates of the averaged weights")
    num_validation_windows: int = option(512, "held-out windows of the validation loss")
    seed: int = option(0, "seed of weights, batches and noise")


@dataclasses.dataclass(frozen=True)
class DenoiserConfig:
    """One diffusion model of one dataset."""

    data: DataConfig = nested(DataConfig)
    unet: UNetConfig = nested(UNetConfig)
    training: TrainingConfig = nested(TrainingConfig)


@dataclasses.dataclass(frozen=True)
class BehaviourConfig:
    """A clone of the policy behind a denoiser's dataset, for guidance that subtracts its score."""

    denoiser: str = option("", "run directory of train_denoiser: gives dataset, held-out episodes and normalizer")
    download: bool = option(False, "fetch the denoiser's dataset where it is not here")
    hidden_dim: int = option(256, "width of the policy's network")
    num_hidden: int = option(2, "hidden layers of the policy's network")
    num_steps: int = option(20_000, "optimiser steps")
    steps_per_chunk: int = option(1_000, "steps of one compiled call: progress, validation and checkpoint after each")
    batch_size: int = option(256, "transitions of a step")
    learning_rate: float = option(3e-4, "Adam's rate", ranges.POSITIVE)
    seed: int = option(0, "seed of weights and batches")


@dataclasses.dataclass(frozen=True)
class WorldModelConfig:
    """A one-step world model of one dataset: an ensemble of Gaussian networks."""

    data: DataConfig = nested(DataConfig)  # windows matter for the held-out episodes and the normalizer alone
    num_members: int = option(7, "networks of the ensemble")
    num_elites: int = option(5, "of which rollouts use those with the lowest held-out errors")
    hidden_dim: int = option(200, "width of a member")
    num_hidden: int = option(4, "hidden layers of a member")
    num_steps: int = option(20_000, "optimiser steps; each member's best weights on held-out episodes are kept")
    steps_per_chunk: int = option(1_000, "steps of one compiled call: held-out error and checkpoint after each")
    batch_size: int = option(256, "transitions of a step, for each member its own")
    learning_rate: float = option(1e-3, "Adam's rate", ranges.POSITIVE)
    beta: float = option(
        0.5, "weight of errors where they are large (beta-NLL): 0 PETS' loss, 1 squared errors", ranges.SHARE
    )
    seed: int = option(0, "seed of weights, bootstrap samples and batches")


@dataclasses.dataclass(frozen=True)
class RolloutConfig:
    """Rollouts of a one-step world model: what generator "ensemble" makes of it."""

    horizon: int = option(5, "steps of a rollout")
    num_rollouts: int = option(8_192, "rollouts generated in a phase, each from a state of the dataset")
    rollouts_per_batch: int = option(2_048, "rollouts at once, a lane: sets peak memory")
    uncertainty: str = option(
        "spread", "what hyper.generator.penalty charges for: spread (MOPO: largest of the elites) or disagreement"
    )
    terminals: str = option("rule", "what ends an episode: rule (the task's own, where it has one) or learned")


@dataclasses.dataclass(frozen=True)
class SamplingConfig:
    sampler: str = option("dpmpp_2m_sde", "integrator of the reverse process")
    num_steps: int = option(32, "noise steps N of one trajectory")
    noise_schedule: str = option("karras", "how the noise levels are spaced: karras, log_linear or cosine")
    guidance: str = option("proximal", "rule that steers sampling by the policy")
    guidance_schedule: str = option(
        "constant", "lambda over noise levels: constant, rising or falling (as noise falls)"
    )
    num_particles: int = option(8, "of the twisted sampler: windows that are resampled among themselves")
    warm_steps: int = option(
        0, "noise steps of a phase that renews the windows of the one before (from warm_sigma on); 0: afresh"
    )
    num_trajectories: int = option(8_192, "windows generated in a phase")
    trajectories_per_batch: int = option(512, "windows sampled at once, a lane: sets peak memory")


@dataclasses.dataclass(frozen=True)
class AgentConfig:
    """One experiment: an agent trained on synthetic and real data, `lanes` of it in one compiled program."""

    denoiser: str = option("", "run directory of train_denoiser; may be empty when synthetic_per_batch is 0")
    behaviour: str = option("", "run directory of train_behaviour, for hyper.generator.guidance.behaviour; or empty")
    world_model: str = option("", "run directory of train_world_model, for generator=ensemble; or empty")
    dataset: str = option("", "dataset of the real rows; empty: the denoiser's or the world model's own")
    download: bool = option(False, "fetch a dataset of D4RL, Minari or OGBench that is not here")
    max_rows: int = option(0, "read only so many rows, the first ones; 0: all, or the denoiser's of its own dataset")
    next_tolerance: float = option(0.0, "as data.next_tolerance of a denoiser; 0: the denoiser's of its own dataset")
    outliers: str = option("", "keep, clip or drop; empty: the denoiser's choice for its own dataset, else keep")
    action_bounds: str = option("", "as data.action_bounds of a denoiser; empty: the denoiser's of its own dataset")
    environment: str = option("", 'environment that judges the agent; empty: the dataset\'s own; "none": no evaluation')
    agent: str = option("td3_bc", "offline RL algorithm")
    generator: str = option(
        "diffusion", "what makes the synthetic data: diffusion (of a denoiser) or ensemble (rollouts of a world model)"
    )
    hidden_dim: int = option(0, "width of the agent's networks; 0: as published (256)")
    num_hidden: int = option(0, "hidden layers of the agent's networks; 0: as published (2, or 3)")
    critic_hidden_dim: int = option(0, "width of its critics and values; 0: as published (as hidden_dim)")
    critic_num_hidden: int = option(0, "hidden layers of its critics and values; 0: as published (as num_hidden)")
    critic_norm: str = option("", "after their hidden layers: none, or layer (LayerNorm); empty: as published")
    num_critics: int = option(0, "critics of its ensemble; 0: as published (2)")
    sampling: SamplingConfig = nested(SamplingConfig)
    rollout: RolloutConfig = nested(RolloutConfig)
    num_phases: int = option(100, "generate, learn, evaluate: how many times")
    phases_per_chunk: int = option(1, "phases of one compiled call: progress and checkpoint after each call")
    updates_per_phase: int = option(10_000, "gradient updates between two generations")
    batch_size: int = option(256, "transitions of an update")
    synthetic_per_batch: int = option(240, "of which synthetic; 0 trains on real data alone and generates nothing")
    num_episodes: int = option(16, "evaluation episodes after each phase; 0: the host alone judges, if at all")
    host_episodes: int = option(
        0,
        "episodes on the host (Gymnasium) after each chunk, a cross-check; 0: num_episodes, where nothing else judges",
    )
    dynamics_windows: int = option(
        1_024, "windows of a phase whose transitions are compared with the environment's own; 0: none"
    )
    mesh: str = option(
        "auto", 'devices along each axis, such as "lanes=4,windows=2"; auto: all that divide evenly, of cores by lanes'
    )
    num_seeds: int = option(4, "seeds of each combination of floats")
    first_seed: int = option(0, "the first of them")
    hyper: dict[str, Any] = dataclasses.field(
        default_factory=dict, metadata={"help": "floats, nested by name: one value, or several for a lane each"}
    )


def to_dict(config: Any) -> dict[str, Any]:
    return dataclasses.asdict(config)


def from_dict(cls: type[Config], values: dict[str, Any], prefix: str = "") -> Config:
    """The dataclass from a nested dict; raises UserError for an unknown field, naming the nearest one."""
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
