"""Two processes as one program, on this machine: the run of one, written once. This file is their script too."""

import os
import pathlib
import shutil
import socket
import subprocess
import sys

import numpy as np
import pytest

from pgd_jax.core import processes
from pgd_jax.core.errors import UserError
from pgd_jax.runs import agent as agent_runs, denoiser, metrics
from tests import quickly, worlds

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).resolve().parents[2]


def agent_config(trained):
    return worlds.agent_config(denoiser=str(trained), num_phases=2)


def fit(trained, folder, choice: str) -> None:
    """A denoiser and agents on it, in `folder`; the agents learn on windows of `trained`."""
    processes.start(choice)
    dataset = denoiser.load(trained).config.data.dataset
    assert denoiser.fit(worlds.denoiser_config(dataset, num_steps=20), pathlib.Path(folder) / "denoiser")
    assert agent_runs.fit(agent_config(trained), pathlib.Path(folder) / "agents")


def fit_in(num_processes: int, trained, folder) -> list[str]:
    """What each process said."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "1", "PYTHONPATH": str(ROOT), "XLA_FLAGS": quickly.XLA_FLAGS
    }  # fmt: skip
    choices = [f"{address},{num_processes},{index}" for index in range(num_processes)] if num_processes > 1 else [""]
    running = [
        subprocess.Popen(
            [sys.executable, __file__, str(trained), str(folder), choice],
            env=environment, stderr=subprocess.PIPE, text=True,
        )
        for choice in choices
    ]  # fmt: skip
    said = [process.communicate(timeout=300)[1] for process in running]
    assert not any(process.returncode for process in running), said
    return said


@pytest.fixture(scope="module")
def runs(trained, tmp_path_factory):
    """(folder of one process, folder of two)"""
    alone, both = (tmp_path_factory.mktemp(name) for name in ("alone", "both"))
    fit_in(1, trained, alone)
    fit_in(2, trained, both)
    return alone, both


@pytest.mark.parametrize("name", ["denoiser", "agents"])
def test_metrics_are_those_of_one_process_and_there_once(runs, name):
    alone, both = (metrics.read(folder / name / "metrics.jsonl") for folder in runs)
    assert [(row["lane"], row["phase"]) for row in both] == [(row["lane"], row["phase"]) for row in alone]
    for ours, theirs in zip(both, alone, strict=True):
        assert ours.keys() == theirs.keys()
        for key, value in theirs.items():
            if isinstance(value, float) and not key.startswith("wall"):
                np.testing.assert_allclose(ours[key], value, rtol=2e-2, atol=1e-3, err_msg=key)


def test_one_process_reads_what_two_have_written(runs):
    _, states, phases = agent_runs.load(runs[1] / "agents")
    _, expected, _ = agent_runs.load(runs[0] / "agents")
    assert phases == 2
    np.testing.assert_array_equal(states.phase, expected.phase)


def test_two_processes_resume(trained, runs):
    """The last of two checkpoints is lost, as if both had been killed before it was written."""
    path = runs[1] / "agents"
    before = metrics.read(path / "metrics.jsonl")
    (path / "finished").unlink()
    shutil.rmtree(path / "checkpoints" / "step_00000002")
    said = fit_in(2, trained, runs[1])
    assert all("resuming after chunk 1" in text for text in said)
    after = metrics.read(path / "metrics.jsonl")

    def unclocked(rows):
        return [{name: value for name, value in row.items() if not name.startswith("wall")} for row in rows]

    assert unclocked(before) == unclocked(after)


@pytest.mark.parametrize("choice", ["two", "localhost:1,2", "localhost:1,2,2", "localhost,2,0", "localhost:1,2,x"])
def test_a_choice_that_cannot_be_is_refused(choice):
    with pytest.raises(UserError, match="--distributed="):
        processes.start(choice)


if __name__ == "__main__":
    fit(*sys.argv[1:])
