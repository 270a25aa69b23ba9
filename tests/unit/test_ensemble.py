"""The ensemble's network and its loss, worked by hand; how rows are dealt, and what is kept of each member."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pgd_jax.core.config import DISAGREEMENT, SPREAD, WorldModelConfig
from pgd_jax.core.types import Layout, Normalizer, Transition
from pgd_jax.generators import one_step
from pgd_jax.networks import ensemble
from pgd_jax.runs import world_model as runs
from pgd_jax.train import world_model
from tests import quickly

SIZES = dict(in_dim=3, out_dim=2, hidden_dim=5, num_hidden=2, num_members=4)


@pytest.fixture(scope="module")
def params():
    made = ensemble.init(jax.random.key(0), **SIZES)
    noise = jax.random.key(1)
    return jax.tree.map(lambda leaf: leaf + 0.1 * jax.random.normal(noise, leaf.shape), made)


def test_the_batched_product_is_each_member_s_own_layers(params, key):
    x = jax.random.normal(key, (4, 6, 3))
    found = quickly.jit(ensemble.apply)(params, x)
    assert found.mean.shape == found.log_var.shape == (4, 6, 2) and found.logit.shape == (4, 6)
    for member in range(4):
        out = np.asarray(x[member], np.float64)
        layers = [jax.tree.map(lambda leaf: np.asarray(leaf[member], np.float64), one) for one in params["layers"]]
        for layer in layers[:-1]:
            out = out @ layer["kernel"] + layer["bias"]
            out = out / (1.0 + np.exp(-out))  # SiLU
        out = out @ layers[-1]["kernel"] + layers[-1]["bias"]
        np.testing.assert_allclose(found.mean[member], out[:, :2], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found.logit[member], out[:, 4], rtol=1e-4, atol=1e-5)


def test_first_weights(key):
    made = ensemble.init(key, in_dim=16, out_dim=2, hidden_dim=200, num_hidden=2, num_members=3)
    assert [layer["kernel"].shape for layer in made["layers"]] == [(3, 16, 200), (3, 200, 200), (3, 200, 5)]
    for layer in made["layers"]:
        bound = 2.0 * 0.5 / np.sqrt(layer["kernel"].shape[1])  # two standard deviations of 1 / (2 sqrt(in))
        assert 0.9 * bound < np.abs(layer["kernel"]).max() <= bound and not layer["bias"].any()
    # A normal cut off at two standard deviations has one of 0.880.
    np.testing.assert_allclose(made["layers"][1]["kernel"].std(), 0.880 * 0.5 / np.sqrt(200.0), rtol=0.02)
    assert not np.array_equal(made["layers"][0]["kernel"][0], made["layers"][0]["kernel"][1])


def test_the_log_variance_is_held_between_the_bounds_softly():
    params = {"max_log_var": jnp.array([[0.5]]), "min_log_var": jnp.array([[-10.0]])}
    raw = jnp.array([-1e4, -4.0, 0.5, 1e4])
    out = jnp.stack([jnp.zeros(4), raw, jnp.zeros(4)], axis=-1)[None]
    found = ensemble.split(params, out).log_var[0, :, 0]
    # In the middle -4 + softplus(-4 - 0.5)'s -0.011; at a bound it is log 2 = 0.693 inside.
    middle = -4.0 - np.log1p(np.exp(-4.5)) + np.log1p(np.exp(-6.0))
    np.testing.assert_allclose(found, [-10.0, middle, 0.5 - np.log(2.0), 0.5], atol=1e-3)
    assert -10.0 <= found.min() and found.max() <= 0.5 + 1e-4


def one_layer(mean, log_var, logit, kernel=0.0):
    """Of one member, two inputs and one output: what it says is its biases; bounds are too far off to matter."""
    bias = jnp.array([[mean, log_var, logit]])
    layers = ({"kernel": jnp.full((1, 2, 3), kernel), "bias": bias},)
    return {"layers": layers, "max_log_var": jnp.full((1, 1), 40.0), "min_log_var": jnp.full((1, 1), -40.0)}


def test_the_loss_by_hand():
    rows = world_model.Rows(
        jnp.zeros((1, 2, 2)), jnp.array([[[1.0], [4.0]]]), jnp.array([[0.0, 1.0]]), jnp.ones((1, 2))
    )
    # Mean 2, variance e: the squares 1 and 4, their mean 2.5; 2.5 / e + 1 = 1.9197.
    # A logit of 0 costs log 2 whatever happens. Bounds: 0.01 (40 - (-40)) = 0.8. The kernel is 0.
    expected = 2.5 / np.e + 1.0 + np.log(2.0) + 0.8
    np.testing.assert_allclose(world_model.loss(one_layer(2.0, 1.0, 0.0), rows, 0.0), expected, rtol=1e-6)
    # Twice the negative log-likelihood without log 2 pi, in the mean.
    log_density = [-0.5 * (2.0 - y) ** 2 / np.e - 0.5 - 0.5 * np.log(2.0 * np.pi) for y in (1.0, 4.0)]
    np.testing.assert_allclose(2.5 / np.e + 1.0, -2.0 * np.mean(log_density) - np.log(2.0 * np.pi), rtol=1e-6)


def test_errors_count_by_the_spread_to_the_power_two_beta():
    """Gradients: 2 (mean - y) e^((beta - 1) v) of the mean, e^(beta v) (1 - error^2 e^-v) of the log variance v."""
    rows = world_model.Rows(jnp.zeros((1, 1, 2)), jnp.full((1, 1, 1), 5.0), jnp.zeros((1, 1)), jnp.ones((1, 1)))
    for beta in (0.0, 0.5, 1.0):
        gradient = jax.grad(world_model.loss)(one_layer(2.0, 1.5, 0.0), rows, beta)["layers"][0]["bias"][0]
        expected = [-6.0 * np.exp((beta - 1.0) * 1.5), np.exp(beta * 1.5) * (1.0 - 9.0 / np.exp(1.5))]
        np.testing.assert_allclose(gradient[:2], expected, rtol=1e-5)


def test_a_successor_that_nobody_wrote_is_not_learned():
    """Its reward is: the last column."""
    layers = ({"kernel": jnp.zeros((1, 2, 5)), "bias": jnp.zeros((1, 5))},)
    params = {"layers": layers, "max_log_var": jnp.full((1, 2), 40.0), "min_log_var": jnp.full((1, 2), -40.0)}
    rows = world_model.Rows(jnp.zeros((1, 1, 2)), jnp.array([[[3.0, 2.0]]]), jnp.zeros((1, 1)), jnp.zeros((1, 1)))
    rest = np.log(2.0) + 2 * 0.8
    np.testing.assert_allclose(world_model.loss(params, rows, 0.0), 2.0**2 / 2.0 + rest, rtol=1e-6)
    known = rows._replace(known=jnp.ones((1, 1)))
    np.testing.assert_allclose(world_model.loss(params, known, 0.0), (3.0**2 + 2.0**2) / 2.0 + rest, rtol=1e-6)


def test_weights_decay_by_layer():
    assert world_model.weight_decays(5) == [2.5e-5, 5e-5, 7.5e-5, 7.5e-5, 1e-4]
    assert world_model.weight_decays(2) == [2.5e-5, 1e-4] and world_model.weight_decays(3) == [2.5e-5, 5e-5, 1e-4]
    rows = world_model.Rows(jnp.zeros((1, 1, 2)), jnp.zeros((1, 1, 1)), jnp.zeros((1, 1)), jnp.ones((1, 1)))
    # Inputs of 0: the kernel is felt by its decay alone. A single layer is the last: 1e-4 / 2 of six squares of 9.
    decay = world_model.loss(one_layer(0.0, 0.0, 0.0, kernel=300.0), rows, 0.0) - world_model.loss(
        one_layer(0.0, 0.0, 0.0), rows, 0.0
    )
    np.testing.assert_allclose(decay, 0.5e-4 * 6 * 300.0**2, rtol=1e-4)


def test_held_out_errors_are_of_known_rows_and_by_member():
    params = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), one_layer(0.0, 0.0, 0.0), one_layer(1.0, 0.0, 0.0))
    y = jnp.array([[1.0], [3.0], [100.0]])
    rows = world_model.Rows(jnp.zeros((3, 2)), y, jnp.zeros(3), jnp.array([1.0, 1.0, 0.0]))
    errors, ends = world_model.held_out(params, rows)
    np.testing.assert_allclose(errors, [(1.0 + 9.0) / 2.0, (0.0 + 4.0) / 2.0], rtol=1e-6)
    np.testing.assert_allclose(ends, np.log(2.0), rtol=1e-6)


def test_each_member_s_best_is_kept_and_elites_are_the_best_of_them(key):
    config = WorldModelConfig(hidden_dim=4, num_hidden=1, num_members=3, num_elites=2)
    state = world_model.init(key, config, 3, 2)
    for value, errors in ((1.0, [0.5, 0.3, 0.9]), (2.0, [0.4, 0.7, 0.8]), (3.0, [0.6, 0.6, 0.85])):
        params = jax.tree.map(lambda leaf: jnp.full_like(leaf, value), state.model.params)
        state = state.replace(model=state.model.replace(params=params))
        state = world_model.keep_best(state, jnp.array(errors))
    np.testing.assert_allclose(state.errors, [0.4, 0.3, 0.8])
    for leaf in jax.tree.leaves(state.best):
        np.testing.assert_array_equal(leaf.reshape(3, -1), np.broadcast_to([[2.0], [1.0], [2.0]], (3, leaf[0].size)))
    elites = world_model.elites(state, 2)
    np.testing.assert_array_equal(elites["max_log_var"][:, 0], [1.0, 2.0])  # members 1 and 0
    worse = world_model.keep_best(state, jnp.array([jnp.nan, 0.3, 1.0]))
    np.testing.assert_array_equal(worse.errors, state.errors)


def test_members_learn_from_their_own_bootstrap_samples(key):
    rows = np.asarray(world_model.bootstrap(key, 3, 10_000))
    assert rows.shape == (3, 10_000) and rows.min() >= 0 and rows.max() < 10_000
    assert not np.array_equal(rows[0], rows[1])
    # A sample with replacement holds 1 - 1/e of the rows.
    np.testing.assert_allclose([np.unique(each).size / 1e4 for each in rows], 1.0 - np.exp(-1.0), atol=0.015)


def test_rows_are_dealt_to_members(params, key):
    """Each row has one member, all members are drawn alike, and what it says is what that member says of that row."""
    dealt = one_step.deal(key, 10, 4)
    assert dealt.shape == (4, 3) and sorted(np.asarray(dealt).ravel().tolist()) == list(range(12))
    x = jax.random.normal(key, (10, 3))
    guess = one_step.predict_dealt(params, x, dealt)
    everybody, found = one_step.predict_all(params, x, dealt)
    for row in range(10):
        (member,), _ = np.nonzero(np.asarray(dealt) == row)
        wanted = ensemble.apply(params, jnp.broadcast_to(x[row], (4, 1, 3)))
        for made in (guess, everybody):
            np.testing.assert_allclose(made.mean[row], wanted.mean[member, 0], rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(made.std[row], np.exp(0.5 * wanted.log_var[member, 0]), rtol=1e-5)
            np.testing.assert_allclose(made.logit[row], wanted.logit[member, 0], rtol=1e-5, atol=1e-6)
    assert found.mean.shape == (4, 10, 2)
    dealt = jax.vmap(lambda key: one_step.deal(key, 5, 4))(jax.random.split(key, 4_000))
    of_first = np.argmax((np.asarray(dealt) == 0).any(axis=2), axis=1)
    np.testing.assert_allclose(np.bincount(of_first, minlength=4) / 4_000, 0.25, atol=0.03)


def test_the_uncertainty_by_hand():
    """Two members, one observation (of std 5 in the data) and the reward; targets have standard deviations 2 and 3."""
    normalizer = Normalizer(jnp.zeros(4), jnp.array([5.0, 1.0, 1.0, 1.0]), Layout(1, 1))
    scale = one_step.Scale(jnp.zeros(1), jnp.ones(1), jnp.zeros(2), jnp.array([2.0, 3.0]))
    mean = jnp.array([[[1.0, 0.0]], [[0.0, 8.0]]])
    log_var = 2.0 * jnp.log(jnp.array([[[0.3, 0.4]], [[0.1, 2.0]]]))
    found = ensemble.Prediction(mean, log_var, jnp.zeros((2, 1)))
    # |(0.3 * 10, 0.4 * 3)| = 3.23; |(0.1 * 10, 2 * 3)| = 6.08
    np.testing.assert_allclose(one_step.uncertainty(SPREAD, found, scale, normalizer), np.hypot(1.0, 6.0), rtol=1e-5)
    # Observations alone: 1/2 of the mean apart, each, times 10.
    np.testing.assert_allclose(one_step.uncertainty(DISAGREEMENT, found, scale, normalizer), 5.0, rtol=1e-5)


def test_statistics_are_those_of_the_transitions():
    """What a terminal row led to counts only where the file says it; a column that never changes gets a small unit."""
    obs, moved = np.float32([[0.0, 7.0], [1.0, 7.0], [3.0, 7.0]]), np.float32([[1.0, 0.0], [3.0, 0.0], [0.0, 0.0]])
    rows = Transition(
        obs, np.float32([[0.5], [-0.5], [0.0]]), np.float32([1.0, 2.0, 6.0]), obs + moved, np.float32([0, 0, 1])
    )
    scale = runs.fit_scale(rows, has_next=False)
    np.testing.assert_allclose(scale.target_mean, [2.0, 0.0, 3.0])
    np.testing.assert_allclose(scale.target_std, [1.0, 1e-3, np.sqrt(14.0 / 3.0)], rtol=1e-6)
    np.testing.assert_allclose(scale.action_std, [np.sqrt(0.5 / 3.0)], rtol=1e-6)
    np.testing.assert_allclose(runs.fit_scale(rows, has_next=True).target_mean, [4.0 / 3.0, 0.0, 3.0], rtol=1e-6)
    target = one_step.targets(scale, *map(jnp.asarray, (obs, obs + moved, rows.reward)))
    next_obs, reward = one_step.outcome(scale, jnp.asarray(obs), target)
    np.testing.assert_allclose(next_obs, obs + moved, atol=1e-5)
    np.testing.assert_allclose(reward, rows.reward, rtol=1e-6)
