"""OGBench's files, written by hand: what is read of them, and what is refused. The package itself is not needed."""

import sys

import numpy as np
import pytest

from pgd_jax.core.errors import UserError
from pgd_jax.data import episodes, fetch, listing, loading, ogbench
from pgd_jax.data.base import Reading
from tests.ogbench_files import pointmaze_like, write

NAME, FILE = "pointmaze-medium-navigate-singletask-task3-v0", "pointmaze-medium-navigate-v0"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("OGBENCH_DATASET_DIR", str(tmp_path / "ogbench"))
    monkeypatch.delenv("OGBENCH_MIRROR", raising=False)
    return tmp_path / "ogbench"


def labelled(**changes):
    """Trajectories of rows 0 to 3 and 4 to 6, at the goal in rows 1, 2 and 6."""
    masks = np.array([1, 0, 0, 1, 1, 1, 0], np.float32)
    return pointmaze_like(**{"qpos": None, "rewards": -masks, "masks": masks} | changes)


def refusal(name=NAME, **reading):
    with pytest.raises(UserError) as caught:
        loading.load(f"ogbench:{name}", reading=Reading(**reading))
    return str(caught.value)


def test_masks_are_terminals_and_terminals_end_trajectories(folder):
    write(folder, NAME, labelled())
    raw = loading.load(f"ogbench:{NAME}")
    assert (raw.name, raw.env) == (f"ogbench:{NAME}", "ogbench:pointmaze-medium-singletask-task3-v0")
    assert raw.reference == "" and raw.next_observations is None
    np.testing.assert_array_equal(np.flatnonzero(raw.terminals), [1, 2])  # what follows row 6 is not known
    np.testing.assert_array_equal(np.flatnonzero(raw.timeouts), [3, 6])
    np.testing.assert_array_equal(raw.rewards, [-1, 0, 0, -1, -1, -1, 0])
    pieces = episodes.segments(raw)
    np.testing.assert_array_equal(np.stack([pieces.start, pieces.stop]), [[0, 2, 3, 4], [2, 3, 4, 7]])


def test_with_next_observations_the_last_row_is_a_transition_too(folder):
    arrays = labelled()
    write(folder, NAME, arrays | {"next_observations": arrays["observations"] + 2.0})
    raw = loading.load(f"ogbench:{NAME}")
    np.testing.assert_array_equal(raw.next_observations, raw.observations + 2.0)
    np.testing.assert_array_equal(np.flatnonzero(raw.terminals), [1, 2, 6])
    np.testing.assert_array_equal(np.flatnonzero(raw.timeouts), [3])


def test_the_first_rows_alone(folder):
    write(folder, NAME, labelled())
    raw = loading.load(f"ogbench:{NAME}", reading=Reading(max_rows=3))
    np.testing.assert_array_equal(raw.observations, [[0, 1], [2, 3], [4, 5]])
    assert len(raw.rewards) == 3 and not raw.timeouts.any()


def test_a_missing_file_says_what_to_put_where_and_fetches_nothing(folder, monkeypatch):
    monkeypatch.setattr(fetch, "download", lambda *_: pytest.fail("fetched unasked"))
    message = refusal()
    assert f'"{NAME}" is not here' in message and "OGBENCH_DATASET_DIR" in message and "download" in message
    assert f"put https://rail.eecs.berkeley.edu/datasets/ogbench/{FILE}.npz at {folder / FILE}.npz" in message
    assert not folder.exists()
    monkeypatch.delenv("OGBENCH_DATASET_DIR")
    assert ogbench.cache_path(NAME).parts[-3:] == (".ogbench", "data", f"{FILE}.npz")


