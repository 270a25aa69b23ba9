"""The Slurm backend without a Slurm: its script word by word, and stand-ins for Slurm's programs on PATH."""

import os
import pathlib
import subprocess
import sys

import pytest

from pgd_jax import launch
from pgd_jax.core.errors import UserError
from pgd_jax.launch import options, slurm, slurm_script

GOLDEN = """\
#!/bin/bash
#SBATCH --requeue
#SBATCH --job-name=study
#SBATCH --output="/data/my runs/slurm/%A_%a.log"
#SBATCH --open-mode=append
#SBATCH --chdir="/home/me"
#SBATCH --signal=B:TERM@120
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --time=4:00:00
#SBATCH --partition=gpu
#SBATCH --account=lab
#SBATCH --cpus-per-task=8
#SBATCH --mem=32G
#SBATCH --gres=gpu:1
#SBATCH --constraint=a100
#SBATCH --qos=long
#SBATCH --mail-type=END
trap : TERM
module load cuda
srun --ntasks-per-node=1 --ntasks=2 --kill-on-bad-exit=1 --cpus-per-task=8 /venv/bin/python -m pgd_jax.launch.task '/data/my runs' "$SLURM_ARRAY_TASK_ID" &
child=$!
trap 'kill -USR1 "$child" 2>/dev/null' TERM
wait "$child"; status=$?
while kill -0 "$child" 2>/dev/null; do wait "$child"; status=$?; done
if [ "$status" -gt 128 ]; then wait "$child" 2>/dev/null; last=$?; [ "$last" -eq 127 ] || status=$last; fi
trap '' TERM
number=${PGD_FOLLOW_UPS:-0}
state=$(squeue -h -j "$SLURM_JOB_ID" -o "%T %r" 2>/dev/null)
if [ "$status" -eq 75 ] && [[ "$state" = RUNNING* || "$state" = *TimeLimit ]]; then
  if [ "$number" -ge 3 ]; then
    echo "stopped, and submitted again 3 times already (follow_ups): the same pgd-launch goes on"
  elif sbatch --export=ALL,PGD_FOLLOW_UPS=$((number + 1)) --array="$SLURM_ARRAY_TASK_ID" '/data/my runs/slurm/study.sh'; then
    echo "stopped by the time limit: follow-up $((number + 1)) of 3 is submitted"
    exit 0
  else
    echo "stopped by the time limit, and no follow-up could be submitted: the same pgd-launch goes on"
  fi
fi
exit "$status"
"""  # noqa: E501


def render(resources=options.Resources(), **changes):
    folder, home = pathlib.Path("/data/my runs"), pathlib.Path("/home/me")
    return slurm_script.render("study", folder, home, "/venv/bin/python", resources, options.Options(**changes))


def test_the_script(tmp_path):
    (tmp_path / "setup").write_text("module load cuda\n#SBATCH --mail-type=END\n")
    resources = options.Resources(gpus=1.0, cpus=8, memory="32G", hosts=2)
    more = dict(sbatch_options="--constraint=a100; --qos=long", setup_file=str(tmp_path / "setup"))
    script = render(resources, time="4:00:00", partition="gpu", account="lab", follow_ups=3, **more)
    assert script == GOLDEN
    assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0
    assert "sbatch" not in render(follow_ups=0)


@pytest.mark.parametrize(
    "more, message",
    [
        (dict(time="1"), "time=1 is not longer than stop_early_s=120"),
        (dict(sbatch_options="a100"), '"a100" must be an option of sbatch'),
        (dict(sbatch_options="--array=0-9"), '"--array=0-9" is what the sweep sets itself'),
        (dict(setup_file="gone"), "setup_file=gone cannot be read"),
    ],
)
def test_a_script_that_cannot_be_is_refused(more, message):
    with pytest.raises(UserError) as error:
        render(**more)
    assert message in str(error.value)


@pytest.mark.parametrize(
    "time, expected", [("", 0), ("90", 5400), ("1:30", 90), ("4:00:00", 14400), ("2-12", 216000), ("1-0:0:5", 86405)]
)
def test_time_limits_are_read_as_sbatch_reads_them(time, expected):
    assert options.seconds(time) == expected


