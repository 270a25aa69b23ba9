"""Evaluation on the host: beside the program, without a trace in it."""

import dataclasses

import jax
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache

from pgd_jax.core.errors import UserError
from pgd_jax.envs.base import ENVS, HOST_ENVS
from pgd_jax.report import exchange, writer
from pgd_jax.runs import agent as agent_runs, checkpoint, experiment, metrics
from tests import worlds
from tests.commands import content

NUM_PHASES = 4
HOST_KEYS = {"host_return_mean", "host_return_std", "host_discounted_return_mean", "host_episode_length_mean"}


@pytest.fixture(scope="module", autouse=True)
def compiled_once(tmp_path_factory):
    """All runs of this file are one program, but each `fit` builds it anew."""
    settings = {
        "jax_compilation_cache_dir": str(tmp_path_factory.mktemp("compiled")),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": 0,
    }
    before = {name: getattr(jax.config, name) for name in settings}
    for name, value in settings.items():
        jax.config.update(name, value)
    yield
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


def config_of(dataset, **changes):
    settings = dict(denoiser="", dataset=dataset, synthetic_per_batch=0, num_phases=NUM_PHASES, num_seeds=1)
    base = worlds.agent_config(hyper={"target_noise_clip": (100.0, 200.0)}, **settings)
    return dataclasses.replace(base, **changes)


@pytest.fixture(scope="module")
def plain(dataset, tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "plain"
    assert agent_runs.fit(config_of(dataset), path)
    return path


@pytest.fixture(scope="module")
def judged(dataset, tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "judged"
    assert agent_runs.fit(config_of(dataset, host_episodes=3), path)
    return path


def host_rows(path):
    """[phases, lanes] of dicts of the host's measures."""
    rows = metrics.read(path / "metrics.jsonl")
    return [{key: value for key, value in row.items() if key.startswith("host_")} for row in rows]


def test_the_program_does_not_notice(plain, judged):
    rows, arrays = content(judged)
    expected_rows, expected_arrays = content(plain)
    assert [{key: row[key] for key in row if key not in HOST_KEYS} for row in rows] == expected_rows
    assert arrays == expected_arrays
    assert all(set(row) == HOST_KEYS for row in host_rows(judged)) and not any(host_rows(plain))


def test_the_rows_describe_pendulum(judged):
    rows = host_rows(judged)
    assert {row["host_episode_length_mean"] for row in rows} == {200.0}
    assert all(-16.3 * 200 < row["host_return_mean"] < row["host_discounted_return_mean"] < 0.0 for row in rows)
    # Each lane and phase has its own episodes: the 2 lanes, which clip no noise, are alike.
    assert len({row["host_return_mean"] for row in rows}) == NUM_PHASES


class Killed(BaseException):
    pass


def test_killed_and_resumed_is_undisturbed(judged, dataset, tmp_path, monkeypatch):
    """Dies after the rows of chunk 3 are on the disk, before its checkpoint."""
    save = checkpoint.save

    def dies(path, number, *arguments):
        if number == 3:
            raise Killed
        save(path, number, *arguments)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(checkpoint, "save", dies)
        agent_runs.fit(config_of(dataset, host_episodes=3), tmp_path / "run")
    assert len(host_rows(tmp_path / "run")) == 3 * 2
    assert agent_runs.fit(config_of(dataset, host_episodes=3), tmp_path / "run")
    assert content(tmp_path / "run") == content(judged)


def test_only_the_last_phase_of_a_chunk_is_judged_and_alike(judged, dataset, tmp_path):
    assert agent_runs.fit(config_of(dataset, host_episodes=3, phases_per_chunk=2), tmp_path / "run")
    found, expected = (np.reshape(np.array(host_rows(path)), (NUM_PHASES, 2)) for path in (tmp_path / "run", judged))
    assert not any(found[[0, 2]].ravel())
    assert found[[1, 3]].tolist() == expected[[1, 3]].tolist()


def test_a_task_without_a_twin_is_judged_on_the_host_alone(dataset, tmp_path, monkeypatch, capfd):
    monkeypatch.delitem(ENVS._entries, "pendulum")
    assert agent_runs.fit(config_of(dataset, phases_per_chunk=2), tmp_path / "run")
    assert "judged on the host, 2 episodes a lane after each chunk" in capfd.readouterr().err
    rows = metrics.read(tmp_path / "run" / "metrics.jsonl")
    assert not any("return_mean" in row for row in rows)
    assert [HOST_KEYS <= set(row) for row in rows] == ([False] * 2 + [True] * 2) * 2


def test_without_episodes_in_the_program_the_host_alone_judges(judged, dataset, tmp_path, capfd):
    path = tmp_path / "run"
    assert agent_runs.fit(config_of(dataset, num_episodes=0, host_episodes=3), path)
    assert "judged on the host alone (num_episodes=0), 3 episodes a lane" in capfd.readouterr().err
    assert not any("return_mean" in row for row in metrics.read(path / "metrics.jsonl"))
    assert host_rows(path) == host_rows(judged) and content(path)[1] == content(judged)[1]
    writer.write(tmp_path / "report", [path])
    rows = exchange.read_results(tmp_path / "report" / "results.csv")
    assert [row["score"] for row in rows[:NUM_PHASES]] == [row["host_return_mean"] for row in host_rows(path)[::2]]
    assert {row["episodes"] for row in rows} == {3}


def test_success_is_measured_where_the_task_has_one(dataset, tmp_path, monkeypatch, capfd):
    solvable = HOST_ENVS.get("pendulum")()._replace(has_success=True)
    monkeypatch.setitem(HOST_ENVS._entries, "pendulum", lambda: solvable)
    assert agent_runs.fit(config_of(dataset, num_episodes=0, host_episodes=3, num_phases=1), tmp_path / "run")
    assert [row["host_success_rate"] for row in host_rows(tmp_path / "run")] == [0.0, 0.0]  # pendulum tells of none
    assert "host_success_rate: real target_noise_clip=100 0.0%" in capfd.readouterr().err


def test_a_task_that_nothing_judges_says_so(dataset, capfd):
    assert experiment.assemble(config_of(dataset, environment="none")).host is None
    assert "trains without evaluation (environment=none)" in capfd.readouterr().err
    assert experiment.assemble(config_of(dataset, num_episodes=0)).host is None
    assert "trains without evaluation (num_episodes=0)" in capfd.readouterr().err


def test_what_the_host_cannot_judge_is_refused(dataset, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(UserError, match='no host environment for "pendulum".*hopper'):
        patch.delitem(HOST_ENVS._entries, "pendulum")
        experiment.assemble(config_of(dataset, host_episodes=1))
    with pytest.raises(UserError, match='"hopper" has observations of 11 and actions of 3'):
        experiment.assemble(config_of(dataset, host_episodes=1, environment="hopper"))
    with pytest.raises(UserError, match="host_episodes=-1 must be 0 or more"):
        experiment.assemble(config_of(dataset, host_episodes=-1))
    with pytest.raises(UserError, match="environment=none switches evaluation off"):
        experiment.assemble(config_of(dataset, host_episodes=1, environment="none"))
    with pytest.raises(UserError, match='unknown environment "pendulm"; did you mean "pendulum"'):
        experiment.assemble(config_of(dataset, environment="pendulm"))
