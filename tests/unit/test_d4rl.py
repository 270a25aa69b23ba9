"""What D4RL's files say in their own way, on small files of every family: rows worked out by hand."""

import numpy as np
import pytest

from pgd_jax.core.errors import UserError
from pgd_jax.core.types import Layout, Normalizer
from pgd_jax.data import d4rl, episodes, loading
from tests.d4rl_files import content, write


def load(folder, name, **arrays):
    return loading.load(write(folder / name, arrays))


def test_columns_doubles_and_float_flags_are_read_as_rows(tmp_path):
    arrays = content(
        rewards=np.arange(6.0)[:, None],
        terminals=np.array([[0.0], [0], [1], [0], [0], [0]]),
        timeouts=np.array([0, 0, 0, 0, 1, 0], np.uint8),
        next_observations=np.zeros((6, 2), ">f8"),
    )
    raw = load(tmp_path, "own.hdf5", **arrays)
    assert {raw.observations.dtype, raw.actions.dtype, raw.rewards.dtype, raw.next_observations.dtype} == {
        np.dtype(np.float32)
    }
    np.testing.assert_array_equal(raw.rewards, [0, 1, 2, 3, 4, 5])
    assert raw.terminals.dtype == raw.timeouts.dtype == bool
    np.testing.assert_array_equal(raw.terminals, np.arange(6) == 2)
    np.testing.assert_array_equal(raw.timeouts, np.arange(6) == 4)


def test_rounding_outside_the_action_range_is_clipped(tmp_path):
    actions = np.array([[1 + 5e-5], [-1 - 5e-5], [0.5], [0], [0], [0]])
    raw = load(tmp_path, "own.hdf5", **content(actions=actions))
    np.testing.assert_array_equal(raw.actions[:3], np.float32([[1], [-1], [0.5]]))


def test_the_last_row_of_a_file_is_cut_without_a_flag(tmp_path):
    """Rows 4 and 5 are of a last episode that goes on: as a transition, row 5 needs next_observations."""
    for next_obs, last_next in ((None, [10.0, 11.0]), (np.arange(2.0, 14.0).reshape(6, 2), [12.0, 13.0])):
        raw = load(tmp_path, "own.hdf5", **content(next_observations=next_obs))
        pieces = episodes.segments(raw)
        np.testing.assert_array_equal(pieces.stop, [4, 6])
        np.testing.assert_array_equal(pieces.ends_in_terminal, [True, False])
        assert not pieces.ends_in_timeout.any() and not raw.timeouts.any()
        normalizer = Normalizer(np.zeros(5, np.float32), np.ones(5, np.float32), Layout(2, 1))
        taken = episodes.transitions(raw, pieces, normalizer)
        assert len(taken.reward) == (5 if next_obs is None else 6)
        np.testing.assert_array_equal(taken.next_obs[-1], last_next)


def test_metadata_wins_over_the_file_name_and_the_rest_of_it_is_skipped(tmp_path):
    arrays = content(obs_dim=4, action_dim=2) | {"metadata/env": "maze2d-umaze", "metadata/reference": b""}
    arrays |= {"metadata/policy/fc0/weight": np.zeros((3, 3)), "metadata/iteration": 7, "infos/qpos": np.zeros((2, 5))}
    raw = load(tmp_path, "hopper_medium_replay-v2.hdf5", **arrays)
    assert (raw.env, raw.reference) == ("maze2d-umaze", "")
    cheetah = content(obs_dim=17, action_dim=6)
    assert load(tmp_path, "own.hdf5", **cheetah, **{"metadata/env": "HalfCheetah-v4"}).env == "halfcheetah"
    assert load(tmp_path, "own.hdf5", **content(), **{"metadata/env": "MountainCar-v0"}).env == "mountaincar"
    assert load(tmp_path, "own.hdf5", **content(), metadata="a text where others have a group").env == ""


def halfcheetah(num_rows, **changes):
    return content(num_rows, obs_dim=17, action_dim=6) | {"terminals": np.zeros(num_rows, bool)} | changes


