"""Episode bookkeeping, on a world whose returns can be added up by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pgd_jax.envs.base import EvalEnv
from pgd_jax.envs.evaluate import evaluate


def clock(horizon, longest):
    """Shows (t, length); step t pays t + 1; an episode of a random length in 1..longest ends with step length - 1."""

    def reset(key):
        state = jnp.stack([jnp.int32(0), jax.random.randint(key, (), 1, longest + 1)])
        return state.astype(jnp.float32), state

    def step(key, state, action):
        new = state + jnp.array([1, 0])
        return new.astype(jnp.float32), new, new[0].astype(jnp.float32), new[0] >= new[1]

    return EvalEnv("clock", 2, 1, horizon, reset, step, None)


def idle(obs):
    return jnp.zeros((*obs.shape[:-1], 1))


def run(policy, env, num_episodes, discount=1.0):
    return jax.jit(lambda key: evaluate(key, policy, env, num_episodes, discount))(jax.random.key(0))


def test_only_rewards_up_to_the_terminal_step_count():
    episodes = run(idle, clock(horizon=9, longest=5), 64, discount=0.5)
    lengths = np.asarray(episodes.lengths)
    assert set(lengths) == {1, 2, 3, 4, 5}
    np.testing.assert_array_equal(episodes.returns, lengths * (lengths + 1) / 2)  # 1 + 2 + ... + L
    # sum_t 0.5^t (t + 1) for L = 1..5: 1, +1, +0.75, +0.5, +0.3125
    np.testing.assert_array_equal(episodes.discounted_returns, np.array([1.0, 2.0, 2.75, 3.25, 3.5625])[lengths - 1])
    assert episodes.returns.dtype == episodes.discounted_returns.dtype == jnp.float32
    assert episodes.lengths.dtype == jnp.int32


def test_the_horizon_ends_what_never_terminates():
    episodes = run(idle, clock(horizon=4, longest=1)._replace(step=endless(clock(4, 1).step)), 3, discount=0.5)
    np.testing.assert_array_equal(episodes.lengths, [4, 4, 4])
    np.testing.assert_array_equal(episodes.returns, [10.0, 10.0, 10.0])
    np.testing.assert_array_equal(episodes.discounted_returns, [3.25, 3.25, 3.25])


def test_ends_with_its_last_episode_not_with_the_horizon():
    """A billion steps would not end within this test."""
    episodes = run(idle, clock(horizon=10**9, longest=5), 8)
    assert np.asarray(episodes.lengths).max() <= 5


def endless(step):
    return lambda key, state, action: (*step(key, state, action)[:3], jnp.bool_(False))


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf])
def test_a_bad_action_shows_in_the_return_of_its_episode_only(bad):
    """The world ignores its action, so nothing but `evaluate` can notice."""

    def policy(obs):
        return jnp.where(obs[..., :1] == 2.0, bad, 0.0)  # at the third step

    episodes = run(policy, clock(horizon=9, longest=5), 64)
    spoilt = np.asarray(episodes.lengths) >= 3  # shorter episodes were over before
    assert spoilt.any() and not spoilt.all()
    np.testing.assert_array_equal(np.isnan(episodes.returns), spoilt)
    np.testing.assert_array_equal(np.isnan(episodes.discounted_returns), spoilt)


def test_the_policy_sees_the_whole_batch_once_a_step():
    shapes = []

    def policy(obs):
        shapes.append(obs.shape)
        return idle(obs)

    run(policy, clock(horizon=9, longest=5), 7)
    assert set(shapes) == {(7, 2)}


def test_every_step_of_every_episode_has_its_own_key():
    env = EvalEnv(
        "noise",
        1,
        1,
        2,
        lambda key: (jnp.zeros(1), jnp.int32(0)),
        lambda key, state, action: (jnp.zeros(1), state, jax.random.uniform(key), jnp.bool_(False)),
        None,
    )
    episodes = run(idle, env, 100, discount=0.0)
    first, second = episodes.discounted_returns, episodes.returns - episodes.discounted_returns
    assert len(np.unique(np.concatenate([first, second]))) > 195  # of 200 uniform numbers
