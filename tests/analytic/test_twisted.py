"""The particle filter: its parts by hand, and its samples against the exact tilted posterior of a two-mode world."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from pgd_jax.core.errors import UserError
from pgd_jax.core.types import Layout
from pgd_jax.diffusion import samplers, twisted
from tests import oracles, quickly

LAYOUT = Layout(obs_dim=1, action_dim=1)
SHAPE = (2, LAYOUT.dim)
COEFFICIENT, POLICY_STD = 1.0, 0.5
NUM_STEPS, NUM_PARTICLES, NUM_GROUPS = 96, 256, 16


def world():
    """States around -1 with actions around 0.9, and states around 1 with actions around -0.3; two plain columns."""
    means = np.zeros((2, *SHAPE))
    means[0, :, :2], means[1, :, :2] = [-1.0, 0.9], [1.0, -0.3]
    stds = np.full((2, *SHAPE), 0.5)
    stds[:, 1, 0], stds[:, :, 2:] = 0.7, 0.8
    return oracles.MixtureWorld(np.array([0.6, 0.4]), means, stds)


def first_mode(x):
    """Probability f64[B] that a window is of the first mode."""
    shares, means, stds = world()
    gap = (np.asarray(x, np.float64)[:, None] - means) / stds
    log_density = np.log(shares) - (0.5 * gap**2 + np.log(stds)).sum(axis=(2, 3))
    return special.softmax(log_density, axis=1)[:, 0]


def moments(x, weight=None):
    """(means and variances of observations and actions [2, T, 2], share of the first mode)."""
    x = np.asarray(x, np.float64)
    weight = np.full(len(x), 1.0 / len(x)) if weight is None else weight
    mean = np.einsum("b,bij->ij", weight, x)
    variance = np.einsum("b,bij->ij", weight, (x - mean) ** 2)
    return np.stack([mean, variance])[..., :2], float(weight @ first_mode(x))


@functools.cache
def target():
    """Moments under p_off prod_t pi^lambda, by importance sampling with 300,000 exact draws."""
    x = world().draw(np.random.default_rng(0), 300_000)[0]
    log_pi = -0.5 * ((x[..., 1] - np.tanh(1.5 * x[..., 0])) / POLICY_STD) ** 2
    weight = special.softmax(COEFFICIENT * log_pi.sum(axis=1))
    assert 1.0 / np.sum(weight**2) > 15_000  # effective draws: standard errors of 0.006
    return moments(x, weight)


@functools.cache
def runner(sampler):
    policy = oracles.gaussian_policy(lambda obs: jnp.tanh(1.5 * obs), POLICY_STD)
    sigmas = jnp.asarray(oracles.karras(NUM_STEPS, 20.0, 0.01), jnp.float32)
    shape = (NUM_GROUPS * NUM_PARTICLES, *SHAPE)

    def run(key, coefficient):
        normalizer = oracles.plain_normalizer(LAYOUT)
        guided = oracles.guide(world().denoise, policy, normalizer, coefficient, NUM_STEPS, "proximal")
        return oracles.sample(sampler, key, guided, sigmas, shape, num_particles=NUM_PARTICLES)

    return quickly.jit(run)


def test_particles_reach_the_tilted_posterior_and_proximal_alone_does_not(key):
    """4,096 windows in 16 groups. Standard errors: 0.02 of a mean, 0.02 of a variance, 0.01 of the share.

    On top, first order in the size of a step: variances are up to 0.08 too small at 96 steps. Proximal tilts each mode
    but has no way to weigh them: it leaves 0.46 of the windows in the first, of which the tilt leaves 0.11.
    """
    exact, exact_share = target()
    found, share = moments(runner("twisted")(key, np.float32(COEFFICIENT)))
    alone, share_alone = moments(runner("dpmpp_2m")(key, np.float32(COEFFICIENT)))
    np.testing.assert_allclose(found[0], exact[0], atol=0.1)
    np.testing.assert_allclose(found[1], exact[1], atol=0.15)
    assert share == pytest.approx(exact_share, abs=0.05)
    assert abs(share_alone - exact_share) > 0.25
    error, error_alone = np.abs(found - exact), np.abs(alone - exact)
    assert np.all(error_alone[..., 0] > 0.4) and np.all(error[..., 0] < 0.25 * error_alone[..., 0])


def test_without_guidance_particles_leave_the_prior(key):
    found, share = moments(runner("twisted")(key, np.float32(0.0)))
    shares, means, stds = world()
    mean = np.einsum("k,kij->ij", shares, means)
    variance = np.einsum("k,kij->ij", shares, stds**2 + (means - mean) ** 2)
    np.testing.assert_allclose(found[0], mean[:, :2], atol=0.1)
    np.testing.assert_allclose(found[1], variance[:, :2], atol=0.15)
    assert share == pytest.approx(0.6, abs=0.04)


def test_propose_weighs_the_guided_step_against_the_unguided_one(key):
    """log N(x'; mean(D), up^2) - log N(x'; mean(D_lambda), up^2) at the x' drawn, summed over the window."""
    s, t = 2.0, 0.5
    x, x0, tilted = np.random.default_rng(0).normal(size=(3, 6, 2, 4))
    with jax.enable_x64(True):
        step = samplers.Step(key, jnp.int32(0), jnp.float64(s), jnp.float64(t))
        new, log_ratio = quickly.jit(twisted.propose)(key, x, x0, tilted, step)
    share = (t / s) ** 2
    up = t * math.sqrt(1.0 - share)
    guided, unguided = tilted + share * (x - tilted), x0 + share * (x - x0)
    expected = stats.norm.logpdf(new, unguided, up) - stats.norm.logpdf(new, guided, up)
    np.testing.assert_allclose(log_ratio, expected.sum(axis=(1, 2)), rtol=1e-9)
    # 48 draws, of mean 0 and variance 1: standard errors 0.14 and 0.2.
    noise = (np.asarray(new) - guided) / up
    assert abs(noise.mean()) < 0.6 and abs(noise.var() - 1.0) < 0.8


