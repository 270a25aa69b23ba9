"""SIGKILL at random moments from the first file that a process writes on, to all of a command or to one of its jobs."""

import os
import pathlib
import random
import re
import signal
import subprocess
import time
from collections.abc import Callable

from tests.stress import processes
from tests.stress.kinds import Kind
from tests.stress.processes import Command, Undisturbed

HOLDER = re.compile(r"pid (\d+) on ")  # what a lock file holds

Say = Callable[[str], None]


def kill_often(
    kind: Kind, folder: pathlib.Path, cache: pathlib.Path, wanted: Undisturbed, num_kills: int, chance: random.Random,
    say: Say,
) -> None:  # fmt: skip
    """Kills until there were `num_kills`: a run again and again while it is not at its end, then the next one.

    Each run's end is compared with the undisturbed one's.
    """
    killed = trial = 0
    while killed < num_kills:
        trial += 1
        command = Command(kind, folder / str(trial), folder / f"{trial}.log", cache)
        moments: list[str] = []
        while killed < num_kills and (moment := _killed_once(command, wanted.span_s, chance)):
            killed += 1
            moments.append(moment)
            say(f"{kind.name}, run {trial}, kill {killed}: {moment}")
        command.finish()
        assert command.content() == wanted.content, f"{command.path} is not the undisturbed run: {moments}"
        say(f"{kind.name}, run {trial}: bitwise the undisturbed one after {len(moments)} kills")


def _killed_once(command: Command, span_s: float, chance: random.Random) -> str:
    """Starts the command and kills it; returns when, and what was there; "" where it came to its end before."""
    delay_s, only_a_job = chance.uniform(0.0, span_s), command.kind.is_sweep and chance.random() < 0.5
    before = processes.locks(command.path)
    process = command.start()
    has_begun = processes.wait_for(process, lambda: processes.locks(command.path) != before)
    deadline = time.monotonic() + delay_s
    if not has_begun or not processes.wait_for(process, lambda: time.monotonic() > deadline):
        assert process.returncode == 0, f"{command.path}: exit status {process.returncode}: {command.said()[-5:]}"
        return ""
    if only_a_job:
        return _kill_a_job(command, process, chance) and f"{delay_s:.3f} s, one job, {processes.state(command.path)}"
    processes.kill_all(process)
    assert process.returncode in (0, -signal.SIGKILL), f"{command.path}: exit status {process.returncode}"
    is_killed = process.returncode != 0  # it may have ended just before
    return is_killed * f"{delay_s:.3f} s, {processes.state(command.path)}"


def _kill_a_job(command: Command, launcher: subprocess.Popen, chance: random.Random) -> bool:
    """Kills one job, and waits for the end of the others; whether any was running still."""
    running = [pid for lock in sorted(processes.locks(command.path)) if (pid := _holder(lock, launcher))]
    if running:
        os.kill(chance.choice(running), signal.SIGKILL)
    status = processes.ended(launcher)
    is_told = any("FAILED (signal 9" in line for line in command.said())
    assert status == int(is_told), f"{command.path}: exit status {status}: {command.said()[-5:]}"
    return is_told


def _holder(lock: pathlib.Path, launcher: subprocess.Popen) -> int:
    """The process of the launcher's group that works on a run; 0 where it has ended."""
    found = HOLDER.match(lock.read_text())
    try:
        return int(found[1]) if found and os.getpgid(int(found[1])) == launcher.pid else 0
    except ProcessLookupError:
        return 0
