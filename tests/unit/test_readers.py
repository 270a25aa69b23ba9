"""What is exported is read by the libraries whose formats it has: d4rl's own reader, and minari's."""

import ast
import importlib.util
import os
import pathlib
import shutil
import sys
import types
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec

from pgd_jax.cli import sample
from pgd_jax.core.errors import UserError
from pgd_jax.data import export, loading, minari_export
from pgd_jax.runs import denoiser, synthesis
from tests import worlds
from tests.contract.test_bad_input import run

METADATA = {"env": "hopper", "reference": "hopper-medium-v2", "source": "test"}


def rows() -> export.Flat:
    """Hopper's shapes. Episodes of 4 rows (terminal), 3 (timeout), 2 (cut without a flag) and 3 (timeout)."""
    generator = np.random.default_rng(0)
    lengths = [4, 3, 2, 3]
    paths = [generator.normal(size=(length + 1, 11)) for length in lengths]
    n = sum(lengths)
    terminals, timeouts = np.zeros(n, bool), np.zeros(n, bool)
    terminals[3], timeouts[[6, 11]] = True, True
    obs, next_obs = (np.concatenate([path[part] for path in paths]) for part in (slice(None, -1), slice(1, None)))
    action, reward = generator.uniform(-1.0, 1.0, (n, 3)), generator.normal(size=n)
    fields = (field.astype(np.float32) for field in (obs, action, reward, next_obs))
    return export.Flat(*fields, terminals, timeouts)


EPISODES = [slice(0, 4), slice(4, 7), slice(7, 9), slice(9, 12)]


