"""The pendulum in the program is Gymnasium's."""

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pgd_jax.envs import pendulum
from pgd_jax.envs.base import ENVS


def test_worked_by_hand():
    """v' = v + 0.05 (15 sin(theta) + 3 torque), theta' = theta + 0.05 v', torque = 2 action, clipped."""
    env = ENVS.get("pendulum")()
    upright = env.from_obs(jnp.array([1.0, 0.0, 0.0]))
    for action, torque in ((0.5, 1.0), (7.0, 2.0)):
        obs, _, reward, terminal = env.step(jax.random.key(0), upright, jnp.array([action]))
        velocity = 0.15 * torque
        np.testing.assert_allclose(obs, [np.cos(0.05 * velocity), np.sin(0.05 * velocity), velocity], atol=1e-6)
        np.testing.assert_allclose(reward, -0.001 * torque**2, atol=1e-7)
        assert not terminal
    assert env.horizon == 200 == gymnasium.spec("Pendulum-v1").max_episode_steps


@pytest.mark.parametrize("start", [(0.1, 0.0), (3.1, -7.9), (-3.1, -7.9), (9.0, 2.0), (-1.5, 7.99)])
def test_steps_are_gymnasium_s(start):
    """From states of every kind: at the speed limit, hanging, and after whole turns."""
    host, step = gymnasium.make("Pendulum-v1").unwrapped, jax.jit(pendulum.step)
    host.reset(seed=0)
    host.state = np.array(start)
    state = pendulum.State(*jnp.asarray(start, jnp.float32))
    for action in np.random.default_rng(0).uniform(-1.5, 1.5, 20):
        wanted, reward, ended, _, _ = host.step(np.array([2.0 * action]))
        obs, state, found, terminal = step(jax.random.key(0), state, jnp.array([action], jnp.float32))
        np.testing.assert_allclose(obs, wanted, atol=2e-4)
        np.testing.assert_allclose(found, reward, atol=2e-3)
        assert bool(terminal) == ended


def test_starts_are_any_angle_and_a_small_speed():
    obs, states = jax.vmap(pendulum.reset)(jax.random.split(jax.random.key(0), 4_000))
    assert np.abs(states.theta).max() <= np.pi and np.abs(states.speed).max() <= 1.0
    # Uniform: quartiles at half of the limits, to four standard errors (0.43 * range / 2 / sqrt(4000) = 0.007 range).
    np.testing.assert_allclose(np.quantile(states.theta / np.pi, [0.25, 0.75]), [-0.5, 0.5], atol=0.06)
    np.testing.assert_allclose(np.quantile(states.speed, [0.25, 0.75]), [-0.5, 0.5], atol=0.06)
    np.testing.assert_allclose(obs[:, 0], np.cos(states.theta), atol=1e-6)


def test_an_observation_shows_its_state():
    state = pendulum.from_obs(jnp.array([2.0 * np.cos(2.5), 2.0 * np.sin(2.5), -3.0]))
    np.testing.assert_allclose(state, (2.5, -3.0), rtol=1e-6)
