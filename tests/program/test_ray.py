"""The Ray backend on a real Ray of one machine (tests/ray_cluster.py): a worker's death, devices, cancel, failure."""

import functools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time

import psutil
import pytest

from pgd_jax import launch
from pgd_jax.core.errors import UserError
from tests import ray_cluster, sweeps

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(ray_cluster.missing()), reason=ray_cluster.missing() or "there is one"),
    pytest.mark.filterwarnings("ignore:Tip. In future versions of Ray:FutureWarning"),  # of 2.50
]
TIMEOUT_S = 150
COMMAND = [sys.executable, "-m", "pgd_jax.launch.command"]
ENVIRONMENT = ("CUDA_VISIBLE_DEVICES", "TPU_VISIBLE_CHIPS", "JAX_PLATFORMS", "XLA_PYTHON_CLIENT_MEM_FRACTION")

# Counts, five a second until a job of the sweep was stopped, and goes on where it was. "iql" fails at once.
STUB = f"""
import json, os, pathlib, signal, sys, time
flags = dict(argument.lstrip("-").split("=", 1) for argument in sys.argv[1:])
if flags["config.agent"] == "iql":
    sys.exit("error: no such data")
run = pathlib.Path(flags["workdir"])
run.mkdir(exist_ok=True)
(run / "seen").write_text(json.dumps({{name: os.environ.get(name) for name in {ENVIRONMENT}}}))
told = []
signal.signal(signal.SIGTERM, lambda *_: told.append(1))
lines = run / "lines"
done = len(lines.read_text().splitlines()) if lines.exists() else 0
print("goes on at", done, flush=True)
while done < int(flags["config.num_phases"]):
    if told:
        (run / "stopped").open("a").write("1")
        sys.exit(75)
    time.sleep(0.0 if list(run.parent.glob("*/stopped")) else 0.2)
    with lines.open("a") as file:
        file.write(f"{{done}}\\n")
    done += 1
(run / "finished").write_text("2026-01-01T00:00:00+00:00\\n")
"""


@pytest.fixture(scope="module")
def stub(tmp_path_factory):
    with sweeps.stub(tmp_path_factory.mktemp("ray"), STUB):
        yield


@pytest.fixture(scope="module")
def cluster(stub):
    with ray_cluster.running() as running, pytest.MonkeyPatch.context() as patch:
        for name, value in running.environment.items():
            patch.setenv(name, value)
        yield running


def submit(runs, agents, num_lines, **more):
    flags = [f"--config.num_phases={num_lines}"]
    return launch.submit(runs, command="stub", grid=f"agent={agents}", flags=flags, backend="ray", **more)


wait_for = functools.partial(sweeps.wait_for, timeout_s=TIMEOUT_S)


def test_a_worker_killed_in_the_middle_of_a_job_loses_nothing(cluster, tmp_path):
    """Four trainings; the worker of one is killed, the kernel kills its job, and Ray starts it again."""
    runs = tmp_path / "runs"
    config, shared = sweeps.training(tmp_path, num_phases=40, num_seeds=1)
    given = dict(grid={"first_seed": [0, 1, 2, 3]}, flags=shared, backend="ray", num_parallel=2)
    launch.submit(runs, **given)
    wait_for(lambda: sweeps.is_under_way(runs / "first_seed=0"), runs)
    (job,) = [psutil.Process(number) for number in cluster.processes(f"--workdir={runs}/first_seed=0")]
    os.kill(cluster.processes("ray::first_seed=0")[0], signal.SIGKILL)
    wait_for(lambda: not ray_cluster.is_alive(job), runs)
    wait_for(lambda: sweeps.states(runs) == ["finished"] * 4, runs)
    sweeps.check_undisturbed(runs, config, tmp_path)
    lines = []
    launch.submit(runs, **given, say=lines.append)
    assert lines[-1] == "4 of 4 jobs are finished, 0 are with Ray: nothing to submit"
    wait_for(lambda: not cluster.processes("ray::Supervisor"), runs)


def test_a_worker_that_is_told_to_end_saves_and_the_job_goes_on_in_another(cluster, tmp_path):
    runs = tmp_path / "runs"
    submit(runs, "bc", 1000)
    wait_for((runs / "agent=bc" / "lines").exists, runs)
    os.kill(cluster.processes("ray::agent=bc")[0], signal.SIGTERM)
    wait_for(lambda: sweeps.states(runs) == ["finished"], runs)
    assert (runs / "agent=bc" / "stopped").read_text() == "1"
    assert (runs / "agent=bc" / "lines").read_text().split() == [str(number) for number in range(1000)]


def test_a_worker_that_dies_too_often_is_told_of_in_ray_s_words(cluster, tmp_path):
    runs = tmp_path / "runs"
    submit(runs, "bc", 50, retries=0)
    wait_for((runs / "agent=bc" / "lines").exists, runs)
    os.kill(cluster.processes("ray::agent=bc")[0], signal.SIGKILL)
    wait_for(lambda: sweeps.states(runs) == ["failed"], runs)
    assert launch.status(runs)[0].about.startswith("exit status 1: Ray: The worker died unexpectedly")
    submit(runs, "bc", 50, retries=0)
    wait_for(lambda: sweeps.states(runs) == ["finished"], runs)


