"""SAC's formulas against arithmetic written out in comments."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from pgd_jax.agents import adam, sac
from pgd_jax.agents.base import AgentPlan
from pgd_jax.core.types import Transition
from pgd_jax.networks.base import Network


def linear(mean=0.5, log_std=-1.0, weight=2.0):
    """Networks of one number each: pi = N(mean + 0 s, e^log_std) before tanh, Q_i(s, a) = w_i a."""
    actor = Network(
        init=lambda key: jnp.array([mean, log_std]),
        apply=lambda params, obs: tuple(jnp.broadcast_to(params, (*obs.shape[:-1], 2))[..., i : i + 1] for i in (0, 1)),
    )
    critic = Network(
        init=lambda key: jnp.array([weight, weight + 1.0]),
        apply=lambda params, obs, action: params[:, None] * action.squeeze(-1)[None],
    )
    return sac.Networks(actor, critic)


def batch(reward=1.0, terminal=0.0, size=4):
    ones = jnp.ones(size)
    return Transition(ones[:, None], 0.5 * ones[:, None], reward * ones, ones[:, None], terminal * ones)


def test_soft_value():
    # min(3, 1) - 0.5 * -2 = 2;  min(4, 5) - 0.5 * 2 = 3
    value = sac.soft_value(jnp.array([[3.0, 4.0], [1.0, 5.0]]), jnp.array([-2.0, 2.0]), 0.5)
    np.testing.assert_allclose(value, [2.0, 3.0])
    with pytest.raises(AssertionError):
        sac.soft_value(jnp.zeros((2, 4)), jnp.zeros((4, 1)), 0.5)


def test_temperature_loss():
    # alpha = e^0.5; mean log pi = -1, target -3: -alpha (-1 - 3) = 4 alpha, whose slope in log alpha is itself
    log_prob = jnp.array([-2.0, 0.0])
    loss, grad = jax.value_and_grad(sac.temperature_loss, argnums=(0, 1))(jnp.float32(0.5), log_prob, -3.0)
    np.testing.assert_allclose([loss, grad[0]], 4.0 * np.exp(0.5), rtol=1e-6)
    np.testing.assert_array_equal(grad[1], 0.0)


@pytest.mark.parametrize("terminal", [0.0, 1.0])
def test_one_update(terminal, key):
    """With almost no noise a = tanh(0.5) everywhere, and Adam's first step is its rate against the gradient's sign."""
    networks, hyper = linear(log_std=-20.0), sac.Hyper(entropy_per_action_dim=-100.0, adam_eps=1e-20)
    state = sac.init(networks, key).replace(log_temperature=adam.init(jnp.float32(-30.0)))  # alpha is nothing
    after, logs = sac.update(networks, key, state, batch(terminal=terminal), hyper)
    # y = 1 + 0.99 (1 - terminal) * min(2, 3) tanh(0.5); Q = (2, 3) * 0.5
    y = 1.0 + 0.99 * (1.0 - terminal) * 2.0 * np.tanh(0.5)
    np.testing.assert_allclose(logs["critic_loss"], (1.0 - y) ** 2 + (1.5 - y) ** 2, rtol=1e-5)
    np.testing.assert_allclose(logs["q_mean"], 1.25)
    rise = np.sign([y - 1.0, y - 1.5]) * (np.abs([y - 1.0, y - 1.5]) > 1e-6)
    np.testing.assert_allclose(after.critic.params, np.array([2.0, 3.0]) + 3e-4 * rise, atol=1e-6)
    # Q'_i <- 0.995 Q'_i + 0.005 Q_i
    np.testing.assert_allclose(after.target_critic, np.array([2.0, 3.0]) + 0.005 * 3e-4 * rise, atol=1e-6)
    # -min_i Q_i falls with the mean; the entropy, some -20, is above its target, -100, so alpha falls.
    np.testing.assert_allclose(after.actor.params[0], 0.5 + 3e-4, atol=1e-6)
    np.testing.assert_allclose(logs["actor_loss"], -after.critic.params[0] * np.tanh(0.5), rtol=1e-5)
    np.testing.assert_allclose(after.log_temperature.params, -30.0 - 3e-4, atol=1e-5)


@pytest.mark.slow
def test_the_temperature_widens_the_policy(key):
    """Where actions do not matter, the log-likelihood alone moves the policy: its spread grows at once."""
    networks = linear(weight=0.0)
    networks = networks._replace(critic=networks.critic._replace(init=lambda key: jnp.zeros(2)))
    state = sac.init(networks, key)
    after, logs = sac.update(networks, key, state, batch(reward=0.0, size=512), sac.Hyper())
    np.testing.assert_allclose(after.actor.params[1], -1.0 + 3e-4, atol=1e-6)
    # Entropy of the squashed Gaussian: E[-log N + log(1 - tanh^2)], by quadrature.
    x = np.linspace(-6.0, 6.0, 20_001)
    weight = scipy.stats.norm.pdf(x) * (x[1] - x[0])
    squash = np.log(1.0 - np.tanh(0.5 + np.exp(-1.0) * x) ** 2)
    expected = 0.5 * np.log(2.0 * np.pi * np.e) - 1.0 + np.sum(weight * squash)
    np.testing.assert_allclose(logs["entropy"], expected, atol=0.1)


@pytest.mark.slow
def test_built_shapes(key):
    agent = sac.build(5, 2, AgentPlan(hidden_dim=16, num_hidden=2))
    state = agent.init(key)
    obs = jnp.zeros((7, 5))
    action, log_prob = agent.sample(state.actor.params, obs, key)
    assert action.shape == (7, 2) and log_prob.shape == (7,) and agent.act(state.actor.params, obs).shape == (7, 2)
    full = Transition(obs, action, jnp.zeros(7), obs, jnp.zeros(7))
    after, logs = jax.jit(agent.update)(key, state, full, sac.Hyper())
    assert set(logs) == {"critic_loss", "q_mean", "actor_loss", "entropy", "temperature"}
    assert jax.tree.map(lambda x: (x.shape, x.dtype), after) == jax.tree.map(lambda x: (x.shape, x.dtype), state)
