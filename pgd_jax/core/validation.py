"""Checks of settings, before anything is read or written."""

import dataclasses
from typing import Any

from pgd_jax.core import action_bounds
from pgd_jax.core.config import (
    CRITIC_NORMS,
    OUTLIERS,
    TERMINALS,
    UNCERTAINTIES,
    AgentConfig,
    BehaviourConfig,
    DataConfig,
    DenoiserConfig,
    RolloutConfig,
    SamplingConfig,
    WorldModelConfig,
)  # fmt: skip
from pgd_jax.core.errors import UserError

MOST = (1 << 31) - 1  # steps, rows and windows are counted in i32
NUM_SEEDS = 1 << 32  # jax.random.key tells this many seeds apart


def check_types(config: Any, prefix: str = "") -> None:
    """Raises UserError for the first setting whose type is not that of its default."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            check_types(value, f"{prefix}{field.name}.")
        if field.default is dataclasses.MISSING:  # nested, or floats, which core/hyper.py checks
            continue
        wanted = type(field.default)
        is_right = isinstance(value, (int, float)) if wanted is float else isinstance(value, wanted)
        if not is_right or (isinstance(value, bool) and wanted is not bool):
            raise UserError(f"{prefix}{field.name}={value!r} must be of type {wanted.__name__}")


def check_positive(config: Any, *names: str) -> None:
    """Raises UserError for the first of the int fields `names` that is below 1 or above MOST."""
    for name in names:
        if not 1 <= getattr(config, name) <= MOST:
            limit = "at least 1" if getattr(config, name) < 1 else f"at most {MOST}"
            raise UserError(f"{name}={getattr(config, name)} must be {limit}")


def check_ranges(config: Any, prefix: str = "") -> None:
    """Raises UserError for the first real number of `config` that is outside its range."""
    for field in dataclasses.fields(config):
        value, among = getattr(config, field.name), field.metadata.get("range")
        if dataclasses.is_dataclass(value):
            check_ranges(value, f"{prefix}{field.name}.")
        elif among is not None and value not in among:
            raise UserError(f"{prefix}{field.name}={value} must be {among}")


def check_seed(name: str, seed: int) -> None:
    """Raises UserError for a seed that is not in 32 bits: JAX would make a key of other bits."""
    if not 0 <= seed < NUM_SEEDS:
        raise UserError(f"{name}={seed} must be a seed from 0 to {NUM_SEEDS - 1}: random keys are made of 32 bits")


def check_reading(config: Any, choices: tuple[str, ...] = OUTLIERS) -> None:
    if config.max_rows < 0:
        raise UserError(f"max_rows={config.max_rows} must be a number of rows, or 0 for all of them")
    if not (config.next_tolerance == -1.0 or 0.0 <= config.next_tolerance < 1.0):
        raise UserError(
            f"next_tolerance={config.next_tolerance} must lie between 0 and 1, or be -1 for flags alone; 0 takes the "
            "file's own precision"
        )
    if config.action_bounds != action_bounds.UNIT:
        action_bounds.parse(config.action_bounds)
    if config.outliers not in choices:
        raise UserError(f'outliers="{config.outliers}" is unknown; choose {", ".join(OUTLIERS[:-1])} or {OUTLIERS[-1]}')


def check_data(data: DataConfig) -> None:
    """Raises UserError for data settings that cannot work: windows, split, reading."""
    check_positive(data, "window_length", "window_stride")
    check_reading(data)
    check_seed("data.split_seed", data.split_seed)
    if data.window_length < 2:
        raise UserError(f"data.window_length={data.window_length} must be at least 2: a transition spans two rows")


def validate_denoiser(config: DenoiserConfig) -> None:
    """Raises UserError for settings that cannot work, before anything is read or written."""
    training = config.training
    check_positive(config.unet, "width", "num_blocks")
    check_data(config.data)
    check_seed("training.seed", training.seed)
    check_positive(training, "num_steps", "steps_per_chunk", "batch_size", "ema_period", "num_validation_windows")
    check_ranges(config)
    if training.steps_per_chunk % training.ema_period or training.num_steps % training.steps_per_chunk:
        raise UserError(
            f"training.num_steps={training.num_steps} must be a multiple of training.steps_per_chunk="
            f"{training.steps_per_chunk}, and that of training.ema_period={training.ema_period}"
        )


def validate_behaviour(config: BehaviourConfig) -> None:
    """Raises UserError for settings that cannot work, before anything is read or written."""
    check_ranges(config)
    check_seed("seed", config.seed)
    check_positive(config, "hidden_dim", "num_hidden", "num_steps", "steps_per_chunk", "batch_size")
    if config.num_steps % config.steps_per_chunk:
        raise UserError(f"num_steps={config.num_steps} must be a multiple of steps_per_chunk={config.steps_per_chunk}")
    if not config.denoiser:
        raise UserError("config.denoiser is empty: name the run directory of train_denoiser")


def validate_world_model(config: WorldModelConfig) -> None:
    """Raises UserError for settings that cannot work, before anything is read or written."""
    check_data(config.data)
    check_ranges(config)
    check_seed("seed", config.seed)
    check_positive(
        config, "num_members", "num_elites", "hidden_dim", "num_hidden", "num_steps", "steps_per_chunk", "batch_size"
    )
    if config.num_elites > config.num_members:
        raise UserError(f"num_elites={config.num_elites} must be at most num_members={config.num_members}")
    if config.num_steps % config.steps_per_chunk:
        raise UserError(f"num_steps={config.num_steps} must be a multiple of steps_per_chunk={config.steps_per_chunk}")


def validate_rollout(rollout: RolloutConfig) -> None:
    """Raises UserError for rollouts that cannot work."""
    check_positive(rollout, "horizon", "num_rollouts", "rollouts_per_batch")
    if rollout.num_rollouts % rollout.rollouts_per_batch:
        raise UserError(
            f"rollout.num_rollouts={rollout.num_rollouts} must be a multiple of rollout.rollouts_per_batch="
            f"{rollout.rollouts_per_batch}"
        )
    for name, known in (("uncertainty", UNCERTAINTIES), ("terminals", TERMINALS)):
        if (found := getattr(rollout, name)) not in known:
            raise UserError(f'rollout.{name}="{found}" is unknown; choose {" or ".join(known)}')


def validate_sampling(sampling: SamplingConfig) -> None:
    """Raises UserError for a sampling that cannot work."""
    check_positive(sampling, "num_steps", "num_trajectories", "trajectories_per_batch", "num_particles")
    for name, least in (("num_steps", sampling.num_steps), ("warm_steps", sampling.warm_steps or 2)):
        if least < 2:
            raise UserError(f"sampling.{name}={least} must be at least 2")
    if sampling.num_trajectories % sampling.trajectories_per_batch:
        raise UserError(
            f"sampling.num_trajectories={sampling.num_trajectories} must be a multiple of "
            f"sampling.trajectories_per_batch={sampling.trajectories_per_batch}"
        )
    if sampling.sampler == "twisted" and sampling.trajectories_per_batch % sampling.num_particles:
        raise UserError(
            f"sampling.trajectories_per_batch={sampling.trajectories_per_batch} must be a multiple of "
            f"sampling.num_particles={sampling.num_particles}, which the twisted sampler resamples among themselves"
        )


def check_networks(config: AgentConfig) -> None:
    """Raises UserError for sizes of an agent's networks that cannot work."""
    for name in ("hidden_dim", "num_hidden", "critic_hidden_dim", "critic_num_hidden", "num_critics"):
        if not 0 <= (found := getattr(config, name)) <= MOST:
            raise UserError(f"{name}={found} must be at least 1, or 0 for what the agent's paper has")
    if config.critic_norm not in ("", *CRITIC_NORMS):
        raise UserError(f'critic_norm="{config.critic_norm}" is unknown; choose {" or ".join(CRITIC_NORMS)}')


def validate_agent(config: AgentConfig) -> None:
    """Raises UserError for settings that cannot work, before anything is read or written."""
    check_positive(config, "num_phases", "phases_per_chunk", "updates_per_phase", "batch_size", "num_seeds")
    check_networks(config)
    if not 0 <= config.synthetic_per_batch <= config.batch_size:
        raise UserError(
            f"synthetic_per_batch={config.synthetic_per_batch} must lie between 0 and batch_size={config.batch_size}"
        )
    check_reading(config, ("", *OUTLIERS))
    for name in ("num_episodes", "host_episodes", "dynamics_windows"):
        if (found := getattr(config, name)) < 0:
            raise UserError(f"{name}={found} must be 0 or more")
    if config.host_episodes and config.environment == "none":
        raise UserError(f"host_episodes={config.host_episodes}, but environment=none switches evaluation off; set one")
    check_seed("first_seed", config.first_seed)
    check_seed("first_seed + num_seeds - 1", config.first_seed + config.num_seeds - 1)
    if config.num_phases % config.phases_per_chunk:
        raise UserError(
            f"num_phases={config.num_phases} must be a multiple of phases_per_chunk={config.phases_per_chunk}"
        )
    validate_sampling(config.sampling)
    validate_rollout(config.rollout)