def test_arrays_are_written_in_ranges():
    assert slurm_script.indices([0, 1, 2, 5, 7, 8]) == "0-2,5,7-8" and slurm_script.indices([3]) == "3"


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """A function that puts a stand-in for a program of Slurm on PATH, which has nothing else of Slurm."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.path.dirname(sys.executable)}")

    def put(name, *lines):
        (folder / name).write_text("\n".join(["#!/bin/bash", *lines]) + "\n")
        (folder / name).chmod(0o755)

    put("squeue")
    return put


def submit(tmp_path, **more):
    lines = []
    grid = {"agent": ["td3_bc", "iql", "awac"]}
    launch.submit(tmp_path / "runs", grid=grid, backend="slurm", say=lines.append, **more)
    return lines


def test_an_array_is_submitted_once(tmp_path, programs, monkeypatch, capsys):
    monkeypatch.setattr(slurm, "local_file_system", lambda folder: "tmpfs")
    programs("sbatch", f'printf "%s\\n" "$@" > {tmp_path}/given', "echo '117;main'")
    lines = submit(tmp_path, num_parallel=2)
    script = next((tmp_path / "runs" / "slurm").glob("*.sh"))
    assert (tmp_path / "given").read_text().splitlines() == ["--parsable", "--array=0-2%2", str(script)]
    assert "which other machines may not see" in lines[0]
    assert lines[1].startswith("0 of 3 jobs are finished, 0 are with Slurm; submitted 3 as job 117")
    # One is at work, one waits, one is finished: nothing is left to submit.
    programs("squeue", "printf '0|RUNNING|118|None\\n1|PENDING|117|Priority\\n'")
    (tmp_path / "runs" / "agent=awac").mkdir()
    (tmp_path / "runs" / "agent=awac" / "finished").write_text("2026-01-01T00:00:00+00:00\n")
    assert submit(tmp_path)[-1] == "1 of 3 jobs are finished, 2 are with Slurm: nothing to submit"
    found = launch.status(tmp_path / "runs")
    assert [(item.state, item.about) for item in found] == [
        ("running", "Slurm job 118"), ("waiting", "Slurm job 117 (Priority)"), ("finished", "")
    ]  # fmt: skip
    programs("scancel", f'printf "%s\\n" "$@" > {tmp_path}/given')
    assert launch.cancel(tmp_path / "runs").startswith("cancelled 2 jobs")
    assert (tmp_path / "given").read_text().startswith("--name=pgd-runs-")
    with pytest.raises(UserError, match="slurm still has 2 jobs"):
        launch.submit(tmp_path / "runs", grid="agent=td3_bc,iql,awac")
    # The sweep on a machine without Slurm.
    os.remove(tmp_path / "bin" / "squeue")
    assert [item.state for item in launch.status(tmp_path / "runs")] == ["not started", "not started", "finished"]
    assert "squeue is not on this machine" in capsys.readouterr().err


@pytest.mark.parametrize(
    "lines, message",
    [
        (["echo 'sbatch: error: invalid partition specified: gpuu' >&2", "exit 1"],
         "sbatch refused: sbatch: error: invalid partition specified: gpuu"),
        (["exit 3"], "sbatch refused: exit status 3"),
        (["echo welcome to the cluster"], 'sbatch answered "welcome to the cluster", not the number of a job'),
        ([], 'sbatch answered ""'),
    ],
)  # fmt: skip
def test_what_sbatch_says_is_told_and_nothing_is_left(tmp_path, programs, lines, message):
    programs("sbatch", *lines)
    with pytest.raises(UserError) as error:
        submit(tmp_path)
    assert message in str(error.value)
    assert not (tmp_path / "runs" / "jobs.jsonl").exists() and not (tmp_path / "runs" / "backend.json").exists()


def test_a_machine_without_slurm_says_so(tmp_path, programs):
    with pytest.raises(UserError, match="sbatch is not on this machine; run pgd-launch where"):
        submit(tmp_path)
    (tmp_path / "bin" / "squeue").write_text("#!/bin/bash\necho garbage\n")
    with pytest.raises(UserError, match='squeue answered "garbage"'):
        submit(tmp_path)


def test_a_dry_run_shows_the_script_and_needs_no_slurm(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    lines = submit(tmp_path, dry_run=True)
    assert lines[0].startswith("#!/bin/bash\n#SBATCH --requeue") and "# sbatch --array=0-2 " in lines[0]
    assert not (tmp_path / "runs").exists()


def test_shared_folders_are_told_from_a_machine_s_own(tmp_path, monkeypatch):
    mounts = f"disk / ext4 rw 0 0\nserver:/x {tmp_path} nfs4 rw 0 0\n"
    (tmp_path / "mounts").write_text(mounts)
    monkeypatch.setattr(slurm, "MOUNTS", tmp_path / "mounts")
    assert slurm.local_file_system(tmp_path / "new" / "runs") == ""
    assert slurm.local_file_system(pathlib.Path("/usr/new")) == "ext4"
