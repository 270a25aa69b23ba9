"""A collection killed while it trains and while it rolls out, and started again, writes the very same rows."""

import dataclasses
import random
import signal
import subprocess
import sys

import h5py
import numpy as np
import pytest

from pgd_jax.cli import entry
from pgd_jax.runs.collect import online, protocol
from tests import commands

TIMEOUT_S = 240.0
# Six chunks of training, of which the last three learn, in a buffer of four; then ten chunks of rollouts.
PLAN = online.OnlinePlan(
    num_envs=2, steps_per_chunk=400, num_exploring_steps=1200, batch_size=64, hidden_dim=16, num_hidden=1,
    replay_capacity=1600, num_episodes=1,
)  # fmt: skip
SETTINGS = {"max_steps": 2400, "random_return": -3000.0, "expert_return": 0.0}
NAME, NUM_ROWS = "pendulum-expert-v0", 4000


def arrays(path):
    with h5py.File(path, "r") as file:
        found = {key: file[key][()] for key in file if isinstance(file[key], h5py.Dataset)}
        return found | {f"infos/{key}": file["infos"][key][()] for key in file["infos"]}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    request, settings = protocol.requests()[NAME], protocol.Settings(**SETTINGS)
    assert protocol.write(request, PLAN, settings, NUM_ROWS, folder / "work", folder / "out.hdf5")
    return folder


def start(folder):
    options = dataclasses.asdict(PLAN) | SETTINGS | {"dataset": NAME, "num_rows": NUM_ROWS, "out": folder / "out.hdf5"}
    line = [sys.executable, "-m", "pgd_jax.cli.collect", *(f"--{key}={value}" for key, value in options.items())]
    pipe = subprocess.PIPE
    return subprocess.Popen(line, stdout=pipe, stderr=pipe, text=True)


def test_killed_and_resumed_is_undisturbed(undisturbed, tmp_path):
    work, delay_s = tmp_path / "out.hdf5.run", 0.02 * random.random()
    training, rollouts = work / "training", work / "rollouts_limit_2400"
    # After the buffer was written over, and while a policy learns from it.
    killed = training / "checkpoints" / "step_00000005"
    assert commands.signal_when(start(tmp_path), killed.exists, signal.SIGKILL, delay_s)[0] == -signal.SIGKILL
    assert not rollouts.exists() and not (tmp_path / "out.hdf5").exists()
    asked = rollouts / "checkpoints" / "step_00000002"
    status, stderr = commands.signal_when(start(tmp_path), asked.exists, signal.SIGTERM, 0.0)
    assert status == entry.STOPPED and "resuming after chunk" in stderr and "the same command resumes" in stderr
    assert not (tmp_path / "out.hdf5").exists()
    process = start(tmp_path)
    stdout, stderr = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0 and "rollouts_limit_2400: resuming after chunk" in stderr, stderr
    assert str(tmp_path / "out.hdf5") in stdout
    found, expected = arrays(tmp_path / "out.hdf5"), arrays(undisturbed / "out.hdf5")
    assert found.keys() == expected.keys()
    for key, array in expected.items():
        np.testing.assert_array_equal(found[key], array, err_msg=f"{key}, killed {delay_s} s after the checkpoint")
    for index in range(6):
        name = f"training/parts/part_{index:08d}.npz"
        with np.load(work / name) as resumed, np.load(undisturbed / "work" / name) as whole:
            for key in whole:
                np.testing.assert_array_equal(resumed[key], whole[key], err_msg=f"{name}, {key}")
