"""Runs a sweep's jobs on this machine, several at a time: each in its own process, on its share of the devices."""

import collections
import fcntl
import os
import pathlib
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import NamedTuple

from pgd_jax.cli import entry
from pgd_jax.core import logging, signals
from pgd_jax.launch import attempts, local_devices, sweep
from pgd_jax.launch.backend import RUNNING, WAITING, Backend, Known, Say, Unfinished
from pgd_jax.launch.options import Options
from pgd_jax.runs.lock import Lock

LOCK = "launch.lock"
POLL_S = 0.1
LOG_TAIL_BYTES = 8_192


class _Running(NamedTuple):
    job: sweep.Job
    log: pathlib.Path
    process: subprocess.Popen
    began: float
    slot: local_devices.Slot
    attempt: attempts.Attempt


def run_jobs(
    jobs: Sequence[sweep.Job],
    workdir: pathlib.Path,
    num_parallel: int,
    say: Say,
    slots: Sequence[local_devices.Slot] = (),
    task: str = "",
) -> Unfinished:
    """Runs `num_parallel` jobs at a time, each in one of the `slots`. Returns the names of jobs that did not finish.

    The first signal is passed on to the running jobs as SIGTERM, and no more jobs are started. `task` is the
    scheduler's name for this process. If an earlier launcher was killed, some of its jobs may still run. Such a job is
    waited for and then started like the others: it returns at once if it finished.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    running_already = {job.name: process for job in jobs if (process := _process(job))}
    for name, process in running_already.items():
        say(f"{name}: still runs (pid {process}), its launcher was killed; it is waited for")
    left = [job for job in jobs if job.name in running_already]
    waiting = collections.deque(job for job in jobs if job.name not in running_already)
    free = list(slots or [{}] * num_parallel)
    num_spare = 0 if any(free) else len(free)  # jobs beside those that are left, whose devices are not known
    running: list[_Running] = []
    failed: list[str] = []
    stopped: list[str] = []
    with signals.graceful() as stop:
        is_passed_on = False
        while running or ((waiting or left) and not stop):
            for job in [job for job in left if not _process(job)]:
                left.remove(job)
                waiting.append(job)
            while waiting and free and not stop and (not left or len(running) + len(left) < num_spare):
                running.append(_start(waiting.popleft(), free.pop(0), task))
                if not logging.is_quiet():
                    say(f"{running[-1].job.name}: started")
            time.sleep(POLL_S)
            if stop and not is_passed_on:
                is_passed_on = True
                for item in running:
                    item.process.terminate()
            for item in [item for item in running if item.process.poll() is not None]:
                running.remove(item)
                free.append(item.slot)
                is_stopped = _is_stopped(item, stop)
                if is_stopped or item.process.returncode:
                    (stopped if is_stopped else failed).append(item.job.name)
                attempts.end(item.job.state, item.attempt, *_end(item, is_stopped))
                if item.process.returncode or not logging.is_quiet():
                    say(f"{item.job.name}: {_outcome(item, stop)} after {time.monotonic() - item.began:.0f} s")
    return Unfinished(failed, stopped + [job.name for job in (*left, *waiting)])


def _process(job: sweep.Job) -> int:
    """The process on this machine that works on the job; 0 for none.

    Its command line tells, where the system shows it: another process may have the number of the last attempt's by now.
    """
    attempt = attempts.read(job.state)
    if attempt is None or not attempts.is_alive(attempt):
        return 0
    if not pathlib.Path("/proc/self").exists():
        return attempt.process
    try:
        given = pathlib.Path(f"/proc/{attempt.process}/cmdline").read_bytes().split(b"\0")
    except OSError:  # it has just ended
        return 0
    return attempt.process if all(os.fsencode(argument) in given for argument in job.argv) else 0


def _start(job: sweep.Job, slot: local_devices.Slot, task: str) -> _Running:
    with open(job.log, "ab") as log:
        process = subprocess.Popen(
            [sys.executable, *job.argv],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **slot},
        )
    attempt = attempts.begin(job.state, process.pid, task)
    return _Running(job, job.log, process, time.monotonic(), slot, attempt)


def _end(item: _Running, is_stopped: bool) -> tuple[int, str]:
    """The exit status for the job's state, and the last line of its output if it failed."""
    status = entry.STOPPED if is_stopped else item.process.returncode
    return status, last_line(item.log) if status and not is_stopped else ""


