"""Small files like those of public bug reports, each with what is right: nothing wrong is read without a word."""

import h5py
import numpy as np
import pytest

from pgd_jax.core.config import DataConfig, DenoiserConfig, TrainingConfig
from pgd_jax.core.errors import UserError
from pgd_jax.data import d4rl, episodes, foreign, loading
from pgd_jax.data.base import Reading
from pgd_jax.runs import denoiser as denoisers
from tests.d4rl_files import content, pendulum_like, write

NUM_ROWS = 3_000


@pytest.fixture
def said(capfd):
    return lambda: capfd.readouterr().err


def load(tmp_path, arrays, name="own.hdf5", **reading):
    return loading.load(write(tmp_path / name, arrays), reading=Reading(**reading))


def edit(tmp_path, change):
    """The path of the base file after `change(file)`."""
    path = write(tmp_path / "own.hdf5", pendulum_like())
    with h5py.File(path, "a") as file:
        change(file)
    return path


# 1. Rows nobody wrote.


def half_written(key, width):
    def change(file):
        values = file[key][()]
        del file[key]
        array = file.create_dataset(key, values.shape, "f4", chunks=(100, *width))
        array[:1200] = values[:1200]

    return change


@pytest.mark.parametrize(("key", "width"), [("observations", (2,)), ("rewards", ()), ("next_observations", (3,))])
def test_rows_that_were_never_written_are_refused(tmp_path, key, width):
    path = edit(tmp_path, half_written(key, width))
    with pytest.raises(UserError, match=rf"own\.hdf5: {key} was never written from row 1200 on.*\(max_rows=1200\)"):
        loading.load(path)
    assert len(loading.load(path, reading=Reading(max_rows=1200)).rewards) == 1200
    with pytest.raises(UserError, match="never written from row 1200"):
        loading.load(path, reading=Reading(max_rows=1201))


def test_an_array_of_which_nothing_was_written_is_refused(tmp_path):
    def change(file):
        del file["rewards"]
        file.create_dataset("rewards", (NUM_ROWS,), "f4")

    with pytest.raises(UserError, match=r"rewards was never written, not one of its 3000 rows"):
        loading.load(edit(tmp_path, change))


def test_a_hole_in_the_middle_is_found(tmp_path):
    def change(file):
        values = file["actions"][()]
        del file["actions"]
        array = file.create_dataset("actions", values.shape, "f4", chunks=(100, 1), compression="gzip")
        array[:500], array[700:] = values[:500], values[700:]

    with pytest.raises(UserError, match=r"actions was never written from row 500 on"):
        loading.load(edit(tmp_path, change))


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("file", r"observations is put together from part_1\.hdf5, which is not there"),
        ("array", r"observations is put together from .*part_1\.hdf5, which has no x"),
        ("rows", r"part_1\.hdf5: x was never written"),
        ("part", r"observations is put together from parts that leave some of its 3000 rows out"),
        ("nothing", None),
    ],
)
def test_a_virtual_array_needs_all_its_sources(tmp_path, monkeypatch, missing, message):
    monkeypatch.setenv(foreign.ALLOW, "1")
    arrays = pendulum_like()
    layout = h5py.VirtualLayout((NUM_ROWS, 3), "f4")
    for part in range(2):
        if part == 0 or missing != "file":
            with h5py.File(tmp_path / f"part_{part}.hdf5", "w") as file:
                array = file.create_dataset("y" if (part, missing) == (1, "array") else "x", (1500, 3), "f4")
                if (part, missing) != (1, "rows"):
                    array[:] = arrays["observations"][part * 1500 :][:1500]
        if part == 0 or missing != "part":
            layout[part * 1500 : (part + 1) * 1500] = h5py.VirtualSource(f"part_{part}.hdf5", "x", (1500, 3))
    path = write(tmp_path / "own.hdf5", pendulum_like(observations=None))
    with h5py.File(path, "a") as file:
        file.create_virtual_dataset("observations", layout)
    if message is None:
        np.testing.assert_array_equal(loading.load(path).observations, arrays["observations"])
        return
    with pytest.raises(UserError, match=message):
        loading.load(path)


