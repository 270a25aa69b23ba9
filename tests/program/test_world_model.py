"""World models as runs, and agents that learn from their rollouts: chunks, resumption, lanes, commands, mistakes."""

import dataclasses
import shutil
import subprocess
import sys

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pgd_jax as pgd
from pgd_jax.core import config as configs
from pgd_jax.core.errors import UserError
from pgd_jax.data import episodes, loading, normalizer as normalizers
from pgd_jax.data.base import Reading
from pgd_jax.launch import sweep
from pgd_jax.report import writer
from pgd_jax.runs import agent as agent_runs, checkpoint, denoiser, experiment, metrics, synthesis, world_model
from pgd_jax.train import world_model as training
from tests import interruptions, worlds

SIZES = {
    name: value
    for name, value in configs.to_dict(worlds.world_model_config("")).items()
    if name not in ("data", "seed", "learning_rate")
} | {"window_length": worlds.WINDOW, "window_stride": 4}  # fmt: skip


@pytest.fixture(scope="module")
def finished(dataset, tmp_path_factory):
    """The run directory of a world model trained to its end, in six chunks."""
    path = tmp_path_factory.mktemp("runs") / "world_model"
    assert world_model.fit(worlds.world_model_config(dataset), path)
    return path


@pytest.fixture(scope="module")
def agent_config(finished):
    return dataclasses.replace(worlds.ENSEMBLE, world_model=str(finished), num_seeds=1)


@pytest.fixture(scope="module")
def agents(agent_config, tmp_path_factory):
    """A run of two lanes, penalty 0 and 1, in four chunks."""
    path = tmp_path_factory.mktemp("runs") / "agents"
    assert agent_runs.fit(agent_config, path)
    return path


def rows(path):
    found = metrics.read(path / "metrics.jsonl")
    return [{key: value for key, value in row.items() if not key.startswith("wall_")} for row in found]


def bits(tree):
    data = [jax.random.key_data(x) if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key) else x for x in tree]
    return [np.asarray(leaf).tobytes() for leaf in data]


def test_a_world_model_learns_and_says_how_well(finished):
    found = rows(finished)
    assert [row["step"] for row in found] == [10, 20, 30, 40, 50, 60]
    assert {"train_loss", "validation_error", "validation_terminal_loss", "best_error"} <= found[-1].keys()
    assert found[-1]["train_loss"] < found[0]["train_loss"]
    best = [row["best_error"] for row in found]
    assert best == sorted(best, reverse=True)


def test_it_has_the_split_and_the_normalizer_of_a_denoiser(dataset, finished):
    ours, theirs = world_model.load(finished).normalizer, denoiser.prepare(worlds.denoiser_config(dataset)).normalizer
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)
    data = world_model.prepare(worlds.world_model_config(dataset))
    _, held_out = denoiser.split(worlds.denoiser_config(dataset).data, episodes.segments(loading.load(dataset)))
    assert data.rows.validation.x.shape[0] == 20 * held_out.size and data.rows.training.x.shape[0] == 220
    # Standardised: the training rows' own statistics.
    np.testing.assert_allclose(data.rows.training.y.mean(axis=0), 0.0, atol=1e-4)
    np.testing.assert_allclose(data.rows.training.y.std(axis=0), 1.0, atol=1e-4)


