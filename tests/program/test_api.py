"""The front door: what a notebook does, in memory and in folders, with the same numbers."""

import dataclasses
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import pytest

import pgd_jax as pgd
from pgd_jax.data import normalizer as normalizers, windows
from pgd_jax.diffusion import edm
from pgd_jax.runs import metrics
from tests import oracles, quickly, worlds

matplotlib.use("agg")
DENOISER = dict(
    num_steps=20, batch_size=8, ema_period=5, num_validation_windows=16, window_length=8, window_stride=4, width=8,
    num_blocks=2,
)  # fmt: skip
SAMPLING = dict(num_steps=3, windows_per_batch=16)
AGENT = dict(
    num_seeds=2, num_phases=2, updates_per_phase=4, batch_size=8, synthetic_per_batch=6, num_episodes=2, hidden_dim=16,
    num_hidden=1, num_steps=3, num_trajectories=8, trajectories_per_batch=4,
)  # fmt: skip
KEY = jax.random.key(3)


@pytest.fixture(scope="module")
def data(dataset):
    return pgd.load_dataset(dataset)


@pytest.fixture(scope="module")
def denoiser(data):
    return pgd.train_denoiser(data, **DENOISER)


def toward_half(obs, action):
    """log N(0.5, 0.1^2) of each action."""
    return jnp.sum(-0.5 * ((action - 0.5) / 0.1) ** 2 - jnp.log(0.1 * jnp.sqrt(2.0 * jnp.pi)), axis=-1)


def test_importing_it_does_not_wait_for_jax():
    code = "import pgd_jax, sys; print('jax' in sys.modules, 'flax' in sys.modules, 'load_dataset' in dir(pgd_jax))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False", "True"]
    assert all(getattr(pgd, name) is not None for name in pgd.__all__)
    with pytest.raises(AttributeError, match="no attribute 'load_datasets'"):
        pgd.load_datasets


def test_the_whole_way_in_memory(data, denoiser, tmp_path):
    plain = denoiser.sample(KEY, 20, **SAMPLING)
    guided = denoiser.sample(KEY, 20, log_prob=toward_half, guidance=10.0, **SAMPLING)
    assert plain.obs.shape == (20, 8, 3) and guided.action.shape == (20, 8, 1) and len(guided) == 20
    assert pgd.measures.log_likelihood(guided, toward_half) > pgd.measures.log_likelihood(plain, toward_half) + 1.0
    assert pgd.measures.dynamics_error(guided, "pendulum") > 0.0
    panels = pgd.plot.windows({"data": data.windows(6, length=8), "unguided": plain, "guided": guided})
    assert panels.shape == (3, 3)  # observations by titles
    loaded = pgd.load_dataset(guided.save(tmp_path / "guided.hdf5"))
    rows = guided.transitions()
    assert loaded.env == "pendulum" and len(loaded.rewards) == len(rows.reward)
    np.testing.assert_array_equal(loaded.observations, rows.obs)
    result = pgd.train_agent(data, denoiser, agent="td3_bc", guidance_coefficient=[0, 1], **AGENT)
    assert {name: values.shape for name, values in result.curves.items()} == {"unguided": (2, 2), "guided": (2, 2)}
    assert [lane["group"] for lane in result.lanes] == ["unguided"] * 2 + ["guided"] * 2
    np.testing.assert_array_equal(result.scores["guided"], result.curves["guided"][-1])
    policy = result.policy(lane=3)
    assert pgd.evaluate(policy, data.env, num_episodes=3).shape == (3,)
    again = denoiser.sample(KEY, 20, log_prob=policy.log_prob, **SAMPLING)
    assert np.isfinite(again.action).all()
    assert len(pgd.plot.curves(result.curves).lines) == 2 * (2 + 1)