@pytest.mark.parametrize("name", ["halfcheetah_medium.hdf5", "halfcheetah_medium-v1.hdf5"])
def test_gym_mujoco_without_timeouts_is_cut_at_the_limit(tmp_path, name):
    """Terminals at 100 and at 1100, the 1000th step of the episode that starts in 101, whose flag D4RL's reader drops.

    The next episode starts in 1101 and its 1000th step is 2100.
    """
    terminals = np.isin(np.arange(2300), [100, 1100])
    raw = load(tmp_path, name, **halfcheetah(2300, terminals=terminals))
    assert raw.env == "halfcheetah" and raw.next_observations is None
    np.testing.assert_array_equal(np.flatnonzero(raw.terminals), [100])
    np.testing.assert_array_equal(np.flatnonzero(raw.timeouts), [1100, 2100])
    pieces = episodes.segments(raw)
    np.testing.assert_array_equal(pieces.stop, [101, 1101, 2101, 2300])


def test_next_observations_show_what_timeouts_would(tmp_path):
    """Without timeouts but with next_observations nothing is cut at the limit: row 1500 does not lead to row 1501."""
    arrays = halfcheetah(2300)
    obs = arrays["observations"]
    next_obs = np.concatenate([obs[1:], obs[-1:] + 17])
    next_obs[1500] += 1000.0
    raw = load(tmp_path, "halfcheetah_medium-v1.hdf5", **arrays | {"next_observations": next_obs})
    assert not raw.timeouts.any()
    np.testing.assert_array_equal(episodes.segments(raw).stop, [1501, 2300])


def test_a_file_of_no_known_task_needs_something_to_cut_by(tmp_path, capfd):
    never = {"terminals": np.zeros(6, bool)}
    with pytest.raises(UserError, match="own.hdf5: nothing says where an episode ends.*metadata/horizon"):
        load(tmp_path, "own.hdf5", **content(**never))
    raw = load(tmp_path, "own.hdf5", **content(**never), **{"metadata/horizon": 4})
    np.testing.assert_array_equal(raw.timeouts, np.arange(6) == 3)
    assert "cut at terminals alone" not in capfd.readouterr().err
    raw = load(tmp_path, "own.hdf5", **content())
    assert not raw.timeouts.any() and "cut at terminals alone" in capfd.readouterr().err


@pytest.mark.parametrize("horizon", [4, 4.0, "4", b"4.0", np.array([4]), np.array([[4.0]]), np.float32(4)])
def test_the_limit_in_a_file_may_be_any_number(tmp_path, horizon):
    arrays = content(terminals=np.zeros(6, bool))
    raw = load(tmp_path, "own.hdf5", **arrays, **{"metadata/horizon": horizon})
    np.testing.assert_array_equal(raw.timeouts, np.arange(6) == 3)


@pytest.mark.parametrize("horizon", [0, -4, 4.5, "four", "", np.nan, np.inf, np.array([4, 4]), np.zeros(0)])
def test_a_limit_that_is_no_number_of_steps_is_refused(tmp_path, horizon):
    arrays = content(terminals=np.zeros(6, bool))
    with pytest.raises(UserError, match="own.hdf5: metadata/horizon is .*expected a whole number of steps"):
        load(tmp_path, "own.hdf5", **arrays, **{"metadata/horizon": horizon})


def test_timeouts_that_are_all_zero_hide_no_limit(tmp_path):
    """A terminal in row 100: the next episode's 1000th step is row 1100. No limit, no cut; next rows show the cuts."""
    arrays = halfcheetah(2300, terminals=np.arange(2300) == 100, timeouts=np.zeros(2300, bool))
    raw = load(tmp_path, "halfcheetah_medium-v1.hdf5", **arrays)
    np.testing.assert_array_equal(np.flatnonzero(raw.timeouts), [1100, 2100])
    np.testing.assert_array_equal(episodes.segments(raw).stop, [101, 1101, 2101, 2300])
    obs = arrays["observations"]
    following = {"next_observations": np.concatenate([obs[1:], obs[-1:] + 17])}
    for name, more in (("own.hdf5", {}), ("halfcheetah_medium-v1.hdf5", following)):
        assert not load(tmp_path, name, **arrays, **more).timeouts.any()
    arrays["timeouts"][1700] = True
    raw = load(tmp_path, "halfcheetah_medium-v1.hdf5", **arrays)
    np.testing.assert_array_equal(np.flatnonzero(raw.timeouts), [1700])