def test_a_cancelled_sweep_stops_cleanly(cluster, tmp_path):
    """From another process: the command line's."""
    runs = tmp_path / "runs"
    submit(runs, "bc,td3_bc,awac", 1000, num_parallel=2)
    wait_for((runs / "agent=td3_bc" / "lines").exists, runs)
    wait_for(lambda: sweeps.states(runs) == ["running", "running", "waiting"], runs)
    submit(runs, "bc,td3_bc,awac", 1000, num_parallel=2)  # Ray has them all
    expected = {"status": "2 running, 1 waiting", "cancel": "told 3 jobs to stop"}
    for action, text in expected.items():
        done = subprocess.run([*COMMAND, action, f"--workdir={runs}"], capture_output=True, text=True, check=False)
        assert done.returncode == 0 and text in done.stdout, done.stderr
    wait_for(lambda: sweeps.states(runs) == ["stopped", "stopped", "not started"], runs)
    assert all((runs / f"agent={name}" / "stopped").read_text() == "1" for name in ("bc", "td3_bc"))
    assert launch.cancel(runs) == "Ray has no job of this sweep"
    submit(runs, "bc,td3_bc,awac", 1000)
    wait_for(lambda: sweeps.states(runs) == ["finished"] * 3, runs)
    assert (runs / "agent=bc" / "lines").read_text().split() == [str(number) for number in range(1000)]


def test_a_failed_job_is_told_with_its_last_line(cluster, tmp_path):
    runs = tmp_path / "runs"
    submit(runs, "iql,bc", 1)
    wait_for(lambda: sweeps.states(runs) == ["failed", "finished"], runs)
    assert launch.status(runs)[0].about == "exit status 1: error: no such data"


@pytest.mark.parametrize(
    "more, expected",
    [
        (dict(), {"JAX_PLATFORMS": "cpu"}),
        (dict(gpus=1), {"CUDA_VISIBLE_DEVICES": "0"}),
        (dict(gpus=0.5), {"CUDA_VISIBLE_DEVICES": "0", "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.425"}),
        (dict(ray_resources="TPU=1"), {"TPU_VISIBLE_CHIPS": "0"}),
    ],
)
def test_a_job_sees_the_devices_that_ray_gave(cluster, tmp_path, monkeypatch, more, expected):
    runs = tmp_path / "runs"
    submit(runs, "bc", 1, **more)
    wait_for(lambda: sweeps.states(runs) == ["finished"], runs)
    seen = json.loads((runs / "agent=bc" / "seen").read_text())
    # The tests themselves run with JAX_PLATFORMS=cpu, which the cluster has from them.
    assert {name: seen[name] or None for name in ENVIRONMENT} == dict.fromkeys(ENVIRONMENT) | {
        "JAX_PLATFORMS": "cpu"
    } | expected


def test_what_no_node_has_is_waited_for_and_said(cluster, tmp_path):
    runs, lines = tmp_path / "runs", []
    submit(runs, "bc", 1, gpus=3, say=lines.append)
    assert lines[0].startswith("warning: no node of the cluster has CPU=1, GPU=3 now")
    assert sweeps.states(runs) == ["waiting"]
    launch.cancel(runs)
    wait_for(lambda: sweeps.states(runs) == ["not started"], runs)


def test_a_cluster_that_cannot_be_reached_is_told_in_ray_s_words(stub, tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    began = time.monotonic()
    with pytest.raises(UserError, match="Ray's cluster at 127.0.0.1:1 cannot be reached .Failed to connect to GCS"):
        submit(tmp_path / "runs", "bc", 1)
    assert time.monotonic() - began < 40 and not list((tmp_path / "runs").iterdir())


@pytest.fixture
def short_folder():
    """A path that leaves room for those of Ray's sockets."""
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp") as folder:
        yield folder


IN_ANOTHER_PROCESS = """
import sys
from pgd_jax import launch
from pgd_jax.core.config import AgentConfig
from pgd_jax.launch import sweep
sweep.COMMANDS["stub"] = sweep.Command("stub_command", AgentConfig)
flags = ["--config.num_phases=" + sys.argv[2]]
print(launch.submit(sys.argv[1], command="stub", grid="agent=bc,iql,awac", flags=flags, backend="ray"))
"""


def test_without_an_address_a_cluster_of_this_machine_runs_the_jobs_and_ends(stub, short_folder, tmp_path, monkeypatch):
    for name, value in ray_cluster.OWN.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("RAY_TMPDIR", short_folder)
    runs = tmp_path / "runs"

    def start(num_lines):
        command = [sys.executable, "-c", IN_ANOTHER_PROCESS, str(runs), str(num_lines)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    process = start(1000)
    wait_for((runs / "agent=bc" / "lines").exists, runs)
    of_ray = psutil.Process(process.pid).children(recursive=True)
    assert launch.status(runs)[0].state == "running"
    assert launch.cancel(runs) == f"told the running command (pid {process.pid}) to stop its jobs"
    said = process.communicate(timeout=TIMEOUT_S)[0].splitlines()
    assert said[-1].startswith("Unfinished(failed=['agent=iql'], stopped=['agent=bc'")
    assert (runs / "agent=bc" / "stopped").read_text() == "1"
    said = start(1000).communicate(timeout=TIMEOUT_S)[0]
    assert said.splitlines()[-1] == "Unfinished(failed=['agent=iql'], stopped=[])"
    assert "agent=bc: finished" in said and "goes on at" in said  # forwarded, of a job and of its task
    assert len(of_ray) > 4 and not any(map(ray_cluster.is_alive, of_ray))
