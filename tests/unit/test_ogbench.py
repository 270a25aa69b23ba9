"""OGBench's tasks and datasets against the package: its environments, its rewards, its loader."""

import dataclasses
import functools
from typing import NamedTuple

import gymnasium
import numpy as np
import pytest

from pgd_jax.core.errors import UserError
from pgd_jax.core.types import Layout
from pgd_jax.data import episodes, loading, normalizer as normalizers
from pgd_jax.envs import base, host, ogbench as tasks
from pgd_jax.envs.gymnasium import Adapter
from tests.ogbench_files import STEPS, pointmaze_like, record, solve, write

ogbench = pytest.importorskip("ogbench", reason="ogbench is not installed (on Python 3.13 it has no wheels)")

DATASETS = {
    "pointmaze-medium": "pointmaze-medium-navigate-singletask-v0",
    "antmaze-large": "antmaze-large-navigate-singletask-task2-v0",
    "humanoidmaze-medium": "humanoidmaze-medium-stitch-singletask-task3-v0",
    "antsoccer-arena": "antsoccer-arena-navigate-singletask-v0",
    "cube-double": "cube-double-play-singletask-v0",
    "scene": "scene-noisy-singletask-task4-v0",
    "puzzle-3x3": "puzzle-3x3-play-singletask-task5-v0",
}


class Recorded(NamedTuple):
    name: str
    env: gymnasium.Env
    rewards: np.ndarray  # f64[N] that the environment's own steps paid
    folder: str


@functools.cache
def build(name):
    """One environment a task for all tests: an arm's takes seconds to compile."""
    return tasks.make(name)


@pytest.fixture(scope="module", params=DATASETS.values(), ids=DATASETS.keys())
def recorded(request, tmp_path_factory):
    env = build(loading.ogbench.parse(request.param).env_name)
    arrays, rewards = record(env)
    folder = tmp_path_factory.mktemp("ogbench")
    write(folder, loading.ogbench.parse(request.param).file_name.removesuffix(".npz"), arrays)
    return Recorded(request.param, env, rewards, str(folder))


@pytest.fixture
def raw(recorded, monkeypatch):
    monkeypatch.setenv("OGBENCH_DATASET_DIR", recorded.folder)
    monkeypatch.setattr(tasks, "make", build)
    return loading.load(f"ogbench:{recorded.name}")


def test_rewards_are_those_of_the_environments_own_steps(raw, recorded):
    """r(s): what a step from the state pays. Rows that begin at the goal are among them."""
    np.testing.assert_array_equal(raw.rewards, recorded.rewards.astype(np.float32))
    assert raw.terminals[STEPS + 1] and not raw.terminals[: STEPS + 1].any()
    np.testing.assert_array_equal(raw.terminals, (recorded.rewards == 0.0) & ~raw.timeouts)
    assert len(set(raw.rewards)) > 1 and raw.timeouts.sum() == 4


def test_transitions_are_those_of_the_packages_loader(raw, recorded):
    theirs, _ = ogbench.make_env_and_datasets(
        recorded.name, dataset_dir=recorded.folder, dataset_only=True, cur_env=recorded.env
    )
    layout = Layout(raw.observations.shape[1], raw.actions.shape[1])
    plain = normalizers.fit(episodes.rows(raw), layout)
    plain = dataclasses.replace(plain, mean=np.zeros_like(plain.mean), std=np.ones_like(plain.std))
    ours = episodes.transitions(raw, episodes.segments(raw), plain)
    assert len(ours.reward) == 4 * STEPS
    np.testing.assert_array_equal(ours.obs, theirs["observations"])
    np.testing.assert_array_equal(ours.action, theirs["actions"])
    np.testing.assert_array_equal(ours.reward, theirs["rewards"])
    np.testing.assert_array_equal(ours.terminal, 1.0 - theirs["masks"])
    goes_on = ours.terminal == 0.0  # what follows a terminal is never asked for
    np.testing.assert_array_equal(ours.next_obs[goes_on], theirs["next_observations"][goes_on])


def test_what_the_package_s_loader_gave_is_read_as_it_is(raw, recorded, tmp_path, monkeypatch):
    theirs, _ = ogbench.make_env_and_datasets(
        recorded.name, dataset_dir=recorded.folder, dataset_only=True, cur_env=recorded.env
    )
    write(tmp_path, recorded.name, theirs)
    monkeypatch.setenv("OGBENCH_DATASET_DIR", str(tmp_path))
    kept = loading.load(f"ogbench:{recorded.name}")
    rows = ~raw.timeouts
    np.testing.assert_array_equal(kept.rewards, raw.rewards[rows])
    np.testing.assert_array_equal(kept.terminals, raw.terminals[rows])
    np.testing.assert_array_equal(kept.next_observations, raw.observations[np.flatnonzero(rows) + 1])
    np.testing.assert_array_equal(kept.timeouts | kept.terminals, theirs["terminals"] + 1.0 - theirs["masks"] > 0.0)


