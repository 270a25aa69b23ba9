"""Settings that make no sense are refused, by name, before anything is read."""

import math

import pytest

from pgd_jax.core import config as configs, hyper as floats, ranges, validation
from pgd_jax.core.config import AgentConfig, DenoiserConfig
from pgd_jax.core.errors import UserError
from pgd_jax.generators import diffusion
from pgd_jax.runs import experiment


@pytest.mark.parametrize(
    ("among", "inside", "outside", "words"),
    [
        (ranges.ANY, [0.0, -3e38], [math.nan, math.inf, 1e39], "a number that float32 can hold"),
        (ranges.POSITIVE, [1e-9], [0.0, -1.0, math.inf], "above 0"),
        (ranges.NOT_NEGATIVE, [0.0, 5.0], [-1e-9], "0 or more"),
        (ranges.SHARE, [0.0, 1.0], [-0.1, 1.1], "from 0 to 1"),
        (ranges.SHARE_ABOVE_0, [1.0], [0.0], "above 0, at most 1"),
        (ranges.SHARE_BELOW_1, [0.0], [1.0, 2.0], "from 0, below 1"),
        (ranges.WITHIN_0_AND_1, [0.5], [0.0, 1.0], "above 0, below 1"),
    ],
)
def test_a_range_holds_what_it_says(among, inside, outside, words):
    assert all(value in among for value in inside) and not any(value in among for value in outside)
    assert str(among) == words and "0.5" not in among


DENOISER = [
    ("training", "learning_rate", [-1.0, 0.0, math.nan, math.inf]),
    ("training", "ema_decay", [2.0, 1.0, -0.1, math.nan]),
    ("training", "noise_std", [0.0, -1.0, math.nan]),
    ("training", "noise_mean", [math.nan, 1e9]),
    ("training", "num_steps", [10**30, 2**31, 0]),
    ("data", "validation_fraction", [0.0, 1.0, math.nan]),
    ("data", "next_tolerance", [-0.5, 2.0, math.nan]),
    ("data", "outliers", ["remove", ""]),
]


@pytest.mark.parametrize(("part", "name", "value"), [(p, n, v) for p, n, each in DENOISER for v in each])
def test_a_denoiser_s_settings(part, name, value):
    changed = configs.to_dict(DenoiserConfig())
    changed[part][name] = value
    with pytest.raises(UserError, match=rf"{name}=.*{'unknown' if name == 'outliers' else 'must'}"):
        validation.validate_denoiser(configs.from_dict(DenoiserConfig, changed))


AGENT = [
    {"discount": 2.0}, {"discount": -1.0}, {"alpha": -1.0}, {"critic_lr": 0.0}, {"polyak": 0.0}, {"target_noise": -0.1},
    {"guidance_coefficient": -1.0}, {"guided_share": 1.5}, {"rho": 0.0}, {"sigma_min": 0.0}, {"sigma_min": -1.0},
    {"noise.eta": -1.0}, {"reward_scale": 0.0}, {"alpha": 1e39}, {"alpha": math.nan}, {"alpha": (1.0, 2.0, 1.0)},
    {"alpha": (1.0, 1.0 + 1e-9)}, {"guidance_coefficient": (0.0, -0.0)},
]  # fmt: skip


@pytest.mark.parametrize("hyper", AGENT, ids=str)
def test_an_agent_s_floats(hyper):
    with pytest.raises(UserError, match=rf"hyper\.{next(iter(hyper))}=.*(must be|has a value twice)"):
        experiment.complete(AgentConfig(denoiser="x", hyper=hyper))


PAIRS = [
    {"sigma_min": 3.0, "sigma_max": 2.0}, {"sigma_min": 2.0, "sigma_max": 2.0}, {"sigma_max": (20.0, 0.005)},
    {"guidance.sigma_min": 5.0}, {"guidance.sigma_min": 2.0, "guidance.sigma_max": 1.0},
    {"guidance.sigma_max": 0.005}, {"guidance.sigma_min": 30.0, "guidance.sigma_max": 50.0},
    {"noise.churn_min": 60.0},
]  # fmt: skip


@pytest.mark.parametrize("hyper", PAIRS, ids=str)
def test_floats_that_do_not_go_together_are_refused_before_the_denoiser_is_read(hyper):
    with pytest.raises(UserError, match=r"hyper\.generator: .*=.* and .*=.*: the first must be below the second"):
        experiment.assemble(AgentConfig(denoiser="is not there", hyper=hyper))


def test_help_says_the_range():
    texts = {name: text for name, _, text in floats.described(diffusion.Hyper())}
    assert texts["guided_share"].endswith("(from 0 to 1)") and texts["rho"].endswith("(above 0)")
