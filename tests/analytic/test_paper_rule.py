"""The published rule (PGD, arXiv 2404.06356) against a float64 numpy transcription of it, over a whole sampling.

Written from its description alone: before step n of N, a <- a + lambda_n g with g = grad_a log pi(a | s) of the
pre-tanh, standardised actions, at x or at D(x; s); lambda_n = coeff [(1 - n/N) + 0.3 sin(pi (n+1)/N)], 0 at the last
step; g is divided by its norm over the window's rows and actions, or not. No automatic derivative, none of our code.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pgd_jax.agents import losses
from pgd_jax.core.types import Layout, Normalizer
from tests import oracles, quickly

LAYOUT = Layout(obs_dim=2, action_dim=2)
SHAPE, COUNT, NUM_STEPS, TOP = (3, LAYOUT.dim), 8, 64, 80.0
VARIANTS = {"paper": (True, True), "paper_noised": (False, True), "paper_raw": (True, False),
            "paper_noised_raw": (False, False)}  # fmt: skip
MEAN = np.array([0.3, -1.0, 0.25, -0.4, 2.0, 0.1])  # of the normalizer: policies see standardised observations
STD = np.array([2.0, 0.5, 0.7, 1.2, 3.0, 0.3])
WEIGHTS, BIAS = np.array([[0.8, -0.5], [0.4, 1.1]]), np.array([0.2, -0.3])
POLICY_STDS = {"stochastic": 0.3, "deterministic": 1.0}  # a deterministic policy is a unit Gaussian around its action


def mixture():
    generator = np.random.default_rng(0)
    means = np.stack([generator.normal(size=SHAPE), generator.normal(size=SHAPE)])
    return oracles.MixtureWorld(np.array([0.3, 0.7]), means, generator.uniform(0.4, 1.0, (2, *SHAPE)))


def denoise_by_hand(world, x, s):
    shares, means, stds = world
    noisy = stds**2 + s**2
    gap = x[:, None] - means
    density = shares * np.prod(np.exp(-0.5 * gap**2 / noisy) / np.sqrt(noisy), axis=(2, 3))
    density = density / density.sum(axis=1, keepdims=True)
    return np.sum(density[:, :, None, None] * (means + stds**2 / noisy * gap), axis=1)


def gradient_by_hand(at, policy_std):
    obs, u = at[..., :2], at[..., 2:4]
    pre_tanh = u * STD[2:4] + MEAN[2:4]
    action = 1.0 - 2.0 / (np.exp(2.0 * pre_tanh) + 1.0)
    wanted = np.tanh(obs @ WEIGHTS + BIAS)
    return (wanted - action) / policy_std**2 * (1.0 - action) * (1.0 + action) * STD[2:4]


def transcription(start, sigmas, is_heun, is_denoised, is_normalised, policy_std, coefficient):
    world, x = mixture(), np.asarray(start, np.float64)
    for n in range(NUM_STEPS):
        s, t = sigmas[n], sigmas[n + 1]
        g = gradient_by_hand(denoise_by_hand(world, x, s) if is_denoised else x, policy_std)
        if is_normalised:
            g = g / np.linalg.norm(g.reshape(COUNT, -1), axis=1)[:, None, None]
        strength = coefficient * ((1.0 - n / NUM_STEPS) + 0.3 * np.sin(np.pi * (n + 1) / NUM_STEPS))
        x = np.array(x)
        if n < NUM_STEPS - 1:
            x[..., 2:4] += strength * g
        d = (x - denoise_by_hand(world, x, s)) / s
        following = x + (t - s) * d
        if is_heun and n < NUM_STEPS - 1:
            d = (d + (following - denoise_by_hand(world, following, t)) / t) / 2.0
            following = x + (t - s) * d
        x = following
    return x


def policy(std):
    def log_prob(obs, action):
        weights, bias = jnp.asarray(WEIGHTS, obs.dtype), jnp.asarray(BIAS, obs.dtype)
        mean = jnp.tanh(obs @ weights + bias.reshape((1,) * (obs.ndim - 1) + (2,)))
        return losses.gaussian_log_prob(action, mean, jnp.broadcast_to(jnp.log(std), mean.shape))

    return log_prob


@functools.cache
def ours(sampler, dtype):
    """(index of a variant, levels, stds and coefficients of policies) -> (starts, the library's samples by policy)."""
    world, key = mixture(), jax.random.key(0)

    def run(index, sigmas, std, coefficient):
        normalizer = Normalizer(jnp.asarray(MEAN, dtype), jnp.asarray(STD, dtype), LAYOUT)
        guided = [
            oracles.guide(world.denoise, policy(std), normalizer, coefficient, NUM_STEPS, rule) for rule in VARIANTS
        ]
        start = oracles.start(key, sigmas, (COUNT, *SHAPE))
        return start, oracles.sample(sampler, key, oracles.any_of(index, guided), sigmas, (COUNT, *SHAPE))

    return quickly.jit(jax.vmap(run, in_axes=(None, None, 0, 0), out_axes=(None, 0)))


@pytest.mark.parametrize("sampler", ["euler", "heun"])
@pytest.mark.parametrize("rule", VARIANTS)
def test_the_published_rule_to_the_last_digits(rule, sampler):
    """Within 1e-11 in float64; in float32 within 1e-4 of the largest number, but for "paper_noised".

    There g, at x itself, passes 0 on the way, where a unit vector jumps: rounding is amplified.
    """
    is_denoised, is_normalised = VARIANTS[rule]
    sigmas = oracles.karras(NUM_STEPS, 80.0 if is_denoised else 5.0)  # far out, tanh is flat at x itself
    stds = np.array([0.3, 1.0])  # a deterministic policy is a unit Gaussian around its action
    coefficients = np.array([0.3, 0.3] if is_normalised else [0.03, 0.3])  # raw gradients of a std of 0.3 are 10 long
    for dtype, accuracy in ((np.float64, 1e-11), (np.float32, 1e-2 if rule == "paper_noised" else 1e-4)):
        index = np.int32(list(VARIANTS).index(rule))
        with jax.enable_x64(dtype is np.float64):
            start, found = ours(sampler, dtype)(index, *(a.astype(dtype) for a in (sigmas, stds, coefficients)))
        for x, std, coefficient in zip(np.asarray(found), stds, coefficients, strict=True):
            expected, unguided = (
                transcription(start, sigmas, sampler == "heun", is_denoised, is_normalised, std, strength)
                for strength in (coefficient, 0.0)
            )
            np.testing.assert_allclose(x, expected, rtol=0.0, atol=accuracy * np.abs(expected).max())
            assert np.abs(expected - unguided)[..., 2:4].max() > 1.0, "guidance does something"


def test_the_published_schedule_by_hand(key):
    # Constant gradient direction: with log pi = w . a, g = w in every row, normalised over the window's [T, A] block.
    w, shape = jnp.array([3.0, 4.0]), (4, LAYOUT.dim)
    normalizer, num_steps, coefficient = oracles.plain_normalizer(LAYOUT), 4, 0.5
    guided = oracles.guide(
        oracles.unit_denoise, lambda obs, a: a @ w, normalizer, jnp.float32(coefficient), num_steps, "paper"
    )
    x, shift = jax.random.normal(key, (3, *shape)), quickly.jit(guided.shift)
    for n in range(num_steps):
        # n = 0: 1 + 0.3 sin(pi/4); n = 1: 0.75 + 0.3; n = 2: 0.5 + 0.3 sin(3 pi/4); n = 3: the last step, 0.
        strength = [1 + 0.3 * np.sqrt(0.5), 1.05, 0.5 + 0.3 * np.sqrt(0.5), 0.0][n] * coefficient
        change = np.asarray(shift(x, jnp.float32(1.0), jnp.int32(n))) - np.asarray(x)
        # ||g|| over T = 4 rows of norm 5 is 10.
        expected = np.broadcast_to(strength * np.array([3.0, 4.0]) / 10.0, (3, 4, 2))
        np.testing.assert_allclose(change[..., LAYOUT.action], expected, atol=1e-6)
        np.testing.assert_array_equal(np.delete(change, [2, 3], axis=-1), 0.0)


@pytest.mark.parametrize("rule", VARIANTS)
def test_a_zero_gradient_moves_nothing(rule):
    """The first window's rows are all where tanh is flat; the released code makes NaN of them."""
    normalizer = oracles.plain_normalizer(LAYOUT).replace(squash=True)
    flat = oracles.gaussian_policy(jnp.tanh, 0.3)
    guided = oracles.guide(lambda x, sigma: x, flat, normalizer, jnp.float32(1.0), 4, rule)
    x = np.random.default_rng(0).normal(size=(2, *SHAPE)).astype(np.float32)
    x[0, ..., LAYOUT.action] = 1e3
    moved = np.asarray(quickly.jit(guided.shift)(x, jnp.float32(1.0), jnp.int32(0)))
    np.testing.assert_array_equal(moved[0], x[0])
    assert np.all(np.isfinite(moved)) and np.all(moved[1, :, LAYOUT.action] != x[1, :, LAYOUT.action])