def test_raw_storage_that_ends_too_early_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv(foreign.ALLOW, "1")
    raw = tmp_path / "rewards.bin"

    def change(file):
        del file["rewards"]
        array = file.create_dataset("rewards", (NUM_ROWS,), "f4", external=[(str(raw), 0, 4 * NUM_ROWS)])
        array[:] = np.arange(NUM_ROWS)

    path = edit(tmp_path, change)
    loading.load(path)
    raw.write_bytes(raw.read_bytes()[:4000])
    with pytest.raises(UserError, match="rewards is stored in other files, which end before its 3000 rows"):
        loading.load(path)
    raw.unlink()
    with pytest.raises(UserError, match=r"rewards is stored in .*rewards\.bin, which is not there"):
        loading.load(path)


# 3. Large offsets. (2. and 4., small columns and training windows: test_normalizer.py, test_denoiser_data.py.)


@pytest.mark.parametrize("key", ["observations", "next_observations"])
@pytest.mark.parametrize(
    ("offset", "step", "is_lost"), [(1.7e9, 0.05, True), (5.6e6, 0.001, True), (5.6e6, 1.0, False)]
)
def test_a_column_that_float32_cannot_hold_is_refused(tmp_path, key, offset, step, is_lost):
    """POSIX seconds, metres of a map projection; whole metres are exact."""
    arrays = {
        name: array.astype(np.float64) for name, array in pendulum_like().items() if name.endswith("observations")
    }
    arrays[key][:, 1] = offset + step * np.arange(NUM_ROWS)
    if not is_lost:
        raw = load(tmp_path, pendulum_like(**arrays), next_tolerance=-1.0)
        np.testing.assert_array_equal(getattr(raw, key)[:, 1].astype(np.float64), arrays[key][:, 1])
        return
    with pytest.raises(UserError, match=rf"own\.hdf5: {key}\[:, 1\] lies around .* subtract an offset from the column"):
        load(tmp_path, pendulum_like(**arrays))
    with pytest.raises(UserError, match=rf"arrays: {key}\[:, 1\] lies around .* subtract an offset"):
        d4rl.check("arrays", pendulum_like(**arrays))


def test_the_jitter_of_a_column_that_stands_still_is_no_loss(tmp_path):
    obs = pendulum_like()["observations"].astype(np.float64)
    obs[:, 0] = 1.2566 + 1e-9 * np.arange(NUM_ROWS)
    load(tmp_path, pendulum_like(observations=obs, next_observations=None))


# 6. Both flags up.


def test_where_both_flags_are_up_the_time_limit_counts(tmp_path, said):
    timeouts = pendulum_like()["timeouts"]
    raw = load(tmp_path, pendulum_like(terminals=timeouts | (np.arange(NUM_ROWS) == 1000)))
    assert raw.timeouts.sum() == 20 and np.flatnonzero(raw.terminals).tolist() == [1000]
    assert "20 of 21 terminals are timeouts too; as in D4RL, the time limit counts" in said()
    arrays = d4rl.check("arrays", pendulum_like(terminals=timeouts))
    assert not arrays["terminals"].any() and "20 of 20 terminals" in said()


# 7. Names, and next_observations that are not the next row.


@pytest.mark.parametrize("name", ["maze2d-umaze-v1", "maze2d-umaze-sparse-v1"])
@pytest.mark.parametrize("ending", [".hdf5", ".h5", " (1).hdf5", "(12).h5", " copy.hdf5", "_copy 2.hdf5"])
def test_a_renamed_file_keeps_its_task(tmp_path, name, ending, said):
    arrays = content(600, 4, 2, terminals=np.zeros(600, bool), timeouts=np.arange(600) % 300 == 299)
    raw = load(tmp_path, arrays, f"{name}{ending}")
    assert (raw.env, raw.reference) == ("maze2d-umaze", "maze2d-umaze-v1") and "nothing judges it" not in said()


def test_a_file_of_no_known_task_is_said_to_be_one(tmp_path, said):
    load(tmp_path, pendulum_like(), "umaze.hdf5")
    assert "umaze.hdf5: no D4RL dataset by its name, and no metadata/env" in said()


def wrapped(obs):
    angle = obs.copy()
    angle[:, 0] = (angle[:, 0] + np.pi) % (2.0 * np.pi) - np.pi
    return angle


