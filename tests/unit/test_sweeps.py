"""A sweep's frozen list, its states and the seam to backends, on the stub of a command."""

import json
import os
import subprocess
import sys
import time

import pytest

from pgd_jax import launch
from pgd_jax.core.config import AgentConfig
from pgd_jax.core.errors import UserError
from pgd_jax.launch import attempts, backend, job_list, local_devices, options, progress, sweep, task

# Leaves a run directory as train_agent does, two phases of three; ends as its agent's name says.
STUB = """
import json, os, pathlib, sys, time
flags = dict(argument.lstrip("-").split("=", 1) for argument in sys.argv[1:])
run = pathlib.Path(flags["workdir"])
run.mkdir(exist_ok=True)
(run / "config.json").write_text(json.dumps({"kind": "agent", "config": {"num_phases": 3}}))
rows = [{"lane": lane, "phase": phase, "return_mean": 10.0 * phase + lane} for phase in (0, 1) for lane in (0, 1)]
(run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\\n" for row in rows) + '{"lane": 0, "ph')
(run / "seen").write_text(os.environ.get("CUDA_VISIBLE_DEVICES", "") + " " + flags.get("distributed", ""))
if flags["config.agent"] == "iql":
    sys.exit("error: no such data")
if flags["config.agent"] == "awac":
    sys.exit(75)
if flags["config.agent"] == "bc":
    time.sleep(60)
(run / "finished").write_text("2026-01-01T00:00:00+00:00\\n")
"""


@pytest.fixture
def runs(tmp_path, monkeypatch):
    (tmp_path / "stub_command.py").write_text(STUB)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path]))
    monkeypatch.setitem(sweep.COMMANDS, "stub", sweep.Command("stub_command", AgentConfig, True))
    return tmp_path / "runs"


def submit(runs, agents="td3_bc,iql,awac", **more):
    lines = []
    unfinished = launch.submit(runs, command="stub", grid=f"agent={agents}", say=lines.append, **more)
    return unfinished, lines


def test_a_sweep_is_told_of_from_its_run_directories(runs):
    unfinished, _ = submit(runs)
    assert unfinished == backend.Unfinished(failed=["agent=iql"], stopped=["agent=awac"])
    found = {item.name: item for item in launch.status(runs)}
    assert [item.state for item in found.values()] == ["finished", "failed", "stopped"]
    assert found["agent=iql"].about == "exit status 1: error: no such data"
    assert (found["agent=iql"].phases_done, found["agent=iql"].num_phases) == (2, 3)
    assert (found["agent=iql"].score_name, found["agent=iql"].score) == ("return_mean", 10.5)
    text = progress.table(list(found.values())).splitlines()
    assert text[1].split() == ["agent=td3_bc", "finished", "2", "of", "3", "return_mean", "10.5",
                               str(runs / "agent=td3_bc.log")]  # fmt: skip
    assert text[-1] == "1 of 3 jobs finished, 1 stopped, 1 failed"


def test_the_same_command_goes_on_and_another_one_is_refused(runs):
    submit(runs)
    before = (runs / job_list.FILE).read_bytes()
    assert "goes on with the 3 jobs" in submit(runs)[1][0]
    assert (runs / job_list.FILE).read_bytes() == before
    for more, message in (
        (dict(agents="td3_bc,iql"), "it has 3 jobs, this command 2"),
        (dict(agents="td3_bc,iql,bc"), "it has job agent=awac, this command agent=bc"),
        (dict(flags=["--config.num_seeds=4"]), "the same flags in another order there, --config.num_seeds=4 in"),
    ):
        with pytest.raises(UserError, match="is another sweep") as error:
            submit(runs, **more)
        assert message in str(error.value)
    assert (runs / job_list.FILE).read_bytes() == before


def test_the_list_can_be_read_from_another_place(runs):
    jobs = sweep.jobs("stub", ["--config.num_seeds=4"], {"agent": ["bc"]}, runs, options.Resources(gpus=2.0))
    assert not job_list.freeze(jobs, runs) and job_list.load(runs) == jobs
    moved = runs.rename(runs.parent / "moved")
    found = job_list.load(moved)[0]
    assert found.argv == ("-m", "stub_command", f"--workdir={moved}/agent=bc", "--config.num_seeds=4",
                          "--config.agent=bc")  # fmt: skip
    assert found.own_settings == ["agent=bc"] and found.resources.gpus == 2.0
    # The same jobs may ask for other resources.
    other = sweep.jobs("stub", ["--config.num_seeds=4"], {"agent": ["bc"]}, moved, options.Resources(memory="8G"))
    assert job_list.freeze(other, moved) and job_list.load(moved)[0].resources.memory == "8G"


@pytest.mark.parametrize(
    "change",
    [
        {"name": "../elsewhere", "run_dir": "../elsewhere"},
        {"argv": ["stub"]},
        {"argv": ["-m", "stub", 3]},
        {"resources": {"gpus": "many"}},
        {"num_own": 9},
    ],
)
def test_a_damaged_list_is_refused(runs, change):
    job_list.freeze(sweep.jobs("stub", [], {"agent": ["bc"]}, runs), runs)
    line = json.loads((runs / job_list.FILE).read_text())
    (runs / job_list.FILE).write_text(json.dumps(line | change) + "\n")
    with pytest.raises(UserError, match="line 1 is no job of a sweep"):
        job_list.load(runs)