def test_the_steps_of_chunks_are_those_of_the_whole(dataset):
    data = world_model.prepare(worlds.world_model_config(dataset)).rows

    def run(steps_per_chunk):
        config = worlds.world_model_config(dataset, steps_per_chunk=steps_per_chunk)
        state = training.init(jax.random.key(0), config, 4, 4)
        for _ in range(12 // steps_per_chunk):
            state, _ = training.train_chunk(state, data, config=config)
        return [state.key, *jax.tree.leaves(state.model)]

    assert bits(run(3)) == bits(run(12)) != bits(run(2)[:1])


def test_all_chunks_are_one_program(dataset, tmp_path, monkeypatch):
    traces, step = [], training.train_step
    monkeypatch.setattr(training, "train_step", lambda *args, **kwargs: traces.append(1) or step(*args, **kwargs))
    assert world_model.fit(worlds.world_model_config(dataset, hidden_dim=6), tmp_path / "run")
    assert len(traces) == 1


@pytest.mark.parametrize("event", interruptions.EVENTS)
@pytest.mark.parametrize("kind", ["world model", "agents"])
def test_an_interrupted_run_ends_as_an_undisturbed_one(
    event, kind, dataset, finished, agent_config, agents, tmp_path, monkeypatch
):
    module = world_model if kind == "world model" else agent_runs
    config = worlds.world_model_config(dataset) if kind == "world model" else agent_config
    interruptions.interrupt(monkeypatch, module, event, config, tmp_path / "run")
    assert checkpoint.latest(tmp_path / "run" / "checkpoints") < 4
    assert module.fit(config, tmp_path / "run")
    whole = finished if kind == "world model" else agents
    assert rows(tmp_path / "run") == rows(whole)
    ours, theirs = (module.load(each)[1] for each in (tmp_path / "run", whole))
    assert bits(jax.tree.leaves(ours)) == bits(jax.tree.leaves(theirs))


def test_a_longer_run_goes_on_where_the_shorter_one_ended(dataset, finished, tmp_path):
    assert world_model.fit(worlds.world_model_config(dataset, num_steps=20), tmp_path / "run")
    assert world_model.fit(worlds.world_model_config(dataset), tmp_path / "run")
    assert rows(tmp_path / "run") == rows(finished)


def test_checking_writes_nothing(dataset, tmp_path, capfd):
    assert world_model.fit(worlds.world_model_config(dataset), tmp_path / "run", only_check=True)
    assert "would run 6 chunks of 10 steps" in capfd.readouterr().err and not (tmp_path / "run").exists()


# Of the program as users have it: at XLA's lowest optimisation a chunk is fused otherwise.
@pytest.mark.slow
def test_chunks_of_phases_give_the_bits_of_the_whole():
    world = worlds.build(worlds.ENSEMBLE)

    def run(phases_per_chunk):
        states, pieces = world.init(), []
        for _ in range(4 // phases_per_chunk):
            states, piece = world.run(phases_per_chunk, states)
            pieces.append(jax.device_get(piece))
        found = {name: np.concatenate([piece[name] for piece in pieces], axis=1) for name in pieces[0]}
        return states.replace(key=jax.random.key_data(states.key)), found

    chex.assert_trees_all_equal(run(1), run(4))


def test_lanes_differ_by_their_penalty_alone(agents):
    found = rows(agents)
    assert [row["group"] for row in found[:2]] == ["rollouts penalty=0", "rollouts penalty=1"]
    free, charged = found[:2]  # the first phase: one policy, one key
    assert free["dynamics_error"] == charged["dynamics_error"]
    assert free["synthetic_reward_mean"] > charged["synthetic_reward_mean"] + 0.1
    assert len(free["dynamics_error_by_position"]) == 3 and free["dynamics_error_by_position"][0] > 0.0


def test_the_command_samples_rollouts(agents, tmp_path, capsys):
    sampling = configs.SamplingConfig(num_trajectories=10, trajectories_per_batch=5)
    count, where = synthesis.write(str(tmp_path / "x.hdf5"), synthesis.Guided(str(agents), 1, None), sampling, 3)
    found = loading.load(where)
    assert len(found.rewards) == count and 10 <= count <= 30 and found.env == "pendulum"
    ends = found.terminals | found.timeouts
    assert ends.sum() == 10  # each rollout is an episode, whole rows to its end
    with pytest.raises(UserError, match="coefficient=1.0 is of guidance: .* rolls out a world model"):
        synthesis.write(str(tmp_path / "y.hdf5"), synthesis.Guided(str(agents), 1, 1.0), sampling, 3)


def test_a_report_of_rollouts(agents, tmp_path):
    writer.write(tmp_path / "report", [str(agents)])
    text = (tmp_path / "report" / "report.md").read_text()
    assert "rollouts penalty=1" in text and "trajectories/s" in text


def test_a_sweep_of_world_models():
    (job,) = sweep.jobs("train_world_model", [], sweep.parse_grid("num_members=3"), "runs")
    assert job.argv[1] == "pgd_jax.cli.train_world_model" and "--config.num_members=3" in job.argv


def policy(obs):
    return 0.5 * jnp.tanh(obs[..., :1])


@pytest.fixture(scope="module")
def data(dataset):
    return pgd.load_dataset(dataset)


@pytest.fixture(scope="module")
def model(data):
    return pgd.train_world_model(data, **SIZES)


def test_the_front_door_in_memory_and_in_a_folder(data, model, finished):
    key = jax.random.key(0)
    found = model.sample(key, 20, policy, horizon=4)
    assert (
        found.obs.shape == (20, 5, 3)
        and found.env == "pendulum"
        and not found.valid[:, -1][~found.terminal[:, -1]].any()
    )
    np.testing.assert_allclose(found.action, policy(found.obs), atol=1e-5)
    assert set(map(bytes, found.obs[:, 0])) <= set(map(bytes, _decoded(model, data)))
    assert pgd.measures.dynamics_error(found, "pendulum") > 0.0
    assert np.isfinite(pgd.measures.log_likelihood(found, lambda obs, action: -((action - 0.5) ** 2).sum(-1)))
    for other in (pgd.load_world_model(finished, data), pgd.train_world_model(data, finished, **SIZES)):
        again = other.sample(key, 20, policy, horizon=4)
        np.testing.assert_array_equal(again.obs, found.obs)
    mean = model.sample(key, 20, policy, horizon=4, hyper={"model_noise": 0.0}, starts=data.observations[:1])
    assert np.unique(mean.obs[:, 0], axis=0).shape[0] == 1 and mean.obs[:, 1].std(axis=0).max() > 0.0  # members differ
    charged = model.sample(key, 20, policy, horizon=4, hyper={"penalty": 1.0})
    np.testing.assert_array_equal(charged.obs[:, 0], found.obs[:, 0])
    assert (charged.reward[:, 0] < found.reward[:, 0] - 0.01).all()


def _decoded(model, data):
    normalizer = model.trained.normalizer
    encoded = normalizers.encode_obs(normalizer, jnp.asarray(data.observations, jnp.float32))
    return np.asarray(normalizers.decode_obs(normalizer, encoded))


def test_agents_of_the_front_door(data, model):
    sizes = dict(num_seeds=1, num_phases=2, updates_per_phase=4, batch_size=8, synthetic_per_batch=6, num_episodes=2)
    sizes |= dict(hidden_dim=16, num_hidden=1, num_rollouts=8, rollouts_per_batch=4, horizon=2)
    result = pgd.train_agent(data, model, penalty=[0, 2], **sizes)
    assert list(result.scores) == ["rollouts penalty=0", "rollouts penalty=2"]
    assert result.experiment.program.generator.window_length == 2
    lean = pgd.train_agent(data, model, penalty=0, action_noise=0.2, **sizes).experiment.program.generator.plan
    assert not lean.is_penalised and lean.is_exploring
    real = pgd.train_agent(data, model, **sizes | dict(synthetic_per_batch=0))
    assert list(real.scores) == ["real"]


MISTAKES = {
    "a setting": (lambda d, m: pgd.train_world_model(d, num_membrs=3), 'no setting "num_membrs"; did you mean'),
    "elites": (lambda d, m: pgd.train_world_model(d, num_members=2), "num_elites=5 must be at most num_members=2"),
    "no windows": (lambda d, m: m.sample(jax.random.key(0), 0, policy), "num_windows=0"),
    "no policy": (lambda d, m: m.sample(jax.random.key(0), 4, None), r"policy must be a function of obs \[..., 3\]"),
    "a policy's shape": (lambda d, m: m.sample(jax.random.key(0), 4, lambda obs: obs), r"expected \(2, 1\)"),
    "a host policy": (lambda d, m: m.sample(jax.random.key(0), 4, lambda obs: float(obs[0, 0])), "cannot be traced"),
    "starts": (lambda d, m: m.sample(jax.random.key(0), 4, policy, starts=np.zeros((3, 2))), r"observations \[K, 3\]"),
    "a float": (lambda d, m: m.sample(jax.random.key(0), 4, policy, hyper={"penlty": 1}), 'did you mean "penalty"'),
    "uncertainty": (lambda d, m: m.sample(jax.random.key(0), 4, policy, uncertainty="x"), "spread or disagreement"),
    "a workdir": (lambda d, m: pgd.train_agent(d, m, workdir="x"), "the world model is in memory"),
    "a split": (lambda d, m: pgd.train_agent(d, m, horizon=0), "horizon=0 must be at least 1"),
    "batches": (lambda d, m: pgd.train_agent(d, m, num_rollouts=7, rollouts_per_batch=2), "num_rollouts=7 must be a"),
    "guidance": (lambda d, m: pgd.train_agent(d, m, guidance_coefficient=1.0), 'no setting "guidance_coefficient"'),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_one_clear_error(name, data, model):
    call, message = MISTAKES[name]
    with pytest.raises(UserError, match=message):
        call(data, model)


def test_runs_that_do_not_go_together_are_refused(finished, trained, agent_config, tmp_path):
    wide = loading.load("maze2d-umaze-waypoint-v0", reading=Reading(max_rows=200))
    changed = dict(world_model="", denoiser="")
    for changes, message in (
        ({}, "config.world_model is empty: name the run directory of train_world_model"),
        ({"world_model": str(tmp_path / "no")}, "is not a run directory"),
        ({"world_model": str(trained)}, 'holds a run of kind "denoiser", not "world_model"'),
        ({"world_model": str(finished), "denoiser": str(trained)}, "are both named"),
        ({"denoiser": str(trained)}, "config.world_model is empty"),
        ({"world_model": str(finished), "generator": "diffusion", "hyper": {}}, "config.denoiser is empty"),
        ({"world_model": str(finished), "behaviour": "x"}, "config.behaviour means nothing to generator=ensemble"),
    ):
        config = dataclasses.replace(agent_config, **changed | changes)
        with pytest.raises(UserError, match=message):
            agent_runs.fit(config, tmp_path / "run")
    with pytest.raises(UserError, match="observations of 4 and actions of 2, the world model in .* on 3 and 1"):
        agent_runs.fit(dataclasses.replace(agent_config, dataset=wide.name), tmp_path / "run", raw=wide)
    assert not (tmp_path / "run").exists()


def test_the_task_s_rule_ends_rollouts_whatever_judges_the_agent():
    raw = loading.load("maze2d-umaze-waypoint-v0", reading=Reading(max_rows=400))
    trained = world_model.fit_in_memory(worlds.world_model_config(raw.name, num_steps=10), raw)
    for environment, terminals, has_rule in (("", "rule", True), ("none", "rule", True), ("", "learned", False)):
        rollout = dataclasses.replace(worlds.ENSEMBLE.rollout, terminals=terminals)
        config = dataclasses.replace(worlds.ENSEMBLE, environment=environment, rollout=rollout)
        plan = experiment.assemble(config, trained, raw).program.generator.plan
        assert (plan.is_terminal is not None) == has_rule


def test_a_world_model_of_another_content_is_refused(dataset, finished, agent_config, tmp_path):
    shutil.copytree(finished, tmp_path / "world")
    config = dataclasses.replace(agent_config, world_model=str(tmp_path / "world"), num_phases=1)
    assert agent_runs.fit(config, tmp_path / "agents")
    shutil.rmtree(tmp_path / "world")
    assert world_model.fit(worlds.world_model_config(dataset, seed=1, num_steps=10), tmp_path / "world")
    for call in (lambda: agent_runs.load(tmp_path / "agents"), lambda: agent_runs.fit(config, tmp_path / "agents")):
        with pytest.raises(UserError, match="the world model .* is not the one that this run began with"):
            call()


def test_the_command_line(dataset, tmp_path):
    line = [sys.executable, "-m", "pgd_jax.cli.train_world_model", f"--workdir={tmp_path / 'run'}", "--preset=notebook"]
    line += [f"--config.data.dataset={dataset}", "--config.num_steps=4", "--config.steps_per_chunk=2"]
    line += ["--config.data.window_length=8", "--config.hidden_dim=4"]
    done = subprocess.run(line, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert world_model.load(tmp_path / "run").config.num_hidden == 2  # the preset's
    done = subprocess.run([*line, "--config.num_elites=9"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 2 and "num_elites=9 must be at most num_members=7" in done.stderr
