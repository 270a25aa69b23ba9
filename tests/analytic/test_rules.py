"""Score and proximal, the rules that move actions by their own derivatives, against closed forms in Gaussian worlds."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate

from pgd_jax.core.types import Layout, Normalizer
from tests import oracles, quickly

LAYOUT = Layout(obs_dim=2, action_dim=2)
SHAPE = (2, LAYOUT.dim)  # T, D
DIM = SHAPE[0] * SHAPE[1]
ACTIONS = np.array([2, 3, 8, 9])  # of a flattened window
MEAN, STD = np.array([0.9, -0.4]), 0.4


def constant_policy(obs, action):
    return oracles.gaussian_policy(lambda obs: jnp.asarray(MEAN, obs.dtype).reshape(1, 1, 2), STD)(obs, action)


def guide(rule, coefficient, policy=constant_policy, normalizer=None, dtype=jnp.float64):
    """The rule in a unit world."""
    normalizer = oracles.plain_normalizer(LAYOUT, dtype) if normalizer is None else normalizer
    return oracles.guide(oracles.unit_denoise, policy, normalizer, jnp.asarray(coefficient, dtype), 1, rule)


@functools.cache
def proximal():
    """(x, sigma, lambda) -> (the guided and the unguided denoiser's windows)."""

    def run(x, sigma, coefficient):
        return guide("proximal", coefficient, dtype=jnp.float32).denoised(x, sigma), oracles.unit_denoise(x, sigma)

    return quickly.jit(run)


@pytest.mark.parametrize("coefficient", [0.0, 0.1, 0.7, 5.0, 1_000.0])
def test_proximal_denoiser_is_the_exact_posterior_mean(coefficient):
    # Precision-weighted mean of the observation (1/s^2), the unit prior (1, mean 0) and the policy (lambda/sp^2, mean
    # c).
    x = 3.0 * np.random.default_rng(0).normal(size=(16, *SHAPE)).astype(np.float32)
    for sigma in (0.01, 0.5, 3.0, 80.0):
        s, weight = np.float32(sigma), coefficient / STD**2
        expected = (x[..., LAYOUT.action] / s**2 + weight * MEAN) / (1.0 / s**2 + 1.0 + weight)
        found, unguided = map(np.asarray, proximal()(x, s, np.float32(coefficient)))
        np.testing.assert_allclose(found[..., LAYOUT.action], expected, rtol=1e-3, atol=1e-5)
        np.testing.assert_array_equal(found[..., LAYOUT.obs], unguided[..., LAYOUT.obs])


@pytest.mark.parametrize("coefficient", [0.7, 30.0])
def test_proximal_samples_follow_the_tilted_gaussian(coefficient):
    precision = 1.0 + coefficient / STD**2  # 5.375: variance 0.186
    with jax.enable_x64(True):
        mean, covariance = oracles.affine_moments("heun", guide("proximal", coefficient), oracles.karras(128), SHAPE)
    # The start is that of noised data of mean 0: 1 / 80 of the mean is missing.
    np.testing.assert_allclose(mean[ACTIONS], np.tile(coefficient / STD**2 * MEAN / precision, 2), atol=0.01)
    np.testing.assert_allclose(covariance[ACTIONS][:, ACTIONS], np.eye(4) / precision, atol=2e-3)
    np.testing.assert_allclose(np.delete(np.diag(covariance), ACTIONS), 1.0, atol=2e-3)


def test_score_is_right_to_first_order_in_lambda():
    errors = []
    with jax.enable_x64(True):
        for coefficient in (0.04, 0.02, 0.01):
            sigmas = oracles.karras(128, 2_000.0)  # of a finite first level, 1 / s_0 of the mean is missing
            mean = oracles.affine_moments("heun", guide("score", coefficient), sigmas, SHAPE)[0][2]
            weight = coefficient / STD**2
            exact = weight * 0.9 / (1.0 + weight)
            errors.append(abs(mean - exact) / exact)
    # A relative error of order lambda: it halves with lambda, and the leading term itself is right.
    assert errors[2] < 0.05
    np.testing.assert_allclose([errors[0] / errors[1], errors[1] / errors[2]], 2.0, atol=0.2)


def test_proximal_is_stable_where_the_policy_is_sharp():
    sigmas, sharp = jnp.asarray(oracles.karras(16), jnp.float32), oracles.gaussian_policy(jnp.sign, 1e-3)

    @quickly.jit
    def run(key, coefficient):
        guided = guide("proximal", coefficient, sharp, dtype=jnp.float32)
        return oracles.sample("heun", key, guided, sigmas, (16, *SHAPE))

    for coefficient in (10.0, 1_000.0):
        assert np.all(np.abs(run(jax.random.key(3), np.float32(coefficient))) < 10.0)


def test_score_follows_its_own_ode():
    """Unit data, k = lambda / sp^2: D_lambda = D (1 - k v) + k v c, so ln x falls by ln sqrt(1 + s^2) + k v / 2, hence

    std = exp(-k v / 2) with v at S = 80, the highest level
    mean = c k int exp(-k (1 - q^2) / 2) dq over q = 1 / sqrt(1 + s^2), from 1 / sqrt(1 + S^2) to 1
    """
    coefficient, bottom = 0.7, 1.0 / np.sqrt(1.0 + 80.0**2)
    with jax.enable_x64(True):
        mean, covariance = oracles.affine_moments("heun", guide("score", coefficient), oracles.karras(256), SHAPE)
    k = coefficient / STD**2
    weight = integrate.quad(lambda q: np.exp(-0.5 * k * (1.0 - q**2)), bottom, 1.0)[0]
    np.testing.assert_allclose(mean[ACTIONS], np.tile(MEAN * k * weight, 2), rtol=1e-3)
    std = np.exp(-0.5 * k * (1.0 - bottom**2))
    np.testing.assert_allclose(covariance[ACTIONS][:, ACTIONS], np.eye(4) * std**2, atol=1e-3)


@pytest.mark.parametrize("rule", ["score", "proximal"])
def test_through_tanh_the_ode_of_the_rule_is_solved(rule):
    """Unit data, a policy N(tanh(s), 0.3^2), a squashing normalizer: derivatives by hand, solved by scipy."""
    mean, std, sp, coefficient = np.array([0.2, -0.3]), np.array([0.8, 1.1]), 0.3, 0.4
    sigmas, limit = oracles.karras(512), np.arctanh(0.999)

    def slope(log_s, flat):
        x, s2 = flat.reshape(-1, 4), np.exp(2.0 * log_s)  # rows of 2 observations and 2 actions
        obs, u, v = x[:, :2] / (1.0 + s2), x[:, 2:] / (1.0 + s2), s2 / (1.0 + s2)
        a = np.tanh(std * u + mean)
        change = std * (1.0 - a**2)
        g, h = change * (np.tanh(obs) - a) / sp**2, change**2 / sp**2
        step = coefficient * v * g / (1.0 + coefficient * v * h if rule == "proximal" else 1.0)
        u = np.clip(u + step, (-limit - mean) / std, (limit - mean) / std)
        return (x - np.concatenate([obs, u], axis=1)).ravel()

    with jax.enable_x64(True):
        normalizer = Normalizer(jnp.array([0.0, 0.0, *mean, 0.0, 0.0]), jnp.array([1.0, 1.0, *std, 1.0, 1.0]), LAYOUT)
        guided = guide(rule, coefficient, oracles.gaussian_policy(jnp.tanh, sp), normalizer)

        @quickly.jit
        def run(key, sigmas):
            return oracles.start(key, sigmas, (8, *SHAPE)), oracles.sample("heun", key, guided, sigmas, (8, *SHAPE))

        start, x = (np.asarray(leaf)[..., :4].ravel() for leaf in run(jax.random.key(1), sigmas))
    levels = np.log([sigmas[0], 1e-6])
    solved = integrate.solve_ivp(slope, levels, start, method="DOP853", rtol=1e-8, atol=1e-8, max_step=0.1).y[:, -1]
    np.testing.assert_allclose(x, solved, atol=1e-3)


def test_proximal_leaves_states_alone_and_so_misses_the_exact_tilt_of_a_policy_that_depends_on_them():
    """A policy N(s, sp^2), unit data, k = lambda / sp^2: the tilt exp(-k (a - s)^2 / 2) would move states too.

    Exactly, cov (s, a) = [[1 + k, -k], [-k, 1 + k]]^-1: for k = 2, 0.6 on the diagonal and 0.4 off it, so that a is
    2/3 s on average. Guided, a - s flows by itself, as N(0, 1 / (1 + k)) does: a = s + r (e - s) with s and e of
    N(0, 1), r = 1 / sqrt(1 + k) = 0.577. States keep their variance of 1, and a is only (1 - r) s = 0.423 s on average;
    what is left of a, r^2, is that of the exact tilt.
    """
    sp, k = 0.5, 2.0
    with jax.enable_x64(True):
        world = oracles.unit_world(SHAPE, jnp.float64)
        guided = guide("proximal", k * sp**2, oracles.gaussian_policy(lambda obs: obs, sp))
        covariance = oracles.affine_moments("heun", guided, oracles.karras(128), SHAPE)[1][np.ix_([0, 2], [0, 2])]
        rows = np.eye(DIM)[ACTIONS] - np.eye(DIM)[ACTIONS - 2]
        target = np.asarray(world.tilted(rows, np.zeros(4), np.full(4, k)).covariance)[np.ix_([0, 2], [0, 2])]
    r = 1.0 / np.sqrt(1.0 + k)
    np.testing.assert_allclose(covariance, [[1.0, 1.0 - r], [1.0 - r, (1.0 - r) ** 2 + r**2]], atol=2e-3)
    np.testing.assert_allclose(target, [[0.6, 0.4], [0.4, 0.6]], atol=1e-12)
