"""Runs a sweep's jobs on this machine, some at a time. The same command resumes it.

    pgd-launch --command=train_agent --workdir=runs/study --num_parallel=1 \\
        --grid="agent=td3_bc,iql; sampling.num_steps=8,16" -- --config.denoiser=runs/umaze --config.num_seeds=8

What follows -- goes to every job. A job has its run directory <workdir>/<job> and its output in <workdir>/<job>.log.
One that fails does not stop the others; the exit status is then 1. It is 75 where a signal stopped the sweep, or a job.
"""

import collections
import functools
import pathlib
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from absl import flags

from pgd_jax.cli import entry
from pgd_jax.core import signals
from pgd_jax.launch import sweep

POLL_S = 0.1
LOG_TAIL_BYTES = 8_192


class _Running(NamedTuple):
    job: sweep.Job
    log: pathlib.Path
    process: subprocess.Popen
    began: float


class Unfinished(NamedTuple):
    """Names of jobs."""

    failed: list[str]
    stopped: list[str]  # by a signal, or did not come to run: the same command goes on with them


def run_jobs(
    jobs: Sequence[sweep.Job], workdir: pathlib.Path, num_parallel: int, say: Callable[[str], None]
) -> Unfinished:
    """Runs `num_parallel` jobs at a time; returns the names of those that did not finish.

    The first signal is passed on to the running jobs as SIGTERM, and no more are started.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    waiting = collections.deque(jobs)
    running: list[_Running] = []
    failed: list[str] = []
    stopped: list[str] = []
    with signals.graceful() as stop:
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
                is_stopped = _is_stopped(item, stop)
                if is_stopped or item.process.returncode:
                    (stopped if is_stopped else failed).append(item.job.name)
                say(f"{item.job.name}: {_outcome(item, stop)} after {time.monotonic() - item.began:.0f} s")
    return Unfinished(failed, stopped + [job.name for job in waiting])


def _start(job: sweep.Job, workdir: pathlib.Path) -> _Running:
    path = workdir / f"{job.name}.log"
    with open(path, "ab") as log:
        command = [sys.executable, *job.argv]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
    return _Running(job, path, process, time.monotonic())


def _is_stopped(item: _Running, stop: signals.Interrupt) -> bool:
    """Whether an ended job says that a signal stopped it, or was killed by the one that it was sent."""
    status = item.process.returncode
    killed = (-signal.SIGTERM, -signal.SIGINT, signals.KILLED_BY_SIGINT)
    return status == entry.STOPPED or (bool(stop) and status in killed)


def _outcome(item: _Running, stop: signals.Interrupt) -> str:
    """What became of an ended job."""
    status = item.process.returncode
    if _is_stopped(item, stop):
        return f"stopped{f' by {stop.signal}' if stop else ''}"
    if status == 0:
        return "finished"
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
    entry.define_path("workdir", "folder for the run directories and logs")
    flags.DEFINE_string("grid", "", 'static settings, a job a combination: "agent=td3_bc,iql; hidden_dim=64,256"')
    flags.DEFINE_integer("num_parallel", 1, "jobs at a time", lower_bound=1)
    return functools.partial(_main, flags.FLAGS, base)


def _main(options: flags.FlagValues, base: Sequence[str]) -> int:
    jobs = sweep.jobs(options.command, base, sweep.parse_grid(options.grid), options.workdir)
    say = functools.partial(print, flush=True)
    failed, stopped = run_jobs(jobs, pathlib.Path(options.workdir), options.num_parallel, say)
    counts = {"finished": len(jobs) - len(failed) - len(stopped), "failed": len(failed), "stopped": len(stopped)}
    rest = ", ".join(f"{number} {name}" for name, number in list(counts.items())[1:] if number)
    again = "; the same command goes on" if stopped else ""
    say(f"{counts['finished']} of {len(jobs)} jobs finished{f', {rest}' if rest else ''}{again}")
    if failed:
        return 1
    return entry.STOPPED if stopped else 0


def run() -> None:
    entry.run(_prepare, __doc__, compiles=False)  # the jobs do


if __name__ == "__main__":
    run()