def test_a_run_has_the_numbers_of_memory_and_its_command_s_name(data, denoiser, tmp_path):
    kept = pgd.train_denoiser(data, tmp_path / "denoiser", **DENOISER)
    for windows_, expected in zip(
        (kept.sample(KEY, 8, **SAMPLING), pgd.load_denoiser(tmp_path / "denoiser").sample(KEY, 8, **SAMPLING)),
        [denoiser.sample(KEY, 8, **SAMPLING)] * 2,
        strict=True,
    ):
        np.testing.assert_array_equal(windows_.obs, expected.obs)
        np.testing.assert_array_equal(windows_.action, expected.action)
    inside = pgd.train_agent(data, denoiser, guidance_coefficient=[0, 1], **AGENT)
    kept_in = dict(workdir=tmp_path / "agent", sinks=["csv"])
    outside = pgd.train_agent(data, kept, guidance_coefficient=[0, 1], **kept_in, **AGENT)
    assert outside.rows == metrics.read(tmp_path / "agent" / "metrics.jsonl")
    assert len((tmp_path / "agent" / "metrics.csv").read_text().splitlines()) == 1 + len(outside.rows)

    def unclocked(rows):
        return [{key: value for key, value in row.items() if not key.startswith("wall_")} for row in rows]

    for ours, theirs in zip(unclocked(inside.rows), unclocked(outside.rows), strict=True):
        assert ours.keys() == theirs.keys()
        for key, value in theirs.items():
            np.testing.assert_array_equal(ours[key], value, err_msg=key)
    jax.tree.map(np.testing.assert_array_equal, inside.states.agent, outside.states.agent)


def test_the_command_samples_the_same_windows(data, tmp_path):
    kept = pgd.train_denoiser(data, tmp_path / "denoiser", **DENOISER)
    line = [sys.executable, "-m", "pgd_jax.cli.sample", f"--denoiser={tmp_path / 'denoiser'}", "--seed=3"]
    line += [f"--out={tmp_path / 'x.hdf5'}", "--num_trajectories=16", "--num_steps=3"]
    subprocess.run(line, check=True, capture_output=True, env=os.environ | {"JAX_NUM_CPU_DEVICES": "2"})
    found, ours = pgd.load_dataset(tmp_path / "x.hdf5"), kept.sample(KEY, 16, **SAMPLING).transitions()
    np.testing.assert_allclose(found.observations, ours.obs, atol=1e-5)
    np.testing.assert_allclose(found.actions, ours.action, atol=1e-5)


def test_log_prob_is_in_environment_units(denoiser):
    """The states and actions that it is shown are those of the windows, not standardised ones."""
    normalizer, seen = denoiser.trained.normalizer, []

    def spy(obs, action):
        jax.debug.callback(lambda obs, action: seen.append((obs, action)), obs, action)
        return toward_half(obs, action)

    denoiser.sample(KEY, 4, log_prob=spy, num_steps=3, windows_per_batch=4)
    jax.effects_barrier()
    assert seen and all(np.abs(action).max() <= 1.0 for _, action in seen)
    obs = np.concatenate([obs.reshape(-1, 3) for obs, _ in seen])
    network = normalizers.encode_obs(normalizer, jnp.asarray(obs))
    assert not np.allclose(obs, network, atol=0.1)


def test_any_traceable_function_guides(denoiser):
    """One that closes over a network of one's own, and one of keyword arguments."""
    weights = jax.random.normal(jax.random.key(0), (3, 1))

    def own(obs, action, scale=1.0):
        return -0.5 * scale * jnp.sum((action - jnp.tanh(obs @ weights)) ** 2, axis=-1)

    assert np.isfinite(denoiser.sample(KEY, 4, log_prob=own, **SAMPLING).action).all()
    assert np.isfinite(denoiser.sample(KEY, 4, log_prob=jax.jit(own), **SAMPLING).action).all()


@pytest.mark.slow
def test_log_likelihoods_are_those_of_the_whole_jacobian(data, denoiser):
    """The same steps, the trace from the Jacobian that reverse mode gives; padding and batches change nothing."""
    found, trained = data.windows(3, length=8), denoiser.trained
    ours = denoiser.log_likelihood(found, num_steps=2, windows_per_batch=2)
    assert ours.shape == (3,) and ours.dtype == np.float32
    columns = (found.obs, found.action, found.reward[..., None], found.terminal[..., None])
    x = normalizers.encode(trained.normalizer, jnp.concatenate([jnp.asarray(c, jnp.float32) for c in columns], axis=-1))
    denoise = edm.denoiser(trained.network, trained.params)

    @quickly.jit
    def slope(x, sigma):
        one = lambda x: denoise(x[None], sigma)[0].reshape(-1)
        trace = jax.vmap(lambda x: jnp.trace(jax.jacrev(one)(x).reshape(x.size, x.size)))(x)
        return (x - denoise(x, sigma)) / sigma, (x[0].size - trace) / sigma

    total, levels = 0.0, np.float32(oracles.karras(3)[:-1][::-1])
    for sigma, higher in zip(levels[:-1], levels[1:], strict=True):
        (d, div), width = slope(x, sigma), higher - sigma
        d_next, div_next = slope(x + width * d, higher)
        x, total = x + 0.5 * width * (d + d_next), total + 0.5 * width * (div + div_next)
    variance = 80.0**2 + 1.0
    expected = total - 0.5 * np.sum(np.square(x) / variance + np.log(2.0 * np.pi * variance), axis=(1, 2))
    np.testing.assert_allclose(ours, expected, rtol=1e-3)