def test_the_host_tells_success_and_repeats_an_episode(recorded):
    """Nothing of an episode is left after it, nor in numpy's global generator; a solved state ends it, and says so."""
    described = base.HOST_ENVS.get(f"ogbench:{loading.ogbench.parse(recorded.name).env_name}")()
    env = Adapter(recorded.env)
    recorded.env.unwrapped._terminate_at_goal = True
    before = np.random.get_state()[1].copy()

    def rollout(seed):
        generator, obs = np.random.default_rng(0), [env.reset(seed=seed)[0]]
        for _ in range(5):
            obs.append(env.step(generator.uniform(-1.0, 1.0, described.action_dim))[0])
        return np.array(obs)

    first = rollout(1)
    assert first.shape == (6, described.obs_dim) and first.dtype == np.float32
    np.testing.assert_array_equal(rollout(1), first)
    assert not np.array_equal(rollout(2), first)
    env.reset(seed=1)
    solve(recorded.env.unwrapped)
    _, reward, terminated, _, info = env.step(np.zeros(described.action_dim))
    assert (reward, terminated, info["success"]) == (0.0, True, 1.0)
    np.testing.assert_array_equal(np.random.get_state()[1], before)


def test_every_single_task_of_states_is_here_and_no_other():
    spec = {name: found for name, found in gymnasium.registry.items() if "singletask" in name}
    theirs = {f"ogbench:{name}" for name in spec if not name.startswith(("visual-", "humanoidmaze-teleport"))}
    ours = {name for name in base.HOST_ENVS if name.startswith("ogbench:")}
    assert ours == theirs and len(ours) == 23 * 6
    for name in ours:
        described = base.HOST_ENVS.get(name)()
        assert described.horizon == spec[name.removeprefix("ogbench:")].max_episode_steps and described.has_success


def test_states_of_another_model_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("OGBENCH_DATASET_DIR", str(tmp_path))
    write(tmp_path, "pointmaze-medium-navigate-v0", pointmaze_like(qpos=np.zeros((7, 3))))
    with pytest.raises(UserError, match="qpos has 3 columns; pointmaze-medium has 2"):
        loading.load("ogbench:pointmaze-medium-navigate-singletask-v0")


MAZES = [name for name in tasks.ENVIRONMENTS if not name.startswith(("cube", "scene", "puzzle"))]
ARMS = [pytest.param(name, marks=pytest.mark.slow) for name in tasks.ENVIRONMENTS if name not in MAZES]


@pytest.mark.parametrize("name", MAZES + ARMS)
def test_shapes_are_the_package_s(name, tmp_path, monkeypatch):
    monkeypatch.setattr(tasks.tempfile, "tempdir", str(tmp_path))
    described = base.HOST_ENVS.get(f"ogbench:{name}-singletask-v0")()
    env = described.make()
    assert env.reset(seed=0)[0].shape == (described.obs_dim,) and env.action_space.shape == (described.action_dim,)
    assert list(tmp_path.iterdir()) == []  # models that mazes write while they are built


def test_an_episode_that_reaches_the_goal_is_counted():
    """A point that starts at the goal succeeds in its first step, one that stands still elsewhere never does."""
    described = base.HOST_ENVS.get("ogbench:pointmaze-medium-singletask-v0")()

    class AtTheGoal(gymnasium.Wrapper):
        def reset(self, *, seed=None, options=None):
            obs, info = self.env.reset(seed=seed)
            return (np.asarray(solve(self.env.unwrapped), np.float32) if seed % 2 else obs), info

    env = described._replace(horizon=3, make=lambda: AtTheGoal(described.make()))
    evaluator = host.Evaluator(host.with_horizon(env, 3), 1, 8)
    still = evaluator.evaluate(lambda obs: np.zeros((*obs.shape[:-1], 2)), np.array([0]), 0, np.ones(1))
    assert still.successes.any() and not still.successes.all()
    np.testing.assert_array_equal(still.lengths == 1, still.successes)
    np.testing.assert_array_equal(still.returns, np.where(still.successes, 0.0, -3.0))