def test_a_mirror_s_file_is_fetched_when_asked_for(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("OGBENCH_MIRROR", str(tmp_path / "mirror"))
    whole = write(tmp_path / "mirror", FILE, pointmaze_like(qpos=None)).read_bytes()
    with pytest.raises(UserError, match='it has no array "qpos"'):  # fetched, and then read
        loading.load(f"ogbench:{NAME}", download=True)
    assert (folder / f"{FILE}.npz").read_bytes() == whole and (folder / f"{FILE}.npz.sha256").is_file()
    (tmp_path / "mirror" / f"{FILE}.npz").write_bytes(whole[:-30])
    (folder / f"{FILE}.npz").unlink()
    (folder / f"{FILE}.npz.sha256").unlink()
    with pytest.raises(UserError, match=r"cut short.*\$OGBENCH_MIRROR.*put it at"):
        loading.load(f"ogbench:{NAME}", download=True)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("pointmaze-medum-navigate-singletask-v0", 'did you mean "pointmaze-medium-navigate-singletask-v0"'),
        ("cube-single-play-singletask-task6-v0", r"expected <environment>-<kind>-singletask\[-task1..5\]-v0 with an"),
        ("visual-cube-single-play-singletask-v0", "shows pictures; this library learns from state vectors"),
        ("powderworld-easy-play-v0", "shows pictures, and its actions draw"),
        ("antmaze-large-navigate-v0", "goal-conditioned.*name one of its tasks: ogbench:antmaze-large-navigate-sing"),
        ("antmaze-large-navigate-oraclerep-v0", "goal-conditioned"),
    ],
)
def test_other_names_are_refused_in_one_line(name, message):
    with pytest.raises(UserError, match=message) as caught:
        loading.load(f"ogbench:{name}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"actions": None}, 'no array "actions"; it holds: observations, terminals'),
        ({"qpos": None}, 'no array "qpos"'),
        ({"actions": np.zeros((6, 2))}, "arrays differ in length: observations 7, actions 6, terminals 7"),
        ({"qpos": np.zeros((6, 2))}, r"qpos has shape (6, 2); expected [7, dim], a row each"),
        ({"observations": np.zeros((7, 29))}, "observations of 29 and actions of 2; pointmaze-medium has 2 and 2"),
        ({"observations": np.zeros((7, 8, 8, 3), np.uint8)}, "observations has shape (7, 8, 8, 3)"),
        ({"actions": np.full((7, 2), 3.0)}, "actions must lie in [-1, 1]; row 0"),
        ({"observations": np.full((7, 2), np.nan)}, "observations holds NaN"),
        ({"terminals": np.array([None] * 7)}, "terminals holds Python objects, which are never loaded"),
        ({"terminals": np.full(7, 2.0)}, "terminals must be 0 or 1; row 0 holds 2"),
    ],
)
def test_a_file_with_a_fault_is_refused(folder, monkeypatch, changes, message):
    monkeypatch.setattr(ogbench, "_rewards_and_masks", stand_in(ogbench._rewards_and_masks, "qpos" in changes))
    path = write(folder, FILE, pointmaze_like(**changes))
    found = refusal()
    assert str(path) in found and message in found and "\n" not in found


def stand_in(real, is_used):
    """Rewards without the package, unless what is tested is said before the package is asked."""
    ones = np.ones(7, np.float32)
    return real if is_used else lambda *_: {"rewards": -ones, "masks": ones}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"masks": None}, 'no array "masks"'),
        ({"masks": np.full(7, 0.5)}, "masks must be 0 or 1"),
        ({"rewards": np.zeros(6)}, "arrays differ in length"),
        ({"terminals": np.zeros(7)}, "nothing says where a trajectory ends: its terminals are all 0"),
        ({"terminals": np.ones(7)}, "each of its 7 rows ends an episode"),
    ],
)
def test_a_labelled_file_with_a_fault_is_refused(folder, changes, message):
    write(folder, NAME, labelled(**changes))
    assert message in refusal()


@pytest.mark.parametrize("damage", [lambda whole: whole[:-40], lambda whole: b"<html>404</html>", lambda whole: b""])
def test_a_damaged_file_is_refused(folder, damage):
    path = write(folder, NAME, labelled())
    path.write_bytes(damage(path.read_bytes()))
    assert f"{path} cannot be read (" in refusal() and "fetch or write it again" in refusal()


def test_flipped_bytes_are_noticed(folder):
    path = write(folder, NAME, labelled())
    damaged = bytearray(path.read_bytes())
    damaged[150:160] = bytes(10)
    path.write_bytes(damaged)
    assert "cannot be read (" in refusal()


def test_rewards_of_no_known_task_are_not_taken(folder):
    write(folder, FILE, labelled())
    assert f"if it is {NAME}, call the file {NAME}.npz" in refusal()


def test_buttons_need_their_states(folder):
    write(folder, "scene-play-v0", pointmaze_like(observations=np.eye(7, 40), actions=np.zeros((7, 5))))
    assert 'it has no array "button_states"' in refusal("scene-play-singletask-v0")


def test_bounds_of_actions_mean_nothing_here(folder):
    write(folder, NAME, labelled())
    assert "leave action_bounds out" in refusal(action_bounds="-2:2")


def test_without_the_package_the_extra_is_named(folder, monkeypatch):
    write(folder, FILE, pointmaze_like())
    monkeypatch.setitem(sys.modules, "ogbench.relabel_utils", None)
    monkeypatch.setitem(sys.modules, "ogbench", None)
    assert 'has no rewards; its task\'s come from the package "ogbench"' in refusal()
    assert 'pip install "pgd_jax[ogbench]"' in refusal()


def test_what_is_here_is_listed_by_its_default_task(folder):
    write(folder, FILE, pointmaze_like())
    (line,) = listing.table("pointmaze", cached=True)[1:]
    name, env, judged, steps, *_ = line.split()
    assert name == "ogbench:pointmaze-medium-navigate-singletask-v0"
    assert (env, judged, steps) == ("ogbench:pointmaze-medium-singletask-v0", "host", "1000")