@pytest.mark.slow
def test_log_likelihoods_are_higher_on_data_than_off_it(data, denoiser):
    """And probes find nearly the same; observations of a circle, doubled, are off it."""
    found = data.windows(16, length=8)
    off = dataclasses.replace(found, obs=2.0 * found.obs)
    settings = dict(num_steps=8, num_probes=4, key=KEY)
    on, away = (denoiser.log_likelihood(windows_, **settings) for windows_ in (found, off))
    assert np.isfinite(on).all() and on.mean() > away.mean()


LOG_PROBS = {
    "not a function": (3.0, "log_prob must be a function of"),
    "one argument": (lambda obs: obs, "log_prob must be a function of"),
    "numpy": (lambda obs, action: np.sum(np.asarray(action), axis=-1), "cannot be traced by JAX"),
    "python's if": (lambda obs, action: action.sum(-1) if action.sum() > 0 else 0.0, "cannot be traced by JAX"),
    "widths": (lambda obs, action: jnp.sum(action @ jnp.ones((5, 1)), axis=-1), "cannot be traced by JAX"),
    "not summed": (lambda obs, action: -(action**2), r"has shape \(2, 3, 1\); expected \(2, 3\)"),
    "one number": (lambda obs, action: -jnp.sum(action**2), r"has shape \(\); expected \(2, 3\)"),
    "a tuple": (lambda obs, action: (action, obs), "expected"),
    "not finite": (lambda obs, action: jnp.sum(jnp.log(action), axis=-1), "has a value that is not finite"),
    "no gradient": (lambda obs, action: jnp.sum(jnp.sqrt(action * 0.0), -1), "has a gradient that is not finite"),
}


@pytest.mark.parametrize("name", LOG_PROBS)
def test_what_is_no_log_prob_is_one_clear_error(name, denoiser):
    function, message = LOG_PROBS[name]
    with pytest.raises(pgd.UserError, match=message):
        denoiser.sample(KEY, 4, log_prob=function, **SAMPLING)


