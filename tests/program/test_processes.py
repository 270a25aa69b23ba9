"""Several processes as one program, on this machine: the run of one, written once. This file is their script too.

Two processes with a device each divide the lanes. Of four with two devices each, two processes share two lanes, and
each device samples a part of their windows.
"""

import pathlib
import shutil
import sys
from typing import NamedTuple

import chex
import numpy as np
import pytest

from pgd_jax.core import processes
from pgd_jax.core.errors import UserError
from pgd_jax.runs import agent as agent_runs, denoiser, metrics
from tests import several, worlds

pytestmark = pytest.mark.slow


class Hosts(NamedTuple):
    num_processes: int
    num_devices: int
    mesh: str = "auto"


ALONE, TWO, FOUR = Hosts(1, 1), Hosts(2, 1), Hosts(4, 2, "lanes=2,windows=4")


def agent_config(trained, mesh: str):
    return worlds.agent_config(dict(num_trajectories=16), denoiser=str(trained), num_phases=2, mesh=mesh)


def fit(trained, folder, mesh: str, choice: str) -> None:
    """A denoiser and agents on it, in `folder`; the agents learn on windows of `trained`."""
    with processes.joined(choice):
        dataset = denoiser.load(trained).config.data.dataset
        assert denoiser.fit(worlds.denoiser_config(dataset, num_steps=20), pathlib.Path(folder) / "denoiser")
        assert agent_runs.fit(agent_config(trained, mesh), pathlib.Path(folder) / "agents")


def fit_in(hosts: Hosts, trained, folder) -> list[str]:
    """What each process said."""
    line = lambda choice: [__file__, str(trained), str(folder), hosts.mesh, choice]
    return several.finish(several.start(hosts.num_processes, hosts.num_devices, line))


@pytest.fixture(scope="module")
def alone(trained, tmp_path_factory):
    """The folder of one process."""
    folder = tmp_path_factory.mktemp("alone")
    fit_in(ALONE, trained, folder)
    return folder


@pytest.fixture(scope="module", params=[TWO, FOUR], ids=["two", "four"])
def together(request, trained, tmp_path_factory):
    """(hosts, their folder)"""
    folder = tmp_path_factory.mktemp("together")
    fit_in(request.param, trained, folder)
    return request.param, folder


@pytest.mark.parametrize("name", ["denoiser", "agents"])
def test_metrics_are_those_of_one_process_and_there_once(alone, together, name):
    wanted, found = (metrics.read(folder / name / "metrics.jsonl") for folder in (alone, together[1]))
    assert [(row["lane"], row["phase"]) for row in found] == [(row["lane"], row["phase"]) for row in wanted]
    for ours, theirs in zip(found, wanted, strict=True):
        assert ours.keys() == theirs.keys()
        for key, value in theirs.items():
            if isinstance(value, float) and not key.startswith("wall"):
                np.testing.assert_allclose(ours[key], value, rtol=2e-2, atol=1e-3, err_msg=key)


def test_one_process_reads_what_several_have_written(alone, together):
    _, states, phases = agent_runs.load(together[1] / "agents")
    _, expected, _ = agent_runs.load(alone / "agents")
    assert phases == 2
    np.testing.assert_array_equal(states.phase, expected.phase)
    chex.assert_trees_all_close(states.agent, expected.agent, rtol=1e-3, atol=1e-3)


def test_a_checkpoint_is_written_once(together):
    written = (together[1] / "agents" / "checkpoints" / "step_00000002").rglob("*process_*")
    assert [entry.name for entry in written] == ["ocdbt.process_0"]


def test_several_processes_resume(trained, together):
    """The last of two checkpoints is lost, as if all had been killed before it was written."""
    hosts, folder = together
    path = folder / "agents"
    before = metrics.read(path / "metrics.jsonl")
    (path / "finished").unlink()
    shutil.rmtree(path / "checkpoints" / "step_00000002")
    said = fit_in(hosts, trained, folder)
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
