"""Episodes on the host, on worlds whose returns can be added up by hand, and Gymnasium's environments as they are."""

import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from pgd_jax.core.errors import UserError
from pgd_jax.envs import base, gymnasium as gymnasium_envs, host

mujoco = pytest.importorskip("mujoco")


class Clock(gymnasium.Env):
    """Shows (t, length); step t pays t + 1; an episode of a random length in 1..longest ends with step length - 1."""

    observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self, longest):
        self.longest, self.calls = longest, []

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.calls.append("reset")
        self.time, self.length = 0, int(self.np_random.integers(1, self.longest + 1))
        return np.array([0, self.length], np.float32), {"ignored": self.length}

    def step(self, action):
        self.calls.append("step")
        assert self.time < self.length, "stepped after its end"
        self.time += 1
        return np.array([self.time, self.length], np.float32), float(self.time), self.time == self.length, False, {}


def clock(longest, horizon=9):
    made = []

    def make():
        made.append(Clock(longest))
        return gymnasium.wrappers.TimeLimit(made[-1], horizon)

    return base.HostEnv("clock", 2, 1, horizon, make), made


def idle(obs):
    return np.zeros((*obs.shape[:-1], 1), np.float32)


SEEDS, DISCOUNT = np.array([3, 4, 3], np.int32), np.array([0.5, 0.5, 1.0], np.float32)


def test_every_episode_counts_once_and_to_its_end():
    env, made = clock(longest=5)
    episodes = host.Evaluator(env, 3, 20).evaluate(idle, SEEDS, 0, DISCOUNT)
    lengths = episodes.lengths
    assert lengths.shape == (3, 20) and set(lengths.ravel()) == {1, 2, 3, 4, 5}
    np.testing.assert_array_equal(episodes.returns, lengths * (lengths + 1) / 2)  # 1 + 2 + ... + L
    # sum_t 0.5^t (t + 1) for L = 1..5: 1, +1, +0.75, +0.5, +0.3125
    by_length = np.array([1.0, 2.0, 2.75, 3.25, 3.5625])
    np.testing.assert_array_equal(episodes.discounted_returns[:2], by_length[lengths[:2] - 1])
    np.testing.assert_array_equal(episodes.discounted_returns[2], episodes.returns[2])  # discount 1
    assert not episodes.successes.any()  # none is told of
    # What has ended is neither stepped nor reset again.
    assert [env.calls for env in made] == [["reset"] + ["step"] * length for length in lengths.ravel()]


class Bell(Clock):
    """Says "success" in its second step alone, and goes on."""

    def step(self, action):
        obs, reward, terminated, truncated, _ = super().step(action)
        return obs, reward, terminated, truncated, {"success": float(self.time == 2)}


def test_an_episode_that_is_told_so_once_has_succeeded():
    env = base.HostEnv("bell", 2, 1, 9, lambda: Bell(longest=3), has_success=True)
    evaluator = host.Evaluator(env, 3, 20)
    for number in range(2):  # nothing of the first evaluation is left in the second
        episodes = evaluator.evaluate(idle, SEEDS, number, DISCOUNT)
        assert set(episodes.lengths.ravel()) == {1, 2, 3}
        np.testing.assert_array_equal(episodes.successes, episodes.lengths >= 2)


def test_the_horizon_ends_what_never_terminates():
    env, _ = clock(longest=10**6, horizon=4)
    episodes = host.Evaluator(env, 3, 2).evaluate(idle, SEEDS, 0, DISCOUNT)
    np.testing.assert_array_equal(episodes.lengths, 4)
    np.testing.assert_array_equal(episodes.returns, 10.0)


@pytest.mark.parametrize("horizon", [2, 7])
def test_episodes_of_another_length(horizon):
    env = host.with_horizon(clock(longest=10**6, horizon=4)[0], horizon)
    assert env.horizon == horizon
    episodes = host.Evaluator(env, 3, 2).evaluate(idle, SEEDS, 0, DISCOUNT)
    np.testing.assert_array_equal(episodes.lengths, horizon)