@pytest.fixture(autouse=True)
def places(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    monkeypatch.setenv("PGD_JAX_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def d4rl_package() -> pathlib.Path:
    """The installed d4rl's folder. The package itself cannot be imported without MuJoCo 2.1."""
    spec = importlib.util.find_spec("d4rl")
    if spec is None or importlib.util.find_spec("gym") is None:
        pytest.skip("d4rl, or the gym that its reader imports, is not installed")
    return pathlib.Path(spec.origin).parent


@pytest.fixture(scope="module")
def offline_env(d4rl_package):
    """An environment of d4rl's own class with hopper's spaces, whose `get_dataset` reads a file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # gym 0.24 with this numpy
        import gym

        spec = importlib.util.spec_from_file_location("_d4rl_offline_env", d4rl_package / "offline_env.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        env = module.OfflineEnv()
        env.observation_space = gym.spaces.Box(-np.inf, np.inf, (11,))
        env.action_space = gym.spaces.Box(-1.0, 1.0, (3,))
    return env


@pytest.fixture(scope="module")
def readers(d4rl_package) -> dict:
    """d4rl/__init__.py's functions by name, without its imports."""
    tree = ast.parse((d4rl_package / "__init__.py").read_text())
    tree.body = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    namespace = {"np": np, "collections": __import__("collections")}
    exec(compile(tree, "d4rl", "exec"), namespace)
    return namespace


@pytest.fixture
def d4rl_dataset(tmp_path, offline_env):
    export.write_hdf5(tmp_path / "x.hdf5", *rows(), metadata=METADATA)
    return offline_env.get_dataset(str(tmp_path / "x.hdf5"))


def test_d4rl_reads_every_array(d4rl_dataset):
    for key, array in rows()._asdict().items():
        np.testing.assert_array_equal(d4rl_dataset[key], array, err_msg=key)
        assert d4rl_dataset[key].dtype == array.dtype


def test_d4rl_makes_transitions(d4rl_dataset, offline_env, readers):
    """`qlearning_dataset` takes the next row for the next observation and drops timeouts and the last row."""
    made, flat = readers["qlearning_dataset"](offline_env, d4rl_dataset), rows()
    kept = [0, 1, 2, 3, 4, 5, 7, 8, 9, 10]
    np.testing.assert_array_equal(made["observations"], flat.observations[kept])
    np.testing.assert_array_equal(made["actions"], flat.actions[kept])
    np.testing.assert_array_equal(made["rewards"], flat.rewards[kept])
    np.testing.assert_array_equal(made["terminals"], flat.terminals[kept])
    inside = [i for i in kept if not flat.terminals[i] and i != 8]  # row 8 is the cut that d4rl cannot know of
    np.testing.assert_array_equal(
        made["next_observations"][[kept.index(i) for i in inside]], flat.next_observations[inside]
    )


def test_d4rl_makes_episodes(d4rl_dataset, offline_env, readers):
    """`sequence_dataset` of d4rl 1.1 indexes every array of a file by row: there must be none but those of rows."""
    made, flat = list(readers["sequence_dataset"](offline_env, d4rl_dataset)), rows()
    assert [len(one["rewards"]) for one in made] == [4, 3, 5]
    for key in ("observations", "actions", "rewards", "terminals", "timeouts", "next_observations"):
        np.testing.assert_array_equal(np.concatenate([one[key] for one in made]), getattr(flat, key))


def test_synthetic_to_hdf5_and_back(tmp_path):
    export.write_hdf5(tmp_path / "x.hdf5", *rows(), metadata=METADATA)
    raw = loading.load(str(tmp_path / "x.hdf5"))
    assert (raw.env, raw.reference) == ("hopper", "hopper-medium-v2")
    for key, array in rows()._asdict().items():
        np.testing.assert_array_equal(getattr(raw, key), array, err_msg=key)


def test_minari_reads_every_episode():
    library = pytest.importorskip("minari")
    minari_export.write("pgd/hopper-guided-v0", rows(), METADATA)
    dataset, flat = library.load_dataset("pgd/hopper-guided-v0"), rows()
    assert (dataset.total_episodes, dataset.total_steps) == (4, 12)
    assert dataset.observation_space.shape == (11,) and dataset.observation_space.dtype == np.float32
    assert dataset.action_space.shape == (3,) and dataset.action_space.contains(flat.actions[0])
    assert dataset.env_spec.id == "Hopper-v4"
    for rows_of, one in zip(EPISODES, dataset.iterate_episodes(), strict=True):
        np.testing.assert_array_equal(one.observations[:-1], flat.observations[rows_of])
        np.testing.assert_array_equal(one.observations[1:], flat.next_observations[rows_of])
        np.testing.assert_array_equal(one.actions, flat.actions[rows_of])
        np.testing.assert_array_equal(one.rewards, flat.rewards[rows_of])
        np.testing.assert_array_equal(one.terminations, flat.terminals[rows_of])
        np.testing.assert_array_equal(one.truncations, (np.arange(len(one)) == len(one) - 1) & ~one.terminations)
    metadata = dataset.storage.metadata
    assert metadata["author"] == {"pgd_jax"} and "source: test" in metadata["description"]
    assert list(library.list_local_datasets()) == ["pgd/hopper-guided-v0"]
    # D4RL's scores of hopper: -20.272305 is 0 and 3234.3 is 1 to Minari.
    np.testing.assert_allclose(library.get_normalized_score(dataset, np.array([-20.272305, 3234.3])), [0.0, 1.0])


def test_minari_recovers_the_environment():
    library, _ = pytest.importorskip("minari"), pytest.importorskip("mujoco")
    minari_export.write("pgd/hopper-guided-v0", rows(), METADATA)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Hopper-v4 is said to be out of date
        env = library.load_dataset("pgd/hopper-guided-v0").recover_environment()
    assert env.observation_space.shape == (11,) and env.action_space.shape == (3,)
    env.close()
    minari_export.write("pgd/other-v0", rows(), {"env": "ant", "reference": "nothing"})  # of another shape
    metadata = library.load_dataset("pgd/other-v0").storage.metadata
    assert "env_spec" not in metadata and "ref_max_score" not in metadata


def test_minari_recovers_no_adroit_task_that_pays_otherwise(monkeypatch):
    """gymnasium-robotics' hammer, registered or not, has D4RL's shapes, but other rewards."""
    library = pytest.importorskip("minari")
    spec = EnvSpec("AdroitHandHammer-v1", "gymnasium_robotics:none")
    monkeypatch.setitem(gymnasium.registry, spec.id, spec)
    obs, actions = np.random.default_rng(0).normal(size=(3, 46)), np.zeros((2, 26))
    flags = np.zeros(2, bool), np.array([False, True])
    made = {"env": "hammer", "reference": "hammer-human-v1"}
    minari_export.write("pgd/hammer-v0", export.Flat(obs[:-1], actions, np.arange(2.0), obs[1:], *flags), made)
    metadata = library.load_dataset("pgd/hammer-v0").storage.metadata
    assert "env_spec" not in metadata and metadata["pgd_jax"] == made


def test_minaris_own_place_is_used_and_the_variable_left_alone(tmp_path, monkeypatch):
    pytest.importorskip("minari")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("MINARI_DATASETS_PATH")
    folder = minari_export.write("toy-v0", rows(), METADATA)
    assert folder == tmp_path / ".minari" / "datasets" / "toy-v0" and "MINARI_DATASETS_PATH" not in os.environ
    assert sorted(path.name for path in folder.parent.iterdir()) == ["toy-v0"]


def test_synthetic_to_minari_and_back():
    """All fields but one flag: the cut without a flag, row 8, is a timeout in Minari, whose episodes end there."""
    pytest.importorskip("minari")
    minari_export.write("pgd/hopper-guided-v0", rows(), METADATA)
    raw = loading.load("minari:pgd/hopper-guided-v0")
    assert (raw.env, raw.reference) == ("hopper", "hopper-medium-v2")
    expected = rows()
    expected.timeouts[8] = True
    for key, array in expected._asdict().items():
        np.testing.assert_array_equal(getattr(raw, key), array, err_msg=key)


def test_a_minari_dataset_is_never_overwritten_nor_half_written(tmp_path):
    pytest.importorskip("minari")
    folder = minari_export.write("pgd/hopper-guided-v0", rows(), METADATA)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(UserError, match="hopper-guided-v0 exists already; choose another name"):
        minari_export.write("pgd/hopper-guided-v0", rows(), {})
    with pytest.raises(UserError, match=r'"pgd/hopper" is no name of a Minari dataset'):
        minari_export.write("pgd/hopper", rows(), {})
    bad = rows()
    bad.rewards[5] = np.nan
    with pytest.raises(UserError, match="rewards holds NaN or infinity, first in row 5"):
        minari_export.write("pgd/bad-v0", bad, {})
    with pytest.raises(TypeError):
        minari_export.write("pgd/half-v0", rows(), {"env": object()})
    assert {path: path.read_bytes() for path in (tmp_path / "minari").rglob("*") if path.is_file()} == before | {
        tmp_path / "minari" / "pgd" / "namespace_metadata.json": b"{}"
    }


@pytest.fixture
def sampled(tmp_path, monkeypatch):
    """Stands for a trained denoiser and what it generates."""
    dataset, seen = worlds.write_dataset(tmp_path / "good.hdf5"), []
    config = worlds.denoiser_config(dataset)
    trained = types.SimpleNamespace(config=config, network=None, params=None, normalizer=None)
    monkeypatch.setattr(denoiser, "load", lambda path: trained)
    monkeypatch.setattr(synthesis, "_rows", lambda *arguments: seen.append(arguments) or worlds.rows())
    return seen


def test_the_command_writes_both_formats_with_the_same_rows(sampled, tmp_path, capsys):
    pytest.importorskip("minari")
    assert not run(sample, "--denoiser=trained", f"--out={tmp_path / 'x.hdf5'}")
    assert not run(sample, "--denoiser=trained", "--out=minari:pgd/pendulum-v0")
    assert str(tmp_path / "minari" / "pgd" / "pendulum-v0") in capsys.readouterr().out
    file, dataset = loading.load(str(tmp_path / "x.hdf5")), loading.load("minari:pgd/pendulum-v0")
    assert file.env == dataset.env == "pendulum"
    for key in export.Flat._fields:
        np.testing.assert_array_equal(getattr(file, key), getattr(dataset, key), err_msg=key)


def test_the_command_refuses_before_it_samples(sampled, tmp_path, capsys, monkeypatch):
    pytest.importorskip("minari")
    minari_export.write("pgd/taken-v0", rows(), METADATA)
    for out, message in (("pgd/taken-v0", "taken-v0 exists already"), ("pgd/new", "is no name of a Minari dataset")):
        assert run(sample, "--denoiser=trained", f"--out=minari:{out}") == 2
        assert message in capsys.readouterr().err
    shutil.rmtree(tmp_path / "minari")
    monkeypatch.setitem(sys.modules, "minari", None)
    assert run(sample, "--denoiser=trained", "--out=minari:pgd/new-v0") == 2
    assert 'pip install "pgd_jax[minari]"' in capsys.readouterr().err
    assert not (tmp_path / "minari").exists() and not sampled


@pytest.mark.parametrize("place", ["{}/taken/x.hdf5", "{}/taken/deep/x.hdf5", "minari:pgd/x-v0"])
def test_a_place_that_cannot_be_written_is_found_before_sampling(sampled, tmp_path, capsys, monkeypatch, place):
    if place.startswith("minari"):
        pytest.importorskip("minari")
    (tmp_path / "taken").write_text("a file")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "taken"))
    assert run(sample, "--denoiser=trained", f"--out={place.format(tmp_path)}") == 2
    assert f"{tmp_path / 'taken'} is not a folder that can be written to" in capsys.readouterr().err
    assert not sampled


def test_a_dataset_that_is_gone_is_found_before_sampling(sampled, tmp_path, capsys):
    (tmp_path / "good.hdf5").unlink()
    assert run(sample, "--denoiser=trained", f"--out={tmp_path / 'x.hdf5'}") == 2
    assert f"no dataset file at {tmp_path / 'good.hdf5'}" in capsys.readouterr().err
    assert not sampled and not (tmp_path / "x.hdf5").exists()
