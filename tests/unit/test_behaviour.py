"""The behaviour policy: learned from a dataset whose policy is known, and refused where it does not belong."""

import dataclasses
import functools
import shutil

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pgd_jax.agents import adam, cloned
from pgd_jax.core import config as configs
from pgd_jax.core.errors import UserError
from pgd_jax.core.types import Layout, Normalizer
from pgd_jax.data import episodes, loading, normalizer as normalizers
from pgd_jax.networks.base import Network
from pgd_jax.runs import behaviour, checkpoint, denoiser, metrics, rundir
from pgd_jax.train import denoiser as denoiser_training
from tests import interruptions, worlds

NUM_ROWS, EPISODE_LENGTH = 6_000, 200
SIZES = dict(hidden_dim=32, num_hidden=1)


def true_policy(obs):
    """(mean, std), each [N, 2], of obs [N, 2] in [-1, 1]^2, all environment space.

    An action's mean turns with one observation, its spread with the other; the box ends 2.6 std away or further.
    """
    x, y = obs[:, 0], obs[:, 1]
    mean = np.stack([0.25 * x, -0.2 * y], axis=1)
    return mean, 0.2 * np.exp(0.35 * np.stack([y, x], axis=1))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    generator = np.random.default_rng(0)
    obs = generator.uniform(-1.0, 1.0, (NUM_ROWS, 2))
    mean, std = true_policy(obs)
    action = np.clip(mean + std * generator.normal(size=mean.shape), -1.0, 1.0)
    path = tmp_path_factory.mktemp("data") / "gaussian.hdf5"
    arrays = {"observations": 5.0 + 3.0 * obs, "actions": action, "rewards": obs[:, 0]}
    arrays |= {"terminals": np.zeros(NUM_ROWS, bool), "timeouts": np.arange(NUM_ROWS) % EPISODE_LENGTH == 199}
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array
    return path


@pytest.fixture(scope="module")
def trained_denoiser(dataset, tmp_path_factory):
    """The run directory of a denoiser whose weights are its first: nothing here looks at them."""
    config, path = worlds.denoiser_config(str(dataset)), tmp_path_factory.mktemp("runs") / "denoiser"
    normalizer = denoiser.prepare(config).normalizer
    network = denoiser.network_of(config, normalizer.layout)
    state = jax.jit(lambda key: denoiser_training.init(key, network, config.training))(jax.random.key(0))
    with rundir.open_run(path, denoiser.KIND, configs.to_dict(config)) as directory:
        metadata = {"layout": dataclasses.asdict(normalizer.layout)}
        checkpoint.save(directory.checkpoints_path, 6, denoiser.Saved(state, normalizer), metadata)
        directory.mark_finished()
    return path


def config_of(trained_denoiser, **changes):
    settings = dict(num_steps=2_000, steps_per_chunk=500, batch_size=256, learning_rate=3e-3) | SIZES | changes
    return configs.BehaviourConfig(denoiser=str(trained_denoiser), **settings)


