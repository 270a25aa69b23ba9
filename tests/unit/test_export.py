"""What is written loads back as the same episodes; nothing is overwritten, nothing bad is written."""

import json

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pgd_jax.core.errors import UserError
from pgd_jax.core.types import Layout, Normalizer
from pgd_jax.data import episodes, export, loading, normalizer as normalizers

# Observations are 10 + 2 x; the other columns are encoded as they are (actions pre-tanh).
CODEC = Normalizer(jnp.array([10.0, 0, 0, 0]), jnp.array([2.0, 1, 1, 1]), Layout(1, 1))


def windows() -> jnp.ndarray:
    """Three windows of T = 4: no terminal; one in row 1; one in the last transition, row 2. Obs x = 10 m + t."""
    x = np.zeros((3, 4, 4), np.float32)
    x[..., 0] = 10 * np.arange(3)[:, None] + np.arange(4)
    x[..., 1] = 0.5
    x[..., 2] = np.arange(12).reshape(3, 4)
    x[1, 1, 3] = x[2, 2, 3] = 1.0
    return jnp.asarray(x)


def flat() -> export.Flat:
    return export.flatten_windows(CODEC, *normalizers.to_transitions(CODEC, windows()))


def test_each_window_is_one_episode_of_its_valid_transitions():
    rows = flat()
    #                                    window 0        | 1      | 2
    np.testing.assert_array_equal(rows.rewards, [0, 1, 2, 4, 5, 8, 9, 10])
    np.testing.assert_array_equal(rows.terminals, [0, 0, 0, 0, 1, 0, 0, 1])
    np.testing.assert_array_equal(rows.timeouts, [0, 0, 1, 0, 0, 0, 0, 0])
    np.testing.assert_allclose(rows.observations[:, 0], [10, 12, 14, 30, 32, 50, 52, 54])  # 10 + 2 (10 m + t)
    np.testing.assert_allclose(rows.next_observations[:3, 0], [12, 14, 16])
    np.testing.assert_allclose(rows.actions, np.full((8, 1), np.tanh(0.5)), rtol=1e-6)


def test_a_written_file_loads_back(tmp_path):
    rows, path = flat(), tmp_path / "new" / "synthetic.hdf5"
    export.write_hdf5(path, *rows, metadata={"env": "pendulum", "reference": "maze2d-umaze-v1", "source": "test"})
    raw = loading.load(str(path))
    assert (raw.name, raw.env, raw.reference) == ("synthetic", "pendulum", "maze2d-umaze-v1")
    for key, array in rows._asdict().items():
        np.testing.assert_array_equal(getattr(raw, key), array, err_msg=key)
    pieces = episodes.segments(raw)
    np.testing.assert_array_equal(pieces.length, [3, 2, 3])
    np.testing.assert_array_equal(pieces.ends_in_terminal, [False, True, True])
    assert [entry.name for entry in path.parent.iterdir()] == ["synthetic.hdf5"]


def test_infos_are_written_beside_the_rows(tmp_path):
    rows = flat()
    infos = {"qpos": np.arange(16.0, dtype=np.float32).reshape(8, 2), "action_log_probs": np.zeros(8, np.float32)}
    export.write_hdf5(tmp_path / "infos.hdf5", *rows, metadata={}, infos=infos)
    with h5py.File(tmp_path / "infos.hdf5", "r") as file:
        assert set(file["infos"]) == set(infos) and "metadata" not in file
        np.testing.assert_array_equal(file["infos/qpos"], infos["qpos"])
    for name, wrong in (("short", infos["qpos"][:7]), ("nan", np.full((8, 2), np.nan))):
        with pytest.raises(UserError, match=rf"{name}\.hdf5: infos/qvel must be 8 rows of finite numbers"):
            export.write_hdf5(tmp_path / f"{name}.hdf5", *rows, metadata={}, infos={"qvel": wrong})
        assert not (tmp_path / f"{name}.hdf5").exists()


def test_origin_names_versions_and_command():
    found = export.origin("pgd-collect --dataset=x")
    assert found["command"] == "pgd-collect --dataset=x" and "not D4RL's own" in found["generator"]
    assert json.loads(found["versions"])["jax"] == jax.__version__


def test_an_existing_file_is_kept(tmp_path):
    path = tmp_path / "precious.hdf5"
    path.write_text("precious")
    with pytest.raises(UserError, match=r"precious\.hdf5 exists already"):
        export.write_hdf5(path, *flat(), metadata={})
    assert path.read_text() == "precious"


def test_what_would_not_load_back_is_not_written(tmp_path):
    rows = flat()
    rows.rewards[5] = np.nan
    with pytest.raises(UserError, match=r"bad\.hdf5: rewards holds NaN or infinity, first in row 5"):
        export.write_hdf5(tmp_path / "bad.hdf5", *rows, metadata={})
    assert list(tmp_path.iterdir()) == []


def test_a_failure_while_writing_leaves_nothing(tmp_path):
    with pytest.raises(TypeError):
        export.write_hdf5(tmp_path / "half.hdf5", *flat(), metadata={"env": object()})
    assert list(tmp_path.iterdir()) == []
