"""Actions in units of their own: [-1, 1] inside, their own units in what is exported, everywhere the same bounds."""

import dataclasses

import gymnasium
import h5py
import jax
import jax.numpy as jnp
import minari
import numpy as np
import pytest

import pgd_jax as pgd
from pgd_jax.core import action_bounds
from pgd_jax.core.config import AgentConfig, SamplingConfig
from pgd_jax.core.errors import UserError
from pgd_jax.data import loading
from pgd_jax.data.base import Reading
from pgd_jax.runs import experiment, synthesis
from tests.d4rl_files import pendulum_like, write

OWN = "-2:2,0:10"
TINY = dict(num_steps=10, steps_per_chunk=10, batch_size=8, width=8, num_blocks=1, window_length=4)


def arrays():
    """Actions like torques of -2 to 2 N m and a valve of 0 to 10 l/s; the first three rows are round numbers."""
    content = pendulum_like()
    actions = np.random.default_rng(0).uniform([-2.0, 0.0], [2.0, 10.0], (3_000, 2)).astype(np.float32)
    actions[:3] = [[-2.0, 10.0], [1.0, 7.5], [2.0, 0.0]]
    return content | {"actions": actions}


@pytest.fixture
def path(tmp_path):
    return str(write(tmp_path / "own.hdf5", arrays()))


def test_bounds_stand_for_minus_one_and_one(path):
    raw = loading.load(path, reading=Reading(action_bounds=OWN))
    # (1 + 2) / 4 and 7.5 / 10 of the way: 0.75 -> 2 * 0.75 - 1 = 0.5
    np.testing.assert_allclose(raw.actions[:3], [[-1.0, 1.0], [0.5, 0.5], [1.0, -1.0]], atol=1e-7)
    assert raw.action_bounds == OWN and np.abs(raw.actions).max() <= 1.0
    back = action_bounds.from_unit("test", raw.actions, OWN)
    np.testing.assert_allclose(back, arrays()["actions"], atol=1e-6)


def test_one_pair_is_for_every_dimension():
    actions = np.array([[-2.0, 2.0, 1.0]], np.float32)
    np.testing.assert_array_equal(action_bounds.to_unit("test", actions, "-2:2"), [[-1.0, 1.0, 0.5]])


@pytest.mark.parametrize("text", ["2:-2", "1", "a:b", "-1:1:2", "0:inf", "nan:1", "1:1", ",", "-2:2,"])
def test_what_are_no_bounds(path, text):
    with pytest.raises(UserError, match=r'action_bounds=".*" must be the lowest and the highest action'):
        pgd.load_dataset(path, action_bounds=text)


def test_what_does_not_fit_the_file(path, tmp_path):
    with pytest.raises(UserError, match=r'own.hdf5: actions must lie in \[-1, 1\]; row 0 holds .*action_bounds="-2:2"'):
        pgd.load_dataset(path)
    with pytest.raises(UserError, match=r'lie in the bounds "-2:2,0:9"; row 0 holds \[-2.0, 10.0\]'):
        pgd.load_dataset(path, action_bounds="-2:2,0:9")
    with pytest.raises(UserError, match="has 3 pairs, but actions have 2 dimensions"):
        pgd.load_dataset(path, action_bounds="-2:2,0:9,0:1")
    with pytest.raises(UserError, match="built-in datasets are in .-1, 1.; leave action_bounds out"):
        pgd.load_dataset("pendulum-mixed-v0", action_bounds="-2:2")


def test_a_file_says_its_own_bounds(path):
    with h5py.File(path, "a") as file:
        file.create_group("metadata").attrs["action_bounds"] = OWN
    assert loading.load(path).action_bounds == OWN
    with pytest.raises(UserError, match='action_bounds="-2:2", but the file\'s metadata say "-2:2,0:10"'):
        pgd.load_dataset(path, action_bounds="-2:2")


def test_arrays_models_and_windows_keep_their_bounds(tmp_path):
    data = pgd.Dataset.from_arrays(**arrays(), action_bounds=OWN)
    denoiser = pgd.train_denoiser(data, **TINY)
    world_model = pgd.train_world_model(data, num_steps=10, hidden_dim=8, num_hidden=1, window_length=4)
    rolled_out = world_model.sample(jax.random.key(0), 16, lambda obs: jnp.tanh(obs[..., :2]), horizon=3)
    for windows in (data.windows(4, length=4), denoiser.sample(jax.random.key(0), 8), rolled_out):
        assert windows.action_bounds == OWN and np.abs(windows.action).max() <= 1.0
        path = windows.save(tmp_path / f"{len(windows)}.hdf5")
        again = pgd.load_dataset(path)  # no setting: the file says so
        np.testing.assert_allclose(again.actions, windows.transitions().action, atol=1e-6)
        with h5py.File(path) as file:
            low, high = np.min(file["actions"], axis=0), np.max(file["actions"], axis=0)
        assert (low >= [-2.0, 0.0]).all() and high[0] <= 2.0 and 1.0 < high[1] <= 10.0  # its own units


@pytest.mark.parametrize("out", ["unguided.hdf5", "minari:toy/unguided-v0"])
def test_runs_export_in_the_units_that_they_read(path, tmp_path, monkeypatch, out):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    monkeypatch.setenv("PGD_JAX_CACHE_DIR", str(tmp_path / "cache"))
    pgd.train_denoiser(pgd.load_dataset(path, action_bounds=OWN), "denoiser", **TINY)
    sampling = SamplingConfig(num_trajectories=8, trajectories_per_batch=8, num_steps=4)
    synthesis.write(out, synthesis.Unguided("denoiser"), sampling, seed=0)
    again = loading.load(out)
    assert again.action_bounds == OWN and again.actions.shape[1] == 2
    if out.startswith("minari"):
        space = minari.load_dataset("toy/unguided-v0").action_space
        assert space == gymnasium.spaces.Box(np.float32([-2, 0]), np.float32([2, 10]))
    else:
        with h5py.File(out) as file:
            np.testing.assert_allclose(action_bounds.to_unit("test", file["actions"][:], OWN), again.actions, atol=1e-6)


def test_a_denoiser_of_other_bounds_is_refused(path, tmp_path):
    pgd.train_denoiser(pgd.load_dataset(path, action_bounds=OWN), tmp_path / "denoiser", **TINY)
    config = AgentConfig(denoiser=str(tmp_path / "denoiser"))
    assert experiment.assemble(config).raw.action_bounds == OWN  # its own dataset, as it read it
    config = dataclasses.replace(config, dataset=path, action_bounds="-2:2,-5:10")
    with pytest.raises(UserError, match='action_bounds are "-2:2,-5:10" here and "-2:2,0:10" there'):
        experiment.assemble(config)
