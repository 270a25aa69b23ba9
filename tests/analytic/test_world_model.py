"""The world model against worlds that are known: a linear-Gaussian one is learned, an exactly linear one rolled out."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pgd_jax.core.config import RolloutConfig, WorldModelConfig
from pgd_jax.core.types import Layout, Normalizer
from pgd_jax.generators import ensemble, one_step
from pgd_jax.networks import ensemble as networks
from pgd_jax.train import world_model
from tests import quickly

# s' = s + A s + B a + N(0, diag(STD)^2), r = C s + N(0, 0.3^2), all in units of the data.
A, B = np.array([[-0.3, 0.2], [0.1, -0.5]]), np.array([[0.5], [-0.4]])
C, STD = np.array([1.0, -0.5]), np.array([0.1, 0.4, 0.3])
LAYOUT = Layout(2, 1)
IDENTITY = Normalizer(jnp.zeros(5), jnp.ones(5), LAYOUT)
SCALE = one_step.Scale(jnp.zeros(1), jnp.ones(1), jnp.zeros(3), jnp.ones(3))


def truth(x):
    """(s' - s, r) f64[..., 3] of (s, a) f64[..., 3], without noise."""
    return np.concatenate([x[..., :2] @ A.T + x[..., 2:] @ B.T, (x[..., :2] @ C)[..., None]], axis=-1)


def ends(x):
    """Probability that the episode ends: 0.9 where the first observation is above 1, else 0.05."""
    return np.where(x[..., 0] > 1.0, 0.9, 0.05)


@pytest.fixture(scope="module")
def trained():
    generator = np.random.default_rng(0)

    def rows(count):
        x = generator.normal(size=(count, 3))
        y = truth(x) + STD * generator.normal(size=(count, 3))
        terminal = generator.uniform(size=count) < ends(x)
        columns = (jnp.asarray(array, jnp.float32) for array in (x, y, terminal, np.ones(count)))
        return world_model.Rows(*columns)

    config = WorldModelConfig(
        num_members=2, num_elites=2, hidden_dim=32, num_hidden=2, num_steps=900, steps_per_chunk=300,
        batch_size=256, learning_rate=3e-3,
    )  # fmt: skip
    training = rows(8_000)
    data = world_model.Data(training, world_model.bootstrap(jax.random.key(1), 2, 8_000), rows(1_000))
    state = world_model.init(jax.random.key(0), config, 3, 3)
    found = []
    for _ in range(config.num_steps // config.steps_per_chunk):
        state, measures = world_model.train_chunk(state, data, config=config)
        found.append(measures)
    return world_model.elites(state, 2), jax.device_get(found)


def test_mean_spread_and_end_are_the_world_s(trained):
    params, _ = trained
    x = np.random.default_rng(1).uniform(-1.5, 1.5, (500, 3))
    x = x[np.abs(x[:, 0] - 1.0) > 0.2]  # away from the edge of where episodes end
    found = networks.apply(params, jnp.broadcast_to(jnp.asarray(x, jnp.float32), (2, *x.shape)))
    error = np.sqrt(np.mean((np.asarray(found.mean) - truth(x)) ** 2, axis=(0, 1)))
    assert (error < 0.25 * STD + 0.02).all()
    std = np.exp(0.5 * np.asarray(found.log_var))
    np.testing.assert_allclose(np.median(std, axis=(0, 1)), STD, rtol=0.1)
    probability = 1.0 / (1.0 + np.exp(-np.asarray(found.logit)))
    assert np.abs(probability - ends(x)).mean() < 0.08


def test_a_rare_reward_is_learned_beside_exact_dynamics():
    """By the likelihood alone (beta 0) the certain columns outweigh it: its error is then that of saying the mean."""
    generator = np.random.default_rng(3)

    def rows(count):
        x = generator.normal(size=(count, 3))
        y = truth(x)
        y[:, 2] = (x[:, 0] + x[:, 1] > 2.3) / 0.22  # 5 % of the rows, their standard deviation 0.22
        columns = (jnp.asarray(array, jnp.float32) for array in (x, y, np.zeros(count), np.ones(count)))
        return world_model.Rows(*columns)

    config = WorldModelConfig(
        num_members=1, num_elites=1, hidden_dim=32, num_hidden=2, num_steps=600, steps_per_chunk=600, learning_rate=3e-3
    )
    data = world_model.Data(rows(8_000), world_model.bootstrap(jax.random.key(1), 1, 8_000), None)
    state, _ = world_model.train_chunk(world_model.init(jax.random.key(0), config, 3, 3), data, config=config)
    fresh = rows(2_000)
    found = networks.apply(state.best, fresh.x[None]).mean[0]
    error = np.mean((np.asarray(found) - np.asarray(fresh.y)) ** 2, axis=0)
    assert error[2] < 0.4 and (error[:2] < 0.01).all()


def test_the_held_out_error_is_the_noise(trained):
    """Nothing can be better than the variance of the noise, in the mean over columns."""
    _, measures = trained
    errors = [each["validation_error"] for each in measures]
    np.testing.assert_allclose(errors[-1], np.mean(STD**2), rtol=0.15)
    assert measures[-1]["best_error"] <= min(errors) + 1e-6


def linear_model(log_std, noise_of_second=1.0, starts=None):
    """Two members of one linear layer, the second with other means by a factor; spread exp(log_std) in each target."""
    kernel, bias = np.zeros((2, 3, 7)), np.zeros((2, 7))
    for member, factor in enumerate((1.0, noise_of_second)):
        kernel[member, :, :3] = factor * np.concatenate([np.concatenate([A, B], axis=1), [[*C, 0.0]]]).T
    bias[:, 3:6] = 2.0 * log_std
    layers = ({"kernel": jnp.asarray(kernel, jnp.float32), "bias": jnp.asarray(bias, jnp.float32)},)
    bounds = {"max_log_var": jnp.full((2, 3), 40.0), "min_log_var": jnp.full((2, 3), -40.0)}
    starts = jnp.zeros((1, 2)) if starts is None else jnp.asarray(starts, jnp.float32)
    return one_step.Model({"layers": layers} | bounds, SCALE, starts)


def policy(obs):
    return jnp.tanh(obs[..., :1] - obs[..., 1:])


STARTS = np.random.default_rng(2).normal(size=(6, 2))
PLAN = ensemble.Plan(RolloutConfig(), is_terminal=lambda obs: obs[0] > 100.0)


def roll_out(plan, model, hyper, num_steps=4, key=jax.random.key(0)):
    run = quickly.jit(functools.partial(ensemble.roll_out, plan, num_steps=num_steps, policy=policy))
    return run(key=key, starts=jnp.asarray(STARTS, jnp.float32), hyper=hyper, model=model, normalizer=IDENTITY)


def test_rollouts_of_a_linear_model_are_its_own():
    hyper = ensemble.Hyper(penalty=0.0, model_noise=0.0, action_noise=0.0)
    lean = ensemble.specialised(PLAN, jax.tree.map(jnp.atleast_1d, hyper))
    assert not (lean.is_penalised or lean.is_sampled or lean.is_exploring)
    for plan in (lean, PLAN):
        rows, valid = roll_out(plan, linear_model(np.log(STD)), hyper)
        assert valid.all() and not rows.terminal.any()
        obs = STARTS
        for step in range(4):
            action = np.tanh(obs[:, :1] - obs[:, 1:])
            np.testing.assert_allclose(rows.obs[:, step], obs, atol=1e-5)
            np.testing.assert_allclose(rows.action[:, step], action, atol=1e-5)
            np.testing.assert_allclose(rows.reward[:, step], obs @ C, atol=1e-5)
            obs = obs + obs @ A.T + action @ B.T
            np.testing.assert_allclose(rows.next_obs[:, step], obs, atol=1e-5)


def test_the_penalty_is_lambda_times_the_largest_spread():
    """MOPO: r - lambda max_i |sigma_i|; here each sigma is STD, whose length is 0.51."""
    hyper = ensemble.Hyper(penalty=2.0, model_noise=0.0, action_noise=0.0)
    rows, _ = roll_out(PLAN, linear_model(np.log(STD)), hyper)
    np.testing.assert_allclose(rows.reward, rows.obs @ C - 2.0 * np.linalg.norm(STD), atol=1e-5)


def test_disagreement_charges_where_members_differ_alone():
    plan = PLAN._replace(rollout=dataclasses.replace(PLAN.rollout, uncertainty="disagreement"))
    hyper = ensemble.Hyper(penalty=2.0, model_noise=0.0, action_noise=0.0)
    rows, _ = roll_out(plan, linear_model(np.log(STD)), hyper)
    np.testing.assert_allclose(rows.reward, rows.obs @ C, atol=1e-5)
    rows, _ = roll_out(plan, linear_model(np.log(STD), noise_of_second=0.5), hyper)
    moved = truth(np.concatenate([rows.obs, rows.action], axis=-1))
    paid = rows.reward + 2.0 * np.linalg.norm(moved[..., :2] / 4.0, axis=-1)  # each 1/4 from the mean of 1 and 1/2
    said = np.asarray(paid / moved[..., 2])  # by which member
    np.testing.assert_allclose(said, np.where(said > 0.75, 1.0, 0.5), atol=1e-3)
    assert set(np.unique(said > 0.75)) == {False, True}


def test_model_noise_scales_the_spread_and_action_noise_is_clipped():
    model, many = linear_model(np.log(STD)), jnp.zeros((20_000, 2))
    for scale in (0.5, 1.0):
        hyper = ensemble.Hyper(penalty=0.0, model_noise=scale, action_noise=2.0)
        rows = jax.jit(functools.partial(ensemble.step, PLAN, policy=policy))(
            jax.random.key(0), many, hyper=hyper, model=model, normalizer=IDENTITY
        )
        noise = rows.next_obs - rows.action @ B.T.astype(np.float32)
        np.testing.assert_allclose(np.std([*noise.T, rows.reward], axis=1), scale * STD, rtol=0.03)
        # N(0, 2^2) is beyond +-1 with probability 0.617.
        np.testing.assert_allclose(np.mean(np.abs(rows.action) == 1.0), 0.617, atol=0.02)


def test_rows_after_the_end_are_not_valid_and_stay():
    plan = PLAN._replace(is_terminal=lambda obs: obs[0] > 0.0)
    hyper = ensemble.Hyper(penalty=0.0, model_noise=1.0, action_noise=0.0)
    rows, valid = roll_out(plan, linear_model(np.log(STD)), hyper, num_steps=8)
    np.testing.assert_array_equal(rows.terminal, (np.asarray(rows.next_obs)[..., 0] > 0.0))
    ended = np.cumsum(rows.terminal, axis=1) - rows.terminal > 0.0
    assert ended.any() and not ended[:, 0].any()
    np.testing.assert_array_equal(valid, ~ended)
    for rollout, over in zip(np.asarray(rows.obs), ended, strict=True):
        assert np.unique(rollout[over], axis=0).shape[0] <= 1


def test_a_learned_end_is_drawn_by_its_probability():
    model = linear_model(np.log(STD))
    bias = model.params["layers"][0]["bias"].at[:, 6].set(np.log(0.2 / 0.8))
    model = model.replace(params=model.params | {"layers": ({**model.params["layers"][0], "bias": bias},)})
    plan, many = PLAN._replace(is_terminal=None), jnp.zeros((20_000, 2))
    for noise, expected in ((1.0, 0.2), (0.0, 0.0)):
        hyper = ensemble.Hyper(penalty=0.0, model_noise=noise, action_noise=0.0)
        rows = jax.jit(functools.partial(ensemble.step, plan, policy=policy))(
            jax.random.key(0), many, hyper=hyper, model=model, normalizer=IDENTITY
        )
        np.testing.assert_allclose(rows.terminal.mean(), expected, atol=0.015)