MAZE = "maze2d-umaze-sparse-v1.hdf5"


def test_maze2d_whose_timeouts_are_all_zero_is_one_run(tmp_path):
    arrays = content(700, 4, 2, terminals=np.zeros(700, bool), timeouts=np.zeros(700, bool))
    assert not load(tmp_path, MAZE, **arrays).timeouts.any()


@pytest.mark.parametrize("flag", ["timeouts", "terminals"])
def test_maze2d_marks_are_timeouts_and_the_stale_row_goes(tmp_path, flag):
    """Rows 2 and 3: sub-goal, then the same observation again. Row 5 repeats row 4 with no mark before it and stays."""
    obs = np.array([0, 1, 2, 2, 4, 4])[:, None] * np.ones((1, 4))
    arrays = content(action_dim=2, observations=obs, terminals=np.zeros(6, bool)) | {flag: np.arange(6) == 2}
    raw = load(tmp_path, MAZE, **arrays, **{"infos/goal": np.ones((6, 2))})
    assert (raw.env, raw.reference) == ("maze2d-umaze", "maze2d-umaze-v1")
    np.testing.assert_array_equal(raw.rewards, [0, 1, 2, 4, 5])
    np.testing.assert_array_equal(raw.observations[:, 0], [0, 1, 2, 4, 4])
    np.testing.assert_array_equal(raw.timeouts, [0, 0, 1, 0, 0])
    assert not raw.terminals.any()
    same_under_another_name = load(tmp_path, "own.hdf5", **arrays, **{"metadata/horizon": 100})
    assert len(same_under_another_name.rewards) == 6


def test_maze2d_with_next_observations_or_an_environment_was_made_by_others(tmp_path):
    """Such files mark what they say: no row goes, a terminal stays one."""
    arrays = content(obs_dim=4, action_dim=2, timeouts=np.arange(6) == 1)
    arrays["observations"][2] = arrays["observations"][1]
    for extra in ({"next_observations": arrays["observations"]}, {"metadata/env": "maze2d-umaze"}):
        raw = load(tmp_path, MAZE, **arrays, **extra)
        np.testing.assert_array_equal(np.flatnonzero(raw.terminals), [3])
        np.testing.assert_array_equal(np.flatnonzero(raw.timeouts), [1])


def test_maze2d_without_any_mark_is_cut_at_the_limit(tmp_path):
    raw = load(tmp_path, MAZE, **content(700, 4, 2, terminals=np.zeros(700, bool)))
    np.testing.assert_array_equal(np.flatnonzero(raw.timeouts), [299, 599])


def antmaze(**changes):
    """Twelve rows, float64. The ant walks; reaches the goal in rows 3 and 4; is put elsewhere after row 6 and row 9."""
    obs = 0.1 * np.ones((12, 29)) * np.arange(12.0)[:, None]
    obs[7:, 0] += 8.0
    obs[10:, 1] -= 1.2
    goal = np.isin(np.arange(12), [3, 4])
    return content(12, action_dim=8, observations=obs, rewards=goal.astype(float), terminals=goal) | changes


