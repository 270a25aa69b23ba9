"""Sweeps as jobs, and the local backend on a stub command."""

import os
import signal
import subprocess
import sys
import time

import pytest

from pgd_jax.core.config import AgentConfig
from pgd_jax.core.errors import UserError
from pgd_jax.launch import attempts, local, sweep

# "iql" fails. Under hidden_dim=64 a job waits for the other agent's job to have begun, so both must run at once.
STUB = """
import pathlib, sys, time
flags = dict(argument.lstrip("-").split("=", 1) for argument in sys.argv[1:])
here = pathlib.Path(flags["workdir"])
here.mkdir()
print(" ".join(sys.argv[1:]), flush=True)
if flags.get("config.hidden_dim") == "64":
    deadline = time.monotonic() + 20
    while len(list(here.parent.glob("agent=*/"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    sys.exit(time.monotonic() >= deadline)
if flags.get("config.hidden_dim") == "32":
    time.sleep(60)
if flags.get("config.agent") == "iql":
    sys.exit("3 steps\\r4 steps\\nerror: no such data\\n")
"""


@pytest.fixture
def stub(tmp_path, monkeypatch):
    (tmp_path / "stub_command.py").write_text(STUB)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setitem(sweep.COMMANDS, "stub", sweep.Command("stub_command", AgentConfig))
    return tmp_path / "runs"


def run(stub, base, num_parallel, say=None):
    lines = []
    jobs = sweep.jobs("stub", base, {"agent": ["iql", "td3_bc"]}, stub)
    return local.run_jobs(jobs, stub, num_parallel, say or lines.append), lines


def test_a_job_for_every_combination():
    grid = sweep.parse_grid("agent=td3_bc, iql; denoiser=runs/umaze;")
    jobs = sweep.jobs("train_agent", ["--config.num_seeds=8"], grid, "runs/study")
    assert [job.name for job in jobs] == ["agent=td3_bc,denoiser=runs-umaze", "agent=iql,denoiser=runs-umaze"]
    assert jobs[1].argv == (
        "-m",
        "pgd_jax.cli.train_agent",
        "--workdir=runs/study/agent=iql,denoiser=runs-umaze",
        "--config.num_seeds=8",
        "--config.agent=iql",
        "--config.denoiser=runs/umaze",
    )


def test_an_empty_grid_is_one_job():
    assert [job.name for job in sweep.jobs("train_denoiser", [], {}, "runs")] == ["train_denoiser"]


@pytest.mark.parametrize(
    "command, base, grid, message",
    [
        ("train_agnet", [], "", 'did you mean "train_agent"'),
        ("train_agent", [], "sampling.num_step=8", 'did you mean "sampling.num_steps"'),
        ("train_agent", [], "guidance_coefficient=0,1", "--config.hyper.generator.guidance_coefficient=0,10"),
        ("train_agent", [], "hidden_dim=64,wide", "hidden_dim=wide"),
        ("train_agent", [], "download=yes", "download=yes"),
        ("train_agent", [], "agent=iql; agent=td3_bc", '"agent=td3_bc"'),
        ("train_agent", [], "agent=iql,iql", '"agent=iql,iql"'),
        ("train_agent", [], "agent=iql,", '"agent=iql,"'),
        ("train_agent", [], "agent", '"agent"'),
        ("train_agent", [], "denoiser=runs/a,runs-a", '"denoiser=runs-a"'),
        ("train_agent", [], f"denoiser={'a' * 200}", "has a name of more than 200 bytes"),
        ("train_agent", ["--config.agent=iql"], "agent=td3_bc", "--config.agent=iql"),
        ("train_agent", ["--workdir=runs/x"], "", "--workdir=runs/x"),
        ("train_agent", ["--config.num_seeds=8", "--config.num_seeds=4"], "", "--config.num_seeds is given more than"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_starts(command, base, grid, message):
    with pytest.raises(UserError) as error:
        sweep.jobs(command, base, sweep.parse_grid(grid), "runs")
    assert message in str(error.value)


def test_a_failure_is_told_and_does_not_stop_the_rest(stub):
    unfinished, lines = run(stub, ["--config.num_seeds=8"], num_parallel=1)
    assert unfinished == local.Unfinished(failed=["agent=iql"], stopped=[])
    assert [line.split(" after ")[0] for line in lines] == [
        "agent=iql: started",
        "agent=iql: FAILED (exit status 1: error: no such data)",
        "agent=td3_bc: started",
        "agent=td3_bc: finished",
    ]
    log = (stub / "agent=td3_bc.log").read_text()
    assert log == f"--workdir={stub / 'agent=td3_bc'} --config.num_seeds=8 --config.agent=td3_bc\n"


def test_jobs_run_in_parallel(stub):
    assert run(stub, ["--config.hidden_dim=64"], num_parallel=2)[0] == local.Unfinished([], [])


def test_a_job_that_a_killed_launcher_left_running_is_waited_for(stub):
    """Started at once it would find its run directory in use, and fail."""
    (job,) = sweep.jobs("stub", ["--config.hidden_dim=16"], {"agent": ["td3_bc"]}, stub)
    stub.mkdir()
    command = [sys.executable, "-c", "import time; time.sleep(1.5)", *job.argv]
    with subprocess.Popen(command) as orphan:
        attempts.begin(job.state, orphan.pid)
        said = []
        assert local.run_jobs([job], stub, 1, lambda line: said.append((line, orphan.poll()))) == ([], [])
    assert [line.split(":")[1].split("(")[0].strip() for line, _ in said] == [
        "still runs", "started", "finished after 0 s"
    ]  # fmt: skip
    assert said[0][1] is None and said[1][1] == 0


def test_a_process_that_has_the_number_of_an_old_one_is_not_waited_for(stub):
    (job,) = sweep.jobs("stub", [], {"agent": ["td3_bc"]}, stub)
    stub.mkdir()
    attempts.begin(job.state, os.getpid())
    assert local.run_jobs([job], stub, 1, lambda line: None) == ([], [])


def test_sigterm_reaches_the_children_and_starts_no_more(stub):
    lines, began = [], time.monotonic()

    def say(line):
        lines.append(line)
        if line.endswith("started"):
            os.kill(os.getpid(), signal.SIGTERM)

    unfinished, _ = run(stub, ["--config.hidden_dim=32"], num_parallel=1, say=say)
    assert unfinished == local.Unfinished([], stopped=["agent=iql", "agent=td3_bc"]) and time.monotonic() - began < 30
    assert [line.split(" after ")[0] for line in lines] == ["agent=iql: started", "agent=iql: stopped by SIGTERM"]


def test_the_command_line_hands_flags_to_the_jobs_and_its_status_tells(tmp_path):
    command = [sys.executable, "-m", "pgd_jax.launch.local", "--grid=agent=iql", f"--workdir={tmp_path}", "--"]
    result = subprocess.run([*command, "--config.batch_sise=8"], capture_output=True, text=True, timeout=60)
    assert result.returncode == 1 and "0 of 1 jobs finished, 1 failed" in result.stdout
    assert 'unknown flag "--config.batch_sise"' in result.stdout
