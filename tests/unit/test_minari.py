"""Minari datasets, written by the minari library itself, become rows; bad ones are refused by name."""

import contextlib
import json
import shutil
import sys
import tracemalloc
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec

from pgd_jax.core import memory
from pgd_jax.core.errors import UserError
from pgd_jax.data import episodes, loading, minari
from pgd_jax.data.base import Reading

library = pytest.importorskip("minari", reason="the extra minari is not installed")
collector = pytest.importorskip("minari.data_collector")

UNIT = spaces.Box(-1.0, 1.0, (1,))


@pytest.fixture(autouse=True)
def places(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    monkeypatch.setenv("PGD_JAX_CACHE_DIR", str(tmp_path / "cache"))


def vector(width):
    return spaces.Box(-np.inf, np.inf, (width,), np.float64)


def episode(length, **changes):
    """Observations (10 length + t) in one column, actions 0.1 t, rewards t; truncated at its end."""
    t = np.arange(length)
    fields = dict(observations=10.0 * length + np.arange(length + 1.0)[:, None], actions=0.1 * t[:, None])
    fields |= dict(rewards=t.astype(float), terminations=np.zeros(length, bool), truncations=t == length - 1)
    return collector.EpisodeBuffer(**fields | changes)


def create(name, buffers, observation_space=None, action_space=UNIT, **metadata):
    """A dataset as the library makes it, without its warnings of missing metadata."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = library.create_dataset_from_buffers(
            name, buffers, observation_space=observation_space or vector(1), action_space=action_space
        )
    dataset.storage.update_metadata(metadata)
    return dataset


def test_episodes_become_rows():
    """Three steps and a terminal; two steps, cut without a flag: nothing follows, so it is a timeout."""
    terminal = dict(terminations=np.array([False, False, True]), truncations=np.zeros(3, bool))
    create("toy/box-v0", [episode(3, **terminal), episode(2, truncations=np.zeros(2, bool))])
    raw = loading.load("minari:toy/box-v0")
    assert (raw.name, raw.env, raw.reference) == ("minari:toy/box-v0", "", "")
    np.testing.assert_array_equal(raw.observations, [[30], [31], [32], [20], [21]])
    np.testing.assert_array_equal(raw.next_observations, [[31], [32], [33], [21], [22]])
    np.testing.assert_allclose(raw.actions[:, 0], [0, 0.1, 0.2, 0, 0.1], rtol=1e-6)
    np.testing.assert_array_equal(raw.rewards, [0, 1, 2, 0, 1])
    np.testing.assert_array_equal(raw.terminals, [0, 0, 1, 0, 0])
    np.testing.assert_array_equal(raw.timeouts, [0, 0, 0, 0, 1])
    assert {a.dtype for a in (raw.observations, raw.actions, raw.rewards)} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(episodes.segments(raw).stop, [3, 5])
    np.testing.assert_array_equal(loading.load("minari:toy/box-v0", reading=Reading(max_rows=4)).rewards, [0, 1, 2, 0])


def goal_space(observation, achieved, desired):
    return spaces.Dict({"observation": observation, "achieved_goal": achieved, "desired_goal": desired})


STATE = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]])
PLACE = np.array([[0.5, 0.6], [0.7, 0.8], [0.9, 1.0]])
TASK_GOALS = spaces.Dict(kettle=vector(2), lamp=vector(1))
GOALS = {
    # The goal moves; the place is part of the observation.
    "pointmaze": (
        goal_space(vector(3), vector(2), vector(2)),
        dict(observation=STATE, achieved_goal=STATE[:, :2], desired_goal=PLACE),
        np.concatenate([STATE, PLACE], axis=1),
    ),
    # The place is not part of the observation; the goal does not move.
    "antmaze": (
        goal_space(vector(3), vector(2), vector(2)),
        dict(observation=STATE, achieved_goal=PLACE, desired_goal=np.ones((3, 2))),
        np.concatenate([PLACE, STATE], axis=1),
    ),
    # Goals by task, of which the observation has noisy readings.
    "kitchen": (
        goal_space(vector(3), TASK_GOALS, TASK_GOALS),
        dict(
            observation=STATE,
            achieved_goal=dict(kettle=STATE[:, 1:] + 5e-5, lamp=STATE[:, :1] - 5e-5),
            desired_goal=dict(kettle=np.ones((3, 2)), lamp=np.zeros((3, 1))),
        ),
        STATE,
    ),
    "parts": (
        spaces.Dict(a=vector(1), b=spaces.Dict(c=vector(2))),
        dict(a=STATE[:, :1], b=dict(c=PLACE)),
        np.concatenate([STATE[:, :1], PLACE], axis=1),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", GOALS)
def test_parts_of_observations(case):
    space, observations, expected = GOALS[case]
    create("toy/goal-v0", [episode(2, observations=observations)], observation_space=space)
    raw = minari.load("toy/goal-v0")
    np.testing.assert_array_equal(raw.observations, expected[:2].astype(np.float32))
    np.testing.assert_array_equal(raw.next_observations, expected[1:].astype(np.float32))


def test_parts_are_kept_for_what_any_episode_shows():
    """The place leaves the observation in the second episode alone, the goal moves between the two alone."""
    space = goal_space(vector(3), vector(2), vector(2))
    first = dict(observation=STATE, achieved_goal=STATE[:, :2], desired_goal=np.ones((3, 2)))
    second = first | dict(desired_goal=np.zeros((3, 2)))
    create("toy/moved-v0", [episode(2, observations=o) for o in (first, second)], observation_space=space)
    goals = np.repeat([1.0, 0.0], 2)[:, None] * np.ones(2)
    np.testing.assert_array_equal(minari.load("toy/moved-v0").observations, np.c_[[*STATE[:2]] * 2, goals])
    second = first | dict(achieved_goal=PLACE)
    create("toy/placed-v0", [episode(2, observations=o) for o in (first, second)], observation_space=space)
    places = np.concatenate([STATE[:2, :2], PLACE[:2]])
    np.testing.assert_array_equal(
        minari.load("toy/placed-v0").observations, np.float32(np.c_[places, [*STATE[:2]] * 2])
    )
    create("toy/none-v0", [], observation_space=space)
    with pytest.raises(UserError, match="minari:toy/none-v0 has no rows"):
        minari.load("toy/none-v0")


def test_a_dataset_larger_than_memory_is_read_in_part(monkeypatch):
    """40 episodes of 500 rows of 2 x 20 columns: 4 MB in float32, 0.1 an episode."""
    obs = np.random.default_rng(0).normal(size=(501, 20))
    create("toy/large-v0", [episode(500, observations=obs, actions=np.zeros((500, 1)))] * 40, vector(20))
    free = sum(memory.estimate(500, 20, 1, has_next=True))
    monkeypatch.setattr(memory, "available", lambda: memory.Bytes(free, free))
    with pytest.raises(UserError, match="20000 rows take about .* GB.*max_rows=450$"):
        minari.load("toy/large-v0")
    shutil.rmtree(minari.cache_path("toy/large-v0", minari.root() / "toy/large-v0").parent)
    tracemalloc.start()
    raw = minari.load("toy/large-v0", reading=Reading(max_rows=450))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(raw.observations, np.float32(obs[:450]))
    assert peak < 2e6 < 20_000 * 4 * 2 * 20


def test_a_later_row_is_named_by_its_place_in_the_dataset():
    create("toy/late-v0", [episode(3), episode(2, rewards=np.array([0.0, np.nan]))])
    with pytest.raises(UserError, match="minari:toy/late-v0: rewards holds NaN or infinity, first in row 4"):
        minari.load("toy/late-v0")


def test_actions_are_scaled_by_their_space_and_it_is_said(capsys):
    space = spaces.Box(np.array([-2.0, 0.0], np.float32), np.array([2.0, 10.0], np.float32))
    create("toy/wide-v0", [episode(3, actions=np.array([[-2.0, 0.0], [1.0, 7.5], [2.0, 10.0]]))], action_space=space)
    raw = minari.load("toy/wide-v0")
    np.testing.assert_allclose(raw.actions, [[-1, -1], [0.5, 0.5], [1, 1]])
    assert "actions scaled from [[-2.0, 0.0], [2.0, 10.0]] to [-1, 1]" in capsys.readouterr().err


IMAGE = spaces.Box(0, 255, (4, 4, 3), np.uint8)
REFUSED = {
    "image": (dict(observation_space=IMAGE), dict(observations=np.zeros((3, 4, 4, 3), np.uint8)), "are Box of shape"),
    "part": (
        dict(observation_space=spaces.Dict(a=vector(1), n=spaces.Discrete(3))),
        dict(observations=dict(a=np.zeros((3, 1)), n=np.zeros(3, int))),
        "observations/n are Discrete",
    ),
    "discrete": (dict(action_space=spaces.Discrete(3)), dict(actions=np.zeros(2, int)), "actions are Discrete"),
    "unbounded": (dict(action_space=vector(1)), {}, r"bounds of actions are \[-inf, inf\]"),
    "range": ({}, dict(actions=np.array([[0.0], [1.5]])), r"actions must lie in \[-1, 1\]; row 1"),
    "constant": ({}, dict(observations=np.ones((3, 1))), "in its flat copy.*: all 2 observations are the same"),
    "nan": ({}, dict(rewards=np.array([0.0, np.nan])), "rewards holds NaN or infinity, first in row 1"),
    "overflow": ({}, dict(rewards=np.array([0.0, 1e300])), "rewards holds NaN or infinity, first in row 1"),
    "short": ({}, dict(observations=np.zeros((2, 1))), r"0 has observations of shape \(2, 1\); expected \(3, 1\)"),
    "flags": ({}, dict(truncations=np.zeros(1, bool)), r"episode 0 has truncations of shape \(1,\); expected \(2,\)"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_become_rows_is_refused_by_name(case, tmp_path):
    settings, changes, message = REFUSED[case]
    create("toy/bad-v0", [episode(2, **changes)], **settings)
    with pytest.raises(UserError, match=message) as caught:
        minari.load("toy/bad-v0")
    assert "minari:toy/bad-v0" in str(caught.value)
    assert not list(tmp_path.glob("cache/**/*.part"))


def test_no_episodes():
    create("toy/none-v0", [])
    with pytest.raises(UserError, match="minari:toy/none-v0 has no rows"):
        minari.load("toy/none-v0")


@pytest.mark.parametrize(
    ("name", "damage"), [("main_data.hdf5", 0.5), ("main_data.hdf5", None), ("metadata.json", 0.5)]
)
def test_damage_is_one_message_with_the_folder(tmp_path, name, damage):
    create("toy/hurt-v0", [episode(2)])
    victim = tmp_path / "minari" / "toy" / "hurt-v0" / "data" / name
    content = victim.read_bytes()
    victim.unlink()
    if damage:
        victim.write_bytes(content[: int(damage * len(content))])
    with pytest.raises(UserError, match=r"minari/toy/hurt-v0\S* cannot be read"):
        minari.load("toy/hurt-v0")


def test_another_minari_is_named(tmp_path):
    create("toy/new-v0", [episode(2)])
    path = tmp_path / "minari" / "toy" / "new-v0" / "data" / "metadata.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"minari_version": "9.0"}))
    with pytest.raises(UserError, match="does not support the dataset generated by Minari 9.0"):
        minari.load("toy/new-v0")


def test_unknown_names(tmp_path):
    with pytest.raises(
        UserError, match='Minari dataset "toy/bax-v0" is not in .*minari; fetch it with the `download` setting'
    ):
        minari.load("toy/bax-v0")
    assert list(tmp_path.iterdir()) == [], "looking creates nothing"
    create("toy/box-v0", [episode(2)])
    with pytest.raises(UserError, match='did you mean "toy/box-v0"'):
        minari.load("toy/bax-v0")
    for name in ("toy/box", "../toy/box-v0", "/etc-v0", "", "toy//box-v0", "x/box-v0"):
        with pytest.raises(UserError, match="is no name of a Minari dataset"):
            minari.load(name)
    (tmp_path / "minari" / "toy" / "empty-v0").mkdir()
    with pytest.raises(UserError, match='empty-v0 holds no Minari dataset .it has no folder "data".; remove it'):
        minari.load("toy/empty-v0")


def test_without_the_library(monkeypatch):
    create("toy/box-v0", [episode(2)])
    monkeypatch.setitem(sys.modules, "minari", None)
    with pytest.raises(UserError, match=r'need the package "minari".*pip install "pgd_jax\[minari\]"'):
        minari.load("toy/box-v0")


def test_the_flat_copy_is_read_until_the_dataset_changes(tmp_path, monkeypatch):
    dataset = create("toy/box-v0", [episode(2)])
    first = minari.load("toy/box-v0")
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "minari", None)
        again = minari.load("toy/box-v0")
    np.testing.assert_array_equal(first.observations, again.observations)
    dataset.update_dataset_from_buffer([episode(3)])
    np.testing.assert_array_equal(minari.load("toy/box-v0").rewards, [0, 1, 0, 1, 2])
    assert len(list((tmp_path / "cache").rglob("*.hdf5"))) == 1


@pytest.fixture
def remote(monkeypatch):
    """Stands for the server: `download_dataset` prints and warns as the library's own does, and writes a dataset."""
    asked = []

    def fetch(name):
        asked.append(name)
        print("Downloading")
        warnings.warn("a newer version exists", stacklevel=1)
        create(name, [episode(2)])
        if "broken" in name:
            raise ConnectionError("the line is dead")

    monkeypatch.setattr(library, "download_dataset", fetch)
    return asked


def test_fetched_only_when_asked(remote, tmp_path, capsys):
    with pytest.raises(UserError, match="the `download` setting"):
        minari.load("far/away-v0")
    assert remote == []
    raw = loading.load("minari:far/away-v0", download=True)
    assert len(raw.rewards) == 2 and remote == ["far/away-v0"]
    loading.load("minari:far/away-v0", download=True)
    assert remote == ["far/away-v0"]
    assert capsys.readouterr().out == ""
    names = sorted(path.name for path in (tmp_path / "minari" / "far").iterdir())
    assert names == ["away-v0", "namespace_metadata.json"]


def test_a_failed_fetch_leaves_nothing(remote, tmp_path):
    create("far/here-v0", [episode(2)])
    with pytest.raises(UserError, match=r'could not fetch Minari dataset "far/broken-v0": the line is dead.*put it at'):
        minari.load("far/broken-v0", download=True)
    assert [path.name for path in (tmp_path / "minari").iterdir()] == ["far"]
    assert not (tmp_path / "minari" / "far" / "broken-v0").exists()
    assert len(minari.load("far/here-v0").rewards) == 2


HOPPER = gymnasium.spec("Hopper-v5")
TASKS = [
    (HOPPER, 11, 3, "hopper"),
    (gymnasium.spec("HalfCheetah-v5"), 17, 6, "halfcheetah"),
    (gymnasium.spec("Walker2d-v5"), 17, 6, ""),  # another model file
    (gymnasium.spec("Ant-v5"), 105, 8, ""),  # contact forces
    (HOPPER, 12, 3, ""),
    (EnvSpec("Hopper-v5", HOPPER.entry_point, kwargs={"reset_noise_scale": 0.1}), 11, 3, ""),
    (EnvSpec("Hopper-v5", HOPPER.entry_point, kwargs={"render_mode": "human"}), 11, 3, "hopper"),
    # D4RL's tasks pay and end otherwise, and are the ones here.
    (EnvSpec("AdroitHandPen-v1", "x:y", kwargs={"reward_type": "dense"}), 45, 24, ""),
    (EnvSpec("AdroitHandHammer-v1", "x:y"), 46, 26, ""),
    (EnvSpec("AdroitHandDoor-v1", "x:y"), 39, 28, ""),
    (EnvSpec("AdroitHandRelocate-v1", "x:y"), 39, 30, ""),
]  # fmt: skip


@pytest.mark.parametrize(("spec", "obs_dim", "action_dim", "env"), TASKS)
def test_the_task_is_named_where_it_is_the_same(spec, obs_dim, action_dim, env):
    one = episode(2, observations=np.arange(3.0 * obs_dim).reshape(3, obs_dim), actions=np.zeros((2, action_dim)))
    space = spaces.Box(-1.0, 1.0, (action_dim,))
    create("toy/task-v0", [one], vector(obs_dim), space, env_spec=spec.to_json())
    raw = minari.load("toy/task-v0")
    assert (raw.env, raw.reference) == (env, "")
    assert minari.described(minari.root() / "toy/task-v0") == {"env": env, "reference": ""}


@pytest.mark.parametrize("name", ["Hopper", "HalfCheetah", "Walker2d"])
def test_which_versions_of_gymnasiums_tasks_are_the_same(name):
    """v4 and v5 from the same state under the same actions: equal but for hopper's last reward; walker2d is not."""
    pytest.importorskip("mujoco")
    with warnings.catch_warnings(), contextlib.ExitStack() as stack:
        warnings.simplefilter("ignore")  # v4 is said to be out of date
        old, new = (stack.enter_context(contextlib.closing(gymnasium.make(f"{name}-v{v}"))) for v in (4, 5))
        steps = {}
        for env in (old, new):
            env.reset(seed=0)
            env.unwrapped.set_state(old.unwrapped.init_qpos, old.unwrapped.init_qvel)
            generator = np.random.default_rng(1)
            steps[env] = [env.step(generator.uniform(-1.0, 1.0, env.action_space.shape)) for _ in range(40)]
    same_obs = all(np.array_equal(a[0], b[0]) for a, b in zip(steps[old], steps[new], strict=True))
    excess = np.array([a[1] - b[1] for a, b in zip(steps[old], steps[new], strict=True)])
    fallen = np.array([b[2] for b in steps[new]])
    assert same_obs == (name != "Walker2d")
    if name == "Hopper":
        assert fallen.any() and not fallen.all()
    if name != "Walker2d":
        np.testing.assert_allclose(excess, fallen, atol=1e-9)


def test_a_column_that_float32_cannot_hold_is_refused():
    """POSIX seconds, of which float32 keeps every 128th."""
    seconds = 1.7e9 + 0.05 * np.arange(401.0)[:, None]
    create("toy/box-v0", [episode(400, observations=seconds, actions=np.zeros((400, 1)))])
    with pytest.raises(UserError, match=r"toy/box-v0: observations lies around .* subtract an offset"):
        minari.load("toy/box-v0")
