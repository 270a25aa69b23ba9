"""Runs a sweep's jobs on this machine, some at a time. The same command resumes it.

    python -m launch.local --command=train_agent --workdir=runs/study --num_parallel=1 \\
        --grid="agent=td3_bc,iql; sampling.num_steps=8,16" -- --config.denoiser=runs/umaze --config.num_seeds=8

What follows -- goes to every job. A job has its run directory <workdir>/<job> and its output in <workdir>/<job>.log.
One that fails does not stop the others; the exit status is then 1.
"""

import collections
import functools
import pathlib
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from absl import flags

from launch import sweep
from pgd_jax import interrupt
from pgd_jax.cli import entry

POLL_S = 0.1
LOG_TAIL_BYTES = 8_192


class _Running(NamedTuple):
    job: sweep.Job
    log: pathlib.Path
    process: subprocess.Popen
    began: float


def run(jobs: Sequence[sweep.Job], workdir: pathlib.Path, num_parallel: int, say: Callable[[str], None]) -> list[str]:
    """Runs `num_parallel` jobs at a time; returns the names of those that failed, were stopped or did not come to run.

    The first SIGTERM or SIGINT is passed on to the running jobs as SIGTERM, and no more are started.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    waiting, running, unfinished = collections.deque(jobs), [], []
    with interrupt.graceful() as stop:
        is_passed_on = False
        while running or (waiting and not stop):
            while waiting and len(running) < num_parallel and not stop:
                running.append(_start(waiting.popleft(), workdir))
                say(f"{running[-1].job.name}: started")
            time.sleep(POLL_S)
            if stop and not is_passed_on:
                is_passed_on = True
                for item in running:
                    item.process.terminate()
            for item in [item for item in running if item.process.poll() is not None]:
                running.remove(item)
                problem = _problem(item, stop)
                unfinished += [item.job.name] if problem else []
                say(f"{item.job.name}: {problem or 'finished'} after {time.monotonic() - item.began:.0f} s")
    return unfinished + [job.name for job in waiting]


def _start(job: sweep.Job, workdir: pathlib.Path) -> _Running:
    path = workdir / f"{job.name}.log"
    with open(path, "ab") as log:
        command = [sys.executable, *job.argv]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
    return _Running(job, path, process, time.monotonic())


def _problem(item: _Running, stop: interrupt.Interrupt) -> str:
    """What kept an ended job from finishing, or ""."""
    status = item.process.returncode
    if status == 0:
        return ""
    if stop:
        return f"stopped by {stop.signal}"
    return f"FAILED ({f'exit status {status}' if status > 0 else f'signal {-status}'}: {last_line(item.log)})"


def last_line(path: pathlib.Path) -> str:
    """The last line of a log that says something; progress bars end theirs with a carriage return."""
    with open(path, "rb") as log:
        log.seek(max(0, path.stat().st_size - LOG_TAIL_BYTES))
        lines = re.split(r"[\r\n]+", log.read().decode(errors="replace"))
    return next((line.strip() for line in reversed(lines) if line.strip()), "the log is empty")


def _prepare() -> Callable[[], int]:
    split = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    base = sys.argv[split + 1 :]
    del sys.argv[split:]  # absl would take them for arguments of this command
    flags.DEFINE_string("command", "train_agent", f"what a job runs: {', '.join(sweep.COMMANDS)}")
    flags.DEFINE_string("workdir", None, "folder for the run directories and logs", required=True)
    flags.DEFINE_string("grid", "", 'static settings, a job a combination: "agent=td3_bc,iql; hidden_dim=64,256"')
    flags.DEFINE_integer("num_parallel", 1, "jobs at a time", lower_bound=1)
    return functools.partial(_main, flags.FLAGS, base)


def _main(options: flags.FlagValues, base: Sequence[str]) -> int:
    jobs = sweep.jobs(options.command, base, sweep.parse_grid(options.grid), options.workdir)
    say = functools.partial(print, flush=True)
    unfinished = run(jobs, pathlib.Path(options.workdir), options.num_parallel, say)
    say(f"{len(jobs) - len(unfinished)} of {len(jobs)} jobs finished")
    return 1 if unfinished else 0


if __name__ == "__main__":
    entry.run(_prepare, __doc__, compiles=False)  # the jobs do