def _is_stopped(item: _Running, stop: signals.Interrupt) -> bool:
    """Whether a signal stopped an ended job: its exit status says so, or the signal killed it, as just after start."""
    status = item.process.returncode
    killed = (*(-number for number in signals.SIGNALS), signals.KILLED_BY_SIGINT)
    return status == entry.STOPPED or (bool(stop) and status in killed)


def _outcome(item: _Running, stop: signals.Interrupt) -> str:
    """What became of an ended job."""
    status = item.process.returncode
    if _is_stopped(item, stop):
        return f"stopped{f' by {stop.signal}' if stop else ''}"
    if status == 0:
        return "finished"
    return f"FAILED ({attempts.exit_text(status)}: {last_line(item.log)})"


def last_line(path: pathlib.Path) -> str:
    """The last line of a log that says something; progress bars end theirs with a carriage return."""
    with open(path, "rb") as log:
        log.seek(max(0, path.stat().st_size - LOG_TAIL_BYTES))
        lines = re.split(r"[\r\n]+", log.read().decode(errors="replace"))
    return next((line.strip() for line in reversed(lines) if line.strip()), "the log is empty")


def submit(jobs: Sequence[sweep.Job], workdir: pathlib.Path, options: Options, say: Say) -> Unfinished:
    """Runs all jobs until they end, as many at a time as the options allow."""
    slots = local_devices.slots(jobs[0].resources.gpus, options.num_parallel)
    if options.dry_run:
        for job in jobs:
            say(shlex.join([sys.executable, *job.argv]))
        say(f"{len(jobs)} jobs, {len(slots)} at a time; nothing was started")
        return Unfinished([], [])
    workdir.mkdir(parents=True, exist_ok=True)
    lock = Lock(workdir / LOCK)
    try:
        return run_jobs(jobs, workdir, len(slots), say, slots)
    finally:
        lock.release()


def status(jobs: Sequence[sweep.Job], workdir: pathlib.Path) -> dict[str, Known]:
    """The jobs that run on this machine, and those that wait."""
    found, is_launching = {}, bool(_launcher(workdir))
    for job in jobs:
        if process := _process(job):
            found[job.name] = Known(RUNNING, f"pid {process}")
        elif is_launching and attempts.read(job.state) is None:
            found[job.name] = Known(WAITING)
    return found


def cancel(jobs: Sequence[sweep.Job], workdir: pathlib.Path) -> str:
    """Tells the command that runs the jobs to stop them. If it has ended, tells the jobs that still run."""
    if launcher := _launcher(workdir):
        os.kill(launcher, signal.SIGTERM)
        return f"told the running command (pid {launcher}) to stop its jobs"
    left = [process for job in jobs if (process := _process(job))]
    for process in left:
        os.kill(process, signal.SIGTERM)
    return f"told {len(left)} jobs to stop" if left else "no job runs on this machine"


def _launcher(workdir: pathlib.Path) -> int:
    """The id of the process that runs the sweep's jobs on this machine; 0 if there is none."""
    try:
        with open(workdir / LOCK, "rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                found = re.fullmatch(r"pid (\d+) on (.+)", file.read().decode(errors="replace").strip())
                return int(found[1]) if found and found[2] == socket.gethostname() else 0
    except OSError:  # it was never there
        pass
    return 0


BACKEND = Backend(submit, status, cancel)


def run() -> None:
    """`pgd-launch`, also under this module's name."""
    from pgd_jax.launch import command  # on use: it imports this module

    command.run()


if __name__ == "__main__":
    run()