@pytest.fixture(scope="module")
def finished(trained_denoiser, tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "behaviour"
    assert behaviour.fit(config_of(trained_denoiser), path)
    return path


@pytest.fixture(scope="module")
def undisturbed(trained_denoiser, tmp_path_factory):
    """(config, run directory) of four chunks of three steps."""
    config = config_of(trained_denoiser, hidden_dim=8, num_steps=12, steps_per_chunk=3, batch_size=16)
    path = tmp_path_factory.mktemp("runs") / "undisturbed"
    assert behaviour.fit(config, path)
    return config, path


@pytest.fixture(scope="module")
def log_prob():
    """Of a policy that no training has seen, O = 3 and A = 2."""
    network = behaviour.network_of(configs.BehaviourConfig(**SIZES), Layout(3, 2))
    return jax.jit(functools.partial(cloned.log_prob, network, jax.jit(network.init)(jax.random.key(1))))


@pytest.mark.slow
def test_learns_the_mean_and_spread_of_each_state(finished, trained_denoiser):
    trained = behaviour.load(finished, denoiser.load(trained_denoiser).normalizer)
    axis = np.linspace(-0.9, 0.9, 7)
    obs = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    encoded = normalizers.encode_obs(trained.normalizer, jnp.asarray(5.0 + 3.0 * obs, jnp.float32))
    mean, log_std = jax.device_get(trained.network.apply(trained.params, encoded))
    true_mean, true_std = true_policy(obs)
    # Of 5,700 rows, as many as 100 tell of one state: their mean is known to 0.02, their log std to 0.07.
    assert np.abs(mean - true_mean).mean() < 0.02 and np.abs(mean - true_mean).max() < 0.1
    assert np.abs(log_std - np.log(true_std)).mean() < 0.07 and np.abs(log_std - np.log(true_std)).max() < 0.3


def test_held_out_likelihood_is_that_of_the_truth(finished):
    rows = metrics.read(finished / "metrics.jsonl")
    # E log N(a; m, s^2) = -log s - log(2 pi e) / 2 an action; E log s = log 0.2. 300 held-out rows: +-0.12 by chance.
    truth = -2.0 * (np.log(0.2) + 0.5 * np.log(2.0 * np.pi * np.e))
    assert [row["step"] for row in rows] == [500, 1_000, 1_500, 2_000]
    np.testing.assert_allclose(rows[-1]["validation_log_likelihood"], truth, atol=0.2)
    np.testing.assert_allclose(rows[-1]["train_log_likelihood"], truth, atol=0.05)


def test_over_fitting_shows(trained_denoiser):
    """Of 32 transitions the noise is learned too: their likelihood is above that of held-out ones."""
    config = config_of(trained_denoiser, hidden_dim=64)
    data = behaviour.prepare(config)
    few = jax.tree.map(lambda x: x[:32], data.training)
    network = behaviour.network_of(config, data.normalizer.layout)
    state = behaviour.TrainState(jax.random.key(0), adam.init(jax.jit(network.init)(jax.random.key(1))))
    state, learned = behaviour.train_chunk(state, few, network=network, config=config)
    assert learned > behaviour.log_likelihood(state.policy.params, data.validation, network=network) + 0.5


def test_the_split_is_the_denoisers(trained_denoiser, dataset):
    data = behaviour.prepare(config_of(trained_denoiser))
    trained, raw = denoiser.load(trained_denoiser), loading.load(str(dataset))
    encoded = normalizers.encode_obs(jax.device_get(trained.normalizer), raw.observations)
    row_of = {row.tobytes(): i for i, row in enumerate(encoded)}
    rows = [np.array([row_of[obs.tobytes()] for obs in np.asarray(part.obs)]) for part in data[1:]]
    for part, row in zip(data[1:], rows, strict=True):
        np.testing.assert_array_equal(part.action, raw.actions[row])
    train_ids, validation_ids = denoiser.split(trained.config.data, episodes.segments(raw))
    assert validation_ids.size == 2  # of 30
    for row, ids in zip(rows, (train_ids, validation_ids), strict=True):
        np.testing.assert_array_equal(np.unique(row // EPISODE_LENGTH), ids)
        assert row.size == ids.size * (EPISODE_LENGTH - 1)  # a segment's last row has no successor in this file


def test_the_likelihood_of_a_dataset_is_its_rows_mean(monkeypatch):
    """Over one batch and a remainder."""

    def apply(params, obs):
        return params * obs, jnp.zeros_like(obs)

    monkeypatch.setattr(behaviour, "VALIDATION_BATCH", 3)
    data = behaviour.Demonstrations(jnp.zeros((5, 1)), jnp.array([[0.0], [0.0], [0.0], [0.0], [1.0]]))
    # -log(2 pi) / 2 each; the last row, a standard deviation away, has 1/2 less.
    expected = -0.5 * np.log(2.0 * np.pi) - 0.5 / 5.0
    found = behaviour.log_likelihood(jnp.float32(1.0), data, network=Network(None, apply))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("scale", [0.0, 1.0, 1e3])  # the last reaches the limits of mean and spread
def test_log_prob_is_a_density_over_environment_actions(log_prob, scale):
    axis = jnp.linspace(-16.0, 16.0, 321)
    action = jnp.stack(jnp.meshgrid(axis, axis), axis=-1)
    density = jnp.exp(log_prob(jnp.full((321, 321, 3), scale), action))
    np.testing.assert_allclose(np.trapezoid(np.trapezoid(density, axis), axis), 1.0, rtol=1e-3)


@pytest.mark.parametrize("edge", [-1.0, 1.0])
def test_log_prob_at_the_edge_of_the_action_box_is_finite_and_its_score_bounded(log_prob, key, edge):
    obs, action = 1e3 * jax.random.normal(key, (4, 5, 3)), jnp.full((4, 5, 2), edge)
    value, score = log_prob(obs, action), jax.grad(lambda action: log_prob(obs, action).sum())(action)
    assert value.shape == (4, 5) and jnp.isfinite(value).all()
    assert 0.0 < jnp.abs(score).max() <= 2.0 / np.exp(2.0 * behaviour.LOG_STD_MIN) + 1e-3
    np.testing.assert_allclose(log_prob(obs[1, 2], action[1, 2]), value[1, 2], rtol=1e-5)


def content(path):
    """Rows without their times, and the last checkpoint's arrays as bytes."""
    rows = [{k: v for k, v in row.items() if not k.startswith("wall_")} for row in metrics.read(path / "metrics.jsonl")]
    return rows, [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(behaviour.load(path)[2:])]


@pytest.mark.parametrize("event", interruptions.EVENTS)
def test_an_interrupted_run_ends_as_an_undisturbed_one(event, undisturbed, tmp_path, monkeypatch):
    config, whole = undisturbed
    interruptions.interrupt(monkeypatch, behaviour, event, config, tmp_path / "run")
    assert 1 <= checkpoint.latest(tmp_path / "run" / "checkpoints") < 4
    with pytest.raises(UserError, match="not trained to its end; run its train_behaviour command again first"):
        behaviour.load(tmp_path / "run")
    assert behaviour.fit(config, tmp_path / "run")
    assert content(tmp_path / "run") == content(whole)


def test_another_denoisers_policy_is_refused(finished):
    normalizer = behaviour.load(finished).normalizer
    behaviour.load(finished, normalizer)
    wider = Normalizer(jnp.zeros(7), jnp.ones(7), Layout(3, 2))
    sizes = "it was trained on observations of 2 and actions of 2, the denoiser on observations of 3 and actions of 2"
    for other, difference in (
        (normalizer.replace(mean=normalizer.mean.at[0].add(1e-3)), "other means and standard deviations"),
        (normalizer.replace(std=normalizer.std.at[1].multiply(1.01)), "other means and standard deviations"),
        (wider, sizes),
    ):
        with pytest.raises(UserError) as error:
            behaviour.load(finished, other)
        assert "belongs to another denoiser" in str(error.value) and difference in str(error.value)
        assert str(finished) in str(error.value) and "train_behaviour" in str(error.value)


def test_a_denoiser_that_cannot_be_used_is_refused_and_nothing_written(trained_denoiser, finished, tmp_path):
    shutil.copytree(trained_denoiser, tmp_path / "unfinished")
    (tmp_path / "unfinished" / "finished").unlink()
    for path, message in (
        (tmp_path / "nowhere", "nowhere is not a run directory"),
        (tmp_path / "unfinished", "this denoiser run is not trained to its end"),
        (finished, 'holds a run of kind "behaviour", not "denoiser"'),
    ):
        with pytest.raises(UserError, match=message):
            behaviour.fit(config_of(path), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_dataset_that_is_another_now_is_refused(trained_denoiser, dataset, tmp_path):
    dataset.rename(tmp_path / "kept.hdf5")
    worlds.write_dataset(dataset)
    with pytest.raises(UserError) as error:
        behaviour.prepare(config_of(trained_denoiser))
    (tmp_path / "kept.hdf5").replace(dataset)
    assert "no longer the dataset that the denoiser" in str(error.value)
    assert "observations of 3 and actions of 1, the denoiser observations of 2 and actions of 2" in str(error.value)
