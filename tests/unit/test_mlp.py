"""Perceptrons: initialisation, heads, and ensembles as one product per layer."""

import jax
import jax.numpy as jnp
import numpy as np

from pgd_jax.networks import mlp

SIZES = dict(hidden_dim=16, num_hidden=2)


def test_forward_pass_of_one_hidden_layer():
    network = mlp.mlp(2, 1, hidden_dim=2, num_hidden=1)
    params = {
        "Dense_0": {"kernel": jnp.array([[1.0, -1.0], [2.0, 0.0]]), "bias": jnp.array([0.5, 0.5])},
        "Dense_1": {"kernel": jnp.array([[3.0], [5.0]]), "bias": jnp.array([-1.0])},
    }
    # hidden: relu(1 * 1 + 1 * 2 + 0.5) = 3.5, relu(-1 + 0.5) = 0; out: 3 * 3.5 + 5 * 0 - 1 = 9.5
    np.testing.assert_allclose(network.apply(params, jnp.array([1.0, 1.0])), [9.5])


def test_initialisation_is_uniform_within_one_over_root_fan_in(key):
    params = mlp.mlp(100, 1, hidden_dim=400, num_hidden=1).init(key)
    for layer, fan_in in (("Dense_0", 100), ("Dense_1", 400)):
        kernel, bound = params[layer]["kernel"], fan_in**-0.5
        assert jnp.abs(kernel).max() <= bound and jnp.abs(params[layer]["bias"]).max() <= bound
        np.testing.assert_allclose(kernel.std(), bound / 3.0**0.5, rtol=0.1)  # of U(-b, b)


def test_ensemble_is_its_members_in_one_product_per_layer(key):
    member = mlp.scalar(5, **SIZES)
    twins = mlp.ensemble(member, 2)
    params = twins.init(key)
    obs, action = jnp.ones((7, 3)), jnp.full((7, 2), 0.5)
    q = twins.apply(params, obs, action)
    assert q.shape == (2, 7) and jnp.abs(q[0] - q[1]).min() > 1e-4  # members differ
    for i in range(2):
        alone = member.apply(jax.tree.map(lambda p: p[i], params), obs, action)
        np.testing.assert_allclose(q[i], alone, rtol=1e-5, atol=1e-6)
    assert str(jax.make_jaxpr(twins.apply)(params, obs, action)).count("dot_general[") == 3


def test_policies_stay_in_the_action_box(key):
    obs = 1e3 * jnp.ones((4, 3))
    action = mlp.tanh_policy(3, 2, **SIZES)
    mean = mlp.gaussian_policy(3, 2, **SIZES)
    assert jnp.abs(action.apply(action.init(key), obs)).max() <= 1.0
    location, log_std = mean.apply(mean.init(key), obs)
    assert jnp.abs(location).max() <= 1.0 and location.shape == (4, 2)
    np.testing.assert_array_equal(log_std, [0.0, 0.0])


def test_a_conditional_gaussian_has_a_bounded_spread_of_each_state(key):
    network = mlp.conditional_gaussian_policy(3, 2, **SIZES, log_std_min=-2.0, log_std_max=1.0)
    params = network.init(key)
    mean, log_std = network.apply(params, jax.random.normal(key, (4, 5, 3)))
    assert mean.shape == log_std.shape == (4, 5, 2)
    assert log_std.std(axis=(0, 1)).min() > 1e-3
    far, log_std = network.apply(params, 1e3 * jax.random.normal(key, (50, 3)))
    assert jnp.abs(far).max() <= 1.0 and log_std.min() == -2.0 and log_std.max() == 1.0
