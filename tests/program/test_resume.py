"""A run killed at any moment and started again ends where an undisturbed one does, to the last bit."""

import dataclasses
import random
import signal

import pytest

from pgd_jax.cli import entry
from pgd_jax.core.errors import UserError
from pgd_jax.runs import agent as agent_runs
from tests import worlds
from tests.commands import Command, content, flags, module


def test_killed_and_resumed_is_undisturbed(undisturbed, tmp_path):
    command, chance = Command(module("train_agent"), tmp_path / "run", flags(undisturbed.config)), random.Random()
    # The first kill comes before any checkpoint is sure to be there, the others between two or while one is written.
    plan = [(0, 1.0 + 3.0 * chance.random())] + [(chance.randint(1, 3), 0.1 * chance.random()) for _ in range(3)]
    for num_chunks, delay_s in plan:
        status, _ = command.signal_after(signal.SIGKILL, num_chunks, delay_s)
        assert status == -signal.SIGKILL
    assert command.newest() < undisturbed.config.num_phases
    assert "resuming after chunk" in command.finish()
    rows, arrays = content(command.path)
    expected_rows, expected_arrays = content(undisturbed.path)
    assert rows == expected_rows, plan
    assert arrays == expected_arrays, plan


def test_sigterm_ends_cleanly_and_resumes(undisturbed, tmp_path):
    command = Command(module("train_agent"), tmp_path / "run", flags(undisturbed.config))
    status, stderr = command.signal_after(signal.SIGTERM, 2, 0.0)
    assert status == entry.STOPPED, stderr
    done = command.newest()
    assert f"stopped by SIGTERM after chunk {done} of 24; the same command resumes" in stderr
    assert 2 <= done < 24 and "Traceback" not in stderr
    rows, _ = content(command.path)
    assert rows[-1]["phase"] == done - 1
    assert f"resuming after chunk {done}" in command.finish()
    assert content(command.path) == content(undisturbed.path)


def test_a_finished_run_is_left_alone_and_another_config_refused(undisturbed, capfd):
    config, path = undisturbed.config, undisturbed.path
    before = {p: p.stat().st_mtime_ns for p in path.rglob("*") if p.is_file() and p.name != "lock"}
    assert agent_runs.fit(config, path)
    assert f"{path}: already finished" in capfd.readouterr().err
    changed = dataclasses.replace(config, num_phases=48, sampling=dataclasses.replace(config.sampling, num_steps=4))
    with pytest.raises(UserError) as error:
        agent_runs.fit(changed, path)
    assert "num_phases: run has 24, command has 48" in str(error.value)
    assert "sampling.num_steps: run has 3, command has 4" in str(error.value)
    assert {p: p.stat().st_mtime_ns for p in path.rglob("*") if p.is_file() and p.name != "lock"} == before


def test_a_finished_run_is_shown_by_a_sink_that_comes_later(undisturbed):
    table = undisturbed.path / "metrics.csv"
    assert agent_runs.fit(undisturbed.config, undisturbed.path, sinks=["csv"])
    assert len(table.read_text().splitlines()) == 1 + 24 * 2
    table.unlink()


def test_a_killed_denoiser_is_undisturbed(dataset, trained, tmp_path):
    command = Command(module("train_denoiser"), tmp_path / "run", flags(worlds.denoiser_config(dataset)))
    status, _ = command.signal_after(signal.SIGKILL, 2, 0.1 * random.random())
    assert status == -signal.SIGKILL and 2 <= command.newest() < 6
    assert "resuming after chunk" in command.finish()
    assert content(command.path) == content(trained)
