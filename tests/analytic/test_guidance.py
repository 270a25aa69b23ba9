"""Guidance against closed forms: Gaussian data, Gaussian policy (method: tilting a Gaussian by a Gaussian)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pgd_jax.data import codec as codecs
from pgd_jax.diffusion import guidance, samplers, schedules
from pgd_jax.types import Codec, Layout
from tests import oracles

LAYOUT = Layout(obs_dim=2, action_dim=2)
SHAPE = (4, LAYOUT.dim)  # T, D
PLAIN = Codec(jnp.zeros(LAYOUT.dim), jnp.ones(LAYOUT.dim), LAYOUT, squash=False)
MEAN, STD = jnp.array([0.9, -0.4]), 0.4


def constant_policy(obs, action):
    del obs
    deviation = (action - jnp.broadcast_to(MEAN, action.shape)) / STD
    return -0.5 * jnp.sum(deviation**2, axis=-1)


def linear_policy(obs, action):
    return -0.5 * jnp.sum(((action - jnp.tanh(obs)) / STD) ** 2, axis=-1)


def sample(rule, coefficient, num_steps=128, count=2_000, policy=constant_policy, codec=PLAIN, key=None):
    world = oracles.unit_world(SHAPE)
    guided = guidance.guide(world.denoise, policy, codec, jnp.float32(coefficient), num_steps, rule)
    run = jax.jit(
        lambda key: samplers.SAMPLERS.get("heun").sample(
            key, guided.denoise, schedules.karras(num_steps), (count, *SHAPE), None, guided.shift
        )
    )
    return np.asarray(run(jax.random.key(3) if key is None else key))


@pytest.mark.parametrize("coefficient", [0.0, 0.1, 0.7, 5.0, 1_000.0])
def test_proximal_denoiser_is_the_exact_posterior_mean(coefficient, key):
    # Precision-weighted mean of the observation (1/s^2), the unit prior (1, mean 0) and the policy (lambda/sp^2, mean
    # c).
    world, x = oracles.unit_world(SHAPE), 3.0 * jax.random.normal(key, (16, *SHAPE))
    for sigma in (0.01, 0.5, 3.0, 80.0):
        s, weight = jnp.float32(sigma), coefficient / STD**2
        guided = guidance.guide(world.denoise, constant_policy, PLAIN, jnp.float32(coefficient), 1, "proximal")
        expected = (x[..., LAYOUT.action] / s**2 + weight * MEAN.reshape(1, 1, 2)) / (1.0 / s**2 + 1.0 + weight)
        np.testing.assert_allclose(guided.denoise(x, s)[..., LAYOUT.action], expected, rtol=1e-3, atol=1e-5)
        np.testing.assert_array_equal(guided.denoise(x, s)[..., LAYOUT.obs], world.denoise(x, s)[..., LAYOUT.obs])


def test_proximal_samples_follow_the_tilted_gaussian():
    coefficient = 0.7
    precision = 1.0 + coefficient / STD**2  # 5.375: variance 0.186
    x = sample("proximal", coefficient)[..., LAYOUT.action].reshape(-1, 2)  # 8,000 actions
    # Standard errors: sqrt(0.186 / 8,000) = 0.005 of the mean, 0.186 sqrt(2 / 8,000) = 0.003 of the variance.
    np.testing.assert_allclose(x.mean(0), coefficient / STD**2 * MEAN / precision, atol=0.02)
    np.testing.assert_allclose(x.var(0), 1.0 / precision, atol=0.012)


def test_score_is_right_to_first_order_in_lambda():
    # Everything is linear in the starting noise: regressing guided on unguided samples (same key) gives the mean
    # exactly.
    free = sample("score", 0.0, 256)[..., 2].ravel()
    errors = []
    for coefficient in (0.04, 0.02, 0.01):
        mean = np.polyfit(free, sample("score", coefficient, 256)[..., 2].ravel(), 1)[1]
        weight = coefficient / STD**2
        exact = weight * 0.9 / (1.0 + weight)
        errors.append(abs(mean - exact) / exact)
    # A relative error of order lambda: it halves with lambda, and the leading term itself is right.
    assert errors[2] < 0.05
    np.testing.assert_allclose([errors[0] / errors[1], errors[1] / errors[2]], 2.0, atol=0.4)


@pytest.mark.parametrize("rule", guidance.GUIDANCE.names())
@pytest.mark.parametrize("squash", [False, True])
def test_coefficient_zero_is_unguided_bit_for_bit(rule, squash):
    codec = PLAIN.replace(squash=squash)
    world, key = oracles.unit_world(SHAPE), jax.random.key(3)
    unguided = jax.jit(
        lambda key: samplers.SAMPLERS.get("heun").sample(key, world.denoise, schedules.karras(16), (64, *SHAPE))
    )(key)
    np.testing.assert_array_equal(sample(rule, 0.0, 16, 64, linear_policy, codec, key), unguided)


@pytest.mark.parametrize("rule", guidance.GUIDANCE.names())
def test_zero_gradient_and_extreme_policies_stay_finite(rule):
    def flat(obs, action):
        return jnp.zeros(action.shape[:-1]) * jnp.sum(obs)

    squashed = PLAIN.replace(squash=True)
    np.testing.assert_array_equal(sample(rule, 1.0, 8, 16, flat), sample(rule, 0.0, 8, 16, flat))

    def at_the_bound(obs, action):
        return -0.5 * jnp.sum(((action - jnp.sign(obs)) / 0.05) ** 2, axis=-1)

    assert np.all(np.isfinite(sample(rule, 1.0, 8, 16, at_the_bound, squashed)))


@pytest.mark.parametrize("coefficient", [10.0, 1_000.0])
def test_proximal_is_stable_where_the_policy_is_sharp(coefficient):
    def sharp(obs, action):
        return -0.5 * jnp.sum(((action - jnp.sign(obs)) / 1e-3) ** 2, axis=-1)

    assert np.all(np.abs(sample("proximal", coefficient, 16, 16, sharp)) < 10.0)


def test_tilt_through_tanh_by_hand():
    # One action dimension at network value u, pre-tanh p = 0.5 u + 0.1, a = tanh(p), da/du = 0.5 (1 - a^2).
    # log pi = -(a - c)^2 / (2 sp^2): g = da/du (c - a) / sp^2, Gauss-Newton curvature h = (da/du)^2 / sp^2.
    layout = Layout(1, 1)
    codec = Codec(jnp.array([0.0, 0.1, 0.0, 0.0]), jnp.array([1.0, 0.5, 1.0, 1.0]), layout)
    u, c, sp = 0.8, -0.2, 0.3
    a = np.tanh(0.5 * u + 0.1)
    slope = 0.5 * (1 - a**2)
    x = jnp.array([[[0.0, u, 0.0, 0.0]]])
    tilt = guidance.tilt(lambda obs, action: -0.5 * jnp.sum((action - c) ** 2, -1) / sp**2, codec, x)
    assert float(tilt.gradient[0, 0, 0]) == pytest.approx(slope * (c - a) / sp**2, rel=1e-5)
    assert float(tilt.curvature[0, 0, 0]) == pytest.approx(slope**2 / sp**2, rel=1e-5)
    assert float(codecs.decode_action(codec, x[..., layout.action])[0, 0, 0]) == pytest.approx(a, rel=1e-5)


def test_diagonal_curvature_of_a_correlated_policy():
    # Precision [[3, 1], [1, 2]]: the diagonal is (3, 2), not its row sums (4, 3).
    precision = jnp.array([[3.0, 1.0], [1.0, 2.0]])

    def correlated(obs, a):
        return -0.5 * jnp.einsum("...i,ij,...j->...", a, precision, a)

    tilt = guidance.tilt(correlated, PLAIN, jnp.zeros((1, *SHAPE)))
    np.testing.assert_allclose(tilt.curvature[0, 0], [3.0, 2.0], rtol=1e-6)


def test_paper_rule_by_hand(key):
    # Constant gradient direction: with log pi = w . a, g = w in every row, normalised over the window's [T, A] block.
    w = jnp.array([3.0, 4.0])
    world, num_steps, coefficient = oracles.unit_world(SHAPE), 4, 0.5
    guided = guidance.guide(world.denoise, lambda obs, a: a @ w, PLAIN, jnp.float32(coefficient), num_steps, "paper")
    x = jax.random.normal(key, (3, *SHAPE))
    for n in range(num_steps):
        # n = 0: 1 + 0.3 sin(pi/4); n = 1: 0.75 + 0.3; n = 2: 0.5 + 0.3 sin(3 pi/4); n = 3: the last step, 0.
        strength = [1 + 0.3 * np.sqrt(0.5), 1.05, 0.5 + 0.3 * np.sqrt(0.5), 0.0][n] * coefficient
        moved = guided.shift(x, jnp.float32(1.0), jnp.int32(n))
        # ||g|| over T = 4 rows of norm 5 is 10.
        np.testing.assert_allclose(
            (moved - x)[..., LAYOUT.action], jnp.broadcast_to(strength * w / 10.0, (3, 4, 2)), atol=1e-6
        )
        np.testing.assert_array_equal(moved[..., LAYOUT.obs], x[..., LAYOUT.obs])