@pytest.mark.parametrize(
    "more, message",
    [
        (dict(backend="slrum"), 'did you mean "slurm"'),
        (dict(partition="gpu"), "partition means nothing with backend=local"),
        (dict(partitoin="gpu"), 'did you mean "partition"'),
        (dict(gpus=1.5), "gpus=1.5 must be a whole number"),
        (dict(gpus=0.5, backend="slurm"), "a share of a GPU is for backend=local"),
        (dict(memory="lots", backend="slurm"), 'memory="lots"'),
        (dict(time="soon", backend="slurm"), 'time="soon"'),
        (dict(num_parallel=-1), "num_parallel=-1"),
        (dict(backend="slurm", flags=["--config.num_sedes=4"]), 'did you mean "num_seeds"'),
        (dict(backend="slurm", hosts=2, flags=["--distributed=auto"]), "--distributed after the --"),
    ],
)
def test_what_cannot_work_is_refused_and_leaves_nothing(runs, more, message):
    with pytest.raises(UserError) as error:
        submit(runs, **more)
    assert message in str(error.value) and not runs.exists()


def test_a_cluster_s_task_runs_its_line(runs, capsys, monkeypatch):
    jobs = sweep.jobs("stub", [], {"agent": ["td3_bc", "iql", "awac"]}, runs, options.Resources(hosts=2))
    job_list.freeze(jobs, runs)
    assert [task.main([str(runs), str(i)]) for i in range(3)] == [0, 1, 75]
    assert (runs / "agent=td3_bc" / "seen").read_text() == " auto"
    monkeypatch.setenv("SLURM_PROCID", "1")
    assert task.main([str(runs), "1"]) == 1
    assert (runs / "agent=iql.host1.log").exists() and attempts.read(runs / "agent=iql.host1.state").exit_status == 1
    monkeypatch.setenv("PGD_COORDINATOR", "first:8476")
    assert task.main([str(runs), "0", str(runs / job_list.FILE)]) == 0
    assert (runs / "agent=td3_bc" / "seen").read_text() == " first:8476,2,1"
    with pytest.raises(UserError, match="there is none with 3"):
        task.main([str(runs), "3"])
    assert "agent=iql: FAILED (exit status 1: error: no such data)" in capsys.readouterr().out


def test_a_list_can_be_written_alone(runs):
    unfinished, lines = submit(runs, only_list=True)
    assert unfinished is None and lines[0].startswith(f"{runs}/jobs.jsonl: 3 jobs; ")
    assert [path.name for path in runs.iterdir()] == [job_list.FILE]
    assert task.main([str(runs), "0"]) == 0 and launch.status(runs)[0].state == "finished"


def test_devices_are_shared_out():
    assert local_devices.of_gpus(["0", "1"], 1.0) == [{"CUDA_VISIBLE_DEVICES": "0"}, {"CUDA_VISIBLE_DEVICES": "1"}]
    assert local_devices.of_gpus(["0", "1", "2"], 2.0) == [{"CUDA_VISIBLE_DEVICES": "0,1"}]
    halves = local_devices.of_gpus(["0", "1"], 0.5)
    assert [slot["CUDA_VISIBLE_DEVICES"] for slot in halves] == ["0", "1", "0", "1"]
    assert {slot["XLA_PYTHON_CLIENT_MEM_FRACTION"] for slot in halves} == {"0.425"}
    assert len(local_devices.of_gpus(["0"], 0.1)) == 10


def test_a_job_sees_its_own_device(runs, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    submit(runs, agents="td3_bc,rebrac", gpus=1)
    assert {(runs / f"agent={name}" / "seen").read_text()[0] for name in ("td3_bc", "rebrac")} == {"4", "7"}
    with pytest.raises(UserError, match="num_parallel=3 jobs with gpus=1 each do not fit: 2 do"):
        submit(runs, agents="td3_bc,rebrac", gpus=1, num_parallel=3)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(UserError, match="this machine shows none"):
        submit(runs, agents="td3_bc,rebrac", gpus=1)


IN_ANOTHER_PROCESS = """
import sys
from pgd_jax import launch
from pgd_jax.core.config import AgentConfig
from pgd_jax.launch import sweep
sweep.COMMANDS["stub"] = sweep.Command("stub_command", AgentConfig)
print(launch.submit(sys.argv[1], command="stub", grid="agent=bc,td3_bc"))
"""


def test_a_running_sweep_is_cancelled_from_elsewhere(runs):
    process = subprocess.Popen([sys.executable, "-c", IN_ANOTHER_PROCESS, str(runs)], stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 20
    while not (runs / "agent=bc" / "seen").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert [item.state for item in launch.status(runs)] == ["running", "waiting"]
    with pytest.raises(UserError, match="in use by another process"):
        submit(runs, agents="bc,td3_bc")
    assert launch.cancel(runs) == f"told the running command (pid {process.pid}) to stop its jobs"
    said = process.communicate(timeout=30)[0].splitlines()
    assert said[-1] == "Unfinished(failed=[], stopped=['agent=bc', 'agent=td3_bc'])"
    assert [item.state for item in launch.status(runs)] == ["stopped", "not started"]
    assert launch.cancel(runs) == "no job runs on this machine"
