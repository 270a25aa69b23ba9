"""Named settings: each of them can work, with every agent and on real data alone."""

import dataclasses

import pytest

from pgd_jax.agents.base import AGENTS, AgentPlan
from pgd_jax.core import config as configs, hyper as floats, presets, validation
from pgd_jax.core.errors import UserError
from pgd_jax.generators import settings
from pgd_jax.runs import experiment, source
from pgd_jax.train import lanes

TABLES = ("WEIGHTS", "FLOATS", "TEMPERATURES", "NUM_CRITICS", "CRITICS")  # by dataset, as presets call them
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
    validation.validate_agent(complete)
    experiment.check_generator(complete)
    assert list(floats.flatten(complete.hyper)) == known


def test_a_denoiser_s_settings_are_valid():
    for name in presets.names():
        if hasattr(presets.load(name), "denoiser"):
            validation.validate_denoiser(presets.config(name, "denoiser"))


def test_guidance_of_real_data_alone_is_refused():
    config = configs.AgentConfig(synthetic_per_batch=0, hyper={"guidance_coefficient": 1.0})
    with pytest.raises(UserError, match="hyper.guidance_coefficient is of the generator, but synthetic_per_batch=0"):
        experiment.complete(config)


def test_an_unknown_preset_or_half_is_refused():
    with pytest.raises(UserError, match='unknown preset "papr"; did you mean "paper"'):
        presets.load("papr")
    with pytest.raises(UserError, match='preset "real_hopper" has no denoiser settings'):
        presets.config("real_hopper", "denoiser")


def test_the_paper_s_rule_says_what_else_the_paper_has():
    paper = presets.config("paper", "agent")
    hypers = lanes.build(experiment.hyper_of(paper), paper.hyper, 1, 0).hypers.generator
    assert settings.unlike_published(paper.sampling, hypers) == ""
    default = configs.SamplingConfig(guidance="paper")
    found = settings.unlike_published(default, settings.Hyper())
    assert "sigma_max 20.0 (80.0)" in found and "guidance.sigma_max 2.0 (" in found and "sampler dpmpp_2m" in found
    assert settings.unlike_published(dataclasses.replace(default, guidance="proximal"), settings.Hyper()) == ""


def test_the_paper_s_preset_trains_as_long_as_the_reference():
    """1 M train steps, each one update of the actor and two of the critics: an update here is one of the critics."""
    paper = presets.config("paper", "agent")
    agent = AGENTS.get(paper.agent).build(3, 1, AgentPlan(8, 1))
    assert paper.num_phases * paper.updates_per_phase == 1_000_000 * agent.batches_per_update
    assert paper.updates_per_phase == 10_000 * agent.batches_per_update


def test_a_dataset_s_name_picks_the_published_values():
    def of(preset, dataset):
        return presets.config(preset, "agent", dataset)

    assert of("rebrac_d4rl", "hopper-medium-replay-v2").hyper["agent"] == {"actor_bc": 0.05, "critic_bc": 0.5}
    maze = of("rebrac_d4rl", "maze2d-umaze-waypoint-v0")
    assert maze.batch_size == 256 and maze.hyper["agent"]["critic_lr"] == 3e-4
    assert of("rebrac_d4rl", "").hyper == {} and of("quickstart", "hopper-medium-v2") == of("quickstart", "")
    assert of("awac_d4rl", "maze2d-large-v1").hyper["agent"]["temperature"] == 0.1
    assert of("awac_d4rl", "hopper-expert-v2").hyper["agent"]["temperature"] == pytest.approx(1 / 3)
    assert of("iql_d4rl", "antmaze-umaze-v2").hyper["reward_shift"] == -1.0
    assert of("iql_d4rl", "hopper-medium-v2").hyper["return_range"] == 1000.0
    arm = of("rebrac_ogbench", "ogbench:cube-double-play-singletask-task3-v0").hyper["agent"]
    assert (arm["actor_bc"], arm["critic_bc"], arm["actor_lr"]) == (0.1, 0.0, 3e-4) and "discount" not in arm
    maze = of("rebrac_ogbench", "ogbench:humanoidmaze-large-navigate-singletask-v0").hyper["agent"]
    assert (maze["actor_bc"], maze["discount"]) == (0.01, 0.995)
    assert "discount" not in of("rebrac_ogbench", "ogbench:antmaze-large-stitch-singletask-v0").hyper["agent"]
    assert of("rebrac_ogbench", "ogbench:antmaze-giant-stitch-singletask-v0").hyper["agent"]["discount"] == 0.995
    with pytest.raises(UserError, match='"rebrac_ogbench" has no values for dataset "cube-triple-v0"; it knows antm'):
        of("rebrac_ogbench", "ogbench:cube-triple-play-singletask-v0")
    assert (
        of("sac_n_d4rl", "hopper-medium-v2").num_critics == 500
        and of("sac_n_d4rl", "maze2d-umaze-v1").num_critics == 25
    )
    edac = of("edac_d4rl", "walker2d-medium-expert-v2")
    assert edac.num_critics == 10 and edac.hyper["agent"] == {"diversity": 5.0}
    assert of("cql_d4rl", "hopper-medium-v2").hyper == {"conservatism": 10.0, "return_range": 1000.0}
    with pytest.raises(UserError, match='"rebrac_d4rl" has no values for dataset "hopper-expert-v2"; it knows half'):
        of("rebrac_d4rl", "hopper-expert-v2")


@pytest.mark.parametrize("name", [name for name in CONFIGURED if hasattr(presets.load(name), "agent_of")])
def test_every_published_value_is_a_float_of_the_agent(name):
    module = presets.load(name)
    for dataset in next(getattr(module, table) for table in TABLES if hasattr(module, table)):
        experiment.complete(module.agent_of(f"{dataset}-v2"))


def test_a_command_s_dataset_is_known_by_its_file():
    assert source.dataset_of({"dataset": "there/hopper_medium_replay-v2.hdf5"}) == "hopper-medium-replay-v2"
    assert source.dataset_of({"dataset": "walker2d-medium-v2"}) == "walker2d-medium-v2"
    assert source.dataset_of({"dataset": "mine.hdf5", "denoiser": ""}) == "mine.hdf5"
    assert source.dataset_of({"dataset": "", "denoiser": ""}) == ""
