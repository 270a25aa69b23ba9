"""What the tests of schedulers share: a command that stands in for a training, waiting, and four real trainings."""

import contextlib
import dataclasses
import os
import pathlib
import time

import pytest

from pgd_jax import launch
from pgd_jax.core.config import AgentConfig
from pgd_jax.launch import sweep
from pgd_jax.runs import agent as agent_runs
from tests import commands, worlds

ROOT = pathlib.Path(__file__).resolve().parents[1]


@contextlib.contextmanager
def stub(folder, source):
    """Within the block jobs may have the command "stub": a program of this source, kept in `folder`."""
    (folder / "stub_command.py").write_text(source)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(folder), str(ROOT)]))
        patch.setitem(sweep.COMMANDS, "stub", sweep.Command("stub_command", AgentConfig))
        yield


def states(runs):
    return [item.state for item in launch.status(runs)]


def wait_for(what, runs, timeout_s):
    """Raises TimeoutError with the sweep's states and logs if `what` does not come true."""
    deadline = time.monotonic() + timeout_s
    while not what():
        if time.monotonic() > deadline:
            logs = [path.read_text() for path in sorted(runs.rglob("*.log"))]
            raise TimeoutError("\n".join([str(launch.status(runs)), *logs]))
        time.sleep(0.3)


def training(folder, **sizes):
    """(the config of a tiny training on real data, its flags but for the first seed)."""
    data = worlds.write_dataset(folder / "data.hdf5")
    config = worlds.agent_config(synthetic_per_batch=0, denoiser="", dataset=data, **sizes)
    return config, [flag for flag in commands.flags(config) if not flag.startswith("--config.first_seed=")]


def is_under_way(run):
    """Whether a training has written more than five rows."""
    rows = run / "metrics.jsonl"
    return rows.exists() and len(rows.read_text().splitlines()) > 5


def check_undisturbed(runs, config, folder):
    """Two of four trainings, the first of which was interrupted, against the same ones alone, to the bit."""
    assert "resuming after chunk" in (runs / "first_seed=0.log").read_text()
    for seed in (0, 1):
        alone = folder / f"alone{seed}"
        assert agent_runs.fit(dataclasses.replace(config, first_seed=seed), alone)
        assert commands.content(runs / f"first_seed={seed}") == commands.content(alone)
