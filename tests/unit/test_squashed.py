"""The squashed Gaussian policy against scipy's densities, and its score where arctanh is infinite."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from pgd_jax.agents import squashed
from pgd_jax.networks.base import Network

MEAN, STD = 0.5, np.exp(-1.0)
PARAMS = jnp.array([MEAN, -1.0])


@pytest.fixture(scope="module")
def network():
    """mean and log std [1] are the two parameters, whatever the state."""
    return Network(
        init=lambda key: PARAMS,
        apply=lambda params, obs: tuple(jnp.broadcast_to(part, (*obs.shape[:-1], 1)) for part in params),
    )


def log_density(action):
    u = np.arctanh(np.asarray(action, np.float64))
    return scipy.stats.norm.logpdf(u, MEAN, STD) - np.log(1.0 - np.tanh(u) ** 2)


def test_samples_and_their_likelihood(network, key):
    action, log_prob = squashed.sample(network, PARAMS, jnp.zeros((250, 3)), key, sample_shape=(4,))
    assert action.shape == (4, 250, 1) and log_prob.shape == (4, 250)
    np.testing.assert_allclose(log_prob, log_density(action)[..., 0], atol=2e-3)
    u = np.arctanh(np.asarray(action, np.float64)).ravel()
    assert scipy.stats.kstest((u - MEAN) / STD, "norm").pvalue > 1e-3
    np.testing.assert_allclose(squashed.act(network, PARAMS, jnp.zeros((2, 3))), np.full((2, 1), np.tanh(MEAN)), 1e-6)


def test_the_likelihood_of_a_sample_is_finite_where_tanh_is_one(network, key):
    action, log_prob = squashed.sample(network, jnp.array([30.0, 0.0]), jnp.zeros((100, 3)), key)
    assert (action == 1.0).all() and jnp.isfinite(log_prob).all()


def test_log_prob_within_the_edge(network):
    action = jnp.linspace(-0.998, 0.998, 101)[:, None]
    log_prob = squashed.log_prob(network, PARAMS, jnp.zeros((101, 3)), action)
    np.testing.assert_allclose(log_prob, log_density(action)[:, 0], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("action", [-1.0, -0.99, 0.3, 0.999, 1.0, 3.0])
def test_score(network, action):
    """With u' = 1 / (1 - a^2): (-(u - mean) / std^2 + 2 a) u', and beyond the edge c -(u - mean) / std^2 u'(c)."""
    score = jax.grad(lambda a: squashed.log_prob(network, PARAMS, jnp.zeros(3), a[None]))(jnp.float32(action))
    edge = np.clip(np.float64(np.float32(action)), -squashed.EDGE, squashed.EDGE)
    slope = 1.0 / (1.0 - edge**2)
    u = np.arctanh(edge) + (action - edge) * slope
    widening = 0.0 if abs(action) > squashed.EDGE else 2.0 * action
    expected = (-(u - MEAN) / STD**2 + widening) * slope
    # Where the two meet, it is either, or between them.
    np.testing.assert_allclose(score, expected, rtol=0.1 if abs(action) == squashed.EDGE else 1e-3)


def test_log_prob_is_continuous_and_a_density_over_all_actions(network):
    params, action = jnp.array([1.5, 0.0]), jnp.linspace(-1.02, 1.02, 40_001)[:, None]
    density = jnp.exp(squashed.log_prob(network, params, jnp.zeros((40_001, 3)), action))
    np.testing.assert_allclose(np.trapezoid(density, action[:, 0]), 1.0, rtol=1e-3)
    around = squashed.EDGE + jnp.array([[-1e-6], [1e-6]])
    np.testing.assert_allclose(*squashed.log_prob(network, params, jnp.zeros((2, 3)), around), atol=0.01)


def test_the_likelihood_moves_the_policy_towards_an_action_of_one(network):
    grad = jax.grad(lambda params: squashed.log_prob(network, params, jnp.zeros(3), jnp.ones(1)))(PARAMS)
    assert np.isfinite(grad).all() and grad[0] > 0.0
