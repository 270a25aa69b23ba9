"""What the report generates and times itself, on a run with an untrained denoiser."""

import dataclasses
import functools
import hashlib
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pgd_jax.core import config as configs
from pgd_jax.data import normalizer as normalizers
from pgd_jax.data.mazes import collect
from pgd_jax.envs import evaluate
from pgd_jax.envs.base import HOST_ENVS
from pgd_jax.generators import base, diffusion
from pgd_jax.report import comparison, exchange, folder, policies, results, timing, windows, writer
from pgd_jax.runs import agent as agent_runs, checkpoint, denoiser, evaluators, experiment, metrics, records, rundir
from pgd_jax.train import denoiser as denoiser_training
from tests.runs import FINAL, SYNTHETIC_LANES, write_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run on pendulum with an untrained denoiser: lanes of coefficient 0 and 3, 3 seeds each, one phase."""
    folder = tmp_path_factory.mktemp("runs")
    collect.write("pendulum-mixed-v0", folder / "data.hdf5", num_rows=800)
    data = configs.DataConfig(dataset=str(folder / "data.hdf5"), window_length=8, validation_fraction=0.3)
    config = configs.DenoiserConfig(data, configs.UNetConfig(width=8, num_blocks=1))
    normalizer = denoiser.prepare(config).normalizer
    with rundir.open_run(folder / "denoiser", denoiser.KIND, configs.to_dict(config)) as directory:
        network = denoiser.network_of(config, normalizer.layout)
        weights = jax.jit(lambda key: denoiser_training.init(key, network, config.training))(jax.random.key(0))
        metadata = {"layout": dataclasses.asdict(normalizer.layout)}
        checkpoint.save(directory.checkpoints_path, 1, denoiser.Saved(weights, normalizer), metadata)
        with metrics.MetricsWriter(directory.metrics_path) as writer:
            writer.write(
                [{"phase": 0, "step": 100 * i, "train_loss": 1.0 / i, "validation_loss": 1.1 / i} for i in (1, 2)]
            )
        directory.mark_finished()
    sampling = configs.SamplingConfig(sampler="euler", num_steps=4, num_trajectories=16, trajectories_per_batch=8)
    base = dict(updates_per_phase=8, batch_size=16, synthetic_per_batch=12, num_episodes=2, num_hidden=1, hidden_dim=16)
    path = write_run(
        folder / "run", [FINAL], SYNTHETIC_LANES, denoiser=str(folder / "denoiser"), dataset="", num_seeds=3,
        sampling=sampling, hyper={"guidance_coefficient": (0, 3)}, **base,
    )  # fmt: skip
    made = experiment.assemble(configs.from_dict(configs.AgentConfig, records.load_config(path, agent_runs.KIND)))
    checkpoint.save(path / "checkpoints", 1, agent_runs.initial_states(made))
    return path


@pytest.fixture(scope="module")
def loaded(run):
    return agent_runs.load(run)


def test_the_controlled_comparison_is_one_policy_with_and_without_guidance(loaded, key):
    made, states, _ = loaded
    found = comparison.controlled(key, made, states.agent)
    assert found.coefficients.tolist() == [3.0] * 6  # the unguided lanes' policies guide with the run's largest
    assert found.windows.shape == (6, 2, 32, 8, 6) and found.num_windows == 32  # twice a phase's
    # By hand for lane 1: the same key, once with 0 and once with 3. Batches are half the run's.
    plan, shared = made.program.generator.plan, made.shared
    sampling = dataclasses.replace(plan.sampling, trajectories_per_batch=4, num_trajectories=32)
    plan = plan._replace(sampling=sampling, guided_batches=None)
    agent, hyper = jax.tree.map(lambda leaf: leaf[1], (states.agent, made.lanes.hypers.generator))
    log_prob = functools.partial(made.program.agent.log_prob, agent)

    @jax.jit
    def generate(key, coefficient):
        return diffusion.sample(plan, key, log_prob, coefficient, hyper, shared.model, shared.normalizer)

    for index, coefficient in enumerate((0.0, 3.0)):
        generated = generate(jax.random.split(key, 6)[1], jnp.float32(coefficient))
        synthetic = diffusion.flatten(shared.normalizer, generated)
        wanted = base.describe(synthetic, log_prob, shared.normalizer, made.program.env, 8, 32)
        for name in ("synthetic_log_likelihood", "dynamics_error"):
            np.testing.assert_allclose(found.metrics[name][1, index], wanted[name], rtol=1e-3)
    by_window = found.metrics["dynamics_error_by_window"]
    np.testing.assert_allclose(
        by_window.mean(axis=-1), found.metrics["dynamics_error"], rtol=1e-4
    )  # nothing is terminal
    likelihood = found.metrics["synthetic_log_likelihood"]
    assert (likelihood[:, 1] > likelihood[:, 0]).all()


def test_real_data_are_the_reference(loaded, key):
    made, states, _ = loaded
    real = made.shared.real
    # TD3+BC's density is a unit Gaussian round its action; one action dimension.
    agent = jax.tree.map(lambda leaf: leaf[2], states.agent)
    gap = np.asarray(real.action - made.program.agent.act(agent, real.obs))
    wanted = np.mean(-0.5 * gap[:, 0] ** 2 - 0.5 * math.log(2.0 * math.pi))
    np.testing.assert_allclose(comparison.real_log_likelihood(key, made, states.agent)[2], wanted, rtol=1e-4)
    assert comparison.real_dynamics_error(key, made) < 1e-6  # pendulum made these data


def test_pictures_of_real_data_are_windows_of_the_dataset(loaded, key):
    raw = loaded[0].raw
    drawn = windows.real(key, raw, 8, 5)
    for window in drawn:
        (row,) = np.flatnonzero((raw.observations == window[0, :3]).all(axis=1))
        np.testing.assert_array_equal(window[:, :3], raw.observations[row : row + 8])
        assert not raw.timeouts[row : row + 7].any()


def test_parts_are_scaled_to_a_phase(loaded, key, monkeypatch):
    made, states, _ = loaded
    monkeypatch.setattr(timing, "MAX_UPDATES", 4)
    seconds = iter([0.5, 2.0, 3.0])
    lengths = {"episode_length_mean": np.full(6, 150.0)}
    monkeypatch.setattr(timing, "_time", lambda *_: (next(seconds), lengths))
    generate, learn, evaluate = timing.measure(key, made, states)
    # 2 batches of 8 windows, one timed; 8 updates, 4 timed; 6 lanes x 2 episodes of 150 steps, all timed.
    assert dataclasses.astuple(generate)[:4] == ("generate", 1.0, 96, "trajectories") and generate.measured_share == 0.5
    assert (
        dataclasses.astuple(learn)[:4] == ("learn", 4.0, 48, "updates")
        and learn.measured_share == 0.5
        and learn.rate == 12.0
    )
    assert dataclasses.astuple(evaluate)[:4] == ("evaluate", 3.0, 1_800, "environment steps") and evaluate.rate == 600.0


def digests(path):
    return {file: hashlib.sha256(file.read_bytes()).hexdigest() for file in path.rglob("*") if file.is_file()}


def test_a_whole_report_only_reads_its_runs(run, loaded, tmp_path, monkeypatch):
    monkeypatch.setattr(agent_runs, "load", lambda path: loaded)  # the same, but its programs are compiled already
    before, out = digests(run), tmp_path / "report"
    page = writer.write(out, [run], num_pool_episodes=3).read_text()
    assert digests(run) == before
    figures = {*folder.FIGURES} - {"profiles.png"}  # that of several datasets
    written = {folder.PAGE, folder.HTML, folder.NUMBERS, folder.RESULTS, folder.POOL}
    assert {path.name for path in out.iterdir()} == {*written, *figures}
    assert all(f"]({name})" in page for name in figures)
    numbers = json.loads((out / folder.NUMBERS).read_text())
    assert numbers["task"]["environment"] == "pendulum" and not numbers["notes"]
    guided = numbers["controlled"]["guided λ=3"]
    assert min(guided["log_likelihood"]["difference"]["values"]) > 0.0  # guidance raises it, in every seed
    by_position = guided["dynamics_error_by_position"]["guided"]
    assert guided["dynamics_error"]["guided"]["mean"] == pytest.approx(
        np.mean(by_position), rel=1e-4
    )  # nothing is terminal
    assert len(by_position) == 7
    assert sum(part["share"] for part in numbers["timing"][0]["parts"]) == pytest.approx(1.0)
    # A pool of each kind of lanes, three seeds each, and what a bandit makes of it.
    pool = exchange.read_pool(out / folder.POOL)
    assert sorted(policy.algorithm for policy in pool) == ["td3_bc guided"] * 3 + ["td3_bc unguided"] * 3
    assert {policy.returns.shape for policy in pool} == {(3,)} and [policy.args["seed"] for policy in pool[:3]] == [
        0,
        1,
        2,
    ]
    guided = numbers["bandit"]["td3_bc guided"]
    best = max(policy.returns.mean() for policy in pool[:3])
    assert guided["num_policies"] == 3 and guided["mean"][-1] <= best + 1e-6 and len(guided["mean"]) == 200
    (row, *_) = rows = exchange.read_results(out / folder.RESULTS)
    assert len(rows) == 6 and row["method"] == "td3_bc unguided" and row["setting"] == ""
    assert rows[-1]["setting"] == "guidance_coefficient=3.0" and rows[-1]["episodes"] == 2


def test_the_pool_s_episodes_are_new_ones_of_each_lane_s_policy(run, loaded, key):
    made, states, _ = loaded
    found = policies.pool(key, results.read(run), "pendulum", made, states, 5)
    assert [policy.args["lane"] for policy in found] == [0, 1, 2, 3, 4, 5] and found[0].scores is None
    # By hand for lane 4, whose five episodes are three rounds of two, the last one cut.
    agent = jax.tree.map(lambda leaf: leaf[4], states.agent)
    act = lambda obs: made.program.agent.act(agent, normalizers.encode_obs(made.shared.normalizer, obs))
    keys = jax.random.split(key, (6, 3))[4]
    wanted = [jax.jit(lambda key: evaluate.evaluate(key, act, made.program.env, 2).returns)(each) for each in keys]
    np.testing.assert_allclose(found[4].returns, np.concatenate(wanted)[:5], rtol=1e-4)
    broken = states.agent
    lost = jax.tree.map(lambda leaf: leaf.at[2].set(jnp.nan) if leaf.dtype == jnp.float32 else leaf, broken)
    kept = policies.pool(key, results.read(run), "pendulum", made, dataclasses.replace(states, agent=lost), 5)
    assert [policy.args["lane"] for policy in kept] == [0, 1, 3, 4, 5]


def test_where_the_host_alone_judges_it_makes_the_pool(run, loaded, key):
    made, states, _ = loaded
    unjudged = made._replace(program=made.program._replace(env=None), host=None)
    assert policies.pool(key, results.read(run), "pendulum", unjudged, states, 2) == []
    on_host = unjudged._replace(host=evaluators.HostPlan(HOST_ENVS.get("pendulum")(), 16))
    found = policies.pool(key, results.read(run), "pendulum", on_host, states, 2)
    # Lane 4's policy in the same environment and from the same states, by hand.
    env, agent = HOST_ENVS.get("pendulum")().make(), jax.tree.map(lambda leaf: leaf[4], states.agent)
    number = made.config.num_phases  # of the evaluation: one that the run itself does not reach
    for episode, wanted in enumerate(found[4].returns):
        obs, _ = env.reset(seed=int(np.random.SeedSequence([1, number, episode]).generate_state(1)[0]))
        total = 0.0
        for _ in range(200):
            action = made.program.agent.act(agent, normalizers.encode_obs(made.shared.normalizer, obs))
            obs, reward, *_ = env.step(np.asarray(action))
            total += reward
        np.testing.assert_allclose(wanted, total, rtol=1e-3)
