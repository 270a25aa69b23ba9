"""A sweep as a batch script for Slurm: plain text made from the list of jobs.

Task i of the array runs line i of the list. The script relies on these features of Slurm:

- `--signal=B:TERM@120` sends SIGTERM to the script only, 120 s before the limit. The script sends SIGUSR1 to `srun`,
  which passes it on to the job; the run then saves and ends. On SIGTERM `srun` would kill the job instead.
- Slurm may warn up to a minute too early. A warning before the job has started is ignored: at the limit itself Slurm
  sends SIGTERM to all processes and gives them KillWait to save.
- `--requeue` restarts a task that was preempted, or whose node failed. It does not cover the time limit. So the script
  itself submits a stopped job again, at most `follow_ups` times. It does so only if squeue shows the task as running or
  at its time limit, which excludes cancelled and requeued tasks. This needs squeue and sbatch on the compute nodes; if
  it fails, the log says so.
- `--open-mode=append` keeps the output of earlier attempts.
- Since 22.05 `srun` does not take `--cpus-per-task` from `sbatch`, so it is given again.
"""

import pathlib
import shlex
from collections.abc import Sequence

from pgd_jax.core.errors import UserError
from pgd_jax.launch.options import Options, Resources, seconds

FOLDER = "slurm"  # folder in the workdir for the script and its output
TASK = "pgd_jax.launch.task"
NUM_FOLLOW_UPS = "PGD_FOLLOW_UPS"  # environment variable: the number of follow-ups before this one

BODY = """\
srun {srun} {python} -m {task} {workdir} "$SLURM_ARRAY_TASK_ID" &
child=$!
trap 'kill -USR1 "$child" 2>/dev/null' TERM
wait "$child"; status=$?
while kill -0 "$child" 2>/dev/null; do wait "$child"; status=$?; done
if [ "$status" -gt 128 ]; then wait "$child" 2>/dev/null; last=$?; [ "$last" -eq 127 ] || status=$last; fi
trap '' TERM
"""
FOLLOW_UP = """\
number=${{{variable}:-0}}
state=$(squeue -h -j "$SLURM_JOB_ID" -o "%T %r" 2>/dev/null)
if [ "$status" -eq 75 ] && [[ "$state" = RUNNING* || "$state" = *TimeLimit ]]; then
  if [ "$number" -ge {most} ]; then
    echo "stopped, and submitted again {most} times already (follow_ups): the same pgd-launch goes on"
  elif sbatch --export=ALL,{variable}=$((number + 1)) --array="$SLURM_ARRAY_TASK_ID" {script}; then
    echo "stopped by the time limit: follow-up $((number + 1)) of {most} is submitted"
    exit 0
  else
    echo "stopped by the time limit, and no follow-up could be submitted: the same pgd-launch goes on"
  fi
fi
"""


def render(
    name: str, workdir: pathlib.Path, cwd: pathlib.Path, python: str, resources: Resources, options: Options
) -> str:
    """The script of a sweep. The command line of sbatch selects the tasks of the array.

    Raises UserError for a time limit that is shorter than the warning before it, and for further lines that are wrong.
    """
    lines = [f"#SBATCH {line}" for line in _directives(name, workdir, cwd, resources, options)]
    words = ["--ntasks-per-node=1", f"--ntasks={resources.hosts}", "--kill-on-bad-exit=1"]
    words += [f"--cpus-per-task={resources.cpus}"] if resources.cpus else []
    quoted = {"python": shlex.quote(python), "workdir": shlex.quote(str(workdir))}
    body = BODY.format(srun=" ".join(words), task=TASK, **quoted)
    if options.follow_ups:
        script = shlex.quote(str(workdir / FOLDER / f"{name}.sh"))
        body += FOLLOW_UP.format(variable=NUM_FOLLOW_UPS, most=options.follow_ups, script=script)
    setup = _setup(options)
    commands = [line for line in setup if not line.startswith("#SBATCH")]
    lines += [line for line in setup if line.startswith("#SBATCH")]
    return "\n".join(["#!/bin/bash", *lines, "trap : TERM", *commands]) + "\n" + body + 'exit "$status"\n'


def _directives(
    name: str, workdir: pathlib.Path, cwd: pathlib.Path, resources: Resources, options: Options
) -> list[str]:
    limit, early = seconds(options.time), options.stop_early_s
    if limit and limit <= early:
        raise UserError(f"time={options.time} is not longer than stop_early_s={early}: give more time, or lower that")
    if any(character in str(path) for path in (workdir, cwd) for character in '"\n%\\'):
        raise UserError(f'{workdir}: sbatch takes no path with ", % or \\; choose another workdir')
    found = {
        "job-name": name,
        "output": f'"{workdir}/{FOLDER}/%A_%a.log"',
        "open-mode": "append",
        "chdir": f'"{cwd}"',
        "signal": f"B:TERM@{early}",
        "nodes": str(resources.hosts),
        "ntasks-per-node": "1",
    }
    found |= {"time": options.time, "partition": options.partition, "account": options.account}
    found |= {"cpus-per-task": str(resources.cpus or ""), "mem": resources.memory}
    found |= {"gres": f"gpu:{int(resources.gpus)}" if resources.gpus else ""}
    lines = [f"--{option}={value}" for option, value in found.items() if value]
    return ["--requeue", *lines, *_further(options.sbatch_options, set(found))]


def _further(text: str, known: set[str]) -> list[str]:
    lines = [part.strip() for part in text.split(";") if part.strip()]
    for line in lines:
        if not line.startswith("-"):
            raise UserError(f'sbatch_options: "{line}" must be an option of sbatch, such as "--constraint=a100"')
        if line.lstrip("-").partition("=")[0] in {"array", "requeue", "signal", "output", "open-mode", "job-name"}:
            raise UserError(f'sbatch_options: "{line}" is what the sweep sets itself; leave it out')
    return lines


def _setup(options: Options) -> Sequence[str]:
    if not options.setup_file:
        return []
    try:
        text = pathlib.Path(options.setup_file).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"setup_file={options.setup_file} cannot be read ({error})") from None
    return text.splitlines()


def indices(numbers: Sequence[int]) -> str:
    """[0, 1, 2, 5] -> "0-2,5", as sbatch's --array takes them."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ",".join(f"{low}-{high}" if high > low else str(low) for low, high in parts)