@pytest.mark.parametrize(
    ("change", "tolerance"),
    [(lambda x: x + 1e-4 * np.random.default_rng(1).normal(size=x.shape), 1e-3), (wrapped, -1.0)],
    ids=["drift of a running normaliser", "wrapped angle"],
)
def test_next_observations_that_are_not_the_next_row_are_said(tmp_path, change, tolerance, said):
    arrays = pendulum_like()
    arrays["next_observations"] = change(arrays["next_observations"]).astype(np.float32)
    raw = load(tmp_path, arrays)
    cut = len(episodes.segments(raw).start)
    assert cut > 200
    assert f"flags mark 20 ends of episodes, next_observations {cut - 20} more" in (line := said())
    assert "data.next_tolerance" in line
    assert len(episodes.segments(load(tmp_path, arrays, next_tolerance=tolerance)).start) == 20
    assert "flags mark" not in said()


def test_float16_beside_float32_is_the_same_row(tmp_path):
    arrays = pendulum_like()
    arrays["next_observations"] = arrays["next_observations"].astype(np.float16)
    assert len(episodes.segments(load(tmp_path, arrays)).start) == 20


def test_ends_of_episodes_as_d3rlpy_marks_them(tmp_path):
    ends = pendulum_like()["timeouts"]
    terminals = ends & (np.arange(NUM_ROWS) < 450)
    arrays = pendulum_like(timeouts=None, next_observations=None, terminals=terminals, episode_terminals=ends)
    raw = load(tmp_path, arrays)
    np.testing.assert_array_equal(raw.timeouts, ends & ~terminals)
    assert len(episodes.segments(raw).start) == 20 and raw.terminals.sum() == 3


# 8. Outliers.


@pytest.mark.parametrize("key", ["observations", "rewards"])
def test_a_value_that_sets_the_scale_of_its_column(tmp_path, key, said):
    arrays = pendulum_like()
    array = arrays[key].reshape(NUM_ROWS, -1)
    array[1234, -1] = 1e6
    if key == "observations":
        arrays["next_observations"][1233, -1] = 1e6
    where = "rewards" if key == "rewards" else r"observations[:, 2]"
    assert getattr(load(tmp_path, arrays), key).max() == 1e6
    assert f"{where} is 1e+06 in row 1234" in (line := said()) and "1 such value sets" in line and "kept" in line
    clipped = load(tmp_path, arrays, outliers="clip")
    others = np.delete(array[:, -1], 1234)
    assert getattr(clipped, key).reshape(NUM_ROWS, -1)[1234, -1] == others.max() and "clipped" in said()
    assert clipped.next_observations.max() < 1e3 and len(episodes.segments(clipped).start) == 20
    dropped = load(tmp_path, arrays, outliers="drop")
    gone = [1233, 1234] if key == "observations" else [1234]  # a row before leads to it
    np.testing.assert_array_equal(dropped.actions, np.delete(arrays["actions"], gone, axis=0))
    assert len(episodes.segments(dropped).start) == 21 and "dropped" in said()


def test_ordinary_columns_have_no_outliers(tmp_path, said):
    """Heavy tails, a sparse reward, a column of few values and one that stands still."""
    generator = np.random.default_rng(0)
    obs = np.stack([generator.standard_t(2, NUM_ROWS), generator.random(NUM_ROWS) > 0.9, np.ones(NUM_ROWS)], axis=1)
    rewards = (np.arange(NUM_ROWS) == 77) * 100.0
    load(tmp_path, pendulum_like(observations=obs, rewards=rewards, next_observations=None))
    assert "such value" not in said()


# 17. The split, and 21. discrete actions.


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("short", [1, 5, 20, 100])
def test_one_long_episode_is_trained_on(tmp_path, short, seed):
    path = write(tmp_path / "own.hdf5", pendulum_like((6,) * (short // 2) + (400,) + (6,) * (short - short // 2)))
    settings = DenoiserConfig(DataConfig(path, split_seed=seed), training=TrainingConfig(batch_size=8))
    data = denoisers.prepare(settings)
    assert len(data.training.starts) == 46 and data.validation is None


def test_discrete_actions_are_not_for_this_library(tmp_path):
    with pytest.raises(UserError, match="actions are whole numbers .type int64.; this library is for continuous"):
        load(tmp_path, pendulum_like(actions=np.arange(NUM_ROWS) % 4))
