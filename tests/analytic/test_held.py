"""A policy that is held below a noise level: what its last evaluation says is kept, to second order in the action."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pgd_jax.diffusion import guidance, samplers
from pgd_jax.types import Codec, Layout
from tests import oracles

LAYOUT = Layout(obs_dim=2, action_dim=2)
SHAPE = (6, 4, LAYOUT.dim)  # B, T, D
SIGMAS = oracles.karras(12)
STD, STRENGTH = 0.4, 3.0
NEVER, ALWAYS = 0.0, 1e6
policy = oracles.gaussian_policy(jnp.tanh, STD)


def squashed():
    return Codec(jnp.full(LAYOUT.dim, 0.2), jnp.full(LAYOUT.dim, 0.8), LAYOUT)


def plain():
    return oracles.plain_codec(LAYOUT, jnp.zeros(()).dtype)


def sampled(sampler, rule, log_prob, sigma_hold, steps=None, sigma_max=1e6, codec=plain):
    """In the precision that is enabled."""
    hyper = guidance.Hyper(sigma_hold=sigma_hold, sigma_max=sigma_max)
    guided = guidance.guide(
        oracles.unit_denoise, log_prob, codec(), jnp.asarray(STRENGTH), 12, rule, hyper=hyper, guided_steps=steps
    )
    return oracles.sample(sampler, jax.random.key(3), guided, jnp.asarray(SIGMAS), SHAPE)


@pytest.mark.parametrize("codec", [plain, squashed])
@pytest.mark.parametrize("rule", ["score", "proximal"])
def test_a_gaussian_policy_whose_mean_stands_still_loses_nothing(rule, codec):
    """Its log density is the quadratic that is kept, wherever the action has gone to since the first step."""
    still = oracles.gaussian_policy(lambda obs: jnp.full_like(obs, 0.5), STD)
    with jax.enable_x64(True):
        for sampler in sorted(set(samplers.SAMPLERS) - {"twisted"}):
            run = oracles.quick_jit(lambda hold, sampler=sampler: sampled(sampler, rule, still, hold, codec=codec))
            np.testing.assert_allclose(run(ALWAYS), run(NEVER), atol=1e-9, err_msg=sampler)


@pytest.mark.parametrize("sigma_hold", [NEVER, 0.5, ALWAYS])
def test_a_held_policy_keeps_the_mean_of_the_last_state_it_saw(sigma_hold):
    """Euler's steps and the proximal rule by hand, with the mean of the last evaluation."""
    with jax.enable_x64(True):
        found = oracles.quick_jit(lambda hold: sampled("euler", "proximal", policy, hold))(sigma_hold)
        x = np.asarray(oracles.start(jax.random.key(3), jnp.asarray(SIGMAS), SHAPE))
    mean, action = None, LAYOUT.action
    for sigma, following in zip(SIGMAS[:-1], SIGMAS[1:], strict=True):
        x0, v = x / (sigma**2 + 1.0), sigma**2 / (sigma**2 + 1.0)
        if sigma > sigma_hold or mean is None:
            mean = np.tanh(x0[..., LAYOUT.obs])
        pull = STRENGTH * v / STD**2
        x0[..., action] = (x0[..., action] + pull * mean) / (1.0 + pull)
        x = x + (following - sigma) * (x - x0) / sigma
    np.testing.assert_allclose(found, x, atol=1e-10)


def test_static_steps_change_the_cost_and_not_the_samples():
    asked = []

    def counting(obs, action):
        jax.debug.callback(lambda: asked.append(1))
        return policy(obs, action)

    def run(steps):
        asked.clear()
        draw = oracles.quick_jit(lambda: sampled("euler", "proximal", counting, 0.5, steps, sigma_max=10.0))
        x = np.asarray(draw())
        jax.effects_barrier()
        return x, len(asked)

    first, held = int(np.sum(SIGMAS > 10.0)), int(np.sum(SIGMAS > 0.5))
    every, num_every = run(None)
    fewer, num_fewer = run(guidance.GuidedSteps(first, held, 12))
    np.testing.assert_allclose(fewer, every, atol=1e-5)
    assert num_fewer * 12 == num_every * (held - first) and 0 < held - first < 12


def test_a_lane_does_not_depend_on_where_others_hold():
    """Lanes that begin and hold elsewhere, under steps that are the union of theirs; each is as it is alone."""
    tops, holds = np.float32([1e6, 1.0]), np.float32([0.1, 5.0])

    def run(top, hold):
        return sampled("dpmpp_2m_sde", "proximal", policy, hold, sigma_max=top)

    last = max(int(np.sum(SIGMAS > 0.1)), int(np.sum(SIGMAS > 1.0)) + 1)
    steps = guidance.GuidedSteps(0, last, 12)

    def together(top, hold):
        return sampled("dpmpp_2m_sde", "proximal", policy, hold, steps, sigma_max=top)

    alone = [oracles.quick_jit(run)(top, hold) for top, hold in zip(tops, holds, strict=True)]
    np.testing.assert_allclose(oracles.quick_jit(jax.vmap(together))(tops, holds), np.stack(alone), atol=1e-5)
    assert np.abs(alone[0] - alone[1]).max() > 0.1
