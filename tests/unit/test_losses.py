"""Agent formulas against arithmetic written out in comments."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from pgd_jax.agents import adam, losses


def test_td_target_masks_the_bootstrap_at_terminals():
    # 1 + 0.9 * 10 = 10;  2 + 0.9 * 0 * 10 = 2
    target = losses.td_target(jnp.array([1.0, 2.0]), jnp.array([0.0, 1.0]), jnp.array([10.0, 10.0]), 0.9)
    np.testing.assert_allclose(target, [10.0, 2.0])


def test_td_target_refuses_a_broadcast():
    with pytest.raises(AssertionError):
        losses.td_target(jnp.zeros((4, 1)), jnp.zeros(4), jnp.zeros(4), 0.9)


def test_ensemble_td_loss_averages_the_batch_and_sums_the_members():
    # member 0: ((1 - 2)^2 + (2 - 2)^2) / 2 = 0.5;  member 1: ((3 - 2)^2 + (5 - 2)^2) / 2 = 5
    q = jnp.array([[1.0, 2.0], [3.0, 5.0]])
    np.testing.assert_allclose(losses.ensemble_td_loss(q, jnp.array([2.0, 2.0])), 5.5)


def test_smoothing_noise_has_its_spread_and_its_limit(key):
    wide = losses.smoothing_noise(key, (20000,), 0.2, 10.0)
    narrow = losses.smoothing_noise(key, (20000,), 0.2, 0.1)
    np.testing.assert_allclose(wide.std(), 0.2, rtol=0.03)
    # P(|N(0, 1)| > 0.1 / 0.2) = 0.617 sits on the limit
    np.testing.assert_allclose((jnp.abs(narrow) >= 0.1).mean(dtype=jnp.float32), 0.617, atol=0.02)
    assert jnp.abs(narrow).max() <= 0.1


def test_behaviour_regularised_loss():
    # mean |q| = 3, so lambda = 3 / 3 = 1; distance (0.25 + 0 + 0 + 1) / 4 = 0.3125; loss 0.3125 - 1 * (2 - 4) / 2
    q, action = jnp.array([2.0, -4.0]), jnp.array([[0.5, 0.0], [0.0, 1.0]])
    data_action = jnp.zeros((2, 2))
    loss, grad = jax.value_and_grad(losses.behaviour_regularised_loss)(q, action, data_action, 3.0)
    np.testing.assert_allclose(loss, 1.3125)
    np.testing.assert_allclose(grad, [-0.5, -0.5])  # -lambda / B: nothing flows through lambda
    # lambda undoes the scale of the rewards
    scaled = losses.behaviour_regularised_loss(100.0 * q, action, data_action, 3.0)
    np.testing.assert_allclose(scaled, 1.3125, rtol=1e-6)
    assert jnp.isfinite(losses.behaviour_regularised_loss(0.0 * q, action, data_action, 3.0))


def test_expectile_loss():
    # u = 1, -2, 0: (0.7 * 1 + 0.3 * 4 + 0) / 3
    loss = losses.expectile_loss(jnp.zeros(3), jnp.array([1.0, -2.0, 0.0]), 0.7)
    np.testing.assert_allclose(loss, 1.9 / 3.0, rtol=1e-6)


@pytest.mark.parametrize("expectile", [0.5, 0.7, 0.95])
def test_expectile_loss_is_least_at_the_expectile(expectile):
    target = np.random.default_rng(0).normal(size=100).astype(np.float32)
    slope = jax.grad(lambda v: losses.expectile_loss(jnp.full(100, v), jnp.asarray(target), expectile))
    best = scipy.stats.expectile(target, expectile)
    np.testing.assert_allclose(slope(jnp.float32(best)), 0.0, atol=1e-6)
    assert slope(jnp.float32(best - 0.1)) < -0.01 and slope(jnp.float32(best + 0.1)) > 0.01


def test_advantage_weight_is_limited():
    # exp(0), exp(3) = 20.0855, exp(300) held at 100
    weight = losses.advantage_weight(jnp.array([0.0, 1.0, 100.0]), 3.0, 100.0)
    np.testing.assert_allclose(weight, [1.0, 20.0855, 100.0], rtol=1e-5)


def test_gradient_similarity():
    # directions (1, 0), (1, 0), (0, 1): the pairs' cosines are 1, 0, 0, each twice; 2 / (3 - 1) = 1
    first = jnp.array([[3.0, 0.0], [0.5, 0.0], [0.0, 2.0]])
    # (0.6, 0.8) and its opposite, and none: -1 twice; -2 / 2 = -1
    second = jnp.array([[0.6, 0.8], [-0.6, -0.8], [0.0, 0.0]])
    similarity, grad = jax.value_and_grad(losses.gradient_similarity)(jnp.stack([first, second], axis=1))
    np.testing.assert_allclose(similarity, (1.0 - 1.0) / 2.0, atol=1e-6)
    assert jnp.isfinite(grad).all()
    np.testing.assert_allclose((grad[:, 0] * first).sum(axis=-1), 0.0, atol=1e-6)  # lengths do not matter
    np.testing.assert_allclose(losses.gradient_similarity(jnp.ones((4, 5, 2))), 4.0, rtol=1e-6)  # equal members
    assert losses.gradient_similarity(jnp.ones((1, 5, 2))) == 0.0  # and a single one


def test_conservative_gap():
    # mean(e^1 / 0.5, e^2 / 0.25) = 17.4964, its logarithm 2.86200; less q = 1; the other member is 1 higher in both
    sampled = jnp.array([[[1.0], [2.0]], [[2.0], [3.0]]])
    log_density = jnp.log(jnp.array([[0.5], [0.25]]))
    gap = losses.conservative_gap(sampled, log_density, jnp.array([[1.0], [2.0]]))
    np.testing.assert_allclose(gap, 2.0 * 1.86200, rtol=1e-5)


def test_the_conservative_gap_of_samples_is_that_of_the_integral(key):
    # Q(a) = 2 a on [-1, 1]: log int e^2a da = log sinh(2) = 1.28838, from any density that the samples are of
    uniform = jax.random.uniform(key, (20_000, 1), minval=-1.0, maxval=1.0)
    beta = 2.0 * jax.random.beta(key, 2.0, 1.0, (20_000, 1)) - 1.0  # density (a + 1) / 2
    sampled = jnp.concatenate([uniform, beta])
    log_density = jnp.concatenate([jnp.full_like(uniform, -jnp.log(2.0)), jnp.log((beta + 1.0) / 2.0)])
    gap = losses.conservative_gap(2.0 * sampled[None], log_density, jnp.zeros((1, 1)))
    np.testing.assert_allclose(gap, 1.28838, atol=0.02)


def test_gaussian_log_prob_sums_over_actions():
    # std 1: -1/2 - ln sqrt(2 pi) = -1.41894;  std 2: -(1/2)^2 / 2 - ln 2 - ln sqrt(2 pi) = -1.73709
    log_std = jnp.array([[0.0, np.log(2.0)]], jnp.float32)
    log_prob = losses.gaussian_log_prob(jnp.array([[1.0, -1.0]]), jnp.zeros((1, 2)), log_std)
    np.testing.assert_allclose(log_prob, [-3.15603], rtol=1e-5)


def test_first_adam_step():
    # bias-corrected moments of one gradient g = 0.5 are 0.5 and 0.25: direction 0.5 / (sqrt(0.25) + eps 0.5) = 0.5
    trained = adam.step(adam.init(jnp.float32(1.0)), jnp.float32(0.5), 0.1, 0.5)
    np.testing.assert_allclose(trained.params, 1.0 - 0.1 * 0.5, rtol=1e-6)


def test_cosine_decay():
    # (1 + cos(pi c / 4)) / 2 at c = 0, 1, 2, 4, and 0 ever after
    factors = [adam.cosine_decay(jnp.int32(count), 4.0) for count in (0, 1, 2, 4, 9)]
    np.testing.assert_allclose(factors, [1.0, 0.853553, 0.5, 0.0, 0.0], atol=1e-6)