def test_antmaze_goals_are_terminals_and_flagless_ends_timeouts(tmp_path):
    timeouts = np.arange(12) == 6
    raw = load(
        tmp_path, "antmaze-medium-play-v2.hdf5", **antmaze(timeouts=timeouts), **{"infos/goal": np.ones((12, 2))}
    )
    assert (raw.env, raw.reference) == ("antmaze-medium", "antmaze-medium-play-v2")
    assert raw.observations.dtype == np.float32 and raw.observations.shape == (12, 29)
    np.testing.assert_array_equal(np.flatnonzero(raw.terminals), [3, 4])
    np.testing.assert_array_equal(np.flatnonzero(raw.timeouts), [6, 9])
    # The row that stays at the goal is a piece of one row.
    np.testing.assert_array_equal(episodes.segments(raw).stop, [4, 5, 7, 10, 12])


def test_antmaze_time_limits_among_the_terminals_are_timeouts(tmp_path):
    """v0 without timeouts: the terminal of row 8 has no reward."""
    name = "Ant_maze_big-maze_noisy_multistart_True_multigoal_False_sparse.hdf5"
    raw = load(tmp_path, name, **antmaze(terminals=np.isin(np.arange(12), [3, 4, 8])))
    assert raw.reference == "antmaze-medium-play-v0"
    np.testing.assert_array_equal(np.flatnonzero(raw.terminals), [3, 4])
    np.testing.assert_array_equal(np.flatnonzero(raw.timeouts), [6, 8, 9])


def test_kitchen_flags_are_float_columns_and_the_limit_cuts(tmp_path):
    """Demonstrations that end in rows 199 and 499: the second is longer than the 280 steps of an episode."""
    terminals = np.isin(np.arange(600), [199, 499]).astype(np.float32)[:, None]
    arrays = content(600, 60, 9, terminals=terminals, rewards=np.ones((600, 1)))
    raw = load(tmp_path, "kitchen_microwave_kettle_light_slider-v0.hdf5", **arrays)
    assert (raw.env, raw.reference, raw.rewards.shape) == ("kitchen-partial", "kitchen-partial-v0", (600,))
    np.testing.assert_array_equal(np.flatnonzero(raw.terminals), [199, 499])
    np.testing.assert_array_equal(np.flatnonzero(raw.timeouts), [479])


def test_adroit_has_a_limit_for_each_name_of_a_file(tmp_path, monkeypatch):
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path))
    write(tmp_path / "door-v0_demos_clipped.hdf5", content(700, 39, 28, terminals=np.zeros(700, bool)))
    for name, cuts in (("door-human-v0", [199, 399, 599]), ("door-human-longhorizon-v0", [299, 599])):
        raw = loading.load(name)
        assert (raw.name, raw.env, raw.reference) == (name, "door", name)
        np.testing.assert_array_equal(np.flatnonzero(raw.timeouts), cuts)


@pytest.mark.parametrize("next_observations", [False, True])
def test_contact_forces_of_the_ant_go_where_they_are_zero(tmp_path, capfd, next_observations):
    arrays = content(9, 111, 8)
    arrays["observations"][:, 27:] = 0.0
    if next_observations:
        arrays["next_observations"] = arrays["observations"] + 0.0
    raw = load(tmp_path, "ant_medium-v2.hdf5", **arrays)
    assert raw.env == "ant" and raw.observations.shape == (9, 27)
    assert not next_observations or raw.next_observations.shape == (9, 27)
    np.testing.assert_array_equal(raw.observations, arrays["observations"][:, :27])
    arrays["next_observations" if next_observations else "observations"][8, 110] = 1e-3
    raw = load(tmp_path, "ant_medium-v2.hdf5", **arrays)
    assert raw.env == "" and raw.observations.shape == (9, 111)
    assert "contact forces are not zero" in capfd.readouterr().err


def test_arrays_in_memory_are_checked_alike():
    """What `export` writes goes through the same door."""
    arrays = d4rl.check("these", content(rewards=np.arange(6.0)[:, None]))
    assert {key: array.dtype.name for key, array in arrays.items()} == {
        "observations": "float32", "actions": "float32", "rewards": "float32", "terminals": "bool"
    }  # fmt: skip
    with pytest.raises(UserError, match="these: rewards holds NaN"):
        d4rl.check("these", content(rewards=np.full(6, np.nan)))
