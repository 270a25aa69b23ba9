"""The search of experiments/ray_tune.py on a real Ray of one machine: pruned, killed, resumed."""

import dataclasses
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from pgd_jax import launch
from pgd_jax.runs import agent as agent_runs
from tests import commands, ray_cluster, worlds

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(ray_cluster.missing()), reason=ray_cluster.missing() or "there is one"),
]
TIMEOUT_S = 300
ROOT = pathlib.Path(__file__).resolve().parents[2]
NUM_PHASES = 20


def rows(run_dir):
    path = run_dir / "metrics.jsonl"
    return len(path.read_text().splitlines()) if path.exists() else 0


def test_a_search_is_pruned_and_goes_on_where_it_was_killed(tmp_path):
    """Four trials one after the other: each takes both CPUs."""
    data = worlds.write_dataset(tmp_path / "data.hdf5")
    config = worlds.agent_config(
        synthetic_per_batch=0, denoiser="", dataset=data, num_phases=NUM_PHASES, num_seeds=1, updates_per_phase=500
    )
    own = ("--config.first_seed=", "--config.num_phases=")
    shared = [flag for flag in commands.flags(config) if not flag.startswith(own)]
    runs = tmp_path / "runs"
    command = [
        sys.executable, "-m", "experiments.ray_tune", f"--workdir={runs}", f"--num_phases={NUM_PHASES}",
        "--grace_phases=2", "--reduction=2", "--cpus=2", "--grid=first_seed=0,1,2,3", "--", *shared,
    ]  # fmt: skip
    names = [f"first_seed={seed}" for seed in range(4)]
    with ray_cluster.running() as cluster:
        environment = os.environ | cluster.environment | {"PYTHONPATH": str(ROOT)}
        search = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + TIMEOUT_S
        while sum(rows(runs / name) > 0 for name in names) < 2 and time.monotonic() < deadline:
            time.sleep(0.1)
        search.send_signal(signal.SIGKILL)
        search.wait()
        before = {name: (runs / f"{name}.log").read_text() for name in names if (runs / f"{name}.log").exists()}
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True, timeout=TIMEOUT_S, check=True
        )
    assert len(before) == 2
    (first, second) = before
    # Tune may not have saved the end of the first trial; its run knows that it is finished.
    assert (runs / f"{first}.log").read_text().removeprefix(before[first]) in (
        "",
        f"{runs / first}: already finished\n",
    )
    assert (runs / f"{second}.log").read_text().startswith(before[second])
    assert (runs / f"{second}.log").read_text() != before[second]
    states = {item.name: item.state for item in launch.status(runs)}
    finished = [name for name in names if states[name] == "finished"]
    assert first in finished and 1 <= len(finished) < 4  # ASHA has ended the others
    assert all(2 <= rows(runs / name) < NUM_PHASES for name in names if name not in finished)
    alone = tmp_path / "alone"
    assert agent_runs.fit(dataclasses.replace(config, first_seed=int(first[-1])), alone)
    assert commands.content(runs / first) == commands.content(alone)
    assert sorted(line.partition(":")[0] for line in done.stdout.splitlines()[-4:]) == names