def test_the_twisting_function_is_the_mean_of_the_tilt():
    """E pi^lambda over N(D_a, v) is sqrt(1 / q) exp(-lambda (D_a - c)^2 / (2 sp^2 q)), q = 1 + v lambda / sp^2."""
    x0, sigma, coefficient, c, sp = np.random.default_rng(0).normal(size=(5, *SHAPE)), 0.8, 3.0, 0.4, 0.5
    with jax.enable_x64(True):
        policy = oracles.gaussian_policy(lambda obs: jnp.full_like(obs, c), sp)
        normalizer = oracles.plain_normalizer(LAYOUT, jnp.float64)
        guided = oracles.guide(oracles.unit_denoise, policy, normalizer, jnp.float64(coefficient), 1)
        run = quickly.jit(lambda x0, sigma: guided.twist(x0, sigma)[1])
        found, clean = np.asarray(run(x0, np.float64(sigma))), np.asarray(run(x0, np.float64(0.0)))
    gap, q = x0[..., 1] - c, 1.0 + sigma**2 / (1.0 + sigma**2) * coefficient / sp**2
    expected = -0.5 * np.log(q) - 0.5 * coefficient * gap**2 / (sp**2 * q)
    np.testing.assert_allclose(found, expected.sum(axis=1), rtol=1e-9)
    np.testing.assert_allclose(clean, (-0.5 * coefficient * gap**2 / sp**2).sum(axis=1), rtol=1e-9)


def resample(log_weight, num_particles, num_draws=1, share=math.inf):
    """(ancestors [num_draws, B], log weights after it, likewise)."""
    run = jax.vmap(lambda key: twisted.resample(key, jnp.asarray(log_weight, jnp.float32), num_particles, share))
    return jax.tree.map(np.asarray, quickly.jit(run)(jax.random.split(jax.random.key(0), num_draws)))


def test_resampling_is_systematic_and_unbiased():
    """Each window has floor(K w) or ceil(K w) descendants, K w of them on average; groups do not mix."""
    weight = np.array([[0.05, 0.3, 0.15, 0.38, 0.12], [0.9, 0.02, 0.02, 0.03, 0.03]])
    index, log_weight = resample(np.log(weight) + np.array([[1.0], [-7.0]]), 5, num_draws=2_000)
    counts = np.stack([np.bincount(row, minlength=10) for row in index])
    wanted = 5.0 * weight.ravel()
    assert np.all((counts >= np.floor(wanted - 1e-5)) & (counts <= np.ceil(wanted + 1e-5)))
    assert np.all(counts.reshape(-1, 2, 5).sum(axis=2) == 5)
    np.testing.assert_allclose(counts.mean(axis=0), wanted, atol=0.06)  # standard errors of at most 0.5 / sqrt(2,000)
    # log mean of exp(1 + log w) over 5 is 1 - log 5: the estimate of the normalising constant goes on.
    log_mean = np.repeat([1.0, -7.0], 5) - np.log(5.0)
    np.testing.assert_allclose(log_weight, np.broadcast_to(log_mean, (2_000, 10)), rtol=1e-5)


def test_equal_weights_draw_every_window_once():
    index, log_weight = resample(np.repeat([0.3, -2.0], 64), 64, num_draws=50)
    np.testing.assert_array_equal(index, np.broadcast_to(np.arange(128), (50, 128)))
    np.testing.assert_allclose(log_weight, np.broadcast_to(np.repeat([0.3, -2.0], 64), (50, 128)), atol=1e-5)


def test_one_window_that_outweighs_all_others_takes_all_places():
    index, _ = resample([-1e6, -1e30, 1e3, 0.0], 4, num_draws=20)
    assert np.all(index == 2)


def test_groups_with_enough_effective_particles_are_left_alone():
    # Effective sizes: 1 / (0.5^2 + 2 0.25^2) = 2.67 of 3, above a half; 1 / (0.9^2 + 2 0.05^2) = 1.23, below.
    log_weight = np.log([0.5, 0.25, 0.25, 0.9, 0.05, 0.05])
    index, after = resample(log_weight, 3, num_draws=20, share=twisted.MIN_EFFECTIVE_SHARE)
    np.testing.assert_array_equal(index[:, :3], np.broadcast_to(np.arange(3), (20, 3)))
    np.testing.assert_allclose(after[:, :3], np.broadcast_to(log_weight[:3], (20, 3)), rtol=1e-6)
    assert np.all(np.bincount(index[:, 3:].ravel())[3] >= 2 * 20)
    np.testing.assert_allclose(after[:, 3:], -np.log(3.0), rtol=1e-6)


def test_windows_that_cannot_be_divided_into_groups_are_refused(key):
    with pytest.raises(UserError, match="10 windows at once cannot be divided into groups of 4"):
        twisted.sample(key, oracles.unit_denoise, jnp.ones(3), (10, 2, 4), samplers.Options(num_particles=4))