MISTAKES = {
    "a dataset's name": (lambda d, m, p: pgd.load_dataset("pendulum-mixd-v0"), 'did you mean "pendulum-mixed-v0"'),
    "a setting": (lambda d, m, p: pgd.train_denoiser(d, widht=8), 'no setting "widht"; did you mean "width"'),
    "a type": (
        lambda d, m, p: pgd.train_denoiser(d, num_steps="many"),
        "training.num_steps='many' must be of type int",
    ),
    "a seed": (lambda d, m, p: pgd.train_denoiser(d, seed=2**40), "training.seed=1099511627776 must be a seed"),
    "a sampler": (lambda d, m, p: m.sample(KEY, 4, sampler="hoin"), 'did you mean "heun"'),
    "a rule": (lambda d, m, p: m.sample(KEY, 4, rule="proximale"), 'did you mean "proximal"'),
    "a sampling setting": (lambda d, m, p: m.sample(KEY, 4, num_step=4), 'did you mean "num_steps"'),
    "a float": (lambda d, m, p: m.sample(KEY, 4, hyper={"sigma_mx": 1.0}), 'did you mean "sigma_max"'),
    "the strength": (lambda d, m, p: m.sample(KEY, 4, hyper={"guidance_coefficient": 1.0}), "the argument `guidance`"),
    "many floats": (lambda d, m, p: m.sample(KEY, 4, hyper={"rho": [1.0, 2.0]}), "one value of each float"),
    "no windows": (lambda d, m, p: m.sample(KEY, 0), "num_windows=0"),
    "another length": (lambda d, m, p: m.log_likelihood(d.windows(2, length=4)), "2 windows of 4 rows.*one of 8 rows"),
    "probes": (lambda d, m, p: m.log_likelihood(d.windows(2, length=8), num_probes=1), "num_probes=1 .* give a key"),
    "levels": (lambda d, m, p: m.log_likelihood(d.windows(2, length=8), sigma_min=99.0), "0 < sigma_min=99.0"),
    "an agent": (lambda d, m, p: pgd.train_agent(d, agent="td3"), 'unknown agent "td3"'),
    "an agent's setting": (lambda d, m, p: pgd.train_agent(d, num_phasis=2), 'did you mean "num_phases"'),
    "guidance of nothing": (
        lambda d, m, p: pgd.train_agent(d, guidance_coefficient=[0, 1]),
        "give train_agent a denoiser",
    ),
    "a lane": (lambda d, m, p: m.sample(KEY, 4, hyper={"agent.alpha": 1.0}), 'unknown float "agent.alpha"'),
    "a task": (lambda d, m, p: pgd.evaluate(lambda obs: obs, "pendulm"), 'did you mean "pendulum"'),
    "a run of arrays": (lambda d, m, p: pgd.train_denoiser(arrays(), p / "x"), "is in memory; write it to a file"),
    "a run on memory": (lambda d, m, p: pgd.train_agent(d, m, workdir=p / "x", **AGENT), "the denoiser is in memory"),
    "sinks in memory": (lambda d, m, p: pgd.train_agent(d, m, sinks=["csv"], **AGENT), "give a workdir too"),
    "a sink": (lambda d, m, p: pgd.train_denoiser(d, p / "x", sinks=["cvs"]), 'did you mean "csv"'),
    "no pictures": (lambda d, m, p: pgd.plot.windows({}), "at least one title"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_one_clear_error(name, data, denoiser, tmp_path):
    call, message = MISTAKES[name]
    with pytest.raises(pgd.UserError, match=message):
        call(data, denoiser, tmp_path)
    assert list(tmp_path.iterdir()) == []


def arrays(**changes):
    rows = worlds.rows()._asdict()
    return pgd.Dataset.from_arrays(**rows | changes, env="pendulum")


def test_one_s_own_arrays_are_a_dataset(data, denoiser):
    """The same rows as those of a file train the same denoiser; lists and shapes [N, 1] will do."""
    own = arrays(rewards=worlds.rows().rewards[:, None].tolist())
    np.testing.assert_array_equal(own.observations, data.observations)
    np.testing.assert_array_equal(own.rewards, data.rewards)
    again = pgd.train_denoiser(own, **DENOISER).sample(KEY, 4, **SAMPLING)
    np.testing.assert_array_equal(again.obs, denoiser.sample(KEY, 4, **SAMPLING).obs)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"actions": worlds.rows().actions * 3.0}, r"arrays: actions must lie in \[-1, 1\]; row"),
        ({"rewards": np.full(240, np.nan)}, "arrays: rewards holds NaN or infinity, first in row 0"),
        ({"rewards": np.zeros(239)}, "arrays: arrays differ in length"),
        ({"observations": np.zeros((240, 3, 2))}, "arrays: observations has shape"),
        (
            {"terminals": np.zeros(240), "timeouts": None, "next_observations": None},
            "nothing says where an episode ends",
        ),
    ],
)
def test_bad_arrays_are_named(changes, message):
    with pytest.raises(pgd.UserError, match=message):
        arrays(**changes)


def test_windows_of_a_dataset_are_its_rows(data):
    """By hand: rows follow each other in the recording, and only a last row that is terminal is a whole transition."""
    found = data.windows(50, length=8)
    rows = found.transitions()
    starts = [int(np.flatnonzero((data.observations == obs[0]).all(axis=1))[0]) for obs in found.obs]
    for start, obs, reward in zip(starts, found.obs, found.reward, strict=True):
        np.testing.assert_array_equal(obs, data.observations[start : start + 8])
        np.testing.assert_array_equal(reward, data.rewards[start : start + 8])
    np.testing.assert_array_equal(found.valid[:, :-1], True)
    np.testing.assert_array_equal(found.valid[:, -1], found.terminal[:, -1])
    assert len(rows.reward) == found.valid.sum()
    follows = found.valid[:, :-1]
    np.testing.assert_array_equal(
        rows.next_obs[rows.terminal == 0.0], found.obs[:, 1:][follows & ~found.terminal[:, :-1]]
    )
    assert pgd.measures.dynamics_error(found, "pendulum") >= 0.0


def test_what_follows_a_generated_end_is_no_experience():
    normalizer = normalizers.fit(np.random.default_rng(0).normal(size=(50, 6)).astype(np.float32) * 0.3, worlds.LAYOUT)
    rows = np.zeros((1, 5, 6), np.float32)
    rows[0, 2, -1] = 1.0
    found = windows.generated(normalizer, normalizers.encode(normalizer, jnp.asarray(rows)))
    assert found.valid.tolist() == [[True, True, True, False, False]]
    assert found.transitions().terminal.tolist() == [0.0, 0.0, 1.0]
