import dataclasses
import json

import pytest

from pgd_jax.core import config as configs, validation
from pgd_jax.core.config import (
    AgentConfig,
    BehaviourConfig,
    DataConfig,
    DenoiserConfig,
    SamplingConfig,
    TrainingConfig,
    UNetConfig,
)
from pgd_jax.core.errors import UserError


@pytest.mark.parametrize(
    "config",
    [
        DenoiserConfig(DataConfig(dataset="x.hdf5"), UNetConfig(width=64), TrainingConfig(learning_rate=1e-4)),
        AgentConfig(denoiser="runs/x", sampling=SamplingConfig(sampler="euler", num_steps=8), hyper={"agent.alpha": 1}),
    ],
)
def test_a_config_survives_json(config):
    stored = json.loads(json.dumps(configs.to_dict(config)))
    assert configs.from_dict(type(config), stored) == config


def test_missing_settings_take_their_defaults():
    expected = AgentConfig(sampling=SamplingConfig(num_steps=8))
    assert configs.from_dict(AgentConfig, {"sampling": {"num_steps": 8}}) == expected


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_phase": 3}, 'unknown setting "num_phase"; did you mean "num_phases"?'),
        ({"sampling": {"samplr": "heun"}}, 'unknown setting "sampling.samplr"; did you mean "sampler"?'),
    ],
)
def test_unknown_settings_name_the_nearest(values, message):
    with pytest.raises(UserError) as error:
        configs.from_dict(AgentConfig, values)
    assert str(error.value) == message


def test_every_setting_has_a_help_text():
    for cls in (DataConfig, UNetConfig, TrainingConfig, BehaviourConfig, SamplingConfig, AgentConfig):
        for field in dataclasses.fields(cls):
            assert dataclasses.is_dataclass(field.type) or field.metadata["help"]


def test_the_defaults_are_valid():
    validation.validate_denoiser(DenoiserConfig())
    validation.validate_behaviour(BehaviourConfig(denoiser="runs/x"))
    validation.validate_agent(AgentConfig(denoiser="runs/x"))
    validation.validate_agent(AgentConfig(synthetic_per_batch=0))


def test_two_rows_a_window_and_one_phase_are_enough():
    validation.validate_denoiser(DenoiserConfig(data=DataConfig(window_length=2, window_stride=1)))
    validation.validate_agent(AgentConfig(denoiser="x", num_phases=1, batch_size=1, synthetic_per_batch=1))


DENOISER = [
    (dict(data=dict(window_length=1)), "window_length=1 must be at least 2: a transition spans two rows"),
    (dict(data=dict(window_length=0)), "window_length=0 must be at least 1"),
    (dict(data=dict(window_stride=0)), "window_stride=0 must be at least 1"),
    (dict(data=dict(validation_fraction=0.0)), "validation_fraction=0.0 must be above 0, below 1"),
    (dict(data=dict(validation_fraction=1.0)), "validation_fraction=1.0 must be above 0, below 1"),
    (dict(unet=dict(width=0)), "width=0 must be at least 1"),
    (dict(unet=dict(num_blocks=-1)), "num_blocks=-1 must be at least 1"),
    (dict(training=dict(batch_size=0)), "batch_size=0 must be at least 1"),
    (dict(training=dict(steps_per_chunk=1_005)), "num_steps=20000 must be a multiple of training.steps_per_chunk=1005"),
    (dict(training=dict(ema_period=3)), "steps_per_chunk=1000, and that of training.ema_period=3"),
    (dict(training=dict(num_steps=500)), "training.num_steps=500 must be a multiple of training.steps_per_chunk=1000"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "message"), DENOISER)
def test_denoiser_settings_that_cannot_work(changes, message):
    with pytest.raises(UserError) as error:
        validation.validate_denoiser(configs.from_dict(DenoiserConfig, changes))
    assert message in str(error.value)


BEHAVIOUR = [
    (dict(denoiser=""), "config.denoiser is empty: name the run directory of train_denoiser"),
    (dict(steps_per_chunk=300), "num_steps=20000 must be a multiple of steps_per_chunk=300"),
    (dict(num_hidden=0), "num_hidden=0 must be at least 1"),
    (dict(batch_size=0), "batch_size=0 must be at least 1"),
]


@pytest.mark.parametrize(("changes", "message"), BEHAVIOUR)
def test_behaviour_settings_that_cannot_work(changes, message):
    with pytest.raises(UserError) as error:
        validation.validate_behaviour(configs.from_dict(BehaviourConfig, {"denoiser": "runs/x"} | changes))
    assert message in str(error.value)


AGENT = [
    (dict(num_seeds=0), "num_seeds=0 must be at least 1"),
    (dict(hidden_dim=-1), "hidden_dim=-1 must be at least 1, or 0 for what the agent's paper has"),
    (dict(critic_norm="batch"), 'critic_norm="batch" is unknown; choose none or layer'),
    (dict(synthetic_per_batch=-1), "synthetic_per_batch=-1 must lie between 0 and batch_size=256"),
    (dict(synthetic_per_batch=257), "synthetic_per_batch=257 must lie between 0 and batch_size=256"),
    (dict(num_phases=10, phases_per_chunk=3), "num_phases=10 must be a multiple of phases_per_chunk=3"),
    (dict(sampling=dict(num_steps=1)), "sampling.num_steps=1 must be at least 2"),
    (dict(sampling=dict(num_steps=0)), "num_steps=0 must be at least 1"),
    (dict(sampling=dict(num_trajectories=100)), "=100 must be a multiple of sampling.trajectories_per_batch=512"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "message"), AGENT)
def test_agent_settings_that_cannot_work(changes, message):
    with pytest.raises(UserError) as error:
        validation.validate_agent(configs.from_dict(AgentConfig, {"denoiser": "runs/x"} | changes))
    assert message in str(error.value)
