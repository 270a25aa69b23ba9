"""One tiny dataset, one trained denoiser and one whole run for the session."""

import logging
import pathlib
from typing import NamedTuple

import jax
import pytest

from pgd_jax.agents import td3_bc
from pgd_jax.core import config as configs
from pgd_jax.runs import agent as agent_runs, denoiser
from tests import worlds


@pytest.fixture(scope="session")
def dataset(tmp_path_factory):
    return worlds.write_dataset(tmp_path_factory.mktemp("data") / "tiny.hdf5")


@pytest.fixture(scope="session")
def trained(dataset, tmp_path_factory):
    """The run directory of a denoiser trained to its end, in six chunks."""
    path = tmp_path_factory.mktemp("runs") / "denoiser"
    assert denoiser.fit(worlds.denoiser_config(dataset), path)
    return path


@pytest.fixture(scope="session")
def world():
    """Two seeds by two guidance coefficients, 0 and 1, with TD3+BC."""
    return worlds.build()


class WholeRun(NamedTuple):
    config: configs.AgentConfig
    path: pathlib.Path
    num_traces: int  # of the agent's update
    num_compilations: int  # of run_chunk


class _Compilations(logging.Handler):
    def __init__(self):
        super().__init__()
        self.names = []

    def emit(self, record):
        message = record.getMessage()
        if message.startswith("Finished XLA compilation of"):
            self.names.append(message.split()[4])


@pytest.fixture(scope="session")
def undisturbed(trained, tmp_path_factory):
    """An unguided and a guided lane, 24 chunks of one phase, from start to end in one process."""
    config = worlds.agent_config(denoiser=str(trained), num_phases=24, num_seeds=1)
    path, handler, traces, update = tmp_path_factory.mktemp("runs") / "undisturbed", _Compilations(), [], td3_bc.update

    def counted(*arguments):
        traces.append(1)
        return update(*arguments)

    logger = logging.getLogger("jax")
    logger.addHandler(handler)
    with pytest.MonkeyPatch.context() as patch, jax.log_compiles():
        patch.setattr(td3_bc, "update", counted)
        assert agent_runs.fit(config, path)
    logger.removeHandler(handler)
    return WholeRun(config, path, len(traces), handler.names.count("jit(run_chunk)"))
