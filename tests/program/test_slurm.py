"""The Slurm backend on a real Slurm of one machine (tests/slurm_cluster.py): requeue, time limit, cancel, failure."""

import functools
import subprocess
import sys

import pytest

from pgd_jax import launch
from pgd_jax.launch import slurm
from pgd_jax.runs import metrics
from tests import slurm_cluster, sweeps

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(slurm_cluster.missing()), reason=slurm_cluster.missing() or "there is one"),
]
TIMEOUT_S = 400

# Counts, a second each, and goes on where it was; stops at as many signals as hidden_dim says. "iql" fails at once.
STUB = """
import pathlib, signal, sys, time
flags = dict(argument.lstrip("-").split("=", 1) for argument in sys.argv[1:])
if flags["config.agent"] == "iql":
    sys.exit("error: no such data")
run = pathlib.Path(flags["workdir"])
run.mkdir(exist_ok=True)
told = []
for number in (signal.SIGTERM, signal.SIGUSR1):
    signal.signal(number, lambda *_: told.append(1))
lines = run / "lines"
done = len(lines.read_text().splitlines()) if lines.exists() else 0
while done < int(flags["config.num_phases"]):
    if len(told) >= int(flags.get("config.hidden_dim", 1)):
        (run / "stopped").open("a").write("1")
        sys.exit(75)
    time.sleep(1.0)
    with lines.open("a") as file:
        file.write(f"{done}\\n")
    done += 1
(run / "finished").write_text("2026-01-01T00:00:00+00:00\\n")
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slurm")
    with slurm_cluster.running(folder / "cluster") as own, pytest.MonkeyPatch.context() as patch:
        for name, value in own.items():
            patch.setenv(name, value)
        with sweeps.stub(folder, STUB):
            yield folder


wait_for = functools.partial(sweeps.wait_for, timeout_s=TIMEOUT_S)


def said(runs):
    return "".join(path.read_text() for path in sorted((runs / "slurm").glob("*.log")))


def test_a_requeue_in_the_middle_of_a_job_loses_nothing(cluster, tmp_path):
    """Four trainings, one of which Slurm takes from its node and starts again."""
    runs = tmp_path / "runs"
    config, shared = sweeps.training(tmp_path, num_phases=40, num_seeds=1)
    launch.submit(runs, grid={"first_seed": [0, 1, 2, 3]}, flags=shared, backend="slurm", num_parallel=2)
    wait_for(lambda: sweeps.is_under_way(runs / "first_seed=0"), runs)
    subprocess.run(["scontrol", "requeue", slurm_number(runs)], check=True)
    wait_for(lambda: sweeps.states(runs) == ["finished"] * 4, runs)
    sweeps.check_undisturbed(runs, config, tmp_path)
    lines = []
    launch.submit(
        runs, grid={"first_seed": [0, 1, 2, 3]}, flags=shared, backend="slurm", num_parallel=2, say=lines.append
    )
    assert lines[-1] == "4 of 4 jobs are finished, 0 are with Slurm: nothing to submit"


def slurm_number(runs):
    about = launch.status(runs)[0].about
    return about.removeprefix("Slurm job ").partition(" ")[0]


def test_a_job_on_two_hosts_is_one_program(cluster, tmp_path):
    """Two nodes, a process on each with two devices; the first one writes."""
    runs = tmp_path / "runs"
    _, shared = sweeps.training(tmp_path, num_phases=4, num_seeds=4)
    launch.submit(runs, grid={"first_seed": [0]}, flags=shared, backend="slurm", hosts=2)
    wait_for(lambda: sweeps.states(runs) == ["finished"], runs)
    said_by_other = (runs / "first_seed=0.host1.log").read_text()
    assert "Traceback" not in said_by_other
    rows = metrics.read(runs / "first_seed=0" / "metrics.jsonl")
    assert [(row["phase"], row["lane"]) for row in rows] == [(i, lane) for i in range(4) for lane in range(4)]
    assert '"num_devices": 4' in (runs / "first_seed=0" / "config.json").read_text()


@pytest.mark.parametrize("num_signals, num_seconds", [(1, 70), (3, 110)])
def test_a_time_limit_is_survived(cluster, tmp_path, num_signals, num_seconds):
    """A minute a task, of which half is left at the warning; the job needs more than that, and more than once.

    One that takes three signals to stop is not stopped by the warning (one of srun, one passed on), but at the limit.
    """
    runs, flags = tmp_path / "runs", [f"--config.num_phases={num_seconds}", f"--config.hidden_dim={num_signals}"]
    launch.submit(
        runs, command="stub", grid="agent=bc", flags=flags, backend="slurm", time="1", stop_early_s=30, follow_ups=9
    )
    wait_for(lambda: sweeps.states(runs) == ["finished"], runs)
    assert (runs / "agent=bc" / "lines").read_text().split() == [str(number) for number in range(num_seconds)]
    assert "follow-up 1 of 9 is submitted" in said(runs)


def test_follow_ups_are_bounded(cluster, tmp_path):
    runs = tmp_path / "runs"
    launch.submit(
        runs, command="stub", grid="agent=bc", flags=["--config.num_phases=200"], backend="slurm", time="1",
        stop_early_s=50, follow_ups=1,
    )  # fmt: skip
    wait_for(lambda: "submitted again 1 times already" in said(runs), runs)
    wait_for(lambda: sweeps.states(runs) == ["stopped"], runs)


def test_a_cancelled_sweep_stops_cleanly_and_is_not_followed_up(cluster, tmp_path):
    runs = tmp_path / "runs"
    more = dict(command="stub", grid="agent=bc,td3_bc,awac", flags=["--config.num_phases=30"], backend="slurm")
    launch.submit(runs, num_parallel=2, **more)
    wait_for(lambda: (runs / "agent=td3_bc" / "lines").exists(), runs)
    wait_for(lambda: sweeps.states(runs) == ["running", "running", "waiting"], runs)
    assert launch.cancel(runs).startswith("cancelled 3 jobs")
    wait_for(lambda: sweeps.states(runs) == ["stopped", "stopped", "not started"], runs)
    assert all((runs / f"agent={name}" / "stopped").read_text() for name in ("bc", "td3_bc"))
    assert "follow-up" not in said(runs)
    launch.submit(runs, **more)
    wait_for(lambda: sweeps.states(runs) == ["finished"] * 3, runs)
    assert (runs / "agent=bc" / "lines").read_text().split() == [str(number) for number in range(30)]


def test_a_failed_job_is_told_with_its_last_line(cluster, tmp_path):
    runs = tmp_path / "runs"
    launch.submit(runs, command="stub", grid="agent=iql,bc", flags=["--config.num_phases=1"], backend="slurm")
    wait_for(lambda: sweeps.states(runs) == ["failed", "finished"], runs)
    assert launch.status(runs)[0].about == "exit status 1: error: no such data"


def test_a_partition_that_does_not_exist_is_refused_in_slurm_s_words(cluster, tmp_path):
    with pytest.raises(launch.front.UserError, match="sbatch refused: .*invalid partition specified: fast"):
        launch.submit(tmp_path / "runs", grid="agent=bc", backend="slurm", partition="fast")
    assert not (tmp_path / "runs" / "jobs.jsonl").exists()


def test_the_command_line_has_the_same_actions(cluster, tmp_path):
    runs = tmp_path / "runs"
    launch.submit(runs, command="stub", grid="agent=bc", flags=["--config.num_phases=100"], backend="slurm")
    wait_for(lambda: sweeps.states(runs) == ["running"], runs)
    assert slurm.name_of(runs) in subprocess.run(["squeue", "-h", "-o", "%j"], capture_output=True, text=True).stdout
    line = [sys.executable, "-m", "pgd_jax.launch.command"]
    for action, expected in (("status", "0 of 1 jobs finished, 1 running"), ("cancel", "cancelled 1 jobs; ")):
        done = subprocess.run([*line, action, f"--workdir={runs}"], capture_output=True, text=True, check=False)
        assert done.returncode == 0 and expected in done.stdout, done.stderr
    wait_for(lambda: sweeps.states(runs) == ["stopped"], runs)
