"""Named settings: each of them can work, with every agent and on real data alone."""

import dataclasses

import pytest

from pgd_jax.agents.base import AGENTS
from pgd_jax.core import config as configs, hyper as floats, presets
from pgd_jax.core.errors import UserError
from pgd_jax.runs import experiment

CONFIGURED = [name for name in presets.names() if hasattr(presets.load(name), "agent")]


@pytest.mark.parametrize("agent", list(AGENTS))
@pytest.mark.parametrize("has_synthetic", [True, False])
@pytest.mark.parametrize("name", CONFIGURED)
def test_an_agent_s_settings_are_valid_and_its_floats_are_known(name, has_synthetic, agent):
    preset = presets.config(name, "agent")
    chosen = dataclasses.replace(preset, agent=agent, denoiser="runs/x")
    if not has_synthetic:
        chosen = dataclasses.replace(chosen, synthetic_per_batch=0)
    known = floats.names(experiment.hyper_of(chosen))
    complete = experiment.complete(dataclasses.replace(chosen, hyper=floats.applicable(preset.hyper, known)))
    configs.validate_agent(complete)
    experiment.check_generator(complete)
    assert list(floats.flatten(complete.hyper)) == known


def test_a_denoiser_s_settings_are_valid():
    for name in presets.names():
        if hasattr(presets.load(name), "denoiser"):
            configs.validate_denoiser(presets.config(name, "denoiser"))


def test_guidance_of_real_data_alone_is_refused():
    config = configs.AgentConfig(synthetic_per_batch=0, hyper={"guidance_coefficient": 1.0})
    with pytest.raises(UserError, match="hyper.guidance_coefficient is of the generator, but synthetic_per_batch=0"):
        experiment.complete(config)


def test_an_unknown_preset_or_half_is_refused():
    with pytest.raises(UserError, match='unknown preset "papr"; did you mean "paper"'):
        presets.load("papr")
    with pytest.raises(UserError, match='preset "real_hopper" has no denoiser settings'):
        presets.config("real_hopper", "denoiser")
