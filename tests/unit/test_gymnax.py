import importlib.util

import gymnasium
import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pgd_jax.core.errors import UserError
from pgd_jax.envs import base, classic, gymnax as adapter


def test_never_resets_at_gymnax_s_own_time_limit():
    env = adapter.make("mountain-car-continuous")
    state = env.from_obs(jnp.array([-0.5, 0.0])).replace(time=jnp.int32(998))
    obs, state, _, _ = env.step(jax.random.key(0), state, jnp.zeros(1))
    # 0.0025 cos(3 * -0.5) = 0.000177 downhill; gymnax's `step` would return a random start here
    np.testing.assert_allclose(obs, [-0.500177, -0.000177], atol=1e-6)
    assert int(state.time) == 999


def test_the_library_is_the_one_that_is_wrapped():
    env, params = gymnax.make("Swimmer-misc")
    obs, state = env.reset_env(jax.random.key(3), params)
    ours, our_state = adapter.make("swimmer-misc").reset(jax.random.key(3))
    np.testing.assert_array_equal(ours, obs)
    box = env.action_space(params)
    action = jnp.full(box.shape, 0.3)
    scaled = (box.high + box.low) / 2.0 + (box.high - box.low) / 2.0 * action
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        theirs = env.step_env(jax.random.key(4), state, scaled, params)
    found = adapter.make("swimmer-misc").step(jax.random.key(4), our_state, action)
    np.testing.assert_allclose(found[0], theirs[0], atol=1e-6)
    np.testing.assert_allclose(found[2], theirs[2], atol=1e-5)


def test_mountain_car_is_gymnasium_s_also_at_the_left_wall():
    """gymnax's own keeps its speed into the wall: there the two would part."""
    host, env = gymnasium.make("MountainCarContinuous-v0"), adapter.make("mountain-car-continuous")
    step = jax.jit(env.step)
    host.reset(seed=0)
    at_wall = 0
    for state in ([-1.19, -0.05], [-1.2, -0.01], [-0.5, 0.0], [0.44, 0.05], [0.3, -0.07]):
        for action in (-1.0, 0.4):
            host.unwrapped.state = np.array(state)
            obs, reward, terminal, _, _ = host.unwrapped.step(np.array([action]))
            found = step(jax.random.key(0), env.from_obs(jnp.asarray(state)), jnp.array([action]))
            np.testing.assert_allclose(found[0], obs, atol=1e-6)
            np.testing.assert_allclose(found[2], reward, atol=1e-4)
            assert bool(found[3]) == terminal
            at_wall += obs[0] == np.float32(-1.2)
    assert at_wall >= 2 and env.horizon == 999


def test_every_task_has_its_name():
    assert sorted(adapter.TASKS) == sorted(classic.NAMES)
    assert base.ENVS.get("reacher-misc")() is adapter.make("reacher-misc")


def test_the_absent_extra_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r'"reacher-misc" needs the package "gymnax".*pip install "pgd_jax\[gymnax\]"'):
        base.ENVS.get("reacher-misc")()
