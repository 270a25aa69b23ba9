"""A policy that is not evaluated in every guided step: what is known of it is kept, to second order in the action."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pgd_jax.diffusion import guidance
from pgd_jax.types import Codec, Layout
from tests import oracles, quickly

LAYOUT = Layout(obs_dim=2, action_dim=2)
SHAPE = (6, 4, LAYOUT.dim)  # B, T, D
SIGMAS = oracles.karras(12)
STD, STRENGTH = 0.4, 3.0
policy = oracles.gaussian_policy(jnp.tanh, STD)


def squashed():
    return Codec(jnp.full(LAYOUT.dim, 0.2), jnp.full(LAYOUT.dim, 0.8), LAYOUT)


def plain():
    return oracles.plain_codec(LAYOUT, jnp.zeros(()).dtype)


def sampled(sampler, rule, log_prob, policy_every, modes=None, sigma_max=1e6, codec=plain):
    """In the precision that is enabled."""
    guided = guidance.guide(
        oracles.unit_denoise, log_prob, codec(), jnp.asarray(STRENGTH), 12, rule,
        hyper=guidance.Hyper(sigma_max=sigma_max), policy_every=policy_every, modes=modes,
    )  # fmt: skip
    return oracles.sample(sampler, jax.random.key(3), guided, jnp.asarray(SIGMAS), SHAPE)


@pytest.mark.parametrize("codec", [plain, squashed])
@pytest.mark.parametrize("rule", ["score", "proximal"])
def test_a_gaussian_policy_whose_mean_stands_still_loses_nothing(rule, codec):
    """Its log density is the quadratic that is kept, wherever the action has gone to since the first step."""
    still = oracles.gaussian_policy(lambda obs: jnp.full_like(obs, 0.5), STD)
    with jax.enable_x64(True):
        for sampler in ("heun", "dpmpp_2m_sde"):
            often, once = (
                quickly.jit(lambda k=k, name=sampler: sampled(name, rule, still, k, codec=codec))() for k in (1, 100)
            )
            np.testing.assert_allclose(once, often, atol=1e-9, err_msg=sampler)


@pytest.mark.parametrize("policy_every", [2, 5])
def test_a_kept_policy_has_the_mean_of_the_last_state_it_saw(policy_every):
    """Euler's steps and the proximal rule by hand, with the mean of the last evaluation."""
    with jax.enable_x64(True):
        found = quickly.jit(lambda: sampled("euler", "proximal", policy, policy_every))()
        x = np.asarray(oracles.start(jax.random.key(3), jnp.asarray(SIGMAS), SHAPE))
    evaluated = {2: (0, 1, 3, 5, 7, 9, 11), 5: (0, 1, 6, 11)}[policy_every]
    for step, (sigma, following) in enumerate(zip(SIGMAS[:-1], SIGMAS[1:], strict=True)):
        x0, v = x / (sigma**2 + 1.0), sigma**2 / (sigma**2 + 1.0)
        if step in evaluated:
            mean = np.tanh(x0[..., LAYOUT.obs])
        pull = STRENGTH * v / STD**2
        x0[..., LAYOUT.action] = (x0[..., LAYOUT.action] + pull * mean) / (1.0 + pull)
        x = x + (following - sigma) * (x - x0) / sigma
    np.testing.assert_allclose(found, x, atol=1e-10)


def test_modes_change_the_cost_and_not_the_samples():
    asked = []

    def counting(obs, action):
        jax.debug.callback(lambda: asked.append(1))
        return policy(obs, action)

    def run(modes):
        asked.clear()
        draw = quickly.jit(lambda: sampled("euler", "proximal", counting, 3, modes, sigma_max=10.0))
        x = np.asarray(draw())
        jax.effects_barrier()
        return x, len(asked)

    modes = guidance.modes_of((SIGMAS[:-1] <= 10.0)[None], 3)
    every, num_every = run(None)
    fewer, num_fewer = run(modes)
    np.testing.assert_allclose(fewer, every, atol=1e-5)
    assert num_fewer * 12 == num_every * modes.count(guidance.EVALUATED) and modes.count(guidance.EVALUATED) < 6


def test_modes_are_the_most_that_any_lane_needs():
    # Lanes that are guided in steps 1 to 7 and 4 to 6; every third step from the last, 7, is a turn: 1, 4 and 7.
    lanes = np.zeros((2, 8), bool)
    lanes[0, 1:8] = lanes[1, 4:7] = True
    none, evaluated, kept = guidance.UNGUIDED, guidance.EVALUATED, guidance.KEPT
    assert guidance.modes_of(lanes, 3) == (none, evaluated, kept, kept, evaluated, kept, kept, evaluated)
    lanes[1, 3] = True  # its first, which is not a turn
    assert guidance.modes_of(lanes, 3) == (none, evaluated, kept, evaluated, evaluated, kept, kept, evaluated)
    assert guidance.modes_of(lanes, 1) == (none, *[evaluated] * 7)


def test_a_lane_does_not_depend_on_what_others_need():
    """Lanes that begin elsewhere, under the modes of both; each is as it is alone."""
    tops = np.float32([1e6, 1.0])
    modes = guidance.modes_of(SIGMAS[:-1] <= tops[:, None], 4)

    def run(top, modes=None):
        return sampled("dpmpp_2m_sde", "proximal", policy, 4, modes, sigma_max=top)

    alone = [quickly.jit(run)(top) for top in tops]
    together = quickly.jit(jax.vmap(lambda top: run(top, modes)))(tops)
    np.testing.assert_allclose(together, np.stack(alone), atol=1e-5)
    assert np.abs(alone[0] - alone[1]).max() > 0.1
