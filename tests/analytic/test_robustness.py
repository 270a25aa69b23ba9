"""No rule, strength, policy or precision gives anything but finite windows of legal actions."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pgd_jax.core.types import Layout, Normalizer
from pgd_jax.data import normalizer as normalizers
from pgd_jax.diffusion import edm, guidance
from pgd_jax.networks import unet
from tests import oracles, quickly

LAYOUT = Layout(obs_dim=2, action_dim=2)
SHAPE = (4, LAYOUT.dim)
CODEC = Normalizer(jnp.array([0.3, -1.0, 0.25, -0.4, 2.0, 0.1]), jnp.array([2.0, 0.5, 0.7, 1.2, 3.0, 0.3]), LAYOUT)
RULES = guidance.GUIDANCE.names()
X0_RULES = ["score", "proximal", "pigdm", "jacobian"]
COEFFICIENTS = [0.0, 1.0, 30.0, 1_000.0]
# (share of sign(obs), the action bounds, in the mean; 1 / std)
POLICIES = {"at the bounds": (1.0, 20.0), "sharp at the bounds": (1.0, 1e3), "sharp": (0.0, 1e3), "flat": (0.5, 0.0)}


def policy(share, inverse_std):
    """N((1 - share) tanh(obs) + share sign(obs), std^2)."""

    def log_prob(obs, action):
        mean = (1.0 - share) * jnp.tanh(obs) + share * jnp.sign(obs)
        return -0.5 * jnp.sum(((action - mean) * inverse_std) ** 2, axis=-1)

    return log_prob


@functools.cache
def weights():
    """Of a small U-Net that has seen no training: its output layer, too, is random."""
    network = unet.build(SHAPE[0], LAYOUT.dim, width=8, num_blocks=1, compute_dtype="float32")
    leaves, structure = jax.tree.flatten(jax.eval_shape(network.init, jax.random.key(0)))
    generator = np.random.default_rng(0)
    return structure.unflatten([generator.normal(size=leaf.shape).astype(np.float32) * 0.3 for leaf in leaves])


def denoiser(params, dtype):
    network = unet.build(SHAPE[0], LAYOUT.dim, width=8, num_blocks=1, compute_dtype=dtype)
    return jax.jit(edm.denoiser(network, params))  # traced once in a program


@functools.cache
def sampling(sampler, dtype):
    """(index of a rule) -> windows [coefficient, policy, B, T, D]."""
    sigmas, shape = jnp.asarray(oracles.karras(5), jnp.float32), (4, *SHAPE)

    def run(index, coefficient, share, inverse_std, params):
        denoise, log_prob = denoiser(params, dtype), policy(share, inverse_std)
        guided = [oracles.guide(denoise, log_prob, CODEC, coefficient, 5, name) for name in RULES]
        return oracles.sample(sampler, jax.random.key(0), oracles.any_of(index, guided), sigmas, shape)

    over_policies = jax.vmap(run, in_axes=(None, None, 0, 0, None))
    over_both = quickly.jit(jax.vmap(over_policies, in_axes=(None, 0, None, None, None)))
    shares, inverse_stds = np.array(list(POLICIES.values()), np.float32).T
    return lambda index: over_both(np.int32(index), np.array(COEFFICIENTS, np.float32), shares, inverse_stds, weights())


# Each sampler in one of the precisions: compiling is what takes the time.
@pytest.mark.parametrize(("sampler", "dtype"), [("dpmpp_2m", "bfloat16"), ("churned_heun", "float32")])
@pytest.mark.parametrize("rule", RULES)
def test_every_rule_at_every_strength_leaves_legal_windows(rule, sampler, dtype):
    with jax.numpy_dtype_promotion("standard"):  # flax's GroupNorm mixes bfloat16 with its own float32
        x = np.asarray(sampling(sampler, dtype)(RULES.index(rule)))
    assert np.all(np.isfinite(x))
    assert np.all(np.abs(normalizers.decode_action(CODEC, x[..., LAYOUT.action])) <= 1.0)
    flat = list(POLICIES).index("flat")
    np.testing.assert_array_equal(x[0], np.broadcast_to(x[0, :1], x[0].shape))
    np.testing.assert_array_equal(x[:, flat], np.broadcast_to(x[:1, flat], x[:, flat].shape))
    moved = np.abs(x - x[:1])[1:, :flat, ..., LAYOUT.action]
    assert np.all(moved.max(axis=(2, 3, 4)) > 0.0), "everything else does guide"


@pytest.mark.parametrize("rule", ["score", "proximal"])
def test_a_policy_that_is_not_evaluated_in_every_step_leaves_legal_windows(rule):
    """What was known of it at other states and actions is used far from them."""
    sigmas = jnp.asarray(oracles.karras(5), jnp.float32)

    def run(coefficient, share, inverse_std, params):
        denoise, log_prob = denoiser(params, "float32"), policy(share, inverse_std)
        guided = oracles.guide(denoise, log_prob, CODEC, coefficient, 5, rule)
        return oracles.sample("dpmpp_2m_sde", jax.random.key(0), guided, sigmas, (4, *SHAPE))

    over_policies = jax.vmap(run, in_axes=(None, 0, 0, None))
    shares, inverse_stds = np.array(list(POLICIES.values()), np.float32).T
    run = quickly.jit(jax.vmap(over_policies, in_axes=(0, None, None, None)))
    x = np.asarray(run(np.array(COEFFICIENTS, np.float32), shares, inverse_stds, weights()))
    assert np.all(np.isfinite(x))
    assert np.all(np.abs(normalizers.decode_action(CODEC, x[..., LAYOUT.action])) <= 1.0)


def test_particles_with_extreme_weights_leave_legal_windows():
    sigmas = jnp.asarray(oracles.karras(5), jnp.float32)

    def run(coefficient, share, inverse_std):
        guided = oracles.guide(oracles.unit_denoise, policy(share, inverse_std), CODEC, coefficient, 5, "proximal")
        return oracles.sample("twisted", jax.random.key(0), guided, sigmas, (8, *SHAPE), num_particles=4)

    over_policies = jax.vmap(run, in_axes=(None, 0, 0))
    shares, inverse_stds = np.array(list(POLICIES.values()), np.float32).T
    run = quickly.jit(jax.vmap(over_policies, in_axes=(0, None, None)))
    assert np.all(np.isfinite(run(np.array(COEFFICIENTS, np.float32), shares, inverse_stds)))


def test_rules_of_the_denoised_window_keep_actions_in_the_data_range():
    """Those in it stay in it, those beyond it are not taken further out, at any level and strength."""
    low, high = (np.asarray(bound) for bound in normalizers.action_range(CODEC))
    x = 6.0 * np.random.default_rng(0).normal(size=(64, *SHAPE)).astype(np.float32)

    def run(x, sigma, coefficient, share, inverse_std):
        log_prob = policy(share, inverse_std)
        guided = [oracles.guide(oracles.unit_denoise, log_prob, CODEC, coefficient, 1, name) for name in X0_RULES]
        return jnp.stack([oracles.unit_denoise(x, sigma)] + [g.denoised(x, sigma) for g in guided])

    run, beyond = quickly.jit(run), 0
    for sigma in np.float32([0.05, 0.5, 3.0]):
        for coefficient in np.float32(COEFFICIENTS):
            for share, inverse_std in POLICIES.values():
                found = run(x, sigma, coefficient, np.float32(share), np.float32(inverse_std))
                free, *guided = np.asarray(found)[..., LAYOUT.action]
                beyond += np.sum((free > high) | (free < low))
                for a in guided:
                    assert np.all((a <= np.maximum(free, high) + 1e-5) & (a >= np.minimum(free, low) - 1e-5))
    assert beyond > 100


def test_strength_does_not_depend_on_the_number_of_steps_but_for_the_published_rule():
    """Mean log-likelihood of unit data's actions under the policy, from 16 to 256 steps; unguided it rises by 0.12."""
    log_prob = oracles.gaussian_policy(jnp.tanh, 0.6)
    coefficients = {"proximal": 3.0, "score": 0.3, "paper": 0.3}

    def likelihoods(num_steps):
        sigmas = jnp.asarray(oracles.karras(num_steps), jnp.float32)

        @quickly.jit
        def run(index):
            guided = [
                oracles.guide(oracles.unit_denoise, log_prob, CODEC, jnp.float32(coefficient), num_steps, rule)
                for rule, coefficient in coefficients.items()
            ]
            x = oracles.sample("dpmpp_2m", jax.random.key(0), oracles.any_of(index, guided), sigmas, (500, *SHAPE))
            return jnp.mean(log_prob(x[..., LAYOUT.obs], normalizers.decode_action(CODEC, x[..., LAYOUT.action])))

        return {rule: float(run(np.int32(i))) for i, rule in enumerate(coefficients)}

    few, many = likelihoods(16), likelihoods(256)
    change = {rule: abs(many[rule] - few[rule]) for rule in coefficients}
    assert change["proximal"] < 0.3 and change["score"] < 0.3
    assert change["paper"] > 1.0, "every step adds its shift"