def test_episodes_depend_on_seed_and_number_alone(monkeypatch):
    env, made = clock(longest=1000, horizon=2000)
    evaluator = host.Evaluator(env, 3, 6)
    lengths = evaluator.evaluate(idle, SEEDS, 7, DISCOUNT).lengths
    np.testing.assert_array_equal(evaluator.evaluate(idle, SEEDS, 7, DISCOUNT).lengths, lengths)
    np.testing.assert_array_equal(lengths[0], lengths[2])  # one seed, two settings: the same starts
    others = evaluator.evaluate(idle, SEEDS, 8, DISCOUNT).lengths
    assert len({*lengths[:2].ravel(), *others[:2].ravel()}) >= 22  # of 24 from 1..1000
    assert len(made) == 18
    # In rounds of two environments a lane, the same episodes.
    monkeypatch.setattr(host, "MAX_ENVIRONMENTS", 8)
    in_rounds = host.Evaluator(env, 3, 6)
    np.testing.assert_array_equal(in_rounds.evaluate(idle, SEEDS, 7, DISCOUNT).lengths, lengths)
    assert in_rounds.episodes_at_once == 2 and len(made) == 18 + 6


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_bad_action_shows_in_the_return_of_its_episode_only(bad):
    def policy(obs):
        return np.where(obs[..., :1] == 2.0, np.float32(bad), np.float32(0.0))  # at the third step

    env, made = clock(longest=5)
    episodes = host.Evaluator(env, 3, 20).evaluate(policy, SEEDS, 0, DISCOUNT)
    wanted = np.array([env.length for env in made]).reshape(3, 20) >= 3  # shorter episodes were over before
    assert wanted.any() and not wanted.all()
    np.testing.assert_array_equal(np.isnan(episodes.returns), wanted)
    np.testing.assert_array_equal(np.isnan(episodes.discounted_returns), wanted)
    assert max(env.calls.count("step") for env in made) == 2  # no simulator was given it


TASKS = {
    "hopper": "Hopper-v4", "halfcheetah": "HalfCheetah-v4", "walker2d": "Walker2d-v4", "ant": "Ant-v4",
    "pendulum": "Pendulum-v1", "mountain-car-continuous": "MountainCarContinuous-v0",
}  # fmt: skip


@pytest.mark.parametrize("name", TASKS)
def test_gymnasiums_environments_are_as_named(name, tmp_path, monkeypatch):
    """An episode as Gymnasium's own, but for the action's scale; nothing is warned of or written on the way."""
    monkeypatch.chdir(tmp_path)
    described = base.HOST_ENVS.get(name)()
    env = described.make()
    assert list(tmp_path.iterdir()) == []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        original = gymnasium.make(TASKS[name])
    high = original.action_space.high
    np.testing.assert_array_equal(original.action_space.low, -high)
    assert described.horizon == original.spec.max_episode_steps
    obs, wanted = env.reset(seed=3)[0], original.reset(seed=3)[0]
    assert obs.shape == (described.obs_dim,) and obs.dtype == np.float32
    generator = np.random.default_rng(0)
    for _ in range(50):
        np.testing.assert_array_equal(obs, wanted.astype(np.float32))
        action = generator.uniform(-1.0, 1.0, described.action_dim).astype(np.float32)
        obs, *rest = env.step(action)[:4]
        wanted, *expected = original.step(action * high)[:4]
        assert rest == [pytest.approx(float(expected[0]), rel=1e-6), *expected[1:]]
        if rest[1] or rest[2]:
            break


def test_actions_beyond_the_box_act_as_its_edge():
    def step(action):
        env = base.HOST_ENVS.get("pendulum")().make()
        env.reset(seed=0)
        return env.step(np.array([action], np.float32))

    np.testing.assert_array_equal(step(1.0)[0], step(3.0)[0])
    assert not np.array_equal(step(1.0)[0], step(0.5)[0])


def test_an_absent_extra_is_named(monkeypatch):
    monkeypatch.setattr(gymnasium_envs.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r'"hopper" needs the package "mujoco".*pip install "pgd_jax\[mujoco\]".*none'):
        base.HOST_ENVS.get("hopper")()
    base.HOST_ENVS.get("pendulum")()  # needs none
